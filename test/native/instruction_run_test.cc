// The emulator and the decoder against the processor: instructions are made from their encodings, run as they are, and then once
// more as the fault handler would complete them. Registers, flags and memory must not differ.
#include <signal.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <random>
#include <vector>

#include "fault/instruction.h"
#include "fixture.h"

using namespace revocable;

#if defined(__x86_64__)

// --- running code with all registers set ---------------------------------------------------------------------------------------

extern "C" {
struct InstructionRun {
  uint64_t general[16];  // in and out; rsp is the test's own
  uint64_t flags;
  uint64_t entry;
  uint64_t stack;
  uint64_t unused;
  alignas(16) uint8_t vectors[512];  // as fxsave has them
};
InstructionRun instruction_run;
void instruction_run_enter();
extern char instruction_run_back[];
}
static_assert(offsetof(InstructionRun, entry) == 136 && offsetof(InstructionRun, vectors) == 160);

asm(R"(
  .text
  .globl instruction_run_enter, instruction_run_back
instruction_run_enter:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, 144+instruction_run(%rip)
  mov %rsp, 32+instruction_run(%rip)
  fxrstor 160+instruction_run(%rip)
  pushq 128+instruction_run(%rip)
  popfq
  mov 0+instruction_run(%rip), %rax
  mov 8+instruction_run(%rip), %rcx
  mov 16+instruction_run(%rip), %rdx
  mov 24+instruction_run(%rip), %rbx
  mov 40+instruction_run(%rip), %rbp
  mov 48+instruction_run(%rip), %rsi
  mov 56+instruction_run(%rip), %rdi
  mov 64+instruction_run(%rip), %r8
  mov 72+instruction_run(%rip), %r9
  mov 80+instruction_run(%rip), %r10
  mov 88+instruction_run(%rip), %r11
  mov 96+instruction_run(%rip), %r12
  mov 104+instruction_run(%rip), %r13
  mov 112+instruction_run(%rip), %r14
  mov 120+instruction_run(%rip), %r15
  jmp *136+instruction_run(%rip)
instruction_run_back:
  mov %rax, 0+instruction_run(%rip)
  mov %rcx, 8+instruction_run(%rip)
  mov %rdx, 16+instruction_run(%rip)
  mov %rbx, 24+instruction_run(%rip)
  mov %rsp, 32+instruction_run(%rip)
  mov %rbp, 40+instruction_run(%rip)
  mov %rsi, 48+instruction_run(%rip)
  mov %rdi, 56+instruction_run(%rip)
  mov %r8, 64+instruction_run(%rip)
  mov %r9, 72+instruction_run(%rip)
  mov %r10, 80+instruction_run(%rip)
  mov %r11, 88+instruction_run(%rip)
  mov %r12, 96+instruction_run(%rip)
  mov %r13, 104+instruction_run(%rip)
  mov %r14, 112+instruction_run(%rip)
  mov %r15, 120+instruction_run(%rip)
  mov 144+instruction_run(%rip), %rsp
  pushfq
  popq 128+instruction_run(%rip)
  fxsave 160+instruction_run(%rip)
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
)");

