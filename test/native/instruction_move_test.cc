// The decoder against the processor: each instruction of the table runs where it is, and then with its operand moved by the
// register that is said to move it. Nothing must differ, and no byte be touched but those that are said to be.
#include <cstring>
#include <vector>

#include "fixture.h"
#include "instruction_opcodes.h"

using namespace revocable;

#if defined(__x86_64__)

namespace {

struct MovedCounts {
  size_t run = 0, raised = 0, without_mover = 0, masked = 0, broadcast = 0, empty = 0;
};

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
  if (is_string(what)) state.general[1] = 1;  // one step
  Instruction instruction = decode(code, state);
  if (!can_be_run(what, instruction)) return "";
  *bytes = bytes_of(code, instruction.length);
  if (instruction.accesses == 0) return touches_nothing(arena, code, instruction.length, address, state, random, counts);
  const unsigned width = instruction.access[0].width;
  const bool at_end = random() % 2 == 0;
  const uint8_t* target = at_end ? arena.data + kPageSize - width : arena.data;
  if (is_string(what)) {
    state.general[6] = reinterpret_cast<uintptr_t>(target);
    state.general[7] = reinterpret_cast<uintptr_t>(at_end ? arena.data : arena.data + kPageSize - width);
  } else {
    const unsigned unit = unit_of_displacement(what, code, address, state);
    const uintptr_t operand = reinterpret_cast<uintptr_t>(target) - instruction.access[0].before;
    aim(address, operand, reinterpret_cast<uintptr_t>(code) + instruction.length, unit, random, code, &state);
  }
  instruction = decode(code, state);
  if (is_string_of_bits(what)) return "";
  if (!is_string(what) && instruction.access[0].address != reinterpret_cast<uintptr_t>(target)) return "its address";
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
  memset(arena.data, 0, kPageSize);
  MovedCounts counts;
  int failures = 0;
  for_each_opcode([&](const Opcode& what) {
    randomize_vectors(random, what, &state);
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
      if (left_out(random)) continue;
      randomize_vectors(random, what, &state);
      std::string bytes;
      const std::string difference = failures < 20 ? move_one(arena, what, state, random, &counts, &bytes) : "";
      if (difference.empty()) continue;
      ++failures;
      char mask[40];
      snprintf(mask, sizeof mask, "with a mask of %#lx ", state.masks[what.mask]);
      check::report(false, __FILE__, __LINE__, bytes + mask + "differs: " + difference);
    }
  });
  printf("      %zu run, %zu of them masked, %zu broadcast; %zu with an empty mask, %zu raised, %zu without a mover\n",
         counts.run, counts.masked, counts.broadcast, counts.empty, counts.raised, counts.without_mover);
  CHECK(counts.run > left_in(20'000));
  CHECK(counts.masked > left_in(8000));
  CHECK(counts.broadcast > left_in(4000));
  CHECK(counts.empty > left_in(1000));
}

#endif
