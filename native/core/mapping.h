// Mapping objects into ranges the caller owns, and what can be done with such a mapping short of revoking it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/failure.h"
#include "core/region.h"
#include "core/vma_reader.h"

namespace revocable {

struct MapRequest {
  Object* object;
  uintptr_t start;         // a range the caller owns: whole pages of private anonymous memory
  size_t span;             // bytes of it, whole pages
  size_t length;           // bytes the user sees, <= span
  uint64_t object_offset;  // whole pages
  bool writable;
  bool private_copy;
  Fill fill;
  bool populate;
  // Inside memory that others use, and go on using after: a WebAssembly memory. The kernel is asked at any price whether the
  // range is nothing else than that.
  bool borrowed = false;
  uint64_t device_file = 0;  // through which open file of a device, which is told with the mapping's end
  bool for_device = false;   // the device's own view of its region: asks nobody for pages, and is not told of when it ends
};

// Maps it and takes one handle. ENODEV from a revoked object, whichever thread revoked it, ECANCELED from a suspended one,
// EBADF from a closed one.
Failure map_region(const MapRequest& request, Region** region);

// One more handle, if the mapping is still open or closed but held; false when (slot, generation) names nothing any more.
bool acquire_region(uint32_t slot, uint32_t generation, Region** region);

// Gives a handle back; the last one closes the mapping. With `close`, closes it for everybody first.
void release_region_handle(Region* region, bool close);

// Closes whatever is still open within [start, end): its owner is about to unmap it.
void close_regions_within(uintptr_t start, uintptr_t end);

// Leaves private zero pages where the mapping was. The range stays its owner's. `others`: somebody besides the caller has a
// handle on it, and is told.
void close_region_locked(Region* region, bool others);

// One run of the region's range that is mapped in one way, clipped to the range.
struct RegionPiece {
  Vma vma;
  bool original;                 // the object's own pages; else a fill, a lost or strayed page, or the tombstone
  bool shows_object = original;  // its own pages, or a strayed page that is a private copy of one
};
// A reference to a callable, which unlike std::function never allocates: there may be no memory when a device goes.
class PieceVisitor {
 public:
  template <typename Visit>
  PieceVisitor(Visit&& visit)  // NOLINT: meant to be implicit
      : callable_(const_cast<void*>(static_cast<const void*>(&visit))), call_([](void* callable, const RegionPiece& piece) {
          (*static_cast<std::remove_reference_t<Visit>*>(callable))(piece);
        }) {}
  void operator()(const RegionPiece& piece) const { call_(callable_, piece); }

 private:
  void* callable_;
  void (*call_)(void*, const RegionPiece&);
};

// Visits the pieces that still are the region's, in order. What somebody else mapped there, and holes, are left out. The visitor
// may map over the piece it is given. Under the claim; allocates nothing.
void for_each_own_piece(const Region* region, const VmaReader& reader, const PieceVisitor& visit);

// Moves it to another of its object's lists (or none). Under the registry lock.
void list_region(Region* region, RegionList* list);

// Maps the object's pages over a part of a live region, and asks its device for them anew. Under the claim.
Failure map_object_pages(Region* region, uintptr_t start, size_t bytes, int prot, uint64_t object_offset);

Failure protect_pages(Region* region, size_t first, size_t count, Access access);
Failure remap_pages(Region* region, size_t first, size_t count, uint64_t object_offset);

// Puts pages back to which forbidden accesses were diverted. Cheap when there are none. False when `page` could not be.
bool settle_strays(Region* region, size_t page = 0);
void settle_strays_claimed(Region* region);  // under the registry lock and the claim

// Lost pages show the object again, whatever they were lost for; their next touch may lose them anew. Those that the kernel gives
// no mapping for stay lost. Under the claim.
Failure restore_lost_pages(Region* region, size_t first, size_t count);

// Maps pages as they are mapped, once more. Under the claim.
Failure map_pages_anew(Region* region, size_t first, size_t count);

// Calls visit(first page, pages) for each run of the region's pages that shows a part of [offset, offset + length) of the object,
// until it fails.
template <typename Visit>
Failure for_each_run_shown(const Region* region, uint64_t offset, uint64_t length, Visit visit) {
  const auto shown = [&](size_t page) {
    const uint64_t at = region->object_offset_of(page);
    return at < offset ? offset - at < region->page_size() : at - offset < length;
  };
  size_t page = 0, end = region->pages();
  if (region->rearranged.load() == nullptr) {
    const uint64_t from = region->object_offset;
    if (offset > from) page = (offset - from) >> region->page_shift;
    if (offset < from && length <= from - offset) return {};
    const uint64_t past = offset + length - from;
    end = std::min<uint64_t>(end, (past + region->page_size() - 1) >> region->page_shift);
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
void for_each_run_with_backing(const Region* region, uintptr_t start, uintptr_t end, Visit visit) {
  if (!region->may_have_lost_pages()) return visit(start, end);
  for (uintptr_t at = start; at < end;) {
    const uintptr_t first = at;
    while (at < end && region->lost_cause(region->page_of(at)) == Cause::none) at += region->page_size();
    if (at != first) visit(first, at);
    while (at < end && region->lost_cause(region->page_of(at)) != Cause::none) at += region->page_size();
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
size_t first_byte_past_end(Region* region, size_t offset, size_t length, uint64_t size);

PageVerdict judge_access(Region* region, size_t offset, size_t width, bool write);

}  // namespace revocable
