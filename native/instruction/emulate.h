// Completing an instruction between memory and general registers without the memory: see decode.h. Async-signal-safe.
#pragma once

#include <cstdint>

#include "instruction/decode.h"
#include "instruction/machine_context.h"

namespace revocable {

// All that the result of an emulated instruction depends on besides memory.
struct Operands {
  uint64_t flags = 0;
  uint64_t source = 0, source_high = 0;
  uint64_t accumulator = 0, accumulator_high = 0;
};

struct RegisterChange {
  RegisterPart part;
  uint64_t value = 0;
};

struct Effect {
  bool writes = false;  // false also for a cmpxchg that found something else
  uint64_t memory = 0, memory_high = 0;
  RegisterChange changes[2];
  uint64_t flags = 0;
};

Operands operands_of(const Instruction& instruction, const MachineContext& machine);

// `read` is what the access read, whatever is above its width, and `read_high` the second eight bytes of 16. Neither matters
// where it does not read.
Effect effect_of(const Instruction& instruction, const Operands& operands, uint64_t read, uint64_t read_high);

// Registers, flags and the program counter.
void apply_effect(MachineContext& machine, const Instruction& instruction, const Effect& effect);

// The program counter, behind an instruction that has been completed.
void step_over(MachineContext& machine, const Instruction& instruction);

}  // namespace revocable
