#include "share/owner_lock.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace revocable {
namespace {

// No file is so long, and offsets of locks need not be in it.
constexpr off_t kFirstByte = off_t{1} << 62;

struct flock byte_of(uint32_t owner, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = kFirstByte + owner;
  lock.l_len = 1;
  return lock;
}

// True if another description has the byte; false also where the kernel does not say.
bool is_held(int fd, uint32_t owner) {
  struct flock lock = byte_of(owner, F_WRLCK);
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

Failure random_owner(uint32_t* owner) {
  do {
    if (getrandom(owner, sizeof *owner, 0) != sizeof *owner && errno != EINTR) return Failure::from_errno("getrandom");
    *owner &= kMostOwner;
  } while (*owner == 0);
  return {};
}

// A lock for reading needs no right to write. Two can have it: then both see the other one, and choose anew.
Failure take_byte(int fd, uint32_t* owner) {
  for (;;) {
    Failure failure = random_owner(owner);
    if (failure) return failure;
    struct flock lock = byte_of(*owner, F_RDLCK);
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) return Failure::from_errno("fcntl");
    if (!is_held(fd, *owner)) return {};
    lock.l_type = F_UNLCK;
    fcntl(fd, F_OFD_SETLK, &lock);
  }
}

}  // namespace

Failure owner_open(int object_fd, int* fd, uint32_t* owner) {
  struct stat status;
  if (fstat(object_fd, &status) != 0) return Failure::from_errno("fstat");
  if (!S_ISREG(status.st_mode)) return {EINVAL, "open"};  // to open a device again may do something to it
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", object_fd);
  *fd = open(path, O_RDONLY | O_CLOEXEC);
  if (*fd < 0) return Failure::from_errno("open");
  const Failure failure = take_byte(*fd, owner);
  if (failure) close(*fd);
  return failure;
}

bool owner_lives(int fd, uint32_t self, uint32_t owner) { return owner == self || is_held(fd, owner); }

}  // namespace revocable
