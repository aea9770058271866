// The slots in which raw accesses to registers wait for JavaScript, as register_port.cc and register_port_inside.cc change them.
// Async-signal-safe.
#pragma once

#include "base/futex.h"
#include "device/register_port.h"

namespace revocable {

inline uint32_t state_of(uint32_t word) { return word & ((1u << AskedAccess::kStateBits) - 1); }
inline uint32_t with_state(uint32_t word, AskedAccess::State state) { return word - state_of(word) + state; }

// The word of a slot that is free again: a token of its earlier use finds another generation.
inline uint32_t freed(uint32_t word) { return with_state(word, AskedAccess::kFree) + (1u << AskedAccess::kStateBits); }

// Moves the slot from the state in `*word`, which follows. True for one of several threads that try.
inline bool move_on(AskedAccess* slot, uint32_t* word, AskedAccess::State to) {
  const uint32_t next = with_state(*word, to);
  if (!slot->word.compare_exchange_strong(*word, next, std::memory_order_acq_rel)) return false;
  *word = next;
  return true;
}

inline void finish(AskedAccess* slot, uint32_t word, AskedAccess::State state) {
  slot->word.store(with_state(word, state), std::memory_order_release);
  futex_wake_private(&slot->word);
}

// Frees a slot whose thread has gone on and that is off the list.
inline bool free_if_left(AskedAccess* slot) {
  const uint32_t word = slot->word.load(std::memory_order_acquire);
  if (state_of(word) != AskedAccess::kLeft) return false;
  slot->word.store(freed(word), std::memory_order_release);
  return true;
}

// Lets the thread that waits go on, with `gone`. False when it has left the slot instead.
inline bool end_asked(AskedAccess* slot) {
  uint32_t word = slot->word.load(std::memory_order_acquire);
  if (state_of(word) != AskedAccess::kAsked || !move_on(slot, &word, AskedAccess::kCopying)) return false;
  finish(slot, word, AskedAccess::kGone);
  return true;
}

// The same for an access that has been taken, if its word still is this one: the same generation is the same use of the slot.
inline void end_taken(AskedAccess* slot, uint32_t word) {
  if (move_on(slot, &word, AskedAccess::kAnswering)) finish(slot, word, AskedAccess::kGone);
}

// Takes the list, oldest first.
inline AskedAccess* take_all(RegisterPort* port) {
  AskedAccess* newest = port->asked.exchange(nullptr, std::memory_order_acquire);
  AskedAccess* oldest = nullptr;
  while (newest != nullptr) {
    AskedAccess* older = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = older;
  }
  return oldest;
}

}  // namespace revocable
