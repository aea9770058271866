// Completing a move between memory and a vector register without the memory: see decode.h. Async-signal-safe.
#pragma once

#include "instruction/decode.h"
#include "instruction/machine_context.h"

namespace revocable {

// Whether load_vector() or store_vector() can do what the instruction does. Not where the frame lacks the registers, nor for
// arithmetic whose exceptions would raise a signal.
bool moves_vector(const Instruction& instruction, const MachineContext& machine);
// From what the access read into the register.
void load_vector(MachineContext& machine, const Instruction& instruction, const void* read);
// What the access is to write.
void store_vector(const MachineContext& machine, const Instruction& instruction, void* written);

}  // namespace revocable
