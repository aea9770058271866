// revoke_mappings(), in user space.
//
// Revoking goes in four steps, in this order because of the races each one closes:
//   1. the gate: the object refuses new mappings (revoke_begin);
//   2. an object of ours is truncated to nothing, which takes its pages from every process at once, and its seals see to it
//      that no thread gives them back;
//   3. every mapping in this process is replaced by the tombstone, piece by piece so that each keeps its protection, after
//      looking under the lock whether it still is what it was; the list is scanned again until it is empty;
//   4. a thread that sleeps on a futex word of such a mapping is woken, through the mapping's status word.
// Where the kernel refuses step 3, weaker means follow: PROT_NONE, then guard pages. The counts say what happened.
#pragma once

#include <functional>

#include "base/failure.h"
#include "core/mapping_record.h"
#include "core/service.h"

namespace revocable {

// Shuts the gate. True when this call is the one that revokes; the caller must then call revoke_finish.
bool revoke_begin(Object* object);

// Does the work when `mine`, else waits for the thread that does. Blocks; linear in mappings and present pages. Cannot fail.
// For a closed object that was never revoked the counts are zeros.
// All environments are notified but the `caller`'s (a subscription of service.h), which learns it from the counts.
RevokeCounts revoke_finish(Object* object, bool mine, int caller = kNoSubscription);

// Whether revoke_finish takes no longer than to wake another thread that would do it: few mappings, few pages, no registers,
// whose models would be waited for. After revoke_begin.
bool revoke_is_brief(const Object* object);

// Calls `done` with the counts when the revoking thread has finished: at once, or on that thread. For the service thread, which
// must not wait for a revocation that may be queued behind it.
void revoke_when_done(Object* object, std::function<void(const RevokeCounts&)> done);

// Revokes every object that this stands behind, in this call. Their gates have been shut.
void revoke_objects_of(const Backing& backing);

// The temporary kind. EBUSY when a private mapping exists (its own copies would be lost), ENODEV, EBADF.
// Suspending twice is fine.
Failure suspend(Object* object, RevokeCounts* counts, bool* by_this_call);
Failure resume(Object* object);

// Lets the pages of [offset, offset + length) go; the next touch asks the object again. Private copies stay.
Failure zap(Object* object, uint64_t offset, uint64_t length);

// On the service thread: revokes what the fault handler found gone, and puts strayed pages back. True when some of it has to
// wait for some milliseconds.
bool finish_handler_work();

// Has the service thread revoke the rest of the object, whose gate the handler has shut. Under the registry lock.
void revoke_by_service_locked(Object* object);

// Wakes threads that wait on futex words of this mapping. After its state was published.
void wake_waiters(Mapping* mapping);

}  // namespace revocable
