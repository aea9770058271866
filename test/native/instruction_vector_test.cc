// Moves of vector registers against the processor: instructions of every shape run as they are, and then as the fault handler
// would complete them, on a frame that the test makes. All registers, MXCSR and memory must not differ.
#include <cstring>
#include <vector>

#include "fixture.h"
#include "instruction/vector_registers.h"
#include "instruction_run.h"

using namespace revocable;

#if defined(__x86_64__)

namespace {

constexpr uint32_t kMasked = 0x1f80;
constexpr size_t kControl = 24, kXmm = 160, kXmmBytes = 256;
constexpr size_t kMagic = 464, kFeatures = 472, kImageBytes = 480, kHeader = 512;  // <asm/sigcontext.h>
constexpr uint32_t kExtended = 0x46505853, kExtendedEnd = 0x46505845;

constexpr uint8_t kPrefixes[] = {0, 0x66, 0xf3, 0xf2};  // as VEX.pp counts them

struct Shape {
  unsigned map, opcode, prefix;
  bool aligned = false;
  unsigned least = 0, most = 2;  // 0: without VEX, 1: VEX-128, 2: VEX-256
  bool two_sources = false;      // VEX.vvvv is one
  bool wide = false;             // with W only
  const char* needs = "sse2";
};

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (unsigned prefix = 0; prefix < 4; ++prefix) {
    for (const unsigned opcode : {0x10u, 0x11u}) all.push_back({.map = 1, .opcode = opcode, .prefix = prefix});
  }
  for (unsigned prefix = 0; prefix < 2; ++prefix) {
    for (const unsigned opcode : {0x28u, 0x29u, 0x2bu})
      all.push_back({.map = 1, .opcode = opcode, .prefix = prefix, .aligned = true});
    for (const unsigned opcode : {0x12u, 0x16u})
      all.push_back({.map = 1, .opcode = opcode, .prefix = prefix, .most = 1, .two_sources = true});
    for (const unsigned opcode : {0x13u, 0x17u}) all.push_back({.map = 1, .opcode = opcode, .prefix = prefix, .most = 1});
    for (const unsigned opcode : {0x6fu, 0x7fu})
      all.push_back({.map = 1, .opcode = opcode, .prefix = prefix + 1, .aligned = prefix == 0});
    for (const unsigned opcode : {0x6eu, 0x7eu}) {
      all.push_back({.map = 1, .opcode = opcode, .prefix = 1, .most = 1, .wide = prefix == 0});
    }
  }
  all.push_back({.map = 1, .opcode = 0x7e, .prefix = 2, .most = 1});
  all.push_back({.map = 1, .opcode = 0xd6, .prefix = 1, .most = 1});
  all.push_back({.map = 1, .opcode = 0xe7, .prefix = 1, .aligned = true});
  all.push_back({.map = 1, .opcode = 0xf0, .prefix = 3, .needs = "sse3"});
  all.push_back({.map = 1, .opcode = 0x12, .prefix = 3, .most = 1, .needs = "sse3"});
  all.push_back({.map = 2, .opcode = 0x2a, .prefix = 1, .aligned = true, .most = 1, .needs = "sse4.1"});
  all.push_back({.map = 2, .opcode = 0x2a, .prefix = 1, .aligned = true, .least = 2, .needs = "avx2"});
  for (const unsigned prefix : {2u, 3u}) {
    for (const unsigned opcode : {0x58u, 0x59u, 0x5au, 0x5cu, 0x5eu})
      all.push_back({.map = 1, .opcode = opcode, .prefix = prefix, .two_sources = true});
    all.push_back({.map = 1, .opcode = 0x2b, .prefix = prefix, .most = 0, .needs = "sse4a"});
  }
  all.push_back({.map = 2, .opcode = 0x18, .prefix = 1, .least = 1});
  all.push_back({.map = 2, .opcode = 0x19, .prefix = 1, .least = 2});
  all.push_back({.map = 2, .opcode = 0x1a, .prefix = 1, .least = 2});
  all.push_back({.map = 2, .opcode = 0x5a, .prefix = 1, .least = 2, .needs = "avx2"});
  for (const unsigned opcode : {0x58u, 0x59u, 0x78u, 0x79u})
    all.push_back({.map = 2, .opcode = opcode, .prefix = 1, .least = 1, .needs = "avx2"});
  return all;
}

