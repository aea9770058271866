// A page of a live mapping that its object cannot supply: why, and what becomes of it.
#pragma once

#include <cstddef>

#include "core/mapping_record.h"
#include "fault/fault.h"

namespace revocable {

// Whether the kernel has guard pages. Asked once in normal code.
extern bool g_guard_pages;

struct Diagnosis {
  Cause cause;
  bool revoked_by_owner;
  bool try_again;
};

// Why a live mapping's page cannot be had. Before the claim is taken, as it asks the file system.
Diagnosis diagnose(Mapping* mapping, const Fault& fault);

// --- under the claim
// ------------------------------------------------------------------------------------------------------------

// A SIGBUS on a live mapping.
Outcome backing_fault(Mapping* mapping, const Fault& fault, const Diagnosis& diagnosis);

// The whole object is gone: this mapping at once, the others by the service thread.
Outcome lose_object(Mapping* mapping, const Fault& fault, Cause cause);

// The page was lost before: another thread's fault filled it, or it was lost without a fill, and this access needs one.
Outcome lost_before(Mapping* mapping, const Fault& fault, Cause cause);
bool lost_has_fill(const Mapping* mapping, size_t page);

// The tombstone takes the place of a lost page, so that the object does not show there again when its backing comes back.
bool hide_page(const Mapping* mapping, size_t page);

}  // namespace revocable
