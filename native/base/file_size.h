// How large a file is. May run inside a signal handler.
#pragma once

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cstdint>

namespace revocable {

// The capacity of a block device, since fstat(2) reports no size for it; 0 for what has no size.
inline uint64_t file_size(int fd, const struct stat& status) {
  if (!S_ISBLK(status.st_mode)) return static_cast<uint64_t>(status.st_size);
  uint64_t capacity = 0;
  return ioctl(fd, BLKGETSIZE64, &capacity) == 0 ? capacity : 0;
}

}  // namespace revocable