bool supported(const Shape& shape) {
  const std::string needs = shape.needs;
  if (needs == "sse3") return __builtin_cpu_supports("sse3");
  if (needs == "sse4.1") return __builtin_cpu_supports("sse4.1");
  if (needs == "sse4a") return __builtin_cpu_supports("sse4a");
  if (needs == "avx2") return __builtin_cpu_supports("avx2");
  return true;
}

struct Made {
  std::vector<uint8_t> code;
  Address address;
};

Made make(const Shape& shape, Random& random) {
  Made made{.code = {}, .address = any_address(random)};
  const Address& address = made.address;
  const unsigned reg = random() % 16;
  const unsigned x = address.index != kNoRegister ? address.index >> 3 : 0;
  const unsigned b = address.base != kNoRegister ? address.base >> 3 : 0;
  const unsigned kind = shape.least + random() % (shape.most - shape.least + 1);
  const unsigned w = shape.wide ? 1 : 0;
  if (kind > 0 && !has_avx()) return {};
  const auto put = [&made](unsigned byte) { made.code.push_back(static_cast<uint8_t>(byte)); };
  if (kind == 0) {
    if (kPrefixes[shape.prefix] != 0) put(kPrefixes[shape.prefix]);
    put(0x40 | w << 3 | (reg >> 3) << 2 | x << 1 | b);
    put(0x0f);
    if (shape.map == 2) put(0x38);
  } else {
    const unsigned vector = shape.two_sources ? random() % 16 : 0;
    const unsigned end = (~vector & 15) << 3 | (kind - 1) << 2 | shape.prefix;
    const unsigned r = (~reg >> 3 & 1) << 7;
    if (x == 0 && b == 0 && w == 0 && shape.map == 1 && random() % 2 == 0) {
      put(0xc5);
      put(r | end);
    } else {
      put(0xc4);
      put(r | (~x & 1) << 6 | (~b & 1) << 5 | shape.map);
      put(w << 7 | end);
    }
  }
  put(shape.opcode);
  append(&made.code, reg, &made.address);
  return made;
}

// Runs it both ways. What differs, or nothing.
std::string differs(const Arena& arena, const Made& made, const uint8_t* code, Registers state, Random& random) {
  Frame frame;
  frame.put(state);
  for (const unsigned component : {1u, 2u, 6u, 7u}) {
    if (has_avx() && random() % 4 == 0) frame.forget(component, &state, random);
  }
  MachineContext machine = frame.machine(state, code);
  const Instruction instruction = decode_instruction(code, kLongestInstruction, machine);
  if (!moves_vector(instruction, machine) || instruction.accesses != 1) return "not emulated";
  if (instruction.length != made.code.size()) return "its length";
  const MemoryAccess& access = instruction.access[0];
  const size_t at = access.address - reinterpret_cast<uintptr_t>(arena.data);
  if (access.width > kWidestVector || at > kPageSize - access.width) return "its address";
  uint8_t* expected = arena.moved;
  memcpy(expected, arena.data, kPageSize);
  if (access.reads) {
    // Of exactly this width: asan sees what is read beyond it.
    const std::vector<uint8_t> read(arena.data + at, arena.data + at + access.width);
    load_vector(machine, instruction, read.data());
  } else {
    std::vector<uint8_t> written(access.width);
    store_vector(machine, instruction, written.data());
    memcpy(expected + at, written.data(), access.width);
  }
  step_over(machine, instruction);

  const int signal = run(code, instruction.length, &state);
  if (signal != 0) return "it cannot be run: " + std::to_string(signal);
  if (memcmp(expected, arena.data, kPageSize) != 0) return "memory";
  if (machine.pc() != reinterpret_cast<uintptr_t>(code) + made.code.size()) return "the program counter";
  for (unsigned i = 0; i < 16; ++i) {
    if (i != kRsp && machine.general(i) != state.general[i]) return "register " + std::to_string(i);
  }
  if (((machine.flags() ^ state.flags) & kStatusFlags) != 0) return "flags";
  return frame.differs(state);
}

