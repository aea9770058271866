#include "fault/guarded_copy.h"

#include "base/processor.h"

// Labels revocable_*_begin/_end enclose instructions that may fault; _pad is where they land. The handler puts pad_argument of
// the fault into a register (rdx, x4: resume_at in machine_context.h), which the pads of the copy store away.

// Laid out a line of assembly a line.
// clang-format off
#define LABEL(name) asm(".hidden revocable_copy" #name "\n.globl revocable_copy" #name)
// clang-format on
LABEL();
LABEL(_align_begin);
LABEL(_align_end);
LABEL(_chunks_begin);
LABEL(_store1);
LABEL(_store2);
LABEL(_store3);
LABEL(_chunks_end);
LABEL(_store1_pad);
LABEL(_store2_pad);
LABEL(_store3_pad);
LABEL(_chunks_pad);
LABEL(_bytes_begin);
LABEL(_bytes_end);
LABEL(_bytes_pad);
asm(".type revocable_copy, %function");

#if defined(__x86_64__)

LABEL(_align_words_begin);
LABEL(_align_words_end);
LABEL(_align_words_pad);
LABEL(_words_begin);
LABEL(_words_end);
LABEL(_words_pad);
LABEL(_wide_begin);
LABEL(_wide1);
LABEL(_wide2);
LABEL(_wide3);
LABEL(_wide_end);
LABEL(_wide1_pad);
LABEL(_wide2_pad);
LABEL(_wide3_pad);
LABEL(_wide_pad);

// Whether the processor has AVX. Half as many instructions for the same bytes: it shows where another thread runs on the same
// core.
extern "C" {
__attribute__((visibility("hidden"))) uint8_t revocable_copy_is_wide = 0;
}

// rdi to, rsi from, rdx bytes, rcx where to store the fault (pad_argument) -> bytes left
asm(R"(
  .text
  .p2align 6
revocable_copy:
  .cfi_startproc
  movq %rcx, %r8
  movq %rdx, %r9
  cmpq $256, %r9
  jb 1f
  # Long copies store to whole cache lines.
  movl %edi, %ecx
  negl %ecx
  andl $63, %ecx
  subq %rcx, %r9
  # Word by word: a short rep movsb takes up to 200 ns where the two sides lie in their pages a little apart.
5:
  cmpq $8, %rcx
  jb revocable_copy_align_words_pad
revocable_copy_align_words_begin:
  movq (%rsi), %rax
  movq %rax, (%rdi)
revocable_copy_align_words_end:
  addq $8, %rsi
  addq $8, %rdi
  subq $8, %rcx
  jmp 5b
revocable_copy_align_words_pad:
revocable_copy_align_begin:
  rep movsb
revocable_copy_align_end:
  cmpb $0, revocable_copy_is_wide(%rip)
  je 1f
  .p2align 4
3:
  cmpq $128, %r9
  jb 4f
revocable_copy_wide_begin:
  vmovups (%rsi), %ymm0
  vmovups 32(%rsi), %ymm1
  vmovups 64(%rsi), %ymm2
  vmovups 96(%rsi), %ymm3
  vmovups %ymm0, (%rdi)
revocable_copy_wide1:
  vmovups %ymm1, 32(%rdi)
revocable_copy_wide2:
  vmovups %ymm2, 64(%rdi)
revocable_copy_wide3:
  vmovups %ymm3, 96(%rdi)
revocable_copy_wide_end:
  subq $-128, %rsi
  subq $-128, %rdi
  addq $-128, %r9
  jmp 3b
revocable_copy_wide3_pad:
  addq $32, %rsi
  addq $32, %rdi
  subq $32, %r9
revocable_copy_wide2_pad:
  addq $32, %rsi
  addq $32, %rdi
  subq $32, %r9
revocable_copy_wide1_pad:
  addq $32, %rsi
  addq $32, %rdi
  subq $32, %r9
revocable_copy_wide_pad:
  vzeroupper
  jmp revocable_copy_chunks_pad
4:
  vzeroupper
  .p2align 4
1:
  cmpq $64, %r9
  jb 2f
revocable_copy_chunks_begin:
  movups (%rsi), %xmm0
  movups 16(%rsi), %xmm1
  movups 32(%rsi), %xmm2
  movups 48(%rsi), %xmm3
  movups %xmm0, (%rdi)
revocable_copy_store1:
  movups %xmm1, 16(%rdi)
revocable_copy_store2:
  movups %xmm2, 32(%rdi)
revocable_copy_store3:
  movups %xmm3, 48(%rdi)
revocable_copy_chunks_end:
  addq $64, %rsi
  addq $64, %rdi
  subq $64, %r9
  jmp 1b
  # The memory may have gone between two stores: what was stored before counts.
revocable_copy_store3_pad:
  addq $16, %rsi
  addq $16, %rdi
  subq $16, %r9
revocable_copy_store2_pad:
  addq $16, %rsi
  addq $16, %rdi
  subq $16, %r9
revocable_copy_store1_pad:
  addq $16, %rsi
  addq $16, %rdi
  subq $16, %r9
revocable_copy_chunks_pad:
  # Go on from there byte by byte: it faults again, at the exact byte.
  movq %r9, %rcx
  xorl %r9d, %r9d
  jmp revocable_copy_words_pad
  # What is left, word by word.
2:
  movq %r9, %rcx
  xorl %r9d, %r9d
6:
  cmpq $8, %rcx
  jb revocable_copy_words_pad
revocable_copy_words_begin:
  movq (%rsi), %rax
  movq %rax, (%rdi)
revocable_copy_words_end:
  addq $8, %rsi
  addq $8, %rdi
  subq $8, %rcx
  jmp 6b
revocable_copy_words_pad:
revocable_copy_bytes_begin:
  rep movsb
revocable_copy_bytes_end:
  movq %rcx, %rax
  ret
revocable_copy_bytes_pad:
  movq %rdx, (%r8)
  leaq (%rcx, %r9), %rax
  ret
  .cfi_endproc
  .size revocable_copy, .-revocable_copy
)");

