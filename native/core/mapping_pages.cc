#include "core/mapping_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <new>

#include "base/map_file.h"
#include "base/memfd.h"
#include "base/page.h"
#include "core/mapping.h"
#include "core/registry.h"
#include "core/reserve.h"
#include "core/vm_ops.h"

namespace revocable {
namespace {

int map_flags(const Mapping* mapping) { return MAP_NORESERVE | (mapping->private_copy ? MAP_PRIVATE : MAP_SHARED); }

bool map_object(const Mapping* mapping, uintptr_t start, size_t bytes, int prot, uint64_t object_offset) {
  // Not MAP_NORESERVE for 2 MiB pages: the reservation is what makes a shortage an error here and not a SIGBUS later.
  const int flags = mapping->page_shift == kHugePageShift ? map_flags(mapping) & ~MAP_NORESERVE : map_flags(mapping);
  const Object* object = mapping->object;
  if (may_be_refused(object)) return map_file_over(start, bytes, prot, flags, object->fd, object_offset);
  return mmap(reinterpret_cast<void*>(start), bytes, prot, flags | MAP_FIXED, object->fd, static_cast<off_t>(object_offset)) !=
         MAP_FAILED;
}

// After marks or lost pages changed: the status word follows. Under the claim.
void republish(Mapping* mapping, bool only_access = false) {
  publish_state(mapping, mapping->state.load(std::memory_order_relaxed), only_access);
}

Failure check_live(const Mapping* mapping, const char* syscall) {
  return refusal(mapping->state.load(std::memory_order_relaxed), syscall);
}

}  // namespace

Failure map_object_pages(Mapping* mapping, uintptr_t start, size_t bytes, int prot, uint64_t object_offset) {
  // Registers are never permitted: each access is delivered by the handler.
  if (mapping->trapped) prot = PROT_NONE;
  // Without permissions until it is registered: a touch before that would get a page that no op was asked for. It faults, and
  // waits for the claim.
  if (!map_object(mapping, start, bytes, mapping->supplied ? PROT_NONE : prot, object_offset)) return Failure::from_errno("mmap");
  return mapping->supplied ? mapping->ops->arm(mapping, start, bytes, prot) : Failure{};
}

Failure protect_pages(Mapping* mapping, size_t first, size_t count, Access access) {
  RegistryLock lock;
  const Claim claim(mapping);
  Failure failure = check_live(mapping, "mprotect");
  if (failure) return failure;
  if (!ensure_marks(mapping)) return Failure::from_errno("mmap");
  settle_strays_claimed(mapping);
  const Access mark = prot_of(access, *mapping) == mapping->base_prot() ? Access::base : access;
  // The marks go first where access becomes less and last where it becomes more, so that a checked access never faults on a
  // page whose mark calls it fine. With both in one call the order cannot be right for both; the handler then decides by the
  // marks it finds, so they are written before the kernel is asked in either case.
  const std::unique_ptr<PageMark[]> before(new (std::nothrow) PageMark[count]);
  if (before == nullptr) return {ENOMEM, "mprotect"};
  for (size_t i = 0; i < count; ++i) {
    before[i] = mapping->mark_of(first + i);
    set_mark(mapping, first + i, static_cast<PageMark>((before[i] & ~kMarkAccessMask) | static_cast<PageMark>(mark)));
  }
  republish(mapping, /*only_access=*/true);
  void* at = reinterpret_cast<void*>(mapping->page_address(first));
  const int prot = mapping->trapped ? PROT_NONE : prot_of(access, *mapping);  // of registers, only the marks say it
  if (mprotect(at, count << mapping->page_shift, prot) != 0) {
    failure = Failure::from_errno("mprotect");
    for (size_t i = 0; i < count; ++i) set_mark(mapping, first + i, before[i]);
    republish(mapping, /*only_access=*/true);
  }
  return failure;
}

// Each page of the lost tail gets a mark of its own.
static void divide_lost_tail(Mapping* mapping) {
  const uintptr_t from = mapping->lost_from.load(std::memory_order_relaxed);
  if (from == UINTPTR_MAX) return;
  for (size_t page = mapping->page_of(from); page < mapping->pages(); ++page) {
    mark_lost(mapping, page, Cause::past_end);
    if (mapping->tail_filled) set_mark(mapping, page, mapping->mark_of(page) | kMarkLostFilled);
  }
  mapping->tail_filled = false;
  mapping->lost_from.store(UINTPTR_MAX, std::memory_order_release);  // after the marks: no page is found for a moment
}

// How many pages from `page` on one mapping can bring: with the same access, all lost or none, of consecutive pages of the
// object.
static size_t run_of(const Mapping* mapping, size_t page, size_t end) {
  const bool lost = mapping->lost_cause(page) != Cause::none;
  const Access access = mark_access(mapping->mark_of(page));
  const uint64_t offset = mapping->object_offset_of(page);
  size_t next = page + 1;
  while (next < end && (mapping->lost_cause(next) != Cause::none) == lost && mark_access(mapping->mark_of(next)) == access &&
         mapping->object_offset_of(next) == offset + (uint64_t{next - page} << mapping->page_shift)) {
    ++next;
  }
  return next - page;
}

static Failure map_run(Mapping* mapping, size_t page, size_t pages) {
  const int prot = prot_of(mark_access(mapping->mark_of(page)), *mapping);
  return map_object_pages(mapping, mapping->page_address(page), pages << mapping->page_shift, prot,
                          mapping->object_offset_of(page));
}

// A run of lost pages, without fill.
static Failure map_lost_run(Mapping* mapping, size_t page, size_t pages) {
  const int prot = prot_of(mark_access(mapping->mark_of(page)), *mapping);
  void* at = reinterpret_cast<void*>(mapping->page_address(page));
  const int flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
  if (mmap(at, pages << mapping->page_shift, prot, flags, tombstone_fd(), 0) == MAP_FAILED) return Failure::from_errno("mmap");
  for (size_t i = page; i < page + pages; ++i) set_mark(mapping, i, mapping->mark_of(i) & ~kMarkLostFilled);
  return {};
}

static void note_moved(Mapping* mapping, size_t first, size_t count, uint64_t object_offset) {
  auto* table = mapping->rearranged.load(std::memory_order_relaxed);
  for (size_t i = 0; i < count; ++i) {
    table[first + i].store((object_offset >> mapping->page_shift) + i + 1, std::memory_order_relaxed);
    // What was lost there was lost of the old page; the new one is another.
    const PageMark mark = mapping->mark_of(first + i);
    if (mark != 0) set_mark(mapping, first + i, mark & kMarkAccessMask);
  }
  mapping->retry_tag.store(0, std::memory_order_relaxed);
  republish(mapping);
}

// As they were, run by run: single pages would need more mappings than there were before. At their limit the reserve gives some
// back. Pages that cannot go back all the same stay where they are, and the record says so.
static void move_back(Mapping* mapping, size_t first, size_t count, uint64_t object_offset) {
  for (size_t page = first; page < first + count;) {
    const size_t pages = run_of(mapping, page, first + count);
    const bool lost = mapping->lost_cause(page) != Cause::none;
    Failure failure;
    do failure = lost ? map_lost_run(mapping, page, pages) : map_run(mapping, page, pages);
    while (failure.errnum == ENOMEM && drop_ballast(kBallast / 2));
    if (failure) note_moved(mapping, page, pages, object_offset + (uint64_t{page - first} << mapping->page_shift));
    page += pages;
  }
}

Failure remap_pages(Mapping* mapping, size_t first, size_t count, uint64_t object_offset) {
  RegistryLock lock;
  const Claim claim(mapping);
  const Failure failure = check_live(mapping, "mmap");
  if (failure) return failure;
  settle_strays_claimed(mapping);
  divide_lost_tail(mapping);
  if (mapping->rearranged.load(std::memory_order_relaxed) == nullptr) {
    const size_t bytes = round_up(mapping->pages() * sizeof(uint64_t), kPageSize);
    void* fresh = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) return Failure::from_errno("mmap");
    mapping->rearranged.store(static_cast<std::atomic<uint64_t>*>(fresh), std::memory_order_release);
  }
  if (mapping->ops != nullptr) mapping->ops->withdraw(mapping, first, count);
  size_t moved = 0;
  Failure refused;
  for_each_access_run(mapping, first, first + count, [&](size_t page, size_t pages, int prot) {
    if (refused) return;
    const uint64_t offset = object_offset + (uint64_t{page - first} << mapping->page_shift);
    refused = map_object_pages(mapping, mapping->page_address(page), pages << mapping->page_shift, prot, offset);
    if (!refused) moved += pages;
  });
  if (refused) {
    move_back(mapping, first, moved, object_offset);  // all or nothing
    return refused;
  }
  note_moved(mapping, first, count, object_offset);
  return {};
}

