// The emulator against the processor: instructions of every shape that is emulated run as they are, and then as the fault handler
// would complete them. Registers, flags and memory must not differ.
#include <cstring>
#include <vector>

#include "fixture.h"
#include "instruction_run.h"

using namespace revocable;

#if defined(__x86_64__)

namespace {

constexpr uint64_t kCarry = 1, kParity = 4, kAuxiliary = 16, kZero = 64, kSign = 128, kOverflow = 2048;

struct Shape {
  unsigned opcode;     // with its map: 0x0fb6
  int group = -1;      // ModRM.reg, where that is no register
  bool bytes = false;  // the other operand is a byte
  char constant = 0;   // b: one byte; v: as wide as the operand, up to 4
  bool lockable = false;
  bool wide_only = false;  // no prefix for 16 bits
  bool moffs = false;
};

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (unsigned k = 0; k < 8; ++k) {
    const bool locks = k != 7;
    const int group = static_cast<int>(k);
    for (unsigned form = 0; form < 4; ++form)
      all.push_back({.opcode = k * 8 + form, .bytes = form % 2 == 0, .lockable = locks && form < 2});
    all.push_back({.opcode = 0x80, .group = group, .bytes = true, .constant = 'b', .lockable = locks});
    all.push_back({.opcode = 0x81, .group = group, .constant = 'v', .lockable = locks});
    all.push_back({.opcode = 0x83, .group = group, .constant = 'b', .lockable = locks});
    for (unsigned opcode : {0xd0u, 0xd2u}) {
      all.push_back({.opcode = opcode, .group = group, .bytes = true});
      all.push_back({.opcode = opcode + 1, .group = group});
    }
    all.push_back({.opcode = 0xc0, .group = group, .bytes = true, .constant = 'b'});
    all.push_back({.opcode = 0xc1, .group = group, .constant = 'b'});
    if (k >= 4) all.push_back({.opcode = 0x0fba, .group = group, .constant = 'b', .lockable = k > 4});
  }
  for (unsigned opcode : {0x84u, 0x86u, 0x88u, 0x8au, 0x0fb0u, 0x0fc0u}) {
    const bool locks = opcode == 0x86 || opcode > 0x100;
    all.push_back({.opcode = opcode, .bytes = true, .lockable = locks});
    all.push_back({.opcode = opcode + 1, .lockable = locks});
  }
  all.push_back({.opcode = 0x63, .wide_only = true});
  all.push_back({.opcode = 0x69, .constant = 'v'});
  all.push_back({.opcode = 0x6b, .constant = 'b'});
  all.push_back({.opcode = 0xc6, .group = 0, .bytes = true, .constant = 'b'});
  all.push_back({.opcode = 0xc7, .group = 0, .constant = 'v'});
  all.push_back({.opcode = 0xf6, .group = 0, .bytes = true, .constant = 'b'});
  all.push_back({.opcode = 0xf7, .group = 0, .constant = 'v'});
  for (int group : {2, 3}) {
    all.push_back({.opcode = 0xf6, .group = group, .bytes = true, .lockable = true});
    all.push_back({.opcode = 0xf7, .group = group, .lockable = true});
  }
  for (int group : {0, 1}) {
    all.push_back({.opcode = 0xfe, .group = group, .bytes = true, .lockable = true});
    all.push_back({.opcode = 0xff, .group = group, .lockable = true});
  }
  for (unsigned condition = 0; condition < 16; ++condition) {
    all.push_back({.opcode = 0x0f40 + condition});
    all.push_back({.opcode = 0x0f90 + condition, .group = 0, .bytes = true});
  }
  for (unsigned opcode : {0x0fa3u, 0x0fabu, 0x0fb3u, 0x0fbbu}) all.push_back({.opcode = opcode, .lockable = opcode != 0x0fa3});
  for (unsigned opcode : {0x0fafu, 0x0fb6u, 0x0fb7u, 0x0fbeu, 0x0fbfu}) all.push_back({.opcode = opcode});
  all.push_back({.opcode = 0x0fc3, .wide_only = true});
  all.push_back({.opcode = 0x0fc7, .group = 1, .lockable = true, .wide_only = true});
  all.push_back({.opcode = 0x0f38f0});
  all.push_back({.opcode = 0x0f38f1});
  for (unsigned opcode = 0xa0; opcode < 0xa4; ++opcode)
    all.push_back({.opcode = opcode, .bytes = opcode % 2 == 0, .moffs = true});
  return all;
}

