// copy BYTES: memcpy out of a mapped memfd. Mean of so many copies as move 64 MiB.
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sample.h"

static char *from, *to;
static size_t bytes;

static double sample(void) {
  const size_t times = ((size_t)64 << 20) / bytes;
  const uint64_t start = now_ns();
  for (size_t i = 0; i < times; ++i) {
    memcpy(to, from, bytes);
    __asm__ volatile("" : : "r"(to) : "memory");  // each copy counts
  }
  return (double)(now_ns() - start) / (double)times;
}

int main(int argc, char** argv) {
  must(argc == 2, "arguments");
  bytes = strtoul(argv[1], NULL, 10);
  const int fd = memfd_create("device", MFD_CLOEXEC);
  must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0, "memfd");
  from = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  to = aligned_alloc(4096, bytes);  // to one that is not aligned glibc copies many times slower here
  must(from != MAP_FAILED && to != NULL, "memory");
  memset(from, 1, bytes);
  memset(to, 2, bytes);
  return serve(sample);
}
