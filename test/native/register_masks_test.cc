// Accesses of vectors under a mask to registers: the model sees the bytes that the mask enables, each run of them divided like
// any other access, and no others.
#include <cstring>
#include <string>
#include <vector>

#include "base/counters.h"
#include "core/event_ring.h"
#include "instruction_run.h"
#include "register_fixture.h"

#if defined(__x86_64__)

using namespace revocable;

namespace {

constexpr size_t kPage = 4096;  // of every x86-64

// Registers that hold what is written to them, and what was accessed: as "W8@16 ".
struct Recording {
  uint8_t held[kPage] = {};
  std::string seen;
  static void note(void* context, char direction, uint64_t offset, uint32_t width) {
    char text[32];
    snprintf(text, sizeof text, "%c%u@%lu ", direction, width, offset);
    static_cast<Recording*>(context)->seen += text;  // the test's own thread waits in the fault, and holds no lock
  }
  static uint64_t read(void* context, uint64_t offset, uint32_t width) {
    uint64_t value = 0;
    memcpy(&value, static_cast<Recording*>(context)->held + offset, width);
    note(context, 'R', offset, width);
    return value;
  }
  static void write(void* context, uint64_t offset, uint32_t width, uint64_t value) {
    memcpy(static_cast<Recording*>(context)->held + offset, &value, width);
    note(context, 'W', offset, width);
  }
};

struct Card {
  Recording recording;
  RegisterModel model{Recording::read, Recording::write, &recording};
  RegisterDevice device;
  uint8_t ramp[64];

  explicit Card(const MapOptions& options = {}) : device(&model, options) {
    recording.seen.reserve(1 << 16);
    for (size_t i = 0; i < sizeof ramp; ++i) ramp[i] = static_cast<uint8_t>(i + 1);
  }
  char* at(size_t offset) { return device.at(offset); }
  std::string take() {
    std::string seen = recording.seen;
    recording.seen.clear();
    return seen;
  }
};

// The compiler uses neither zmm16 to zmm31 nor masks.
#define MASKED(instructions, at, mask, from) \
  asm volatile("kmovq %1, %%k1\n" instructions ::"r"(at), "r"(uint64_t{mask}), "r"(from) : "memory")

void store_bytes(char* at, uint64_t mask, const void* from) {
  MASKED("vmovdqu64 (%2), %%zmm17\n vmovdqu8 %%zmm17, (%0)%{%%k1%}", at, mask, from);
}

// Into bytes that all were 0xee.
std::vector<uint8_t> load_bytes(const char* at, uint64_t mask, bool zeroing) {
  std::vector<uint8_t> bytes(64, 0xee);
  if (zeroing)
    MASKED("vmovdqu64 (%2), %%zmm17\n vmovdqu8 (%0), %%zmm17%{%%k1%}%{z%}\n vmovdqu64 %%zmm17, (%2)", at, mask, bytes.data());
  else MASKED("vmovdqu64 (%2), %%zmm17\n vmovdqu8 (%0), %%zmm17%{%%k1%}\n vmovdqu64 %%zmm17, (%2)", at, mask, bytes.data());
  return bytes;
}

void need_avx512() {
  if (!has_avx512()) check::skip("the processor has no AVX-512");
}

}  // namespace

