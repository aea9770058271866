// What decode_instruction() says of encodings whose meaning is known, and that it reads no more than it was given.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <random>

#include "fixture.h"
#include "instruction/decode.h"

using namespace revocable;

#if defined(__x86_64__)

namespace {

using Code = std::initializer_list<uint8_t>;

constexpr unsigned kRax = 0, kRcx = 1, kRdx = 2, kRsi = 6, kRdi = 7, kR9 = 9;
constexpr uintptr_t kAt = 0x400000;
constexpr uintptr_t at(unsigned number) { return (number + 1) * 0x1000; }

// The registers 0 to 15 hold 0x1000, 0x2000, … and the instruction is at 0x400000.
Instruction decoded(const uint8_t* code, size_t bytes) {
  ucontext_t context{};
  MachineContext machine(&context);
  for (unsigned i = 0; i < 16; ++i) machine.set_general(i, at(i));
  machine.step_to(kAt);
  return decode_instruction(code, bytes, machine);
}
Instruction decoded(Code code) { return decoded(code.begin(), code.size()); }

std::string bytes_of(Code code) {
  std::string text;
  char byte[4];
  for (const uint8_t value : code) {
    snprintf(byte, sizeof byte, "%02x ", value);
    text += byte;
  }
  return text;
}

void expect(bool good, const char* instruction, Code code, int line) {
  check::report(good, __FILE__, line, bytes_of(code) + instruction);
}

MemoryAccess reads(unsigned width, uintptr_t address, unsigned mover = kNoRegister, unsigned shift = 0,
                   bool overwritten = false) {
  return {address, width, true, false, mover, shift, overwritten};
}
MemoryAccess writes(unsigned width, uintptr_t address, unsigned mover = kNoRegister, unsigned shift = 0) {
  return {address, width, false, true, mover, shift, false};
}
MemoryAccess changes(unsigned width, uintptr_t address, unsigned mover = kNoRegister, unsigned shift = 0) {
  return {address, width, true, true, mover, shift, false};
}

bool same(const MemoryAccess& a, const MemoryAccess& b) {
  return a.address == b.address && a.width == b.width && a.reads == b.reads && a.writes == b.writes && a.mover == b.mover &&
         a.mover_shift == b.mover_shift && a.mover_overwritten == b.mover_overwritten;
}

std::string text_of(const Instruction& found) {
  char text[160];
  std::string all = found.known ? "" : " unknown";
  for (unsigned i = 0; i < found.accesses; ++i) {
    const MemoryAccess& access = found.access[i];
    snprintf(text, sizeof text, " [%#lx] %u bytes%s%s, mover %u << %u%s;", access.address, access.width,
             access.reads ? " read" : "", access.writes ? " written" : "", access.mover, access.mover_shift,
             access.mover_overwritten ? " overwritten" : "");
    all += text;
  }
  return all;
}

struct Expected {
  const char* instruction;
  Code code;
  bool emulated;
  std::initializer_list<MemoryAccess> accesses;
};

// All but the last byte are too little.
void decodes(const Expected& expected) {
  const Instruction found = decoded(expected.code);
  bool good = found.known && found.emulated == expected.emulated && found.length == expected.code.size() &&
              found.accesses == expected.accesses.size();
  for (unsigned i = 0; good && i < found.accesses; ++i) good = same(found.access[i], expected.accesses.begin()[i]);
  for (size_t bytes = 0; bytes < expected.code.size(); ++bytes) good = good && !decoded(expected.code.begin(), bytes).known;
  check::report(good, __FILE__, __LINE__, bytes_of(expected.code) + expected.instruction + ":" + text_of(found));
}

void emulates(const char* instruction, Code code, MemoryAccess access) { decodes({instruction, code, true, {access}}); }
// A move between memory and a vector register, which the emulator of general registers does not know.
void moves(const char* instruction, Code code, VectorMove move, MemoryAccess access) {
  decodes({instruction, code, false, {access}});
  expect(decoded(code).vector.move == move, instruction, code, __LINE__);
}
void redirects(const char* instruction, Code code, std::initializer_list<MemoryAccess> accesses) {
  decodes({instruction, code, false, accesses});
  expect(decoded(code).vector.move == VectorMove::none, instruction, code, __LINE__);
}

}  // namespace

