// What happened, from signal handlers and other threads to every environment's event loop.
//
// A broadcast ring of 4,096 slots: writers (push_event, async-signal-safe) take a ticket and overwrite the oldest slot, each
// reader keeps its own position and learns how many it was too slow for. State changes must not depend on the ring alone:
// a reader that lost events compares the states of what it knows (src/thread/wakeups.ts does).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/mapping_record.h"

namespace revocable {

enum class EventKind : uint32_t {
  object_changed,
  mapping_closed,
  fault_backing,
  fault_protection,
  fault_revoked,
  displaced,
  fault_self,
  fault_refused
};

struct Event {
  EventKind kind = EventKind::object_changed;
  Cause cause = Cause::none;
  bool write = false;
  uint32_t slot = 0;  // of the mapping, with its generation; 0 where the event is not about one
  uint32_t generation = 0;
  uint64_t object = 0;
  uint64_t offset = 0;  // of the faulting byte in the mapping
};

inline constexpr size_t kRingSlots = 4096;

// Each word of a slot carries, above its content, the round of the ring that it is of. A word only goes to a later round, so a
// writer that the others overtake (its thread was stopped, or interrupted by a handler that has events too) spoils nothing of
// theirs; and a reader that finds one round in all words has one event whole.
struct RingSlot {
  std::array<std::atomic<uint64_t>, 4> words{};
};
inline constexpr unsigned kRoundShift = 52;  // offsets, ids and the rest are smaller
inline constexpr uint64_t kRoundContent = (uint64_t{1} << kRoundShift) - 1;

// Rounds count from 1, since a new ring has zeros, and go on at 0: what matters is which of two that are not far apart is later.
inline uint64_t ring_round(uint64_t ticket) { return (ticket / kRingSlots + 1) & ((uint64_t{1} << (64 - kRoundShift)) - 1); }
inline bool is_later_round(uint64_t round, uint64_t than) { return static_cast<int64_t>((round - than) << kRoundShift) > 0; }

extern std::array<RingSlot, kRingSlots> g_ring;
extern std::atomic<uint64_t> g_ring_head;  // the next ticket

void push_event(const Event& event);  // async-signal-safe; wakes no thread

struct RingReader {
  uint64_t position = g_ring_head.load();
  // The next event, or false. Adds to `dropped` what was overwritten before it could be read.
  bool next(Event* event, uint64_t* dropped);
};

}  // namespace revocable
