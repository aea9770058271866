// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "core/event_ring.h"

namespace revocable {

std::array<RingSlot, kRingSlots> g_ring;
std::atomic<uint64_t> g_ring_head{0};

// Unless a writer of a later round was faster.
static void put_word(std::atomic<uint64_t>& word, uint64_t round, uint64_t content) {
  uint64_t before = word.load(std::memory_order_relaxed);
  while (is_later_round(round, before >> kRoundShift)) {
    // Release: a reader that gets the event finds what was published before it.
    if (word.compare_exchange_weak(before, (round << kRoundShift) | (content & kRoundContent), std::memory_order_release,
                                   std::memory_order_relaxed)) {
      return;
    }
  }
}

void push_event(const Event& event) {
  const uint64_t ticket = g_ring_head.fetch_add(1, std::memory_order_acq_rel);
  const uint64_t round = ring_round(ticket);
  RingSlot& slot = g_ring[ticket % kRingSlots];
  put_word(slot.words[0], round,
           static_cast<uint64_t>(event.kind) | (static_cast<uint64_t>(event.cause) << 8) |
               (static_cast<uint64_t>(event.write) << 16) | (static_cast<uint64_t>(event.slot) << 17));
  put_word(slot.words[1], round, event.generation);
  put_word(slot.words[2], round, event.object);
  put_word(slot.words[3], round, event.offset);
}

}  // namespace revocable
