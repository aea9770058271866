// This file runs inside signal handlers: the rules at the top of handler_inside.cc apply.
#include "base/map_file.h"

#include <sys/mman.h>

#include <cerrno>

namespace revocable {

bool map_file_over(uintptr_t start, size_t bytes, int prot, int flags, int fd, uint64_t offset) {
  void* const elsewhere = mmap(nullptr, bytes, prot, flags, fd, static_cast<off_t>(offset));
  if (elsewhere == MAP_FAILED) return false;
  void* const target = reinterpret_cast<void*>(start);
  if (mremap(elsewhere, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target) != MAP_FAILED) return true;
  int error = errno;
  munmap(elsewhere, bytes);
  // Before Linux 5.16 mappings of 2 MiB pages cannot be moved. The driver has just allowed this one.
  if (error == EINVAL && mmap(target, bytes, prot, flags | MAP_FIXED, fd, static_cast<off_t>(offset)) != MAP_FAILED) return true;
  errno = error;
  return false;
}

}  // namespace revocable
