// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "fault/fault.h"

#include <signal.h>

#include "base/counters.h"
#include "core/service.h"

namespace revocable {

// How often a fault on one mapping may find nothing to do before it is passed on as foreign. Threads that faulted just
// before another one's fill use it up one by one, and every fill resets it.
constexpr uint32_t kFutileLimit = 4096;

void push_fault_event(const Mapping* mapping, const Fault& fault, EventKind kind, Cause cause) {
  Event event;
  event.kind = kind;
  event.cause = cause;
  event.write = fault.write;
  event.slot = mapping->slot;
  event.generation = mapping->generation;
  event.object = mapping->object->id;
  event.offset = fault.address - mapping->start;
  push_event(event);
  service_announce();
}

Outcome futile(Mapping* mapping) {
  bump(g_counters.faults_shared);
  return mapping->futile.fetch_add(1, std::memory_order_relaxed) < kFutileLimit ? Outcome::handled : Outcome::foreign;
}

void count_fault(Mapping* mapping, std::atomic<uint64_t>& kind) {
  mapping->faults.fetch_add(1, std::memory_order_relaxed);
  mapping->futile.store(0, std::memory_order_relaxed);
  bump(kind);
}

void report_access(Mapping* mapping, uintptr_t address, bool write, EventKind kind, Cause cause) {
  count_fault(mapping, kind == EventKind::fault_protection ? g_counters.faults_protection : g_counters.faults_backing);
  push_fault_event(mapping, {address, SIGSEGV, SEGV_ACCERR, write, nullptr}, kind, cause);
}

}  // namespace revocable
