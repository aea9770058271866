// The decoder against the processor: each instruction of the table runs where it is, and then with its operand moved by the
// register that is said to move it. Nothing must differ, and no byte be touched but those that are said to be.
#include <cstring>
#include <vector>

#include "fixture.h"
#include "instruction_run.h"

using namespace revocable;

#if defined(__x86_64__)

namespace {

// A place in the table: everything that says which instruction it is. With EVEX, also its mask and broadcast.
struct Opcode {
  enum { legacy, vex, evex } space;
  unsigned map, opcode, prefix, w, length, reg;
  unsigned mask = 0;
  bool zeroing = false, broadcast = false;
};

constexpr uint8_t kNoPrefix = 0;
constexpr uint8_t kPrefixes[] = {kNoPrefix, 0x66, 0xf3, 0xf2};

template <typename Body>
void for_each_opcode(Body body) {
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    for (unsigned reg = 0; reg < 8; ++reg) {
      for (unsigned prefix = 0; prefix < 4; ++prefix) {
        for (unsigned w = 0; w < 2; ++w) {
          for (unsigned map = 0; map < 4; ++map) body({Opcode::legacy, map, opcode, prefix, w, 0, reg});
          for (unsigned map = 1; map < 4; ++map) body({Opcode::vex, map, opcode, prefix, w, 0, reg});
          for (unsigned map = 1; map < 4; ++map) body({Opcode::vex, map, opcode, prefix, w, 1, reg});
        }
      }
    }
  }
}

template <typename Body>
void for_each_evex(Body body) {
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    for (unsigned reg = 0; reg < 8; ++reg) {
      for (unsigned prefix = 0; prefix < 4; ++prefix) {
        for (unsigned w = 0; w < 2; ++w) {
          for (unsigned map = 1; map < 4; ++map) {
            for (unsigned length = 0; length < 3; ++length) body({Opcode::evex, map, opcode, prefix, w, length, reg});
          }
        }
      }
    }
  }
}

void begin_legacy(const Opcode& what, unsigned r, unsigned x, unsigned b, std::vector<uint8_t>* code) {
  if (kPrefixes[what.prefix] != kNoPrefix) code->push_back(kPrefixes[what.prefix]);
  code->push_back(static_cast<uint8_t>(0x40 | what.w << 3 | r << 2 | x << 1 | b));
  if (what.map > 0) code->push_back(0x0f);
  if (what.map > 1) code->push_back(what.map == 2 ? 0x38 : 0x3a);
}

