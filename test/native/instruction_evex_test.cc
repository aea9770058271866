// Moves of vectors with EVEX, under every mask, against the processor: each runs as it is, and then as the fault handler would
// complete it, on a frame that the test makes. All registers and memory must not differ.
#include <bit>
#include <cstring>
#include <vector>

#include "fixture.h"
#include "instruction/vector_registers.h"
#include "instruction_run.h"

using namespace revocable;

#if defined(__x86_64__)

namespace {

constexpr size_t kXmm = 160;

// Moves between memory and a register, as both are, and the bytes of their elements; 0: they take no mask.
struct Shape {
  unsigned map, opcode, pp, w, element;
  bool stores = false, aligned = false, zmm_only = false;
  unsigned operand = 0;  // bytes, whatever the length; 0: as many as the register has
  bool two_sources = false;
};

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const bool stores : {false, true}) {
    const unsigned by = stores ? 1 : 0;
    for (unsigned w = 0; w < 2; ++w) {
      const unsigned element = w == 0 ? 4 : 8;
      all.push_back({1, 0x10 + by, w, w, element, stores});              // vmovups, vmovupd
      all.push_back({1, 0x28 + by, w, w, element, stores, true});        // vmovaps, vmovapd
      all.push_back({1, 0x6f + by * 16, 1, w, element, stores, true});   // vmovdqa32, vmovdqa64
      all.push_back({1, 0x6f + by * 16, 2, w, element, stores, false});  // vmovdqu32, vmovdqu64
      all.push_back({1, 0x6f + by * 16, 3, w, w + 1, stores, false});    // vmovdqu8, vmovdqu16
      all.push_back(
          {.map = 1, .opcode = 0x10 + by, .pp = 2 + w, .w = w, .element = element, .stores = stores, .operand = element});
    }
    all.push_back({.map = 1,
                   .opcode = stores ? 0xd6u : 0x7eu,
                   .pp = stores ? 1u : 2u,
                   .w = 1,
                   .element = 0,
                   .stores = stores,
                   .operand = 8});
    all.push_back({.map = 1, .opcode = stores ? 0x7eu : 0x6eu, .pp = 1, .w = 0, .element = 0, .stores = stores, .operand = 4});
    for (const unsigned opcode : {0x12u, 0x16u})  // vmovlps, vmovhps: they take the other half from another register
      all.push_back({.map = 1,
                     .opcode = opcode + by,
                     .pp = 0,
                     .w = 0,
                     .element = 0,
                     .stores = stores,
                     .operand = 8,
                     .two_sources = !stores});
  }
  all.push_back({1, 0xe7, 1, 0, 0, true, true});   // vmovntdq
  all.push_back({1, 0x2b, 0, 0, 0, true, true});   // vmovntps
  all.push_back({2, 0x2a, 1, 0, 0, false, true});  // vmovntdqa
  return all;
}

struct Case {
  Shape shape;
  unsigned length = 0, mask_register = 0;
  bool zeroing = false;
  unsigned operand() const { return shape.operand != 0 ? shape.operand : 16u << length; }
  unsigned elements() const { return shape.element == 0 ? 0 : operand() / shape.element; }
};

struct Made {
  std::vector<uint8_t> code;
  Address address;
};

Made make(const Case& made_of, Random& random) {
  const Shape& shape = made_of.shape;
  Made made{.code = {}, .address = any_address(random)};
  const Address& address = made.address;
  const unsigned reg = random() % 32, vector = shape.two_sources ? random() % 32 : 0;
  const unsigned x = address.index != kNoRegister ? address.index >> 3 : 0;
  const unsigned b = address.base != kNoRegister ? address.base >> 3 : 0;
  const unsigned first = (~reg & 8) << 4 | (~x & 1) << 6 | (~b & 1) << 5 | (~reg & 16) | shape.map;
  const unsigned second = shape.w << 7 | (~vector & 15) << 3 | 4 | shape.pp;
  const unsigned third = (made_of.zeroing ? 0x80u : 0) | made_of.length << 5 | (~vector & 16) >> 1 | made_of.mask_register;
  for (const unsigned byte : {0x62u, first, second, third, shape.opcode}) made.code.push_back(static_cast<uint8_t>(byte));
  append(&made.code, reg & 7, &made.address);
  return made;
}

