// Completing by hand the one instruction that faulted, where it is a plain load into a general register.
//
// A page that is gone for ever has nothing to load, so the value is known: the fill. Putting it into the register and stepping
// over the instruction saves mapping a page for it and the fault on that page, which are a fifth of what a fault costs.
//
// Async-signal-safe. What is not understood is left alone: stores, vectors, string and locked instructions, segments, and every
// instruction of a processor other than x86-64.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fault/machine_context.h"

namespace revocable {

// The longest instruction that is understood: operand size, REX, two bytes of opcode, ModRM, SIB, displacement.
inline constexpr size_t kLongestLoad = 10;

struct Load {
  unsigned width = 0;    // bytes of memory; 0: not understood
  unsigned written = 0;  // bytes of the register that it replaces; of 4, the processor clears the other 4
  unsigned shift = 0;    // bits: 8 for ah, ch, dh and bh
  unsigned destination = 0;
  bool sign_extended = false;
  uintptr_t address = 0;
  uintptr_t next = 0;  // the instruction behind it
};

// The load at the context's program counter, whose first `bytes` bytes are at `code`. Its registers must still be as the fault
// left them.
Load decode_load(const uint8_t* code, size_t bytes, const MachineContext& machine);

// As if the load had found nothing but ones, or nothing but zeros.
void complete_load(MachineContext& machine, const Load& load, bool ones);

}  // namespace revocable
