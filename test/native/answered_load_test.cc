// A1 A7: the loads that the handler completes by hand. Each form runs on a page past the end of a truncated file, as compilers
// write it, with its operands in every kind of register. What is decoded and computed is tested in instruction_*_test.cc.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "base/counters.h"
#include "base/features.h"
#include "core/status_table.h"
#include "fixture.h"
#include "instruction_run.h"

using namespace revocable;

#if defined(__x86_64__)

namespace {

constexpr uint64_t kBefore = 0x1122334455667788;
constexpr uint64_t kOnes = ~uint64_t{0};

// A page of a mapping that is past the end of its file now. A new one for each access.
struct Lost {
  ForeignObject made;
  View view;
  explicit Lost(Fill fill = Fill::ones, size_t pages = 1) : made(foreign_object(pages * kPageSize)) {
    view = map(made.object, {.fill = fill});
    for (size_t page = 0; page < pages; ++page) view.store(page * kPageSize, 0x12345678);
    CHECK_EQ(ftruncate(made.fd, 0), 0);
  }
  ~Lost() {
    view.close();
    munmap(view.at, view.span);
    object_release(made.object);
    close(made.fd);
  }
  // Emulated: lost, and nothing mapped for it.
  bool without_fill(size_t page = 0) const {
    return view.mapping->lost_cause(page) == Cause::past_end && (view.mapping->mark_of(page) & kMarkLostFilled) == 0 &&
           view.status() == kStatusMarked && view.mapping->faults.load() == 1;
  }
  bool with_fill(size_t page = 0) const {
    return view.mapping->lost_cause(page) == Cause::past_end && (view.mapping->mark_of(page) & kMarkLostFilled) != 0 &&
           view.mapping->faults.load() == 1;
  }
};

bool need_guards() {
  if (!features().guard) check::skip("no guard pages: every lost page gets its fill at once");
  return true;
}

void expect(const char* instruction, uint64_t got, uint64_t wanted, bool emulated) {
  char text[128];
  snprintf(text, sizeof text, "%s gave %#lx, not %#lx%s", instruction, got, wanted, emulated ? "" : "; not emulated");
  check::report(got == wanted && emulated, __FILE__, __LINE__, text);
}

}  // namespace

// Runs a load into rax, which holds kBefore, from an address in `base`; the page reads as ones.
#define LOADS(instruction, wanted)                                          \
  do {                                                                      \
    const Lost lost;                                                        \
    register uint64_t value asm("rax") = kBefore;                           \
    asm volatile(instruction : "+r"(value) : "D"(lost.view.at) : "memory"); \
    const uint64_t got = value;                                             \
    expect(instruction, got, (wanted), lost.without_fill());                \
  } while (false)

TEST("A7 a load from a lost page gets its width of ones, extended as the instruction says") {
  start_library();
  need_guards();
  LOADS("movb (%%rdi), %%al", (kBefore & ~uint64_t{0xff}) | 0xff);
  LOADS("movb (%%rdi), %%ah", (kBefore & ~uint64_t{0xff00}) | 0xff00);
  LOADS("movw (%%rdi), %%ax", (kBefore & ~uint64_t{0xffff}) | 0xffff);
  LOADS("movl (%%rdi), %%eax", 0xffffffff);
  LOADS("movq (%%rdi), %%rax", kOnes);
  LOADS("movzbw (%%rdi), %%ax", (kBefore & ~uint64_t{0xffff}) | 0xff);
  LOADS("movzbl (%%rdi), %%eax", 0xff);
  LOADS("movzbq (%%rdi), %%rax", 0xff);
  LOADS("movzwl (%%rdi), %%eax", 0xffff);
  LOADS("movzwq (%%rdi), %%rax", 0xffff);
  LOADS("movsbw (%%rdi), %%ax", (kBefore & ~uint64_t{0xffff}) | 0xffff);
  LOADS("movsbl (%%rdi), %%eax", 0xffffffff);
  LOADS("movsbq (%%rdi), %%rax", kOnes);
  LOADS("movswl (%%rdi), %%eax", 0xffffffff);
  LOADS("movswq (%%rdi), %%rax", kOnes);
  LOADS("movslq (%%rdi), %%rax", kOnes);
}

#undef LOADS