// Numbers that arithmetic and conversions round, overflow, underflow or refuse.
uint64_t any_number(Random& random) {
  const uint64_t bits = random();
  const auto both = [](uint32_t word) { return uint64_t{word} << 32 | word; };
  switch (random() % 8) {
    case 0: return both(0x7f800000 | (bits & 0x807fffff & -(bits >> 63)));             // infinities and NaNs
    case 1: return both(static_cast<uint32_t>(bits & 0x807fffff));                     // denormal floats
    case 2: return bits & 0x800fffffffffffff;                                          // denormal doubles
    case 3: return (bits & 0x800fffffffffffff) | (0x380 - 30 + bits / 64 % 60) << 52;  // small as floats
    case 4: return (bits & 0x800fffffffffffff) | (0x47e - 2 + bits / 64 % 4) << 52;    // large as floats
    case 5: return (bits & 0x800fffffffffffff) | 0x7ff0000000000000;                   // NaNs
    default: return bits;
  }
}

void randomize_vectors(Random& random, Registers* state) {
  randomize(random, state->vectors + kXmm, kXmmBytes);
  for (size_t at = kXmm; at < kXmm + kXmmBytes; at += 16) {
    const uint64_t number = any_number(random);
    if (random() % 2 == 0) memcpy(state->vectors + at, &number, sizeof number);
  }
  if (has_avx()) randomize(random, state->vectors_high, sizeof state->vectors_high);
  // Any rounding, flags already set, denormals as zeros, and results flushed to zero.
  const uint32_t control = kMasked | static_cast<uint32_t>(random() & 0xe07f);
  memcpy(state->vectors + kControl, &control, sizeof control);
}

}  // namespace

