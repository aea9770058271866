// Runs in the fault handler, and in the child of a fork: see the rules at the top of handler_inside.cc.
#include "device/access_trace.h"
#include "core/service.h"

namespace revocable {

std::atomic<TraceSet*> g_newest_trace_set{nullptr};

namespace {

// Whether its consumer is to be woken.
bool append(Trace* trace, const AccessRecord& record) {
  if (trace->count == trace->capacity) {
    ++trace->lost;
    ++trace->lost_ever;
  } else {
    size_t at = trace->first + trace->count;
    if (at >= trace->capacity) at -= trace->capacity;
    trace->entries[at] = {record, trace->lost};
    ++trace->count;
    trace->lost = 0;
  }
  const bool waiting = trace->waiting;
  trace->waiting = false;
  return waiting;
}

}  // namespace

void trace_access(TraceSet* set, const AccessRecord& record) {
  bool wake = false;
  {
    const TraceLock lock(set);
    for (Trace& trace : set->traces) {
      if (trace.recording && append(&trace, record)) wake = true;
    }
  }
  // Not service_announce: that is for threads that read the ring of events, which may just have looked there and not here.
  if (wake) service_wake();
}

void trace_after_fork() {
  TraceSet* set = g_newest_trace_set.load(std::memory_order_acquire);
  for (; set != nullptr; set = set->older) {
    if (set->lock.load(std::memory_order_relaxed) == 0) continue;
    set->recording.store(0, std::memory_order_relaxed);
    for (Trace& trace : set->traces) trace = {};  // their rings stay: the record of one may be half there
    set->lock.store(0, std::memory_order_release);
  }
}

}  // namespace revocable
