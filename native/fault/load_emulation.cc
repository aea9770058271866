// Runs in the fault handler: see the rules at the top of handler_inside.cc.
//
// Encodings are those of Intel's SDM, volume 2, chapter 2 (prefixes, ModRM and SIB) and the pages of MOV, MOVZX, MOVSX and
// MOVSXD.
#include "fault/load_emulation.h"

namespace revocable {

#if defined(__x86_64__)

namespace {

constexpr unsigned kNoRegister = 16;
constexpr unsigned kStackPointer = 4, kBasePointer = 5;  // as r/m and base these two stand for something else
constexpr uint8_t kOperandSize = 0x66;

// The bytes of an instruction, one after the other; zeros, and `short_of` set, where there are no more.
class Bytes {
 public:
  Bytes(const uint8_t* code, size_t count) : at_(code), left_(count) {}
  uint8_t peek() const { return left_ == 0 ? 0 : *at_; }
  uint8_t next() {
    if (left_ == 0) {
      short_of = true;
      return 0;
    }
    --left_;
    ++read;
    return *at_++;
  }
  int32_t displacement(unsigned bytes) {
    uint32_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= uint32_t{next()} << (8 * i);
    return bytes == 1 ? static_cast<int8_t>(value) : static_cast<int32_t>(value);
  }
  size_t read = 0;
  bool short_of = false;

 private:
  const uint8_t* at_;
  size_t left_;
};

struct Prefixes {
  bool operand_size = false;
  bool rex = false, w = false;
  unsigned r = 0, x = 0, b = 0;  // 8, or nothing, to be added to a register's number
};

Prefixes read_prefixes(Bytes& bytes) {
  Prefixes found;
  if (bytes.peek() == kOperandSize) {
    bytes.next();
    found.operand_size = true;
  }
  if ((bytes.peek() & 0xf0) != 0x40) return found;
  const uint8_t rex = bytes.next();
  found.rex = true;
  found.w = (rex & 8) != 0;
  found.r = (rex & 4) << 1;
  found.x = (rex & 2) << 2;
  found.b = (rex & 1) << 3;
  return found;
}

// Width, sign extension and what of the register is replaced. Width 0: another instruction.
Load read_opcode(Bytes& bytes, const Prefixes& prefixes) {
  const unsigned operand = prefixes.w ? 8 : prefixes.operand_size ? 2 : 4;
  switch (bytes.next()) {
    case 0x8a: return {.width = 1, .written = 1};
    case 0x8b: return {.width = operand, .written = operand};
    case 0x63: return prefixes.w ? Load{.width = 4, .written = 8, .sign_extended = true} : Load{};
    case 0x0f: break;
    default: return {};
  }
  switch (bytes.next()) {
    case 0xb6: return {.width = 1, .written = operand};
    case 0xb7: return {.width = 2, .written = operand};
    case 0xbe: return {.width = 1, .written = operand, .sign_extended = true};
    case 0xbf: return {.width = 2, .written = operand, .sign_extended = true};
    default: return {};
  }
}

struct Operand {
  unsigned base = kNoRegister, index = kNoRegister;
  unsigned scale = 0;  // a shift
  int32_t displacement = 0;
  bool from_next = false;  // relative to the next instruction
};

void read_sib(Bytes& bytes, const Prefixes& prefixes, unsigned mod, Operand* operand) {
  const uint8_t sib = bytes.next();
  const unsigned index = ((sib >> 3) & 7) + prefixes.x;
  if (index != kStackPointer) operand->index = index;
  operand->scale = sib >> 6;
  const bool no_base = (sib & 7) == kBasePointer && mod == 0;
  if (no_base) operand->displacement = bytes.displacement(4);
  else operand->base = (sib & 7) + prefixes.b;
}

Operand read_operand(Bytes& bytes, const Prefixes& prefixes, uint8_t modrm) {
  const unsigned mod = modrm >> 6, rm = modrm & 7;
  Operand operand;
  if (rm == kStackPointer) {
    read_sib(bytes, prefixes, mod, &operand);
  } else if (rm == kBasePointer && mod == 0) {
    operand.from_next = true;
    operand.displacement = bytes.displacement(4);
  } else {
    operand.base = rm + prefixes.b;
  }
  if (mod == 1) operand.displacement = bytes.displacement(1);
  if (mod == 2) operand.displacement = bytes.displacement(4);
  return operand;
}

uintptr_t address_of(const Operand& operand, const MachineContext& machine, uintptr_t next) {
  uintptr_t address = static_cast<uintptr_t>(static_cast<intptr_t>(operand.displacement));
  if (operand.from_next) address += next;
  if (operand.base != kNoRegister) address += machine.general(operand.base);
  if (operand.index != kNoRegister) address += machine.general(operand.index) << operand.scale;
  return address;
}

}  // namespace

Load decode_load(const uint8_t* code, size_t count, const MachineContext& machine) {
  Bytes bytes(code, count);
  const Prefixes prefixes = read_prefixes(bytes);
  Load load = read_opcode(bytes, prefixes);
  const uint8_t modrm = bytes.next();
  if (load.width == 0 || modrm >> 6 == 3) return {};  // between two registers
  const Operand operand = read_operand(bytes, prefixes, modrm);
  if (bytes.short_of) return {};
  load.destination = ((modrm >> 3) & 7) + prefixes.r;
  // Without REX, the numbers of rsp to rdi mean the second bytes of rax to rbx.
  if (load.written == 1 && !prefixes.rex && load.destination >= 4) {
    load.destination -= 4;
    load.shift = 8;
  }
  load.next = machine.pc() + bytes.read;
  load.address = address_of(operand, machine, load.next);
  return load;
}

void complete_load(MachineContext& machine, const Load& load, bool ones) {
  uint64_t value = 0;
  if (ones) value = load.sign_extended || load.width == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * load.width)) - 1;
  const uint64_t replaced = load.written == 8 ? ~uint64_t{0} : ((uint64_t{1} << (8 * load.written)) - 1) << load.shift;
  const uint64_t kept = load.written < 4 ? machine.general(load.destination) & ~replaced : 0;
  machine.set_general(load.destination, kept | ((value << load.shift) & replaced));
  machine.step_to(load.next);
}

#else

Load decode_load(const uint8_t*, size_t, const MachineContext&) { return {}; }
void complete_load(MachineContext&, const Load&, bool) {}

#endif

}  // namespace revocable
