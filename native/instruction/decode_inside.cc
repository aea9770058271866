// Runs in the fault handler: see the rules at the top of handler_inside.cc.
//
// Encodings are those of Intel's SDM, volume 2, chapter 2. What each opcode does is in instruction_table.inc.
#include "instruction/decode.h"

#include <bit>

#include "instruction/vector_registers.h"

namespace revocable {

#if defined(__x86_64__)

namespace {

// --- the table ----------------------------------------------------------------------------------------------------------------

enum class Place : uint8_t { none, modrm, constant, source, destination, stack };  // [rsi], [rdi], and at rsp
enum class Other : uint8_t { none, reg, constant, one, count, accumulator };       // ModRM.reg, or cl, or rax
enum class Use : uint8_t { none, used, overwritten };                              // as a whole

// Which bytes of the operand a mask enables: those of elements whose bits are set, or as many elements as there are bits set. In
// `whole` they are all read, and it chooses among the results. `signs`: the mask is the highest bits of a vector register's
// elements.
enum class Masking : uint8_t { none, whole, each, packed, signs };

constexpr uint8_t kEmulated = 1, kLockable = 2, kBitString = 4, kMemoryFirst = 8;

struct FormAccess {
  Place place = Place::none;
  uint8_t width = 0;
  bool reads = false, writes = false;
};

struct Form {
  Other other = Other::none;
  uint8_t flags = 0;
  uint8_t register_width = 0;
  uint8_t constant = 0;  // bytes
  FormAccess access[2];
  Use reg = Use::none, vector = Use::none;  // ModRM.reg and VEX.vvvv, where they are general registers
  uint8_t used = 0, overwritten = 0;        // bits of rax to rdi
  VectorMove move = VectorMove::none;
  uint8_t vector_width = 0;
  Masking masking = Masking::none;
  uint8_t element = 0, mask_bits = 0;  // bytes; where there are more bits than elements, these begin again
  uint8_t broadcast = 0;               // bytes of the operand that EVEX.b makes of it; 0: none
  bool has(uint8_t flag) const { return (flags & flag) != 0; }
};

struct Entry {
  uint16_t pattern;
  Operation operation;
};

#include "instruction/instruction_table.inc"

struct Meaning {
  const Form* form = &kForms[0];
  Operation operation = Operation::none;
  bool known() const { return form != &kForms[0]; }
};

template <size_t kPatterns, size_t kSlots, size_t kEntries, size_t kGroups>
Meaning look_up(const uint16_t (&patterns)[kPatterns][kSlots], const Entry (&entries)[kEntries],
                const uint16_t (&groups)[kGroups][8], unsigned number, unsigned slot, unsigned reg) {
  const Entry& entry = entries[number < kEntries ? number : groups[number - kEntries][reg]];
  return {&kForms[patterns[entry.pattern][slot]], entry.operation};
}

// --- reading the bytes --------------------------------------------------------------------------------------------------------

constexpr unsigned kCount = 1, kSourceIndex = 6, kDestinationIndex = 7;
constexpr unsigned kStackPointer = 4, kBasePointer = 5;  // as r/m and base these two stand for something else

// The bytes of an instruction, one after the other; zeros, and `short_of` set, where there are no more.
class Bytes {
 public:
  Bytes(const uint8_t* code, size_t count) : at_(code), left_(count < kLongestInstruction ? count : kLongestInstruction) {}
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
  int64_t number(unsigned bytes) {
    if (bytes == 0) return 0;
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= uint64_t{next()} << (8 * i);
    const unsigned above = 64 - 8 * bytes;
    return static_cast<int64_t>(value << above) >> above;
  }
  unsigned read = 0;
  bool short_of = false;

