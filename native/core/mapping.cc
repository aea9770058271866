#include "core/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <new>

#include "base/counters.h"
#include "base/features.h"
#include "base/linux_abi.h"
#include "base/map_file.h"
#include "base/memfd.h"
#include "base/page.h"
#include "core/event_ring.h"
#include "core/mapping_table.h"
#include "core/registry.h"
#include "core/reserve.h"
#include "core/revoker.h"
#include "core/service.h"
#include "core/vm_ops.h"

namespace revocable {
namespace {

Failure refusal(State state) {
  switch (state) {
    case State::live: return {};
    case State::suspended: return {ECANCELED, "mmap"};
    case State::revoked: return {ENODEV, "mmap"};
    case State::closed: break;
  }
  return {EBADF, "mmap"};
}

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

int map_flags(const Mapping* mapping) { return MAP_NORESERVE | (mapping->private_copy ? MAP_PRIVATE : MAP_SHARED); }

bool map_object(const Mapping* mapping, uintptr_t start, size_t bytes, int prot, uint64_t object_offset) {
  // Not MAP_NORESERVE for 2 MiB pages: the reservation is what makes a shortage an error here and not a SIGBUS later.
  const int flags = mapping->page_shift == kHugePageShift ? map_flags(mapping) & ~MAP_NORESERVE : map_flags(mapping);
  const Object* object = mapping->object;
  if (may_be_refused(object)) return map_file_over(start, bytes, prot, flags, object->fd, object_offset);
  return mmap(reinterpret_cast<void*>(start), bytes, prot, flags | MAP_FIXED, object->fd, static_cast<off_t>(object_offset)) !=
         MAP_FAILED;
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

// After marks or lost pages changed: the status word follows. Under the claim.
void republish(Mapping* mapping, bool only_access = false) {
  publish_state(mapping, mapping->state.load(std::memory_order_relaxed), only_access);
}

Failure check_live(const Mapping* mapping, const char* syscall) {
  const State state = mapping->state.load(std::memory_order_relaxed);
  if (state == State::live) return {};
  Failure failure = refusal(state);
  failure.syscall = syscall;
  return failure;
}

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

Failure map_object_pages(Mapping* mapping, uintptr_t start, size_t bytes, int prot, uint64_t object_offset) {
  // Registers are never permitted: each access is delivered by the handler.
  if (mapping->trapped) prot = PROT_NONE;
  // Without permissions until it is registered: a touch before that would get a page that no op was asked for. It faults, and
  // waits for the claim.
  if (!map_object(mapping, start, bytes, mapping->supplied ? PROT_NONE : prot, object_offset)) return Failure::from_errno("mmap");
  return mapping->supplied ? mapping->ops->arm(mapping, start, bytes, prot) : Failure{};
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
    if (!request.for_device || state != State::suspended) failure = refusal(state);
    if (failure) return failure;
    uint64_t size = 0;
    if (!still_has_descriptor(object, &size)) return {EBADF, "mmap"};
    const uintptr_t end = request.start + request.span;
    if (open_mapping_within(request.start, end) != nullptr || !is_anonymous(request.start, end, request.borrowed))
      return {EEXIST, "mmap"};
    Mapping* mapping = allocate_mapping();
    if (mapping == nullptr) return {ENOMEM, "mmap"};
    mapping->start = request.start;
    mapping->end = end;
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

static void move_back(Mapping* mapping, size_t page, uint64_t object_offset) {
  const int prot = prot_of(mark_access(mapping->mark_of(page)), *mapping);
  const uintptr_t at = mapping->page_address(page);
  if (mapping->lost_cause(page) == Cause::none) {
    map_object_pages(mapping, at, mapping->page_size(), prot, object_offset);
    return;
  }
  mmap(reinterpret_cast<void*>(at), mapping->page_size(), prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, tombstone_fd(), 0);
  set_mark(mapping, page, mapping->mark_of(page) & ~kMarkLostFilled);
}

Failure remap_pages(Mapping* mapping, size_t first, size_t count, uint64_t object_offset) {
  RegistryLock lock;
  const Claim claim(mapping);
  const Failure failure = check_live(mapping, "mmap");
  if (failure) return failure;
  settle_strays_claimed(mapping);
  divide_lost_tail(mapping);
  auto* table = mapping->rearranged.load(std::memory_order_relaxed);
  if (table == nullptr) {
    const size_t bytes = round_up(mapping->pages() * sizeof(uint64_t), kPageSize);
    void* fresh = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) return Failure::from_errno("mmap");
    table = static_cast<std::atomic<uint64_t>*>(fresh);
    mapping->rearranged.store(table, std::memory_order_release);
  }
  const std::unique_ptr<uint64_t[]> before(new (std::nothrow) uint64_t[count]);
  if (before == nullptr) return {ENOMEM, "mmap"};
  for (size_t i = 0; i < count; ++i) before[i] = mapping->object_offset_of(first + i);
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
    // All or nothing: the runs that were moved go back.
    for (size_t i = 0; i < moved; ++i) move_back(mapping, first + i, before[i]);
    return refused;
  }
  for (size_t i = 0; i < count; ++i) {
    table[first + i].store((object_offset >> mapping->page_shift) + i + 1, std::memory_order_relaxed);
    // What was lost there was lost of the old page; the new one is another.
    const PageMark mark = mapping->mark_of(first + i);
    if (mark != 0) set_mark(mapping, first + i, mark & kMarkAccessMask);
  }
  mapping->retry_tag.store(0, std::memory_order_relaxed);
  republish(mapping);
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
