// What stands behind an object besides its file: the core's and the fault handler's only way to it.
//
// As the kernel's vm_operations_struct: an implementation, such as simulated devices (device/), fills in one constant table, and
// each mapping of its objects has a pointer to it, Mapping::ops. There is none for ordinary memory, nor for a device's own view
// of its region. Each entry must be there; one that has nothing to do does nothing.
//
// Locks, in the order in which they are taken: the registry lock, the mapping's claim, locks of the implementation. The
// implementation calls nothing under its own locks that takes one of the first two. The holder of the registry lock has
// asynchronous signals blocked.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/failure.h"
#include "core/mapping_record.h"
#include "core/mapping_table.h"

namespace revocable {

class MachineContext;  // instruction/machine_context.h

// What has become of a raw access.
enum class Delivery {
  complete,        // the access is done, or stands before its step
  not_understood,  // nothing has been done
  deadly           // it is not delivered, and the mapping has no fill
};

struct VmOps {
  // --- the object -------------------------------------------------------------------------------------------------------------

  // Its gate has been shut, by a suspension, a revocation or a close, or its last reference is given up: when this returns
  // nothing of the implementation runs for an access to it, and threads that wait for an answer go on. Any thread of normal code,
  // more than once. Under the registry lock, but for a revocation, whose caller has a reference.
  void (*shut)(Object* object);

  // Its suspension is over: before the first mapping lives again, and once more before the gate opens. Under the registry lock.
  void (*open)(Object* object);

  // --- a mapping: any thread of normal code, under the registry lock ---------------------------------------------------------

  // A mapping is to be made, through the open file `file` (0: none): takes all the memory that its end will need, and sets
  // Mapping::supplied where the implementation supplies its pages. False when there is no memory. No thread knows of it yet.
  bool (*begin)(Mapping* mapping, uint64_t file);

  // The object has been mapped at [start, start + bytes), without permissions: permits `prot`, such that the first touch of each
  // page comes to the implementation. Only where pages are supplied. Under the claim.
  Failure (*arm)(Mapping* mapping, uintptr_t start, size_t bytes, int prot);

  // The same for one page that shows the object again after an access was diverted from it: what has been asked for it stays
  // asked.
  Failure (*put_back)(Mapping* mapping, size_t page, int prot);

  // What has been asked for these pages is not to be answered, and threads that wait for them look again. Under the claim. Of a
  // live mapping, they are about to show others of the object; of one that is suspended, all of it, its range has been replaced.
  void (*withdraw)(Mapping* mapping, size_t first_page, size_t pages);

  // Pages that have left the mapping: the next touch asks again. Under the claim.
  void (*forget)(Mapping* mapping, size_t first_page, size_t pages);

  // Its range has been replaced for good: threads that wait go on, nothing is answered, and the owner is notified, once. Needs no
  // memory. When it is revoked, and when it is closed, which may be both; under the claim. Or with `mapped` false, instead of
  // that: what begin() began has come to nothing, and the owner is not notified.
  void (*ended)(Mapping* mapping, bool mapped);

  // No thread and no handler has the record any more: gives back what begin() took. Not under the claim.
  void (*recycled)(Mapping* mapping);

  // --- raw accesses: in the fault handler, in any thread, without a lock. Async-signal-safe ----------------------------------

  // An access to a live mapping with Mapping::trapped: its pages have no permissions. Leaves the scope before it waits.
  Delivery (*access)(Mapping* mapping, uintptr_t address, MachineContext& machine, ReaderScope& scope);

  // Such an access did not get there, for `cause`: it got the fill. In a reader's scope.
  void (*missed)(Mapping* mapping, uintptr_t address, Cause cause);
};

// The base of what stands behind objects.
struct Backing {
  explicit Backing(const VmOps& operations) : ops(operations) {}
  const VmOps& ops;
};

}  // namespace revocable
