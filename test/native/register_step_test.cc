// Instructions that reach registers and run by themselves, one step, and what comes in between.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <functional>

#include "base/counters.h"
#include "base/features.h"
#include "base/memfd.h"
#include "core/service.h"
#include "register_fixture.h"

#if defined(__x86_64__)

using namespace revocable;

namespace {

// Registers of a byte each that count up by one at every read, as one that is cleared by reading cannot be read twice either.
struct Counting {
  std::atomic<uint8_t> reads[64] = {};
  static uint64_t read(void* context, uint64_t offset, uint32_t width) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < width; ++i) {
      value |= uint64_t{static_cast<Counting*>(context)->reads[offset + i].fetch_add(1) + 1u} << (8 * i);
    }
    return value;
  }
  static void write(void*, uint64_t, uint32_t, uint64_t) {}
  RegisterModel model() { return {read, write, this}; }
};

// Always the same instruction.
[[gnu::noinline]] void copy_bytes(void* to, const void* from, size_t count) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
}

using Handler = void (*)(int, siginfo_t*, void*);

void on_signal(int signal, Handler handler, int flags = 0) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  sigaction(signal, &action, nullptr);
}

// A foreign handler, there before the library's; it makes the access possible.
struct Stranger {
  static inline std::function<void()> repair;
  static inline std::atomic<int> calls{0}, number{0}, code{0};
  static inline std::atomic<void*> address{nullptr};
  static void handle(int signal, siginfo_t* info, void*) {
    ++calls;
    number = info->si_signo == signal ? signal : -1;
    code = info->si_code;
    address = info->si_addr;
    repair();
  }
  static void install(int signal) { on_signal(signal, handle); }
};

void check_stranger_saw(int signal, int code, const void* address) {
  CHECK_EQ(Stranger::calls.load(), 1);
  CHECK_EQ(Stranger::number.load(), signal);
  CHECK_EQ(Stranger::code.load(), code);
  CHECK(Stranger::address == address);
}

TEST("registers: the other operand's fault reaches a foreign handler as the kernel reported it") {
  Stranger::install(SIGSEGV);
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind);
  char* page = own_range(kPageSize);
  mprotect(page, kPageSize, PROT_READ);
  Stranger::repair = [&] { mprotect(page, kPageSize, PROT_READ | PROT_WRITE); };
  copy_bytes(page + 5, device.at(), 3);
  check_stranger_saw(SIGSEGV, SEGV_ACCERR, page + 5);
  CHECK(page[5] != 0);
}

TEST("registers: the other operand's lost page reaches a foreign handler as the kernel reported it") {
  Stranger::install(SIGBUS);
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind);
  const int fd = memfd("a stranger's");
  void* at = mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REQUIRE(at != MAP_FAILED);
  char* page = static_cast<char*>(at);
  Stranger::repair = [&] { CHECK_EQ(ftruncate(fd, static_cast<off_t>(kPageSize)), 0); };
  copy_bytes(page + 7, device.at(), 3);
  check_stranger_saw(SIGBUS, BUS_ADRERR, page + 7);
  CHECK(page[7] != 0);
}

TEST("registers: an instruction that begins again after a foreign fault of its other operand does not read twice") {
  Stranger::install(SIGSEGV);
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind);
  char* pages = own_range(4 * kPageSize);
  mprotect(pages, 4 * kPageSize, PROT_READ);
  Stranger::repair = [&] {
    const auto fault = reinterpret_cast<uintptr_t>(Stranger::address.load());
    mprotect(reinterpret_cast<void*>(round_down(fault, kPageSize)), kPageSize, PROT_READ | PROT_WRITE);
  };
  for (size_t page = 1; page < 4; ++page) {
    char* to = pages + page * kPageSize - 2;
    copy_bytes(to, device.at(), 4);
    for (int i = 0; i < 4; ++i) {
      CHECK_EQ(static_cast<size_t>(to[i]), page);
      CHECK_EQ(static_cast<size_t>(counting.reads[i]), page);
    }
  }
  CHECK_EQ(Stranger::calls.load(), 4);
}

