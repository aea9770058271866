#include "core/revoker.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/counters.h"
#include "base/features.h"
#include "base/linux_abi.h"
#include "base/memfd.h"
#include "core/event_ring.h"
#include "core/handler_work.h"
#include "core/mapping.h"
#include "core/mapping_pages.h"
#include "core/mapping_table.h"
#include "core/registry.h"
#include "core/reserve.h"
#include "core/service.h"
#include "core/vm_ops.h"
#include "core/vma_reader.h"

namespace revocable {
namespace {

double now_us() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

// How long one look at the list may hold the registry lock while others want it.
constexpr double kSliceUs = 200;
// Without PROCMAP_QUERY each slice begins by parsing /proc/self/maps, so slices are longer.
constexpr double kSliceWithoutQueryUs = 5000;

class Slice {
 public:
  bool over() const { return now_us() > end_; }

 private:
  double end_ = now_us() + (features().procmap_query ? kSliceUs : kSliceWithoutQueryUs);
};

// To all environments but the one whose call it is: that one knows.
void announce_change(const Object* object, int caller) {
  Event event;
  event.kind = EventKind::object_changed;
  event.object = object->id;
  push_event(event);
  service_notify(caller);
}

void shut_backing(Object* object) {
  if (object->backing != nullptr) object->backing->ops.shut(object);
}

void open_backing(Object* object) {
  if (object->backing != nullptr) object->backing->ops.open(object);
}

enum class Means { replaced, protected_, failed };

// The ladder. `sealed` is set when the kernel will let nothing be mapped there, not even a fill.
Means replace_piece(const MappingPiece& piece, int prot, bool truncated, bool* sealed) {
  void* at = reinterpret_cast<void*>(piece.vma.start);
  const size_t bytes = piece.vma.end - piece.vma.start;
  const off_t offset = static_cast<off_t>(piece.vma.inode == 0 ? 0 : piece.vma.offset);
  do {
    if (mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, tombstone_fd(), offset) != MAP_FAILED)
      return Means::replaced;
  } while (errno == ENOMEM && drop_ballast());
  *sealed = *sealed || errno == EPERM;
  if (mprotect(at, bytes, PROT_NONE) == 0) return Means::protected_;
  if (features().guard && madvise(at, bytes, abi::kMadvGuardInstall) == 0) return Means::protected_;
  return truncated ? Means::protected_ : Means::failed;  // truncated: beyond the end of its file, every access is SIGBUS
}

int piece_prot(const Mapping* mapping, const MappingPiece& piece) {
  // Of registers the kernel knows no permissions, and the tombstone has those that the mapping was given: SIGBUS, not SIGSEGV.
  if (piece.original && !mapping->trapped) return piece.vma.prot;
  return prot_of(mark_access(mapping->mark_of(mapping->page_of(piece.vma.start))), *mapping);
}

// Where other code mapped something into the range, the fill must spare it too.
void remember_extents(Mapping* mapping, const VmaReader& reader) {
  mapping->extent_count = 0;
  for_each_own_piece(mapping, reader, [&](const MappingPiece& piece) {
    if (mapping->extent_count > Mapping::kExtents) return;
    if (mapping->extent_count < Mapping::kExtents) {
      mapping->extents[mapping->extent_count] = {piece.vma.start, piece.vma.end, piece.vma.prot};
    }
    ++mapping->extent_count;
  });
}

// Replaces every piece of a mapping. Under the claim, after the new state was published. With `keep_fill`, what has its fill
// already keeps it: replacing it would take away what a thread has written there and read back.
Means replace_mapping(Mapping* mapping, const VmaReader& reader, bool truncated, bool keep_fill = false) {
  Means worst = Means::replaced;
  bool sealed = false;
  uintptr_t covered = mapping->start;
  for_each_own_piece(mapping, reader, [&](const MappingPiece& piece) {
    if (piece.vma.start == covered) covered = piece.vma.end;
    if (keep_fill && !piece.shows_object) return;
    worst = std::max(worst, replace_piece(piece, piece_prot(mapping, piece), truncated, &sealed));
  });
  if (!keep_fill) forget_fill(mapping);
  // A fill of extents has a mark on the first page of each, so the kernel could not say again which are ours.
  if (mapping->filled_first == SIZE_MAX) {
    mapping->extent_count = 0;
    if (covered != mapping->end) remember_extents(mapping, reader);
  }
  mapping->unfillable = sealed;
  mapping->weak = worst != Means::replaced;
  return worst;
}

void count_means(RevokeCounts* counts, Means means) {
  ++counts->mappings;
  ++(means == Means::replaced ? counts->replaced : means == Means::protected_ ? counts->protected_ : counts->failed);
}

void revoke_mapping(Mapping* mapping, const VmaReader& reader, RevokeCounts* counts) {
  const State before = mapping->list == &mapping->object->live ? State::live : State::suspended;
  const Claim claim(mapping);
  // A thread ran into the truncation before this, or touched a suspended mapping, and the handler has begun to fill it.
  const bool touched = mapping->state.load(std::memory_order_relaxed) != State::live;
  publish_state(mapping, State::revoked);
  count_means(counts, mapping->filled ? Means::replaced : replace_mapping(mapping, reader, counts->truncated, touched));
  if (mapping->ops != nullptr) mapping->ops->ended(mapping, true);
  wake_waiters(mapping);
  drop(before == State::live ? g_counters.live : g_counters.suspended);
  bump(g_counters.revoked);
  list_mapping(mapping, &mapping->object->dead);
}

// Between two slices. The service thread has time: it sleeps for a moment, so that a thread that waits to change the process's
// mappings gets its turn. Without that it waits until the kernel hands it the lock by force, which takes 4 ms
// (RWSEM_WAIT_TIMEOUT). A thread that revokes in its own call need not let any thread go first but those that wait for the
// registry.
enum class Pace { polite, brisk };

void let_others(RegistryLock* lock, Pace pace) { pace == Pace::polite ? lock->pause() : lock->yield(); }

// Takes mappings off `list` with take(mapping) until it is empty, letting others at the lock now and then; or until the object is
// no longer in the state that called for it.
template <typename Take>
void drain_list(RegistryLock* lock, const Object* object, const MappingList* list, Pace pace, Take take) {
  const State wanted = object->gate.load();
  while (list->first != nullptr && object->gate.load() == wanted) {
    VmaReader reader;
    reader.begin();
    const Slice slice;
    do take(list->first, reader);
    while (list->first != nullptr && !slice.over());
    if (list->first != nullptr) let_others(lock, pace);
  }
}

// The object's own pages, but those that are lost: these stay lost.
void note_pieces(Mapping* mapping, const VmaReader& reader) {
  mapping->pieces = new std::vector<Piece>;
  for_each_own_piece(mapping, reader, [&](const MappingPiece& piece) {
    if (!piece.original) return;
    for_each_run_with_backing(mapping, piece.vma.start, piece.vma.end, [&](uintptr_t start, uintptr_t end) {
      mapping->pieces->push_back({start, end, piece.vma.prot});
    });
  });
}

void suspend_mapping(Mapping* mapping, const VmaReader& reader, RevokeCounts* counts) {
  // What the device writes meanwhile is there afterwards.
  if (mapping->devices_own) {
    drop(g_counters.live);
    bump(g_counters.suspended);
    list_mapping(mapping, &mapping->object->suspended);
    return;
  }
  const Claim claim(mapping);
  settle_strays_claimed(mapping);
  note_pieces(mapping, reader);
  publish_state(mapping, State::suspended);
  count_means(counts, replace_mapping(mapping, reader, false));
  if (mapping->ops != nullptr) mapping->ops->withdraw(mapping, 0, mapping->pages());
  wake_waiters(mapping);
  drop(g_counters.live);
  bump(g_counters.suspended);
  list_mapping(mapping, &mapping->object->suspended);
}

uint64_t object_offset_at(const Mapping* mapping, uintptr_t address) {
  return mapping->object_offset_of(mapping->page_of(address));
}

// Pieces that show one run of the object, each with its protection. In one call, as there are drivers that map nothing less; and
// without permissions until each piece has its own, so that no access passes that its page forbids.
Failure restore_run(Mapping* mapping, const Piece* first, const Piece* last) {
  const uint64_t offset = object_offset_at(mapping, first->start);
  const size_t bytes = last->end - first->start;
  if (first == last) return map_object_pages(mapping, first->start, bytes, first->prot, offset);
  const Failure failure = map_object_pages(mapping, first->start, bytes, PROT_NONE, offset);
  if (failure) return failure;
  for (const Piece* piece = first; piece <= last; ++piece) {
    if (mprotect(reinterpret_cast<void*>(piece->start), piece->end - piece->start, piece->prot) != 0)
      return Failure::from_errno("mprotect");
  }
  return {};
}

bool follows(const Mapping* mapping, const Piece& piece, const Piece& next) {
  return next.start == piece.end &&
         object_offset_at(mapping, next.start) == object_offset_at(mapping, piece.start) + (piece.end - piece.start);
}

Failure restore_pieces(Mapping* mapping) {
  const std::vector<Piece>& pieces = *mapping->pieces;
  for (size_t first = 0; first < pieces.size();) {
    size_t last = first;
    while (last + 1 < pieces.size() && follows(mapping, pieces[last], pieces[last + 1])) ++last;
    const Failure failure = restore_run(mapping, &pieces[first], &pieces[last]);
    if (failure) return failure;
    first = last + 1;
  }
  return {};
}

Failure resume_mapping(Mapping* mapping, const VmaReader& reader) {
  if (mapping->devices_own) {
    drop(g_counters.suspended);
    bump(g_counters.live);
    list_mapping(mapping, &mapping->object->live);
    return {};
  }
  const Claim claim(mapping);
  const Failure failure = restore_pieces(mapping);
  if (failure) {
    replace_mapping(mapping, reader, false);  // half of it may be back: it stays suspended as a whole
    return failure;
  }
  delete mapping->pieces;
  mapping->pieces = nullptr;
  mapping->extent_count = 0;
  forget_fill(mapping);
  mapping->unfillable = mapping->weak = mapping->announced = false;
  mapping->retry_tag.store(0, std::memory_order_relaxed);  // a thread that faulted while it was away may try again
  publish_state(mapping, State::live);
  drop(g_counters.suspended);
  bump(g_counters.live);
  list_mapping(mapping, &mapping->object->live);
  return {};
}

Failure let_go_of_pages(Mapping* mapping, size_t first, size_t count) {
  if (mapping->private_copy) return {};
  void* at = reinterpret_cast<void*>(mapping->page_address(first));
  const size_t bytes = count << mapping->page_shift;
  if (madvise(at, bytes, MADV_DONTNEED) == 0) return {};
  if (errno != EINVAL) return Failure::from_errno("madvise");
  // Locked pages need another call, and pages of a device's physical memory another mapping.
  if (madvise(at, bytes, abi::kMadvDontneedLocked) == 0) return {};
  return map_pages_anew(mapping, first, count);
}

Failure zap_mapping(Mapping* mapping, uint64_t offset, uint64_t length) {
  const Claim claim(mapping);
  if (mapping->state.load() != State::live) return {};
  return for_each_run_shown(mapping, offset, length, [&](size_t first, size_t count) {
    const Failure failure = let_go_of_pages(mapping, first, count);
    if (failure) return failure;
    if (mapping->supplied) mapping->ops->forget(mapping, first, count);
    return restore_lost_pages(mapping, first, count);
  });
}

}  // namespace

