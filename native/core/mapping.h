// Mapping objects into ranges the caller owns, and what can be done with such a mapping short of revoking it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/failure.h"
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

// Pages that a device refused are the object's again, and their next touch asks it anew. Under the claim.
void restore_refused_pages(Region* region, size_t first, size_t count);

// What a checked access to these bytes has to report, from the marks of the pages. `stray` means: settled now, look again;
// `unsettled`, that the kernel has no mapping to give to put a diverted page back with.
enum class Verdict : uint32_t { fine, stray, protected_, read_only, lost, unsettled };
struct PageVerdict {
  Verdict verdict;
  Cause cause;
  size_t offset;  // the first byte of the access that it is true of
};
// The first byte of the range whose page shows the object at or past `end`, or SIZE_MAX.
size_t first_byte_past(const Region* region, size_t offset, size_t length, uint64_t end);

PageVerdict judge_access(Region* region, size_t offset, size_t width, bool write);

}  // namespace revocable