// Copies into memory that cannot be written, whose fault is jumped out of.
struct JumpedOut {
  static inline thread_local sigjmp_buf out;
  char* page = own_range(kPageSize);
  JumpedOut() {
    Stranger::install(SIGSEGV);
    Stranger::repair = [] { siglongjmp(out, 1); };
  }
  // What has been copied; always at the same place on the stack, as far as it is called from one function.
  [[gnu::noinline]] int copy(const char* from, bool writable) const {
    mprotect(page, kPageSize, writable ? PROT_READ | PROT_WRITE : PROT_READ);
    if (sigsetjmp(out, 1) == 0) copy_bytes(page, from, 1);
    return static_cast<uint8_t>(*page);
  }
};

TEST("registers: what an abandoned step has read is kept for the same instruction, once, and for nothing else") {
  const JumpedOut step;
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind, {.fill = Fill::ones});
  constexpr bool kJumps = false, kCopies = true;
  step.copy(device.at(0), kJumps);
  CHECK_EQ(step.copy(device.at(0), kCopies), 1);  // that
  CHECK_EQ(static_cast<int>(counting.reads[0]), 1);
  CHECK_EQ(step.copy(device.at(0), kCopies), 2);
  step.copy(device.at(1), kJumps);
  CHECK_EQ(step.copy(device.at(2), kCopies), 1);  // another register in between
  CHECK_EQ(step.copy(device.at(1), kCopies), 2);
  step.copy(device.at(3), kJumps);
  device.view.load(32);  // another access in between
  CHECK_EQ(step.copy(device.at(3), kCopies), 2);
  step.copy(device.at(4), kJumps);
  device_shut(*device.device);
  CHECK_EQ(step.copy(device.at(4), kCopies), 0xff);
  CHECK_EQ(static_cast<int>(counting.reads[4]), 1);
}

TEST("registers: abandoned steps of many threads leave others theirs") {
  constexpr uint32_t kThreads = 100;
  const JumpedOut step;
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind);
  std::atomic<uint32_t> abandoned{0};
  std::atomic<bool> stop{false};
  Threads threads;
  const Finally ends([&] { stop = true; });
  mprotect(step.page, kPageSize, PROT_READ);
  for (uint32_t i = 0; i < kThreads; ++i) {
    threads.add([&] {
      if (sigsetjmp(JumpedOut::out, 1) == 0) copy_bytes(step.page, device.at(), 1);
      ++abandoned;
      while (!stop) usleep(1000);
    });
  }
  REQUIRE(EVENTUALLY(abandoned == kThreads));
  CHECK_EQ(step.copy(device.at(), true), static_cast<int>(kThreads) + 1);
}

// Registers that all hold the same.
struct Constant {
  uint64_t value;
  static uint64_t read(void* context, uint64_t, uint32_t) { return static_cast<Constant*>(context)->value; }
  static void write(void*, uint64_t, uint32_t, uint64_t) {}
  RegisterModel model() { return {read, write, this}; }
};

// high:low divided by a register; the address is where the processor has it at the end.
struct Division {
  uint32_t low, high;
  const char* by;
  void run() { asm volatile("divl (%[by])" : "+a"(low), "+d"(high), [by] "+D"(by)::"memory", "cc"); }
};

TEST("registers: a handler within a step may make a step of its own") {
  if (check::kTsan) check::skip("the thread sanitizer blocks all signals in handlers, faults too");
  static const RegisterDevice* shared;
  static volatile uint8_t seen = 0;
  Constant two{2};
  const RegisterModel behind = two.model();
  const RegisterDevice device(&behind);
  shared = &device;
  // Makes the quotient small enough, and has the division tried again.
  on_signal(SIGFPE, [](int, siginfo_t*, void* context) {
    uint8_t byte = 0;
    copy_bytes(&byte, shared->at(8), 1);
    seen = byte;
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RDX] = 0;
  });
  for (int i = 0; i < 200; ++i) {
    seen = 0;
    Division division{9, 5, device.at()};
    division.run();
    CHECK_EQ(static_cast<int>(seen), 2);
    CHECK_EQ(division.low, 4u);
    CHECK_EQ(division.high, 1u);
    CHECK(division.by == device.at());
  }
}