// VEX.pp and EVEX.pp count the prefixes as kPrefixes does.
void begin_vector(const Opcode& what, unsigned r, unsigned x, unsigned b, unsigned vector, std::vector<uint8_t>* code) {
  const uint8_t registers = static_cast<uint8_t>((~r & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5 | (~r & 2) << 3);
  const uint8_t end = static_cast<uint8_t>((~vector & 15) << 3 | what.prefix);
  if (what.space == Opcode::vex) {
    for (const unsigned byte : {0xc4u, (registers & 0xe0u) | what.map, what.w << 7 | what.length << 2 | end}) {
      code->push_back(static_cast<uint8_t>(byte));
    }
    return;
  }
  const unsigned last = (what.zeroing ? 0x80u : 0) | what.length << 5 | (what.broadcast ? 0x10u : 0) | (~vector & 16) >> 1;
  for (const unsigned byte : {0x62u, registers | what.map, what.w << 7 | 4u | end, last | what.mask}) {
    code->push_back(static_cast<uint8_t>(byte));
  }
}

std::vector<uint8_t> encode(const Opcode& what, Address* address, Random& random) {
  const unsigned x = address->index != kNoRegister ? address->index >> 3 : 0;
  const unsigned b = address->base != kNoRegister ? address->base >> 3 : 0;
  // Some have no operand in VEX.vvvv, and are none if it is not 0; and mask registers have no numbers above 7.
  const bool evex = what.space == Opcode::evex;
  const unsigned r = evex ? random() % 2 * (random() % 4) : random() % 2;
  const unsigned vector = random() % 2 == 0 ? 0 : evex ? random() % 32 : any_register(random);
  std::vector<uint8_t> code;
  if (what.space == Opcode::legacy) begin_legacy(what, r, x, b, &code);
  else begin_vector(what, r, x, b, vector, &code);
  code.push_back(static_cast<uint8_t>(what.opcode));
  append(&code, what.reg, address);
  return code;
}

// What goes elsewhere, or changes the stack pointer, cannot be run by the test; an address that is a constant cannot be moved.
// And an escape to another map is no opcode.
bool can_be_run(const Opcode& what, const Instruction& instruction) {
  if (!instruction.known) return false;
  if (what.space != Opcode::legacy) return true;
  if (what.map == 1) return what.opcode != 0x38 && what.opcode != 0x3a;
  if (what.map > 1) return true;
  const bool jumps_or_pushes = what.opcode == 0xff && (what.reg == 2 || what.reg == 4 || what.reg == 6);
  const bool pops = what.opcode == 0x8f;
  const bool constant = what.opcode >= 0xa0 && what.opcode <= 0xa3;
  return what.opcode != 0x0f && !jumps_or_pushes && !pops && !constant;
}

// The x87 unit's own record of its last instruction and operand is the one thing that may tell.
void forget_last_operand(Registers* state) { memset(state->vectors + 6, 0, 18); }

struct MovedCounts {
  size_t run = 0, raised = 0, without_mover = 0, masked = 0, broadcast = 0, empty = 0;
};

std::string vectors_differ(Registers& a, Registers& b) {
  forget_last_operand(&a);
  forget_last_operand(&b);
  if (memcmp(a.vectors, b.vectors, sizeof a.vectors) != 0) return "vectors";
  if (memcmp(a.vectors_high, b.vectors_high, sizeof a.vectors_high) != 0) return "the upper halves of ymm";
  if (memcmp(a.zmm_high, b.zmm_high, sizeof a.zmm_high) != 0) return "the upper halves of zmm";
  if (memcmp(a.more_zmm, b.more_zmm, sizeof a.more_zmm) != 0) return "zmm16 to zmm31";
  return memcmp(a.masks, b.masks, sizeof a.masks) != 0 ? "masks" : "";
}

bool touches(const MemoryAccess& access, uintptr_t address) {
  const uintptr_t at = address - access.address;
  return at < access.width && (access.enabled >> at & 1) != 0;
}

// All accesses begin or end at an edge of the page, so that one byte more would be noticed.
std::string moves(const Arena& arena, const uint8_t* code, const Instruction& instruction, const Registers& start,
                  MovedCounts* counts) {
  Registers original = start, moved = start;
  const int signal = run(code, instruction.length, &original);
  const uint8_t* written = arena.data;
  std::vector<uint8_t> result(written, written + kPageSize);

  for (unsigned i = 0; i < instruction.accesses; ++i) {
    const MemoryAccess& access = instruction.access[i];
    moved.general[access.mover] += arena.distance >> access.mover_shift;
  }
  memcpy(arena.data, arena.moved, kPageSize);  // what it was
  // What a mask leaves out may be anything.
  const MemoryAccess& first = instruction.access[0];
  const auto moved_to = [&](unsigned i) { return arena.moved + (first.address + i - reinterpret_cast<uintptr_t>(arena.data)); };
  for (unsigned i = 0; i < first.width; ++i) {
    if ((first.enabled >> i & 1) == 0) *moved_to(i) = static_cast<uint8_t>(~*moved_to(i));
  }
  if (signal == kTouched) return "what it touches";
  const int moved_signal = run(code, instruction.length, &moved);
  if (signal != moved_signal) return "signal " + std::to_string(signal) + " or " + std::to_string(moved_signal);
  ++(signal != 0 ? counts->raised : counts->run);
  if (signal != 0) return "";
  for (unsigned i = 0; i < instruction.accesses; ++i) {
    const MemoryAccess& access = instruction.access[i];
    if (!access.mover_overwritten) moved.general[access.mover] -= arena.distance >> access.mover_shift;
  }
  for (unsigned i = 0; i < 16; ++i) {
    if (i != kRsp && original.general[i] != moved.general[i]) return "register " + std::to_string(i);
  }
  if (((original.flags ^ moved.flags) & kStatusFlags) != 0) return "flags";
  const std::string vectors = vectors_differ(original, moved);
  if (!vectors.empty()) return vectors;
  for (unsigned i = 0; i < first.width; ++i) {
    if ((first.enabled >> i & 1) == 0) *moved_to(i) = static_cast<uint8_t>(~*moved_to(i));
  }
  if (memcmp(result.data(), arena.moved, kPageSize) != 0) return "what it wrote";
  for (size_t at = 0; at < kPageSize; ++at) {
    if (result[at] == arena.data[at]) continue;
    bool expected = false;
    for (unsigned i = 0; i < instruction.accesses; ++i) {
      const MemoryAccess& access = instruction.access[i];
      expected = expected || (access.writes && touches(access, reinterpret_cast<uintptr_t>(arena.data) + at));
    }
    if (!expected) return "where it writes";
  }
  return "";
}

// One byte further it must touch what lies behind the edge, or the access is not as wide as it is said to be.
bool is_as_wide(const uint8_t* code, const Instruction& instruction, Registers state) {
  const MemoryAccess& access = instruction.access[0];
  if (instruction.accesses != 1 || access.mover_shift != 0) return true;
  const bool at_start = access.address % kPageSize == 0;
  state.general[access.mover] += at_start ? ~uint64_t{0} : uint64_t{1};
  return run(code, instruction.length, &state) != 0;
}

Instruction decode(const uint8_t* code, const Registers& state) {
  Frame frame;
  frame.put(state);
  return decode_instruction(code, kLongestInstruction, frame.machine(state, code));
}

// By how much a displacement of one byte moves the operand, as the decoder has it.
unsigned unit_of_displacement(uint8_t* code, const Address& address, const Registers& state) {
  if (address.displacement_bytes != 1) return 1;
  uintptr_t at[2];
  for (const uint8_t displacement : {0, 1}) {
    code[address.displacement_at] = displacement;
    at[displacement] = decode(code, state).access[0].address;
  }
  return static_cast<unsigned>(at[1] - at[0]);
}

// The mask enables nothing: the processor does not touch where the operand would be.
std::string touches_nothing(const Arena& arena, uint8_t* code, unsigned length, const Address& address, Registers state,
                            Random& random, MovedCounts* counts) {
  const uintptr_t nowhere = reinterpret_cast<uintptr_t>(arena.data) - kPageSize + 512;
  aim(address, nowhere, reinterpret_cast<uintptr_t>(code) + length, 1, random, code, &state);
  const int signal = run(code, length, &state);
  if (signal == 0) ++counts->empty;
  return signal == kTouched ? "it touches what its mask leaves out" : "";
}

std::string move_one(const Arena& arena, const Opcode& what, Registers state, Random& random, MovedCounts* counts,
                     std::string* bytes) {
  Address address = any_address(random);
  const std::vector<uint8_t> made = encode(what, &address, random);
  uint8_t* code = arena.code + random() % 512;
  memcpy(code, made.data(), made.size());
  memset(code + made.size(), static_cast<int>(random()), 8);  // a constant, if there is one

  fill_registers(random, &state);
  const bool is_string = what.space == Opcode::legacy && what.map == 0 && what.opcode >= 0xa4 && what.opcode <= 0xaf;
  if (is_string) state.general[1] = 1;  // one step
  Instruction instruction = decode(code, state);
  if (!can_be_run(what, instruction)) return "";
  *bytes = bytes_of(code, instruction.length);
  if (instruction.accesses == 0) return touches_nothing(arena, code, instruction.length, address, state, random, counts);
  const unsigned width = instruction.access[0].width;
  const bool at_end = random() % 2 == 0;
  const uint8_t* target = at_end ? arena.data + kPageSize - width : arena.data;
  if (is_string) {
    state.general[6] = reinterpret_cast<uintptr_t>(target);
    state.general[7] = reinterpret_cast<uintptr_t>(at_end ? arena.data : arena.data + kPageSize - width);
  } else {
    const unsigned unit = what.space == Opcode::evex ? unit_of_displacement(code, address, state) : 1;
    const uintptr_t operand = reinterpret_cast<uintptr_t>(target) - instruction.access[0].before;
    aim(address, operand, reinterpret_cast<uintptr_t>(code) + instruction.length, unit, random, code, &state);
  }
  instruction = decode(code, state);
  // A string of bits goes on elsewhere.
  const bool is_bits = what.space == Opcode::legacy && what.map == 1 && (what.opcode | 0x18) == 0xbb;
  if (is_bits) return "";
  if (!is_string && instruction.access[0].address != reinterpret_cast<uintptr_t>(target)) return "its address";
  for (unsigned i = 0; i < instruction.accesses; ++i) {
    if (instruction.access[i].mover != kNoRegister) continue;
    ++counts->without_mover;
    return "";
  }
  randomize(random, arena.data, 64);
  randomize(random, arena.data + kPageSize - 64, 64);
  memcpy(arena.moved, arena.data, kPageSize);
  const size_t raised = counts->raised;
  const std::string difference = moves(arena, code, instruction, state, counts);
  if (!difference.empty() || counts->raised != raised) return difference;
  counts->masked += what.mask != 0;
  counts->broadcast += what.broadcast;
  return is_as_wide(code, instruction, state) ? "" : "its width";
}

}  // namespace