namespace {

using Random = std::mt19937_64;

constexpr uint64_t kStatusFlags = 0x8d5, kCarry = 1, kParity = 4, kAuxiliary = 16, kZero = 64, kSign = 128, kOverflow = 2048;
constexpr unsigned kRsp = 4;

struct Registers {
  uint64_t general[16];
  uint64_t flags;
  uint8_t vectors[512];
};

// The program, and two pages of data of which nothing next to them may be touched.
struct Arena {
  uint8_t* code;
  uint8_t* data;
  uint8_t* moved;  // as far from `data` as an operand is moved
  const size_t distance = 2 * kPageSize;
  Arena() {
    code = static_cast<uint8_t*>(mmap(nullptr, 6 * kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    data = code + 2 * kPageSize;
    moved = data + distance;
    mprotect(code, kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC);
    mprotect(data, kPageSize, PROT_READ | PROT_WRITE);
    mprotect(moved, kPageSize, PROT_READ | PROT_WRITE);
  }
  ~Arena() { munmap(code, 6 * kPageSize); }
};

volatile sig_atomic_t g_signal = 0;

// The instruction cannot be run, by this processor or with these operands, or touches what it must not.
constexpr int kTouched = 1000;

void on_signal(int signal, siginfo_t* info, void* context) {
  MachineContext machine(context);
  if (machine.pc() != instruction_run.entry) {
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    sigaction(signal, &standard, nullptr);
    return;
  }
  g_signal = signal == SIGSEGV && info->si_code != SI_KERNEL ? kTouched : signal;
  machine.step_to(reinterpret_cast<uintptr_t>(instruction_run_back));
}

void catch_signals() {
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  for (const int signal : {SIGILL, SIGFPE, SIGSEGV, SIGBUS}) sigaction(signal, &action, nullptr);
}

// Runs the instruction of `length` bytes at `code` in `state`. The signal that it raised, or 0.
int run(const uint8_t* code, unsigned length, Registers* state) {
  uint8_t* behind = const_cast<uint8_t*>(code) + length;
  const uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0};  // jmp *(%rip)
  const char* back = instruction_run_back;
  memcpy(behind, jump, sizeof jump);
  memcpy(behind + sizeof jump, &back, sizeof back);
  memcpy(instruction_run.general, state->general, sizeof state->general);
  memcpy(instruction_run.vectors, state->vectors, sizeof state->vectors);
  instruction_run.flags = state->flags;
  instruction_run.entry = reinterpret_cast<uintptr_t>(code);
  g_signal = 0;
  if (__builtin_cpu_supports("avx")) asm volatile("vzeroupper" ::: "memory");
  instruction_run_enter();
  const uint32_t all_masked = 0x1f80;
  asm volatile("fninit\n ldmxcsr %0" ::"m"(all_masked));
  memcpy(state->general, instruction_run.general, sizeof state->general);
  memcpy(state->vectors, instruction_run.vectors, sizeof state->vectors);
  state->flags = instruction_run.flags;
  return g_signal;
}

// --- making instructions
// --------------------------------------------------------------------------------------------------------

// What ModRM and SIB say, and which registers give the operand the address it shall have.
struct Address {
  unsigned base = kNoRegister, index = kNoRegister, scale = 0, displacement_bytes = 0;
  bool from_next = false;
  size_t displacement_at = 0;  // in the code
};

unsigned any_register(Random& random) {
  for (;;) {
    const unsigned number = random() % 16;
    if (number != kRsp) return number;
  }
}

Address any_address(Random& random) {
  Address address;
  const unsigned kind = random() % 10;
  address.from_next = kind == 0;
  if (address.from_next) return address;
  if (kind > 1) address.base = any_register(random);
  if (kind <= 5) {
    address.index = any_register(random);
    address.scale = random() % 4;
  }
  address.displacement_bytes = std::initializer_list<unsigned>{0, 1, 4}.begin()[random() % 3];
  if (address.base % 8 == 5 && address.displacement_bytes == 0) address.displacement_bytes = 1;
  if (address.base == address.index) address.scale = 0, address.displacement_bytes = 4;
  return address;
}

void append(std::vector<uint8_t>* code, const Address& address, unsigned reg, size_t* displacement_at) {
  const unsigned mod = address.displacement_bytes == 1 ? 1 : address.displacement_bytes == 4 ? 2 : 0;
  const uint8_t field = static_cast<uint8_t>((reg & 7) << 3);
  unsigned bytes = address.displacement_bytes;
  if (address.from_next) {
    code->push_back(field | 5);
    bytes = 4;
  } else if (address.index == kNoRegister && address.base % 8 != kRsp) {
    code->push_back(static_cast<uint8_t>(mod << 6 | field | (address.base & 7)));
  } else {
    const bool no_base = address.base == kNoRegister;
    const unsigned index = address.index == kNoRegister ? kRsp : address.index & 7;
    code->push_back(static_cast<uint8_t>((no_base ? 0 : mod << 6) | field | kRsp));
    code->push_back(static_cast<uint8_t>(address.scale << 6 | index << 3 | (no_base ? 5 : address.base & 7)));
    if (no_base) bytes = 4;
  }
  *displacement_at = code->size();
  code->insert(code->end(), bytes, 0);
}

// Gives the operand the address `target`, by the displacement and by the registers. `next` is the instruction behind this one.
void aim(const Address& address, uintptr_t target, uintptr_t next, unsigned step, Random& random, uint8_t* code,
         Registers* state) {
  int64_t displacement = 0;
  if (address.from_next) {
    displacement = static_cast<int64_t>(target - next);
  } else if (address.base == kNoRegister) {
    displacement = static_cast<int64_t>(target & 7);
    state->general[address.index] = (target - static_cast<uint64_t>(displacement)) >> address.scale;
  } else if (address.base == address.index) {
    displacement = static_cast<int64_t>(target & 1);
    state->general[address.base] = target / 2;
  } else {
    if (address.displacement_bytes == 1) displacement = static_cast<int8_t>(random());
    if (address.displacement_bytes == 4) displacement = static_cast<int32_t>(random());
    const uint64_t indexed = address.index == kNoRegister ? 0 : state->general[address.index] << address.scale;
    const int64_t moved = displacement * (address.displacement_bytes == 1 ? step : 1);
    state->general[address.base] = target - indexed - static_cast<uint64_t>(moved);
  }
  const bool four = address.from_next || address.base == kNoRegister || address.displacement_bytes == 4;
  memcpy(code + address.displacement_at, &displacement, four ? 4 : address.displacement_bytes);
}

uint64_t any_value(Random& random) {
  const uint64_t value = random();
  switch (random() % 6) {
    case 0: return value % 70;
    case 1: return ~uint64_t{0} >> (value % 64);
    case 2: return uint64_t{1} << (value % 64);
    case 3: return value & 0x00000000ffffffff;
    default: return value;
  }
}

void fill_state(Random& random, Registers* state) {
  for (uint64_t& value : state->general) value = any_value(random);
  state->flags = (random() & kStatusFlags) | 2;
}

MachineContext context_of(ucontext_t* context, const Registers& state, const uint8_t* code) {
  MachineContext machine(context);
  for (unsigned i = 0; i < 16; ++i) machine.set_general(i, state.general[i]);
  machine.set_flags(state.flags);
  machine.step_to(reinterpret_cast<uintptr_t>(code));
  return machine;
}

std::string bytes_of(const uint8_t* code, size_t bytes) {
  std::string text;
  char byte[4];
  for (size_t i = 0; i < bytes; ++i) {
    snprintf(byte, sizeof byte, "%02x ", code[i]);
    text += byte;
  }
  return text;
}

// --- the emulated instructions
// --------------------------------------------------------------------------------------------------

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
    append(&made.code, address, made.reg, &made.address.displacement_at);
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

void randomize(Random& random, uint8_t* at, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t value = any_value(random);
    memcpy(at + i, &value, 8);
  }
}

Registers blank_state() {
  Registers state{};
  const uint16_t control = 0x37f;
  const uint32_t vector_control = 0x1f80;
  memcpy(state.vectors, &control, sizeof control);
  memcpy(state.vectors + 24, &vector_control, sizeof vector_control);
  return state;
}

}  // namespace

