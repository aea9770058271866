// uffd PAGES: first touches of a memfd whose pages a thread supplies by userfaultfd, as userfaultfd(2) shows it: poll, read, copy
// of a page that is always the same. Mean of its pages.
#define _GNU_SOURCE
#include <pthread.h>

#include "uffd.h"

static size_t pages;
static char content[kPage] __attribute__((aligned(kPage)));

static void* supply(void* unused) {
  struct uffd_msg message;
  for (;;) {
    struct pollfd ready = {.fd = uffd, .events = POLLIN};
    poll(&ready, 1, -1);
    if (read(uffd, &message, sizeof message) != sizeof message) continue;
    struct uffdio_copy copy = {.dst = message.arg.pagefault.address & -(uint64_t)kPage, .src = (uintptr_t)content, .len = kPage};
    must(ioctl(uffd, UFFDIO_COPY, &copy) == 0, "UFFDIO_COPY");
  }
  return unused;
}

static double sample(void) {
  const int fd = memfd_create("device", MFD_CLOEXEC);
  must(fd >= 0 && ftruncate(fd, (off_t)(pages * kPage)) == 0, "memfd");
  char* at = map_watched(fd, pages * kPage);
  settle();
  const uint64_t start = now_ns();
  for (size_t i = 0; i < pages; ++i) (void)*(volatile uint64_t*)(at + i * kPage);
  const uint64_t end = now_ns();
  must(at[0] == 7 && at[(pages - 1) * kPage] == 7, "content");
  munmap(at, pages * kPage);
  close(fd);
  return (double)(end - start) / (double)pages;
}

int main(int argc, char** argv) {
  must(argc == 2, "arguments");
  pages = strtoul(argv[1], NULL, 10);
  memset(content, 7, sizeof content);
  open_uffd();
  pthread_t thread;
  must(pthread_create(&thread, NULL, supply, NULL) == 0, "pthread_create");
  return serve(sample);
}