TEST("A7 an instruction whose operand is moved by a register does the same elsewhere, and touches no other byte") {
  catch_signals();
  const Arena arena;
  Random random(check::seed());
  Registers state = blank_registers();
  // Small numbers, as doubles and as integers: few of them trap.
  for (size_t at = 160; at < 416; at += 8) {
    const double number = static_cast<double>(random() % 1000);
    memcpy(state.vectors + at, &number, sizeof number);
  }
  memset(arena.data, 0, kPageSize);
  MovedCounts counts;
  int failures = 0;
  for_each_opcode([&](const Opcode& what) {
    std::string bytes;
    const std::string difference = failures < 20 ? move_one(arena, what, state, random, &counts, &bytes) : "";
    if (difference.empty()) return;
    ++failures;
    check::report(false, __FILE__, __LINE__, bytes + "differs: " + difference);
  });
  printf("      %zu run, %zu raised, %zu without a mover\n", counts.run, counts.raised, counts.without_mover);
  CHECK(counts.run > 8000);
}

TEST("A7 an instruction with EVEX whose operand is moved does the same, and its mask enables the bytes that it touches") {
  if (!has_avx512()) check::skip("the processor has no AVX-512");
  catch_signals();
  const Arena arena;
  Random random(check::seed());
  Registers state = blank_registers();
  memset(arena.data, 0, kPageSize);
  MovedCounts counts;
  int failures = 0;
  for_each_evex([&](Opcode what) {
    for (const unsigned kind : {0, 1, 2, 3}) {
      what.mask = kind % 2 == 0 ? 0 : 1 + static_cast<unsigned>(random() % 7);
      what.zeroing = what.mask != 0 && random() % 2 == 0;
      what.broadcast = kind > 1;
      randomize(random, state.vectors + 160, 256);
      randomize(random, state.vectors_high, sizeof state.vectors_high);
      randomize(random, state.zmm_high, sizeof state.zmm_high);
      randomize(random, state.more_zmm, sizeof state.more_zmm);
      for (uint64_t& mask : state.masks) mask = random() % 4 == 0 ? random() & random() & random() & random() : any_value(random);
      std::string bytes;
      const std::string difference = failures < 20 ? move_one(arena, what, state, random, &counts, &bytes) : "";
      if (difference.empty()) continue;
      ++failures;
      char mask[40];
      snprintf(mask, sizeof mask, "with a mask of %#lx ", state.masks[what.mask]);
      check::report(false, __FILE__, __LINE__, bytes + mask + "differs: " + difference);
    }
  });
  printf("      %zu run, %zu of them masked, %zu broadcast; %zu with an empty mask, %zu raised, %zu without a mover\n", counts.run,
         counts.masked, counts.broadcast, counts.empty, counts.raised, counts.without_mover);
  CHECK(counts.run > 20'000);
  CHECK(counts.masked > 8000);
  CHECK(counts.broadcast > 4000);
  CHECK(counts.empty > 1000);
}

#endif
