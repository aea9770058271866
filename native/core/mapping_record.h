// What the library knows of one mapping (kernel: VMA).
//
// The fault handler reads it, as it reads the record of the mapped object, so the memory of both is type-stable: it is recycled,
// never given back, and a record is recycled only after every handler that could hold a pointer to it has left (mapping_table.h).
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/futex.h"
#include "base/page.h"
#include "core/object_record.h"
#include "core/status_table.h"

namespace revocable {

enum class Fill : uint8_t { zeros, ones, deadly };             // `deadly` is the public 'signal'
enum class Access : uint8_t { base, none, read, read_write };  // a page's protection, where protect() changed it

// A byte a page, allocated when the first page of a mapping needs one. Written under the claim, read by any thread.
using PageMark = uint8_t;
inline constexpr PageMark kMarkAccessMask = 0x03;  // an Access
inline constexpr PageMark kMarkStray = 0x04;       // a forbidden raw access was diverted to a private page here
inline constexpr PageMark kMarkCauseShift = 3;     // a Cause: the page's backing is gone for ever
inline constexpr PageMark kMarkCauseMask = 0x07 << kMarkCauseShift;
inline constexpr PageMark kMarkFilled = 0x40;      // revoked: this page, or the unit of fill it begins, has its fill
inline constexpr PageMark kMarkLostFilled = 0x80;  // live: this lost page has its fill

inline Access mark_access(PageMark mark) { return static_cast<Access>(mark & kMarkAccessMask); }
inline Cause mark_cause(PageMark mark) { return static_cast<Cause>((mark & kMarkCauseMask) >> kMarkCauseShift); }
struct VmOps;          // vm_ops.h
struct DeviceMapping;  // device/device.h

// A piece of a mapping that is mapped with one protection. Which pages of the object it shows is in the mapping's own records:
// what the kernel says of it is another number where it maps a device's physical memory.
struct Piece {
  uintptr_t start;
  uintptr_t end;
  int prot;
};

struct Mapping {
  // Constant while published.
  uintptr_t start = 0;
  uintptr_t end = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
  Object* object = nullptr;
  uint64_t object_offset = 0;
  size_t length = 0;  // bytes the user asked for; end - start is whole pages
  unsigned page_shift = 0;
  bool writable = false;
  bool private_copy = false;  // MAP_PRIVATE
  bool borrowed = false;      // the range is in use as ordinary memory again once this is closed
  bool devices_own = false;   // a device's view of its own region: goes on while that is suspended
  Fill fill = Fill::zeros;
  bool trapped = false;        // of registers: no page has permissions, and the handler delivers each access
  const VmOps* ops = nullptr;  // of what stands behind its object; null also for a device's own view
  bool supplied = false;       // its pages come from there, at their first touch

  // The claim: a thread that changes what is mapped in [start, end) holds it: the handler's fill, revoke, suspend, resume, zap,
  // protect, remap, close. 0 free, 1 held, 2 held with waiters. Its holder never touches the mapped memory, and normal code
  // holds it with asynchronous signals blocked, so that no handler on the same thread can wait for it.
  FutexWord claim{0};

  // Written under the claim.
  std::atomic<State> state{State::closed};
  bool filled = false;  // the whole extent is the fill: no access faults any more
  int fill_prot = 0;
  bool unfillable = false;                          // nothing can be mapped over it (mseal): accessors must look before they load
  bool used_zero_file = false;                      // its fill came from the zero file: the pages are punched out when it closes
  size_t filled_first = SIZE_MAX, filled_last = 0;  // pages that may carry kMarkFilled
  bool by_pages = false;                            // its fill comes page by page, each with its mark
  size_t lost_first = SIZE_MAX, lost_last = 0;      // pages that may be lost; lost_from is apart
  bool tail_filled = false;                         // the pages from lost_from on have their fill
  size_t stray_first = SIZE_MAX, stray_last = 0;    // pages that may carry kMarkStray; first > last when none does
  // Revoked or suspended, where other code mapped some of the range: what of it is ours. 0: all of it. Within the record,
  // since there may be no memory to allocate when it is needed.
  static constexpr uint32_t kExtents = 4;
  uint32_t extent_count = 0;  // kExtents + 1: more than the array holds, so a fill comes page by page
  Piece extents[kExtents] = {};
  bool weak = false;       // revoked by PROT_NONE or guard pages
  bool announced = false;  // that a raw access got the fill
  // That a thread touched a page which it would have had to supply itself. The status word then keeps kStatusMarked, so that
  // every checked access counts such touches before and after.
  bool self_faulted = false;
  std::atomic<uint64_t> strayed_at{0};            // CLOCK_MONOTONIC, ns: when a page was last diverted
  std::atomic<uintptr_t> lost_from{UINTPTR_MAX};  // every page from here on is lost (see lose_tail)
  // The largest size that the object's file is known to have had since this was mapped: bytes up to it have been real.
  std::atomic<uint64_t> seen_size{0};
  std::atomic<std::atomic<PageMark>*> marks{nullptr};
  // The table of a small mapping: asking the kernel for one would be a good part of what a first fault costs.
  static constexpr size_t kFewPages = 16;
  std::atomic<PageMark> few_marks[kFewPages] = {};
  std::atomic<std::atomic<uint64_t>*> rearranged{nullptr};  // per page: object page + 1, or 0 where it is linear
  std::atomic<uint32_t> faults{0};
  std::atomic<uint64_t> retry_tag{0};  // the last access that was sent back to try again
  std::atomic<uint32_t> retries{0};    // and how often in a row
  std::atomic<uint32_t> copiers{0};    // checked copies under way: a fill would let them go on through it
  std::atomic<uint32_t> waits_for_copiers{0};
  std::atomic<uint32_t> futile{0};  // faults that found nothing to do, since something was done

