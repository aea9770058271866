// Runs in the fault handler: see the rules at the top of handler_inside.cc.
//
// What an operation does to its operands and to the flags is left to the processor: it runs on registers.
#include "instruction/emulate.h"

namespace revocable {

#if defined(__x86_64__)

namespace {

constexpr uint64_t kCarry = 1, kParity = 4, kAuxiliary = 16, kZero = 64, kSign = 128, kOverflow = 2048;
constexpr uint64_t kStatus = kCarry | kParity | kAuxiliary | kZero | kSign | kOverflow;
constexpr uint64_t kResume = uint64_t{1} << 16;  // set by the fault, cleared by an instruction that completes
constexpr uint64_t kAlwaysSet = 2;
constexpr uint8_t kRax = 0, kRcx = 1, kRdx = 2, kRbx = 3;

uint64_t low(uint64_t value, unsigned width) { return width >= 8 ? value : value & ((uint64_t{1} << (8 * width)) - 1); }

uint64_t sign_extended(uint64_t value, unsigned width) {
  const unsigned above = 64 - 8 * width;
  return static_cast<uint64_t>(static_cast<int64_t>(value << above) >> above);
}

uint64_t swapped(uint64_t value, unsigned width) { return __builtin_bswap64(value) >> (64 - 8 * width); }

// --- by the processor ---------------------------------------------------------------------------------------------------------

struct Result {
  uint64_t value;
  uint64_t flags;
};

// The 128 bytes below rsp may be the compiler's.
#define WITH_FLAGS(instruction) \
  "lea -128(%%rsp), %%rsp\n push %[flags]\n popfq\n " instruction "\n pushfq\n pop %[flags]\n lea 128(%%rsp), %%rsp"
#define RUN(instruction) asm(WITH_FLAGS(instruction) : [a] "+r"(a), [flags] "+r"(flags) : [b] "c"(b) : "cc", "memory")
#define WIDER(name, operands)                              \
  case 2: RUN(name "w " operands("w")); return {a, flags}; \
  case 4: RUN(name "l " operands("k")); return {a, flags}; \
  default:                                                 \
    RUN(name "q " operands("q"));                          \
    return {a, flags};
#define ALL_WIDTHS(name, operands)  \
  switch (width) {                  \
    case 1:                         \
      RUN(name "b " operands("b")); \
      return {a, flags};            \
      WIDER(name, operands)         \
  }
#define WORDS(name) \
  switch (width) { WIDER(name, BOTH) }
#define ONE(size) "%" size "[a]"
#define BOTH(size) "%" size "[b], %" size "[a]"
#define BY_COUNT(size) "%%cl, %" size "[a]"

// a = a operation b, of `width` bytes; what is above them in the result means nothing.
Result run(Operation operation, unsigned width, uint64_t a, uint64_t b, uint64_t flags) {
  flags = (flags & kStatus) | kAlwaysSet;
  // NOLINTBEGIN(bugprone-branch-clone): takes one asm statement for another
  switch (operation) {
    case Operation::xadd:
    case Operation::add: ALL_WIDTHS("add", BOTH)
    case Operation::bit_or: ALL_WIDTHS("or", BOTH)
    case Operation::adc: ALL_WIDTHS("adc", BOTH)
    case Operation::sbb: ALL_WIDTHS("sbb", BOTH)
    case Operation::bit_and: ALL_WIDTHS("and", BOTH)
    case Operation::sub: ALL_WIDTHS("sub", BOTH)
    case Operation::bit_xor: ALL_WIDTHS("xor", BOTH)
    case Operation::cmpxchg:
    case Operation::cmp: ALL_WIDTHS("cmp", BOTH)
    case Operation::test: ALL_WIDTHS("test", BOTH)
    case Operation::inc: ALL_WIDTHS("inc", ONE)
    case Operation::dec: ALL_WIDTHS("dec", ONE)
    case Operation::neg: ALL_WIDTHS("neg", ONE)
    case Operation::bit_not: ALL_WIDTHS("not", ONE)
    case Operation::imul: WORDS("imul")
    case Operation::bt: WORDS("bt")
    case Operation::bts: WORDS("bts")
    case Operation::btr: WORDS("btr")
    case Operation::btc: WORDS("btc")
    case Operation::rol: ALL_WIDTHS("rol", BY_COUNT)
    case Operation::ror: ALL_WIDTHS("ror", BY_COUNT)
    case Operation::rcl: ALL_WIDTHS("rcl", BY_COUNT)
    case Operation::rcr: ALL_WIDTHS("rcr", BY_COUNT)
    case Operation::shl: ALL_WIDTHS("shl", BY_COUNT)
    case Operation::shr: ALL_WIDTHS("shr", BY_COUNT)
    case Operation::sar: ALL_WIDTHS("sar", BY_COUNT)
    default: return {a, flags};
  }
  // NOLINTEND(bugprone-branch-clone)
}

#undef BY_COUNT
#undef BOTH
#undef ONE
#undef WORDS
#undef ALL_WIDTHS
#undef WIDER
#undef RUN
#undef WITH_FLAGS

// --- by hand ------------------------------------------------------------------------------------------------------------------

// `condition` as opcodes have it: SDM volume 1, appendix B.
bool holds(unsigned condition, uint64_t flags) {
  const bool less = ((flags & kSign) != 0) != ((flags & kOverflow) != 0);
  bool held = false;
  switch (condition >> 1) {
    case 0: held = (flags & kOverflow) != 0; break;
    case 1: held = (flags & kCarry) != 0; break;
    case 2: held = (flags & kZero) != 0; break;
    case 3: held = (flags & (kCarry | kZero)) != 0; break;
    case 4: held = (flags & kSign) != 0; break;
    case 5: held = (flags & kParity) != 0; break;
    case 6: held = less; break;
    default: held = less || (flags & kZero) != 0;
  }
  return held != ((condition & 1) != 0);
}

void write_memory(Effect* effect, uint64_t value, unsigned width) {
  effect->writes = true;
  effect->memory = low(value, width);
}

void exchange(const Instruction& instruction, const Operands& operands, uint64_t read, Effect* effect) {
  const unsigned width = instruction.access[0].width;
  const Result result = run(Operation::cmpxchg, width, operands.accumulator, read, operands.flags);
  effect->flags = result.flags;
  if ((result.flags & kZero) != 0) write_memory(effect, operands.source, width);
  else effect->changes[0] = {{kRax, static_cast<uint8_t>(width), 0}, read};
}

void exchange_pair(const Instruction& instruction, const Operands& operands, uint64_t read, uint64_t read_high, Effect* effect) {
  const unsigned width = instruction.access[0].width;
  const uint8_t half = static_cast<uint8_t>(width / 2);
  if (width == 8) {
    read_high = read >> 32;
    read = low(read, 4);
  }
  const bool equal = read == low(operands.accumulator, half) && read_high == low(operands.accumulator_high, half);
  effect->flags = (operands.flags & ~kZero) | (equal ? kZero : 0);
  if (!equal) {
    effect->changes[0] = {{kRax, half, 0}, read};
    effect->changes[1] = {{kRdx, half, 0}, read_high};
    return;
  }
  effect->writes = true;
  effect->memory = width == 8 ? low(operands.source, 4) | operands.source_high << 32 : operands.source;
  effect->memory_high = width == 8 ? 0 : operands.source_high;
}

// What a move puts where the other operand is.
uint64_t moved(Operation operation, uint64_t value, unsigned width) {
  if (operation == Operation::move_signed) return sign_extended(value, width);
  return operation == Operation::move_swapped ? swapped(value, width) : value;
}

// An operation of two operands or one, whose result goes to the first.
void compute(const Instruction& instruction, const Operands& operands, uint64_t read, Effect* effect) {
  const MemoryAccess& access = instruction.access[0];
  const uint64_t first = instruction.memory_first ? read : operands.source;
  const uint64_t second = instruction.memory_first ? operands.source : read;
  const Result result = run(instruction.operation, access.width, first, second, operands.flags);
  effect->flags = result.flags;
  if (access.writes) write_memory(effect, result.value, access.width);
  const bool compares = instruction.operation == Operation::cmp || instruction.operation == Operation::test;
  if (!instruction.memory_first && !compares) effect->changes[0] = {instruction.part, result.value};
}

void set_part(MachineContext& machine, const RegisterChange& change) {
  const RegisterPart& part = change.part;
  const uint64_t replaced = low(~uint64_t{0}, part.width) << part.shift;
  const uint64_t kept = part.width < 4 ? machine.general(part.number) & ~replaced : 0;
  machine.set_general(part.number, kept | ((change.value << part.shift) & replaced));
}

}  // namespace

Operands operands_of(const Instruction& instruction, const MachineContext& machine) {
  Operands operands;
  operands.flags = machine.flags();
  operands.accumulator = machine.general(kRax);
  operands.accumulator_high = machine.general(kRdx);
  if (instruction.operation == Operation::cmpxchg_pair) {
    operands.source = machine.general(kRbx);
    operands.source_high = machine.general(kRcx);
  } else if (instruction.with_constant) {
    operands.source = static_cast<uint64_t>(instruction.constant);
  } else if (instruction.part.number != kNoRegister) {
    operands.source = low(machine.general(instruction.part.number) >> instruction.part.shift, instruction.part.width);
  }
  return operands;
}

Effect effect_of(const Instruction& instruction, const Operands& operands, uint64_t read, uint64_t read_high) {
  const unsigned width = instruction.access[0].width;
  Effect effect;
  effect.flags = operands.flags;
  read = low(read, width);
  switch (instruction.operation) {
    case Operation::none: break;
    case Operation::move:
    case Operation::move_signed:
    case Operation::move_swapped:
      if (instruction.memory_first) write_memory(&effect, moved(instruction.operation, operands.source, width), width);
      else effect.changes[0] = {instruction.part, moved(instruction.operation, read, width)};
      break;
    case Operation::xchg:
      write_memory(&effect, operands.source, width);
      effect.changes[0] = {instruction.part, read};
      break;
    case Operation::xadd:
      compute(instruction, operands, read, &effect);
      effect.changes[0] = {instruction.part, read};
      break;
    case Operation::cmpxchg: exchange(instruction, operands, read, &effect); break;
    case Operation::cmpxchg_pair: exchange_pair(instruction, operands, read, read_high, &effect); break;
    case Operation::cmov:
      // The register is written either way: of four bytes, that clears the others.
      effect.changes[0] = {instruction.part, holds(instruction.condition, operands.flags) ? read : operands.source};
      break;
    case Operation::set: write_memory(&effect, holds(instruction.condition, operands.flags) ? 1 : 0, width); break;
    default: compute(instruction, operands, read, &effect);
  }
  return effect;
}

void apply_effect(MachineContext& machine, const Instruction& instruction, const Effect& effect) {
  for (const RegisterChange& change : effect.changes) {
    if (change.part.number != kNoRegister) set_part(machine, change);
  }
  machine.set_flags((machine.flags() & ~kStatus) | (effect.flags & kStatus));
  step_over(machine, instruction);
}

void step_over(MachineContext& machine, const Instruction& instruction) {
  machine.set_flags(machine.flags() & ~kResume);
  machine.step_to(machine.pc() + instruction.length);
}

#else

Operands operands_of(const Instruction&, const MachineContext&) { return {}; }
Effect effect_of(const Instruction&, const Operands&, uint64_t, uint64_t) { return {}; }
void apply_effect(MachineContext&, const Instruction&, const Effect&) {}
void step_over(MachineContext&, const Instruction&) {}

#endif

}  // namespace revocable