// A page that may be its user's own copy was not replaced, only opened (divert in handler_inside.cc).
static bool put_back(Mapping* mapping, size_t page, int prot) {
  const uintptr_t address = mapping->page_address(page);
  if (mapping->has_own_copies()) return mprotect(reinterpret_cast<void*>(address), mapping->page_size(), prot) == 0;
  const uint64_t offset = mapping->object_offset_of(page);
  if (!mapping->supplied) return !map_object_pages(mapping, address, mapping->page_size(), prot, offset);
  return map_object(mapping, address, mapping->page_size(), PROT_NONE, offset) && !mapping->ops->put_back(mapping, page, prot);
}

static Failure restore_lost_run(Mapping* mapping, size_t first, size_t count) {
  if (mapping->supplied) {
    for (size_t page = first; page < first + count; ++page) {
      const PageMark mark = mapping->mark_of(page);
      if (!put_back(mapping, page, prot_of(mark_access(mark), *mapping))) return Failure::from_errno("mmap");
      set_mark(mapping, page, mark & kMarkAccessMask);
    }
    return {};
  }
  const Failure failure = map_run(mapping, first, count);
  if (failure) return failure;
  for (size_t page = first; page < first + count; ++page) set_mark(mapping, page, mapping->mark_of(page) & kMarkAccessMask);
  return {};
}

