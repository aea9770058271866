// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "core/service.h"

namespace revocable {

ServiceBell g_service_bell;

void service_wake() {
  FutexWord* word = g_service_bell.wakeups.load(std::memory_order_acquire);
  if (word == nullptr) return;
  word->fetch_add(1);
  futex_wake_private(word, 1);
}

void service_announce() {
  if (!g_service_bell.announced.exchange(true)) service_wake();
}

}  // namespace revocable
