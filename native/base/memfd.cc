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

Failure make_tombstone(int fd) { return add_seals(fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL); }

Failure make_zero_fill(int fd) { return ftruncate(fd, off_t{1} << 48) == 0 ? Failure{} : Failure::from_errno("ftruncate"); }

// Filled completely before it can be mapped, so that no reader ever sees it half done. Sealed against future writing, which is as
// good here as F_SEAL_WRITE, and cannot fail because a part of the kernel has a reference to a page.
Failure make_ones_fill(int fd) {
  static char block[4096];
  memset(block, 0xff, sizeof block);
  for (size_t at = 0; at < kOnesWindow; at += sizeof block) {
    const ssize_t written = pwrite(fd, block, sizeof block, static_cast<off_t>(at));
    if (written != static_cast<ssize_t>(sizeof block)) return {written < 0 ? errno : ENOSPC, "pwrite"};
  }
  return add_seals(fd, F_SEAL_GROW | F_SEAL_SHRINK | abi::kSealFutureWrite | F_SEAL_SEAL);
}

Failure open_once(int* fd, const char* name, Failure (*make)(int fd)) {
  if (*fd >= 0) return {};
  const int made = memfd(name);
  if (made < 0) return Failure::from_errno("memfd_create");
  const Failure failure = make(made);
  if (failure) close(made);
  else *fd = made;
  return failure;
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

Failure add_seals(int fd, int seals) {
  constexpr int kAttempts = 20;
  int attempt = 0;
  while (fcntl(fd, F_ADD_SEALS, seals) != 0) {
    if (errno != EBUSY || ++attempt == kAttempts) return Failure::from_errno("fcntl");
  }
  return {};
}

Failure revocation_files_open() {
  Failure failure = open_once(&g_tombstone, "revoked", make_tombstone);
  if (!failure) failure = open_once(&g_zero_fill, "revoked-fill", make_zero_fill);
  if (!failure) failure = open_once(&g_ones_fill, "revoked-ones", make_ones_fill);
  return failure;
}

}  // namespace revocable
