#include "instruction_run.h"

#include <signal.h>
#include <sys/mman.h>

#include <cstring>
#include <initializer_list>

#include "base/page.h"
#include "instruction/vector_registers.h"

#if defined(__x86_64__)

// --- running code with all registers set ---------------------------------------------------------------------------------------

extern "C" {
struct InstructionRun {
  uint64_t general[16];  // in and out; rsp is the test's own
  uint64_t flags;
  uint64_t entry;
  uint64_t stack;
  uint64_t components;  // of xsave; 0: `vectors` is what fxsave makes
  uint64_t unused[4];
  alignas(64) uint8_t vectors[4096];
};
InstructionRun instruction_run;
void instruction_run_enter();
extern char instruction_run_back[];
}
static_assert(offsetof(InstructionRun, entry) == 136 && offsetof(InstructionRun, vectors) == 192);

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
  mov 152+instruction_run(%rip), %eax
  xor %edx, %edx
  test %eax, %eax
  jne 1f
  fxrstor 192+instruction_run(%rip)
  jmp 2f
1:
  xrstor 192+instruction_run(%rip)
2:
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
  mov 152+instruction_run(%rip), %eax
  xor %edx, %edx
  test %eax, %eax
  jne 1f
  fxsave 192+instruction_run(%rip)
  jmp 2f
1:
  xsave 192+instruction_run(%rip)
  vzeroupper
2:
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
)");

