// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include <cstring>

#include "instruction/vector.h"
#include "instruction/vector_registers.h"

namespace revocable {

#if defined(__x86_64__)

namespace {

constexpr uint32_t kExceptionsMasked = 0x1f80;  // of MXCSR
constexpr unsigned kXmmBytes = 16;

bool computes(VectorMove move) { return move >= VectorMove::widened; }

// By the processor, which rounds and notes exceptions as the interrupted code's MXCSR says. None of it raises a signal:
// moves_vector() has looked.
#define RUN(instruction)                                                                                                         \
  asm volatile("stmxcsr %[own]\n ldmxcsr %[control]\n " instruction " %[number], %[value]\n stmxcsr %[control]\n ldmxcsr %[own]" \
               : [value] "+x"(value), [control] "+m"(control), [own] "=m"(own)                                                   \
               : [number] "x"(number))
#define OF_BOTH_WIDTHS(name)      \
  if (width == 4) RUN(name "ss"); \
  else RUN(name "sd");            \
  break

// `bytes` are the register's: the number, and what is above it.
void compute(VectorMove move, const void* read, unsigned width, VectorRegisters& registers, uint8_t* bytes) {
  using Lanes = double __attribute__((vector_size(16)));
  Lanes value, number{};
  uint32_t control = registers.control(), own;
  memcpy(&value, bytes, sizeof value);
  memcpy(&number, read, width);
  // NOLINTBEGIN(bugprone-branch-clone): takes one asm statement for another
  switch (move) {
    case VectorMove::widened: RUN("cvtss2sd"); break;
    case VectorMove::narrowed: RUN("cvtsd2ss"); break;
    case VectorMove::added: OF_BOTH_WIDTHS("add");
    case VectorMove::subtracted: OF_BOTH_WIDTHS("sub");
    case VectorMove::multiplied: OF_BOTH_WIDTHS("mul");
    case VectorMove::divided: OF_BOTH_WIDTHS("div");
    default: return;
  }
  // NOLINTEND(bugprone-branch-clone)
  memcpy(bytes, &value, sizeof value);
  registers.set_control(control);
}

#undef OF_BOTH_WIDTHS
#undef RUN

// Zeros above the operand, and in it where the mask leaves bytes out and does not merge.
void load_whole(const VectorPart& part, const MemoryAccess& access, const VectorRegisters& registers, const uint8_t* read,
                uint8_t* bytes) {
  const unsigned operand = access.before + access.width + access.behind;
  if (part.merges) registers.get(part.number, part.width, bytes);
  memset(bytes + operand, 0, kWidestVector - operand);
  for (unsigned i = 0; i < access.width; ++i) {
    if ((access.enabled >> i & 1) != 0) bytes[access.before + i] = read[i];
  }
}

}  // namespace

bool moves_vector(const Instruction& instruction, const MachineContext& machine) {
  const VectorPart& part = instruction.vector;
  if (part.move == VectorMove::none) return false;
  const VectorRegisters registers(machine);
  if (!registers.has_xmm() || (part.vex && !registers.has_ymm()) || (part.evex && !registers.has_zmm())) return false;
  return !computes(part.move) || (registers.control() & kExceptionsMasked) == kExceptionsMasked;
}

void load_vector(MachineContext& machine, const Instruction& instruction, const void* read) {
  const VectorPart& part = instruction.vector;
  const MemoryAccess& access = instruction.access[0];
  const unsigned width = access.width;
  VectorRegisters registers(machine);
  uint8_t bytes[kWidestVector] = {};
  if (part.move != VectorMove::whole && part.move != VectorMove::repeated) registers.get(part.other, kXmmBytes, bytes);
  switch (part.move) {
    case VectorMove::whole: load_whole(part, access, registers, static_cast<const uint8_t*>(read), bytes); break;
    case VectorMove::low: memcpy(bytes, read, width); break;
    case VectorMove::high: memcpy(bytes + 8, read, width); break;
    case VectorMove::repeated:
      for (unsigned at = 0; at < part.width; at += width) memcpy(bytes + at, read, width);
      break;
    default: compute(part.move, read, width, registers, bytes);
  }
  if (part.vex) registers.set_whole(part.number, bytes);
  else registers.set_low(part.number, bytes);
}

void store_vector(const MachineContext& machine, const Instruction& instruction, void* written) {
  const VectorPart& part = instruction.vector;
  const MemoryAccess& access = instruction.access[0];
  const VectorRegisters registers(machine);
  uint8_t bytes[kWidestVector];
  registers.get(part.number, part.width, bytes);
  memcpy(written, bytes + access.before + (part.move == VectorMove::high ? 8 : 0), access.width);
}

#else

bool moves_vector(const Instruction&, const MachineContext&) { return false; }
void load_vector(MachineContext&, const Instruction&, const void*) {}
void store_vector(const MachineContext&, const Instruction&, void*) {}

#endif

}  // namespace revocable
