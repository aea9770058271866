#include "bench/touch.h"

#include <time.h>

#include <algorithm>
#include <bit>

namespace revocable {
namespace {

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// A permutation of [0, places) that needs no memory, which would be touched too: a bijection of the next power of two (odd
// multipliers, xor with a shift of itself), applied until the result is one of them.
class Order {
 public:
  explicit Order(const TouchPlan& plan) : plan_(plan), mask_(std::bit_ceil(plan.places) - 1) {
    shift_ = std::max(1u, static_cast<unsigned>(std::bit_width(mask_)) / 2);
  }

  uint64_t operator()(uint64_t i) const {
    if (!plan_.random) return i;
    do i = mix(mix(i));
    while (i >= plan_.places);
    return i;
  }

 private:
  uint64_t mix(uint64_t i) const {
    i = (i * 0x9e3779b97f4a7c15 + plan_.seed) & mask_;
    return i ^ (i >> shift_);
  }

  const TouchPlan& plan_;
  uint64_t mask_;
  unsigned shift_;
};

template <typename Word, bool write>
void access(char* at) {
  auto* word = reinterpret_cast<volatile Word*>(at);
  if constexpr (write) *word = 0;
  else (void)*word;
}

template <typename Word, bool write>
uint64_t run(const TouchPlan& plan, uint64_t from, uint64_t count, uint32_t* times) {
  const Order order(plan);
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; ++i) {
    char* at = plan.start + order(from + i) * plan.stride;
    if (times == nullptr) {
      access<Word, write>(at);
      continue;
    }
    const uint64_t before = now_ns();
    access<Word, write>(at);
    times[i] = static_cast<uint32_t>(std::min<uint64_t>(now_ns() - before, UINT32_MAX));
  }
  return now_ns() - start;
}

template <typename Word>
uint64_t run(const TouchPlan& plan, uint64_t from, uint64_t count, uint32_t* times) {
  return plan.write ? run<Word, true>(plan, from, count, times) : run<Word, false>(plan, from, count, times);
}

}  // namespace

uint64_t touch(const TouchPlan& plan, uint64_t from, uint64_t count, uint32_t* times) {
  switch (plan.width) {
    case 1: return run<uint8_t>(plan, from, count, times);
    case 2: return run<uint16_t>(plan, from, count, times);
    case 4: return run<uint32_t>(plan, from, count, times);
    default: return run<uint64_t>(plan, from, count, times);
  }
}

uint32_t touch_clock_ns() {
  uint64_t least = UINT32_MAX;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t before = now_ns();
    least = std::min(least, now_ns() - before);
  }
  return static_cast<uint32_t>(least);
}

}  // namespace revocable
