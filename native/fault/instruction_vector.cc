// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include <cstring>

#include "fault/instruction.h"
#include "fault/vector_registers.h"

namespace revocable {

#if defined(__x86_64__)

namespace {

constexpr uint32_t kExceptionsMasked = 0x1f80;  // of MXCSR

bool converts(VectorMove move) { return move == VectorMove::widened || move == VectorMove::narrowed; }

// By the processor, which rounds and notes exceptions as the interrupted code's MXCSR says. `value` is above the number in 16
// bytes, too. None of it raises a signal: moves_vector() has looked.
#define CONVERTED(instruction)                                                                                                   \
  asm volatile("stmxcsr %[own]\n ldmxcsr %[control]\n " instruction " %[number], %[value]\n stmxcsr %[control]\n ldmxcsr %[own]" \
               : [value] "+x"(value), [control] "+m"(control), [own] "=m"(own)                                                   \
               : [number] "x"(number))

void convert(VectorMove move, const void* read, VectorRegisters& registers, uint8_t* bytes) {
  using Lanes = double __attribute__((vector_size(16)));
  Lanes value, number{};
  uint32_t control = registers.control(), own;
  memcpy(&value, bytes, sizeof value);
  memcpy(&number, read, move == VectorMove::widened ? 4 : 8);
  if (move == VectorMove::widened) CONVERTED("cvtss2sd");
  else CONVERTED("cvtsd2ss");
  memcpy(bytes, &value, sizeof value);
  registers.set_control(control);
}

#undef CONVERTED

}  // namespace

bool moves_vector(const Instruction& instruction, const MachineContext& machine) {
  const VectorPart& part = instruction.vector;
  if (part.move == VectorMove::none) return false;
  const VectorRegisters registers(machine);
  if (part.vex ? !registers.has_ymm() : !registers.has_xmm()) return false;
  return !converts(part.move) || (registers.control() & kExceptionsMasked) == kExceptionsMasked;
}

void load_vector(MachineContext& machine, const Instruction& instruction, const void* read) {
  const VectorPart& part = instruction.vector;
  const unsigned width = instruction.access[0].width;
  VectorRegisters registers(machine);
  uint8_t bytes[kWidestVector] = {};
  if (part.move != VectorMove::whole && part.move != VectorMove::repeated) registers.get_low(part.other, bytes);
  switch (part.move) {
    case VectorMove::none: return;
    case VectorMove::whole:
    case VectorMove::low: memcpy(bytes, read, width); break;
    case VectorMove::high: memcpy(bytes + 8, read, width); break;
    case VectorMove::repeated:
      for (unsigned at = 0; at < part.width; at += width) memcpy(bytes + at, read, width);
      break;
    case VectorMove::widened:
    case VectorMove::narrowed: convert(part.move, read, registers, bytes);
  }
  if (part.vex) registers.set_whole(part.number, bytes);
  else registers.set_low(part.number, bytes);
}

void store_vector(const MachineContext& machine, const Instruction& instruction, void* written) {
  const VectorPart& part = instruction.vector;
  const VectorRegisters registers(machine);
  uint8_t bytes[kWidestVector];
  registers.get_low(part.number, bytes);
  if (part.width == kWidestVector) registers.get_high(part.number, bytes + 16);
  memcpy(written, bytes + (part.move == VectorMove::high ? 8 : 0), instruction.access[0].width);
}

#else

bool moves_vector(const Instruction&, const MachineContext&) { return false; }
void load_vector(MachineContext&, const Instruction&, const void*) {}
void store_vector(const MachineContext&, const Instruction&, void*) {}

#endif

}  // namespace revocable