TEST("registers: a handler that moves a step on to other code leaves that its registers and signals") {
  Constant none{0};
  const RegisterModel behind = none.model();
  const RegisterDevice device(&behind);
  static constexpr int kDivision = 2;  // bytes
  on_signal(SIGFPE,
            [](int, siginfo_t*, void* context) { static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += kDivision; });
  const char* by = device.at();
  uint32_t low = 9, high = 0;
  asm volatile("divl (%[by])\n nop\n" : "+a"(low), "+d"(high), [by] "+D"(by)::"memory", "cc");
  CHECK(by == device.at());
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  CHECK(sigismember(&blocked, SIGUSR1) == 0);
}

// A thread that steps itself: how often it has been trapped, and what its rdi is in the end.
struct OwnSteps {
  static inline volatile int traps = 0;
  static uint64_t run(uint64_t rdi) {
    asm volatile(
        "lea -128(%%rsp), %%rsp\n pushfq\n orq $0x100, (%%rsp)\n popfq\n"
        "nop\n nop\n nop\n"
        "pushfq\n andq $~0x100, (%%rsp)\n popfq\n lea 128(%%rsp), %%rsp"
        : "+D"(rdi)::"memory", "cc");
    return rdi;
  }
};

TEST("registers: who steps himself has his traps, and his registers, after a handler has jumped out of a step") {
  if (!features().single_step) check::skip("no single steps");
  static sigjmp_buf out;
  on_signal(SIGTRAP, [](int, siginfo_t*, void*) { OwnSteps::traps = OwnSteps::traps + 1; });
  Constant none{0};
  const RegisterModel behind = none.model();
  const RegisterDevice device(&behind);
  on_signal(SIGFPE, [](int, siginfo_t*, void*) { siglongjmp(out, 1); });
  if (sigsetjmp(out, 1) == 0) Division{9, 0, device.at()}.run();
  constexpr uint64_t kOwn = 0x1234'5678'9abc'def0;
  CHECK_EQ(OwnSteps::run(kOwn), kOwn);
  CHECK_EQ(static_cast<int>(OwnSteps::traps), 6);
  uint8_t byte = 1;
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(byte, 0);
}

TEST("registers: a handler that jumps out of steps and leaves their signals blocked uses up none") {
  if (check::kTsan) check::skip("the thread sanitizer blocks all signals in handlers, faults too");
  static jmp_buf out;
  Constant none{0};
  const RegisterModel behind = none.model();
  const RegisterDevice device(&behind);
  on_signal(
      SIGFPE, [](int, siginfo_t*, void*) { longjmp(out, 1); }, SA_NODEFER);
  static int jumps = 0;
  for (static int i = 0; i < 200; ++i) {
    if (sigsetjmp(out, 0) == 0) Division{9, 0, device.at()}.run();
    else ++jumps;
  }
  CHECK_EQ(jumps, 200);
  uint8_t byte = 1;
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(byte, 0);
}

TEST("registers: what no instruction raises waits for the end of a step") {
  static volatile int calls = 0;
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind);
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : {SIGABRT, SIGSYS, SIGUSR1}) {
    on_signal(signal, [](int, siginfo_t*, void*) { calls = calls + 1; });
    sigaddset(&blocked, signal);
  }
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  for (const int signal : {SIGABRT, SIGSYS, SIGUSR1}) raise(signal);
  uint8_t byte = 0;
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(static_cast<int>(calls), 0);
  pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
  CHECK_EQ(static_cast<int>(calls), 3);
}

TEST("registers: where the trap's handler does not come in time one access is refused, and later ones are made") {
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind, {.fill = Fill::ones});
  service_set_watchdog([] {});  // as where a debugger holds the service thread
  uint8_t byte = 0;
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(byte, 0xff);
  CHECK_EQ(g_counters.accesses_refused.load(), 1u);
  service_set_watchdog(handlers_check);
  service_wake();
  REQUIRE(EVENTUALLY(g_trap_handler.load() != kTrapHandlerWanted && settled(device.view)));
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(byte, 1);
  CHECK_EQ(g_counters.accesses_refused.load(), 1u);
}

TEST("registers: a fork's child that would need the trap's handler does without") {
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind, {.fill = Fill::ones});
  CHECK_EXITED(check::run_in_child([&] {
    uint8_t byte = 0;
    copy_bytes(&byte, device.at(), 1);
    CHECK_EQ(byte, 0xff);
    CHECK_EQ(g_trap_handler.load(), static_cast<uint32_t>(kTrapHandlerRefused));
  }));
  uint8_t byte = 0;
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(byte, 1);
}

}  // namespace

#endif
