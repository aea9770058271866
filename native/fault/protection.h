// A live mapping's page that does not permit the access. Under the claim.
#pragma once

#include <cstddef>

#include "core/mapping_record.h"
#include "fault/fault.h"

namespace revocable {

// A SIGSEGV on a live mapping.
Outcome protection_fault(Mapping* mapping, const Fault& fault);

// Diverts a page, and leaves it to be put back. Its table of marks exists.
bool stray(Mapping* mapping, size_t page, const Fault& fault, bool readable_page, EventKind kind);

}  // namespace revocable
