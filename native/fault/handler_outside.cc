#include "fault/handler.h"

#include <signal.h>

#include "base/counters.h"
#include "base/features.h"
#include "core/registry.h"
#include "core/reserve.h"
#include "fault/backing.h"
#include "fault/fault.h"
#include "fault/protection.h"
#include "instruction/vector_registers.h"

namespace revocable {

bool handler_reserve() {
  g_guard_pages = features().guard;
  find_vector_registers();
  guarded_copy_reserve();
  return reserve_open();
}

void absorb_backing_fault(Mapping* mapping, const AccessFault& fault, uint32_t failures) {
  const RegistryLock lock;  // blocks asynchronous signals while the claim is held
  settle(mapping, {fault.address, SIGBUS, fault.poisoned ? BUS_MCEERR_AR : BUS_ADRERR, fault.write, nullptr, failures});
}

Cause cause_of_missing_page(Mapping* mapping, size_t offset, bool write) {
  return diagnose(mapping, {mapping->start + offset, SIGBUS, BUS_ADRERR, write, nullptr}).cause;
}

void lose_page_of_device(Mapping* mapping, size_t page, Cause cause, uintptr_t address, bool write) {
  const Fault fault{address, SIGBUS, BUS_ADRERR, write, nullptr};
  if (!ensure_marks(mapping)) {
    lose_object(mapping, fault, cause);
    return;
  }
  mark_lost(mapping, page, cause);
  publish_state(mapping, State::live);
  count_fault(mapping, g_counters.faults_backing);
  push_fault_event(mapping, fault, EventKind::fault_backing, cause);
  // Not the fill: a checked copy ends at this page, and system calls fail on it.
  if (!hide_page(mapping, page)) lose_object(mapping, fault, cause);
}

void divert_self_fault(Mapping* mapping, uintptr_t address, bool write) {
  const Fault fault{address, SIGBUS, BUS_ADRERR, write, nullptr};
  mapping->self_faulted = true;
  if (ensure_marks(mapping) && stray(mapping, mapping->page_of(address), fault, false, EventKind::fault_self)) return;
  lose_object(mapping, fault, Cause::unknown);
}

}  // namespace revocable
