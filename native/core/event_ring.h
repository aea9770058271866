// What happened, from signal handlers and other threads to every environment's event loop.
//
// A broadcast ring of 4,096 slots: writers (push_event, async-signal-safe) take a ticket and overwrite the oldest slot, each
// reader keeps its own position and learns how many it was too slow for. State changes must not depend on the ring alone:
// a reader that lost events compares the states of what it knows (src/events.ts does).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/region.h"

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

struct RingSlot {
  // 2 * ticket + 1 while being written, 2 * ticket + 2 when complete. The words are atomics so that a reader that is being
  // lapped reads garbage, not undefined behaviour; it then sees the sequence changed and discards it.
  std::atomic<uint64_t> sequence{0};
  std::array<std::atomic<uint64_t>, 5> words{};
};
extern std::array<RingSlot, kRingSlots> g_ring;
extern std::atomic<uint64_t> g_ring_head;  // the next ticket

void push_event(const Event& event);  // async-signal-safe (handler_inside.cc); wakes nobody

struct RingReader {
  uint64_t position = g_ring_head.load();
  // The next event, or false. Adds to `dropped` what was overwritten before it could be read.
  bool next(Event* event, uint64_t* dropped);
};

}  // namespace revocable