TEST("A7 a load from a lost page of zeros clears what it replaces, and nothing else") {
  start_library();
  need_guards();
  const auto run = [](auto load, uint64_t wanted, const char* instruction) {
    const Lost lost(Fill::zeros);
    uint64_t value = kBefore;
    load(&value, lost.view.at);
    expect(instruction, value, wanted, lost.without_fill());
  };
#define RUN(instruction, wanted) \
  run([](uint64_t* value, char* at) { asm volatile(instruction : "+a"(*value) : "D"(at) : "memory"); }, wanted, instruction)
  RUN("movb (%%rdi), %%al", kBefore & ~uint64_t{0xff});
  RUN("movb (%%rdi), %%ah", kBefore & ~uint64_t{0xff00});
  RUN("movw (%%rdi), %%ax", kBefore & ~uint64_t{0xffff});
  RUN("movl (%%rdi), %%eax", 0);
  RUN("movsbw (%%rdi), %%ax", kBefore & ~uint64_t{0xffff});
  RUN("movslq (%%rdi), %%rax", 0);
#undef RUN
}

TEST("A7 a load into any register changes that one only") {
  start_library();
  need_guards();
  // Into `name`, from an address in another register; every register's value is compared with what it was.
#define INTO(name, base, bits32)                                                                                  \
  do {                                                                                                            \
    const Lost lost;                                                                                              \
    uint64_t got = 0;                                                                                             \
    asm volatile("mov %1, %%" base "\n mov %2, %%" name "\n movl (%%" base "), %%" bits32 "\n mov %%" name ", %0" \
                 : "=m"(got)                                                                                      \
                 : "m"(lost.view.at), "m"(kBefore)                                                                \
                 : name, base, "memory");                                                                         \
    expect("movl (" base "), " bits32, got, 0xffffffff, lost.without_fill());                                     \
  } while (false)
  INTO("rax", "rcx", "eax");
  INTO("rcx", "rdx", "ecx");
  INTO("rdx", "rbx", "edx");
  INTO("rbx", "rsi", "ebx");
  INTO("rsi", "rdi", "esi");
  INTO("rdi", "r8", "edi");
  INTO("r8", "r9", "r8d");
  INTO("r9", "r10", "r9d");
  INTO("r10", "r11", "r10d");
  INTO("r11", "r12", "r11d");  // r12 as a base needs a SIB byte
  INTO("r12", "r13", "r12d");  // r13 as a base needs a displacement
  INTO("r13", "r14", "r13d");
  INTO("r14", "r15", "r14d");
  INTO("r15", "rax", "r15d");
#undef INTO
  // Bytes of registers that only REX names, and of one that only its absence does.
#define BYTE(move, register64, wanted)                                           \
  do {                                                                           \
    const Lost lost;                                                             \
    uint64_t got = 0;                                                            \
    asm volatile("mov %2, %%" register64 "\n" move "\n mov %%" register64 ", %0" \
                 : "=m"(got)                                                     \
                 : "a"(lost.view.at), "m"(kBefore)                               \
                 : register64, "memory");                                        \
    expect(move, got, wanted, lost.without_fill());                              \
  } while (false)
  BYTE("movb (%%rax), %%sil", "rsi", kBefore | 0xff);
  BYTE("movb (%%rax), %%dil", "rdi", kBefore | 0xff);
  BYTE("movb (%%rax), %%r9b", "r9", kBefore | 0xff);
  BYTE("movb (%%rax), %%ch", "rcx", kBefore | 0xff00);
  BYTE("movb (%%rax), %%dh", "rdx", kBefore | 0xff00);
  BYTE("movb (%%rax), %%bh", "rbx", kBefore | 0xff00);
  BYTE("movw (%%rax), %%r10w", "r10", kBefore | 0xffff);
#undef BYTE
}

