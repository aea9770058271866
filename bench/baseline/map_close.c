// map_close BYTES: mmap and munmap of a memfd. Mean of 1,000.
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "sample.h"

enum { kTimes = 1000 };
static int fd;
static size_t bytes;

static double sample(void) {
  const uint64_t start = now_ns();
  for (int i = 0; i < kTimes; ++i) {
    void* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(at != MAP_FAILED && munmap(at, bytes) == 0, "mmap");
  }
  return (double)(now_ns() - start) / kTimes;
}

int main(int argc, char** argv) {
  must(argc == 2, "arguments");
  bytes = strtoul(argv[1], NULL, 10);
  fd = memfd_create("device", MFD_CLOEXEC);
  must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0, "memfd");
  return serve(sample);
}
