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
#include "core/region_table.h"
#include "core/registry.h"
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

int map_flags(const Region* region) { return MAP_NORESERVE | (region->private_copy ? MAP_PRIVATE : MAP_SHARED); }

bool map_object(const Region* region, uintptr_t start, size_t bytes, int prot, uint64_t object_offset) {
  // Not MAP_NORESERVE for 2 MiB pages: the reservation is what makes a shortage an error here and not a SIGBUS later.
  const int flags = region->page_shift == kHugePageShift ? map_flags(region) & ~MAP_NORESERVE : map_flags(region);
  const Object* object = region->object;
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

// Anonymous memory is a fill of ours only where the records say so: somebody else may have mapped the rest.
bool page_is_filled(const Region* region, size_t page) {
  constexpr PageMark kOurs = kMarkStray | kMarkCauseMask | kMarkFilled | kMarkLostFilled;
  return region->filled || (region->mark_of(page) & kOurs) != 0 || region->lost_cause(page) != Cause::none;
}

template <typename Visit>
void visit_filled_runs(const Region* region, const Vma& vma, Visit visit) {
  const size_t end = region->page_of(vma.end - 1) + 1;
  for (size_t page = region->page_of(vma.start); page < end;) {
    if (!page_is_filled(region, page)) {
      ++page;
      continue;
    }
    const size_t first = page;
    while (page < end && (region->filled || page_is_filled(region, page))) page = region->filled ? end : page + 1;
    Vma run = vma;
    run.start = region->page_address(first);
    run.end = region->page_address(page);
    visit({run, false});
  }
}

bool map_zeros(uintptr_t start, size_t bytes, Region* region) {
  void* at = reinterpret_cast<void*>(start);
  const int prot = PROT_READ | PROT_WRITE;
  if (mmap(at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED) return true;
  if (region->borrowed) {
    // The zero file's pages are punched out one day; these are in use.
    return mmap(at, bytes, prot, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
  }
  region->used_zero_file = true;
  // Its fill may have come from the same place, with what was written there.
  fallocate(zero_fill_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start), static_cast<off_t>(bytes));
  return mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, zero_fill_fd(), static_cast<off_t>(start)) != MAP_FAILED;
}

void leave_zeros(Region* region) {
  if (!features().procmap_query) {
    map_zeros(region->start, region->end - region->start, region);
    return;
  }
  const VmaReader reader;
  uintptr_t from = region->start, to = region->start;  // neighbouring pieces are replaced by one call
  for_each_own_piece(region, reader, [&](const RegionPiece& piece) {
    if (piece.vma.start != to) {
      if (to > from) map_zeros(from, to - from, region);
      from = piece.vma.start;
    }
    to = piece.vma.end;
  });
  if (to > from) map_zeros(from, to - from, region);
}

void count_state(State state, bool up) {
  std::atomic<uint64_t>* counter = state == State::live        ? &g_counters.live
                                   : state == State::suspended ? &g_counters.suspended
                                   : state == State::revoked   ? &g_counters.revoked
                                                               : nullptr;
  if (counter != nullptr) up ? bump(*counter) : drop(*counter);
}

// After marks or lost pages changed: the status word follows. Under the claim.
void republish(Region* region, bool only_access = false) {
  publish_state(region, region->state.load(std::memory_order_relaxed), only_access);
}

Failure check_live(const Region* region, const char* syscall) {
  const State state = region->state.load(std::memory_order_relaxed);
  if (state == State::live) return {};
  Failure failure = refusal(state);
  failure.syscall = syscall;
  return failure;
}

// One run of pages in [first, last) that carry the same access, given to apply(page, pages, prot).
template <typename Apply>
void for_each_access_run(const Region* region, size_t first, size_t last, Apply apply) {
  if (region->marks.load(std::memory_order_relaxed) == nullptr) return apply(first, last - first, region->base_prot());
  for (size_t page = first; page < last;) {
    const Access access = mark_access(region->mark_of(page));
    size_t end = page + 1;
    while (end < last && mark_access(region->mark_of(end)) == access) ++end;
    apply(page, end - page, prot_of(access, *region));
    page = end;
  }
}

// What the library's own records say, for a kernel that cannot be asked: a removal must not fail because of that.
template <typename Visit>
void visit_recorded_pieces(const Region* region, Visit visit) {
  for_each_access_run(region, 0, region->pages(), [&](size_t page, size_t pages, int prot) {
    const uintptr_t start = region->page_address(page);
    const Object* object = region->object;
    visit({{start, start + (pages << region->page_shift), prot, !region->private_copy, region->object_offset_of(page),
            object->vma_inode, object->vma_major, object->vma_minor},
           true});
  });
}

}  // namespace

