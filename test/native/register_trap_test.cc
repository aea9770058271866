// Raw accesses to the registers of a simulated device: each is delivered to the model, once, with its width and value.
#include <setjmp.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "base/counters.h"
#include "base/linux_abi.h"
#include "core/event_ring.h"
#include "device/device.h"
#include "device/register_port.h"
#include "device/register_step.h"
#include "device/register_trap.h"
#include "fault/handler.h"
#include "fault/handler_install.h"
#include "fixture.h"
#include "instruction/machine_context.h"

#if defined(__x86_64__)
#include <immintrin.h>

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
  std::atomic<size_t> logged{0};
  std::atomic<bool> inside{false};
  std::atomic<uint32_t> overlaps{0};

  void note(const Seen& seen) {
    const size_t at = logged.fetch_add(1);
    if (at < log.size()) log[at] = seen;
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
    std::vector<Seen> seen(log.begin(), log.begin() + static_cast<ptrdiff_t>(std::min(logged.load(), log.size())));
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
    ObjectOptions described{.name = "registers", .backing = device, .registers = true};
    CHECK_OK(object_create({.size = bytes}, described, &object));
    CHECK_OK(handlers_ensure());
    port_begin(object, {.model = behind, .device = device.get(), .region = 0, .bell = -1, .trapped = register_trap_reserve()});
    device->ports.push_back(object->port.load());
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
  asm volatile("movq 1(%1), %0" : "=r"(value) : "r"(registers.view.at) : "memory");
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
  asm volatile("movdqa (%1), %0" : "=x"(back) : "r"(at + 16) : "memory");
  CHECK_EQ(_mm_movemask_epi8(_mm_cmpeq_epi8(back, ramp)), 0xffff);
  check_log(model, {{16, 0x0706050403020100, 8, false}, {24, 0x1716151413121110, 8, false}});
  double number = 0;
  asm volatile("cvtss2sd (%1), %0" : "=x"(number) : "r"(at) : "memory");
  CHECK_EQ(number, 0.0);
  check_log(model, {{0, 0, 4, false}});
  CHECK_EQ(maps_of(at, 4096).at(0).flags, "---s");
}

// Counts, while it lives, the faults of this process and after how many of them the instruction is to be stepped.
struct Faults {
  Faults() {
    g_trap_handler.store(kTrapHandlerWanted);
    handlers_check();
    // The watchdog would take the counting handler for a displacement, and put it behind the library's; also when it has been
    // called, and has not looked yet.
    const int before_this = looks.load();
    service_set_watchdog([] { looks.fetch_add(1); });
    CHECK(check::eventually([&] {
      service_wake();
      return looks > before_this;
    }));
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
  ~Faults() {
    sigaction(SIGSEGV, &before, nullptr);
    service_set_watchdog(handlers_check);
  }
  struct sigaction before {};
  static inline std::atomic<int> all{0}, stepped{0}, looks{0};
};

// Accesses that every processor makes with instructions that are neither emulated nor moves: they are run for one step.

// 16 bytes, aligned; each word stays where it is.
__m128i stepped_load(const char* at) {
  __m128i value;
  asm volatile("pshufd $0xe4, (%1), %0" : "=x"(value) : "r"(at) : "memory");
  return value;
}
uint32_t stepped_word(const char* at) { return static_cast<uint32_t>(_mm_cvtsi128_si32(stepped_load(at))); }

void stepped_store(char* at, uint64_t value) { asm volatile("stosq" : "+D"(at) : "a"(value) : "memory"); }

// Shifts the word by a byte, and the highest byte of `in` into it.
void stepped_shift(char* at, uint32_t in) { asm volatile("shldl $8, %0, (%1)" ::"r"(in), "r"(at) : "memory", "cc"); }

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
    const size_t offset = random() % 1024, bytes = 1 + random() % 512;
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
  CHECK_EQ(model.logged.load(), size_t{8} * static_cast<size_t>(each) + 1);
}

// Random accesses to one slice of the registers, of every kind that native code makes, and what they must look like to the model.
class Slice {
 public:
  static constexpr size_t kBytes = 256;
  Slice(const Registers& registers, size_t offset, uint32_t seed) : registers_(registers), offset_(offset), random_(seed) {}

