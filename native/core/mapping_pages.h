// The pages of a mapping: what they show of the object, which accesses they allow, which are lost or diverted, and how they come
// back.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/failure.h"
#include "core/mapping_record.h"

namespace revocable {

// Maps the object's pages over a part of a live mapping, and asks its device for them anew. Under the claim.
Failure map_object_pages(Mapping* mapping, uintptr_t start, size_t bytes, int prot, uint64_t object_offset);

Failure protect_pages(Mapping* mapping, size_t first, size_t count, Access access);
Failure remap_pages(Mapping* mapping, size_t first, size_t count, uint64_t object_offset);

// Puts pages back to which forbidden accesses were diverted. Cheap when there are none. False when `page` could not be.
bool settle_strays(Mapping* mapping, size_t page = 0);
void settle_strays_claimed(Mapping* mapping);  // under the registry lock and the claim

// Lost pages show the object again, whatever they were lost for; their next touch may lose them anew. Those that the kernel gives
// no mapping for stay lost. Under the claim.
Failure restore_lost_pages(Mapping* mapping, size_t first, size_t count);

// Maps pages as they are mapped, once more. Under the claim.
Failure map_pages_anew(Mapping* mapping, size_t first, size_t count);

// Calls visit(first page, pages) for each run of the mapping's pages that shows a part of [offset, offset + length) of the
// object, until it fails.
template <typename Visit>
Failure for_each_run_shown(const Mapping* mapping, uint64_t offset, uint64_t length, Visit visit) {
  const auto shown = [&](size_t page) {
    const uint64_t at = mapping->object_offset_of(page);
    return at < offset ? offset - at < mapping->page_size() : at - offset < length;
  };
  size_t page = 0, end = mapping->pages();
  if (mapping->rearranged.load() == nullptr) {
    const uint64_t from = mapping->object_offset;
    if (offset > from) page = (offset - from) >> mapping->page_shift;
    if (offset < from && length <= from - offset) return {};
    const uint64_t past = offset + length - from;
    end = std::min<uint64_t>(end, (past + mapping->page_size() - 1) >> mapping->page_shift);
    return page < end ? visit(page, end - page) : Failure{};
  }
  while (page < end) {
    const size_t first = page;
    while (page < end && shown(page)) ++page;
    if (page == first) {
      ++page;
      continue;
    }
    const Failure failure = visit(first, page - first);
    if (failure) return failure;
  }
  return {};
}

// Calls visit(start, end) for each part of [start, end), whole pages, that is not lost.
template <typename Visit>
void for_each_run_with_backing(const Mapping* mapping, uintptr_t start, uintptr_t end, Visit visit) {
  if (!mapping->may_have_lost_pages()) return visit(start, end);
  for (uintptr_t at = start; at < end;) {
    const uintptr_t first = at;
    while (at < end && mapping->lost_cause(mapping->page_of(at)) == Cause::none) at += mapping->page_size();
    if (at != first) visit(first, at);
    while (at < end && mapping->lost_cause(mapping->page_of(at)) != Cause::none) at += mapping->page_size();
  }
}

inline void lower(std::atomic<uint64_t>& value, uint64_t to) {
  uint64_t seen = value.load();
  while (seen > to && !value.compare_exchange_weak(seen, to)) {
  }
}

inline void raise(std::atomic<uint64_t>& value, uint64_t to) {
  uint64_t seen = value.load();
  while (seen < to && !value.compare_exchange_weak(seen, to)) {
  }
}

// What a checked access to these bytes has to report, from the marks of the pages. `stray` means: settled now, look again;
// `unsettled`, that the kernel has no mapping to give to put a diverted page back with.
enum class Verdict : uint32_t { fine, stray, protected_, read_only, lost, unsettled };
struct PageVerdict {
  Verdict verdict;
  Cause cause;
  size_t offset;  // the first byte of the access that it is true of
};
// The first byte of the range that the object's file no longer has, or SIZE_MAX: on a page past its end, or within its last page
// where the file was longer while this was mapped.
size_t first_byte_past_end(Mapping* mapping, size_t offset, size_t length, uint64_t size);

PageVerdict judge_access(Mapping* mapping, size_t offset, size_t width, bool write);

// One run of pages in [first, last) that carry the same access, given to apply(page, pages, prot).
template <typename Apply>
void for_each_access_run(const Mapping* mapping, size_t first, size_t last, Apply apply) {
  if (mapping->marks.load(std::memory_order_relaxed) == nullptr) return apply(first, last - first, mapping->base_prot());
  for (size_t page = first; page < last;) {
    const Access access = mark_access(mapping->mark_of(page));
    size_t end = page + 1;
    while (end < last && mark_access(mapping->mark_of(end)) == access) ++end;
    apply(page, end - page, prot_of(access, *mapping));
    page = end;
  }
}

}  // namespace revocable
