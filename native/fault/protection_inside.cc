// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "fault/protection.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include <cerrno>

#include "base/counters.h"
#include "base/map_file.h"
#include "base/page.h"
#include "core/handler_work.h"
#include "core/reserve.h"
#include "core/vm_ops.h"
#include "fault/backing.h"
#include "fault/fill.h"
#include "fault/probe.h"

namespace revocable {

namespace {

// A page of the object of which writes reach only this range.
bool map_private_copy(const Mapping* mapping, size_t page, int prot) {
  const Object* object = mapping->object;
  const uintptr_t address = mapping->page_address(page);
  const uint64_t offset = mapping->object_offset_of(page);
  if (!may_be_refused(object)) return map_over(address, mapping->page_size(), prot, MAP_PRIVATE, object->fd, offset);
  do {
    if (map_file_over(address, mapping->page_size(), prot, MAP_PRIVATE | MAP_NORESERVE, object->fd, offset)) return true;
  } while (errno == ENOMEM && drop_ballast(kBallast / 2));
  return false;
}

// A raw write to a read-only page, or any raw access to one without permission, is diverted to a private page so that it
// completes and reaches no other mapping; the service thread, or the next checked access, puts the object's page back.
bool divert(Mapping* mapping, size_t page, bool readable_page) {
  const uintptr_t address = mapping->page_address(page);
  const int prot = PROT_READ | PROT_WRITE;
  // A page of a private mapping that could be written may be its user's own copy: replacing it would lose it, so it is opened for
  // a moment instead.
  if (mapping->has_own_copies()) return mprotect(reinterpret_cast<void*>(address), mapping->page_size(), prot) == 0;
  if (readable_page && map_private_copy(mapping, page, prot)) return true;
  return map_fill(mapping, address, mapping->page_size(), prot);
}

}  // namespace

// Diverts a page, and leaves it to be put back. Its table of marks exists.
bool stray(Mapping* mapping, size_t page, const Fault& fault, bool readable_page, EventKind kind) {
  set_mark(mapping, page, mapping->mark_of(page) | kMarkStray);
  if (page < mapping->stray_first) mapping->stray_first = page;
  if (page > mapping->stray_last) mapping->stray_last = page;
  publish_state(mapping, State::live);  // before the page is diverted: a thread that then reads it finds the word changed
  if (!divert(mapping, page, readable_page)) return false;
  count_fault(mapping, g_counters.faults_protection);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  mapping->strayed_at.store(static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec),
                            std::memory_order_relaxed);
  leave_work(mapping);
  push_fault_event(mapping, fault, kind, Cause::none);
  return true;
}

Outcome protection_fault(Mapping* mapping, const Fault& fault) {
  const size_t page = mapping->page_of(fault.address);
  if (fault.code != SEGV_ACCERR && !mapped(fault.address)) return Outcome::foreign;  // a hole: other code unmapped it
  const PageMark mark = mapping->mark_of(page);
  const Cause lost = mapping->lost_cause(page);
  const bool guarded = fault.code != SEGV_ACCERR;  // or was: another thread may have filled it, or mapped another page, since
  if (guarded && lost == Cause::none) return futile(mapping);
  if (lost != Cause::none) {
    if (mapping->fill != Fill::deadly && (guarded || !lost_has_fill(mapping, page))) return lost_before(mapping, fault, lost);
    // A write to the fill of a lost page that was mapped for reading.
    void* at = reinterpret_cast<void*>(mapping->page_address(page));
    return mprotect(at, mapping->page_size(), PROT_READ | PROT_WRITE) == 0 ? futile(mapping) : Outcome::foreign;
  }
  const int prot = prot_of(mark_access(mark), *mapping);
  // Permitted by our records: protect() or a settled page changed it in this moment, or other code called mprotect(2) on it.
  if (((prot & fault.need()) != 0 && !mapping->trapped) || (mark & kMarkStray) != 0) return futile(mapping);
  if (mapping->fill == Fill::deadly || !ensure_marks(mapping)) return Outcome::foreign;
  if (mapping->trapped) {
    bump(g_counters.accesses_refused);
    mapping->ops->missed(mapping, fault.address, Cause::refused);
  }
  const EventKind kind = mapping->trapped ? EventKind::fault_refused : EventKind::fault_protection;
  return stray(mapping, page, fault, !mapping->trapped && (prot & PROT_READ) != 0, kind) ? Outcome::handled : Outcome::foreign;
}

}  // namespace revocable