  size_t marked_pages = 0;  // how many marks are not 0: none, and the status word loses kStatusMarked

  // Threads waiting for a futex word of this mapping, which revocation must wake through the status word.
  std::atomic<uint32_t> waiters{0};

  // Of a device's region, for device/ only: what the device's `close` gets when this ends, and how far each page has come.
  // Constant while published; its pages under the claim.
  DeviceMapping* device_mapping = nullptr;

  // Under the registry lock.
  MappingList* list = nullptr;
  Mapping* previous = nullptr;
  Mapping* next = nullptr;
  uint32_t handles = 0;               // Mapping objects in all threads, and pins of shared handles
  std::atomic<uint32_t> attaches{0};  // how often a thread has attached to it, ever
  bool in_table = false;
  Mapping* queue_previous = nullptr;  // of the mapping table, once it is closed
  Mapping* queue_next = nullptr;
  std::vector<Piece>* pieces = nullptr;  // while suspended: what to restore

  size_t page_size() const { return size_t{1} << page_shift; }
  size_t pages() const { return (end - start) >> page_shift; }
  size_t page_of(uintptr_t address) const { return (address - start) >> page_shift; }
  uintptr_t page_address(size_t page) const { return start + (page << page_shift); }
  bool has_own_copies() const { return private_copy && writable; }
  int base_prot() const { return writable ? PROT_READ | PROT_WRITE : PROT_READ; }