TEST("A7 an address is made of base, index, scale and displacement, or is relative to the next instruction") {
  const auto load = [](const char* text, Code code, uintptr_t address, unsigned mover = kNoRegister, unsigned shift = 0,
                       bool overwritten = false) { emulates(text, code, reads(4, address, mover, shift, overwritten)); };
  load("mov (%rdi), %eax", {0x8b, 0x07}, at(7), 7);
  load("mov -8(%rdi), %eax", {0x8b, 0x47, 0xf8}, at(7) - 8, 7);
  load("mov (%rsp), %eax", {0x8b, 0x04, 0x24}, at(4));
  load("mov -8(%rsp), %ecx", {0x8b, 0x4c, 0x24, 0xf8}, at(4) - 8);
  load("mov 256(%rsp), %eax", {0x8b, 0x84, 0x24, 0x00, 0x01, 0x00, 0x00}, at(4) + 256);
  load("mov (%rsp,%rcx,4), %eax", {0x8b, 0x04, 0x8c}, at(4) + 4 * at(1), 1, 2);
  load("mov 16(%rip), %r8d", {0x44, 0x8b, 0x05, 0x10, 0x00, 0x00, 0x00}, kAt + 0x17);
  load("mov -16(%rip), %eax", {0x8b, 0x05, 0xf0, 0xff, 0xff, 0xff}, kAt - 10);
  load("mov (%r13), %eax", {0x41, 0x8b, 0x45, 0x00}, at(13), 13);
  load("mov (%r12), %eax", {0x41, 0x8b, 0x04, 0x24}, at(12), 12);
  load("mov 0x12345678, %eax", {0x8b, 0x04, 0x25, 0x78, 0x56, 0x34, 0x12}, 0x12345678);
  load("mov (%rax,%r12), %eax", {0x42, 0x8b, 0x04, 0x20}, at(0) + at(12), 0, 0, true);
  load("mov (%r13,%r12,8), %eax", {0x43, 0x8b, 0x44, 0xe5, 0x00}, at(13) + 8 * at(12), 13);
  load("mov 8(,%rdx,4), %eax", {0x8b, 0x04, 0x95, 0x08, 0x00, 0x00, 0x00}, 8 + 4 * at(2), 2, 2);
  load("mov %ds:(%rdi), %eax", {0x3e, 0x8b, 0x07}, at(7), 7);
  emulates("movabs 0x8877665544332211, %al", {0xa0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88},
           reads(1, 0x8877665544332211));
  // Relative to the next instruction, which is behind the constant.
  emulates("movl $1, 16(%rip)", {0xc7, 0x05, 0x10, 0, 0, 0, 1, 0, 0, 0}, writes(4, kAt + 26));
  redirects("pshufd $1, 16(%rip), %xmm0", {0x66, 0x0f, 0x70, 0x05, 0x10, 0, 0, 0, 1}, {reads(16, kAt + 25)});
}