TEST("A7 a load is understood by whatever base, index, scale and displacement its address is made of") {
  start_library();
  need_guards();
  // `set` puts the parts of the address of byte 1024 of the page, which is in %1, where `load` takes them from.
#define FROM(set, load, ...)                                                                                               \
  do {                                                                                                                     \
    const Lost lost;                                                                                                       \
    uint64_t got = 0;                                                                                                      \
    asm volatile("mov %1, %%rax\n" set "\n" load "\n mov %%rax, %0" : "=m"(got) : "m"(at) : "rax", __VA_ARGS__, "memory"); \
    expect(set "; " load, got, 0xffffffff, lost.without_fill());                                                           \
  } while (false)
#define at (const char* const&)(lost.view.at)
  FROM("mov %%rax, %%rbx", "movl 1024(%%rbx), %%eax", "rbx");
  FROM("lea 2048(%%rax), %%rbx", "movl -1024(%%rbx), %%eax", "rbx");
  FROM("lea 1024(%%rax), %%r13", "movl (%%r13), %%eax", "r13");
  FROM("lea 1000(%%rax), %%r13", "movl 24(%%r13), %%eax", "r13");
  FROM("lea 1024(%%rax), %%r12", "movl (%%r12), %%eax", "r12");
  FROM("lea 1000(%%rax), %%r12", "movl 24(%%r12), %%eax", "r12");
  FROM("mov %%rax, %%r12", "movl 1024(%%r12), %%eax", "r12");
  FROM("mov $256, %%ecx", "movl (%%rax,%%rcx,4), %%eax", "rcx");
  FROM("mov $512, %%ecx", "movl (%%rax,%%rcx,2), %%eax", "rcx");
  FROM("mov $128, %%ecx", "movl (%%rax,%%rcx,8), %%eax", "rcx");
  FROM("mov $-1024, %%rcx\n add $2048, %%rax", "movl (%%rax,%%rcx), %%eax", "rcx");
  FROM("mov $200, %%r12d", "movl 224(%%rax,%%r12,4), %%eax", "r12");
  FROM("mov %%rax, %%r13\n mov $256, %%r12d", "movl (%%r13,%%r12,4), %%eax", "r12", "r13");
  FROM("mov %%rax, %%r12\n mov $256, %%r13d", "movl (%%r12,%%r13,4), %%eax", "r12", "r13");
  FROM("mov %%rax, %%r14\n mov $100, %%r15d", "movl 624(%%r14,%%r15,4), %%eax", "r14", "r15");
  FROM("mov %%rax, %%rdx\n shr %%rdx", "movl 1024(,%%rdx,2), %%eax", "rdx");
  FROM("mov %%rax, %%r12\n shr $2, %%r12", "movl 1024(,%%r12,4), %%eax", "r12");
  // rbp and rsp as bases: what they hold is put back before anything needs it. A signal's frame would go below rsp, so the
  // handler could not run there: the load must not fault, and rsp as a base is decoded below.
  FROM("push %%rbp\n lea 1024(%%rax), %%rbp", "movl (%%rbp), %%eax\n pop %%rbp", "rcx");
  FROM("push %%rbp\n mov %%rax, %%rbp", "movl 1024(%%rbp), %%eax\n pop %%rbp", "rcx");
  FROM("push %%rbp\n mov %%rax, %%rbp\n mov $256, %%ecx", "movl (%%rbp,%%rcx,4), %%eax\n pop %%rbp", "rcx");
#undef at
#undef FROM
}

TEST("A7 an instruction that computes with a load from a lost page computes with the fill") {
  start_library();
  need_guards();
  const auto run = [](auto compute, uint64_t wanted, const char* instruction) {
    const Lost lost;
    uint64_t value = kBefore;
    compute(&value, lost.view.at);
    expect(instruction, value, wanted, lost.without_fill());
  };
#define RUN(instruction, wanted) \
  run([](uint64_t* value, char* at) { asm volatile(instruction : "+a"(*value) : "D"(at) : "cc", "memory"); }, wanted, instruction)
  RUN("addq (%%rdi), %%rax", kBefore - 1);
  RUN("subl (%%rdi), %%eax", (kBefore + 1) & 0xffffffff);
  RUN("imulq $3, (%%rdi), %%rax", static_cast<uint64_t>(-3));
  RUN("cmpl $-1, (%%rdi)\n sete %%al", (kBefore & ~uint64_t{0xff}) | 1);
  RUN("testb $1, (%%rdi)\n setz %%al", kBefore & ~uint64_t{0xff});
#undef RUN
}