  void access() {
    const uint32_t kind = pick(64);
    if (kind < 3) return stepped();
    if (kind < 4) return string();
    if (kind < 12) return vector();
    if (kind < 24) return of_any_width([&](auto width) { unaligned<decltype(width)>(); });
    of_any_width([&](auto width) { aligned<decltype(width)>(); });
  }
  void reserve(int accesses) { expected.reserve(static_cast<size_t>(accesses) * 3); }
  // How many the model may have to log.
  static size_t most(int accesses) { return static_cast<size_t>(accesses) * 4 + 64; }

  std::vector<Seen> expected;
  uint32_t wrong = 0;
  int steps = 0;  // that the accesses have taken

 private:
  uint32_t pick(uint32_t below) { return random_() % below; }
  size_t anywhere(size_t bytes) { return pick(static_cast<uint32_t>(kBytes - bytes + 1)); }
  char* place(size_t at) const { return registers_.view.at + offset_ + at; }
  template <typename T>
  T any() {
    return static_cast<T>(uint64_t{random_()} << 32 | random_());
  }
  template <typename T>
  T held(size_t at) const {
    T value;
    memcpy(&value, &shadow_[at], sizeof value);
    return value;
  }
  template <typename Access>
  void of_any_width(Access access) {
    switch (pick(4)) {
      case 0: return access(uint8_t{});
      case 1: return access(uint16_t{});
      case 2: return access(uint32_t{});
      default: return access(uint64_t{});
    }
  }

  // --- what is to come of it ---

  void right(bool is) { wrong += !is; }
  void reads(size_t at, size_t bytes) { sees(false, at, bytes); }
  void writes(size_t at, size_t bytes, const void* value) {
    memcpy(&shadow_[at], value, bytes);
    sees(true, at, bytes);
  }
  template <typename T>
  void writes(size_t at, T value) {
    writes(at, sizeof value, &value);
  }
  template <typename T>
  void changes(size_t at, T value) {
    reads(at, sizeof value);
    writes(at, value);
  }
  void sees(bool write, size_t at, size_t bytes) {
    for (const size_t end = at + bytes; at < end;) {
      const size_t offset = offset_ + at, power_of_two = (offset | 8) & -(offset | 8);
      const size_t width = std::min(power_of_two, std::bit_floor(end - at));
      uint64_t value = 0;
      memcpy(&value, &shadow_[at], width);
      expected.push_back({offset, value, static_cast<uint32_t>(width), write});
      at += width;
    }
  }

  // --- general registers ---

  template <typename T>
  void aligned() {
    const size_t at = pick(kBytes / sizeof(T)) * sizeof(T);
    volatile T* const word = registers_.at<T>(offset_ + at);
    const T old = held<T>(at), value = any<T>();
    switch (pick(6)) {
      case 0: right(*word == old); return reads(at, sizeof old);
      case 1: *word = value; return writes(at, value);
      case 2: right(__atomic_fetch_add(word, value, __ATOMIC_SEQ_CST) == old); return changes(at, static_cast<T>(old + value));
      case 3: right(__atomic_exchange_n(word, value, __ATOMIC_SEQ_CST) == old); return changes(at, value);
      case 4: {
        T found = pick(2) == 0 ? old : static_cast<T>(old + 1);
        const bool same = found == old;
        right(__atomic_compare_exchange_n(word, &found, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) == same);
        right(found == old);
        return same ? changes(at, value) : reads(at, sizeof old);
      }
      default: *word = *word ^ value; return changes(at, static_cast<T>(old ^ value));
    }
  }