TEST("A7 an emulated move leaves vector registers, MXCSR and memory as the processor does") {
  catch_signals();
  const Arena arena;
  Random random(check::seed());
  const std::vector<Shape> all = shapes();
  std::vector<size_t> counts(all.size());
  Registers state = blank_registers();
  memset(arena.data, 0, kPageSize);
  const int rounds = check::rounds(400'000);
  int failures = 0;
  for (int round = 0; round < rounds && failures < 20; ++round) {
    const size_t number = random() % all.size();
    const Shape& shape = all[number];
    if (!supported(shape)) continue;
    const Made made = make(shape, random);
    if (made.code.empty()) continue;
    uint8_t* code = arena.code + random() % 512;
    memcpy(code, made.code.data(), made.code.size());
    fill_registers(random, &state);
    randomize_vectors(random, &state);
    for (size_t at = 1024; at < 1216; at += 8) {
      const uint64_t value = random() % 2 == 0 ? any_number(random) : any_value(random);
      memcpy(arena.data + at, &value, sizeof value);
    }
    // Half of them aligned, so that arithmetic often finds one of the numbers above.
    const bool aligned = shape.aligned || random() % 2 == 0;
    const uintptr_t target = reinterpret_cast<uintptr_t>(arena.data + 1024 + (aligned ? random() % 4 * 32 : random() % 64));
    aim(made.address, target, reinterpret_cast<uintptr_t>(code) + made.code.size(), 1, random, code, &state);
    const std::string what = differs(arena, made, code, state, random);
    ++counts[number];
    if (what.empty()) continue;
    ++failures;
    check::report(false, __FILE__, __LINE__, bytes_of(code, made.code.size()) + "differs: " + what);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    const bool runs = supported(all[i]) && (all[i].least == 0 || has_avx());
    if (runs) CHECK(counts[i] > static_cast<size_t>(rounds) / 200);
  }
}

TEST("A7 a move is not emulated on a frame that lacks the registers, nor arithmetic that may raise a signal") {
  const uint8_t movups[] = {0x0f, 0x10, 0x07}, vmovups[] = {0xc5, 0xf8, 0x10, 0x07}, cvtss2sd[] = {0xf3, 0x0f, 0x5a, 0x07};
  const auto moves = [](Frame& frame, const uint8_t* code, size_t bytes) {
    const MachineContext machine = frame.machine(blank_registers(), code);
    return moves_vector(decode_instruction(code, bytes, machine), machine);
  };
  Frame frame;
  frame.put(blank_registers());
  CHECK(moves(frame, movups, sizeof movups));
  CHECK(moves(frame, cvtss2sd, sizeof cvtss2sd));
  CHECK_EQ(moves(frame, vmovups, sizeof vmovups), has_avx());
  for (unsigned exception = 7; exception < 13; ++exception) {
    const uint32_t control = kMasked & ~(1u << exception);
    memcpy(frame.image + kControl, &control, sizeof control);
    CHECK(!moves(frame, cvtss2sd, sizeof cvtss2sd));
    CHECK(moves(frame, movups, sizeof movups));
  }
  frame.image[kFeatures] = 3;
  CHECK(moves(frame, movups, sizeof movups));
  CHECK(!moves(frame, vmovups, sizeof vmovups));
  frame.put(blank_registers());
  const uint32_t bytes = g_vector_layout.ymm + 255;  // too short by one
  memcpy(frame.image + kImageBytes, &bytes, sizeof bytes);
  memcpy(frame.image + bytes, &kExtendedEnd, sizeof kExtendedEnd);
  CHECK(!moves(frame, vmovups, sizeof vmovups));
  frame.put(blank_registers());
  memset(frame.image + Frame::kImage, 0, 4);  // no second magic
  CHECK(!moves(frame, vmovups, sizeof vmovups));
  memset(frame.image + kMagic, 0, 48);
  CHECK(moves(frame, movups, sizeof movups));
  CHECK(!moves(frame, vmovups, sizeof vmovups));
  ucontext_t none{};
  const MachineContext machine = context_of(&none, blank_registers(), movups);
  CHECK(!moves_vector(decode_instruction(movups, sizeof movups, machine), machine));
}

TEST("A7 a load with VEX clears the upper half of zmm, and one without keeps it") {
  const VectorLayout real = g_vector_layout;
  g_vector_layout = {576, 1152, 1664, 1088};                                          // as most processors with AVX-512 have it
  const uint8_t movups[] = {0x0f, 0x10, 0x0f}, vmovups[] = {0xc5, 0xfc, 0x10, 0x0f};  // to register 1
  const uint8_t read[kWidestVector] = {1, 2, 3};
  for (const bool used : {false, true}) {
    Frame frame;
    const uint32_t magic = kExtended;
    const uint64_t features = 0xe7;
    const uint32_t bytes = 2688;
    memcpy(frame.image + kMagic, &magic, sizeof magic);
    memcpy(frame.image + kFeatures, &features, sizeof features);
    memcpy(frame.image + kImageBytes, &bytes, sizeof bytes);
    memcpy(frame.image + bytes, &kExtendedEnd, sizeof kExtendedEnd);
    frame.image[kHeader] = used ? 0x47 : 7;
    memset(frame.image + 1152, 0x5a, 512);
    const uint8_t* high = frame.image + 1152 + 32;
    MachineContext machine = frame.machine(blank_registers(), movups);
    load_vector(machine, decode_instruction(movups, sizeof movups, machine), read);
    CHECK_EQ(high[0], 0x5a);
    machine = frame.machine(blank_registers(), vmovups);
    load_vector(machine, decode_instruction(vmovups, sizeof vmovups, machine), read);
    for (int i = 0; i < 32; ++i) CHECK_EQ(high[i], used ? 0 : 0x5a);
    CHECK_EQ(high[-1], 0x5a);
    CHECK_EQ(high[32], 0x5a);
    CHECK_EQ(frame.image[kHeader], used ? 0x47 : 7);
    CHECK_EQ(frame.image[160 + 16 + 2], 3);
  }
  g_vector_layout = real;
}

#endif
