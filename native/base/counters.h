// Process-wide counters behind stats(). Relaxed everywhere: each is a count of its own and orders nothing.
#pragma once

#include <atomic>
#include <cstdint>

namespace revocable {

struct Counters {
  std::atomic<uint64_t> mapped{0}, closed{0};
  std::atomic<uint64_t> live{0}, suspended{0}, revoked{0};  // mappings in that state now
  std::atomic<uint64_t> revokes{0}, suspends{0}, resumes{0};
  std::atomic<uint64_t> faults_revoked{0}, faults_suspended{0}, faults_backing{0}, faults_protection{0}, faults_copy{0};
  // Faults of one thread that another one was settling, or had: for tests that two did fault together.
  std::atomic<uint64_t> faults_shared{0};
  std::atomic<uint64_t> fills{0};
  std::atomic<uint64_t> foreign{0};  // signals passed on to the previous action
  std::atomic<uint64_t> events_dropped{0};
  std::atomic<uint64_t> displacements{0};
  // Of simulated devices: pages supplied, and asked of an op; touches by the thread that would have had to answer; answers that
  // came when no thread waited for them any more.
  // Raw accesses to registers that were not delivered: not understood, or not wholly within the registers.
  std::atomic<uint64_t> accesses_refused{0};
  std::atomic<uint64_t> pages_supplied{0}, pages_asked{0}, self_faults{0}, answers_discarded{0};
};
extern Counters g_counters;

inline void bump(std::atomic<uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }
inline void drop(std::atomic<uint64_t>& counter) { counter.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace revocable