  // Of an unaligned volatile, or an atomic, compilers make what they like.
  template <typename T>
  void unaligned() {
    const size_t at = anywhere(sizeof(T));
    const T old = held<T>(at), value = any<T>();
    T found = value;
    switch (pick(4)) {
      case 0:
        asm volatile("mov (%1), %0" : "=r"(found) : "r"(place(at)) : "memory");
        reads(at, sizeof old);
        break;
      case 1: asm volatile("mov %0, (%1)" ::"r"(value), "r"(place(at)) : "memory"); return writes(at, value);
      case 2:
        asm volatile("lock xadd %0, (%1)" : "+r"(found) : "r"(place(at)) : "memory", "cc");
        changes(at, static_cast<T>(old + value));
        break;
      default: {
        const bool same = pick(2) == 0;
        found = same ? old : static_cast<T>(old + 1);
        asm volatile("lock cmpxchg %2, (%1)" : "+a"(found) : "r"(place(at)), "r"(value) : "memory", "cc");
        if (same) changes(at, value);
        else reads(at, sizeof old);
      }
    }
    right(found == old);
  }

  // --- vectors ---

  void vector() {
    const size_t bytes = __builtin_cpu_supports("avx") && pick(2) == 0 ? 32 : 16, at = anywhere(bytes);
    uint64_t value[4] = {any<uint64_t>(), any<uint64_t>(), any<uint64_t>(), any<uint64_t>()};
    if (pick(2) == 0) {
      move_vector(place(at), value, bytes);
      return writes(at, bytes, value);
    }
    move_vector(value, place(at), bytes);
    right(memcmp(value, &shadow_[at], bytes) == 0);
    reads(at, bytes);
  }
  static void move_vector(void* to, const void* from, size_t bytes) {
    if (bytes == 16) asm volatile("movdqu (%1), %%xmm0\n movdqu %%xmm0, (%0)" ::"r"(to), "r"(from) : "xmm0", "memory");
    else asm volatile("vmovdqu (%1), %%ymm0\n vmovdqu %%ymm0, (%0)\n vzeroupper" ::"r"(to), "r"(from) : "xmm0", "memory");
  }

  // --- strings: a step an element ---

  void string() {
    const size_t count = 1 + pick(4);
    switch (pick(5)) {
      case 0: return string_out(count);
      case 1: return string_in(count);
      case 2: return string_within(count);
      case 3: return string_of_words(count);
      default: return string_compared(count);
    }
  }
  static void move_string(char* to, const char* from, size_t count) {
    asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count)::"memory");
  }
  void string_out(size_t count) {
    const size_t at = anywhere(count);
    const auto value = any<uint32_t>();
    char bytes[4];
    memcpy(bytes, &value, sizeof bytes);
    move_string(place(at), bytes, count);
    for (size_t i = 0; i < count; ++i, ++steps) writes(at + i, bytes[i]);
  }
  void string_in(size_t count) {
    const size_t at = anywhere(count);
    char bytes[4];
    move_string(bytes, place(at), count);
    right(memcmp(bytes, &shadow_[at], count) == 0);
    for (size_t i = 0; i < count; ++i, ++steps) reads(at + i, 1);
  }
  // The two may overlap.
  void string_within(size_t count) {
    const size_t from = anywhere(count), to = anywhere(count);
    move_string(place(to), place(from), count);
    for (size_t i = 0; i < count; ++i, ++steps) {
      reads(from + i, 1);
      writes(to + i, shadow_[from + i]);
    }
  }
  void string_of_words(size_t count) {
    const size_t at = anywhere(2 * count);
    const auto value = any<uint16_t>();
    char* to = place(at);
    size_t left = count;
    asm volatile("rep stosw" : "+D"(to), "+c"(left) : "a"(value) : "memory");
    for (size_t i = 0; i < count; ++i, ++steps) writes(at + 2 * i, value);
  }
  // Ends with the first byte that differs.
  void string_compared(size_t count) {
    const size_t at = anywhere(count), same = pick(static_cast<uint32_t>(count));
    unsigned char bytes[4];
    memcpy(bytes, &shadow_[at], count);
    bytes[same] ^= 1;
    const unsigned char* from = bytes;
    char* to = place(at);
    size_t left = count;
    asm volatile("repe cmpsb" : "+S"(from), "+D"(to), "+c"(left)::"memory", "cc");
    right(left == count - same - 1);
    for (size_t i = 0; i <= same; ++i, ++steps) reads(at + i, 1);
  }

  // --- others that are stepped ---

  void stepped() {
    ++steps;
    switch (pick(__builtin_cpu_supports("sse4.1") ? 5 : 3)) {
      case 0: return shuffled();
      case 1: return shifted();
      case 2: return truncated();
      case 3: return extended();
      default: return extracted();
    }
  }
  void shuffled() {
    const size_t at = pick(kBytes / 16) * 16;
    const __m128i value = stepped_load(place(at));
    right(memcmp(&value, &shadow_[at], sizeof value) == 0);
    reads(at, sizeof value);
  }
  void shifted() {
    const size_t at = anywhere(4);
    const auto in = any<uint32_t>();
    stepped_shift(place(at), in);
    changes(at, held<uint32_t>(at) << 8 | in >> 24);
  }
  // Into the very register that addresses it.
  void truncated() {
    const size_t at = anywhere(4);
    uint64_t value = reinterpret_cast<uint64_t>(place(at));
    asm volatile("cvttss2si (%0), %k0" : "+r"(value)::"memory");
    right(value == static_cast<uint32_t>(_mm_cvttss_si32(_mm_set_ss(held<float>(at)))));
    reads(at, 4);
  }
  void extended() {
    const size_t at = anywhere(8);
    __m128i value;
    asm volatile("pmovsxbw (%1), %0" : "=x"(value) : "r"(place(at)) : "memory");
    const auto bytes = held<std::array<int8_t, 8>>(at);
    int16_t lanes[8];
    memcpy(lanes, &value, sizeof lanes);
    right(std::equal(bytes.begin(), bytes.end(), lanes));
    reads(at, 8);
  }
  void extracted() {
    const size_t at = anywhere(2);
    const auto value = any<uint32_t>();
    asm volatile("pextrw $1, %0, (%1)" ::"x"(_mm_cvtsi32_si128(static_cast<int>(value))), "r"(place(at)) : "memory");
    writes(at, static_cast<uint16_t>(value >> 16));
  }

  const Registers& registers_;
  size_t offset_;
  std::mt19937 random_;
  unsigned char shadow_[kBytes] = {};
};

