// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "core/handler_work.h"

#include "core/service.h"

namespace revocable {

HandlerWork g_handler_work;

void leave_work(Mapping* mapping) {
  for (auto& entry : g_handler_work.mappings) {
    Mapping* seen = entry.load(std::memory_order_relaxed);
    if (seen == mapping) return;  // the thread has been woken for it
    // Release: the service thread sees what was written to the mapping and its object before.
    if (seen == nullptr && entry.compare_exchange_strong(seen, mapping, std::memory_order_release)) return service_wake();
  }
  g_handler_work.overflowed.store(true, std::memory_order_release);
  service_wake();
}

}  // namespace revocable
