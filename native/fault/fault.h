// A fault of memory, its counters and its events.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstdint>

#include "core/event_ring.h"
#include "core/mapping_record.h"

namespace revocable {

class MachineContext;  // instruction/machine_context.h

enum class Outcome { handled, foreign };

struct Fault {
  uintptr_t address;
  int signal;
  int code;
  bool write;
  MachineContext* machine;         // of the instruction that waits; none for a checked access, which has come back
  uint32_t failures = UINT32_MAX;  // of a checked access: how often it was made before
  bool raw() const { return machine != nullptr; }
  int need() const { return write ? PROT_WRITE : PROT_READ; }
};

// The event, and a notice to the environments.
void push_fault_event(const Mapping* mapping, const Fault& fault, EventKind kind, Cause cause);
// A fault that found nothing to do. Foreign after too many in a row. Under the claim.
Outcome futile(Mapping* mapping);
// One that changed something. `kind`: its counter.
void count_fault(Mapping* mapping, std::atomic<uint64_t>& kind);
// Counts and announces an access that did not reach what is behind a live mapping. In a reader's scope.
void report_access(Mapping* mapping, uintptr_t address, bool write, EventKind kind, Cause cause);

}  // namespace revocable