  uint64_t object_offset_of(size_t page) const {
    const auto* table = rearranged.load(std::memory_order_acquire);
    const uint64_t moved = table == nullptr ? 0 : table[page].load(std::memory_order_relaxed);
    return moved != 0 ? (moved - 1) << page_shift : object_offset + (uint64_t{page} << page_shift);
  }
  PageMark mark_of(size_t page) const {
    const auto* table = marks.load(std::memory_order_acquire);
    return table == nullptr ? PageMark{0} : table[page].load(std::memory_order_relaxed);
  }
  bool may_have_lost_pages() const { return lost_first <= lost_last || lost_from.load() != UINTPTR_MAX; }
  Cause lost_cause(size_t page) const {
    const Cause cause = mark_cause(mark_of(page));
    if (cause != Cause::none) return cause;
    return page_address(page) >= lost_from.load(std::memory_order_acquire) ? Cause::past_end : Cause::none;
  }
};
inline int prot_of(Access access, const Mapping& mapping) {
  switch (access) {
    case Access::none: return PROT_NONE;
    case Access::read: return PROT_READ;
    case Access::read_write: return PROT_READ | PROT_WRITE;
    case Access::base: break;
  }
  return mapping.base_prot();
}

// Changes a page's mark; the table must exist (ensure_marks). Under the claim.
inline void set_mark(Mapping* mapping, size_t page, PageMark mark) {
  const PageMark old = mapping->marks.load(std::memory_order_relaxed)[page].exchange(mark, std::memory_order_release);
  mapping->marked_pages += static_cast<size_t>(mark != 0) - static_cast<size_t>(old != 0);
}

inline void clear_marks(Mapping* mapping, size_t first, size_t last, PageMark bits) {
  for (size_t page = first; page <= last && first != SIZE_MAX; ++page) {
    const PageMark mark = mapping->marks.load(std::memory_order_relaxed)[page].load(std::memory_order_relaxed);
    if ((mark & bits) != 0) set_mark(mapping, page, static_cast<PageMark>(mark & ~bits));
  }
}

// Marks a page as lost. Its protection stays noted, and what else was noted does not. Under the claim.
inline void mark_lost(Mapping* mapping, size_t page, Cause cause) {
  const auto access = static_cast<PageMark>(mapping->mark_of(page) & kMarkAccessMask);
  set_mark(mapping, page, static_cast<PageMark>(access | (static_cast<PageMark>(cause) << kMarkCauseShift)));
  mapping->lost_first = std::min(mapping->lost_first, page);
  mapping->lost_last = std::max(mapping->lost_last, page);
}

// Whatever fill was there, whole or page by page, has been replaced. Lost pages stay lost, and get a new one when touched. Under
// the claim.
inline void forget_fill(Mapping* mapping) {
  clear_marks(mapping, mapping->filled_first, mapping->filled_last, kMarkFilled);
  clear_marks(mapping, mapping->lost_first, mapping->lost_last, kMarkLostFilled);
  mapping->filled_first = SIZE_MAX;
  mapping->filled_last = 0;
  mapping->filled = mapping->by_pages = mapping->tail_filled = false;
}

// The word of a mapping that has just been made. Before another thread can know it.
inline void begin_state(Mapping* mapping) {
  mapping->state.store(State::live);
  status_words()[mapping->slot].store(0);
}

// What checked accesses are to find: the mapping's own state, or the object's gate where that is further on.
inline State shown_state(const Mapping* mapping) {
  const State own = mapping->state.load(), gate = mapping->object->gate.load();
  return mapping->devices_own && gate == State::suspended ? own : std::max(own, gate);
}

// A word with another state and flag. The count goes on where `counts`; past its end at 1, as 0 is "never".
inline uint32_t next_word(uint32_t before, uint32_t special, bool counts) {
  const uint32_t count = (before & ~kStatusSpecial) + (counts ? kStatusCountStep : 0);
  return (counts && count == 0 ? kStatusCountStep : count) | special;
}

// Publishes `state` and whether pages are marked in the status word; a mapping that is live and was special before, or is now,
// counts on: what its pages show may have changed. Not when only `access` changed: who meets a page that is forbidden now is
// diverted, and that counts; all other copies may go on. Under the claim. Sequentially consistent, because a waiter registers
// itself and then reads the word, and revocation does the reverse. By compare-and-swap, because the word follows the gate without
// the claim: whichever comes second sees the other's change.
inline void publish_state(Mapping* mapping, State state, bool only_access = false) {
  mapping->state.store(state);
  const bool marked =
      mapping->marked_pages != 0 || mapping->self_faulted || mapping->lost_from.load(std::memory_order_relaxed) != UINTPTR_MAX;
  std::atomic<uint32_t>& word = status_words()[mapping->slot];
  uint32_t before = word.load(std::memory_order_relaxed), after;
  do {
    const State shown = shown_state(mapping);
    const uint32_t special = static_cast<uint32_t>(shown) | (marked ? kStatusMarked : 0);
    const bool counts = !only_access && shown == State::live && ((before | special) & kStatusSpecial) != 0;
    after = next_word(before, special, counts);
  } while (!word.compare_exchange_weak(before, after));
}

// The word of a mapping whose object's gate has changed. Under the registry lock.
inline void follow_gate(const Mapping* mapping) {
  std::atomic<uint32_t>& word = status_words()[mapping->slot];
  uint32_t before = word.load(std::memory_order_relaxed), after;
  do {
    const State shown = shown_state(mapping);
    const bool comes_back = shown == State::live && (before & kStatusStateMask) != 0;
    after = next_word(before, static_cast<uint32_t>(shown) | (before & kStatusMarked), comes_back);
  } while (!word.compare_exchange_weak(before, after));
}

// --- the claim ---------------------------------------------------------------------------------------------------------

inline bool try_claim(Mapping* mapping) {
  uint32_t free = 0;
  return mapping->claim.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed);
}

inline void release_claim(Mapping* mapping) {
  if (mapping->claim.exchange(0, std::memory_order_release) == 2) futex_wake_private(&mapping->claim);
}

// Waits for the holder, at most 1 ms, without taking the claim. Async-signal-safe.
inline void await_claim(Mapping* mapping) {
  uint32_t held = 1;
  mapping->claim.compare_exchange_strong(held, 2, std::memory_order_relaxed);
  const timespec limit{0, 1'000'000};
  if (held != 0) futex_wait_private(&mapping->claim, 2, &limit);
}

// For normal code with asynchronous signals blocked. Under the registry lock, or in a ReaderScope: the mapping cannot be closed
// while its claim is held, nor its record be recycled while a thread that has found it reads.
class Claim {
 public:
  explicit Claim(Mapping* mapping) : mapping_(mapping) {
    while (!try_claim(mapping)) await_claim(mapping);
  }
  ~Claim() { release_claim(mapping_); }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

 private:
  Mapping* mapping_;
};

}  // namespace revocable