Failure map_object_pages(Region* region, uintptr_t start, size_t bytes, int prot, uint64_t object_offset) {
  // Registers are never permitted: each access is delivered by the handler.
  if (region->trapped) prot = PROT_NONE;
  // Without permissions until it is registered: a touch before that would get a page nobody was asked for. It faults, and waits
  // for the claim.
  if (!map_object(region, start, bytes, region->supplied ? PROT_NONE : prot, object_offset)) return Failure::from_errno("mmap");
  return region->supplied ? region->ops->arm(region, start, bytes, prot) : Failure{};
}

void for_each_own_piece(const Region* region, const VmaReader& reader, const PieceVisitor& visit) {
  if (!reader.usable()) return visit_recorded_pieces(region, visit);
  for (uintptr_t at = region->start; at < region->end;) {
    Vma vma;
    if (!reader.find(at, &vma) || vma.start >= region->end) break;
    const uintptr_t next = vma.end;
    if (vma.start < at) {
      vma.offset += at - vma.start;
      vma.start = at;
    }
    vma.end = std::min(vma.end, region->end);
    // A private page of the object in a shared mapping is where a forbidden write was diverted to.
    const bool original = is_original(region->object, vma) && (region->private_copy || vma.shared);
    if (is_original(region->object, vma)) visit({vma, original, true});
    else if (is_own_file(vma)) visit({vma, false});
    else if (vma.inode == 0) visit_filled_runs(region, vma, visit);
    at = next;
  }
}

void list_region(Region* region, RegionList* list) {
  if (region->list != nullptr) {
    if (region->previous != nullptr) region->previous->next = region->next;
    else region->list->first = region->next;
    if (region->next != nullptr) region->next->previous = region->previous;
    --region->list->count;
  }
  region->list = list;
  region->previous = region->next = nullptr;
  if (list == nullptr) return;
  region->next = list->first;
  if (list->first != nullptr) list->first->previous = region;
  list->first = region;
  ++list->count;
}

// A mapping that has come to nothing.
static void undo_mapping(Region* region) {
  {
    const Claim claim(region);
    publish_state(region, State::closed);
    map_zeros(region->start, region->end - region->start, region);
  }
  if (region->ops != nullptr) region->ops->ended(region, false);
  region->handles = 0;
  retire_region(region);
  reclaim();
}

Failure map_region(const MapRequest& request, Region** result) {
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
    if (open_region_within(request.start, end) != nullptr || !is_anonymous(request.start, end, request.borrowed))
      return {EEXIST, "mmap"};
    Region* region = allocate_region();
    if (region == nullptr) return {ENOMEM, "mmap"};
    region->start = request.start;
    region->end = end;
    region->object = object;
    region->object_offset = request.object_offset;
    region->length = request.length;
    region->page_shift = object->page_shift;
    region->writable = request.writable;
    region->private_copy = request.private_copy;
    region->borrowed = request.borrowed;
    region->devices_own = object->backing != nullptr && request.for_device;
    region->fill = request.fill;
    region->trapped = object->trapped && !request.for_device;
    region->seen_size.store(size);
    region->supplied = false;
    region->ops = object->backing != nullptr && !request.for_device ? &object->backing->ops : nullptr;
    if (region->ops != nullptr && !region->ops->begin(region, request.device_file)) {
      forget_region(region);
      return {ENOMEM, "mmap"};
    }
    region->handles = 1;
    begin_state(region);
    publish_region(region);  // before the mapping exists, so that no access to it can fault unknown
    {
      const Claim claim(region);  // publishes to whoever takes it next what is written here of the region's pages
      failure = map_object_pages(region, region->start, request.span, region->base_prot(), region->object_offset);
    }
    if (failure) {
      undo_mapping(region);
      return failure;
    }
    learn_vma_identity(object, region->start);
    ++object->references;
    list_region(region, &object->live);
    count_state(State::live, true);
    bump(g_counters.mapped);
    reclaim();
    *result = region;
  }
  service_watch();
  // Outside the lock: it may read a whole file. Should the mapping be revoked meanwhile, the call fails and that is all.
  if (request.populate) {
    const bool write = request.writable && !request.private_copy;
    madvise(reinterpret_cast<void*>(request.start), request.span, write ? abi::kMadvPopulateWrite : abi::kMadvPopulateRead);
  }
  return {};
}