// One by one.
void check_same(const std::vector<Seen>& seen, const std::vector<Seen>& expected) {
  CHECK_EQ(seen.size(), expected.size());
  const auto [at, right] = std::mismatch(seen.begin(), seen.end(), expected.begin(), expected.end());
  if (at != seen.end() && right != expected.end()) CHECK_EQ(describe(*at), describe(*right));
}

TEST("registers: 1,000,000 random accesses of native code agree with the model's log, one by one") {
  const int count = check::rounds(1'000'000);
  Remembering model(8192, Slice::most(count));
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 8192);
  Slice slice(registers, 4096 - Slice::kBytes / 2, check::seed());  // some accesses are to both pages
  const Faults faults;
  {
    Threads threads;
    threads.add([&] {
      slice.reserve(count);
      for (int i = 0; i < count; ++i) slice.access();
    });
  }
  CHECK_EQ(slice.wrong, 0u);
  check_same(model.take(), slice.expected);
  CHECK_EQ(faults.stepped.load(), slice.steps);
  if (count > 1000) CHECK(slice.steps > count / 20);
}

TEST("registers: four threads at once lose none and double none") {
  const int each = check::rounds(60'000);
  Remembering model(4096, 4 * Slice::most(each));
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  const uint32_t seed = check::seed();
  std::vector<Slice> slices;
  for (uint32_t t = 0; t < 4; ++t) slices.emplace_back(registers, t * Slice::kBytes, seed + t);
  const Faults faults;
  {
    Threads threads;
    for (Slice& slice : slices) {
      threads.add([&] {
        slice.reserve(each);
        for (int i = 0; i < each; ++i) slice.access();
      });
    }
  }
  CHECK_EQ(model.overlaps.load(), 0u);
  std::vector<Seen> seen[4];
  for (const Seen& access : model.take()) seen[access.offset / Slice::kBytes].push_back(access);
  int steps = 0;
  for (size_t t = 0; t < 4; ++t) {
    CHECK_EQ(slices[t].wrong, 0u);
    check_same(seen[t], slices[t].expected);
    steps += slices[t].steps;
  }
  CHECK_EQ(faults.stepped.load(), steps);
  if (each > 1000) CHECK(steps > each / 5);
}

TEST("registers: asynchronous signals whose handlers access registers too do not disturb a step") {
  if (check::kTsan) check::skip("the thread sanitizer calls handlers later, within ours");
  static Remembering model(4096, 0);
  static const RegisterModel behind = model.model();
  static const Registers* shared;
  static std::atomic<uint32_t> signals{0};
  const Registers registers(&behind, 4096);
  shared = &registers;
  const Faults faults;
  struct sigaction action {};
  action.sa_handler = [](int) {
    __atomic_fetch_add(shared->at<uint32_t>(2048), 1, __ATOMIC_SEQ_CST);
    stepped_store(shared->view.at + 2056, signals.fetch_add(1) + 1);
  };
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 200}, {0, 200}};
  setitimer(ITIMER_REAL, &often, nullptr);
  char* const at = registers.view.at + 64;
  uint32_t wrong = 0;
  int rounds = 0;
  for (; rounds < check::rounds(10'000) || signals < 100; ++rounds) {
    const auto value = static_cast<uint64_t>(rounds) * 0x0001'0000'0001;
    stepped_store(at, value);
    wrong += static_cast<uint64_t>(_mm_cvtsi128_si64(stepped_load(at))) != value;
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  CHECK_EQ(wrong, 0u);
  CHECK_EQ(*registers.at<uint32_t>(2048), signals.load());
  CHECK_EQ(*registers.at<uint64_t>(2056), uint64_t{signals.load()});
  CHECK_EQ(faults.stepped.load(), 2 * rounds + static_cast<int>(signals.load()));
}

TEST("registers: a handler that jumps out of a step leaves nothing behind") {
  static sigjmp_buf out;
  Remembering model(4096);
  memset(&model.memory[64], 0x5a, 16);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  const Faults faults;
  struct sigaction action {};
  action.sa_handler = [](int) { siglongjmp(out, 1); };
  sigaction(SIGFPE, &action, nullptr);
  volatile int jumped = 0;
  static int rounds = 100;
  while (rounds-- > 0) {
    if (sigsetjmp(out, 1) == 0) {
      asm volatile("xorl %%edx, %%edx; movl $1, %%eax; divl (%0)" ::"r"(registers.view.at) : "rax", "rdx", "cc", "memory");
    } else {
      jumped = jumped + 1;
    }
    model.take();
    // The thread's next steps: one that reads, and one that writes.
    CHECK_EQ(stepped_word(registers.view.at + 64), 0x5a5a5a5au);
    stepped_store(registers.view.at + 128, 7);
    check_log(model, {{64, 0x5a5a5a5a5a5a5a5a, 8, false}, {72, 0x5a5a5a5a5a5a5a5a, 8, false}, {128, 7, 8, true}});
  }
  CHECK_EQ(static_cast<int>(jumped), 100);
  CHECK_EQ(faults.stepped.load(), 300);
}

TEST("registers: a gather is refused, completes, and is counted") {
  if (!__builtin_cpu_supports("avx2")) check::skip("no AVX2");
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  const uint64_t before = g_counters.accesses_refused.load();
  RingReader events;
  [&]() __attribute__((target("avx2"))) {
    __m256i found, indices = _mm256_set1_epi32(4), mask = _mm256_set1_epi32(-1);
    asm volatile("vpgatherdd %1, (%2,%3,4), %0" : "=&x"(found), "+x"(mask) : "r"(registers.view.at), "x"(indices));
    CHECK_EQ(_mm256_extract_epi32(found, 3), 0);
  }
  ();
  CHECK(g_counters.accesses_refused.load() > before);
  Event event;
  uint64_t dropped = 0;
  bool announced = false;
  while (events.next(&event, &dropped)) announced = announced || event.kind == EventKind::fault_refused;
  CHECK(announced);
  CHECK(check::eventually([&] { return settled(registers.view); }));
  model.take();
  CHECK_EQ(*registers.at<uint32_t>(0), 0u);
  check_log(model, {{0, 0, 4, false}});
}

TEST("registers: an access that is not wholly within them is refused, and the model not asked") {
  Remembering model(8192);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4100, {.fill = Fill::ones});
  registers.view.mapping->length = 4100;  // as the library maps it, where the fixture maps whole pages
  CHECK_EQ(*registers.at<uint32_t>(4096), 0u);
  check_log(model, {{4096, 0, 4, false}});
  CHECK_EQ(*registers.at<uint64_t>(4096), ~uint64_t{0});
  *registers.at<uint32_t>(4100) = 1;
  CHECK_EQ(model.take().size(), size_t{0});
  CHECK_EQ(g_counters.accesses_refused.load(), 2u);
}

