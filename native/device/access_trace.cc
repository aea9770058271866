#include "device/access_trace.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "core/registry.h"
#include "core/service.h"
#include "core/status_table.h"

namespace revocable {
namespace {

struct Pool {
  std::mutex lock;  // a leaf
  TraceSet* free = nullptr;
  uint32_t made = 0;
};

// Never destroyed: devices may outlive static destructors.
Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

// Under the lock.
void stop(TraceSet* set, Trace* trace) {
  if (!trace->recording) return;
  trace->recording = false;
  set->recording.fetch_sub(1, std::memory_order_relaxed);
  status_words()[set->word].fetch_sub(1, std::memory_order_relaxed);
}

struct Ring {
  TraceEntry* entries;
  size_t bytes;
};

// Under the lock. What is left of it, for the caller to unmap without the lock.
Ring take_apart(TraceSet* set, Trace* trace) {
  stop(set, trace);
  const Ring ring{trace->entries, trace->capacity * sizeof(TraceEntry)};
  *trace = {};
  return ring;
}

void unmap(const Ring& ring) {
  if (ring.entries != nullptr) munmap(ring.entries, ring.bytes);
}

}  // namespace

TraceSet* trace_set_acquire() {
  std::lock_guard guard(pool().lock);
  TraceSet* set = pool().free;
  if (set != nullptr) {
    pool().free = set->next;
  } else {
    set = new TraceSet;
    set->word = trace_word(pool().made++);
    set->older = g_newest_trace_set.load(std::memory_order_relaxed);
    g_newest_trace_set.store(set, std::memory_order_release);  // to a child whose thread was in the midst of this
  }
  return set;
}

void trace_set_release(TraceSet* set) {
  for (uint32_t i = 0; i < kMostTraces; ++i) trace_close(set, static_cast<int>(i));
  {
    // A handler that was late may still hold it.
    const SignalsBlocked blocked;
    const TraceLock lock(set);
    set->ended = false;
  }
  std::lock_guard guard(pool().lock);
  set->next = pool().free;
  pool().free = set;
}

int trace_open(TraceSet* set, size_t capacity) {
  const size_t bytes = capacity * sizeof(TraceEntry);
  void* entries = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (entries == MAP_FAILED) return -errno;
  int failure = -EMFILE;
  {
    const SignalsBlocked blocked;
    const TraceLock lock(set);
    if (set->ended) failure = -ENODEV;
    for (uint32_t i = 0; i < kMostTraces && !set->ended; ++i) {
      Trace& trace = set->traces[i];
      if (trace.entries != nullptr) continue;
      trace.entries = static_cast<TraceEntry*>(entries);
      trace.capacity = capacity;
      trace.recording = true;
      set->recording.fetch_add(1, std::memory_order_relaxed);
      status_words()[set->word].fetch_add(1, std::memory_order_relaxed);
      return static_cast<int>(i);
    }
  }
  munmap(entries, bytes);
  return failure;
}

TraceTaken trace_take(TraceSet* set, int number, AccessRecord* records, size_t most) {
  const SignalsBlocked blocked;
  const TraceLock lock(set);
  Trace& trace = set->traces[number];
  TraceTaken taken{0, 0, false};
  if (trace.count == 0) {
    taken.lost = std::exchange(trace.lost, 0);
    taken.ended = taken.lost == 0 && !trace.recording;
    trace.waiting = taken.lost == 0 && !taken.ended;
    return taken;
  }
  taken.lost = trace.entries[trace.first].lost_before;
  while (taken.count < most && trace.count > 0) {
    const TraceEntry& entry = trace.entries[trace.first];
    if (taken.count > 0 && entry.lost_before > 0) break;
    records[taken.count++] = entry.record;
    trace.first = trace.first + 1 == trace.capacity ? 0 : trace.first + 1;
    --trace.count;
  }
  if (trace.count == 0) trace.first = 0;  // so that a trace that is read uses few pages of its ring
  return taken;
}

uint64_t trace_lost(TraceSet* set, int number) {
  const SignalsBlocked blocked;
  const TraceLock lock(set);
  return set->traces[number].lost_ever;
}

void trace_stop(TraceSet* set, int number) {
  const SignalsBlocked blocked;
  const TraceLock lock(set);
  stop(set, &set->traces[number]);
}

void trace_end(TraceSet* set) {
  bool wake = false;
  {
    const SignalsBlocked blocked;
    const TraceLock lock(set);
    set->ended = true;
    for (Trace& trace : set->traces) {
      stop(set, &trace);
      wake |= std::exchange(trace.waiting, false);
    }
  }
  if (wake) service_wake();
}

void trace_close(TraceSet* set, int number) {
  Ring ring;
  {
    const SignalsBlocked blocked;
    const TraceLock lock(set);
    ring = take_apart(set, &set->traces[number]);
  }
  unmap(ring);
}

}  // namespace revocable
