#include "device/register_step.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/features.h"
#include "base/linux_abi.h"
#include "fault/handler.h"

namespace revocable {

static constexpr StepHandler kStepHandler{
    .handler = revocable_mmap_trap_handler,
    .wanted = [] { return g_trap_handler.load() == kTrapHandlerWanted; },
    .in_place = [] { return g_trap_handler.load() == kTrapHandlerInPlace; },
    .installed =
        [](bool done) {
          g_trap_handler.store(done && single_step_works() ? kTrapHandlerInPlace : kTrapHandlerRefused);
          futex_wake_private(&g_trap_handler);
        },
    .abandon = abandon_step,
};

bool step_reserve() {
  g_step_handler.store(&kStepHandler, std::memory_order_release);
  if (g_trap_start.scratch.load() != nullptr) return true;
  g_trap_start.process.store(getpid());
  void* at = mmap(nullptr, kTrapScratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return false;
  char* none = nullptr;
  if (!g_trap_start.scratch.compare_exchange_strong(none, static_cast<char*>(at))) munmap(at, kTrapScratchBytes);
  return true;
}

bool single_step_works() {
#if defined(__x86_64__)
  if (!features().single_step) return false;
  sigset_t trap, before;
  sigemptyset(&trap);
  sigaddset(&trap, SIGTRAP);
  if (pthread_sigmask(SIG_UNBLOCK, &trap, &before) != 0) return false;
  g_trap_start.trapped.store(false);
  g_trap_start.trying.store(abi::tid());
  // The trap is behind the nop, and its handler takes the flag away; the rest is for where no trap comes. The stack pointer
  // leaves the red zone alone.
  asm volatile(
      "lea -128(%%rsp), %%rsp\n\t"
      "pushfq\n\t"
      "orq $0x100, (%%rsp)\n\t"
      "popfq\n\t"
      "nop\n\t"
      "pushfq\n\t"
      "andq $~0x100, (%%rsp)\n\t"
      "popfq\n\t"
      "lea 128(%%rsp), %%rsp" ::
          : "memory", "cc");
  g_trap_start.trying.store(0);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return g_trap_start.trapped.load();
#else
  return false;
#endif
}

}  // namespace revocable
