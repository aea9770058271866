// fork(2) from a process with many threads: the child may only make system calls until it exits, which JavaScript cannot promise
// (V8's heap is not even there, MADV_DONTFORK). So the child's whole life is this file.
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum Operation { kRead = 0, kWrite = 1, kAskKernel = 2, kUnmap = 3 };

// Forks. The child waits until `gate` can be read, performs the operation and exits:
// kRead with the byte it read; kWrite with the byte it read back after writing 0x77; kAskKernel with 0 where write(2) could read
// the byte, else with errno; kUnmap with 0 after it has put a zero page of its own there and written to it.
// An alarm ends a child that hangs. Returns its id.
int kernel_case_fork(unsigned char* at, int operation, int gate) {
  const int child = fork();
  if (child != 0) return child;
  alarm(20);
  char token;
  if (read(gate, &token, 1) < 0) _exit(255);
  volatile unsigned char* byte = at;
  int ends[2];
  switch (operation) {
    case kRead:
      _exit(*byte);
    case kWrite:
      *byte = 0x77;
      _exit(*byte);
    case kAskKernel:
      if (pipe(ends) != 0) _exit(254);
      _exit(write(ends[1], at, 1) == 1 ? 0 : errno);
    case kUnmap:
      if (mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) _exit(253);
      *byte = 0x77;
      _exit(*byte == 0x77 ? 0 : 252);
  }
  _exit(251);
}