uint64_t lowest(unsigned bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

// None, all, one, a run from the beginning as memset has them, and any.
uint64_t any_mask(unsigned elements, Random& random) {
  switch (random() % 5) {
    case 0: return 0;
    case 1: return ~uint64_t{0};
    case 2: return uint64_t{1} << random() % elements;
    case 3: return lowest(static_cast<unsigned>(random()) % (elements + 1));
    default: return random();
  }
}

void randomize_vectors(Random& random, Registers* state) {
  randomize(random, state->vectors + kXmm, 256);
  randomize(random, state->vectors_high, sizeof state->vectors_high);
  randomize(random, state->zmm_high, sizeof state->zmm_high);
  randomize(random, state->more_zmm, sizeof state->more_zmm);
  for (uint64_t& mask : state->masks) mask = random();
}

// What the access must be, from the mask alone.
bool is_as_enabled(const Instruction& instruction, const Case& made, uint64_t mask, uintptr_t target) {
  if (made.mask_register == 0) mask = ~uint64_t{0};
  uint64_t bytes = 0;
  if (made.elements() == 0 || made.mask_register == 0) bytes = lowest(made.operand());
  for (unsigned i = 0; i < made.elements() && made.mask_register != 0; ++i) {
    if ((mask >> i & 1) != 0) bytes |= lowest(made.shape.element) << i * made.shape.element;
  }
  if (bytes == 0) return instruction.accesses == 0;
  const MemoryAccess& access = instruction.access[0];
  const unsigned before = static_cast<unsigned>(std::countr_zero(bytes));
  const unsigned width = static_cast<unsigned>(std::bit_width(bytes)) - before;
  return instruction.accesses == 1 && access.before == before && access.width == width && access.address == target + before &&
         access.behind == made.operand() - before - width && ((access.enabled ^ bytes >> before) & lowest(width)) == 0 &&
         access.writes == made.shape.stores && access.reads != access.writes;
}

// Runs it both ways. What differs, or nothing. `beside`: the operand begins before the page, or ends behind it, with bytes that
// are not enabled; what is there may not be touched.
std::string differs(const Arena& arena, const Case& what, const Made& made, const uint8_t* code, Registers state,
                    uintptr_t target, Random& random) {
  const uint64_t mask = state.masks[what.mask_register];
  Frame frame;
  frame.put(state);
  for (const unsigned component : {1u, 2u, 6u, 7u}) {
    if (random() % 4 == 0) frame.forget(component, &state, random);
  }
  MachineContext machine = frame.machine(state, code);
  const Instruction instruction = decode_instruction(code, kLongestInstruction, machine);
  if (!moves_vector(instruction, machine)) return "not emulated";
  if (instruction.length != made.code.size()) return "its length";
  if (!is_as_enabled(instruction, what, mask, target)) return "its access";
  uint8_t* expected = arena.moved;
  memcpy(expected, arena.data, kPageSize);
  const MemoryAccess& access = instruction.access[0];
  const size_t at = access.address - reinterpret_cast<uintptr_t>(arena.data);
  if (instruction.accesses == 1) {
    if (at > kPageSize - access.width) return "its address";
    if (access.reads) {
      // Of exactly this width: asan sees what is read beyond it. What is not enabled is something else.
      std::vector<uint8_t> read(arena.data + at, arena.data + at + access.width);
      for (unsigned i = 0; i < access.width; ++i) {
        if ((access.enabled >> i & 1) == 0) read[i] = static_cast<uint8_t>(~read[i]);
      }
      load_vector(machine, instruction, read.data());
    } else {
      std::vector<uint8_t> written(access.width);
      store_vector(machine, instruction, written.data());
      for (unsigned i = 0; i < access.width; ++i) {
        if ((access.enabled >> i & 1) != 0) expected[at + i] = written[i];
      }
    }
    step_over(machine, instruction);
  }
  const int signal = run(code, instruction.length, &state);
  if (signal != 0) return "it cannot be run: " + std::to_string(signal);
  if (memcmp(expected, arena.data, kPageSize) != 0) return "memory";
  // One that makes no access never comes to the handler: nothing has been done for it.
  if (instruction.accesses == 0) return "";
  if (machine.pc() != reinterpret_cast<uintptr_t>(code) + made.code.size()) return "the program counter";
  for (unsigned i = 0; i < 16; ++i) {
    if (i != kRsp && machine.general(i) != state.general[i]) return "register " + std::to_string(i);
  }
  if (((machine.flags() ^ state.flags) & kStatusFlags) != 0) return "flags";
  return frame.differs(state);
}

// Where the operand is: anywhere in the page, or so that the bytes that the mask enables end or begin where the page does.
uintptr_t any_target(const Arena& arena, const Case& what, uint64_t mask, Random& random) {
  const uintptr_t page = reinterpret_cast<uintptr_t>(arena.data);
  const unsigned unit = what.shape.aligned ? what.operand() : 1;
  const uintptr_t inside = page + 1024 + random() % 64 / unit * unit;
  const uint64_t bits = mask & lowest(what.elements());
  if (what.mask_register == 0 || bits == 0 || what.shape.aligned || random() % 2 == 0) return inside;
  const unsigned first = static_cast<unsigned>(std::countr_zero(bits)) * what.shape.element;
  const unsigned end = static_cast<unsigned>(std::bit_width(bits)) * what.shape.element;
  return random() % 2 == 0 ? page - first : page + kPageSize - end;
}

struct Failures {
  int count = 0;
};

void try_case(const Arena& arena, const Case& what, uint64_t mask, Random& random, Failures* failures) {
  if (failures->count >= 20) return;
  const Made made = make(what, random);
  uint8_t* code = arena.code + random() % 512;
  memcpy(code, made.code.data(), made.code.size());
  Registers state = blank_registers();
  fill_registers(random, &state);
  randomize_vectors(random, &state);
  if (what.mask_register != 0) state.masks[what.mask_register] = mask;
  randomize(random, arena.data, kPageSize);
  const uintptr_t target = any_target(arena, what, mask, random);
  aim(made.address, target, reinterpret_cast<uintptr_t>(code) + made.code.size(), what.operand(), random, code, &state);
  const std::string difference = differs(arena, what, made, code, state, target, random);
  if (difference.empty()) return;
  ++failures->count;
  char text[64];
  snprintf(text, sizeof text, "with a mask of %#lx differs: ", mask);
  check::report(false, __FILE__, __LINE__, bytes_of(code, made.code.size()) + text + difference);
}

}  // namespace

