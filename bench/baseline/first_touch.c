// first_touch BYTES: the first store to each page of a new mapping of a new memfd. Mean of its pages.
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "sample.h"

static size_t bytes;

static double sample(void) {
  const int fd = memfd_create("device", MFD_CLOEXEC);
  must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0, "memfd");
  volatile char* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  must(at != MAP_FAILED, "mmap");
  const uint64_t start = now_ns();
  for (size_t i = 0; i < bytes; i += 4096) *(volatile uint64_t*)(at + i) = 0;
  const uint64_t end = now_ns();
  munmap((void*)at, bytes);
  close(fd);
  return (double)(end - start) / (double)(bytes / 4096);
}

int main(int argc, char** argv) {
  must(argc == 2, "arguments");
  bytes = strtoul(argv[1], NULL, 10);
  return serve(sample);
}
