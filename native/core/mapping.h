// Mapping objects into ranges the caller owns, and what can be done with such a mapping short of revoking it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/failure.h"
#include "core/mapping_record.h"
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
  uint64_t device_file = 0;  // through which open file of a device, which hears of it with the mapping's end
  bool for_device = false;   // the device's own view of its region: no op is called for its pages, nor when it ends
};

// Maps it and takes one handle. ENODEV from a revoked object, whichever thread revoked it, ECANCELED from a suspended one,
// EBADF from a closed one.
Failure create_mapping(const MapRequest& request, Mapping** mapping);

// One more handle, if the mapping is still open or closed but held; false when (slot, generation) names nothing any more.
bool acquire_mapping(uint32_t slot, uint32_t generation, Mapping** mapping);

// Gives a handle back; the last one closes the mapping. With `close`, closes it for every thread first.
void release_mapping_handle(Mapping* mapping, bool close);

// Closes whatever is still open within [start, end): its owner is about to unmap it.
void close_mappings_within(uintptr_t start, uintptr_t end);

// Leaves private zero pages where the mapping was. The range stays its owner's. `others`: threads besides the
// caller have a handle on it, and are notified.
void close_mapping_locked(Mapping* mapping, bool others);

// One run of the mapping's range that is mapped in one way, clipped to the range.
struct MappingPiece {
  Vma vma;
  bool original;                 // the object's own pages; else a fill, a lost or strayed page, or the tombstone
  bool shows_object = original;  // its own pages, or a strayed page that is a private copy of one
};
// A reference to a callable, which unlike std::function never allocates: there may be no memory when a device goes.
class PieceVisitor {
 public:
  template <typename Visit>
  PieceVisitor(Visit&& visit)  // NOLINT: meant to be implicit
      : callable_(const_cast<void*>(static_cast<const void*>(&visit))), call_([](void* callable, const MappingPiece& piece) {
          (*static_cast<std::remove_reference_t<Visit>*>(callable))(piece);
        }) {}
  void operator()(const MappingPiece& piece) const { call_(callable_, piece); }

 private:
  void* callable_;
  void (*call_)(void*, const MappingPiece&);
};

// Visits the pieces that still are the mapping's, in order. What other code mapped there, and holes, are left out. The visitor
// may map over the piece it is given. Under the claim; allocates nothing.
void for_each_own_piece(const Mapping* mapping, const VmaReader& reader, const PieceVisitor& visit);

// Moves it to another of its object's lists (or none). Under the registry lock.
void list_mapping(Mapping* mapping, MappingList* list);

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

}  // namespace revocable
