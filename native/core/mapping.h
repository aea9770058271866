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

// Why nothing is mapped, in that state: ENODEV when revoked, ECANCELED when suspended, EBADF when closed; none when live.
Failure refusal(State state, const char* syscall);

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

}  // namespace revocable