void wake_waiters(Mapping* mapping) {
  if (mapping->waiters.load() != 0) futex_wake_shared(&status_words()[mapping->slot]);
}

bool revoke_begin(Object* object) {
  RegistryLock lock;
  if (object->gate.load() == State::closed) return false;
  set_gate_locked(object, State::revoked);
  return !object->revoke_taken.exchange(true);
}

namespace {

// No thread is going to revoke it any more: it was closed first.
bool never_revoked(const Object* object) { return object->gate.load() == State::closed && object->revoke_done.load() == 0; }

RevokeCounts await_revocation(Object* object) {
  while (object->revoke_done.load() == 0 && !never_revoked(object)) {
    const timespec limit{0, 50'000'000};  // an object that is closed meanwhile wakes no waiter
    futex_wait_private(&object->revoke_done, 0, &limit);
  }
  RegistryLock lock;
  return object->counts;
}

RevokeCounts take_all_mappings(Object* object, Pace pace) {
  const double start = now_us();
  RevokeCounts counts;
  counts.truncated = truncate_owned(object);
  RegistryLock lock;
  const auto take = [&](Mapping* mapping, const VmaReader& reader) { revoke_mapping(mapping, reader, &counts); };
  // A resume that was under way may have moved mappings back: go round until both are empty.
  while (object->gate.load() == State::revoked && (object->live.first != nullptr || object->suspended.first != nullptr)) {
    drain_list(&lock, object, &object->live, pace, take);
    drain_list(&lock, object, &object->suspended, pace, take);
  }
  counts.duration_us = now_us() - start;
  object->counts = counts;
  object->revoke_done.store(1);
  return counts;
}

}  // namespace