namespace revocable {

namespace {

// <asm/sigcontext.h>: struct _fpx_sw_bytes, and the header of XSAVE.
constexpr size_t kControl = 24, kXmm = 160, kMagic = 464, kFeatures = 472, kImageBytes = 480, kHeader = 512;
constexpr uint32_t kExtended = 0x46505853, kExtendedEnd = 0x46505845;

volatile sig_atomic_t g_signal = 0;

// The instruction cannot be run, by this processor or with these operands, or touches what it must not. Goes on behind it.
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

// All of them are in use, and none in its initial state.
void put_vectors(const Registers& registers) {
  uint8_t* image = instruction_run.vectors;
  memset(image, 0, sizeof instruction_run.vectors);
  memcpy(image, registers.vectors, sizeof registers.vectors);
  instruction_run.components = has_avx512() ? 0xe7 : has_avx() ? 7 : 0;
  memcpy(image + kHeader, &instruction_run.components, sizeof instruction_run.components);
  if (has_avx()) memcpy(image + g_vector_layout.ymm, registers.vectors_high, sizeof registers.vectors_high);
  if (!has_avx512()) return;
  memcpy(image + g_vector_layout.zmm, registers.zmm_high, sizeof registers.zmm_high);
  memcpy(image + g_vector_layout.more_zmm, registers.more_zmm, sizeof registers.more_zmm);
  memcpy(image + g_vector_layout.masks, registers.masks, sizeof registers.masks);
}

void take_component(unsigned number, uint32_t offset, void* to, size_t bytes) {
  if ((instruction_run.vectors[kHeader] >> number & 1) == 0) memset(to, 0, bytes);
  else memcpy(to, instruction_run.vectors + offset, bytes);
}

void take_vectors(Registers* registers) {
  memcpy(registers->vectors, instruction_run.vectors, sizeof registers->vectors);
  if (has_avx()) take_component(2, g_vector_layout.ymm, registers->vectors_high, sizeof registers->vectors_high);
  if (!has_avx512()) return;
  take_component(6, g_vector_layout.zmm, registers->zmm_high, sizeof registers->zmm_high);
  take_component(7, g_vector_layout.more_zmm, registers->more_zmm, sizeof registers->more_zmm);
  take_component(5, g_vector_layout.masks, registers->masks, sizeof registers->masks);
}

}  // namespace

bool kept_stack() { return instruction_run.general[kRsp] == instruction_run.stack; }

bool has_avx() {
  if (g_vector_layout.ymm == 0) find_vector_registers();
  return __builtin_cpu_supports("avx") && g_vector_layout.ymm + 256 <= sizeof instruction_run.vectors;
}

bool has_avx512() {
  return has_avx() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         g_vector_layout.more_zmm + 1024 <= sizeof instruction_run.vectors;
}

Arena::Arena() : distance(2 * kPageSize) {
  code = static_cast<uint8_t*>(mmap(nullptr, 6 * kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  data = code + 2 * kPageSize;
  moved = data + distance;
  mprotect(code, kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC);
  mprotect(data, kPageSize, PROT_READ | PROT_WRITE);
  mprotect(moved, kPageSize, PROT_READ | PROT_WRITE);
}

Arena::~Arena() { munmap(code, 6 * kPageSize); }

void catch_signals() {
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  for (const int signal : {SIGILL, SIGFPE, SIGSEGV, SIGBUS}) sigaction(signal, &action, nullptr);
}

int run(const uint8_t* code, unsigned length, Registers* registers) {
  uint8_t* behind = const_cast<uint8_t*>(code) + length;
  const uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0};  // jmp *(%rip)
  const char* back = instruction_run_back;
  memcpy(behind, jump, sizeof jump);
  memcpy(behind + sizeof jump, &back, sizeof back);
  memcpy(instruction_run.general, registers->general, sizeof registers->general);
  put_vectors(*registers);
  instruction_run.flags = registers->flags;
  instruction_run.entry = reinterpret_cast<uintptr_t>(code);
  g_signal = 0;
  instruction_run_enter();
  const uint32_t all_masked = 0x1f80;
  asm volatile("fninit\n ldmxcsr %0" ::"m"(all_masked));
  memcpy(registers->general, instruction_run.general, sizeof registers->general);
  take_vectors(registers);
  registers->flags = instruction_run.flags;
  return g_signal;
}

// --- what a handler is given ---

namespace {

struct Part {
  const char* name;
  unsigned component;
  size_t offset, bytes;
  const void* registers;
};

std::vector<Part> parts_of(const Registers& registers) {
  std::vector<Part> parts{{"xmm", 1, kXmm, 256, registers.vectors + kXmm}};
  if (!has_avx()) return parts;
  parts.push_back({"the upper halves of ymm", 2, g_vector_layout.ymm, 256, registers.vectors_high});
  if (!has_avx512()) return parts;
  parts.push_back({"masks", 5, g_vector_layout.masks, sizeof registers.masks, registers.masks});
  parts.push_back({"the upper halves of zmm", 6, g_vector_layout.zmm, sizeof registers.zmm_high, registers.zmm_high});
  parts.push_back({"zmm16 to zmm31", 7, g_vector_layout.more_zmm, sizeof registers.more_zmm, registers.more_zmm});
  return parts;
}

}  // namespace

MachineContext Frame::machine(const Registers& registers, const uint8_t* code) {
  const MachineContext made = context_of(&context, registers, code);
  context.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(image);
  return made;
}

void Frame::put(const Registers& registers) {
  memcpy(image, registers.vectors, sizeof registers.vectors);
  if (!has_avx()) return;
  const uint64_t components = has_avx512() ? 0xe7 : 7;
  memcpy(image + kMagic, &kExtended, sizeof kExtended);
  memcpy(image + kFeatures, &components, sizeof components);
  const uint32_t bytes = kImage;
  memcpy(image + kImageBytes, &bytes, sizeof bytes);
  memcpy(image + kImage, &kExtendedEnd, sizeof kExtendedEnd);
  memcpy(image + kHeader, &components, sizeof components);
  for (const Part& part : parts_of(registers)) memcpy(image + part.offset, part.registers, part.bytes);
}

void Frame::forget(unsigned component, Registers* registers, Random& random) {
  for (const Part& part : parts_of(*registers)) {
    if (part.component != component) continue;
    image[kHeader] = static_cast<uint8_t>(image[kHeader] & ~(1u << component));
    randomize(random, image + part.offset, part.bytes);
    memset(const_cast<void*>(part.registers), 0, part.bytes);
  }
}

bool Frame::in_use(unsigned component) const { return !has_avx() || (image[kHeader] >> component & 1) != 0; }

std::string Frame::differs(const Registers& registers) const {
  if (memcmp(image + kControl, registers.vectors + kControl, 4) != 0) return "MXCSR";
  const uint8_t zeros[1024] = {};
  for (const Part& part : parts_of(registers)) {
    const uint8_t* held = in_use(part.component) ? image + part.offset : zeros;
    if (memcmp(held, part.registers, part.bytes) != 0) return part.name;
  }
  return "";
}

// --- making instructions ---

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

void append(std::vector<uint8_t>* code, unsigned reg, Address* made) {
  const Address& address = *made;
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
  made->displacement_at = code->size();
  code->insert(code->end(), bytes, 0);
}

void aim(const Address& address, uintptr_t target, uintptr_t next, unsigned step, Random& random, uint8_t* code,
         Registers* registers) {
  int64_t displacement = 0;
  if (address.from_next) {
    displacement = static_cast<int64_t>(target - next);
  } else if (address.base == kNoRegister) {
    displacement = static_cast<int64_t>(target & 7);
    registers->general[address.index] = (target - static_cast<uint64_t>(displacement)) >> address.scale;
  } else if (address.base == address.index) {
    displacement = static_cast<int64_t>(target & 1);
    registers->general[address.base] = target / 2;
  } else {
    if (address.displacement_bytes == 1) displacement = static_cast<int8_t>(random());
    if (address.displacement_bytes == 4) displacement = static_cast<int32_t>(random());
    const uint64_t indexed = address.index == kNoRegister ? 0 : registers->general[address.index] << address.scale;
    const int64_t moved = displacement * (address.displacement_bytes == 1 ? step : 1);
    registers->general[address.base] = target - indexed - static_cast<uint64_t>(moved);
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

void fill_registers(Random& random, Registers* registers) {
  for (uint64_t& value : registers->general) value = any_value(random);
  registers->flags = (random() & kStatusFlags) | 2;
}

MachineContext context_of(ucontext_t* context, const Registers& registers, const uint8_t* code) {
  MachineContext machine(context);
  for (unsigned i = 0; i < 16; ++i) machine.set_general(i, registers.general[i]);
  machine.set_flags(registers.flags);
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

void randomize(Random& random, uint8_t* at, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t value = any_value(random);
    memcpy(at + i, &value, 8);
  }
}

Registers blank_registers() {
  Registers registers{};
  const uint16_t control = 0x37f;
  const uint32_t vector_control = 0x1f80;
  memcpy(registers.vectors, &control, sizeof control);
  memcpy(registers.vectors + 24, &vector_control, sizeof vector_control);
  return registers;
}

}  // namespace revocable

#endif