bool is_bit_string(unsigned opcode) { return opcode == 0x0fa3 || opcode == 0x0fab || opcode == 0x0fb3 || opcode == 0x0fbb; }

struct Made {
  std::vector<uint8_t> code;
  Address address;
  unsigned reg;
  unsigned width;  // of an operand that is not a byte
  bool locked;
};

// One of the encodings of a shape. Empty code: one that cannot be run here.
Made make(const Shape& shape, Random& random) {
  Made made{.code = {}, .address = any_address(random), .reg = static_cast<unsigned>(random() % 16), .width = 4, .locked = false};
  const bool named = shape.group < 0 && !shape.moffs;
  if (!named) made.reg = static_cast<unsigned>(shape.group < 0 ? 0 : shape.group);
  const bool narrow = !shape.wide_only && random() % 3 == 0, wide = random() % 3 == 0;
  made.width = wide ? 8 : narrow ? 2 : 4;
  made.locked = shape.lockable && random() % 4 == 0;
  const Address& address = made.address;
  const unsigned x = address.index != kNoRegister ? address.index >> 3 : 0,
                 b = address.base != kNoRegister ? address.base >> 3 : 0;
  const uint8_t rex = static_cast<uint8_t>(0x40 | (wide ? 8 : 0) | (named && made.reg >= 8 ? 4 : 0) | x << 1 | b);
  const bool with_rex = rex != 0x40 || random() % 4 == 0;
  if (named && made.reg == kRsp && (with_rex || !shape.bytes)) return {};
  if (is_bit_string(shape.opcode) && (made.reg == address.base || made.reg == address.index)) return {};
  if (random() % 8 == 0) made.code.push_back(0x2e);
  if (narrow) made.code.push_back(0x66);
  if (made.locked) made.code.push_back(0xf0);
  if (with_rex) made.code.push_back(rex);
  for (int shift = 16; shift > 0; shift -= 8) {
    if (shape.opcode >> shift != 0) made.code.push_back(static_cast<uint8_t>(shape.opcode >> shift));
  }
  made.code.push_back(static_cast<uint8_t>(shape.opcode));
  if (shape.moffs) {
    made.address.displacement_at = made.code.size();
    made.code.insert(made.code.end(), 8, 0);
  } else {
    append(&made.code, made.reg, &made.address);
  }
  unsigned constant = shape.constant == 'b' ? 1 : 0;
  if (shape.constant == 'v') constant = narrow && !wide ? 2 : 4;
  const uint64_t value = any_value(random);
  for (unsigned i = 0; i < constant; ++i) made.code.push_back(static_cast<uint8_t>(value >> (8 * i)));
  if (made.code.size() > kLongestInstruction) return {};
  return made;
}

// The number of a bit up to 64 bytes away. What is above the operand's width does not matter.
uint64_t near_bit(Random& random, unsigned width) {
  const uint64_t bit = random() % 1024 - 512;
  return width == 8 ? bit : random() << (8 * width) | (bit & ((uint64_t{1} << (8 * width)) - 1));
}

// Flags that the SDM leaves undefined.
uint64_t undefined_flags(const Instruction& instruction, const Operands& operands) {
  const unsigned bits = instruction.access[0].width * 8;
  const unsigned count = operands.source & (bits == 64 ? 63 : 31);
  switch (instruction.operation) {
    case Operation::bit_and:
    case Operation::bit_or:
    case Operation::bit_xor:
    case Operation::test: return kAuxiliary;
    case Operation::imul: return kSign | kZero | kAuxiliary | kParity;
    case Operation::bt:
    case Operation::bts:
    case Operation::btr:
    case Operation::btc: return kOverflow | kSign | kAuxiliary | kParity;
    case Operation::rol:
    case Operation::ror:
    case Operation::rcl:
    case Operation::rcr: return count > 1 ? kOverflow : 0;
    case Operation::shl:
    case Operation::shr:
    case Operation::sar:
      if (count == 0) return 0;
      return kAuxiliary | (count > 1 ? kOverflow : 0) | (count >= bits ? kCarry : 0);
    default: return 0;
  }
}