TEST("A7 an emulated move with EVEX does what the processor does, under any mask, merging and zeroing") {
  if (!has_avx512()) check::skip("the processor has no AVX-512");
  catch_signals();
  const Arena arena;
  Random random(check::seed());
  Failures failures;
  const std::vector<Shape> all = shapes();
  const int rounds = check::rounds(200'000);
  for (int round = 0; round < rounds; ++round) {
    Case what{.shape = all[random() % all.size()], .length = static_cast<unsigned>(random() % 3)};
    if (what.shape.operand != 0) what.length = 0;
    if (what.shape.element != 0) what.mask_register = random() % 8;
    what.zeroing = what.mask_register != 0 && !what.shape.stores && random() % 2 == 0;
    const uint64_t mask = what.mask_register == 0 ? 0 : any_mask(what.elements(), random);
    try_case(arena, what, mask, random, &failures);
  }
  CHECK_EQ(failures.count, 0);
}

TEST("A7 an emulated move with EVEX does what the processor does under each mask of up to 8 bits, and of each run of 64") {
  if (!has_avx512()) check::skip("the processor has no AVX-512");
  catch_signals();
  const Arena arena;
  Random random(check::seed());
  Failures failures;
  for (const Shape& shape : shapes()) {
    for (unsigned length = 0; length < (shape.operand == 0 ? 3u : 1u); ++length) {
      for (const bool zeroing : {false, true}) {
        const Case what{
            .shape = shape, .length = length, .mask_register = 1 + static_cast<unsigned>(random() % 7), .zeroing = zeroing};
        if (what.elements() == 0 || (zeroing && shape.stores)) continue;
        if (what.elements() <= 8) {
          for (uint64_t mask = 0; mask < 1u << what.elements(); ++mask) try_case(arena, what, mask, random, &failures);
          continue;
        }
        for (unsigned first = 0; first < what.elements(); ++first) {
          for (unsigned bits = 1; bits <= what.elements() - first; ++bits)
            try_case(arena, what, lowest(bits) << first, random, &failures);
        }
      }
    }
  }
  CHECK_EQ(failures.count, 0);
}

TEST("A7 a move with EVEX is not emulated on a frame that lacks its registers") {
  const VectorLayout real = g_vector_layout;
  g_vector_layout = {576, 1152, 1664, 1088};
  const uint8_t plain[] = {0x62, 0xf1, 0xfe, 0x28, 0x6f, 0x07};   // vmovdqu64 (%rdi), %ymm0
  const uint8_t masked[] = {0x62, 0xf1, 0xfe, 0x29, 0x6f, 0x07};  // …{%k1}
  const auto image = [](Frame& frame, uint64_t features, uint32_t bytes) {
    const uint32_t magic = 0x46505853, end = 0x46505845;
    memset(frame.image, 0, sizeof frame.image);
    memcpy(frame.image + 464, &magic, sizeof magic);
    memcpy(frame.image + 472, &features, sizeof features);
    memcpy(frame.image + 480, &bytes, sizeof bytes);
    memcpy(frame.image + 512, &features, sizeof features);
    memcpy(frame.image + bytes, &end, sizeof end);
    const uint64_t mask = 5;
    memcpy(frame.image + 1088 + 8, &mask, sizeof mask);
    return frame.machine(blank_registers(), nullptr);
  };
  Frame frame;
  MachineContext machine = image(frame, 0xe7, 2688);
  CHECK(moves_vector(decode_instruction(plain, sizeof plain, machine), machine));
  const Instruction half = decode_instruction(masked, sizeof masked, machine);
  CHECK(moves_vector(half, machine));
  CHECK_EQ(half.access[0].width, 24u);
  CHECK_EQ(half.access[0].enabled & 0xffffff, 0xff00ffu);
  for (const uint64_t features : {0x7u, 0xc7u, 0xa7u, 0x67u}) {
    machine = image(frame, features, 2688);
    const Instruction instruction = decode_instruction(plain, sizeof plain, machine);
    CHECK(instruction.known && !moves_vector(instruction, machine));
    CHECK(!decode_instruction(masked, sizeof masked, machine).known);
  }
  machine = image(frame, 0xe7, 2687);
  CHECK(!moves_vector(decode_instruction(plain, sizeof plain, machine), machine));
  // Without a frame there is no mask either.
  ucontext_t none{};
  CHECK(!decode_instruction(masked, sizeof masked, context_of(&none, blank_registers(), masked)).known);
  g_vector_layout = real;
}

#endif
