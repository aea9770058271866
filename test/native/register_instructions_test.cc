// Every instruction that is known, on memory and on registers behind a model that holds what is written to it. Registers, flags
// and content must not differ, and the model must see each byte that is accessed once, in naturally aligned pieces.
#include <signal.h>

#include <cstring>
#include <vector>

#include "base/counters.h"
#include "instruction_opcodes.h"
#include "register_fixture.h"

#if defined(__x86_64__)

using namespace revocable;

namespace {

constexpr size_t kPage = 4096;  // of every x86-64

// What it holds, and how often each byte of it was read and written. Called in the fault handler, one access at a time.
struct Holding {
  uint8_t held[kPage] = {};
  uint8_t reads[kPage] = {}, writes[kPage] = {};
  bool unaligned = false;

  void note(uint8_t* counts, uint64_t offset, uint32_t width) {
    unaligned = unaligned || width > 8 || offset % width != 0;
    for (uint32_t i = 0; i < width; ++i) ++counts[offset + i];
  }
  static uint64_t read(void* context, uint64_t offset, uint32_t width) {
    auto* self = static_cast<Holding*>(context);
    uint64_t value = 0;
    memcpy(&value, self->held + offset, width);
    self->note(self->reads, offset, width);
    return value;
  }
  static void write(void* context, uint64_t offset, uint32_t width, uint64_t value) {
    auto* self = static_cast<Holding*>(context);
    memcpy(self->held + offset, &value, width);
    self->note(self->writes, offset, width);
  }
};

struct Counts {
  size_t run = 0, masked = 0, left_out = 0;
};

struct Bench {
  Arena arena;
  Holding holding;
  RegisterModel model{Holding::read, Holding::write, &holding};
  RegisterDevice device{&model};
  Counts counts;
};

// Where in its page the operand begins that a mask reduces to `access`: aligned or not, and often at an edge.
size_t any_place(const MemoryAccess& access, Random& random) {
  switch (random() % 4) {
    case 0: return 0;
    case 1: return kPage - access.width;
    case 2: return 1024 + access.before % 64 + random() % 4 * 64;  // the operand is aligned
    default: return 1024 + random() % 256;
  }
}

std::string accesses_differ(const Holding& holding, const Instruction& instruction, uintptr_t page) {
  if (holding.unaligned) return "a piece of its access";
  Holding expected;
  for (unsigned i = 0; i < instruction.accesses; ++i) {
    const MemoryAccess& access = instruction.access[i];
    for (size_t at = access.address - page; at < access.address - page + access.width; ++at) {
      if (!touches(access, page + at)) continue;
      expected.reads[at] += access.reads;
      expected.writes[at] += access.writes;
    }
  }
  if (memcmp(holding.reads, expected.reads, kPage) != 0) return "how often the model was read";
  // A comparison that fails writes nothing.
  const uint8_t none[kPage] = {};
  const bool may_fail = instruction.emulated && instruction.access[0].reads && memcmp(holding.writes, none, kPage) == 0;
  return may_fail || memcmp(holding.writes, expected.writes, kPage) == 0 ? "" : "how often the model was written";
}

// Runs it on memory, and then with its operands moved to registers that hold the same.
std::string differs(Bench& bench, const uint8_t* code, const Instruction& instruction, const Registers& start) {
  const uintptr_t page = reinterpret_cast<uintptr_t>(bench.arena.data);
  const intptr_t distance = reinterpret_cast<intptr_t>(bench.device.at()) - static_cast<intptr_t>(page);
  memcpy(bench.holding.held, bench.arena.data, kPage);
  memset(bench.holding.reads, 0, kPage);
  memset(bench.holding.writes, 0, kPage);
  bench.holding.unaligned = false;
  Registers original = start, moved = start;
  if (run(code, instruction.length, &original) != 0 || !kept_stack()) {
    ++bench.counts.left_out;
    return "";
  }
  const auto change = [&](const MemoryAccess& access) { return static_cast<uint64_t>(distance >> access.mover_shift); };
  for (unsigned i = 0; i < instruction.accesses; ++i) moved.general[instruction.access[i].mover] += change(instruction.access[i]);
  const uint64_t refused = g_counters.accesses_refused.load();
  const int signal = run(code, instruction.length, &moved);
  if (g_counters.accesses_refused.load() != refused) return "it is refused";
  if (signal != 0) return "it raises " + std::to_string(signal);
  for (unsigned i = 0; i < instruction.accesses; ++i) {
    const MemoryAccess& access = instruction.access[i];
    if (!access.mover_overwritten) moved.general[access.mover] -= change(access);
  }
  for (unsigned i = 0; i < 16; ++i) {
    if (i != kRsp && original.general[i] != moved.general[i]) return "register " + std::to_string(i);
  }
  if (((original.flags ^ moved.flags) & kStatusFlags) != 0) return "flags";
  const std::string vectors = vectors_differ(original, moved);
  if (!vectors.empty()) return vectors;
  if (memcmp(bench.holding.held, bench.arena.data, kPage) != 0) return "what is written";
  ++bench.counts.run;
  return accesses_differ(bench.holding, instruction, page);
}

std::string try_one(Bench& bench, const Opcode& what, Random& random, std::string* bytes) {
  const Arena& arena = bench.arena;
  Address address = any_address(random);
  const std::vector<uint8_t> made = encode(what, &address, random);
  uint8_t* code = arena.code + random() % 512;
  memcpy(code, made.data(), made.size());
  memset(code + made.size(), static_cast<int>(random()), 8);
  Registers state = blank_registers();
  fill_registers(random, &state);
  randomize_vectors(random, what, &state);
  if (is_string(what)) state.general[1] = 1;
  Instruction instruction = decode(code, state);
  if (!can_be_run(what, instruction) || instruction.accesses == 0 || is_string_of_bits(what)) return "";
  *bytes = bytes_of(code, instruction.length);
  const MemoryAccess access = instruction.access[0];
  const uintptr_t page = reinterpret_cast<uintptr_t>(arena.data);
  const uintptr_t target = page + any_place(access, random);
  if (is_string(what)) {
    state.general[6] = target;
    state.general[7] = page + 2048 - random() % 64;
  } else {
    const unsigned unit = unit_of_displacement(what, code, address, state);
    aim(address, target - access.before, reinterpret_cast<uintptr_t>(code) + instruction.length, unit, random, code, &state);
  }
  instruction = decode(code, state);
  for (unsigned i = 0; i < instruction.accesses; ++i) {
    if (instruction.access[i].mover == kNoRegister) return "";
  }
  randomize(random, arena.data, kPage);
  const size_t run_before = bench.counts.run;
  const std::string difference = differs(bench, code, instruction, state);
  bench.counts.masked += what.mask != 0 && bench.counts.run != run_before;
  return difference;
}

void report(const std::string& bytes, const std::string& difference, int* failures) {
  if (difference.empty()) return;
  ++*failures;
  check::report(false, __FILE__, __LINE__, bytes + "differs: " + difference);
}

}  // namespace

