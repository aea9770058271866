// What the instruction that faulted does to memory, and doing it without the memory.
//
// A page that must not be opened, because a model answers each access to it, leaves three ways to complete an
// instruction. Those between memory and general registers are emulated: operands_of() takes what the result depends on,
// effect_of() computes it, in any thread and at any time, from what was read, and apply_effect() puts it into the context:
//
//   const Instruction instruction = decode_instruction(code, bytes, machine);
//   if (!instruction.emulated) …
//   const Effect effect = effect_of(instruction, operands_of(instruction, machine), read, 0);
//   if (effect.writes) …  // effect.memory, access[0].width bytes of it
//   apply_effect(machine, instruction, effect);
//
// Moves between memory and vector registers are emulated too, where the signal's frame has those registers:
//
//   if (moves_vector(instruction, machine)) …
//   load_vector(machine, instruction, read);  // or store_vector(), and then what it gave goes to memory
//   step_over(machine, instruction);
//
// All others that are known run by themselves, one step, with their operand moved to memory that may be touched: see
// MemoryAccess::mover.
//
// Async-signal-safe. Not known are segments with a base (fs, gs), addresses of 32 bits, gathers and scatters, maskmovdqu,
// accesses of more than 64 bytes, what makes no access, APX, AVX-512 of half precision, and every instruction of a processor
// other than x86-64.
#pragma once

#include <cstddef>
#include <cstdint>

#include "instruction/machine_context.h"

namespace revocable {

inline constexpr size_t kLongestInstruction = 15;
inline constexpr unsigned kNoRegister = 16;

// One access of an instruction to memory. Under a mask it begins and ends with bytes that the mask enables, and those in between
// that it does not enable are not accessed.
struct MemoryAccess {
  uintptr_t address = 0;
  unsigned width = 0;  // bytes, 1 to 64
  bool reads = false, writes = false;
  // The register by which this access moves and nothing else that the instruction does. To move the operand by `d`, a multiple
  // of 4096, add d >> mover_shift to it before, and subtract that afterwards unless the instruction overwrites the register.
  // kNoRegister: there is none.
  unsigned mover = kNoRegister, mover_shift = 0;
  bool mover_overwritten = false;
  uint64_t enabled = ~uint64_t{0};  // a bit for each byte from `address` on
  unsigned before = 0, behind = 0;  // bytes of the operand on either side, which are not accessed
};

enum class Operation : uint8_t {
  none,
  move,  // with zeros above what was read
  move_signed,
  move_swapped,
  add,
  bit_or,
  adc,
  sbb,
  bit_and,
  sub,
  bit_xor,
  cmp,
  test,
  inc,
  dec,
  neg,
  bit_not,
  xchg,
  xadd,
  cmpxchg,
  cmpxchg_pair,  // of 8 or 16 bytes
  cmov,
  set,
  imul,
  bt,
  bts,
  btr,
  btc,
  rol,
  ror,
  rcl,
  rcr,
  shl,
  shr,
  sar,
};

// All or some bytes of a general register.
struct RegisterPart {
  uint8_t number = kNoRegister;
  uint8_t width = 0;  // bytes; writing 4 clears the other 4
  uint8_t shift = 0;  // bits: 8 for ah, ch, dh and bh
};

// What a load puts into a vector register; stores are `whole`, `low` or `high`. JavaScript's engines load numbers by adding and
// multiplying, too.
enum class VectorMove : uint8_t {
  none,
  whole,     // with zeros above what was read
  low,       // one half of 16 bytes
  high,      // the other half
  repeated,  // as often as the register has room for it
  widened,   // a float, as a double
  narrowed,  // a double, as a float
  added,     // numbers of 4 or 8 bytes: to the one in `other`
  subtracted,
  multiplied,
  divided,
};

struct VectorPart {
  VectorMove move = VectorMove::none;
  uint8_t number = 0;
  uint8_t other = 0;    // whose bytes are around a half, and above a number that is the result of something
  uint8_t width = 0;    // of the register: 16, 32 or 64 bytes
  bool vex = false;     // what is above them is cleared, and not kept
  bool evex = false;    // the same, and it may be any of 32 registers
  bool merges = false;  // `whole` under a mask: a load leaves bytes that are not enabled as they are
};

inline constexpr unsigned kWidestVector = 64;

struct Instruction {
  bool known = false;     // false: nothing else here means anything
  bool emulated = false;  // effect_of() knows what it does; exactly one access, of 1, 2, 4, 8 or (cmpxchg16b) 16 bytes
  bool locked = false;    // the access is indivisible
  unsigned length = 0;
  unsigned accesses = 0;  // 0 (a string instruction whose count has run out) to 2 (movs, cmps, push, pop and call)
  MemoryAccess access[2];

  // For emulation: memory and a register or a constant, of which the first is the destination.
  Operation operation = Operation::none;
  bool memory_first = false;
  bool with_constant = false;  // instead of the register, which may still be the destination
  uint8_t condition = 0;       // of cmov and set: the last four bits of the opcode
  RegisterPart part;
  int64_t constant = 0;

  VectorPart vector;  // where it moves, exactly one access of at most kWidestVector bytes, which reads or writes
};

// The instruction at the context's program counter, whose first `bytes` bytes are at `code`. Its registers must still be as the
// fault left them.
Instruction decode_instruction(const uint8_t* code, size_t bytes, const MachineContext& machine);

}  // namespace revocable
