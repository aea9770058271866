// fault DIRECTORY: a load from a page past the end of a file there, from the load to the code behind siglongjmp. Mean of 200
// first touches.
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sample.h"

enum { kFaults = 200 };
static sigjmp_buf way_out;
static const char* directory;

static void on_sigbus(int signal) { siglongjmp(way_out, signal); }

static double sample(void) {
  const int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  must(fd >= 0 && ftruncate(fd, 4096) == 0, "open");
  char* at[kFaults];
  for (int i = 0; i < kFaults; ++i) {
    at[i] = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    must(at[i] != MAP_FAILED, "mmap");
    (void)*(volatile char*)at[i];  // read once while it was there, as the subject does
  }
  must(ftruncate(fd, 0) == 0, "ftruncate");
  volatile int caught = 0;
  settle();
  const uint64_t start = now_ns();
  for (volatile int i = 0; i < kFaults; ++i) {
    if (sigsetjmp(way_out, 1) == 0) (void)*(volatile char*)at[i];
    else ++caught;
  }
  const uint64_t end = now_ns();
  must(caught == kFaults, "fault");
  for (int i = 0; i < kFaults; ++i) munmap(at[i], 4096);
  close(fd);
  return (double)(end - start) / kFaults;
}

int main(int argc, char** argv) {
  must(argc == 2, "arguments");
  directory = argv[1];
  struct sigaction action = {.sa_handler = on_sigbus};
  must(sigaction(SIGBUS, &action, NULL) == 0, "sigaction");
  return serve(sample);
}