bool acquire_region(uint32_t slot, uint32_t generation, Region** result) {
  RegistryLock lock;
  Region* region = region_at_slot(slot);
  if (region == nullptr || region->generation != generation || region->handles == 0) return false;
  ++region->handles;
  *result = region;
  return true;
}

// As it is counted: the handler may have revoked it since, and left the counting to the service thread.
static State counted_state(const Region* region) {
  if (region->list == &region->object->live) return State::live;
  return region->list == &region->object->suspended ? State::suspended : State::revoked;
}

void close_region_locked(Region* region, bool others) {
  if (region->list == nullptr) return;  // closed before
  const State before = counted_state(region);
  {
    const Claim claim(region);
    publish_state(region, State::closed);
    wake_waiters(region);
    leave_zeros(region);
    if (region->ops != nullptr) region->ops->ended(region, true);
  }
  count_state(before, false);
  bump(g_counters.closed);
  list_region(region, nullptr);
  delete region->pieces;
  region->pieces = nullptr;
  retire_region(region);
  if (others) {
    Event event;
    event.kind = EventKind::mapping_closed;
    event.slot = region->slot;
    event.generation = region->generation;
    event.object = region->object->id;
    push_event(event);
    service_announce();
  }
  object_release_locked(region->object);
}

void release_region_handle(Region* region, bool close) {
  RegistryLock lock;
  --region->handles;
  if (close || region->handles == 0) close_region_locked(region, region->handles != 0);
  if (region->handles == 0) release_region(region);
  reclaim();
}

void close_regions_within(uintptr_t start, uintptr_t end) {
  RegistryLock lock;
  while (Region* region = open_region_within(start, end)) close_region_locked(region, region->handles != 0);
  reclaim();
}

Failure protect_pages(Region* region, size_t first, size_t count, Access access) {
  RegistryLock lock;
  const Claim claim(region);
  Failure failure = check_live(region, "mprotect");
  if (failure) return failure;
  if (!ensure_marks(region)) return Failure::from_errno("mmap");
  settle_strays_claimed(region);
  const Access mark = prot_of(access, *region) == region->base_prot() ? Access::base : access;
  // The marks go first where access becomes less and last where it becomes more, so that a checked access never faults on a
  // page whose mark calls it fine. With both in one call the order cannot be right for both; the handler then decides by the
  // marks it finds, so they are written before the kernel is asked in either case.
  const std::unique_ptr<PageMark[]> before(new (std::nothrow) PageMark[count]);
  if (before == nullptr) return {ENOMEM, "mprotect"};
  for (size_t i = 0; i < count; ++i) {
    before[i] = region->mark_of(first + i);
    set_mark(region, first + i, static_cast<PageMark>((before[i] & ~kMarkAccessMask) | static_cast<PageMark>(mark)));
  }
  republish(region, /*only_access=*/true);
  void* at = reinterpret_cast<void*>(region->page_address(first));
  const int prot = region->trapped ? PROT_NONE : prot_of(access, *region);  // of registers, only the marks say it
  if (mprotect(at, count << region->page_shift, prot) != 0) {
    failure = Failure::from_errno("mprotect");
    for (size_t i = 0; i < count; ++i) set_mark(region, first + i, before[i]);
    republish(region, /*only_access=*/true);
  }
  return failure;
}

// Each page of the lost tail gets a mark of its own.
static void divide_lost_tail(Region* region) {
  const uintptr_t from = region->lost_from.load(std::memory_order_relaxed);
  if (from == UINTPTR_MAX) return;
  for (size_t page = region->page_of(from); page < region->pages(); ++page) {
    mark_lost(region, page, Cause::past_end);
    if (region->tail_filled) set_mark(region, page, region->mark_of(page) | kMarkLostFilled);
  }
  region->tail_filled = false;
  region->lost_from.store(UINTPTR_MAX, std::memory_order_release);  // after the marks: no page is found for a moment
}

static void move_back(Region* region, size_t page, uint64_t object_offset) {
  const int prot = prot_of(mark_access(region->mark_of(page)), *region);
  const uintptr_t at = region->page_address(page);
  if (region->lost_cause(page) == Cause::none) {
    map_object_pages(region, at, region->page_size(), prot, object_offset);
    return;
  }
  mmap(reinterpret_cast<void*>(at), region->page_size(), prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, tombstone_fd(), 0);
  set_mark(region, page, region->mark_of(page) & ~kMarkLostFilled);
}

