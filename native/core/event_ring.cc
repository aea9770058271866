#include "core/event_ring.h"

namespace revocable {

namespace {

enum class Found { whole, unwritten, overwritten };

// A word of a later round says that all of this one is lost, also where others have not come yet.
Found look(const RingSlot& slot, uint64_t round, uint64_t* words) {
  Found found = Found::whole;
  for (size_t i = 0; i < slot.words.size(); ++i) {
    const uint64_t word = slot.words[i].load(std::memory_order_acquire);  // what was published before the event
    const uint64_t written = word >> kRoundShift;
    words[i] = word & kRoundContent;
    if (is_later_round(written, round)) return Found::overwritten;
    if (written != round) found = Found::unwritten;
  }
  return found;
}

}  // namespace

bool RingReader::next(Event* event, uint64_t* dropped) {
  for (;;) {
    const uint64_t head = g_ring_head.load(std::memory_order_acquire);
    if (position == head) return false;
    if (head - position > kRingSlots) {
      *dropped += head - kRingSlots - position;
      position = head - kRingSlots;
    }
    uint64_t words[4];
    const Found found = look(g_ring[position % kRingSlots], ring_round(position), words);
    if (found == Found::unwritten) return false;  // its writer is between ticket and end; it will wake us when it is done
    ++position;
    if (found == Found::overwritten) {
      ++*dropped;
      continue;
    }
    event->kind = static_cast<EventKind>(words[0] & 0xff);
    event->cause = static_cast<Cause>((words[0] >> 8) & 0xff);
    event->write = ((words[0] >> 16) & 1) != 0;
    event->slot = static_cast<uint32_t>(words[0] >> 17);
    event->generation = static_cast<uint32_t>(words[1]);
    event->object = words[2];
    event->offset = words[3];
    return true;
  }
}

}  // namespace revocable