TEST("A7 the register that moves an operand is used for nothing else, or only overwritten") {
  emulates("mov %rax, (%rax)", {0x48, 0x89, 0x00}, writes(8, at(0)));
  emulates("mov (%rax), %rax", {0x48, 0x8b, 0x00}, reads(8, at(0), 0, 0, true));
  emulates("mov (%rax), %ax", {0x66, 0x8b, 0x00}, reads(2, at(0)));
  emulates("add (%rax), %rax", {0x48, 0x03, 0x00}, reads(8, at(0)));
  emulates("add (%rax,%rcx,2), %rax", {0x48, 0x03, 0x04, 0x48}, reads(8, at(0) + 2 * at(1), 1, 1));
  emulates("mov (%rax), %ah", {0x8a, 0x20}, reads(1, at(0)));
  emulates("mov %dh, (%rsi)", {0x88, 0x36}, writes(1, at(6), 6));
  emulates("mov %dh, (%rdx)", {0x88, 0x32}, writes(1, at(2)));
  emulates("cmpxchg %ecx, (%rax)", {0x0f, 0xb1, 0x08}, changes(4, at(0)));
  emulates("cmpxchg16b (%rdi)", {0x48, 0x0f, 0xc7, 0x0f}, changes(16, at(7), 7));
  emulates("cmpxchg8b (%rbx)", {0x0f, 0xc7, 0x0b}, changes(8, at(3)));
  emulates("shll %cl, (%rcx)", {0xd3, 0x21}, changes(4, at(1)));
  // One register as both base and index moves the operand twice.
  emulates("mov (%rcx,%rcx), %eax", {0x8b, 0x04, 0x09}, reads(4, 2 * at(1), 1, 1));
  emulates("mov (%rcx,%rcx,2), %eax", {0x8b, 0x04, 0x49}, reads(4, 3 * at(1)));
  redirects("mull (%rdx)", {0xf7, 0x22}, {reads(4, at(2), 2, 0, true)});
  redirects("mull (%rax)", {0xf7, 0x20}, {reads(4, at(0))});
  redirects("divl (%rdx)", {0xf7, 0x32}, {reads(4, at(2))});
  redirects("bsf (%rcx), %ecx", {0x0f, 0xbc, 0x09}, {reads(4, at(1))});
  redirects("tzcnt (%rcx), %ecx", {0xf3, 0x0f, 0xbc, 0x09}, {reads(4, at(1))});
  redirects("popcnt (%rcx), %ecx", {0xf3, 0x0f, 0xb8, 0x09}, {reads(4, at(1), 1, 0, true)});
  redirects("crc32b (%rcx), %ecx", {0xf2, 0x0f, 0x38, 0xf0, 0x09}, {reads(1, at(1))});
  redirects("andn (%rcx), %rcx, %rax", {0xc4, 0xe2, 0xf0, 0xf2, 0x01}, {reads(8, at(1))});
  redirects("andn (%rax), %rcx, %rax", {0xc4, 0xe2, 0xf0, 0xf2, 0x00}, {reads(8, at(0), 0, 0, true)});
}