TEST("registers: a store under a mask is an access for each run of bytes that the mask enables") {
  need_avx512();
  Card card;
  store_bytes(card.at(64), 0x7f, card.ramp);  // memset of 7 bytes
  CHECK_EQ(card.take(), "W4@64 W2@68 W1@70 ");
  store_bytes(card.at(65), 0x7f, card.ramp);
  CHECK_EQ(card.take(), "W1@65 W2@66 W4@68 ");
  store_bytes(card.at(64), 0xff00ff, card.ramp);
  CHECK_EQ(card.take(), "W8@64 W8@80 ");
  CHECK_EQ(card.recording.held[80], 17);
  store_bytes(card.at(128), 0x8000000000000015, card.ramp);
  CHECK_EQ(card.take(), "W1@128 W1@130 W1@132 W1@191 ");
  CHECK_EQ(card.recording.held[191], 64);
  CHECK_EQ(card.recording.held[129], 0);
  store_bytes(card.at(256), ~uint64_t{0}, card.ramp);
  CHECK_EQ(card.take(), "W8@256 W8@264 W8@272 W8@280 W8@288 W8@296 W8@304 W8@312 ");
  store_bytes(card.at(256), 0, card.ramp);
  CHECK_EQ(card.take(), "");
  MASKED("vmovdqu64 (%2), %%zmm17\n vmovdqu32 %%ymm17, (%0)%{%%k1%}", card.at(512), 0x1b, card.ramp);
  CHECK_EQ(card.take(), "W8@512 W4@524 W4@528 ");
  MASKED("vmovdqu64 (%2), %%zmm17\n vmovupd %%xmm17, (%0)%{%%k1%}", card.at(520), 2, card.ramp);
  CHECK_EQ(card.take(), "W8@528 ");
  MASKED("vmovdqu64 (%2), %%zmm17\n vmovss %%xmm17, (%0)%{%%k1%}", card.at(3), 0xff, card.ramp);
  CHECK_EQ(card.take(), "W1@3 W2@4 W1@6 ");
}

TEST("registers: a load under a mask asks for the bytes that the mask enables, and merges them or not") {
  need_avx512();
  Card card;
  store_bytes(card.at(64), ~uint64_t{0}, card.ramp);
  card.take();
  for (const bool zeroing : {false, true}) {
    for (const uint64_t mask :
         {uint64_t{0}, uint64_t{1}, uint64_t{0x3c}, uint64_t{0xff00ff}, uint64_t{0x8000000000000001}, ~uint64_t{0}}) {
      const std::vector<uint8_t> bytes = load_bytes(card.at(64), mask, zeroing);
      for (size_t i = 0; i < 64; ++i) CHECK_EQ(bytes[i], (mask >> i & 1) != 0 ? i + 1 : zeroing ? 0u : 0xeeu);
    }
    CHECK_EQ(card.take(), "R1@64 R2@66 R2@68 R8@64 R8@80 R1@64 R1@127 R8@64 R8@72 R8@80 R8@88 R8@96 R8@104 R8@112 R8@120 ");
  }
}

TEST("registers: what a mask leaves out may lie where there are no registers") {
  need_avx512();
  Card card;
  const uint64_t refused = g_counters.accesses_refused.load();
  store_bytes(card.at(kPage - 5), 0x1f, card.ramp);
  CHECK_EQ(card.take(), "W1@4091 W4@4092 ");
  store_bytes(card.at(0) - 60, uint64_t{0xf} << 60, card.ramp);
  CHECK_EQ(card.take(), "W4@0 ");
  CHECK_EQ(card.recording.held[0], 61);
  CHECK_EQ(load_bytes(card.at(kPage - 5), 0x1f, true)[4], 5);
  CHECK_EQ(card.take(), "R1@4091 R4@4092 ");
  uint64_t equal = 0;
  asm volatile("kmovq %2, %%k1\n vpxord %%zmm17, %%zmm17, %%zmm17\n vpcmpub $4, (%1), %%zmm17, %%k2%{%%k1%}\n kmovq %%k2, %0"
               : "=r"(equal)
               : "r"(card.at(kPage - 5)), "r"(uint64_t{0x1f})
               : "memory");
  CHECK_EQ(equal, 0x1fu);
  CHECK_EQ(card.take(), "R1@4091 R4@4092 ");
  CHECK_EQ(g_counters.accesses_refused.load(), refused);
}

TEST("registers: an access under a mask is refused where a byte that it enables is none of theirs") {
  need_avx512();
  Recording recording;
  const RegisterModel model{Recording::read, Recording::write, &recording};
  const RegisterDevice device(&model, {.fill = Fill::ones});
  device.view.mapping->length = 100;  // as the library maps it, where the fixture maps whole pages
  uint8_t ramp[64] = {1, 2, 3};
  store_bytes(device.at(97), 0x7, ramp);
  CHECK_EQ(recording.seen, "W1@97 W2@98 ");
  recording.seen.clear();
  store_bytes(device.at(97), 0xf, ramp);
  CHECK_EQ(load_bytes(device.at(97), 0xb, false)[2], 0xee);
  CHECK_EQ(load_bytes(device.at(97), 0xb, false)[0], 0xff);
  CHECK_EQ(recording.seen, "");
  CHECK_EQ(g_counters.accesses_refused.load(), 3u);
}