TEST("registers: a write through a mapping that may only be read does not reach the model") {
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096, {.writable = false});
  *registers.at<uint32_t>(0) = 7;
  __atomic_fetch_add(registers.at<uint32_t>(0), 7, __ATOMIC_SEQ_CST);
  CHECK_EQ(*registers.at<uint32_t>(0), 0u);
  check_log(model, {{0, 0, 4, false}, {0, 0, 4, false}});  // that of the addition, and this one
}

TEST("registers: once the gate is shut the model is not called, and accesses get the fill") {
  for (int round = 0; round < check::rounds(60); ++round) {
    Remembering model(4096, 0);
    const RegisterModel behind = model.model();
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> wrong{0}, filled{0}, made[3] = {};
    model.memory.assign(4096, 0x5a);
    const Registers registers(&behind, 4096, {.fill = Fill::ones});
    const Faults faults;
    // Two of the threads are in a step most of the time: one that reads, and one that reads and writes what is there.
    const auto access = [&](int thread) {
      if (thread == 1) return stepped_word(registers.view.at);
      if (thread == 2) stepped_shift(registers.view.at + 64, 0x5a5a5a5a);
      return registers.view.load();
    };
    {
      Threads threads;
      const Finally ends([&] { stop = true; });
      for (int t = 0; t < 3; ++t) {
        threads.add([&, t] {
          while (!stop) {
            const uint32_t word = access(t);
            if (word == ~0u) filled.fetch_add(1);
            else if (word != 0x5a5a5a5a) wrong.fetch_add(1);
            made[t].fetch_add(1);
          }
        });
      }
      const auto each_makes = [&](uint64_t more) {
        const uint64_t wanted[] = {made[0] + more, made[1] + more, made[2] + more};
        return check::eventually([&] { return made[0] >= wanted[0] && made[1] >= wanted[1] && made[2] >= wanted[2]; });
      };
      CHECK(each_makes(20));
      const uint64_t steps = made[1] + made[2];
      CHECK(static_cast<uint64_t>(faults.stepped.load()) >= steps);
      if (round % 3 == 0) device_shut(*registers.device);
      if (round % 3 == 1) revoke(registers.object);
      RevokeCounts counts;
      bool mine = false;
      if (round % 3 == 2) CHECK_OK(suspend(registers.object, &counts, &mine));
      const size_t then = model.logged.load();
      CHECK(each_makes(20));
      CHECK(filled > 20);
      CHECK_EQ(model.logged.load(), then);
      if (round % 3 == 2) {
        CHECK_OK(resume(registers.object));
        CHECK(check::eventually([&] { return model.logged > then + 50; }));
      }
      if (round % 3 == 0) revoke(registers.object);
    }
    CHECK_EQ(wrong.load(), 0u);
    release_mapping_handle(registers.view.mapping, true);
    object_release(registers.object);
    device_forget(*registers.device);
  }
}