TEST("A7 a load of a vector from a lost page gets the fill, and what the instruction says above it") {
  start_library();
  need_guards();
  const auto run = [](Fill fill, auto load, uint64_t low, uint64_t high, const char* instruction) {
    const Lost lost(fill);
    uint64_t bits[2] = {kBefore, kBefore};
    load(bits, lost.view.at);
    expect(instruction, bits[0], low, lost.without_fill());
    expect(instruction, bits[1], high, lost.without_fill());
  };
#define RUN(fill, instruction, low, high)                                                                      \
  run(                                                                                                         \
      fill,                                                                                                    \
      [](uint64_t* bits, char* at) {                                                                           \
        asm volatile("movups (%0), %%xmm1\n" instruction ", %%xmm1\n movups %%xmm1, (%0)" ::"r"(bits), "r"(at) \
                     : "xmm1", "memory");                                                                      \
      },                                                                                                       \
      low, high, instruction)
  RUN(Fill::ones, "movups (%1)", kOnes, kOnes);
  RUN(Fill::ones, "movdqa (%1)", kOnes, kOnes);
  RUN(Fill::ones, "movss (%1)", 0xffffffff, 0);
  RUN(Fill::ones, "movsd (%1)", kOnes, 0);
  RUN(Fill::ones, "movlps (%1)", kOnes, kBefore);
  RUN(Fill::ones, "movhps (%1)", kBefore, kOnes);
  RUN(Fill::ones, "cvtss2sd (%1)", kOnes << 29, kBefore);
  RUN(Fill::zeros, "mulsd (%1)", 0, kBefore);
  RUN(Fill::zeros, "movups (%1)", 0, 0);
  RUN(Fill::zeros, "movss (%1)", 0, 0);
  RUN(Fill::zeros, "movhps (%1)", kBefore, 0);
  if (__builtin_cpu_supports("avx")) {
    RUN(Fill::ones, "vmovsd (%1)", kOnes, 0);
    RUN(Fill::ones, "vmovups (%1)", kOnes, kOnes);
  }
#undef RUN
  // The one half of it is not lost.
  const ForeignObject made = foreign_object(2 * kPageSize);
  const View view = map(made.object, {.fill = Fill::ones});
  view.store(kPageSize - 4, 0x04030201);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
  uint32_t words[4];
  asm volatile("movups (%1), %%xmm1\n movups %%xmm1, %0" : "=m"(words) : "r"(view.at + kPageSize - 4) : "xmm1");
  CHECK_EQ(words[0], 0x04030201u);
  CHECK_EQ(words[1] & words[2] & words[3], 0xffffffffu);
  CHECK((view.mapping->mark_of(1) & kMarkLostFilled) != 0);
}

TEST("A7 a load of a vector under a mask from a lost page gets the fill where the mask enables it") {
  if (!has_avx512()) check::skip("the processor has no AVX-512");
  start_library();
  need_guards();
  for (const size_t before : {size_t{0}, size_t{8}}) {  // bytes of the operand that are before the page
    const Lost lost;
    uint64_t bits[8];
    for (uint64_t& each : bits) each = kBefore;
    // The compiler uses neither zmm17 nor masks.
    asm volatile(
        "kmovq %2, %%k1\n vmovdqu64 (%0), %%zmm17\n vmovdqu8 (%1), %%zmm17%{%%k1%}\n vmovdqu64 %%zmm17, (%0)" ::"r"(bits),
        "r"(lost.view.at - before), "r"(uint64_t{0xff000000000f0000} << before)
        : "memory");
    expect("vmovdqu8 under a mask", bits[(16 + before) / 8], kBefore | 0xffffffff, lost.without_fill());
    expect("vmovdqu8 under a mask", bits[7], before == 0 ? kOnes : kBefore, lost.without_fill());
    expect("vmovdqu8 under a mask", bits[1], kBefore, lost.without_fill());
  }
}

TEST("A7 accesses that are not answered complete by the fill") {
  start_library();
  const auto filled = [](auto access) {
    const Lost lost;
    access(lost.view.at);
    CHECK(lost.with_fill());
    return lost.view.load(64);
  };
  CHECK_EQ(filled([](char* at) { asm volatile("movl $7, 64(%0)" ::"r"(at) : "memory"); }), 7u);
  CHECK_EQ(filled([](char* at) { asm volatile("lock addl $8, 64(%0)" ::"r"(at) : "memory"); }), 7u);
  CHECK_EQ(filled([](char* at) { asm volatile("addl $8, 64(%0)" ::"r"(at) : "memory"); }), 7u);
  filled([](char* at) {
    uint64_t bits[2];
    asm volatile("pxor %%xmm0, %%xmm0\n por (%1), %%xmm0\n movups %%xmm0, %0" : "=m"(bits) : "r"(at) : "xmm0", "memory");
    CHECK_EQ(bits[0] & bits[1], kOnes);
  });
  filled([](char* at) { asm volatile("movups %%xmm0, (%0)" ::"r"(at) : "memory"); });
  filled([](char* at) {
    char copy[300];
    char* to = copy;
    size_t count = sizeof copy;
    asm volatile("rep movsb" : "+S"(at), "+D"(to), "+c"(count)::"memory");
    for (const char byte : copy) CHECK_EQ(byte, '\xff');
  });
}