TEST("A7 a move between memory and a vector register is known as one, and so is arithmetic with a number") {
  moves("movups (%rdi), %xmm0", {0x0f, 0x10, 0x07}, VectorMove::whole, reads(16, at(7), 7));
  moves("movaps %xmm0, (%rdi)", {0x0f, 0x29, 0x07}, VectorMove::whole, writes(16, at(7), 7));
  moves("movss (%rdi), %xmm0", {0xf3, 0x0f, 0x10, 0x07}, VectorMove::whole, reads(4, at(7), 7));
  moves("movsd %xmm8, 8(%r9)", {0xf2, 0x45, 0x0f, 0x11, 0x41, 0x08}, VectorMove::whole, writes(8, at(9) + 8, 9));
  moves("movd (%rdi), %xmm0", {0x66, 0x0f, 0x6e, 0x07}, VectorMove::whole, reads(4, at(7), 7));
  moves("movq (%rdi), %xmm0", {0xf3, 0x0f, 0x7e, 0x07}, VectorMove::whole, reads(8, at(7), 7));
  moves("movntdq %xmm0, (%rdi)", {0x66, 0x0f, 0xe7, 0x07}, VectorMove::whole, writes(16, at(7), 7));
  moves("vmovdqu (%rdi), %ymm0", {0xc5, 0xfe, 0x6f, 0x07}, VectorMove::whole, reads(32, at(7), 7));
  moves("vmovdqu %ymm0, (%r9,%rax)", {0xc4, 0xc1, 0x7e, 0x7f, 0x04, 0x01}, VectorMove::whole, writes(32, at(9) + at(0), 9));
  moves("vmovss (%rdi), %xmm0", {0xc5, 0xfa, 0x10, 0x07}, VectorMove::whole, reads(4, at(7), 7));
  moves("vbroadcastss (%rdi), %ymm0", {0xc4, 0xe2, 0x7d, 0x18, 0x07}, VectorMove::repeated, reads(4, at(7), 7));
  moves("lddqu (%rdi), %xmm0", {0xf2, 0x0f, 0xf0, 0x07}, VectorMove::whole, reads(16, at(7), 7));
  moves("movlps (%rdi), %xmm0", {0x0f, 0x12, 0x07}, VectorMove::low, reads(8, at(7), 7));
  moves("movhpd %xmm0, (%rdi)", {0x66, 0x0f, 0x17, 0x07}, VectorMove::high, writes(8, at(7), 7));
  moves("movddup (%rdi), %xmm0", {0xf2, 0x0f, 0x12, 0x07}, VectorMove::repeated, reads(8, at(7), 7));
  moves("cvtss2sd (%rdi), %xmm0", {0xf3, 0x0f, 0x5a, 0x07}, VectorMove::widened, reads(4, at(7), 7));
  moves("cvtsd2ss (%rdi), %xmm0", {0xf2, 0x0f, 0x5a, 0x07}, VectorMove::narrowed, reads(8, at(7), 7));
  moves("addsd (%rdi), %xmm0", {0xf2, 0x0f, 0x58, 0x07}, VectorMove::added, reads(8, at(7), 7));
  moves("vdivss (%rdi), %xmm1, %xmm0", {0xc5, 0xf2, 0x5e, 0x07}, VectorMove::divided, reads(4, at(7), 7));
  moves("vmovlps (%rdi), %xmm1, %xmm0", {0xc5, 0xf0, 0x12, 0x07}, VectorMove::low, reads(8, at(7), 7));
  moves("vbroadcastf128 (%rdi), %ymm0", {0xc4, 0xe2, 0x7d, 0x1a, 0x07}, VectorMove::repeated, reads(16, at(7), 7));
  moves("vmovntdq %ymm0, (%rdi)", {0xc5, 0xfd, 0xe7, 0x07}, VectorMove::whole, writes(32, at(7), 7));
  moves("vmovdqu64 64(%rdi), %zmm0", {0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x47, 0x01}, VectorMove::whole, reads(64, at(7) + 64, 7));
  moves("vmovdqu8 %ymm16, -32(%r9)", {0x62, 0xc1, 0x7f, 0x28, 0x7f, 0x41, 0xff}, VectorMove::whole, writes(32, at(9) - 32, 9));
  moves("vmovups %xmm1, 256(%rdi)", {0x62, 0xf1, 0x7c, 0x08, 0x11, 0x8f, 0, 1, 0, 0}, VectorMove::whole,
        writes(16, at(7) + 256, 7));
  moves("vmovntdq %zmm0, (%rdi)", {0x62, 0xf1, 0x7d, 0x48, 0xe7, 0x07}, VectorMove::whole, writes(64, at(7), 7));
  moves("vbroadcastf32x4 (%rdi), %zmm0", {0x62, 0xf2, 0x7d, 0x48, 0x1a, 0x07}, VectorMove::repeated, reads(16, at(7), 7));
  // %xmm9, (%r9), and VEX.vvvv as the source of the other half.
  const VectorPart part = decoded({0xc4, 0x41, 0x20, 0x16, 0x09}).vector;
  CHECK_EQ(part.number, 9);
  CHECK_EQ(part.other, 11);
  CHECK_EQ(part.width, 16);
  CHECK(part.vex);
  const VectorPart legacy = decoded({0x45, 0x0f, 0x16, 0x09}).vector;
  CHECK_EQ(legacy.number, 9);
  CHECK_EQ(legacy.other, 9);
  CHECK(!legacy.vex);
}