// A device whose registers are answered by a thread of its own, as those in JavaScript are.
class Answering {
 public:
  using Model = std::function<bool(bool write, uint64_t offset, uint32_t width, uint64_t* value)>;
  explicit Answering(Model model, uint32_t limit_ms = 5000) : model_(std::move(model)), bell_(eventfd(0, EFD_CLOEXEC)) {
    start_library();
    thread_ = std::thread([this, limit_ms] { serve(limit_ms); });
    ready_.wait(0);
    ObjectOptions described{.name = "registers", .backing = device_, .registers = true};
    CHECK_OK(object_create({.size = 4096}, described, &object_));
    CHECK_OK(handlers_ensure());
    port_begin(object_, {.device = device_.get(), .bell = bell_, .trapped = register_trap_reserve()});
    {
      std::lock_guard guard(device_->lock);
      device_->ports.push_back(object_->port.load());
    }
    view = map(object_, {.fill = Fill::ones});
  }
  ~Answering() {
    device_shut(*device_);
    stopping_ = true;
    eventfd_write(bell_, 1);
    thread_.join();
  }
  volatile uint32_t* at(size_t offset) const { return reinterpret_cast<volatile uint32_t*>(view.at + offset); }
  Device& device() { return *device_; }
  View view;
  std::atomic<uint64_t> discarded{0}, calls{0};

