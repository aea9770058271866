// Waiting on a 32-bit word of a mapping, and waking those who do: futex(2) keyed by file and offset, so it works across
// mappings and processes.
//
// A waiter sleeps on three words at once with futex_waitv(2): the user's, the mapping's status word, and one of its own. A thread
// that revokes publishes the status first and wakes it after; a waiter that is only about to sleep finds the status changed and
// does not sleep. With futex(2) alone (before Linux 5.16) only the user's word can be slept on, and the other two are looked at
// every 20 ms.
//
// The waiter's own word is for wake() and cancelling while the waiter is not asleep: a wake must not be lost because it
// came between two slices of a wait, or before the thread of an asynchronous wait had started.
#pragma once

#include <cstdint>
#include <functional>

#include "base/failure.h"
#include "core/mapping_record.h"

namespace revocable {

enum class WaitResult : uint32_t { woken, not_equal, timed_out, gone, faulted, cancelled, pending };

struct Waiter {
  Mapping* mapping;
  uintptr_t address;  // of the word
  uint32_t expected;
  uint64_t object;  // the word's identity for in-process wakes
  uint64_t object_offset;
  FutexWord own{0};                 // bumped by wake() and cancel
  std::atomic<bool> asleep{false};  // in the kernel, or just before or after
  bool notified = false;            // by a wake that has not ended it yet; under the list's lock
  bool cancelled = false;           // under the list's lock
  bool slept = false;               // a later mismatch means that another thread changed the word: woken, not not-equal
};

// Registers a waiter; the mapping must stay held until wait_end. Nothing is read from the mapping.
Waiter* wait_begin(Mapping* mapping, size_t offset, uint32_t expected);
void wait_end(Waiter* waiter);

// Sleeps at most `limit_ns`. `pending` when that time passed without anything happening.
WaitResult wait_slice(Waiter* waiter, uint64_t limit_ns);

// Waits on a thread of its own, with the same meaning. `done` is called on that thread and must call wait_end; a negative timeout
// is none. EAGAIN when there can be no more threads.
Failure wait_on_thread(Waiter* waiter, int64_t timeout_ns, std::function<void(WaitResult)> done);
void wait_cancel(Waiter* waiter);  // only between wait_on_thread and `done`: the caller serialises the two

// Wakes up to `count` waiters of the word, this process's first, then those of others. Returns how many: exact for this process.
uint32_t wake_word(Mapping* mapping, size_t offset, uint32_t count);

}  // namespace revocable
