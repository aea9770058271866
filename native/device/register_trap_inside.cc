// Runs in the fault handler, and in that for SIGTRAP: see the rules at the top of handler_inside.cc.
#include "device/register_trap.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/counters.h"
#include "base/linux_abi.h"
#include "base/spin.h"
#include "core/event_ring.h"
#include "core/service.h"
#include "device/device.h"
#include "device/register_port.h"
#include "fault/fault.h"
#include "fault/handler.h"
#include "fault/signal_chain.h"
#include "instruction/decode.h"
#include "instruction/emulate.h"
#include "instruction/vector.h"

namespace revocable {

FutexWord g_trap_handler{kTrapHandlerUnasked};
TrapStart g_trap_start;

namespace {

constexpr unsigned kWidest = 64;  // bytes of one access

uint64_t now_ns() { return static_cast<uint64_t>(spin_clock_ns()); }

// --- where an access goes -----------------------------------------------------------------------------------------------------

enum class Verdict : uint8_t {
  deliver,
  gone,       // revoked, suspended or closed in this moment
  forbidden,  // by the mapping's protection
  refused     // not wholly within the registers
};

// All that is needed of a mapping once its record may be recycled.
struct Target {
  RegisterPort* port = nullptr;
  uint32_t incarnation = 0;  // of the port, when the mapping was seen alive
  uint64_t offset = 0;       // in the device's region
  uintptr_t address = 0;     // the access's first byte that is the mapping's
  Verdict verdict = Verdict::refused;
  Fill fill = Fill::zeros;
  uint32_t slot = 0, generation = 0;
};

bool permitted(const Mapping* mapping, uintptr_t address, const MemoryAccess& access) {
  const int prot = prot_of(mark_access(mapping->mark_of(mapping->page_of(address))), *mapping);
  return (!access.reads || (prot & PROT_READ) != 0) && (!access.writes || (prot & PROT_WRITE) != 0);
}

Verdict judge(const Mapping* mapping, const MemoryAccess& access) {
  const uintptr_t last = access.address + access.width - 1;
  if (access.address < mapping->start || last - mapping->start >= mapping->length) return Verdict::refused;
  if (!permitted(mapping, access.address, access) || !permitted(mapping, last, access)) return Verdict::forbidden;
  return mapping->state.load(std::memory_order_acquire) == State::live ? Verdict::deliver : Verdict::gone;
}

Target target_of(Mapping* mapping, const MemoryAccess& access) {
  Target target;
  target.port = mapping->object->port.load(std::memory_order_acquire);
  target.incarnation = target.port->incarnation.load(std::memory_order_acquire);
  target.address = std::max(access.address, mapping->start);
  target.verdict = judge(mapping, access);  // after it: a mapping that lives now has had that port all the time
  target.fill = mapping->fill;
  target.slot = mapping->slot;
  target.generation = mapping->generation;
  target.offset = mapping->object_offset + (access.address - mapping->start);  // registers are not rearranged
  return target;
}

// A mapping of registers that lives, or null.
Mapping* trapped_mapping(uintptr_t address) {
  Mapping* mapping = find_mapping(address);
  return mapping != nullptr && mapping->trapped && mapping->state.load(std::memory_order_acquire) == State::live ? mapping
                                                                                                                 : nullptr;
}

uint64_t fill_word(Fill fill) { return fill == Fill::ones ? ~uint64_t{0} : 0; }

// --- telling ------------------------------------------------------------------------------------------------------------------

void tell_of(const Target& target, bool write, EventKind kind, Cause cause) {
  const ReaderScope scope;
  Mapping* mapping = find_mapping(target.address);
  if (mapping == nullptr || mapping->slot != target.slot || mapping->generation != target.generation) return;
  DeviceMapping* device_mapping = mapping->device_mapping;
  if (kind == EventKind::fault_self) {
    device_mapping->self_faults.fetch_add(1);
    bump(g_counters.self_faults);
  } else if (kind != EventKind::fault_protection) {
    note_raw_failure(mapping, target.address, cause);
  }
  tell_access(mapping, target.address, write, kind, cause);
}

// Where the mapping lives on, as after a suspension, nothing else would tell. Events come by the mapping's end.
void note_gone(const Target& target) {
  if (target.verdict != Verdict::deliver && target.verdict != Verdict::gone) return;
  const ReaderScope scope;
  Mapping* mapping = find_mapping(target.address);
  if (mapping == nullptr || mapping->slot != target.slot || mapping->generation != target.generation) return;
  note_raw_failure(mapping, target.address, Cause::none);
}

void tell_verdict(const Target& target, const MemoryAccess& access) {
  if (target.verdict == Verdict::forbidden) {
    tell_of(target, access.writes, EventKind::fault_protection, Cause::none);
  } else if (target.verdict == Verdict::refused) {
    bump(g_counters.accesses_refused);
    tell_of(target, access.writes, EventKind::fault_refused, Cause::refused);
  }
}

void tell_result(const Target& target, const MemoryAccess& access, AccessResult result) {
  switch (result) {
    case AccessResult::answered: return;
    case AccessResult::gone: return note_gone(target);
    case AccessResult::failed: return tell_of(target, access.writes, EventKind::fault_backing, Cause::failed);
    case AccessResult::late: return tell_of(target, access.writes, EventKind::fault_backing, Cause::no_answer);
    case AccessResult::self: return tell_of(target, access.writes, EventKind::fault_self, Cause::none);
  }
}

// --- a model in C++ -----------------------------------------------------------------------------------------------------------

// Whether there still is what the access was for.
bool is_behind(const Target& target) {
  return target.port->open.load() && target.port->incarnation.load(std::memory_order_relaxed) == target.incarnation;
}

void read_pieces(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned bytes, void* into) {
  for_each_piece(offset, bytes, [&](uint64_t at, unsigned width, unsigned done) {
    const uint64_t value = model_read(port, model, at, width, true);
    memcpy(static_cast<char*>(into) + done, &value, width);
    return true;
  });
}

void write_pieces(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned bytes, const void* from) {
  for_each_piece(offset, bytes, [&](uint64_t at, unsigned width, unsigned done) {
    uint64_t value = 0;
    memcpy(&value, static_cast<const char*>(from) + done, width);
    model_write(port, model, at, width, value, true);
    return true;
  });
}

// --- a model in JavaScript ----------------------------------------------------------------------------------------------------

AccessResult ask_for_bytes(const Target& target, uint64_t offset, unsigned bytes, bool write, char* at) {
  AccessResult result = AccessResult::answered;
  for_each_piece(offset, bytes, [&](uint64_t piece, unsigned width, unsigned done) {
    RegisterAccess access{.offset = piece, .width = width, .reads = !write, .writes = write};
    if (write) memcpy(&access.value, at + done, width);
    uint64_t value = 0;
    result = ask_for_access(target.port, target.incarnation, access, &value);
    if (!write) memcpy(at + done, &value, width);
    return result == AccessResult::answered;
  });
  return result;
}

// Bytes one behind the other that an access touches: all of them, but under a mask. Ends early, and returns false, when
// `each(at, bytes)` does; `at` counts from the access's first byte.
template <typename Each>
bool for_each_run(const MemoryAccess& access, Each each) {
  for (unsigned at = 0; at < access.width;) {
    const unsigned first = at + static_cast<unsigned>(std::countr_zero(access.enabled >> at));
    const unsigned most = access.width - first;
    const unsigned bytes = std::min(most, static_cast<unsigned>(std::countr_one(access.enabled >> first)));
    if (!each(first, bytes)) return false;
    at = first + bytes;
  }
  return true;
}

// Bytes from the model, or to it, piece by piece; without another thread's access in between where the model is C++. Those that
// are not enabled stay as they are.
AccessResult transfer(const Target& target, const MemoryAccess& access, bool write, char* bytes) {
  {
    const PortTurn turn(target.port);
    if (!is_behind(target)) return AccessResult::gone;
    const RegisterModel* model = target.port->model.load(std::memory_order_relaxed);
    const bool answers = for_each_run(
        access, [&](unsigned at, unsigned run) { return !port_asks(target.port, target.offset + at, run, !write, write); });
    if (model != nullptr && answers) {
      for_each_run(access, [&](unsigned at, unsigned run) {
        if (write) write_pieces(target.port, *model, target.offset + at, run, bytes + at);
        else read_pieces(target.port, *model, target.offset + at, run, bytes + at);
        return true;
      });
      return AccessResult::answered;
    }
  }
  AccessResult result = AccessResult::answered;
  for_each_run(access, [&](unsigned at, unsigned run) {
    result = ask_for_bytes(target, target.offset + at, run, write, bytes + at);
    return result == AccessResult::answered;
  });
  return result;
}

// --- instructions on general registers: completed here ------------------------------------------------------------------------

struct Emulation {
  const Instruction& instruction;
  const Operands operands;
  const MemoryAccess& access() const { return instruction.access[0]; }
  Effect effect(const uint64_t words[2]) const { return effect_of(instruction, operands, words[0], words[1]); }
};

AccessResult emulate_with_model(const Target& target, const RegisterModel& model, const Emulation& emulation, Effect* effect) {
  uint64_t words[2] = {};
  const unsigned bytes = emulation.access().width;
  if (emulation.access().reads) read_pieces(target.port, model, target.offset, bytes, words);
  *effect = emulation.effect(words);
  const uint64_t put[2] = {effect->memory, effect->memory_high};
  if (effect->writes && emulation.access().writes) write_pieces(target.port, model, target.offset, bytes, put);
  return AccessResult::answered;
}

// What an indivisible access leaves in the slot for the device's thread.
struct Combined {
  Instruction instruction;
  Operands operands;
};
static_assert(sizeof(Combined) <= sizeof(Combination::operands));

bool put_combined(const void* operands, uint64_t old, uint64_t* value) {
  Combined combined;
  memcpy(static_cast<void*>(&combined), operands, sizeof combined);
  const Effect effect = effect_of(combined.instruction, combined.operands, old, 0);
  *value = effect.memory;
  return effect.writes;
}

AccessResult ask_whole(const Target& target, const Emulation& emulation, Effect* effect) {
  const MemoryAccess& of = emulation.access();
  RegisterAccess access{.offset = target.offset, .width = of.width, .reads = of.reads, .writes = of.writes};
  uint64_t words[2] = {};
  if (!of.reads) access.value = emulation.effect(words).memory;
  Combination combination;
  if (of.reads && of.writes) {
    const Combined combined{emulation.instruction, emulation.operands};
    combination.put = put_combined;
    memcpy(combination.operands.data(), static_cast<const void*>(&combined), sizeof combined);
    access.combination = &combination;
  }
  const AccessResult result = ask_for_access(target.port, target.incarnation, access, &words[0]);
  *effect = emulation.effect(words);
  return result;
}

AccessResult ask_in_pieces(const Target& target, const Emulation& emulation, Effect* effect) {
  uint64_t words[2] = {};
  const MemoryAccess& of = emulation.access();
  AccessResult result = AccessResult::answered;
  if (of.reads) result = ask_for_bytes(target, target.offset, of.width, false, reinterpret_cast<char*>(words));
  if (result != AccessResult::answered) return result;
  *effect = emulation.effect(words);
  uint64_t put[2] = {effect->memory, effect->memory_high};
  if (effect->writes && of.writes) result = ask_for_bytes(target, target.offset, of.width, true, reinterpret_cast<char*>(put));
  return result;
}

AccessResult emulate_with_port(const Target& target, const Emulation& emulation, Effect* effect) {
  {
    const PortTurn turn(target.port);
    if (!is_behind(target)) return AccessResult::gone;
    const RegisterModel* model = target.port->model.load(std::memory_order_relaxed);
    const MemoryAccess& of = emulation.access();
    const bool asks = port_asks(target.port, target.offset, of.width, of.reads, of.writes);
    if (model != nullptr && !asks) return emulate_with_model(target, *model, emulation, effect);
  }
  const unsigned width = emulation.access().width;
  const bool whole = width <= 8 && target.offset % width == 0;
  return whole ? ask_whole(target, emulation, effect) : ask_in_pieces(target, emulation, effect);
}

// What makes a comparison with exchange find what it expects.
void read_as_expected(const Emulation& emulation, uint64_t read[2]) {
  const unsigned width = emulation.access().width;
  const uint64_t accumulator = emulation.operands.accumulator, high = emulation.operands.accumulator_high;
  if (emulation.instruction.operation == Operation::cmpxchg) {
    read[0] = low_bytes(accumulator, width);
  } else if (emulation.instruction.operation == Operation::cmpxchg_pair) {
    read[0] = width == 8 ? low_bytes(accumulator, 4) | high << 32 : accumulator;
    read[1] = high;
  }
}

Delivery emulate(Mapping* mapping, const Instruction& instruction, MachineContext& machine, ReaderScope& scope) {
  Instruction allowed = instruction;
  Target target = target_of(mapping, instruction.access[0]);
  // Of one that may read and not write, the read is delivered: a loop of a load and a comparison with exchange, which is what
  // V8 makes of Atomics.add, would otherwise load the value, compare with the fill, and never end.
  const bool dropped = target.verdict == Verdict::forbidden && instruction.access[0].reads && target.fill != Fill::deadly;
  if (dropped) {
    allowed.access[0].writes = false;
    const Target reading = target_of(mapping, allowed.access[0]);
    if (reading.verdict == Verdict::deliver) target = reading;
  }
  const Emulation emulation{allowed, operands_of(instruction, machine)};
  if (target.verdict != Verdict::deliver && target.fill == Fill::deadly) return Delivery::deadly;
  scope.leave();
  Effect effect;
  AccessResult result = AccessResult::gone;
  if (target.verdict == Verdict::deliver) result = emulate_with_port(target, emulation, &effect);
  if (result != AccessResult::answered) {
    if (target.fill == Fill::deadly) return Delivery::deadly;
    uint64_t read[2] = {fill_word(target.fill), fill_word(target.fill)};
    // The model has failed at its write, while it goes on to answer reads: a loop of a load and a comparison with exchange would
    // never end. It finds what it expects, and learns from check() that nothing was written.
    const bool lost = result == AccessResult::failed || result == AccessResult::late;
    if (lost) read_as_expected(emulation, read);
    effect = emulation.effect(read);
  }
  apply_effect(machine, instruction, effect);
  if (dropped) tell_of(target, instruction.access[0].writes, EventKind::fault_protection, Cause::none);
  if (result == AccessResult::answered) return Delivery::complete;
  if (!dropped) tell_verdict(target, emulation.access());
  tell_result(target, emulation.access(), result);
  return Delivery::complete;
}

// --- moves of vector registers: completed here too ----------------------------------------------------------------------------

Delivery move_vector(Mapping* mapping, const Instruction& instruction, MachineContext& machine, ReaderScope& scope) {
  const MemoryAccess& access = instruction.access[0];
  const Target target = target_of(mapping, access);
  if (target.verdict != Verdict::deliver && target.fill == Fill::deadly) return Delivery::deadly;
  scope.leave();
  char bytes[kWidestVector] = {};
  if (access.writes) store_vector(machine, instruction, bytes);
  AccessResult result = AccessResult::gone;
  if (target.verdict == Verdict::deliver) result = transfer(target, access, access.writes, bytes);
  if (result != AccessResult::answered) {
    if (target.fill == Fill::deadly) return Delivery::deadly;
    memset(bytes, target.fill == Fill::ones ? 0xff : 0, access.width);
  }
  if (access.reads) load_vector(machine, instruction, bytes);
  step_over(machine, instruction);
  if (result == AccessResult::answered) return Delivery::complete;
  tell_verdict(target, access);
  tell_result(target, access, result);
  return Delivery::complete;
}

// --- all others: redirected, and run for one step -----------------------------------------------------------------------------

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
  std::atomic<int> tid{0};  // negative: that thread has abandoned it, and whoever needs the record may take it
  uintptr_t pc = 0, stack = 0;
  sigset_t mask;
  bool trap_flag = false;  // somebody else was stepping this thread
  unsigned count = 0;
  Moved moved[kMoved];
};

// An access may begin anywhere in its page and end in the next.
constexpr size_t kScratchPage = 4096, kScratchBytes = 2 * kScratchPage;
constexpr size_t kSteps = kTrapScratchBytes / (kMoved * kScratchBytes);
std::array<Step, kSteps> g_steps;
std::atomic<uint32_t> g_abandoned{0};  // steps; while there are none, nobody looks for one

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
  if (moved.target.verdict == Verdict::deliver) {
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

void forget_abandoned() {
  if (Step* step = own_abandoned()) step->tid.store(0, std::memory_order_release);
}

bool is_same_access(const Moved& a, const Moved& b) {
  return a.access.address == b.access.address && a.access.width == b.access.width && a.access.reads == b.access.reads &&
         a.access.writes == b.access.writes && a.access.enabled == b.access.enabled && a.target.slot == b.target.slot &&
         a.target.generation == b.target.generation && a.target.incarnation == b.target.incarnation;
}

// An instruction that begins again, as the other operand's fault was somebody's to mend: what the model has given is not asked
// for twice.
void take_up_abandoned(const MachineContext& machine, Moved* moved, unsigned count, char (*bytes)[kWidest]) {
  Step* step = own_abandoned();
  if (step == nullptr) return;
  const bool again = step->pc == machine.pc() && step->stack == stack_of(machine);
  for (unsigned i = 0; again && i < count; ++i) {
    for (unsigned before = 0; before < step->count; ++before) {
      const Moved& given = step->moved[before];
      if (!given.given || !is_same_access(given, moved[i])) continue;
      moved[i].given = moved[i].target.verdict == Verdict::deliver && is_behind(moved[i].target);
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
  for (const uint64_t begun = now_ns(); now_ns() - begun < kLongestNs;) {
    if (g_trap_handler.load(std::memory_order_acquire) != kTrapHandlerWanted) break;
    const timespec slice{0, 50'000'000};
    futex_wait_private(&g_trap_handler, kTrapHandlerWanted, &slice);
  }
  return g_trap_handler.load(std::memory_order_acquire) == kTrapHandlerInPlace;
}

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
    tell_verdict(moved[i].target, moved[i].access);
    tell_result(moved[i].target, moved[i].access, result);
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

// Gives the model what the step has written.
void deliver_written(const Moved& moved, const char* bytes) {
  Target target;
  {
    const ReaderScope scope;
    Mapping* mapping = trapped_mapping(moved.access.address);
    if (mapping == nullptr || mapping->generation != moved.target.generation || mapping->slot != moved.target.slot) return;
    target = target_of(mapping, moved.access);
  }
  if (target.verdict != Verdict::deliver) return note_gone(target);
  char copy[kWidest];
  memcpy(copy, bytes, moved.access.width);
  tell_result(target, moved.access, transfer(target, moved.access, true, copy));
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

bool touches(const Instruction& instruction, uintptr_t address) {
  for (unsigned i = 0; i < instruction.accesses; ++i) {
    // Which byte of an operand under a mask a fault is for, no manual says.
    const MemoryAccess& access = instruction.access[i];
    const uintptr_t first = access.address - access.before;
    if (address >= first && address - first < access.before + access.width + access.behind) return true;
  }
  return false;
}

}  // namespace

void note_raw_failure(Mapping* mapping, uintptr_t address, Cause cause) {
  DeviceMapping* device_mapping = mapping->device_mapping;
  device_mapping->raw_failure.store(static_cast<uint64_t>(cause) << 56 | (address - mapping->start), std::memory_order_relaxed);
  device_mapping->raw_failures.fetch_add(1, std::memory_order_release);
}

Delivery deliver_access(Mapping* mapping, uintptr_t address, MachineContext& machine, ReaderScope& scope) {
  // A step that has come to registers which were none when it was planned: planned anew.
  if (machine.trap_flag()) abandon_step(machine);
  uint8_t code[kLongestInstruction];
  const Instruction instruction = decode_instruction(code, read_code(machine.pc(), code), machine);
  if (!instruction.known || !touches(instruction, address)) return Delivery::not_understood;
  const bool completed = instruction.emulated || moves_vector(instruction, machine);  // here, at once
  if (!completed) return redirect(instruction, machine, scope);
  forget_abandoned();
  return instruction.emulated ? emulate(mapping, instruction, machine, scope) : move_vector(mapping, instruction, machine, scope);
}

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