 private:
  void serve(uint32_t limit_ms) {
    device_ = device_create("answering", limit_ms, [] {});
    ready_ = 1;
    ready_.notify_one();
    while (!stopping_) {
      eventfd_t rung;
      eventfd_read(bell_, &rung);
      for (const Work& work : device_take_work(*device_, 64)) {
        if (work.kind == WorkKind::access) answer(work);
      }
    }
  }
  void answer(const Work& work) {
    const auto [mapping, offset, width, what, low, high, thread, unused] = work.numbers;
    uint64_t value = low | high << 32, read = 0;
    bool good = true, puts = (what & 1) == 0;
    if ((what & 1) != 0) good = model_(false, offset, static_cast<uint32_t>(width), &read);
    if (what == 3 && good) puts = device_combine(*device_, work.token, read, &value);
    if (puts && good) good = model_(true, offset, static_cast<uint32_t>(width), &value);
    calls.fetch_add(1);
    if (!device_answer_access(*device_, work.token, !good, read)) discarded.fetch_add(1);
  }

  Model model_;
  int bell_;
  std::atomic<int> ready_{0};
  std::atomic<bool> stopping_{false};
  DeviceRef device_;
  Object* object_ = nullptr;
  std::thread thread_;
};

TEST("registers: a model in another thread answers, and read-modify-writes are indivisible") {
  uint64_t held[512] = {};
  Answering device([&](bool write, uint64_t offset, uint32_t, uint64_t* value) {
    if (write) held[offset / 8] = *value;
    else *value = held[offset / 8];
    return true;
  });
  const int each = check::rounds(3000);
  {
    Threads threads;
    for (int t = 0; t < 4; ++t) {
      threads.add([&] {
        for (int i = 0; i < each; ++i) __atomic_fetch_add(device.at(0), 1, __ATOMIC_SEQ_CST);
      });
    }
  }
  CHECK_EQ(*device.at(0), 4u * static_cast<uint32_t>(each));
  CHECK_EQ(device.calls.load(), 4u * static_cast<uint32_t>(each) + 1);
  const __m128i ramp = _mm_set_epi64x(0x1716151413121110, 0x0706050403020100);
  asm volatile("movdqu %1, (%0)" ::"r"(device.view.at + 16), "x"(ramp) : "memory");
  CHECK_EQ(held[2], 0x0706050403020100u);
  CHECK_EQ(held[3], 0x1716151413121110u);
  const Faults faults;
  stepped_store(device.view.at + 24, 0x4847464544434241);
  CHECK_EQ(held[3], 0x4847464544434241u);
  const __m128i both = _mm_set_epi64x(0x4847464544434241, 0x0706050403020100);
  CHECK_EQ(_mm_movemask_epi8(_mm_cmpeq_epi8(stepped_load(device.view.at + 16), both)), 0xffff);
  stepped_shift(device.view.at + 24, 0x99000000);
  CHECK_EQ(held[3], 0x43424199u);
  CHECK_EQ(faults.stepped.load(), 3);
}

TEST("registers: a model that fails, or is too slow, leaves the fill, and its answer is discarded") {
  std::atomic<bool> slow{false}, entered{false}, go_on{false};
  Answering device([&](bool, uint64_t, uint32_t, uint64_t*) {
    if (slow) entered = true;
    while (slow && !go_on) std::this_thread::yield();
    return false;
  });
  RingReader events;
  CHECK_EQ(*device.at(0), ~0u);
  slow = true;
  device.view.mapping->object->port.load()->limit_ms.store(20);
  size_t late = 0;
  // The first may have been left before the device's thread has looked, where the machine is busy.
  for (; !entered; ++late) CHECK_EQ(*device.at(4), ~0u);
  CHECK_EQ(device.discarded.load(), 0u);
  go_on = true;
  CHECK(check::eventually([&] { return device.discarded == 1; }));
  std::vector<Cause> causes;
  Event event;
  uint64_t dropped = 0;
  while (events.next(&event, &dropped)) causes.push_back(event.cause);
  CHECK_EQ(causes.size(), 1 + late);
  CHECK(causes.at(0) == Cause::failed);
  CHECK(std::all_of(causes.begin() + 1, causes.end(), [](Cause cause) { return cause == Cause::no_answer; }));
}