Failure remap_pages(Region* region, size_t first, size_t count, uint64_t object_offset) {
  RegistryLock lock;
  const Claim claim(region);
  const Failure failure = check_live(region, "mmap");
  if (failure) return failure;
  settle_strays_claimed(region);
  divide_lost_tail(region);
  auto* table = region->rearranged.load(std::memory_order_relaxed);
  if (table == nullptr) {
    const size_t bytes = round_up(region->pages() * sizeof(uint64_t), kPageSize);
    void* fresh = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) return Failure::from_errno("mmap");
    table = static_cast<std::atomic<uint64_t>*>(fresh);
    region->rearranged.store(table, std::memory_order_release);
  }
  const std::unique_ptr<uint64_t[]> before(new (std::nothrow) uint64_t[count]);
  if (before == nullptr) return {ENOMEM, "mmap"};
  for (size_t i = 0; i < count; ++i) before[i] = region->object_offset_of(first + i);
  if (region->ops != nullptr) region->ops->withdraw(region, first, count);
  size_t moved = 0;
  Failure refused;
  for_each_access_run(region, first, first + count, [&](size_t page, size_t pages, int prot) {
    if (refused) return;
    const uint64_t offset = object_offset + (uint64_t{page - first} << region->page_shift);
    refused = map_object_pages(region, region->page_address(page), pages << region->page_shift, prot, offset);
    if (!refused) moved += pages;
  });
  if (refused) {
    // All or nothing: the runs that were moved go back.
    for (size_t i = 0; i < moved; ++i) move_back(region, first + i, before[i]);
    return refused;
  }
  for (size_t i = 0; i < count; ++i) {
    table[first + i].store((object_offset >> region->page_shift) + i + 1, std::memory_order_relaxed);
    // What was lost there was lost of the old page; the new one is another.
    const PageMark mark = region->mark_of(first + i);
    if (mark != 0) set_mark(region, first + i, mark & kMarkAccessMask);
  }
  region->retry_tag.store(0, std::memory_order_relaxed);
  republish(region);
  return {};
}

// A page that may be its user's own copy was not replaced, only opened (divert in handler_inside.cc).
static bool put_back(Region* region, size_t page, int prot) {
  const uintptr_t address = region->page_address(page);
  if (region->has_own_copies()) return mprotect(reinterpret_cast<void*>(address), region->page_size(), prot) == 0;
  const uint64_t offset = region->object_offset_of(page);
  if (!region->supplied) return !map_object_pages(region, address, region->page_size(), prot, offset);
  return map_object(region, address, region->page_size(), PROT_NONE, offset) && !region->ops->put_back(region, page, prot);
}

// How many pages from `page` on one mapping can bring: with the same access, all lost or none, of consecutive pages of the
// object.
static size_t run_of(const Region* region, size_t page, size_t end) {
  const bool lost = region->lost_cause(page) != Cause::none;
  const Access access = mark_access(region->mark_of(page));
  const uint64_t offset = region->object_offset_of(page);
  size_t next = page + 1;
  while (next < end && (region->lost_cause(next) != Cause::none) == lost && mark_access(region->mark_of(next)) == access &&
         region->object_offset_of(next) == offset + (uint64_t{next - page} << region->page_shift)) {
    ++next;
  }
  return next - page;
}

static Failure map_run(Region* region, size_t page, size_t pages) {
  const int prot = prot_of(mark_access(region->mark_of(page)), *region);
  return map_object_pages(region, region->page_address(page), pages << region->page_shift, prot, region->object_offset_of(page));
}

static Failure restore_lost_run(Region* region, size_t first, size_t count) {
  if (region->supplied) {
    for (size_t page = first; page < first + count; ++page) {
      const PageMark mark = region->mark_of(page);
      if (!put_back(region, page, prot_of(mark_access(mark), *region))) return Failure::from_errno("mmap");
      set_mark(region, page, mark & kMarkAccessMask);
    }
    return {};
  }
  const Failure failure = map_run(region, first, count);
  if (failure) return failure;
  for (size_t page = first; page < first + count; ++page) set_mark(region, page, region->mark_of(page) & kMarkAccessMask);
  return {};
}

