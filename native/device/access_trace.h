// Traces: records of the accesses to the registers of a simulated device, in the order in which its model answers them.
//
// Each open trace has a ring. A thread that makes or answers an access appends to the rings of all of its device's traces, the
// fault handler too, so nothing on that side allocates. One consumer a trace takes records out.
//
//   if (trace_active(set)) trace_access(set, record);
//
// All of a device's traces have one lock, a futex: 0 free, 1 held, 2 held with waiters. A leaf: nothing else is locked under it,
// and its holder touches no mapping. Normal code holds it with asynchronous signals blocked, so that no handler on the same
// thread can wait for it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/futex.h"

namespace revocable {

struct AccessRecord {
  uint64_t time_ns = 0;  // CLOCK_MONOTONIC
  uint64_t offset = 0;   // in the region
  uint64_t value = 0;    // written, or what the accessor got
  uint32_t thread = 0;   // the kernel's id of the accessor
  uint32_t region = 0;   // index
  uint8_t width = 0;     // bytes
  bool write = false;
  bool raw = false;     // not through a checked accessor
  bool failed = false;  // the model threw; a read has no value then
};

inline constexpr uint32_t kMostTraces = 8;  // of a device at once

// The rest is for access_trace.cc and access_trace_inside.cc.
struct TraceEntry {
  AccessRecord record;
  uint64_t lost_before;  // how many accesses between the previous entry and this one found the ring full
};

struct Trace {
  TraceEntry* entries = nullptr;  // a ring; null: the trace is not open
  size_t capacity = 0;
  size_t first = 0, count = 0;
  uint64_t lost = 0;  // since the last entry was stored
  uint64_t lost_ever = 0;
  bool recording = false;
  bool waiting = false;  // its consumer found nothing, and wants to be woken
};

// Of one device. Type-stable memory: recycled, never given back, as the fault handler may hold a pointer to it.
struct TraceSet {
  // How many traces record. Written under the lock; orders nothing, as the thread that opens a trace says so to those that are to
  // be traced, or misses their accesses.
  std::atomic<uint32_t> recording{0};
  FutexWord lock{0};
  uint32_t word = 0;  // of the status table (trace_word), where JavaScript sees whether any records
  // Under the lock:
  bool ended = false;
  Trace traces[kMostTraces];
  TraceSet* next = nullptr;   // in the pool
  TraceSet* older = nullptr;  // of all that have been made
};

extern std::atomic<TraceSet*> g_newest_trace_set;

class TraceLock {
 public:
  explicit TraceLock(TraceSet* set) : word_(set->lock) {
    uint32_t free = 0;
    if (word_.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed)) return;
    // A thread that has waited holds it as 2: others may still wait.
    while (word_.exchange(2, std::memory_order_acquire) != 0) futex_wait_private(&word_, 2, nullptr);
  }
  ~TraceLock() {
    if (word_.exchange(0, std::memory_order_release) == 2) futex_wake_private(&word_, 1);
  }
  TraceLock(const TraceLock&) = delete;
  TraceLock& operator=(const TraceLock&) = delete;

 private:
  FutexWord& word_;
};

// With the device's record.
TraceSet* trace_set_acquire();
void trace_set_release(TraceSet* set);  // closes what is still open

// One relaxed load: who is not traced pays no more.
inline bool trace_active(const TraceSet* set) { return set->recording.load(std::memory_order_relaxed) != 0; }

// Async-signal-safe. Appends to every trace that records; where a ring is full, the access is counted as lost. Normal code calls
// it with asynchronous signals blocked (SignalsBlocked).
void trace_access(TraceSet* set, const AccessRecord& record);  // access_trace_inside.cc

// Begins to record. A trace's number; or -EMFILE when there are kMostTraces, -ENODEV after trace_end, or mmap's negative errno.
int trace_open(TraceSet* set, size_t capacity);

struct TraceTaken {
  size_t count;
  uint64_t lost;  // how many were lost before the first of these; with none, after all that was taken before
  bool ended;     // nothing more will come
};

// Moves up to `most` records out, in order, up to where some were lost. When there is nothing, and more may come, all
// environments are rung (service.h) as soon as there is. For one consumer at a time.
TraceTaken trace_take(TraceSet* set, int trace, AccessRecord* records, size_t most);

uint64_t trace_lost(TraceSet* set, int trace);  // ever
void trace_stop(TraceSet* set, int trace);      // records no more; what has been recorded can still be taken
void trace_end(TraceSet* set);                  // the same for all traces, and for good: the device has been removed
void trace_close(TraceSet* set, int trace);

// In the child of a fork: what another thread was in the midst of changing has no traces there. Async-signal-safe.
void trace_after_fork();  // access_trace_inside.cc

}  // namespace revocable
