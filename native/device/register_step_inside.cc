// Runs in the fault handler, and in that for SIGTRAP: see the rules at the top of handler_inside.cc.
#include "device/register_step.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/counters.h"
#include "base/linux_abi.h"
#include "base/spin.h"
#include "core/service.h"
#include "device/register_access.h"
#include "fault/signal_chain.h"

namespace revocable {

FutexWord g_trap_handler{kTrapHandlerUnasked};
TrapStart g_trap_start;

namespace {

constexpr unsigned kWidest = 64;  // bytes of one access

struct Moved {
  MemoryAccess access;
  Target target;
  bool given = false;   // the model has answered what the instruction reads
  uint64_t change = 0;  // of the mover
  char* scratch = nullptr;
};

constexpr unsigned kMoved = 2;

// A thread's step. Found by the thread's id, as there is no thread-local storage here; a thread has several where a handler
// within one makes another.
struct Step {
  std::atomic<int> tid{0};  // negative: that thread has abandoned it, and a thread that needs the record may take it
  uintptr_t pc = 0, stack = 0;
  sigset_t mask;
  bool trap_flag = false;  // a debugger was stepping this thread
  unsigned count = 0;
  Moved moved[kMoved];
};

// An access may begin anywhere in its page and end in the next.
constexpr size_t kScratchPage = 4096, kScratchBytes = 2 * kScratchPage;
constexpr size_t kSteps = kTrapScratchBytes / (kMoved * kScratchBytes);
std::array<Step, kSteps> g_steps;
std::atomic<uint32_t> g_abandoned{0};  // steps; while there are none, no thread looks for one

char* scratch_of(const Step* step, unsigned index) {
  const size_t number = static_cast<size_t>(step - g_steps.data()) * kMoved + index;
  return g_trap_start.scratch.load(std::memory_order_relaxed) + number * kScratchBytes;
}

// The step is not to be interrupted by a handler that would see the registers moved. What the instruction itself may raise, and
// the trap behind it, stay open: blocked, they would kill.
sigset_t step_mask() {
  sigset_t mask;
  sigfillset(&mask);
  for (const int signal : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGKILL, SIGSTOP}) sigdelset(&mask, signal);
  return mask;
}

uintptr_t stack_of(const MachineContext& machine) {
  constexpr unsigned kStackPointer = 4;
  return machine.general(kStackPointer);
}

// Whether the interrupted code is in a step: no other has this mask. Its program counter says less, as the handler of a SIGFPE
// may have moved that, and a call through a register goes anywhere.
bool is_stepping(const MachineContext& machine) {
  const sigset_t mask = machine.mask(), stepping = step_mask();
  return machine.trap_flag() && memcmp(&mask, &stepping, MachineContext::kMaskBytes) == 0;
}

// Whether the interrupted code is a handler within that step of its thread, and has not jumped out of it.
bool is_within(const Step& step, const MachineContext& machine) {
  const sigset_t mask = machine.mask(), stepping = step_mask();
  sigset_t both;
  sigandset(&both, &mask, &stepping);
  return memcmp(&both, &stepping, MachineContext::kMaskBytes) == 0 && stack_of(machine) < step.stack;
}

// Whose beginning is nearest on the stack: of those further out and those that were left behind, none is as near.
Step* find_step(int tid, const MachineContext& machine) {
  const auto distance = [&](const Step& step) {
    const uintptr_t now = stack_of(machine);
    return step.stack < now ? now - step.stack : step.stack - now;
  };
  Step* nearest = nullptr;
  for (Step& step : g_steps) {
    if (step.tid.load(std::memory_order_relaxed) != tid) continue;
    if (nearest == nullptr || distance(step) < distance(*nearest)) nearest = &step;
  }
  return nearest;
}

// The caller's from then on. `of`: a thread; 0: any.
Step* take_abandoned(int of, int tid) {
  for (Step& step : g_steps) {
    int left = step.tid.load(std::memory_order_relaxed);
    if (left >= 0 || (of != 0 && left != -of)) continue;
    if (!step.tid.compare_exchange_strong(left, tid, std::memory_order_acquire)) continue;
    g_abandoned.fetch_sub(1, std::memory_order_relaxed);
    return &step;
  }
  return nullptr;
}

// One that this thread has left behind (a handler jumped out of its step) is used again.
Step* take_step(int tid, const MachineContext& machine) {
  for (Step& step : g_steps) {
    if (step.tid.load(std::memory_order_relaxed) == tid && !is_within(step, machine)) return &step;
  }
  for (Step& step : g_steps) {
    int free = 0;
    if (step.tid.compare_exchange_strong(free, tid, std::memory_order_acquire)) return &step;
  }
  return take_abandoned(0, tid);
}

// Threads whose handler of another signal jumped out of a step, and that have ended since.
void forget_steps_of_the_dead() {
  const int process = getpid();
  for (Step& step : g_steps) {
    int tid = step.tid.load(std::memory_order_relaxed);
    if (tid > 0 && syscall(SYS_tgkill, process, tid, 0) != 0 && errno == ESRCH) step.tid.compare_exchange_strong(tid, 0);
  }
}

// As the processor's registers are again what the program knows.
void put_registers_back(const Step& step, MachineContext& machine, bool stepped) {
  for (unsigned i = 0; i < step.count; ++i) {
    const MemoryAccess& access = step.moved[i].access;
    if (stepped && access.mover_overwritten) continue;
    machine.set_general(access.mover, machine.general(access.mover) - step.moved[i].change);
  }
  machine.set_trap_flag(step.trap_flag);
  machine.set_mask(step.mask);
}

// Which of the instruction's accesses are to registers. False when one of them cannot be moved.
bool plan_moves(const Instruction& instruction, Moved* moved, unsigned* count) {
  *count = 0;
  for (unsigned i = 0; i < instruction.accesses; ++i) {
    const MemoryAccess& access = instruction.access[i];
    Mapping* mapping = trapped_mapping(access.address);
    if (mapping == nullptr) mapping = trapped_mapping(access.address + access.width - 1);
    if (mapping == nullptr) continue;
    if (access.mover == kNoRegister || access.width > kWidest) return false;
    if (*count == 1 && moved[0].access.mover == access.mover) return false;
    moved[(*count)++] = {access, target_of(mapping, access)};
  }
  return *count != 0;
}

AccessResult read_for(const Moved& moved, char* bytes) {
  const unsigned width = moved.access.width;
  AccessResult result = AccessResult::gone;
  if (moved.target.verdict == AccessVerdict::deliver) {
    result = AccessResult::answered;
    if (moved.access.reads) result = transfer(moved.target, moved.access, false, bytes);
  }
  if (result != AccessResult::answered) memset(bytes, moved.target.fill == Fill::ones ? 0xff : 0, width);
  return result;
}

// The step that this thread has abandoned, if that was the last it did with registers.
Step* own_abandoned() {
  if (g_abandoned.load(std::memory_order_relaxed) == 0) return nullptr;
  const int tid = abi::tid();
  return take_abandoned(tid, tid);
}

}  // namespace

