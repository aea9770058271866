// What the programs about userfaultfd share: the descriptor as the library opens it, and ranges registered as it does.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sample.h"

enum { kPage = 4096 };
static int uffd;

static inline void open_uffd(void) {
  uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  must(uffd >= 0, "userfaultfd");
  struct uffdio_api api = {.api = UFFD_API,
                           .features = UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM};
  must(ioctl(uffd, UFFDIO_API, &api) == 0, "UFFDIO_API");
}

static inline char* map_watched(int fd, size_t bytes) {
  char* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  must(at != MAP_FAILED, "mmap");
  struct uffdio_register registration = {.range = {(uintptr_t)at, bytes},
                                         .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR};
  must(ioctl(uffd, UFFDIO_REGISTER, &registration) == 0, "UFFDIO_REGISTER");
  return at;
}
