// Waiting without sleeping, for what comes in a moment or not at all: being woken by another processor takes longer.
#pragma once

#include <sched.h>
#include <time.h>

#include <cstdint>

namespace revocable {

inline void relax_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("yield");
#endif
}

// On a single processor the thread that is waited for would have to wait.
inline bool spinning_helps() {
  static const bool helps = [] {
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) > 1;
  }();
  return helps;
}

inline uint64_t spin_clock_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Asks `come` until it says yes or the time is up. Returns whether it did.
template <typename Come>
bool spin_until(uint32_t microseconds, Come come) {
  if (come()) return true;
  if (!spinning_helps()) return false;
  for (const uint64_t end = spin_clock_ns() + uint64_t{microseconds} * 1000; spin_clock_ns() < end;) {
    for (int i = 0; i < 8; ++i) relax_processor();
    if (come()) return true;
  }
  return false;
}

// Whether it pays: where processors are busy, the thread that is waited for may be waiting for this one. After a failure it is
// left out once, after the next twice, and so on. What came, but late, is a failure too: this thread has lost its processor
// meanwhile. One thread's.
class SpinHabit {
 public:
  template <typename Come>
  bool spin(uint32_t microseconds, Come come) {
    if (left_out_ < penalty_) {
      ++left_out_;
      return false;
    }
    const uint64_t limit = spin_clock_ns() + uint64_t{microseconds} * 1000;
    const bool came = spin_until(microseconds, come);
    left_out_ = 0;
    if (came && spin_clock_ns() <= limit) penalty_ = 0;
    else penalty_ = penalty_ == 0 ? 1 : penalty_ < kMost ? penalty_ * 2 : kMost;
    return came;
  }

 private:
  static constexpr uint32_t kMost = 256;
  uint32_t penalty_ = 0;
  uint32_t left_out_ = 0;
};

}  // namespace revocable
