#include "base/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/linux_abi.h"

namespace revocable {
namespace {

int g_tombstone = -1;
int g_zero_fill = -1;
int g_ones_fill = -1;

int make_tombstone() {
  const int fd = memfd("revoked");
  if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

int make_zero_fill() {
  const int fd = memfd("revoked-fill");
  if (fd >= 0 && ftruncate(fd, off_t{1} << 48) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

// Filled completely before it can be mapped, so that no reader ever sees it half done.
int make_ones_fill() {
  const int fd = memfd("revoked-ones");
  if (fd < 0) return -1;
  static char block[4096];
  memset(block, 0xff, sizeof block);
  for (size_t at = 0; at < kOnesWindow; at += sizeof block) {
    if (pwrite(fd, block, sizeof block, static_cast<off_t>(at)) != static_cast<ssize_t>(sizeof block)) {
      close(fd);
      return -1;
    }
  }
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL) == 0) return fd;
  close(fd);
  return -1;
}

}  // namespace

int memfd(const char* name, unsigned extra_flags) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | extra_flags;
  const int fd = memfd_create(name, flags | abi::kMfdNoexecSeal);
  if (fd >= 0 || errno != EINVAL) return fd;
  return memfd_create(name, flags);
}

int tombstone_fd() { return g_tombstone; }
int zero_fill_fd() { return g_zero_fill; }
int ones_fill_fd() { return g_ones_fill; }

Failure revocation_files_open() {
  if (g_tombstone < 0 && (g_tombstone = make_tombstone()) < 0) return Failure::from_errno("memfd_create");
  if (g_zero_fill < 0 && (g_zero_fill = make_zero_fill()) < 0) return Failure::from_errno("memfd_create");
  if (g_ones_fill < 0 && (g_ones_fill = make_ones_fill()) < 0) return Failure::from_errno("memfd_create");
  return {};
}

}  // namespace revocable
