// What the fault handler leaves to the service thread: mappings whose object is to be revoked as a whole, or that have strayed
// pages to put back. A small table of pointers, claimed by compare-and-swap; when it is full the thread looks at every mapping.
#pragma once

#include <array>
#include <atomic>

#include "core/mapping_record.h"

namespace revocable {

struct HandlerWork {
  std::array<std::atomic<Mapping*>, 256> mappings{};
  std::atomic<bool> overflowed{false};
};
extern HandlerWork g_handler_work;

// Leaves the mapping to the service thread. Under the claim, which that takes after it has emptied the entry: work left again
// there is not overlooked. Async-signal-safe.
void leave_work(Mapping* mapping);

}  // namespace revocable