TEST("A7 a load across the edge of a lost page gets real bytes before it and the fill behind it") {
  start_library();
  const ForeignObject made = foreign_object(2 * kPageSize);
  const View view = map(made.object, {.fill = Fill::ones});
  view.store(kPageSize - 4, 0x04030201);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
  uint32_t value = 0;
  asm volatile("movl (%1), %0" : "=r"(value) : "r"(view.at + kPageSize - 2));
  CHECK_EQ(value, 0xffff0403u);
  CHECK((view.mapping->mark_of(1) & kMarkLostFilled) != 0);
}

TEST("A7 a load that begins on a lost page and ends on the next loses both") {
  start_library();
  const Lost lost(Fill::ones, 2);
  uint32_t value = 0;
  asm volatile("movl (%1), %0" : "=r"(value) : "r"(lost.view.at + kPageSize - 2));
  CHECK_EQ(value, 0xffffffffu);
  CHECK_EQ(lost.view.mapping->lost_cause(0), Cause::past_end);
  CHECK_EQ(lost.view.mapping->lost_cause(1), Cause::past_end);
}

TEST("A7 a page lost by a load stays lost when its file grows back, and takes writes of its own") {
  start_library();
  for (const Fill fill : {Fill::zeros, Fill::ones}) {
    const Lost lost(fill);
    const uint32_t expected = fill == Fill::ones ? 0xffffffff : 0;
    CHECK_EQ(lost.view.load(0), expected);
    const uint64_t fills = g_counters.fills.load();
    REQUIRE(ftruncate(lost.made.fd, static_cast<off_t>(kPageSize)) == 0);
    const uint32_t value = 4711;
    REQUIRE(pwrite(lost.made.fd, &value, sizeof value, 0) == sizeof value);
    CHECK_EQ(lost.view.load(0), expected);
    lost.view.store(0, 5);
    CHECK_EQ(lost.view.load(0), 5u);
    CHECK_EQ(lost.view.load(4), expected);
    uint32_t in_file = 0;
    REQUIRE(pread(lost.made.fd, &in_file, sizeof in_file, 0) == sizeof in_file);
    CHECK_EQ(in_file, 4711u);
    CHECK_EQ(lost.view.mapping->faults.load(), 1u);
    CHECK_EQ(g_counters.fills.load(), fills);  // counted when the page was lost
  }
}

TEST("A7 a page that is locked in memory cannot be guarded, and gets its fill at once") {
  if (check::kAsan || check::kTsan) check::skip("the sanitizer makes mlock do nothing");
  start_library();
  const ForeignObject made = foreign_object(kPageSize);
  View view = map(made.object, {.fill = Fill::ones});
  view.store(0, 1);
  if (mlock(view.at, kPageSize) != 0) check::skip("memory may not be locked");
  REQUIRE(ftruncate(made.fd, 0) == 0);
  CHECK_EQ(view.load(0), 0xffffffffu);
  CHECK((view.mapping->mark_of(0) & kMarkLostFilled) != 0);
}

TEST("A7 threads that load from and store to a page they all lose read the fill or what was stored, and lose no store") {
  start_library();
  for (int round = 0; round < check::rounds(500); ++round) {
    const Lost lost(Fill::zeros, 2);
    Threads threads;
    for (uint32_t i = 0; i < 4; ++i) {
      threads.add([&, i] {
        for (const size_t page : {size_t{0}, kPageSize}) {
          if (i % 2 == 0) CHECK_EQ(lost.view.load(page + i * 16), 0u);
          lost.view.store(page + i * 16, i + 1);
          CHECK_EQ(lost.view.load(page + i * 16), i + 1);
        }
      });
    }
    threads.join();
    for (uint32_t i = 0; i < 4; ++i) {
      CHECK_EQ(lost.view.load(i * 16), i + 1);
      CHECK_EQ(lost.view.load(kPageSize + i * 16), i + 1);
    }
    CHECK_EQ(lost.view.mapping->faults.load(), 2u);
  }
}

TEST("A7 a page lost by a load is revoked, suspended and closed like any other") {
  start_library();
  {
    const Lost lost;
    CHECK_EQ(lost.view.load(0), 0xffffffffu);
    revoke(lost.made.object);
    CHECK_EQ(lost.view.state(), State::revoked);
    CHECK_EQ(lost.view.load(0), 0xffffffffu);
  }
  const Lost lost(Fill::ones, 2);
  CHECK_EQ(lost.view.load(0), 0xffffffffu);
  CHECK_OK(protect_pages(lost.view.mapping, 0, 2, Access::none));
  CHECK_EQ(lost.view.load(0), 0xffffffffu);
  CHECK_EQ(judge_access(lost.view.mapping, 0, 4, false).verdict, Verdict::lost);
}

#endif
