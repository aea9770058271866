#include "stepping.h"

#include <signal.h>
#include <ucontext.h>

#include <cerrno>

#include "base/features.h"
#include "check.h"

namespace revocable {

#if defined(__x86_64__)

namespace {

constexpr greg_t kTrapFlag = 0x100;

struct Step {
  static inline volatile size_t left;
  static inline const void* volatile place;
  static inline volatile bool done;
  static inline const std::function<void()>* interrupt;
};

bool is_time(greg_t pc) {
  if (Step::place != nullptr) return reinterpret_cast<const void*>(pc) == Step::place;
  if (Step::left == 0) return true;
  Step::left = Step::left - 1;
  return false;
}

void on_trap(int, siginfo_t*, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (!is_time(registers[REG_RIP])) return;
  const int saved_errno = errno;
  registers[REG_EFL] &= ~kTrapFlag;
  Step::done = true;
  (*Step::interrupt)();
  errno = saved_errno;
}

bool run(const std::function<void()>& interrupt, const std::function<void()>& body) {
  struct sigaction action {
  }, before;
  action.sa_sigaction = on_trap;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGTRAP, &action, &before);
  Step::done = false;
  Step::interrupt = &interrupt;
  asm volatile("lea -128(%%rsp), %%rsp\n pushfq\n orq $0x100, (%%rsp)\n popfq\n lea 128(%%rsp), %%rsp" ::: "memory", "cc");
  body();
  asm volatile("lea -128(%%rsp), %%rsp\n pushfq\n andq $~0x100, (%%rsp)\n popfq\n lea 128(%%rsp), %%rsp" ::: "memory", "cc");
  sigaction(SIGTRAP, &before, nullptr);
  return Step::done;
}

}  // namespace

// The thread sanitizer calls handlers later.
bool can_step() { return features().single_step && !check::kTsan; }

bool run_interrupted(size_t instructions, const std::function<void()>& interrupt, const std::function<void()>& body) {
  Step::left = instructions;
  Step::place = nullptr;
  return run(interrupt, body);
}

bool run_interrupted_at(const void* instruction, const std::function<void()>& interrupt, const std::function<void()>& body) {
  Step::place = instruction;
  return run(interrupt, body);
}

#else

bool can_step() { return false; }
bool run_interrupted(size_t, const std::function<void()>&, const std::function<void()>&) { return false; }
bool run_interrupted_at(const void*, const std::function<void()>&, const std::function<void()>&) { return false; }

#endif

}  // namespace revocable
