// Loops that touch mapped memory, and how long that took: for benchmarks of faults and of memory.
//
// The accesses are raw ones, so what they cost is what the memory costs; the fault handler sees to it that they survive a
// revocation. Not for a mapping whose fill is `deadly`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace revocable {

struct TouchPlan {
  char* start;      // the first place
  uint64_t places;  // how many there are, `stride` bytes apart
  size_t stride;
  unsigned width;  // 1, 2, 4 or 8 bytes
  bool write;      // zeros; else a load
  bool random;     // each place once, in an order that `seed` decides; else ascending
  uint64_t seed;
};

// Touches places [from, from + count) of the plan's order. With `times` each access is timed on its own, in nanoseconds, and the
// clock's own cost is in every figure (touch_clock_ns). Returns the nanoseconds of the whole loop.
uint64_t touch(const TouchPlan& plan, uint64_t from, uint64_t count, uint32_t* times);

// What timing nothing takes: the smallest of many.
uint32_t touch_clock_ns();

}  // namespace revocable