bool revoke_is_brief(const Object* object) {
  constexpr size_t kMostMappings = 4, kMostBytes = size_t{256} << 10;
  if (object->registers) return false;
  struct stat file;
  if (object->owned && (fstat(object->fd, &file) != 0 || static_cast<size_t>(file.st_blocks) * 512 > kMostBytes)) return false;
  RegistryLock lock;
  size_t mappings = 0, bytes = 0;
  for (const MappingList* list : {&object->live, &object->suspended}) {
    for (const Mapping* mapping = list->first; mapping != nullptr; mapping = mapping->next) {
      bytes += mapping->end - mapping->start;
      if (++mappings > kMostMappings || bytes > kMostBytes) return false;
    }
  }
  return true;
}

RevokeCounts revoke_finish(Object* object, bool mine, int caller) {
  if (!mine) return await_revocation(object);
  shut_backing(object);
  const RevokeCounts counts = take_all_mappings(object, caller == kNoSubscription ? Pace::polite : Pace::brisk);
  futex_wake_private(&object->revoke_done);
  std::vector<std::function<void(const RevokeCounts&)>> waiters;
  {
    RegistryLock lock;
    waiters.swap(object->revoke_waiters);
  }
  for (const auto& done : waiters) done(counts);
  bump(g_counters.revokes);
  announce_change(object, caller);
  return counts;
}

