// The library's one thread. It runs revocations off the event loop, finishes what a signal handler may not do (revoking the
// rest of an object, putting diverted pages back), tells every environment that there are events, and looks now and then
// whether somebody has taken the signal handlers away. It never touches mapped memory and never calls into Node.
//
// It is started by the first mapping, sleeps on a futex, and keeps no process alive.
#pragma once

#include <functional>

#include "core/failure.h"

namespace revocable {

Failure service_start();

// Runs `job` on the thread, in order. From any thread but a signal handler.
void service_post(std::function<void()> job);

// Async-signal-safe: there is something for the thread to do (an event was pushed, an object is to be revoked).
void service_wake();

// `notify` is called on the service thread whenever events may have been pushed. Returns an id for removal; after
// service_unsubscribe returned, it is not running and will not be called.
int service_subscribe(std::function<void()> notify);
void service_unsubscribe(int id);

// Called every 100 ms while mappings exist, and after service_wake().
void service_set_watchdog(void (*check)());

}  // namespace revocable