Failure restore_lost_pages(Region* region, size_t first, size_t count) {
  if (!region->may_have_lost_pages()) return {};
  divide_lost_tail(region);
  const size_t end = std::min(first + count, region->lost_last + 1);
  Failure failure;
  for (size_t page = std::max(first, region->lost_first); page < end && !failure;) {
    const size_t pages = run_of(region, page, end);
    if (region->lost_cause(page) != Cause::none) failure = restore_lost_run(region, page, pages);
    page += pages;
  }
  region->retry_tag.store(0, std::memory_order_relaxed);  // a thread that lost one of them may try again
  republish(region);
  return failure;
}

Failure map_pages_anew(Region* region, size_t first, size_t count) {
  for (size_t page = first; page < first + count;) {
    const size_t pages = run_of(region, page, first + count);
    const Failure failure = region->lost_cause(page) == Cause::none ? map_run(region, page, pages) : Failure{};
    if (failure) return failure;
    page += pages;
  }
  return {};
}

void settle_strays_claimed(Region* region) {
  if (region->stray_first > region->stray_last) return;
  size_t left_first = SIZE_MAX, left_last = 0, settled = 0;
  if (region->state.load(std::memory_order_relaxed) == State::live) {
    for (size_t page = region->stray_first; page <= region->stray_last; ++page) {
      const PageMark mark = region->mark_of(page);
      if ((mark & kMarkStray) == 0) continue;
      if (!put_back(region, page, prot_of(mark_access(mark), *region))) {
        left_first = std::min(left_first, page);
        left_last = page;
        continue;
      }
      set_mark(region, page, static_cast<PageMark>(mark & ~kMarkStray));
      ++settled;
    }
  }
  // Those that could not be put back (no mapping more to be had) are tried again at the next access.
  region->stray_first = left_first;
  region->stray_last = left_last;
  if (settled != 0) republish(region);
}

bool settle_strays(Region* region, size_t page) {
  RegistryLock lock;
  const Claim claim(region);
  settle_strays_claimed(region);
  // Under the claim: a moment later another thread's access may have been diverted there.
  return region->state.load() != State::live || (region->mark_of(page) & kMarkStray) == 0;
}

// The first byte of the range at or past byte `from` of the object, or SIZE_MAX. Of the page that `from` is within, none at or
// past `to` counts.
static size_t first_byte_from(const Region* region, size_t offset, size_t length, uint64_t from, uint64_t to) {
  const size_t end = offset + length;
  for (size_t page = offset >> region->page_shift; (page << region->page_shift) < end; ++page) {
    const uint64_t shown = region->object_offset_of(page);
    if (shown + region->page_size() <= from) {
      if (region->rearranged.load() == nullptr) page += ((from - shown) >> region->page_shift) - 1;
      continue;
    }
    const size_t within = shown < from ? static_cast<size_t>(from - shown) : 0;
    const size_t at = std::max(offset, (page << region->page_shift) + within);
    const size_t past = shown < from ? (page << region->page_shift) + static_cast<size_t>(to - shown) : SIZE_MAX;
    if (at < std::min({end, past, (page + 1) << region->page_shift})) return at;
  }
  return SIZE_MAX;
}

size_t first_byte_past_end(Region* region, size_t offset, size_t length, uint64_t size) {
  raise(region->seen_size, size);
  const uint64_t end_of_page = round_up(size, region->page_size());
  const uint64_t known_to = std::max(size, std::min(region->seen_size.load(), end_of_page));
  return first_byte_from(region, offset, length, size, known_to);
}

PageVerdict judge_access(Region* region, size_t offset, size_t width, bool write) {
  const size_t first = offset >> region->page_shift;
  const size_t last = (offset + width - 1) >> region->page_shift;
  for (size_t page = first; page <= last; ++page) {
    const size_t from = std::max(offset, page << region->page_shift);
    const Cause cause = region->lost_cause(page);
    if (cause != Cause::none) return {Verdict::lost, cause, from};
    const PageMark mark = region->mark_of(page);
    if (mark_access(mark) == Access::none) return {Verdict::protected_, Cause::none, from};
    if (write && mark_access(mark) == Access::read) return {Verdict::read_only, Cause::none, from};
    if ((mark & kMarkStray) != 0) {
      return {settle_strays(region, page) ? Verdict::stray : Verdict::unsettled, Cause::none, from};
    }
  }
  return {Verdict::fine, Cause::none, offset};
}

}  // namespace revocable