// load: rdi from, rsi where to put the value; store: rdi to, rsi the value -> 0, or the fault (pad_argument)
// Laid out a line of assembly a line.
// clang-format off
#define GUARDED_LOAD(bits, move)                                              \
  asm(".text\n"                                                               \
      ".hidden revocable_load" #bits "\n.globl revocable_load" #bits "\n"     \
      ".hidden revocable_load" #bits "_end\n.globl revocable_load" #bits "_end\n" \
      "revocable_load" #bits ":\n  .cfi_startproc\n  " move " (%rdi), %rax\n" \
      "revocable_load" #bits "_end:\n"                                        \
      "  movq %rax, (%rsi)\n  xorl %eax, %eax\n  ret\n  .cfi_endproc\n")
#define GUARDED_STORE(bits, move, source)                                     \
  asm(".text\n"                                                               \
      ".hidden revocable_store" #bits "\n.globl revocable_store" #bits "\n"   \
      ".hidden revocable_store" #bits "_end\n.globl revocable_store" #bits "_end\n" \
      "revocable_store" #bits ":\n  .cfi_startproc\n  " move " " source ", (%rdi)\n" \
      "revocable_store" #bits "_end:\n  xorl %eax, %eax\n  ret\n  .cfi_endproc\n")
// clang-format on

GUARDED_LOAD(8, "movzbq");
GUARDED_LOAD(16, "movzwq");
// Writing eax clears the upper half of rax.
asm(".text\n.hidden revocable_load32\n.globl revocable_load32\n.hidden revocable_load32_end\n.globl revocable_load32_end\n"
    "revocable_load32:\n  .cfi_startproc\n  movl (%rdi), %eax\nrevocable_load32_end:\n"
    "  movq %rax, (%rsi)\n  xorl %eax, %eax\n  ret\n  .cfi_endproc\n");
GUARDED_LOAD(64, "movq");
GUARDED_STORE(8, "movb", "%sil");
GUARDED_STORE(16, "movw", "%si");
GUARDED_STORE(32, "movl", "%esi");
GUARDED_STORE(64, "movq", "%rsi");
asm(".text\n.hidden revocable_touch\n.globl revocable_touch\n.hidden revocable_touch_end\n.globl revocable_touch_end\n"
    "revocable_touch:\n  .cfi_startproc\n  lock orb $0, (%rdi)\nrevocable_touch_end:\n"
    "  xorl %eax, %eax\n  ret\n  .cfi_endproc\n");
asm(".text\n.hidden revocable_access_pad\n.globl revocable_access_pad\n"
    "revocable_access_pad:\n  .cfi_startproc\n  movq %rdx, %rax\n  ret\n  .cfi_endproc\n");

#elif defined(__aarch64__)

// x0 to, x1 from, x2 bytes, x3 where to store the fault (pad_argument) -> bytes left
asm(R"(
  .text
  .p2align 6
revocable_copy:
  .cfi_startproc
1:
  cmp x2, #64
  b.lo 2f
revocable_copy_chunks_begin:
  ldp q0, q1, [x1]
  ldp q2, q3, [x1, #32]
  str q0, [x0]
revocable_copy_store1:
  str q1, [x0, #16]
revocable_copy_store2:
  str q2, [x0, #32]
revocable_copy_store3:
  str q3, [x0, #48]
revocable_copy_chunks_end:
  add x1, x1, #64
  add x0, x0, #64
  sub x2, x2, #64
  b 1b
  // The memory may have gone between two stores: what was stored before counts.
revocable_copy_store3_pad:
  add x1, x1, #16
  add x0, x0, #16
  sub x2, x2, #16
revocable_copy_store2_pad:
  add x1, x1, #16
  add x0, x0, #16
  sub x2, x2, #16
revocable_copy_store1_pad:
  add x1, x1, #16
  add x0, x0, #16
  sub x2, x2, #16
revocable_copy_chunks_pad:
  // Go on from there byte by byte: it faults again, at the exact byte.
2:
  cbz x2, 3f
revocable_copy_bytes_begin:
  ldrb w5, [x1]
  strb w5, [x0]
revocable_copy_bytes_end:
  add x1, x1, #1
  add x0, x0, #1
  sub x2, x2, #1
  b 2b
  // No separate step to align.
revocable_copy_align_begin:
revocable_copy_align_end:
3:
  mov x0, x2
  ret
revocable_copy_bytes_pad:
  str x4, [x3]
  mov x0, x2
  ret
  .cfi_endproc
  .size revocable_copy, .-revocable_copy
)");

// Laid out a line of assembly a line.
// clang-format off
#define GUARDED_LOAD(bits, move)                                              \
  asm(".text\n"                                                               \
      ".hidden revocable_load" #bits "\n.globl revocable_load" #bits "\n"     \
      ".hidden revocable_load" #bits "_end\n.globl revocable_load" #bits "_end\n" \
      "revocable_load" #bits ":\n  .cfi_startproc\n  " move ", [x0]\n"        \
      "revocable_load" #bits "_end:\n  str x2, [x1]\n  mov x0, #0\n  ret\n  .cfi_endproc\n")
#define GUARDED_STORE(bits, move)                                             \
  asm(".text\n"                                                               \
      ".hidden revocable_store" #bits "\n.globl revocable_store" #bits "\n"   \
      ".hidden revocable_store" #bits "_end\n.globl revocable_store" #bits "_end\n" \
      "revocable_store" #bits ":\n  .cfi_startproc\n  " move ", [x0]\n"       \
      "revocable_store" #bits "_end:\n  mov x0, #0\n  ret\n  .cfi_endproc\n")
// clang-format on

GUARDED_LOAD(8, "ldrb w2");
GUARDED_LOAD(16, "ldrh w2");
GUARDED_LOAD(32, "ldr w2");
GUARDED_LOAD(64, "ldr x2");
GUARDED_STORE(8, "strb w1");
GUARDED_STORE(16, "strh w1");
GUARDED_STORE(32, "str w1");
GUARDED_STORE(64, "str x1");
asm(".text\n.hidden revocable_touch\n.globl revocable_touch\n.hidden revocable_touch_end\n.globl revocable_touch_end\n"
    "revocable_touch:\n  .cfi_startproc\n1:\n  ldxrb w1, [x0]\n  stxrb w2, w1, [x0]\n  cbnz w2, 1b\nrevocable_touch_end:\n"
    "  mov x0, #0\n  ret\n  .cfi_endproc\n");
asm(".text\n.hidden revocable_access_pad\n.globl revocable_access_pad\n"
    "revocable_access_pad:\n  .cfi_startproc\n  mov x0, x4\n  ret\n  .cfi_endproc\n");

#else
#error "revocable-mmap knows x86-64 and arm64"
#endif

extern "C" {
size_t revocable_copy(void* to, const void* from, size_t bytes, uintptr_t* fault);
extern const char revocable_copy_align_begin[], revocable_copy_align_end[];
extern const char revocable_copy_chunks_begin[], revocable_copy_chunks_end[], revocable_copy_chunks_pad[];
extern const char revocable_copy_store1[], revocable_copy_store2[], revocable_copy_store3[];
extern const char revocable_copy_store1_pad[], revocable_copy_store2_pad[], revocable_copy_store3_pad[];
extern const char revocable_copy_bytes_begin[], revocable_copy_bytes_end[], revocable_copy_bytes_pad[];
#if defined(__x86_64__)
extern const char revocable_copy_align_words_begin[], revocable_copy_align_words_end[], revocable_copy_align_words_pad[];
extern const char revocable_copy_words_begin[], revocable_copy_words_end[], revocable_copy_words_pad[];
extern const char revocable_copy_wide_begin[], revocable_copy_wide_end[], revocable_copy_wide_pad[];
extern const char revocable_copy_wide1[], revocable_copy_wide2[], revocable_copy_wide3[];
extern const char revocable_copy_wide1_pad[], revocable_copy_wide2_pad[], revocable_copy_wide3_pad[];
#endif
#define DECLARE_WIDTH(bits)                                          \
  uintptr_t revocable_load##bits(const void* from, uint64_t* value); \
  uintptr_t revocable_store##bits(void* to, uint64_t value);         \
  extern const char revocable_load##bits##_end[], revocable_store##bits##_end[];
DECLARE_WIDTH(8)
DECLARE_WIDTH(16)
DECLARE_WIDTH(32)
DECLARE_WIDTH(64)
#undef DECLARE_WIDTH
uintptr_t revocable_touch(void* at);
extern const char revocable_touch_end[];
extern const char revocable_access_pad[];
}

namespace revocable {
namespace {

uintptr_t at(const void* label) { return reinterpret_cast<uintptr_t>(label); }
template <typename Function>
uintptr_t entry(Function* function) {
  return reinterpret_cast<uintptr_t>(function);
}

// Of what only x86-64 has.
uintptr_t x86_landing_pad(uintptr_t pc) {
#if defined(__x86_64__)
  if (pc >= at(revocable_copy_align_words_begin) && pc < at(revocable_copy_align_words_end)) {
    return at(revocable_copy_align_words_pad);
  }
  if (pc >= at(revocable_copy_words_begin) && pc < at(revocable_copy_words_end)) return at(revocable_copy_words_pad);
  if (pc >= at(revocable_copy_wide_begin) && pc < at(revocable_copy_wide_end)) {
    return pc < at(revocable_copy_wide1)   ? at(revocable_copy_wide_pad)
           : pc < at(revocable_copy_wide2) ? at(revocable_copy_wide1_pad)
           : pc < at(revocable_copy_wide3) ? at(revocable_copy_wide2_pad)
                                           : at(revocable_copy_wide3_pad);
  }
#endif
  (void)pc;
  return 0;
}

}  // namespace

void guarded_copy_reserve() {
#if defined(__x86_64__)
  revocable_copy_is_wide = has_avx();
#endif
}

static AccessFault fault_of(uintptr_t argument) {
  constexpr uintptr_t kFlags = kFaultWrite | kFaultBus | kFaultPoisoned | kFaultAny;
  return {(argument & kFaultAny) != 0, argument & ~kFlags, (argument & kFaultWrite) != 0, (argument & kFaultBus) != 0,
          (argument & kFaultPoisoned) != 0};
}

static bool within(uintptr_t address, const void* start, size_t bytes) { return address - at(start) < bytes; }

CopyResult guarded_copy(void* to, const void* from, size_t bytes) {
  uintptr_t argument = 0;
  const size_t left = revocable_copy(to, from, bytes, &argument);
  CopyResult result{bytes - left, fault_of(argument)};
  // What the processor says of a machine check need not be this access's. Where only one side has the address it is that one's.
  const bool target = within(result.fault.address, to, bytes);
  if (target != within(result.fault.address, from, bytes)) result.fault.write = target;
  return result;
}

// Of what an access routine returned.
static bool was_made(uintptr_t result, AccessFault* fault, const void* address, bool write) {
  if (result == 0) return true;
  if (fault == nullptr) return false;
  *fault = fault_of(result);
  fault->address = at(address);
  fault->write = write;
  return false;
}

bool guarded_load(const void* from, unsigned width, uint64_t* value, AccessFault* fault) {
  switch (width) {
    case 1: return was_made(revocable_load8(from, value), fault, from, false);
    case 2: return was_made(revocable_load16(from, value), fault, from, false);
    case 4: return was_made(revocable_load32(from, value), fault, from, false);
    default: return was_made(revocable_load64(from, value), fault, from, false);
  }
}

bool guarded_store(void* to, unsigned width, uint64_t value, AccessFault* fault) {
  switch (width) {
    case 1: return was_made(revocable_store8(to, value), fault, to, true);
    case 2: return was_made(revocable_store16(to, value), fault, to, true);
    case 4: return was_made(revocable_store32(to, value), fault, to, true);
    default: return was_made(revocable_store64(to, value), fault, to, true);
  }
}

bool guarded_touch(void* at, AccessFault* fault) { return was_made(revocable_touch(at), fault, at, true); }

uintptr_t load_landing_pad(uintptr_t pc) {
  const bool load = (pc >= entry(revocable_load8) && pc < at(revocable_load8_end)) ||
                    (pc >= entry(revocable_load16) && pc < at(revocable_load16_end)) ||
                    (pc >= entry(revocable_load32) && pc < at(revocable_load32_end)) ||
                    (pc >= entry(revocable_load64) && pc < at(revocable_load64_end));
  return load ? at(revocable_access_pad) : 0;
}

uintptr_t landing_pad(uintptr_t pc) {
  if (const uintptr_t pad = x86_landing_pad(pc)) return pad;
  if (pc >= at(revocable_copy_chunks_begin) && pc < at(revocable_copy_chunks_end)) {
    return pc < at(revocable_copy_store1)   ? at(revocable_copy_chunks_pad)
           : pc < at(revocable_copy_store2) ? at(revocable_copy_store1_pad)
           : pc < at(revocable_copy_store3) ? at(revocable_copy_store2_pad)
                                            : at(revocable_copy_store3_pad);
  }
  if (pc >= at(revocable_copy_align_begin) && pc < at(revocable_copy_align_end)) return at(revocable_copy_bytes_pad);
  if (pc >= at(revocable_copy_bytes_begin) && pc < at(revocable_copy_bytes_end)) return at(revocable_copy_bytes_pad);
  const bool access = load_landing_pad(pc) != 0 || (pc >= entry(revocable_store8) && pc < at(revocable_store8_end)) ||
                      (pc >= entry(revocable_store16) && pc < at(revocable_store16_end)) ||
                      (pc >= entry(revocable_store32) && pc < at(revocable_store32_end)) ||
                      (pc >= entry(revocable_store64) && pc < at(revocable_store64_end)) ||
                      (pc >= entry(revocable_touch) && pc < at(revocable_touch_end));
  return access ? at(revocable_access_pad) : 0;
}

}  // namespace revocable
