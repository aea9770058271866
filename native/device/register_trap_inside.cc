// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "device/register_trap.h"

#include <cstring>

#include "device/device.h"
#include "device/register_access.h"
#include "device/register_port.h"
#include "device/register_step.h"
#include "fault/handler.h"
#include "instruction/decode.h"
#include "instruction/emulate.h"
#include "instruction/vector.h"

namespace revocable {
namespace {

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
  const bool dropped = target.verdict == AccessVerdict::forbidden && instruction.access[0].reads && target.fill != Fill::deadly;
  if (dropped) {
    allowed.access[0].writes = false;
    const Target reading = target_of(mapping, allowed.access[0]);
    if (reading.verdict == AccessVerdict::deliver) target = reading;
  }
  const Emulation emulation{allowed, operands_of(instruction, machine)};
  if (target.verdict != AccessVerdict::deliver && target.fill == Fill::deadly) return Delivery::deadly;
  scope.leave();
  Effect effect;
  AccessResult result = AccessResult::gone;
  if (target.verdict == AccessVerdict::deliver) result = emulate_with_port(target, emulation, &effect);
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
  if (dropped) report_event(target, instruction.access[0].writes, EventKind::fault_protection, Cause::none);
  if (result == AccessResult::answered) return Delivery::complete;
  if (!dropped) report_verdict(target, emulation.access());
  report_result(target, emulation.access(), result);
  return Delivery::complete;
}

// --- moves of vector registers: completed here too ----------------------------------------------------------------------------

Delivery move_vector(Mapping* mapping, const Instruction& instruction, MachineContext& machine, ReaderScope& scope) {
  const MemoryAccess& access = instruction.access[0];
  const Target target = target_of(mapping, access);
  if (target.verdict != AccessVerdict::deliver && target.fill == Fill::deadly) return Delivery::deadly;
  scope.leave();
  char bytes[kWidestVector] = {};
  if (access.writes) store_vector(machine, instruction, bytes);
  AccessResult result = AccessResult::gone;
  if (target.verdict == AccessVerdict::deliver) result = transfer(target, access, access.writes, bytes);
  if (result != AccessResult::answered) {
    if (target.fill == Fill::deadly) return Delivery::deadly;
    memset(bytes, target.fill == Fill::ones ? 0xff : 0, access.width);
  }
  if (access.reads) load_vector(machine, instruction, bytes);
  step_over(machine, instruction);
  if (result == AccessResult::answered) return Delivery::complete;
  report_verdict(target, access);
  report_result(target, access, result);
  return Delivery::complete;
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

}  // namespace revocable
