// Raw accesses to the registers of a simulated device: each is delivered to the model, once, with its width and value.
#include <emmintrin.h>
#include <immintrin.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <vector>

#include "core/counters.h"
#include "core/device.h"
#include "core/event_ring.h"
#include "core/linux_abi.h"
#include "core/register_bus.h"
#include "fault/handler_inside.h"
#include "fault/handler_install.h"
#include "fault/machine_context.h"
#include "fault/register_trap.h"
#include "fixture.h"

#if defined(__x86_64__)

using namespace revocable;

namespace {

struct Seen {
  uint64_t offset, value;
  uint32_t width;
  bool write;
  bool operator==(const Seen&) const = default;
};

std::string describe(const Seen& seen) {
  return std::string(seen.write ? "W" : "R") + std::to_string(seen.width) + "@" + std::to_string(seen.offset) + "=" +
         std::to_string(seen.value);
}

// Registers that hold what is written to them, and a log. Called in the fault handler, one access at a time.
struct Remembering {
  explicit Remembering(size_t bytes, size_t most = 64) : memory(bytes), log(most) {}
  std::vector<unsigned char> memory;
  std::vector<Seen> log;
  size_t logged = 0;
  std::atomic<bool> inside{false};
  std::atomic<uint32_t> overlaps{0};

  void note(const Seen& seen) {
    if (logged < log.size()) log[logged] = seen;
    ++logged;
  }
  static uint64_t read(void* context, uint64_t offset, uint32_t width) {
    auto* self = static_cast<Remembering*>(context);
    if (self->inside.exchange(true)) self->overlaps.fetch_add(1);
    uint64_t value = 0;
    memcpy(&value, &self->memory[offset], width);
    self->note({offset, value, width, false});
    self->inside.store(false);
    return value;
  }
  static void write(void* context, uint64_t offset, uint32_t width, uint64_t value) {
    auto* self = static_cast<Remembering*>(context);
    if (self->inside.exchange(true)) self->overlaps.fetch_add(1);
    memcpy(&self->memory[offset], &value, width);
    self->note({offset, value, width, true});
    self->inside.store(false);
  }
  RegisterModel model() { return {read, write, this}; }
  std::vector<Seen> take() {
    std::vector<Seen> seen(log.begin(), log.begin() + static_cast<ptrdiff_t>(std::min(logged, log.size())));
    logged = 0;
    return seen;
  }
};

// A device of one region of registers, and a mapping of it.
struct Registers {
  DeviceRef device;
  Object* object = nullptr;
  View view;
  const RegisterModel* model;