TEST("A7 what is redirected has its widths and directions") {
  redirects("movq (%rdi), %mm0", {0x0f, 0x6f, 0x07}, {reads(8, at(7), 7)});
  redirects("movsldup (%rdi), %xmm0", {0xf3, 0x0f, 0x12, 0x07}, {reads(16, at(7), 7)});
  redirects("vmovddup (%rdi), %ymm0", {0xc5, 0xff, 0x12, 0x07}, {reads(32, at(7), 7)});
  redirects("pmovsxbw (%rdi), %xmm0", {0x66, 0x0f, 0x38, 0x20, 0x07}, {reads(8, at(7), 7)});
  redirects("sqrtsd (%rdi), %xmm0", {0xf2, 0x0f, 0x51, 0x07}, {reads(8, at(7), 7)});
  redirects("addpd (%rdi), %xmm0", {0x66, 0x0f, 0x58, 0x07}, {reads(16, at(7), 7)});
  redirects("cvtsi2sd (%rdi), %xmm0", {0xf2, 0x48, 0x0f, 0x2a, 0x07}, {reads(8, at(7), 7)});
  redirects("cvttss2si (%rax), %eax", {0xf3, 0x0f, 0x2c, 0x00}, {reads(4, at(0), 0, 0, true)});
  redirects("pinsrd $1, (%rdi), %xmm0", {0x66, 0x0f, 0x3a, 0x22, 0x07, 0x01}, {reads(4, at(7), 7)});
  redirects("pextrw $1, %xmm0, (%rdi)", {0x66, 0x0f, 0x3a, 0x15, 0x07, 0x01}, {writes(2, at(7), 7)});
  redirects("pcmpestri $1, (%rcx), %xmm0", {0x66, 0x0f, 0x3a, 0x61, 0x01, 0x01}, {reads(16, at(1), 1, 0, true)});
  redirects("vpaddd (%rdi), %ymm1, %ymm0", {0xc5, 0xf5, 0xfe, 0x07}, {reads(32, at(7), 7)});
  redirects("vextracti128 $1, %ymm0, (%rdi)", {0xc4, 0xe3, 0x7d, 0x39, 0x07, 0x01}, {writes(16, at(7), 7)});
  redirects("kmovq (%rdi), %k1", {0xc4, 0xe1, 0xf8, 0x90, 0x0f}, {reads(8, at(7), 7)});
  redirects("vpcmpeqb 32(%rdi), %ymm17, %k1", {0x62, 0xf1, 0x75, 0x20, 0x74, 0x4f, 0x01}, {reads(32, at(7) + 32, 7)});
  redirects("vpaddd 4(%rdi){1to16}, %zmm1, %zmm0", {0x62, 0xf1, 0x75, 0x58, 0xfe, 0x47, 0x01}, {reads(4, at(7) + 4, 7)});
  redirects("vpcompressb %zmm0, 1(%rdi)", {0x62, 0xf2, 0x7d, 0x48, 0x63, 0x47, 0x01}, {writes(64, at(7) + 1, 7)});
  redirects("vpmovwb %zmm0, 32(%rdi)", {0x62, 0xf2, 0x7e, 0x48, 0x30, 0x47, 0x01}, {writes(32, at(7) + 32, 7)});
  redirects("vcvttsd2si 8(%rax), %eax", {0x62, 0xf1, 0x7f, 0x48, 0x2c, 0x40, 0x01}, {reads(8, at(0) + 8, 0, 0, true)});
  redirects("fldt (%rdi)", {0xdb, 0x2f}, {reads(10, at(7), 7)});
  redirects("fistl (%rdi)", {0xdb, 0x17}, {writes(4, at(7), 7)});
  redirects("fldcw (%rdi)", {0xd9, 0x2f}, {reads(2, at(7), 7)});
  redirects("shld $3, %eax, (%rdi)", {0x0f, 0xa4, 0x07, 0x03}, {changes(4, at(7), 7)});
  redirects("idivq (%rdi)", {0x48, 0xf7, 0x3f}, {reads(8, at(7), 7)});
  redirects("mov %ds, (%rdi)", {0x8c, 0x1f}, {writes(2, at(7), 7)});
  redirects("jmp *(%rdi)", {0xff, 0x27}, {reads(8, at(7), 7)});
}

TEST("A7 an instruction with two accesses has both: strings, and what also uses the stack") {
  redirects("pushq (%rdi)", {0xff, 0x37}, {reads(8, at(7), 7), writes(8, at(4) - 8)});
  redirects("pushw (%rdi)", {0x66, 0xff, 0x37}, {reads(2, at(7), 7), writes(2, at(4) - 2)});
  redirects("popq (%rdi)", {0x8f, 0x07}, {writes(8, at(7), 7), reads(8, at(4))});
  redirects("popq 16(%rsp)", {0x8f, 0x44, 0x24, 0x10}, {writes(8, at(4) + 24), reads(8, at(4))});
  redirects("call *(%rdi)", {0xff, 0x17}, {reads(8, at(7), 7), writes(8, at(4) - 8)});
  redirects("movsb", {0xa4}, {reads(1, at(6), kRsi), writes(1, at(7), kRdi)});
  redirects("rep movsb", {0xf3, 0xa4}, {reads(1, at(6), kRsi), writes(1, at(7), kRdi)});
  redirects("rep movsq", {0xf3, 0x48, 0xa5}, {reads(8, at(6), kRsi), writes(8, at(7), kRdi)});
  redirects("movsw", {0x66, 0xa5}, {reads(2, at(6), kRsi), writes(2, at(7), kRdi)});
  redirects("repe cmpsl", {0xf3, 0xa7}, {reads(4, at(6), kRsi), reads(4, at(7), kRdi)});
  redirects("rep stosl", {0xf3, 0xab}, {writes(4, at(7), kRdi)});
  redirects("lodsq", {0x48, 0xad}, {reads(8, at(6), kRsi)});
  redirects("repne scasb", {0xf2, 0xae}, {reads(1, at(7), kRdi)});
  ucontext_t context{};
  const uint8_t rep_movsb[] = {0xf3, 0xa4};
  const Instruction run_out = decode_instruction(rep_movsb, sizeof rep_movsb, MachineContext(&context));
  CHECK(run_out.known);
  CHECK_EQ(run_out.accesses, 0u);
}