void forget_abandoned() {
  if (Step* step = own_abandoned()) step->tid.store(0, std::memory_order_release);
}

namespace {

bool is_same_access(const Moved& a, const Moved& b) {
  return a.access.address == b.access.address && a.access.width == b.access.width && a.access.reads == b.access.reads &&
         a.access.writes == b.access.writes && a.access.enabled == b.access.enabled && a.target.slot == b.target.slot &&
         a.target.generation == b.target.generation && a.target.incarnation == b.target.incarnation;
}

// An instruction that begins again after a foreign fault of the other operand: what the model has given is not asked
// for twice.
void take_up_abandoned(const MachineContext& machine, Moved* moved, unsigned count, char (*bytes)[kWidest]) {
  Step* step = own_abandoned();
  if (step == nullptr) return;
  const bool again = step->pc == machine.pc() && step->stack == stack_of(machine);
  for (unsigned i = 0; again && i < count; ++i) {
    for (unsigned before = 0; before < step->count; ++before) {
      const Moved& given = step->moved[before];
      if (!given.given || !is_same_access(given, moved[i])) continue;
      moved[i].given = moved[i].target.verdict == AccessVerdict::deliver && is_behind(moved[i].target);
      memcpy(bytes[i], given.scratch, given.access.width);
    }
  }
  step->tid.store(0, std::memory_order_release);
}

void begin_step(Step* step, const Moved* moved, unsigned count, const char (*bytes)[kWidest], MachineContext& machine) {
  step->count = count;
  step->pc = machine.pc();
  step->stack = stack_of(machine);
  step->mask = machine.mask();
  step->trap_flag = machine.trap_flag();
  for (unsigned i = 0; i < count; ++i) {
    Moved& at = step->moved[i] = moved[i];
    at.scratch = scratch_of(step, i) + at.access.address % kScratchPage;
    memcpy(at.scratch, bytes[i], at.access.width);
    // A multiple of the page size, and so of every scale.
    const intptr_t distance = static_cast<intptr_t>(reinterpret_cast<uintptr_t>(at.scratch) - at.access.address);
    at.change = static_cast<uint64_t>(distance >> at.access.mover_shift);
    machine.set_general(at.access.mover, machine.general(at.access.mover) + at.change);
  }
  machine.set_trap_flag(true);
  machine.set_mask(step_mask());
}

// Most processes never need the handler for SIGTRAP, and so it is put in place for the first step: by the service thread, as that
// is no work for a signal handler. Where it does not come for long (the process was stopped, or a debugger holds that thread)
// this access is refused, and the next one waits again.
bool trap_handler_ready() {
  constexpr uint64_t kLongestNs = 5'000'000'000;
  uint32_t unasked = kTrapHandlerUnasked, wanted = kTrapHandlerWanted;
  if (g_trap_handler.compare_exchange_strong(unasked, kTrapHandlerWanted)) service_wake();
  // The child of a fork has no service thread.
  if (getpid() != g_trap_start.process.load(std::memory_order_relaxed))
    g_trap_handler.compare_exchange_strong(wanted, kTrapHandlerRefused);
  for (const uint64_t begun = spin_clock_ns(); spin_clock_ns() - begun < kLongestNs;) {
    if (g_trap_handler.load(std::memory_order_acquire) != kTrapHandlerWanted) break;
    const timespec slice{0, 50'000'000};
    futex_wait_private(&g_trap_handler, kTrapHandlerWanted, &slice);
  }
  return g_trap_handler.load(std::memory_order_acquire) == kTrapHandlerInPlace;
}

}  // namespace