TEST("registers: every instruction that is known does on registers what it does on memory, each byte once") {
  catch_signals();
  Bench bench;
  Random random(check::seed());
  int failures = 0;
  for_each_opcode([&](const Opcode& what) {
    if (left_out(random)) return;
    std::string bytes;
    const std::string difference = failures < 20 ? try_one(bench, what, random, &bytes) : "";
    report(bytes, difference, &failures);
  });
  printf("      %zu run, %zu raise something on memory already, or change rsp\n", bench.counts.run, bench.counts.left_out);
  CHECK(bench.counts.run > left_in(8000));
}

TEST("registers: every instruction with EVEX does on registers what it does on memory, under any mask") {
  if (!has_avx512()) check::skip("the processor has no AVX-512");
  catch_signals();
  Bench bench;
  Random random(check::seed());
  int failures = 0;
  for_each_evex([&](Opcode what) {
    for (const unsigned kind : {0, 1, 1, 2, 3}) {
      what.mask = kind % 2 == 0 ? 0 : 1 + static_cast<unsigned>(random() % 7);
      what.zeroing = what.mask != 0 && random() % 2 == 0;
      what.broadcast = kind > 1;
      if (left_out(random)) continue;
      std::string bytes;
      const std::string difference = failures < 20 ? try_one(bench, what, random, &bytes) : "";
      report(bytes, difference, &failures);
    }
  });
  printf("      %zu run, %zu of them masked; %zu raise something on memory already, or change rsp\n", bench.counts.run,
         bench.counts.masked, bench.counts.left_out);
  CHECK(bench.counts.run > left_in(20'000));
  CHECK(bench.counts.masked > left_in(8000));
}

#endif
