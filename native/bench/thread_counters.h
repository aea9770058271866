// What the kernel counts for the calling thread, and where it lets it run.
#pragma once

#include <cstdint>
#include <vector>

#include "base/failure.h"

namespace revocable {

struct ThreadUsage {
  uint64_t minor_faults, major_faults;
  uint64_t voluntary_switches, involuntary_switches;
  uint64_t user_us, system_us;
};
ThreadUsage thread_usage();

// perf_event_open(2) for the calling thread, on any processor. Where the kernel's part may not be counted
// (kernel.perf_event_paranoid), only the user's is.
struct PerfEvent {
  int fd;
  bool user_only;
};
Failure perf_open(uint32_t type, uint64_t config, PerfEvent* event);
// The count, extrapolated where the event had to share its hardware counter with others.
Failure perf_read(int fd, double* count);
void perf_close(int fd);

Failure thread_pin(const std::vector<uint32_t>& processors);
Failure thread_processors(std::vector<uint32_t>* processors);

}  // namespace revocable