Failure restore_lost_pages(Mapping* mapping, size_t first, size_t count) {
  if (!mapping->may_have_lost_pages()) return {};
  divide_lost_tail(mapping);
  const size_t end = std::min(first + count, mapping->lost_last + 1);
  Failure failure;
  for (size_t page = std::max(first, mapping->lost_first); page < end && !failure;) {
    const size_t pages = run_of(mapping, page, end);
    if (mapping->lost_cause(page) != Cause::none) failure = restore_lost_run(mapping, page, pages);
    page += pages;
  }
  mapping->retry_tag.store(0, std::memory_order_relaxed);  // a thread that lost one of them may try again
  republish(mapping);
  return failure;
}

Failure map_pages_anew(Mapping* mapping, size_t first, size_t count) {
  for (size_t page = first; page < first + count;) {
    const size_t pages = run_of(mapping, page, first + count);
    const Failure failure = mapping->lost_cause(page) == Cause::none ? map_run(mapping, page, pages) : Failure{};
    if (failure) return failure;
    page += pages;
  }
  return {};
}

void settle_strays_claimed(Mapping* mapping) {
  if (mapping->stray_first > mapping->stray_last) return;
  size_t left_first = SIZE_MAX, left_last = 0, settled = 0;
  if (mapping->state.load(std::memory_order_relaxed) == State::live) {
    for (size_t page = mapping->stray_first; page <= mapping->stray_last; ++page) {
      const PageMark mark = mapping->mark_of(page);
      if ((mark & kMarkStray) == 0) continue;
      if (!put_back(mapping, page, prot_of(mark_access(mark), *mapping))) {
        left_first = std::min(left_first, page);
        left_last = page;
        continue;
      }
      set_mark(mapping, page, static_cast<PageMark>(mark & ~kMarkStray));
      ++settled;
    }
  }
  // Those that could not be put back (no mapping more to be had) are tried again at the next access.
  mapping->stray_first = left_first;
  mapping->stray_last = left_last;
  if (settled != 0) republish(mapping);
}

bool settle_strays(Mapping* mapping, size_t page) {
  RegistryLock lock;
  const Claim claim(mapping);
  settle_strays_claimed(mapping);
  // Under the claim: a moment later another thread's access may have been diverted there.
  return mapping->state.load() != State::live || (mapping->mark_of(page) & kMarkStray) == 0;
}

// The first byte of the range at or past byte `from` of the object, or SIZE_MAX. Of the page that `from` is within, none at or
// past `to` counts.
static size_t first_byte_from(const Mapping* mapping, size_t offset, size_t length, uint64_t from, uint64_t to) {
  const size_t end = offset + length;
  for (size_t page = offset >> mapping->page_shift; (page << mapping->page_shift) < end; ++page) {
    const uint64_t shown = mapping->object_offset_of(page);
    if (shown + mapping->page_size() <= from) {
      if (mapping->rearranged.load() == nullptr) page += ((from - shown) >> mapping->page_shift) - 1;
      continue;
    }
    const size_t within = shown < from ? static_cast<size_t>(from - shown) : 0;
    const size_t at = std::max(offset, (page << mapping->page_shift) + within);
    const size_t past = shown < from ? (page << mapping->page_shift) + static_cast<size_t>(to - shown) : SIZE_MAX;
    if (at < std::min({end, past, (page + 1) << mapping->page_shift})) return at;
  }
  return SIZE_MAX;
}

size_t first_byte_past_end(Mapping* mapping, size_t offset, size_t length, uint64_t size) {
  raise(mapping->seen_size, size);
  const uint64_t end_of_page = round_up(size, mapping->page_size());
  const uint64_t known_to = std::max(size, std::min(mapping->seen_size.load(), end_of_page));
  return first_byte_from(mapping, offset, length, size, known_to);
}

PageVerdict judge_access(Mapping* mapping, size_t offset, size_t width, bool write) {
  const size_t first = offset >> mapping->page_shift;
  const size_t last = (offset + width - 1) >> mapping->page_shift;
  for (size_t page = first; page <= last; ++page) {
    const size_t from = std::max(offset, page << mapping->page_shift);
    const Cause cause = mapping->lost_cause(page);
    if (cause != Cause::none) return {Verdict::lost, cause, from};
    const PageMark mark = mapping->mark_of(page);
    if (mark_access(mark) == Access::none) return {Verdict::protected_, Cause::none, from};
    if (write && mark_access(mark) == Access::read) return {Verdict::read_only, Cause::none, from};
    if ((mark & kMarkStray) != 0) {
      return {settle_strays(mapping, page) ? Verdict::stray : Verdict::unsettled, Cause::none, from};
    }
  }
  return {Verdict::fine, Cause::none, offset};
}

}  // namespace revocable