void revoke_objects_of(const Backing& backing) {
  while (Object* object = unrevoked_object_of(backing)) {
    if (revoke_begin(object)) revoke_finish(object, true);
    object_release(object);
  }
}

void revoke_when_done(Object* object, std::function<void(const RevokeCounts&)> done) {
  {
    RegistryLock lock;
    if (object->revoke_done.load() == 0 && !never_revoked(object)) {
      object->revoke_waiters.push_back(std::move(done));
      return;
    }
  }
  done(object->counts);
}

Failure suspend(Object* object, RevokeCounts* counts, bool* by_this_call) {
  const double start = now_us();
  RegistryLock lock;
  const State before = object->gate.load();
  if (before == State::revoked) return {ENODEV, "mmap"};
  if (before == State::closed) return {EBADF, "mmap"};
  for (const Mapping* mapping = object->live.first; mapping != nullptr; mapping = mapping->next) {
    if (mapping->private_copy) return {EBUSY, "mmap"};
  }
  *by_this_call = before == State::live;
  if (!*by_this_call) return {};
  set_gate_locked(object, State::suspended);
  shut_backing(object);
  // The lock is let go in between: a revoke or close that comes meanwhile does the rest.
  drain_list(&lock, object, &object->live, Pace::polite,
             [&](Mapping* mapping, const VmaReader& reader) { suspend_mapping(mapping, reader, counts); });
  counts->duration_us = now_us() - start;
  bump(g_counters.suspends);
  announce_change(object, kNoSubscription);
  return {};
}

