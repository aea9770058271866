// uffd_release: from the moment a range is replaced to the moment a thread that is blocked in a page fault there has its SIGBUS
// and is out of it: mmap of an empty memfd over it, UFFDIO_WAKE, siglongjmp.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include "uffd.h"

static sigjmp_buf way_out;
static uint64_t out_at;

static void on_sigbus(int signal) { siglongjmp(way_out, signal); }

static void* block(void* at) {
  if (sigsetjmp(way_out, 1) == 0) (void)*(volatile char*)at;
  out_at = now_ns();
  return NULL;
}

static double sample(void) {
  const int fd = memfd_create("device", MFD_CLOEXEC);
  const int empty = memfd_create("empty", MFD_CLOEXEC);
  must(fd >= 0 && empty >= 0 && ftruncate(fd, kPage) == 0, "memfd");
  char* at = map_watched(fd, kPage);
  pthread_t thread;
  must(pthread_create(&thread, NULL, block, at) == 0, "pthread_create");
  settle();
  const uint64_t start = now_ns();
  must(mmap(at, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, empty, 0) == at, "mmap");
  struct uffdio_range range = {(uintptr_t)at, kPage};
  must(ioctl(uffd, UFFDIO_WAKE, &range) == 0, "UFFDIO_WAKE");
  pthread_join(thread, NULL);
  munmap(at, kPage);
  close(fd);
  close(empty);
  return (double)(out_at - start);
}

int main(void) {
  open_uffd();
  struct sigaction action = {.sa_handler = on_sigbus};
  must(sigaction(SIGBUS, &action, NULL) == 0, "sigaction");
  return serve(sample);
}
