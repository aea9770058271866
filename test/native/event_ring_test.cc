// L5: what a reader of the ring gets, what it has lost, and that the two together are all.
#include "core/event_ring.h"

#include <atomic>

#include "fixture.h"
#include "stepping.h"

using namespace revocable;

namespace {

// Every field says which event it is.
Event numbered(uint32_t number) {
  Event event;
  event.kind = EventKind::fault_backing;
  event.cause = Cause::past_end;
  event.write = number % 2 == 1;
  event.slot = event.generation = number;
  event.object = event.offset = number;
  return event;
}

bool is_numbered(const Event& event, uint32_t number) {
  return event.kind == EventKind::fault_backing && event.cause == Cause::past_end && event.write == (number % 2 == 1) &&
         event.slot == number && event.generation == number && event.object == number && event.offset == number;
}

void push(uint32_t from, uint32_t to) {
  for (uint32_t number = from; number < to; ++number) push_event(numbered(number));
}

// What the reader still gets are the events from..to-1, in order.
void gets(RingReader* reader, uint32_t from, uint32_t to, uint64_t lost) {
  Event event;
  uint64_t dropped = 0;
  uint32_t next = from;
  while (reader->next(&event, &dropped)) {
    if (!is_numbered(event, next++)) {
      CHECK_EQ(event.slot, next - 1);
      return;
    }
  }
  CHECK_EQ(next, to);
  CHECK_EQ(dropped, lost);
}

}  // namespace

TEST("L5 a reader of the ring gets each event once, in order, up to as many as it holds") {
  constexpr uint32_t kSlots = kRingSlots;
  RingReader reader;
  gets(&reader, 0, 0, 0);
  push(0, 1);
  gets(&reader, 0, 1, 0);
  gets(&reader, 0, 0, 0);
  push(1, 1 + kSlots);
  gets(&reader, 1, 1 + kSlots, 0);
}

TEST("L5 a reader that is too slow for the ring has lost exactly the oldest events") {
  constexpr uint32_t kSlots = kRingSlots;
  for (const uint32_t more : {1u, 2u, 100u, kSlots - 1, kSlots, kSlots + 1, 3 * kSlots + 7}) {
    RingReader reader;
    push(0, kSlots + more);
    gets(&reader, more, kSlots + more, more);
  }
}

TEST("L5 a storm of writers to the ring: what a reader gets is whole, and with what it has lost it is all") {
  constexpr uint32_t kWriters = 2;
  const auto each = static_cast<uint32_t>(check::rounds(1'000'000));
  RingReader reader;
  std::atomic<uint32_t> ended{0};
  Threads writers;
  for (uint32_t writer = 0; writer < kWriters; ++writer) {
    writers.add([&, writer] {
      push(writer * each, (writer + 1) * each);
      ++ended;
    });
  }
  uint64_t got = 0, dropped = 0, torn = 0, disorder = 0;
  uint32_t expected[kWriters];
  for (uint32_t writer = 0; writer < kWriters; ++writer) expected[writer] = writer * each;
  for (bool last = false;;) {
    last = ended == kWriters;  // before the look: what they pushed is there
    Event event;
    while (reader.next(&event, &dropped)) {
      ++got;
      const uint32_t writer = event.slot / each;
      if (writer >= kWriters || !is_numbered(event, event.slot)) {
        ++torn;
        continue;
      }
      disorder += event.slot < expected[writer];
      expected[writer] = event.slot + 1;
    }
    if (last) break;
  }
  writers.join();
  CHECK_EQ(torn, uint64_t{0});
  CHECK_EQ(disorder, uint64_t{0});
  CHECK_EQ(got + dropped, uint64_t{kWriters} * each);
  CHECK(got > 0 && dropped > 0);  // it was overtaken, and read on
}

TEST("L5 a writer that the others overtake by a round of the ring, between any two instructions, spoils none of their events") {
  if (!can_step()) check::skip("no single steps");
  constexpr uint32_t kSlots = kRingSlots, kLate = 99'999'999;
  bool within = true;
  for (size_t instructions = 0; within; ++instructions) {
    RingReader reader;
    within = run_interrupted(
        instructions, [] { push(0, kSlots + 10); }, [] { push_event(numbered(kLate)); });
    if (!within) break;
    push(kSlots + 10, kSlots + 20);
    Event event;
    uint64_t dropped = 0, got = 0, wrong = 0;
    uint32_t last = 0;
    while (reader.next(&event, &dropped)) {
      ++got;
      wrong += !is_numbered(event, event.slot);
      if (event.slot != kLate) last = event.slot;
    }
    // All have come to their end, so a reader comes to the end of the ring.
    CHECK_EQ(last, kSlots + 19);
    CHECK_EQ(wrong, uint64_t{0});
    CHECK_EQ(got + dropped, uint64_t{kSlots} + 21);
    CHECK(got >= kSlots - 1);
  }
}