  Registers(const RegisterModel* behind, size_t bytes, const MapOptions& options = {}, uint32_t limit_ms = 5000) : model(behind) {
    start_library();
    device = device_create("registers", limit_ms, [] {});
    ObjectOptions described{.name = "registers", .device = device, .registers = true};
    CHECK_OK(object_create(bytes, false, described, &object));
    CHECK_OK(handlers_ensure(true));
    bus_begin(object, {.model = behind, .device = device.get(), .region = 0, .bell = -1, .trapped = register_trap_reserve()});
    device->buses.push_back(object->bus.load());
    view = map(object, options);
  }
  template <typename T>
  volatile T* at(size_t offset) const {
    return reinterpret_cast<volatile T*>(view.at + offset);
  }
};

void check_log(Remembering& model, const std::vector<Seen>& expected) {
  const std::vector<Seen> seen = model.take();
  CHECK_EQ(seen.size(), expected.size());
  for (size_t i = 0; i < std::min(seen.size(), expected.size()); ++i) {
    CHECK_EQ(describe(seen[i]), describe(expected[i]));
  }
}

TEST("registers: loads and stores of every width reach the model once") {
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  *registers.at<uint8_t>(1) = 0x11;
  *registers.at<uint16_t>(2) = 0x2222;
  *registers.at<uint32_t>(4) = 0x44444444;
  *registers.at<uint64_t>(8) = 0x8888888888888888;
  check_log(model, {{1, 0x11, 1, true}, {2, 0x2222, 2, true}, {4, 0x44444444, 4, true}, {8, 0x8888888888888888, 8, true}});
  CHECK_EQ(*registers.at<uint8_t>(1), 0x11);
  CHECK_EQ(*registers.at<uint16_t>(2), 0x2222);
  CHECK_EQ(*registers.at<uint32_t>(4), 0x44444444u);
  CHECK_EQ(*registers.at<uint64_t>(8), 0x8888888888888888u);
  check_log(model, {{1, 0x11, 1, false}, {2, 0x2222, 2, false}, {4, 0x44444444, 4, false}, {8, 0x8888888888888888, 8, false}});
}

TEST("registers: a read-modify-write is one read and one write, in order") {
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  char* at = registers.view.at;
  asm volatile("orl $0x10, (%0)" ::"r"(at) : "memory", "cc");
  asm volatile("lock addq $5, 8(%0)" ::"r"(at) : "memory", "cc");
  uint32_t old = 7;
  asm volatile("lock xaddl %0, 4(%1)" : "+r"(old) : "r"(at) : "memory", "cc");
  CHECK_EQ(old, 0u);
  uint8_t swapped = 0x5a;
  asm volatile("xchgb %0, 4(%1)" : "+q"(swapped) : "r"(at) : "memory");
  CHECK_EQ(swapped, 7);
  check_log(model, {{0, 0, 4, false},
                    {0, 0x10, 4, true},
                    {8, 0, 8, false},
                    {8, 5, 8, true},
                    {4, 0, 4, false},
                    {4, 7, 4, true},
                    {4, 7, 1, false},
                    {4, 0x5a, 1, true}});
}

TEST("registers: a comparison that fails writes nothing") {
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  uint32_t expected = 1;
  CHECK(!__atomic_compare_exchange_n(registers.at<uint32_t>(0), &expected, 9, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  CHECK_EQ(expected, 0u);
  CHECK(__atomic_compare_exchange_n(registers.at<uint32_t>(0), &expected, 9, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  check_log(model, {{0, 0, 4, false}, {0, 0, 4, false}, {0, 9, 4, true}});
}

TEST("registers: what is not aligned comes in aligned pieces, in order of address") {
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  asm volatile("movl $0x04030201, 3(%0)" ::"r"(registers.view.at) : "memory");
  check_log(model, {{3, 0x01, 1, true}, {4, 0x0302, 2, true}, {6, 0x04, 1, true}});
  uint64_t value;
  asm volatile("movq 1(%1), %0" : "=r"(value) : "r"(registers.view.at));
  CHECK_EQ(value, 0x0000'0403'0201'0000u);
  check_log(model, {{1, 0, 1, false}, {2, 0x0100, 2, false}, {4, 0x00040302, 4, false}, {8, 0, 1, false}});
}

TEST("registers: vectors come in pieces of eight bytes, and the page is never opened") {
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  char* at = registers.view.at;
  const __m128i ramp = _mm_set_epi64x(0x1716151413121110, 0x0706050403020100);
  asm volatile("movdqu %1, (%0)" ::"r"(at + 16), "x"(ramp) : "memory");
  check_log(model, {{16, 0x0706050403020100, 8, true}, {24, 0x1716151413121110, 8, true}});
  __m128i back;
  asm volatile("movdqa (%1), %0" : "=x"(back) : "r"(at + 16));
  CHECK_EQ(_mm_movemask_epi8(_mm_cmpeq_epi8(back, ramp)), 0xffff);
  check_log(model, {{16, 0x0706050403020100, 8, false}, {24, 0x1716151413121110, 8, false}});
  double number = 0;
  asm volatile("cvtss2sd (%1), %0" : "=x"(number) : "r"(at));
  CHECK_EQ(number, 0.0);
  check_log(model, {{0, 0, 4, false}});
  CHECK_EQ(maps_of(at, 4096).at(0).flags, "---s");
}

// Counts, while it lives, the faults of this process and after how many of them the instruction is to be stepped.
struct Faults {
  Faults() {
    all.store(0);
    stepped.store(0);
    struct sigaction action {};
    sigaction(SIGSEGV, nullptr, &before);
    action = before;
    action.sa_sigaction = [](int signal, siginfo_t* info, void* context) {
      revocable_mmap_fault_handler(signal, info, context);
      all.fetch_add(1);
      if (MachineContext(context).trap_flag()) stepped.fetch_add(1);
    };
    sigaction(SIGSEGV, &action, nullptr);
  }
  ~Faults() { sigaction(SIGSEGV, &before, nullptr); }
  struct sigaction before {};
  static inline std::atomic<int> all{0}, stepped{0};
};

// All 16 registers, whole.
struct Vectors {
  alignas(32) uint8_t bytes[16][32];
  std::string at(unsigned number, unsigned from, unsigned count) const {
    std::string text;
    for (unsigned i = from; i < from + count; ++i) text += std::to_string(bytes[number][i]) + " ";
    return text;
  }
};

#define ALL_VECTORS                                                                                                            \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", \
      "xmm15"
#define FILL(n) "vmovups " #n "*32(%[from]), %%ymm" #n "\n"
#define KEEP(n) "vmovups %%ymm" #n ", " #n "*32(%[to])\n"
#define EACH(what)                                                                                                             \
  what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8) what(9) what(10) what(11) what(12) what(13) what(14) \
      what(15)

// What `instructions` leave in the registers, with the device's at `at` and those of `from` before.
#define VECTORS_AFTER(begin, instructions)                          \
  [](const Vectors* from, char* at) {                               \
    Vectors after;                                                  \
    asm volatile(begin instructions EACH(KEEP) "vzeroupper"         \
                 : "+m"(after)                                      \
                 : [from] "r"(from), [at] "r"(at), [to] "r"(&after) \
                 : ALL_VECTORS, "memory");                          \
    return after;                                                   \
  }

#define LOADS                         \
  "movups (%[at]), %%xmm1\n"          \
  "vmovups (%[at]), %%xmm2\n"         \
  "vmovups (%[at]), %%ymm3\n"         \
  "movss (%[at]), %%xmm4\n"           \
  "vmovsd (%[at]), %%xmm5\n"          \
  "movhps (%[at]), %%xmm6\n"          \
  "vmovlps (%[at]), %%xmm0, %%xmm9\n" \
  "vbroadcastss (%[at]), %%ymm10\n"   \
  "movdqa 16(%[at]), %%xmm11\n"       \
  "vmovdqa 32(%[at]), %%ymm15\n"

TEST("registers: a trapped load leaves of a vector register what the instruction leaves") {
  if (!__builtin_cpu_supports("avx")) check::skip("the processor has no AVX");
  Remembering model(4096);
  for (size_t i = 0; i < 64; ++i) model.memory[i] = static_cast<unsigned char>(i + 1);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  Vectors before;
  std::mt19937 random(check::seed());
  for (auto& vector : before.bytes) {
    for (uint8_t& byte : vector) byte = static_cast<uint8_t>(random());
  }
  const Vectors none{};
  char memory[64];
  memcpy(memory, model.memory.data(), sizeof memory);
  const auto same = [&](const Vectors& expected, const Vectors& after) {
    for (unsigned i = 0; i < 16; ++i) CHECK_EQ(after.at(i, 0, 32), expected.at(i, 0, 32));
  };
  const Faults faults;
  const auto dirty = VECTORS_AFTER(EACH(FILL), LOADS);
  same(dirty(&before, memory), dirty(&before, registers.view.at));
  const auto upper = VECTORS_AFTER(EACH(FILL) "vzeroupper\n", LOADS);
  same(upper(&before, memory), upper(&before, registers.view.at));
  const auto initial = VECTORS_AFTER("vzeroall\n", LOADS);
  same(initial(&none, memory), initial(&none, registers.view.at));
  // One alone, so that none of the others has begun the use of upper halves.
  const auto low = VECTORS_AFTER("vzeroall\n", "vmovups (%[at]), %%xmm2\n");
  same(low(&none, memory), low(&none, registers.view.at));
  const auto whole = VECTORS_AFTER("vzeroall\n", "vmovups (%[at]), %%ymm2\n");
  same(whole(&none, memory), whole(&none, registers.view.at));
  CHECK_EQ(faults.all.load(), 32);
  CHECK_EQ(faults.stepped.load(), 0);
}

TEST("registers: a trapped store of a vector register is one signal, and carries the register") {
  if (!__builtin_cpu_supports("avx")) check::skip("the processor has no AVX");
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  Vectors before;
  std::mt19937 random(check::seed());
  for (auto& vector : before.bytes) {
    for (uint8_t& byte : vector) byte = static_cast<uint8_t>(random());
  }
  const Faults faults;
  const auto stores = VECTORS_AFTER(EACH(FILL),
                                    "vmovups %%ymm3, (%[at])\n"
                                    "movss %%xmm4, 36(%[at])\n"
                                    "movhps %%xmm5, 40(%[at])\n"
                                    "vmovntdq %%ymm15, 64(%[at])\n"
                                    "movdqu %%xmm6, 97(%[at])\n");
  stores(&before, registers.view.at);
  CHECK(memcmp(&model.memory[0], before.bytes[3], 32) == 0);
  CHECK(memcmp(&model.memory[36], before.bytes[4], 4) == 0);
  CHECK(memcmp(&model.memory[40], before.bytes[5] + 8, 8) == 0);
  CHECK(memcmp(&model.memory[64], before.bytes[15], 32) == 0);
  CHECK(memcmp(&model.memory[97], before.bytes[6], 16) == 0);
  const std::vector<Seen> seen = model.take();
  std::string pieces;
  for (const Seen& each : seen) pieces += std::to_string(each.offset) + "+" + std::to_string(each.width) + " ";
  CHECK_EQ(pieces, "0+8 8+8 16+8 24+8 36+4 40+8 64+8 72+8 80+8 88+8 97+1 98+2 100+4 104+8 112+1 ");
  CHECK_EQ(faults.all.load(), 5);
  CHECK_EQ(faults.stepped.load(), 0);
}

#undef LOADS
#undef VECTORS_AFTER
#undef EACH
#undef KEEP
#undef FILL
#undef ALL_VECTORS

TEST("registers: a float is converted as the thread's MXCSR says, which notes what was lost") {
  Remembering model(4096);
  const double third = 1.0 / 3;
  memcpy(&model.memory[0], &third, sizeof third);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  constexpr uint32_t kInexact = 0x20, kInexactMask = 0x1000, kUp = 0x4000, kDown = 0x2000, kMasked = 0x1f80;
  const auto converted = [&](const void* at, uint32_t control, uint32_t* noted) {
    float result = 0;
    asm volatile("ldmxcsr %[control]\n cvtsd2ss (%[at]), %[result]\n stmxcsr %[noted]\n ldmxcsr %[masked]"
                 : [result] "+x"(result), [noted] "=m"(*noted)
                 : [at] "r"(at), [control] "m"(control), [masked] "m"(kMasked)
                 : "memory");
    return result;
  };
  for (const uint32_t control : {kMasked, kMasked | kUp, kMasked | kDown}) {
    const Faults faults;
    uint32_t noted = 0, expected = 0;
    CHECK_EQ(converted(registers.view.at, control, &noted), converted(&third, control, &expected));
    CHECK_EQ(noted, expected);
    CHECK_EQ(noted & kInexact, kInexact);
    CHECK_EQ(faults.stepped.load(), 0);
  }
  // An exception that is not masked raises its signal from the instruction itself, if at all: 0.5 is exact.
  const double half = 0.5;
  memcpy(&model.memory[0], &half, sizeof half);
  const Faults faults;
  uint32_t noted = 0;
  CHECK_EQ(converted(registers.view.at, kMasked & ~kInexactMask, &noted), 0.5f);
  CHECK_EQ(faults.stepped.load(), 1);
}

TEST("registers: a string instruction is one access an element") {
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  char* at = registers.view.at;
  char source[6] = {1, 2, 3, 4, 5, 6};
  const char* from = source;
  char* to = at + 8;
  size_t count = 3;
  asm volatile("rep movsw" : "+S"(from), "+D"(to), "+c"(count)::"memory");
  CHECK_EQ(count, 0u);
  CHECK(from == source + 6);
  CHECK(to == at + 14);
  check_log(model, {{8, 0x0201, 2, true}, {10, 0x0403, 2, true}, {12, 0x0605, 2, true}});
  from = at + 8;
  to = at + 32;
  count = 2;
  asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count)::"memory");
  check_log(model, {{8, 1, 1, false}, {32, 1, 1, true}, {9, 2, 1, false}, {33, 2, 1, true}});
}

TEST("registers: memcpy to and from them carries every byte") {
  Remembering model(4096, 4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  std::mt19937 random(check::seed());
  for (int round = 0; round < check::rounds(300); ++round) {
    const size_t offset = random() % 1024, bytes = random() % 512;
    std::vector<char> out(bytes), back(bytes);
    for (char& byte : out) byte = static_cast<char>(random());
    memcpy(registers.view.at + offset, out.data(), bytes);
    CHECK(memcmp(&model.memory[offset], out.data(), bytes) == 0);
    memcpy(back.data(), registers.view.at + offset, bytes);
    CHECK(out == back);
    model.take();
  }
}

TEST("registers: four threads add, and no addition is lost") {
  Remembering model(4096, 0);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  const int each = check::rounds(20'000);
  {
    Threads threads;
    for (int i = 0; i < 4; ++i) {
      threads.add([&] {
        for (int k = 0; k < each; ++k) __atomic_fetch_add(registers.at<uint32_t>(0), 1, __ATOMIC_SEQ_CST);
      });
    }
  }
  CHECK_EQ(*registers.at<uint32_t>(0), 4u * static_cast<uint32_t>(each));
  CHECK_EQ(model.overlaps.load(), 0u);
  CHECK_EQ(model.logged, size_t{8} * static_cast<size_t>(each) + 1);
}

}  // namespace

#endif