// An exchange finds what it compares with half of the time.
void prepare_exchange(const Instruction& instruction, const Address& address, Random& random, Registers* state) {
  const bool pair = instruction.operation == Operation::cmpxchg_pair;
  if ((!pair && instruction.operation != Operation::cmpxchg) || random() % 2 == 0) return;
  const unsigned width = pair ? instruction.access[0].width / 2 : instruction.access[0].width;
  const char* at = reinterpret_cast<const char*>(instruction.access[0].address);
  const auto is_free = [&](unsigned number) { return number != address.base && number != address.index; };
  if (!is_free(0) || !is_free(2)) return;
  memcpy(&state->general[0], at, width);
  if (pair) memcpy(&state->general[2], at + width, width);
}

// Runs it both ways. What differs, or nothing.
std::string differs(const Arena& arena, const Made& made, const uint8_t* code, Registers state, Random& random, size_t* counts) {
  ucontext_t context{};
  MachineContext machine = context_of(&context, state, code);
  Instruction instruction = decode_instruction(code, kLongestInstruction, machine);
  if (!instruction.emulated || instruction.accesses != 1) return "not emulated";
  if (instruction.length != made.code.size()) return "its length";
  if (instruction.locked != (made.locked || instruction.operation == Operation::xchg)) return "locked";
  const MemoryAccess& access = instruction.access[0];
  const size_t at = access.address - reinterpret_cast<uintptr_t>(arena.data);
  if (at > kPageSize - access.width) return "its address";
  prepare_exchange(instruction, made.address, random, &state);
  machine = context_of(&context, state, code);

  const Operands operands = operands_of(instruction, machine);
  uint64_t read[2] = {random(), random()};
  if (access.reads) memcpy(read, arena.data + at, access.width);
  const Effect effect = effect_of(instruction, operands, read[0], read[1]);
  apply_effect(machine, instruction, effect);
  uint8_t* expected = arena.moved;
  memcpy(expected, arena.data, kPageSize);
  const uint64_t written[2] = {effect.memory, effect.memory_high};
  if (effect.writes) memcpy(expected + at, written, access.width);
  if (effect.writes && !access.writes) return "writes";

  if (run(code, instruction.length, &state) != 0) return "it cannot be run";
  ++counts[static_cast<size_t>(instruction.operation)];
  if (memcmp(expected, arena.data, kPageSize) != 0) return "memory";
  if (machine.pc() != reinterpret_cast<uintptr_t>(code) + made.code.size()) return "the program counter";
  for (unsigned i = 0; i < 16; ++i) {
    if (i != kRsp && machine.general(i) != state.general[i]) return "register " + std::to_string(i);
  }
  const uint64_t defined = kStatusFlags & ~undefined_flags(instruction, operands);
  if (((machine.flags() ^ state.flags) & defined) != 0)
    return "flags " + std::to_string((machine.flags() ^ state.flags) & defined);
  return "";
}

}  // namespace

TEST("A7 an emulated instruction leaves registers, flags and memory as the processor does") {
  catch_signals();
  const Arena arena;
  Random random(check::seed());
  const std::vector<Shape> all = shapes();
  size_t counts[static_cast<size_t>(Operation::sar) + 1] = {};
  Registers state = blank_registers();
  memset(arena.data, 0, kPageSize);
  const int rounds = check::rounds(600'000);
  int failures = 0;
  for (int round = 0; round < rounds && failures < 20; ++round) {
    const Shape& shape = all[random() % all.size()];
    const Made made = make(shape, random);
    if (made.code.empty()) continue;
    uint8_t* code = arena.code + random() % 512;
    memcpy(code, made.code.data(), made.code.size());
    fill_registers(random, &state);
    // Locks across cache lines are slow, and 16 bytes must be aligned.
    const bool aligned = made.locked || shape.opcode == 0x86 || shape.opcode == 0x87 || shape.opcode == 0x0fc7;
    const uintptr_t target = reinterpret_cast<uintptr_t>(arena.data + 1024 + (aligned ? random() % 4 * 16 : random() % 64));
    randomize(random, arena.data + 896, 320);
    if (is_bit_string(shape.opcode)) state.general[made.reg] = near_bit(random, made.width);
    if (shape.moffs) memcpy(code + made.address.displacement_at, &target, sizeof target);
    else aim(made.address, target, reinterpret_cast<uintptr_t>(code) + made.code.size(), 1, random, code, &state);
    const std::string what = differs(arena, made, code, state, random, counts);
    if (what.empty()) continue;
    ++failures;
    check::report(false, __FILE__, __LINE__, bytes_of(code, made.code.size()) + "differs: " + what);
  }
  for (size_t i = 1; i <= static_cast<size_t>(Operation::sar); ++i) CHECK(counts[i] > static_cast<size_t>(rounds) / 2000);
}

#endif
