// trap emulated|stepped REGIONS: loads from pages without permissions, in turns, each answered by a function behind a pointer.
// Mean of 5,000.
//
// emulated: the SIGSEGV handler puts the answer into the register and steps over the load.
// stepped: it puts the answer into a page of the thread's own, moves the register that addresses it there, and sets the trap
// flag;
//   the SIGTRAP handler moves the register back. Both ask who the thread is, as there may be several.
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "sample.h"

enum { kLoads = 5000 };
static char** registers;
static size_t regions;
static char* scratch;
static char* stepped_at;  // the page whose load is being run on the scratch page
static volatile uint64_t value = 7;

static uint64_t model(void* context, uint64_t offset, uint32_t width) {
  (void)context, (void)offset, (void)width;
  return value;
}
static uint64_t (*volatile ask)(void*, uint64_t, uint32_t) = model;

static long long* of(ucontext_t* context, int name) { return &context->uc_mcontext.gregs[name]; }

// mov (%rcx), %eax has two bytes.
static void emulate(int signal, siginfo_t* info, void* context) {
  (void)signal;
  *of(context, REG_RAX) = (long long)ask(NULL, (uintptr_t)info->si_addr & 4095, 4);
  *of(context, REG_RIP) += 2;
}

static volatile long owner;
static sigset_t mask;

static void redirect(int signal, siginfo_t* info, void* context) {
  (void)signal;
  ucontext_t* machine = context;
  const uint64_t offset = (uintptr_t)info->si_addr & 4095;
  const uint64_t answer = ask(NULL, offset, 8);
  memcpy(scratch, &answer, sizeof answer);
  owner = syscall(SYS_gettid);
  stepped_at = (char*)info->si_addr - offset;
  *of(context, REG_RCX) += scratch - stepped_at;
  *of(context, REG_EFL) |= 0x100;
  mask = machine->uc_sigmask;
  sigfillset(&machine->uc_sigmask);
  sigdelset(&machine->uc_sigmask, SIGTRAP);
  sigdelset(&machine->uc_sigmask, SIGSEGV);
}

static void put_back(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info;
  must(owner == syscall(SYS_gettid), "a step of another thread");
  *of(context, REG_RCX) -= scratch - stepped_at;
  *of(context, REG_EFL) &= ~0x100ll;
  ((ucontext_t*)context)->uc_sigmask = mask;
}

static int stepped;

static double sample(void) {
  uint64_t sum = 0;
  double whole = 0;
  const uint64_t start = now_ns();
  for (int i = 0; i < kLoads; ++i) {
    char* at = registers[(size_t)i % regions];
    if (stepped) {
      double half = 0;
      __asm__ volatile("movsd (%1), %0" : "=x"(half) : "c"(at));
      whole += half;
    } else {
      uint32_t word = 0;
      __asm__ volatile("movl (%1), %0" : "=a"(word) : "c"(at));
      sum += word;
    }
  }
  const uint64_t end = now_ns();
  must(stepped ? whole > 0 : sum == 7ull * kLoads, "an answer");
  return (double)(end - start) / kLoads;
}

static void install(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART};
  sigfillset(&action.sa_mask);
  sigdelset(&action.sa_mask, SIGSEGV);
  sigdelset(&action.sa_mask, SIGTRAP);
  must(sigaction(signal, &action, NULL) == 0, "sigaction");
}

int main(int argc, char** argv) {
  must(argc == 3, "arguments");
  stepped = strcmp(argv[1], "stepped") == 0;
  regions = strtoul(argv[2], NULL, 10);
  registers = calloc(regions, sizeof *registers);
  const int fd = memfd_create("device", MFD_CLOEXEC);  // its mappings do not merge into one, as anonymous ones would
  must(registers != NULL && fd >= 0 && ftruncate(fd, 4096) == 0, "memfd");
  for (size_t i = 0; i < regions; ++i) {
    registers[i] = mmap(NULL, 4096, PROT_NONE, MAP_SHARED, fd, 0);
    must(registers[i] != MAP_FAILED, "mmap");
  }
  scratch = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(scratch != MAP_FAILED, "mmap");
  install(SIGSEGV, stepped ? redirect : emulate);
  install(SIGTRAP, put_back);
  return serve(sample);
}