TEST("A7 an emulated instruction leaves registers, flags and memory as the processor does") {
  catch_signals();
  const Arena arena;
  Random random(check::seed());
  const std::vector<Shape> all = shapes();
  size_t counts[static_cast<size_t>(Operation::sar) + 1] = {};
  Registers state = blank_state();
  memset(arena.data, 0, kPageSize);
  const int rounds = check::rounds(600'000);
  int failures = 0;
  for (int round = 0; round < rounds && failures < 20; ++round) {
    const Shape& shape = all[random() % all.size()];
    const Made made = make(shape, random);
    if (made.code.empty()) continue;
    uint8_t* code = arena.code + random() % 512;
    memcpy(code, made.code.data(), made.code.size());
    fill_state(random, &state);
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

// --- instructions that are moved
// ------------------------------------------------------------------------------------------------

namespace {

// A place in the table: everything that says which instruction it is.
struct Opcode {
  enum { legacy, vex, evex } space;
  unsigned map, opcode, prefix, w, length, reg;
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
          for (unsigned length = 0; length < 3; ++length) body({Opcode::evex, 1, opcode, prefix, w, length, reg});
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
  const uint8_t registers = static_cast<uint8_t>((~r & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5);
  const uint8_t end = static_cast<uint8_t>((~vector & 15) << 3 | what.prefix);
  if (what.space == Opcode::vex) {
    for (const unsigned byte : {0xc4u, registers | what.map, what.w << 7 | what.length << 2 | end}) {
      code->push_back(static_cast<uint8_t>(byte));
    }
    return;
  }
  for (const unsigned byte : {0x62u, registers | 0x10u | what.map, what.w << 7 | 4u | end, what.length << 5 | 8u}) {
    code->push_back(static_cast<uint8_t>(byte));
  }
}

std::vector<uint8_t> encode(const Opcode& what, Address* address, Random& random) {
  const unsigned x = address->index != kNoRegister ? address->index >> 3 : 0;
  const unsigned b = address->base != kNoRegister ? address->base >> 3 : 0;
  const unsigned r = random() % 2;
  // Most have no operand in VEX.vvvv, and are none if it is not 0.
  const unsigned vector = what.space == Opcode::vex && random() % 2 == 0 ? any_register(random) : 0;
  std::vector<uint8_t> code;
  if (what.space == Opcode::legacy) begin_legacy(what, r, x, b, &code);
  else begin_vector(what, r, x, b, vector, &code);
  code.push_back(static_cast<uint8_t>(what.opcode));
  append(&code, *address, what.reg, &address->displacement_at);
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
  size_t run = 0, raised = 0, without_mover = 0;
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
  forget_last_operand(&original);
  forget_last_operand(&moved);
  if (memcmp(original.vectors, moved.vectors, sizeof original.vectors) != 0) return "vectors";
  if (memcmp(result.data(), arena.moved, kPageSize) != 0) return "what it wrote";
  for (size_t at = 0; at < kPageSize; ++at) {
    if (result[at] == arena.data[at]) continue;
    bool expected = false;
    for (unsigned i = 0; i < instruction.accesses; ++i) {
      const MemoryAccess& access = instruction.access[i];
      expected = expected || (access.writes && reinterpret_cast<uintptr_t>(arena.data) + at - access.address < access.width);
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

std::string move_one(const Arena& arena, const Opcode& what, Registers state, Random& random, MovedCounts* counts,
                     std::string* bytes) {
  Address address = any_address(random);
  const std::vector<uint8_t> made = encode(what, &address, random);
  uint8_t* code = arena.code + random() % 512;
  memcpy(code, made.data(), made.size());
  memset(code + made.size(), static_cast<int>(random()), 8);  // a constant, if there is one

  fill_state(random, &state);
  const bool is_string = what.space == Opcode::legacy && what.map == 0 && what.opcode >= 0xa4 && what.opcode <= 0xaf;
  if (is_string) state.general[1] = 1;  // one step
  ucontext_t context{};
  Instruction instruction = decode_instruction(code, kLongestInstruction, context_of(&context, state, code));
  if (!can_be_run(what, instruction)) return "";
  *bytes = bytes_of(code, instruction.length);
  const unsigned width = instruction.access[0].width;
  const bool at_end = random() % 2 == 0;
  const uint8_t* target = at_end ? arena.data + kPageSize - width : arena.data;
  if (is_string) {
    state.general[6] = reinterpret_cast<uintptr_t>(target);
    state.general[7] = reinterpret_cast<uintptr_t>(at_end ? arena.data : arena.data + kPageSize - width);
  } else {
    const unsigned step = what.space == Opcode::evex ? width : 1;
    aim(address, reinterpret_cast<uintptr_t>(target), reinterpret_cast<uintptr_t>(code) + instruction.length, step, random, code,
        &state);
  }
  instruction = decode_instruction(code, kLongestInstruction, context_of(&context, state, code));
  // A string of bits goes on elsewhere.
  const bool is_bits = what.space == Opcode::legacy && what.map == 1 && is_bit_string(0x0f00 | what.opcode);
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
  return is_as_wide(code, instruction, state) ? "" : "its width";
}

}  // namespace

TEST("A7 an instruction whose operand is moved by a register does the same elsewhere, and touches no other byte") {
  catch_signals();
  const Arena arena;
  Random random(check::seed());
  Registers state = blank_state();
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

#endif
