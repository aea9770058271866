// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "fault/fill.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/counters.h"
#include "base/memfd.h"
#include "base/page.h"
#include "core/reserve.h"
#include "fault/probe.h"

namespace revocable {

// Single pages may not use up the ballast: what they end in at the limit is one fill for many of them, which may need a bit too,
// since the kernel may have let the count exceed the limit and then refuses whatever does not reduce it.
bool map_over(uintptr_t start, size_t bytes, int prot, int flags, int fd, uint64_t offset) {
  const size_t keep = bytes <= kPageSize ? kBallast / 2 : 0;
  do {
    if (mmap(reinterpret_cast<void*>(start), bytes, prot, flags | MAP_FIXED | MAP_NORESERVE, fd, static_cast<off_t>(offset)) !=
        MAP_FAILED) {
      return true;
    }
  } while (errno == ENOMEM && drop_ballast(keep));
  return false;
}

namespace {

// How often a raw access waits for checked copies of the same revoked mapping, each of which takes microseconds to its next
// fault.
constexpr uint32_t kCopierWaits = 10'000;

// A mapping of ones up to this size is filled at once; a larger one window by window, as it is touched.
constexpr size_t kOnesAtOnce = size_t{1} << 30;

struct OnesBlock {
  char bytes[4096];
};
constexpr OnesBlock kOnesBlock = [] {
  OnesBlock block{};
  for (char& byte : block.bytes) byte = static_cast<char>(0xff);
  return block;
}();

// One MAP_FIXED, so no thread ever sees a hole. The second way is for RLIMIT_DATA and overcommit, which do not count shared
// memory.
bool map_zeros(Mapping* mapping, uintptr_t start, size_t bytes, int prot) {
  if (mmap(reinterpret_cast<void*>(start), bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) !=
      MAP_FAILED) {
    return true;
  }
  if (!map_over(start, bytes, prot, MAP_SHARED, zero_fill_fd(), start)) return false;
  mapping->used_zero_file = true;
  return true;
}

// Private windows, so that a write stays where it was made. Callers pass one window, or the lost tail of a live mapping: another
// thread may write to the first window while the last is still being mapped.
bool map_ones(uintptr_t start, size_t bytes, int prot) {
  for (size_t at = 0; at < bytes; at += kOnesWindow) {
    const size_t part = bytes - at < kOnesWindow ? bytes - at : kOnesWindow;
    if (!map_over(start + at, part, prot, MAP_PRIVATE, ones_fill_fd(), 0)) return false;
  }
  return true;
}

// Ones where private memory is refused (RLIMIT_DATA): written into the range's own place in the zero file first.
bool map_written_ones(Mapping* mapping, uintptr_t start, size_t bytes, int prot) {
  for (size_t at = 0; at < bytes; at += sizeof kOnesBlock.bytes) {
    if (pwrite(zero_fill_fd(), kOnesBlock.bytes, sizeof kOnesBlock.bytes, static_cast<off_t>(start + at)) < 0) return false;
  }
  mapping->used_zero_file = true;
  return map_over(start, bytes, prot, MAP_SHARED, zero_fill_fd(), start);
}

}  // namespace

bool map_fill(Mapping* mapping, uintptr_t start, size_t bytes, int prot) {
  if (mapping->fill != Fill::ones) return map_zeros(mapping, start, bytes, prot);
  return map_ones(start, bytes, prot) || map_written_ones(mapping, start, bytes, prot);
}

namespace {

// --- revoked and suspended: the whole extent becomes the fill -----------------------------------------------------------------

struct Range {
  uintptr_t start;
  uintptr_t end;
  size_t bytes() const { return end - start; }
};

// The part of the mapping around `address` that is ours: other code may have mapped something into the range. Empty when
// `address` is theirs.
Range own_range(const Mapping* mapping, uintptr_t address) {
  if (mapping->extent_count == 0) return {mapping->start, mapping->end};
  if (mapping->extent_count > Mapping::kExtents) {  // more than the record could note when it was looked at
    const uintptr_t page = mapping->page_address(mapping->page_of(address));
    return {page, page + mapping->page_size()};
  }
  for (uint32_t i = 0; i < mapping->extent_count; ++i) {
    const Piece& piece = mapping->extents[i];
    if (address >= piece.start && address < piece.end) return {piece.start, piece.end};
  }
  return {address, address};
}

// What is filled by one system call: what is ours there; of ones, one window of it.
Range fill_unit(const Mapping* mapping, uintptr_t address) {
  Range unit = own_range(mapping, address);
  if (mapping->fill != Fill::ones) return unit;
  const uintptr_t window = mapping->start + round_down(address - mapping->start, kOnesWindow);
  if (unit.start < window) unit.start = window;
  if (unit.end > window + kOnesWindow) unit.end = window + kOnesWindow;
  return unit;
}

bool widen(Mapping* mapping, Range range, int prot) {
  return mprotect(reinterpret_cast<void*>(range.start), range.bytes(), prot) == 0 ||
         // Private writable memory is refused (RLIMIT_DATA). No thread has written to this fill yet: another one will do.
         map_fill(mapping, range.start, range.bytes(), prot);
}

enum class Plugged { now, before, not_at_all };

Plugged marked_filled(Mapping* mapping, size_t page) {
  set_mark(mapping, page, mapping->mark_of(page) | kMarkFilled);
  if (page < mapping->filled_first) mapping->filled_first = page;
  if (page > mapping->filled_last) mapping->filled_last = page;
  return Plugged::now;
}

bool has_fill_mark(const Mapping* mapping, uintptr_t address) {
  return (mapping->mark_of(mapping->page_of(address)) & kMarkFilled) != 0;
}

// The mark on a unit's first page tells that it is there, so that a second thread does not wipe what the first one wrote.
Plugged plug_unit(Mapping* mapping, uintptr_t address, int prot, int need) {
  const Range unit = fill_unit(mapping, address);
  if (!has_fill_mark(mapping, unit.start)) {
    if (!map_fill(mapping, unit.start, unit.bytes(), prot)) return Plugged::not_at_all;
    return marked_filled(mapping, mapping->page_of(unit.start));
  }
  const bool may_lack_write = need == PROT_WRITE && !mapping->writable;
  if (may_lack_write && !widen(mapping, unit, prot | need)) return Plugged::not_at_all;
  return Plugged::before;
}

// In the last resort each page has a mark of its own; a unit may have been filled before that, and then its pages can be read.
Plugged plug_page(Mapping* mapping, const Fault& fault) {
  // Without marks (the same limits may refuse them) a second thread's fault could move another page over the first one's.
  const bool marks = ensure_marks(mapping);
  const uintptr_t page = mapping->page_address(mapping->page_of(fault.address));
  mapping->by_pages = true;
  if (marks && (has_fill_mark(mapping, page) || (has_fill_mark(mapping, fill_unit(mapping, page).start) && readable(page)))) {
    if (fault.write) mprotect(reinterpret_cast<void*>(page), mapping->page_size(), PROT_READ | PROT_WRITE);
    return Plugged::before;
  }
  if (!plug_from_reserve(mapping, page)) return Plugged::not_at_all;
  return marks ? marked_filled(mapping, mapping->page_of(page)) : Plugged::now;
}

// The rest of an extent that comes in units, so that it costs one fault and not one a unit.
bool plug_other_units(Mapping* mapping, int prot) {
  for (uintptr_t at = mapping->start; at < mapping->end;) {
    const Range unit = fill_unit(mapping, at);
    if (unit.bytes() == 0) return false;  // theirs: what is ours behind it has its own fault
    if (plug_unit(mapping, at, prot, PROT_READ) == Plugged::not_at_all) return false;
    at = unit.end;
  }
  return true;
}

Plugged plug_by_units(Mapping* mapping, const Fault& fault, int prot) {
  if (!ensure_marks(mapping)) return plug_page(mapping, fault);
  const Plugged plugged = plug_unit(mapping, fault.address, prot, fault.need());
  if (plugged == Plugged::not_at_all) return plug_page(mapping, fault);
  const bool at_once = plugged == Plugged::now && mapping->end - mapping->start <= kOnesAtOnce;
  if (at_once && plug_other_units(mapping, prot)) {
    mapping->filled = true;
    mapping->fill_prot = prot;
  }
  return plugged;
}

Plugged plug_extent(Mapping* mapping, const Fault& fault) {
  // A page that came from the reserve stays: a larger fill would wipe what was written to it.
  if (mapping->by_pages) return plug_page(mapping, fault);
  const int prot = PROT_READ | mapping->base_prot() | fault.need();
  const Range unit = fill_unit(mapping, fault.address);
  if (unit.bytes() != mapping->end - mapping->start) return plug_by_units(mapping, fault, prot);
  if (!map_fill(mapping, mapping->start, unit.bytes(), prot)) return plug_page(mapping, fault);
  mapping->filled = true;
  mapping->fill_prot = prot;
  return Plugged::now;
}

Outcome plug_again(Mapping* mapping, const Fault& fault) {
  // Another thread faulted on it too and was first; or the fill does not allow this access yet.
  if ((mapping->fill_prot & fault.need()) != 0) return futile(mapping);
  const int prot = mapping->fill_prot | fault.need();
  if (!widen(mapping, {mapping->start, mapping->end}, prot)) return Outcome::foreign;
  mapping->fill_prot = prot;
  return Outcome::handled;
}

}  // namespace

Outcome plug(Mapping* mapping, const Fault& fault, std::atomic<uint64_t>& kind) {
  if (mapping->filled) return plug_again(mapping, fault);
  if (own_range(mapping, fault.address).bytes() == 0) return Outcome::foreign;
  if (mapping->fill == Fill::deadly) return Outcome::foreign;
  // A checked copy is under way. It faults at the byte it has come to, and says so exactly; the fill would let it go on.
  if (mapping->copiers.load() != 0 && mapping->waits_for_copiers.fetch_add(1, std::memory_order_relaxed) < kCopierWaits) {
    syscall(SYS_sched_yield);
    return Outcome::handled;
  }
  mapping->waits_for_copiers.store(0, std::memory_order_relaxed);
  const Plugged plugged = plug_extent(mapping, fault);
  if (plugged == Plugged::not_at_all) return Outcome::foreign;
  if (plugged == Plugged::before) return futile(mapping);
  bump(g_counters.fills);
  if (!mapping->announced) push_fault_event(mapping, fault, EventKind::fault_revoked, Cause::none);
  mapping->announced = true;
  count_fault(mapping, kind);
  return Outcome::handled;
}

}  // namespace revocable