 private:
  const uint8_t* at_;
  size_t left_;
};

enum class Space { legacy, vex, evex, unknown };

struct Encoding {
  Space space = Space::legacy;
  bool operand_size = false, locked = false, rex = false, w = false;
  uint8_t repeat = 0;            // 0xf3, 0xf2
  unsigned r = 0, x = 0, b = 0;  // 8, or nothing, to be added to a register's number; r with EVEX: up to 24
  unsigned vector = 0;           // VEX.vvvv; EVEX.V'vvvv
  unsigned pp = 0, length = 0;
  unsigned mask = 0;  // EVEX.aaa: the mask's register; 0: there is none
  bool zeroing = false, broadcast = false;
  unsigned map = 0;
  uint8_t opcode = 0;
};

// Whether `byte` is a prefix that may be before an instruction that is known.
bool take_prefix(uint8_t byte, Encoding* encoding) {
  switch (byte) {
    case 0x66: encoding->operand_size = true; return true;
    case 0xf0: encoding->locked = true; return true;
    case 0xf2:
    case 0xf3:
      // Which of two different ones counts is not the same for all instructions.
      if (encoding->repeat != 0 && encoding->repeat != byte) encoding->space = Space::unknown;
      encoding->repeat = byte;
      return true;
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x26: return true;  // segments without a base
    default: return false;
  }
}

void read_rex(uint8_t rex, Encoding* encoding) {
  encoding->rex = true;
  encoding->w = (rex & 8) != 0;
  encoding->r = (rex & 4) << 1;
  encoding->x = (rex & 2) << 2;
  encoding->b = (rex & 1) << 3;
}

// W, vvvv, L and pp, as the last byte of both kinds of VEX has them.
void read_vex_end(uint8_t byte, Encoding* encoding) {
  encoding->vector = (~byte >> 3) & 15;
  encoding->length = (byte >> 2) & 1;
  encoding->pp = byte & 3;
}

void read_vex(Bytes& bytes, bool short_form, Encoding* encoding) {
  encoding->space = Space::vex;
  const uint8_t first = bytes.next();
  encoding->r = (~first & 0x80) >> 4;
  encoding->map = 1;
  if (short_form) return read_vex_end(first, encoding);
  encoding->x = (~first & 0x40) >> 3;
  encoding->b = (~first & 0x20) >> 2;
  encoding->map = first & 31;
  const uint8_t second = bytes.next();
  encoding->w = (second & 0x80) != 0;
  read_vex_end(second, encoding);
}

// The two bits of which one is not as here belong to APX, and more than 16 general registers.
void read_evex(Bytes& bytes, Encoding* encoding) {
  const uint8_t first = bytes.next(), second = bytes.next(), third = bytes.next();
  encoding->length = (third >> 5) & 3;
  const bool known = (first & 8) == 0 && (second & 4) != 0 && encoding->length != 3;
  encoding->space = known ? Space::evex : Space::unknown;
  encoding->map = first & 7;
  encoding->r = ((~first & 0x80) >> 4) + (~first & 0x10);
  encoding->x = (~first & 0x40) >> 3;
  encoding->b = (~first & 0x20) >> 2;
  encoding->w = (second & 0x80) != 0;
  encoding->vector = ((~second >> 3) & 15) + ((~third & 8) << 1);
  encoding->pp = second & 3;
  encoding->mask = third & 7;
  encoding->zeroing = (third & 0x80) != 0;
  encoding->broadcast = (third & 0x10) != 0;
}

void read_map(Bytes& bytes, Encoding* encoding) {
  encoding->opcode = bytes.next();
  if (encoding->opcode != 0x0f) return;
  encoding->map = 1;
  encoding->opcode = bytes.next();
  if (encoding->opcode != 0x38 && encoding->opcode != 0x3a) return;
  encoding->map = encoding->opcode == 0x38 ? 2 : 3;
  encoding->opcode = bytes.next();
}

// Everything before ModRM. A prefix behind REX makes REX void, and is not known as an opcode.
Encoding read_encoding(Bytes& bytes) {
  Encoding encoding;
  while (take_prefix(bytes.peek(), &encoding)) bytes.next();
  const bool prefixed = encoding.operand_size || encoding.locked || encoding.repeat != 0;
  const uint8_t byte = bytes.peek();
  const bool is_vex = byte == 0xc4 || byte == 0xc5;
  if (encoding.space == Space::unknown) return encoding;
  if (!is_vex && byte != 0x62) {
    if ((byte & 0xf0) == 0x40) read_rex(bytes.next(), &encoding);
    read_map(bytes, &encoding);
    return encoding;
  }
  bytes.next();
  if (is_vex) read_vex(bytes, byte == 0xc5, &encoding);
  else read_evex(bytes, &encoding);
  if (prefixed || encoding.map == 0 || encoding.map > 3) encoding.space = Space::unknown;
  encoding.opcode = bytes.next();
  return encoding;
}

unsigned legacy_prefix(const Encoding& encoding) {
  if (encoding.repeat == 0) return encoding.operand_size ? 1 : 0;
  return (encoding.repeat == 0xf3 ? 2 : 3) + (encoding.operand_size ? 2 : 0);
}

Meaning meaning_of(const Encoding& encoding, unsigned reg) {
  const unsigned w = encoding.w ? 1 : 0;
  switch (encoding.space) {
    case Space::legacy:
      return look_up(kLegacyPatterns, kLegacyEntries, kLegacyGroups, kLegacyOpcodes[encoding.map][encoding.opcode],
                     legacy_prefix(encoding) * 2 + w, reg);
    case Space::vex:
      return look_up(kVexPatterns, kVexEntries, kVexGroups, kVexOpcodes[encoding.map - 1][encoding.opcode],
                     encoding.pp * 4 + w * 2 + encoding.length, reg);
    case Space::evex:
      return look_up(kEvexPatterns, kEvexEntries, kEvexGroups, kEvexOpcodes[encoding.map - 1][encoding.opcode],
                     encoding.pp * 6 + w * 3 + encoding.length, reg);
    default: return {};
  }
}

// --- the operand in memory ----------------------------------------------------------------------------------------------------

struct Operand {
  unsigned base = kNoRegister, index = kNoRegister;
  unsigned scale = 0;  // a shift
  int64_t displacement = 0;
  bool from_next = false;  // relative to the next instruction
};

void read_sib(Bytes& bytes, const Encoding& encoding, unsigned mod, Operand* operand) {
  const uint8_t sib = bytes.next();
  const unsigned index = ((sib >> 3) & 7) + encoding.x;
  if (index != kStackPointer) operand->index = index;
  operand->scale = sib >> 6;
  const bool no_base = (sib & 7) == kBasePointer && mod == 0;
  if (no_base) operand->displacement = bytes.number(4);
  else operand->base = (sib & 7) + encoding.b;
}

// `step` is the unit of a displacement of one byte.
Operand read_operand(Bytes& bytes, const Encoding& encoding, uint8_t modrm, unsigned step) {
  const unsigned mod = modrm >> 6, rm = modrm & 7;
  Operand operand;
  if (rm == kStackPointer) {
    read_sib(bytes, encoding, mod, &operand);
  } else if (rm == kBasePointer && mod == 0) {
    operand.from_next = true;
    operand.displacement = bytes.number(4);
  } else {
    operand.base = rm + encoding.b;
  }
  if (mod == 1) operand.displacement = bytes.number(1) * step;
  if (mod == 2) operand.displacement = bytes.number(4);
  return operand;
}

uintptr_t address_of(const Operand& operand, const MachineContext& machine, unsigned length) {
  uintptr_t address = static_cast<uintptr_t>(operand.displacement);
  if (operand.from_next) address += machine.pc() + length;
  if (operand.base != kNoRegister) address += machine.general(operand.base);
  if (operand.index != kNoRegister) address += machine.general(operand.index) << operand.scale;
  return address;
}

// How far the bit that a register names is from the operand: whole operands, downwards too.
uintptr_t bit_string_offset(uint64_t bit, unsigned width) {
  const unsigned above = 64 - 8 * width;
  const int64_t number = static_cast<int64_t>(bit << above) >> above;
  const unsigned shift = width == 2 ? 4 : width == 4 ? 5 : 6;
  return static_cast<uintptr_t>((number >> shift) * static_cast<int64_t>(width));
}

// --- the register that moves it -----------------------------------------------------------------------------------------------

// What the instruction does with a register besides making an address of it.
Use use_of(unsigned number, const Form& form, unsigned reg, const Encoding& encoding) {
  const bool is_reg = number == reg, is_vector = number == encoding.vector;
  const unsigned bit = number < 8 ? 1u << number : 0;
  if ((is_reg && form.reg == Use::used) || (is_vector && form.vector == Use::used) || (form.used & bit) != 0) return Use::used;
  const bool overwritten = (is_reg && form.reg == Use::overwritten) || (is_vector && form.vector == Use::overwritten);
  return overwritten || (form.overwritten & bit) != 0 ? Use::overwritten : Use::none;
}

// rsp is none: a signal that comes in between needs the stack.
void find_mover(const Operand& operand, const Form& form, unsigned reg, const Encoding& encoding, MemoryAccess* access) {
  const auto take = [&](unsigned number, unsigned shift) {
    if (number == kNoRegister || number == kStackPointer) return false;
    const Use use = use_of(number, form, reg, encoding);
    if (use == Use::used) return false;
    access->mover = number;
    access->mover_shift = shift;
    access->mover_overwritten = use == Use::overwritten;
    return true;
  };
  if (operand.base == operand.index) {
    // A register that is both moves the operand by 2, 3, 5 or 9 times as much.
    if (operand.scale == 0) take(operand.base, 1);
    return;
  }
  if (!take(operand.base, 0)) take(operand.index, operand.scale);
}

// --- masks --------------------------------------------------------------------------------------------------------------------

uint64_t lowest(unsigned bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

// The highest bits of a vector register's elements.
uint64_t signs_of(const VectorRegisters& registers, unsigned number, const Form& form) {
  uint8_t bytes[kWidestVector];
  registers.get(number, form.access[0].width, bytes);
  uint64_t signs = 0;
  for (unsigned i = 0; i < form.mask_bits; ++i) signs |= uint64_t{bytes[(i + 1) * form.element - 1]} >> 7 << i;
  return signs;
}

// Bytes of an operand of that width.
uint64_t enabled_bytes(uint64_t mask, const Form& form, unsigned width) {
  uint64_t enabled = 0;
  for (unsigned i = 0; i < form.mask_bits; ++i) {
    if ((mask >> i & 1) != 0) enabled |= lowest(form.element) << (i * form.element % width);
  }
  return enabled;
}

// Leaves of the access what the mask enables of it: no access, if that is nothing. False where the frame has no masks.
bool apply_mask(const Form& form, const Encoding& encoding, const MachineContext& machine, Instruction* instruction) {
  const bool signs = form.masking == Masking::signs;
  if (!signs && (encoding.mask == 0 || form.masking == Masking::whole)) return true;
  const VectorRegisters registers(machine);
  if (signs ? !registers.has_ymm() : !registers.has_zmm()) return false;
  MemoryAccess& access = instruction->access[0];
  const uint64_t mask = signs ? signs_of(registers, encoding.vector, form) : registers.mask(encoding.mask);
  const uint64_t bits = mask & lowest(form.mask_bits);
  const unsigned width = access.width;
  const uint64_t enabled = form.masking == Masking::packed ? lowest(static_cast<unsigned>(std::popcount(bits)) * form.element)
                                                           : enabled_bytes(bits, form, width);
  if (enabled == 0) {
    instruction->accesses = 0;
    return true;
  }
  access.before = static_cast<unsigned>(std::countr_zero(enabled));
  access.behind = width - static_cast<unsigned>(std::bit_width(enabled));
  access.address += access.before;
  access.width = width - access.before - access.behind;
  access.enabled = enabled >> access.before;
  return true;
}

// --- putting it together ------------------------------------------------------------------------------------------------------

void take_emulation(const Meaning& meaning, const Encoding& encoding, unsigned reg, Instruction* instruction) {
  const Form& form = *meaning.form;
  instruction->emulated = true;
  instruction->operation = meaning.operation;
  instruction->memory_first = form.has(kMemoryFirst);
  instruction->with_constant = form.other == Other::constant || form.other == Other::one;
  instruction->condition = encoding.opcode & 15;
  if (form.other == Other::one) instruction->constant = 1;
  if (form.other == Other::count) instruction->part = {1, 1, 0};
  if (form.register_width == 0) return;
  const unsigned number = form.other == Other::accumulator ? 0 : reg;
  // Without REX, the numbers of rsp to rdi mean the second bytes of rax to rbx.
  const bool second = form.register_width == 1 && !encoding.rex && number >= 4;
  instruction->part = {static_cast<uint8_t>(second ? number - 4 : number), form.register_width,
                       static_cast<uint8_t>(second ? 8 : 0)};
}

void take_vector_move(const Form& form, const Encoding& encoding, unsigned reg, Instruction* instruction) {
  VectorPart& part = instruction->vector;
  part.move = form.move;
  part.number = static_cast<uint8_t>(reg);
  part.evex = encoding.space == Space::evex;
  part.vex = encoding.space == Space::vex || part.evex;
  part.other = static_cast<uint8_t>(part.vex ? encoding.vector : reg);
  part.width = form.vector_width;
  part.merges = encoding.mask != 0 && !encoding.zeroing;
}

// EVEX counts a displacement of one byte in operands.
unsigned unit_of_displacement(const Form& form, const Encoding& encoding) {
  if (encoding.space != Space::evex) return 1;
  if (encoding.broadcast) return form.broadcast;
  return form.masking == Masking::packed ? form.element : form.access[0].width;
}

// ModRM.reg as a general register: its second bytes belong to the first four.
unsigned general_reg(const Instruction& instruction, const Form& form, unsigned reg) {
  return instruction.emulated && form.other == Other::reg ? instruction.part.number : reg;
}

bool is_string(const Form& form) { return form.access[0].place == Place::source || form.access[0].place == Place::destination; }

void add_access(const FormAccess& from, const Form& form, const Operand& operand, unsigned reg, const Encoding& encoding,
                const MachineContext& machine, Instruction* instruction) {
  MemoryAccess& access = instruction->access[instruction->accesses++];
  access.width = encoding.broadcast ? form.broadcast : from.width;
  access.reads = from.reads;
  access.writes = from.writes;
  switch (from.place) {
    case Place::source:
    case Place::destination:
      access.mover = from.place == Place::source ? kSourceIndex : kDestinationIndex;
      access.address = machine.general(access.mover);
      break;
    case Place::stack:
      access.address = machine.general(kStackPointer) - (from.writes ? from.width : 0);
      // pop moves rsp before it makes an address of it.
      if (from.reads && operand.base == kStackPointer) instruction->access[0].address += from.width;
      break;
    default:
      access.address = address_of(operand, machine, instruction->length);
      if (form.has(kBitString)) access.address += bit_string_offset(machine.general(reg), from.width);
      find_mover(operand, form, general_reg(*instruction, form, reg), encoding, &access);
  }
}

}  // namespace

Instruction decode_instruction(const uint8_t* code, size_t count, const MachineContext& machine) {
  Bytes bytes(code, count);
  const Encoding encoding = read_encoding(bytes);
  const uint8_t modrm = bytes.peek();
  const Meaning meaning = meaning_of(encoding, (modrm >> 3) & 7);
  const Form& form = *meaning.form;
  if (!meaning.known() || (encoding.locked && !form.has(kLockable))) return {};
  if ((encoding.mask != 0 && form.masking == Masking::none) || (encoding.broadcast && form.broadcast == 0)) return {};

  Operand operand;
  const unsigned reg = ((modrm >> 3) & 7) + encoding.r;
  if (form.access[0].place == Place::modrm) {
    if (bytes.next() >> 6 == 3) return {};  // between two registers
    operand = read_operand(bytes, encoding, modrm, unit_of_displacement(form, encoding));
  } else if (form.access[0].place == Place::constant) {
    operand.displacement = bytes.number(8);
  }
  Instruction instruction;
  instruction.constant = bytes.number(form.constant);
  if (bytes.short_of) return {};
  instruction.known = true;
  instruction.length = bytes.read;
  if (form.has(kEmulated)) take_emulation(meaning, encoding, reg, &instruction);
  // Of masks, the emulator knows what they mean for a move that changes nothing.
  if (form.move == VectorMove::whole || encoding.mask == 0) take_vector_move(form, encoding, reg, &instruction);
  instruction.locked = encoding.locked || instruction.operation == Operation::xchg;
  const bool run_out = is_string(form) && encoding.repeat != 0 && machine.general(kCount) == 0;
  if (run_out) return instruction;
  for (const FormAccess& access : form.access) {
    if (access.place != Place::none) add_access(access, form, operand, reg, encoding, machine, &instruction);
  }
  if (form.masking != Masking::none && !apply_mask(form, encoding, machine, &instruction)) return {};
  return instruction;
}

#else

Instruction decode_instruction(const uint8_t*, size_t, const MachineContext&) { return {}; }

#endif

}  // namespace revocable
