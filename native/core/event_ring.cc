#include "core/event_ring.h"

#include "core/counters.h"

namespace revocable {

Counters g_counters;
std::array<RingSlot, kRingSlots> g_ring;
std::atomic<uint64_t> g_ring_head{0};

bool RingReader::next(Event* event, uint64_t* dropped) {
  for (;;) {
    const uint64_t head = g_ring_head.load(std::memory_order_acquire);
    if (position == head) return false;
    if (head - position > kRingSlots) {
      *dropped += head - kRingSlots - position;
      position = head - kRingSlots;
    }
    RingSlot& slot = g_ring[position % kRingSlots];
    const uint64_t complete = 2 * position + 2;
    const uint64_t before = slot.sequence.load(std::memory_order_acquire);
    if (before < complete) return false;  // its writer is between ticket and end; it will wake us when it is done
    uint64_t words[5];
    for (size_t i = 0; i < 5; ++i) words[i] = slot.words[i].load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);  // the words before the second look at the sequence
    if (slot.sequence.load(std::memory_order_relaxed) != complete) {
      ++*dropped;
      ++position;
      continue;
    }
    ++position;
    event->kind = static_cast<EventKind>(words[0] & 0xff);
    event->cause = static_cast<Cause>((words[0] >> 8) & 0xff);
    event->write = ((words[0] >> 16) & 1) != 0;
    event->slot = static_cast<uint32_t>(words[1]);
    event->generation = static_cast<uint32_t>(words[2]);
    event->object = words[3];
    event->offset = words[4];
    return true;
  }
}

}  // namespace revocable
