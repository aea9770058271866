// The library's one thread. It runs revocations off the event loop, finishes what a signal handler may not do (revoking the
// rest of an object, putting diverted pages back), tells every environment that there are events, and looks now and then
// whether other code has taken the signal handlers away. It never touches mapped memory and never calls into Node.
//
// It is started by the first mapping, sleeps on a futex, and keeps no process alive.
#pragma once

#include <atomic>
#include <functional>

#include "base/failure.h"
#include "base/futex.h"

namespace revocable {

Failure service_start();

// Runs `job` on the thread, in order. From any thread but a signal handler.
void service_post(std::function<void()> job);

// Calls `done` on the thread once it has finished whatever it had to do when this was called: work left by handlers, jobs,
// notices to environments. Pages that were diverted a moment ago count: they are put back first.
void service_barrier(std::function<void()> done);

// Async-signal-safe: there is something for the thread to do.
void service_wake();

// Async-signal-safe: an event was pushed, of which every environment is to be notified. Costs a system call only when none has
// been notified since one last looked.
void service_announce();

// What these two ring: reachable from a signal handler, without the guard of a function-local static.
struct ServiceBell {
  std::atomic<FutexWord*> wakeups{nullptr};  // of the thread; null until it has been started
  // A thread has been woken for events and none has looked at the ring since: the reader clears it first, so an event that finds
  // it set is found by that look. Everything about it is sequentially consistent.
  std::atomic<bool> announced{false};
};
extern ServiceBell g_service_bell;

// There is a mapping to watch over again. A system call only where the thread has gone to rest.
void service_watch();

// The reader's side of service_announce: a thread that is about to read the events says so first.
void service_events_looked_at();

// Tells all environments but one, from the calling thread. Not from a signal handler.
void service_notify(int except);
inline constexpr int kNoSubscription = 0;

// `notify` is called on the service thread, or in service_notify, whenever events may have been pushed. Returns an id, not
// kNoSubscription; after service_unsubscribe returned, it is not running and will not be called.
int service_subscribe(std::function<void()> notify);
void service_unsubscribe(int id);

// Called every 100 ms while mappings exist, or did at the last look, and after service_wake().
void service_set_watchdog(void (*check)());

}  // namespace revocable
