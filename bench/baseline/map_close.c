// map_close BYTES OTHERS: mmap and munmap of a memfd, while so many pages of another one are mapped too. Mean of 1,000.
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

static int memory(size_t size) {
  const int made = memfd_create("device", MFD_CLOEXEC);
  must(made >= 0 && ftruncate(made, (off_t)size) == 0, "memfd");
  return made;
}

int main(int argc, char** argv) {
  must(argc == 3, "arguments");
  bytes = strtoul(argv[1], NULL, 10);
  fd = memory(bytes);
  const int others = memory(4096);
  for (size_t i = strtoul(argv[2], NULL, 10); i > 0; --i) {
    must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, others, 0) != MAP_FAILED, "mmap");
  }
  return serve(sample);
}
