// One 32-bit status word a mapping, in memory that every thread's JavaScript sees directly (a memfd mapped into one
// SharedArrayBuffer a thread). The fault handler sets the word *before* it lets a faulting access complete, so code that
// loads and then finds the word unchanged knows that its load was real.
//
// A word is also a futex: revocation wakes the waiters of a mapping through it (see wait_list.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/failure.h"

namespace revocable {

enum class State : uint32_t { live = 0, suspended = 1, revoked = 2, closed = 3 };

// A word holds the State in its low bits, a flag above, and then a count. 0 is "live, and never anything else": the one value
// that lets a checked access take its fastest path. With the low bits 0 and a count it is live and nothing special again, after
// something that was. The count is another one whenever what the pages show may have changed (publish_state), so that a word that
// is the same before and after a load says that the load was real: without it a load could be answered by the fill of a
// suspension, and the look find the word of before.
inline constexpr uint32_t kStatusStateMask = 3;
inline constexpr uint32_t kStatusMarked = 4;  // some pages are lost, protected or strayed: ask native code about the page
inline constexpr uint32_t kStatusSpecial = kStatusStateMask | kStatusMarked;
inline constexpr uint32_t kStatusCountStep = 8;

inline constexpr uint32_t kStatusSlots = 1u << 20;  // 4 MiB of address space; the kernel allows 65,530 mappings by default

// Behind the words: one cache line a thread, which is never read. A checked access stores there between its load and its look at
// the status word. To a compiler that store may be to the very word it is about to load, so it can neither reuse an earlier load
// of the word nor move the load up (docs/decisions/005-checked-accessors.md).
inline constexpr uint32_t kSinkThreads = 1024;  // more threads than that share lines, which costs time and nothing else
inline constexpr uint32_t kSinkStride = 16;

// Behind those: how many traces of a simulated device record (access_trace.h), so that JavaScript pays one load where none does.
inline constexpr uint32_t kTraceWords = 1024;  // more devices than that share words, which costs time and nothing else
inline constexpr uint32_t kFirstTraceWord = kStatusSlots + kSinkThreads * kSinkStride;
inline constexpr size_t kStatusBytes = (size_t{kFirstTraceWord} + kTraceWords) * sizeof(uint32_t);
inline uint32_t trace_word(uint32_t device) { return kFirstTraceWord + device % kTraceWords; }

// Index of the calling thread's first sink word: another one for each call.
uint32_t take_sink();

// Slot 0 is never given out and says `closed` for ever: a closed Mapping object points there.
inline constexpr uint32_t kClosedSlot = 0;

Failure status_table_open();
std::atomic<uint32_t>* status_words();
int status_table_fd();

}  // namespace revocable