TEST("A7 a string of bits begins where its register says, downwards too") {
  const auto bit = [](Code code, uint64_t offset) {
    ucontext_t context{};
    MachineContext machine(&context);
    machine.set_general(kRdi, 0x10000);
    machine.set_general(kRcx, offset);
    return decode_instruction(code.begin(), code.size(), machine).access[0].address;
  };
  CHECK_EQ(bit({0x0f, 0xa3, 0x0f}, 0), 0x10000u);  // bt %ecx, (%rdi)
  CHECK_EQ(bit({0x0f, 0xa3, 0x0f}, 31), 0x10000u);
  CHECK_EQ(bit({0x0f, 0xa3, 0x0f}, 32), 0x10004u);
  CHECK_EQ(bit({0x0f, 0xa3, 0x0f}, 0xffffffff), 0xfffcu);  // bit -1
  CHECK_EQ(bit({0x48, 0x0f, 0xab, 0x0f}, 64), 0x10008u);   // bts %rcx, (%rdi)
  CHECK_EQ(bit({0x48, 0x0f, 0xab, 0x0f}, 0xffffffff), 0x10000u + 0x3ffffff * 8ul);
  CHECK_EQ(bit({0x66, 0x0f, 0xbb, 0x0f}, 0x1fff0), 0xfffeu);  // btc %cx, (%rdi)
}

TEST("A7 an access is indivisible with a lock, and in an exchange") {
  CHECK(decoded({0xf0, 0x01, 0x07}).locked);  // lock add %eax, (%rdi)
  CHECK(!decoded({0x01, 0x07}).locked);
  CHECK(decoded({0x87, 0x07}).locked);         // xchg %eax, (%rdi)
  CHECK(!decoded({0x0f, 0xb1, 0x0f}).locked);  // cmpxchg %ecx, (%rdi)
  CHECK(decoded({0xf0, 0x0f, 0xb1, 0x0f}).locked);
  CHECK(decoded({0xf2, 0xf0, 0x01, 0x07}).locked);  // xacquire lock add
}