TEST("registers: what a stuck device leaves unanswered does not use up the slots of others") {
  std::atomic<bool> go_on{false};
  Answering stuck(
      [&](bool, uint64_t, uint32_t, uint64_t*) {
        while (!go_on) std::this_thread::yield();
        return false;
      },
      2);
  for (size_t i = 0; i < 2 * kAskedAccesses; ++i) CHECK_EQ(stuck.view.load(), ~0u);
  {
    Answering other([](bool, uint64_t, uint32_t, uint64_t* value) {
      *value = 7;
      return true;
    });
    CHECK_EQ(other.view.load(), 7u);
  }
  go_on = true;
}

TEST("registers: threads that wait for an answer are let go by a removal, with the fill") {
  for (int round = 0; round < check::rounds(100); ++round) {
    std::atomic<bool> go_on{false};
    std::atomic<int> asked{0};
    Answering device([&](bool, uint64_t, uint32_t, uint64_t* value) {
      ++asked;
      while (!go_on) std::this_thread::yield();
      *value = 5;
      return true;
    });
    std::atomic<uint32_t> got[4] = {};
    {
      Threads threads;
      for (size_t t = 0; t < 3; ++t) threads.add([&, t] { got[t] = device.view.load(4 * t); });
      threads.add([&] { got[3] = stepped_word(device.view.at + 16); });
      CHECK(check::eventually([&] { return asked == 1; }));
      if (round % 2 == 0) device_shut(device.device());
      else revoke(device.view.mapping->object);
    }
    for (const auto& word : got) CHECK_EQ(word.load(), ~0u);
    go_on = true;
  }
  CHECK(g_trap_handler.load() == kTrapHandlerInPlace);
}

// The handler for traps is put in place for the first step: what is without one says nothing of it.
constexpr bool kStepping[] = {false, true};

TEST("A9 a trap that is not a step's kills as without the library, before the first step and after it") {
  for (const bool stepping : kStepping) {
    for (const bool sent : {false, true}) {
      const int status = check::run_in_child([&] {
        Remembering model(4096);
        const RegisterModel behind = model.model();
        const Registers registers(&behind, 4096);
        CHECK_EQ(stepping ? stepped_word(registers.view.at) : *registers.at<uint32_t>(0), 0u);
        CHECK_EQ(g_trap_handler.load() == kTrapHandlerInPlace, stepping);
        if (sent) raise(SIGTRAP);
        else asm volatile("int3");
      });
      CHECK_DIED_OF(status, SIGTRAP);
    }
  }
}

TEST("A9 a previous handler of traps is called, and execution goes on, before the first step and after it") {
  static volatile int traps = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { traps = traps + 1; };
  sigaction(SIGTRAP, &action, nullptr);
  Remembering model(4096);
  const RegisterModel behind = model.model();
  const Registers registers(&behind, 4096);
  for (const bool stepping : kStepping) {
    if (stepping) CHECK_EQ(stepped_word(registers.view.at), 0u);
    CHECK_EQ(g_trap_handler.load() == kTrapHandlerInPlace, stepping);
    traps = 0;
    const uint64_t foreign = g_counters.foreign.load();
    asm volatile("int3");
    raise(SIGTRAP);
    CHECK_EQ(static_cast<int>(traps), 2);
    CHECK_EQ(g_counters.foreign.load() - foreign, stepping ? 2u : 0u);
  }
  model.take();
  stepped_store(registers.view.at + 8, 7);
  check_log(model, {{8, 7, 8, true}});
  CHECK_EQ(static_cast<int>(traps), 2);
}

}  // namespace

#endif