Delivery redirect(const Instruction& instruction, MachineContext& machine, ReaderScope& scope) {
  Moved moved[kMoved];
  unsigned count = 0;
  if (!plan_moves(instruction, moved, &count)) return Delivery::not_understood;
  const bool ready = g_trap_handler.load(std::memory_order_acquire) == kTrapHandlerInPlace || trap_handler_ready();
  if (!ready) return Delivery::not_understood;
  scope.leave();
  char bytes[kMoved][kWidest] = {};
  take_up_abandoned(machine, moved, count, bytes);
  for (unsigned i = 0; i < count; ++i) {
    const AccessResult result = moved[i].given ? AccessResult::answered : read_for(moved[i], bytes[i]);
    moved[i].given = result == AccessResult::answered;
    if (moved[i].given) continue;
    if (moved[i].target.fill == Fill::deadly) return Delivery::deadly;
    report_verdict(moved[i].target, moved[i].access);
    report_result(moved[i].target, moved[i].access, result);
    moved[i].access.writes = false;
  }
  Step* step = take_step(abi::tid(), machine);
  for (unsigned tries = 1; step == nullptr; ++tries) {  // each of the others is one instruction long
    syscall(SYS_sched_yield);
    if (tries % 1024 == 0) forget_steps_of_the_dead();
    step = take_step(abi::tid(), machine);
  }
  begin_step(step, moved, count, bytes, machine);
  return Delivery::complete;
}

namespace {

// Gives the model what the step has written.
void deliver_written(const Moved& moved, const char* bytes) {
  Target target;
  {
    const ReaderScope scope;
    Mapping* mapping = trapped_mapping(moved.access.address);
    if (mapping == nullptr || mapping->generation != moved.target.generation || mapping->slot != moved.target.slot) return;
    target = target_of(mapping, moved.access);
  }
  if (target.verdict != AccessVerdict::deliver) return note_gone(target);
  char copy[kWidest];
  memcpy(copy, bytes, moved.access.width);
  report_result(target, moved.access, transfer(target, moved.access, true, copy));
}

void end_step(Step* step, MachineContext& machine) {
  put_registers_back(*step, machine, true);
  const unsigned count = step->count;
  Moved moved[kMoved];
  char bytes[kMoved][kWidest];
  for (unsigned i = 0; i < count; ++i) {
    moved[i] = step->moved[i];
    memcpy(bytes[i], moved[i].scratch, moved[i].access.width);
  }
  step->tid.store(0, std::memory_order_release);
  for (unsigned i = 0; i < count; ++i) {
    if (moved[i].access.writes) deliver_written(moved[i], bytes[i]);
  }
}

}  // namespace

void abandon_step(MachineContext& machine) {
  if (!is_stepping(machine)) return;
  const int tid = abi::tid();
  Step* step = find_step(tid, machine);
  if (step == nullptr || step->pc != machine.pc()) return;
  put_registers_back(*step, machine, false);
  g_abandoned.fetch_add(1, std::memory_order_relaxed);
  step->tid.store(-tid, std::memory_order_release);
}

extern "C" void revocable_mmap_trap_handler(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  MachineContext machine(context);
  Step* step = info->si_code == TRAP_TRACE && is_stepping(machine) ? find_step(abi::tid(), machine) : nullptr;
  if (step != nullptr) {
    end_step(step, machine);
  } else if (info->si_code == TRAP_TRACE && g_trap_start.trying.load() == abi::tid()) {
    machine.set_trap_flag(false);
    g_trap_start.trapped.store(true);
  } else {
    bump(g_counters.foreign);
    chain_signal(signal, info, context, MachineContext::delivered_by_kernel(info, context, __builtin_dwarf_cfa()));
  }
  errno = saved_errno;
}

}  // namespace revocable
