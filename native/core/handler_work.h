// What the fault handler leaves to the service thread: mappings whose object is to be revoked as a whole, or that have strayed
// pages to put back. A small table of pointers, claimed by compare-and-swap; when it is full the thread looks at every mapping.
#pragma once

#include <array>
#include <atomic>

#include "core/mapping_record.h"

namespace revocable {

// At the limit of mappings (vm.max_map_count) no mmap succeeds, not even one that replaces a mapping by another. The library
// keeps some mappings of no use to give back then: false when no more than `keep` are left. Async-signal-safe.
// (handler_inside.cc)
bool drop_ballast(size_t keep = 0);

struct HandlerWork {
  std::array<std::atomic<Mapping*>, 256> mappings{};
  std::atomic<bool> overflowed{false};
};
extern HandlerWork g_handler_work;

}  // namespace revocable
