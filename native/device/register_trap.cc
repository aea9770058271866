#include "device/register_trap.h"

#include <pthread.h>

#include "base/features.h"
#include "base/spin.h"
#include "device/access_trace.h"
#include "device/register_port.h"
#include "device/register_step.h"

namespace revocable {

#if defined(__x86_64__)
// The child of a fork has one thread: release what the others held.
static void free_after_fork() {
  port_after_fork();
  trace_after_fork();
}
#endif

bool register_trap_reserve() {
#if defined(__x86_64__)
  if (!features().register_traps) return false;
  static const bool noticed = pthread_atfork(nullptr, nullptr, free_after_fork) == 0;
  if (!noticed) return false;
  g_register_waits_spin.store(spinning_helps(), std::memory_order_relaxed);
  return step_reserve();
#else
  return false;
#endif
}

}  // namespace revocable
