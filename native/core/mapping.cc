#include "core/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/counters.h"
#include "base/features.h"
#include "base/linux_abi.h"
#include "base/memfd.h"
#include "base/page.h"
#include "core/event_ring.h"
#include "core/mapping_pages.h"
#include "core/mapping_table.h"
#include "core/registry.h"
#include "core/reserve.h"
#include "core/revoker.h"
#include "core/service.h"
#include "core/vm_ops.h"

namespace revocable {
namespace {

// The caller says that it owns the range; the kernel must agree that it is private anonymous memory. Where asking is not one
// cheap call, only for ranges that have been in use: without PROCMAP_QUERY every map would parse all of /proc/self/maps, and the
// range comes from V8 a moment before.
bool is_anonymous(uintptr_t start, uintptr_t end, bool borrowed) {
  VmaReader reader;
  if (!features().procmap_query && (!borrowed || reader.begin(start, end))) return !borrowed;
  for (uintptr_t at = start; at < end;) {
    Vma vma;
    if (!reader.find(at, &vma) || vma.start > at || vma.inode != 0 || vma.shared) return false;
    at = vma.end;
  }
  return true;
}

// /proc/self/maps may name another device than fstat does (btrfs, overlayfs), so the first mapping of an object shows
// what its VMAs look like.
void learn_vma_identity(Object* object, uintptr_t address) {
  if (object->vma_identity_known) return;
  VmaReader reader;
  Vma vma;
  if (reader.begin() || !reader.find(address, &vma) || vma.start > address) return;
  object->vma_major = vma.major;
  object->vma_minor = vma.minor;
  object->vma_inode = vma.inode;
  object->vma_identity_known = true;
}

bool is_original(const Object* object, const Vma& vma) {
  return vma.inode == object->vma_inode && vma.major == object->vma_major && vma.minor == object->vma_minor;
}

// The identity of the library's own files in /proc/self/maps: all memfds live in one internal tmpfs.
struct OwnFiles {
  uint64_t inodes[3];
};
const OwnFiles& own_files() {
  static const OwnFiles files = [] {
    OwnFiles found{};
    int i = 0;
    for (const int fd : {tombstone_fd(), zero_fill_fd(), ones_fill_fd()}) {
      struct stat status;
      found.inodes[i++] = fstat(fd, &status) == 0 ? status.st_ino : 0;
    }
    return found;
  }();
  return files;
}

bool is_own_file(const Vma& vma) {
  const auto& inodes = own_files().inodes;
  return vma.inode != 0 && std::find(std::begin(inodes), std::end(inodes), vma.inode) != std::end(inodes);
}

// Anonymous memory is a fill of ours only where the records say so: other code may have mapped the rest.
bool page_is_filled(const Mapping* mapping, size_t page) {
  constexpr PageMark kOurs = kMarkStray | kMarkCauseMask | kMarkFilled | kMarkLostFilled;
  return mapping->filled || (mapping->mark_of(page) & kOurs) != 0 || mapping->lost_cause(page) != Cause::none;
}

template <typename Visit>
void visit_filled_runs(const Mapping* mapping, const Vma& vma, Visit visit) {
  const size_t end = mapping->page_of(vma.end - 1) + 1;
  for (size_t page = mapping->page_of(vma.start); page < end;) {
    if (!page_is_filled(mapping, page)) {
      ++page;
      continue;
    }
    const size_t first = page;
    while (page < end && (mapping->filled || page_is_filled(mapping, page))) page = mapping->filled ? end : page + 1;
    Vma run = vma;
    run.start = mapping->page_address(first);
    run.end = mapping->page_address(page);
    visit({run, false});
  }
}

bool map_zeros(uintptr_t start, size_t bytes, Mapping* mapping) {
  void* at = reinterpret_cast<void*>(start);
  const int prot = PROT_READ | PROT_WRITE;
  if (mmap(at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED) return true;
  if (mapping->borrowed) {
    // The zero file's pages are punched out one day; these are in use.
    return mmap(at, bytes, prot, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
  }
  mapping->used_zero_file = true;
  // Its fill may have come from the same place, with what was written there.
  fallocate(zero_fill_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start), static_cast<off_t>(bytes));
  return mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, zero_fill_fd(), static_cast<off_t>(start)) != MAP_FAILED;
}

void leave_zeros(Mapping* mapping) {
  if (!features().procmap_query) {
    map_zeros(mapping->start, mapping->end - mapping->start, mapping);
    return;
  }
  const VmaReader reader;
  uintptr_t from = mapping->start, to = mapping->start;  // neighbouring pieces are replaced by one call
  for_each_own_piece(mapping, reader, [&](const MappingPiece& piece) {
    if (piece.vma.start != to) {
      if (to > from) map_zeros(from, to - from, mapping);
      from = piece.vma.start;
    }
    to = piece.vma.end;
  });
  if (to > from) map_zeros(from, to - from, mapping);
}

void count_state(State state, bool up) {
  std::atomic<uint64_t>* counter = state == State::live        ? &g_counters.live
                                   : state == State::suspended ? &g_counters.suspended
                                   : state == State::revoked   ? &g_counters.revoked
                                                               : nullptr;
  if (counter != nullptr) up ? bump(*counter) : drop(*counter);
}

// What the library's own records say, for a kernel that cannot be asked: a removal must not fail because of that.
template <typename Visit>
void visit_recorded_pieces(const Mapping* mapping, Visit visit) {
  for_each_access_run(mapping, 0, mapping->pages(), [&](size_t page, size_t pages, int prot) {
    const uintptr_t start = mapping->page_address(page);
    const Object* object = mapping->object;
    visit({{start, start + (pages << mapping->page_shift), prot, !mapping->private_copy, mapping->object_offset_of(page),
            object->vma_inode, object->vma_major, object->vma_minor},
           true});
  });
}

}  // namespace

Failure refusal(State state, const char* syscall) {
  switch (state) {
    case State::live: return {};
    case State::suspended: return {ECANCELED, syscall};
    case State::revoked: return {ENODEV, syscall};
    case State::closed: break;
  }
  return {EBADF, syscall};
}

void for_each_own_piece(const Mapping* mapping, const VmaReader& reader, const PieceVisitor& visit) {
  if (!reader.usable()) return visit_recorded_pieces(mapping, visit);
  for (uintptr_t at = mapping->start; at < mapping->end;) {
    Vma vma;
    if (!reader.find(at, &vma) || vma.start >= mapping->end) break;
    const uintptr_t next = vma.end;
    if (vma.start < at) {
      vma.offset += at - vma.start;
      vma.start = at;
    }
    vma.end = std::min(vma.end, mapping->end);
    // A private page of the object in a shared mapping is where a forbidden write was diverted to.
    const bool original = is_original(mapping->object, vma) && (mapping->private_copy || vma.shared);
    if (is_original(mapping->object, vma)) visit({vma, original, true});
    else if (is_own_file(vma)) visit({vma, false});
    else if (vma.inode == 0) visit_filled_runs(mapping, vma, visit);
    at = next;
  }
}

void list_mapping(Mapping* mapping, MappingList* list) {
  if (mapping->list != nullptr) {
    if (mapping->previous != nullptr) mapping->previous->next = mapping->next;
    else mapping->list->first = mapping->next;
    if (mapping->next != nullptr) mapping->next->previous = mapping->previous;
    --mapping->list->count;
  }
  mapping->list = list;
  mapping->previous = mapping->next = nullptr;
  if (list == nullptr) return;
  mapping->next = list->first;
  if (list->first != nullptr) list->first->previous = mapping;
  list->first = mapping;
  ++list->count;
}

// A mapping that has come to nothing.
static void undo_mapping(Mapping* mapping) {
  {
    const Claim claim(mapping);
    publish_state(mapping, State::closed);
    map_zeros(mapping->start, mapping->end - mapping->start, mapping);
  }
  if (mapping->ops != nullptr) mapping->ops->ended(mapping, false);
  mapping->handles = 0;
  retire_mapping(mapping);
  reclaim();
}

Failure create_mapping(const MapRequest& request, Mapping** result) {
  Failure failure;
  {
    RegistryLock lock;
    Object* object = request.object;
    const State state = object->gate.load();
    // A device looks at its region also while that is suspended.
    if (!request.for_device || state != State::suspended) failure = refusal(state, "mmap");
    if (failure) return failure;
    uint64_t size = 0;
    if (!still_has_descriptor(object, &size)) return {EBADF, "mmap"};
    const uintptr_t end = request.start + request.span;
    if (open_mapping_within(request.start, end) != nullptr || !is_anonymous(request.start, end, request.borrowed))
      return {EEXIST, "mmap"};
    Mapping* mapping = allocate_mapping(request.start, end);
    if (mapping == nullptr) return {ENOMEM, "mmap"};
    mapping->object = object;
    mapping->object_offset = request.object_offset;
    mapping->length = request.length;
    mapping->page_shift = object->page_shift;
    mapping->writable = request.writable;
    mapping->private_copy = request.private_copy;
    mapping->borrowed = request.borrowed;
    mapping->devices_own = object->backing != nullptr && request.for_device;
    mapping->fill = request.fill;
    mapping->trapped = object->trapped && !request.for_device;
    mapping->seen_size.store(size);
    mapping->supplied = false;
    mapping->ops = object->backing != nullptr && !request.for_device ? &object->backing->ops : nullptr;
    if (mapping->ops != nullptr && !mapping->ops->begin(mapping, request.device_file)) {
      forget_mapping(mapping);
      return {ENOMEM, "mmap"};
    }
    mapping->handles = 1;
    begin_state(mapping);
    publish_mapping(mapping);  // before the mapping exists, so that no access to it can fault unknown
    {
      const Claim claim(mapping);  // publishes to its next holder what is written here of the mapping's pages
      failure = map_object_pages(mapping, mapping->start, request.span, mapping->base_prot(), mapping->object_offset);
    }
    if (failure) {
      undo_mapping(mapping);
      return failure;
    }
    learn_vma_identity(object, mapping->start);
    ++object->references;
    list_mapping(mapping, &object->live);
    count_state(State::live, true);
    bump(g_counters.mapped);
    reclaim();
    *result = mapping;
  }
  service_watch();
  // Outside the lock: it may read a whole file. Should the mapping be revoked meanwhile, the call fails and that is all.
  if (request.populate) {
    const bool write = request.writable && !request.private_copy;
    madvise(reinterpret_cast<void*>(request.start), request.span, write ? abi::kMadvPopulateWrite : abi::kMadvPopulateRead);
  }
  return {};
}

bool acquire_mapping(uint32_t slot, uint32_t generation, Mapping** result) {
  RegistryLock lock;
  Mapping* mapping = mapping_at_slot(slot);
  if (mapping == nullptr || mapping->generation != generation || mapping->handles == 0) return false;
  ++mapping->handles;
  *result = mapping;
  return true;
}

// As it is counted: the handler may have revoked it since, and left the counting to the service thread.
static State counted_state(const Mapping* mapping) {
  if (mapping->list == &mapping->object->live) return State::live;
  return mapping->list == &mapping->object->suspended ? State::suspended : State::revoked;
}

void close_mapping_locked(Mapping* mapping, bool others) {
  if (mapping->list == nullptr) return;  // closed before
  const State before = counted_state(mapping);
  {
    const Claim claim(mapping);
    publish_state(mapping, State::closed);
    wake_waiters(mapping);
    leave_zeros(mapping);
    if (mapping->ops != nullptr) mapping->ops->ended(mapping, true);
  }
  count_state(before, false);
  bump(g_counters.closed);
  list_mapping(mapping, nullptr);
  delete mapping->pieces;
  mapping->pieces = nullptr;
  retire_mapping(mapping);
  if (others) {
    Event event;
    event.kind = EventKind::mapping_closed;
    event.slot = mapping->slot;
    event.generation = mapping->generation;
    event.object = mapping->object->id;
    push_event(event);
    service_announce();
  }
  // The service thread passes over closed mappings: what a fault of this one has asked for its object is asked anew.
  if (mapping->object->revoke_wanted.exchange(false)) revoke_by_service_locked(mapping->object);
  object_release_locked(mapping->object);
}

void release_mapping_handle(Mapping* mapping, bool close) {
  RegistryLock lock;
  --mapping->handles;
  if (close || mapping->handles == 0) close_mapping_locked(mapping, mapping->handles != 0);
  if (mapping->handles == 0) release_mapping(mapping);
  reclaim();
}

void close_mappings_within(uintptr_t start, uintptr_t end) {
  RegistryLock lock;
  while (Mapping* mapping = open_mapping_within(start, end)) close_mapping_locked(mapping, mapping->handles != 0);
  reclaim();
}

}  // namespace revocable