TEST("A7 what makes no access, or one that is not understood, is unknown") {
  const struct {
    const char* instruction;
    Code code;
  } unknown[] = {
      {"mov %ecx, %eax", {0x8b, 0xc1}},
      {"lea (%rdi), %eax", {0x8d, 0x07}},
      {"nopl (%rdi)", {0x0f, 0x1f, 0x07}},
      {"prefetcht0 (%rdi)", {0x0f, 0x18, 0x0f}},
      {"clflush (%rdi)", {0x0f, 0xae, 0x3f}},
      {"push %rax", {0x50}},
      {"ret", {0xc3}},
      {"mov %fs:(%rdi), %eax", {0x64, 0x8b, 0x07}},
      {"mov %gs:(%rdi), %eax", {0x65, 0x8b, 0x07}},
      {"mov (%edi), %eax", {0x67, 0x8b, 0x07}},
      {"mov (%rdi), %eax with a lock", {0xf0, 0x8b, 0x07}},
      {"cmp %eax, (%rdi) with a lock", {0xf0, 0x39, 0x07}},
      {"a REX that is none, as it does not come last", {0x48, 0x66, 0x8b, 0x07}},
      {"mov (%rdi), %ds", {0x8e, 0x1f}},
      {"lss (%rdi), %eax", {0x0f, 0xb2, 0x07}},
      {"lcall *(%rdi)", {0xff, 0x1f}},
      {"invlpg (%rdi)", {0x0f, 0x01, 0x3f}},
      {"sgdt (%rdi)", {0x0f, 0x01, 0x07}},
      {"fxsave (%rdi)", {0x0f, 0xae, 0x07}},
      {"xsave (%rdi)", {0x0f, 0xae, 0x27}},
      {"fnsave (%rdi)", {0xdd, 0x37}},
      {"maskmovdqu %xmm1, %xmm0", {0x66, 0x0f, 0xf7, 0xc1}},
      {"xlat", {0xd7}},
      {"insb", {0x6c}},
      {"vpgatherdd %xmm2, (%rdi,%xmm1), %xmm0", {0xc4, 0xe2, 0x69, 0x90, 0x04, 0x0f}},
      {"vpgatherdd (%rdi,%zmm1), %zmm0{%k1}", {0x62, 0xf2, 0x7d, 0x49, 0x90, 0x04, 0x0f}},
      {"vscatterdps %zmm0, (%rdi,%zmm1){%k1}", {0x62, 0xf2, 0x7d, 0x49, 0xa2, 0x04, 0x0f}},
      {"vextracti32x4 $1, %zmm0, (%rdi){%k1}", {0x62, 0xf3, 0x7d, 0x49, 0x39, 0x07, 0x01}},
      {"vmovntdq %zmm0, (%rdi) with a mask", {0x62, 0xf1, 0x7d, 0x49, 0xe7, 0x07}},
      {"vpaddb (%rdi), %zmm1, %zmm0 with a broadcast", {0x62, 0xf1, 0x75, 0x58, 0xfc, 0x07}},
      {"vmovdqu64 (%rdi), %zmm0 of 128 bytes", {0x62, 0xf1, 0xfe, 0x68, 0x6f, 0x07}},
      {"vmovdqu64 (%r16), %zmm0", {0x62, 0xf9, 0xfe, 0x48, 0x6f, 0x00}},
      {"vaddph (%rdi), %zmm1, %zmm0", {0x62, 0xf5, 0x74, 0x48, 0x58, 0x07}},
      {"vmovups (%rdi), %xmm0 with a prefix", {0x66, 0xc5, 0xf8, 0x10, 0x07}},
      {"movdir64b (%rdi), %rax", {0x66, 0x0f, 0x38, 0xf8, 0x07}},
  };
  for (const auto& each : unknown) expect(!decoded(each.code).known, each.instruction, each.code, __LINE__);
  // 16 bytes are no instruction.
  uint8_t code[16];
  memset(code, 0x2e, sizeof code);
  code[13] = 0x8b;
  code[14] = 0x07;
  CHECK(decoded(code, sizeof code).known);
  code[13] = 0x2e;
  code[14] = 0x8b;
  code[15] = 0x07;
  CHECK(!decoded(code, sizeof code).known);
}

TEST("A7 no bytes whatever make the decoder read past them") {
  char* pages = static_cast<char*>(mmap(nullptr, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  REQUIRE(mprotect(pages + kPageSize, kPageSize, PROT_NONE) == 0);
  std::mt19937 random(check::seed());
  size_t known = 0, wrong = 0;
  const int rounds = check::rounds(1'000'000);
  for (int round = 0; round < rounds; ++round) {
    const size_t bytes = random() % (kLongestInstruction + 2);
    uint8_t* code = reinterpret_cast<uint8_t*>(pages + kPageSize - bytes);
    for (size_t i = 0; i < bytes; ++i) code[i] = static_cast<uint8_t>(random());
    // Half of them begin like an instruction that is longer than most.
    if (bytes > 2 && random() % 2 == 0)
      code[0] = std::initializer_list<uint8_t>{0x0f, 0x62, 0xc4, 0xc5, 0x66, 0x48}.begin()[random() % 6];
    const Instruction found = decoded(code, bytes);
    known += found.known;
    if (!found.known) continue;
    wrong += found.length > bytes || found.accesses > 2 || (found.emulated && found.accesses != 1);
    const bool moves = found.vector.move != VectorMove::none;
    wrong += moves && (found.emulated || found.accesses != 1 || found.access[0].reads == found.access[0].writes ||
                       found.access[0].width > kWidestVector);
    for (unsigned i = 0; i < found.accesses; ++i) wrong += found.access[i].width == 0 || found.access[i].width > 64;
  }
  CHECK_EQ(wrong, 0u);
  CHECK(known > static_cast<size_t>(rounds) / 20);
  munmap(pages, 2 * kPageSize);
}

#endif