TEST("registers: a store under a mask through a mapping that may only be read does not reach the model") {
  need_avx512();
  Card card({.writable = false});
  RingReader events;
  store_bytes(card.at(64), 0x7f, card.ramp);
  CHECK_EQ(card.take(), "");
  Event event;
  uint64_t dropped = 0;
  REQUIRE(events.next(&event, &dropped));
  CHECK(event.kind == EventKind::fault_protection);
  CHECK_EQ(load_bytes(card.at(64), 0x7f, true)[0], 0);
  CHECK_EQ(card.take(), "R4@64 R2@68 R1@70 ");
}

TEST("registers: instructions that run by themselves have the bytes that their mask enables, and packed ones as many") {
  need_avx512();
  Card card;
  store_bytes(card.at(64), ~uint64_t{0}, card.ramp);
  card.take();
  uint64_t equal = 0;
  asm volatile("kmovq %2, %%k1\n vmovdqu64 (%3), %%zmm17\n vpcmpeqb (%1), %%zmm17, %%k2%{%%k1%}\n kmovq %%k2, %0"
               : "=r"(equal)
               : "r"(card.at(64)), "r"(uint64_t{0x3c}), "r"(card.ramp)
               : "memory");
  CHECK_EQ(equal, 0x3cu);
  CHECK_EQ(card.take(), "R2@66 R2@68 ");
  // Words and doublewords of which each fourth byte is stored.
  MASKED("vmovdqu64 (%2), %%zmm17\n vpmovdb %%zmm17, (%0)%{%%k1%}", card.at(256), 0x8003, card.ramp);
  CHECK_EQ(card.take(), "W2@256 W1@271 ");
  CHECK_EQ(card.recording.held[271], 61);
  // One doubleword for each element that is enabled, however many there are.
  MASKED("vmovdqu64 (%2), %%zmm17\n vpcompressd %%zmm17, (%0)%{%%k1%}", card.at(512), 0x8888, card.ramp);
  CHECK_EQ(card.take(), "W8@512 W8@520 ");
  CHECK_EQ(card.recording.held[516], 29);
  MASKED("vpexpandd (%0), %%zmm17%{%%k1%}%{z%}\n vmovdqu64 %%zmm17, (%2)", card.at(512), 0x111, card.ramp);
  CHECK_EQ(card.take(), "R8@512 R4@520 ");
  CHECK_EQ(card.ramp[16], 29);
  MASKED("vpaddd (%0)%{1to16%}, %%zmm17, %%zmm17%{%%k1%}", card.at(512), 0x8000, card.ramp);
  CHECK_EQ(card.take(), "R4@512 ");
}

TEST("registers: a mask that is a vector register enables what it says, too") {
  if (!__builtin_cpu_supports("avx2")) check::skip("the processor has no AVX2");
  Card card;
  const uint32_t signs[8] = {0x80000000, 0xffffffff, 0x7fffffff, 0x80000001, 0, 0, 0, 0x80000000};
  asm volatile("vmovdqu (%1), %%ymm1\n vmovdqu (%2), %%ymm2\n vpmaskmovd %%ymm2, %%ymm1, (%0)" ::"r"(card.at(64)), "r"(signs),
               "r"(card.ramp)
               : "memory", "xmm1", "xmm2");
  CHECK_EQ(card.take(), "W8@64 W4@76 W4@92 ");
  CHECK_EQ(card.recording.held[68], 5);
  CHECK_EQ(card.recording.held[72], 0);
  uint32_t loaded[8];
  asm volatile("vmovdqu (%1), %%ymm1\n vmaskmovps (%0), %%ymm1, %%ymm2\n vmovdqu %%ymm2, (%2)" ::"r"(card.at(64)), "r"(signs),
               "r"(loaded)
               : "memory", "xmm1", "xmm2");
  CHECK_EQ(card.take(), "R8@64 R4@76 R4@92 ");
  CHECK_EQ(loaded[1], 0x08070605u);
  CHECK_EQ(loaded[2], 0u);
}

#endif