Failure resume(Object* object) {
  RegistryLock lock;
  const State before = object->gate.load();
  if (before == State::revoked) return {ENODEV, "mmap"};
  if (before == State::closed) return {EBADF, "mmap"};
  if (before == State::live) return {};
  Failure failure;
  open_backing(object);  // before the first mapping lives again
  while (object->suspended.first != nullptr && !failure) {
    VmaReader reader;
    failure = reader.begin();
    const Slice slice;
    while (object->suspended.first != nullptr && !failure && !slice.over()) {
      failure = resume_mapping(object->suspended.first, reader);
    }
    if (object->suspended.first != nullptr && !failure) let_others(&lock, Pace::polite);
    if (object->gate.load() != State::suspended) return {ENODEV, "mmap"};
  }
  if (failure) {
    // All or nothing: those that were resumed go back.
    RevokeCounts ignored;
    shut_backing(object);
    drain_list(&lock, object, &object->live, Pace::polite,
               [&](Mapping* mapping, const VmaReader& reader) { suspend_mapping(mapping, reader, &ignored); });
    return failure;
  }
  open_backing(object);  // first: a live object whose backing is shut is one whose device is going
  set_gate_locked(object, State::live);
  bump(g_counters.resumes);
  announce_change(object, kNoSubscription);
  return {};
}

Failure zap(Object* object, uint64_t offset, uint64_t length) {
  RegistryLock lock;
  uint64_t size = 0;
  Failure failure = object_size(object, &size);
  for (Mapping* mapping = object->live.first; mapping != nullptr && !failure; mapping = mapping->next) {
    failure = zap_mapping(mapping, offset, length);
    // What the file was cut by is not missed any more.
    if (!failure && offset <= size && size - offset < length) lower(mapping->seen_size, size);
  }
  return failure;
}

namespace {

// What one mapping was left for. Returns its object, with a reference, when all of it is to be revoked.
Object* settle_mapping(Mapping* mapping) {
  RegistryLock lock;
  if (mapping->list == nullptr) return nullptr;  // closed meanwhile
  {
    const Claim claim(mapping);
    settle_strays_claimed(mapping);
  }
  if (!mapping->object->revoke_wanted.exchange(false)) return nullptr;
  ++mapping->object->references;
  return mapping->object;
}

void finish_mapping(Mapping* mapping) {
  Object* object = settle_mapping(mapping);
  if (object == nullptr) return;
  revoke_finish(object, true, kNoSubscription);
  object_release(object);
}

// A page that was diverted this recently may not have been touched again by the thread it was diverted for: putting the object's
// page back would send that thread through the same fault again and again.
constexpr uint64_t kStrayNs = 5'000'000;

// Linked through the objects, since a close leaves them here, which must need no memory. Under the registry lock.
Object* g_to_revoke = nullptr;

Object* next_to_revoke() {
  const RegistryLock lock;
  Object* object = g_to_revoke;
  if (object == nullptr) return nullptr;
  g_to_revoke = object->next_to_revoke;
  object->queued_to_revoke = false;
  return object;
}

bool strayed_lately(const Mapping* mapping) {
  const uint64_t at = mapping->strayed_at.load(std::memory_order_relaxed);
  return at != 0 && static_cast<uint64_t>(now_us() * 1e3) < at + kStrayNs;
}

}  // namespace

bool finish_handler_work() {
  while (Object* object = next_to_revoke()) {
    revoke_finish(object, true, kNoSubscription);
    object_release(object);
  }
  bool later = false;
  if (g_handler_work.overflowed.exchange(false, std::memory_order_acquire)) {
    for (uint32_t slot = 1; Mapping* mapping = mapping_at_slot_now(slot); ++slot) finish_mapping(mapping);
  }
  for (auto& entry : g_handler_work.mappings) {
    Mapping* mapping = entry.load(std::memory_order_acquire);
    if (mapping == nullptr) continue;
    if (strayed_lately(mapping)) {
      later = true;
      continue;
    }
    entry.store(nullptr, std::memory_order_relaxed);
    finish_mapping(mapping);
  }
  return later;
}

void revoke_by_service_locked(Object* object) {
  if (object->queued_to_revoke) return;
  ++object->references;
  object->queued_to_revoke = true;
  object->next_to_revoke = g_to_revoke;
  g_to_revoke = object;
  service_wake();
}

}  // namespace revocable
