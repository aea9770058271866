// Fills: what accesses to a mapping get when they cannot have its object.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/mapping_record.h"
#include "fault/fault.h"

namespace revocable {

// mmap(2) over a part of a mapping, where need be by giving mappings of no use back.
bool map_over(uintptr_t start, size_t bytes, int prot, int flags, int fd, uint64_t offset);

// Zeros or ones, over a part of a mapping. Under the claim.
bool map_fill(Mapping* mapping, uintptr_t start, size_t bytes, int prot);

// A fault of a mapping that is revoked or suspended: the whole extent becomes the fill. `kind`: the counter. Under the claim.
Outcome plug(Mapping* mapping, const Fault& fault, std::atomic<uint64_t>& kind);

}  // namespace revocable
