// The registry lock and the objects. One lock guards the lists of mappings, the mapping table's writers and every decision to
// map something over a range: what a range belongs to is looked up, and acted upon, without letting it go in between.
#pragma once

#include <signal.h>

#include <cstdint>
#include <mutex>

#include "base/failure.h"
#include "core/mapping_record.h"
#include "core/service.h"

namespace revocable {

// Asynchronous signals stay blocked while it is held: a handler of other code that touches a mapping would otherwise wait
// for a claim that its own thread holds. SIGBUS and SIGSEGV stay open, as blocking them makes a fault deadly.
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t old_mask_;
};

class RegistryLock {
 public:
  RegistryLock();
  ~RegistryLock();
  // Lets others in: for loops over many mappings, which must not keep a thread that wants to map something waiting.
  void yield();
  void pause();  // the same, and sleeps for a moment: for the service thread
  RegistryLock(const RegistryLock&) = delete;
  RegistryLock& operator=(const RegistryLock&) = delete;

 private:
  const SignalsBlocked blocked_;
};

// Opens what the library needs for as long as the process lives: the status table, the tombstone, the fills, the thread.
Failure core_start();

// --- objects: every function takes the registry lock itself unless its name says `locked` --------------------------------

struct ObjectOptions {
  bool writable = true;
  FaultScope scope = FaultScope::by_cause;
  const char* name = "";
  std::shared_ptr<Backing> backing = nullptr;  // what stands behind it, as a device
  uint32_t device_region = 0;
  bool registers = false;
  std::shared_ptr<const Supply> supply = nullptr;
};

struct NewMemory {
  uint64_t size;
  bool huge_pages = false;
  int seals = 0;                  // F_SEAL_…, besides those that revocation needs
  const void* content = nullptr;  // what it holds at first; the rest is zeros
  size_t content_bytes = 0;
};

Failure object_create(const NewMemory& memory, const ObjectOptions& options, Object** object);  // memfd, ours
Failure object_open(const char* path, const ObjectOptions& options, Object** object);           // open(2)
Failure object_from_fd(int fd, const ObjectOptions& options, Object** object);                  // fcntl(F_DUPFD_CLOEXEC)

Object* object_acquire(uint64_t id);  // one more reference, or nullptr when there is no such object (any more)
// Shuts or opens the gate, and lets the status words of all its mappings follow. The locked one under the registry lock.
void set_gate_locked(Object* object, State gate);

// The object's state, when its mappings' status words say the same: where a handler has shut the gate, this lets them follow.
State object_state(Object* object);

void object_release(Object* object);  // the last reference closes the descriptor
void object_release_locked(Object* object);

// The size now; 0 for what has none, such as a character device.
Failure object_size(const Object* object, uint64_t* size);

// Whether `fd` still is the object's: a user may have closed it, and the number may be another file's by now, which must be
// neither truncated nor mapped nor closed. `size`: the file's, now.
bool still_has_descriptor(const Object* object, uint64_t* size = nullptr);

// Takes the pages of memory of our own from every process. False for other memory, and where its seals or its descriptor do not
// allow it. Where a holder has to be spared, its pages are emptied instead, and it is false: a holder reads zeros then.
bool truncate_owned(const Object* object);

// One more descriptor of it, for another process. One that is not for writing can neither write, truncate nor seal, nor be mapped
// for writing; from then on memory of our own can only be opened anew for reading: its mode says so, which its owner's user could
// change. Of other memory the mode is left as it is. EBADF where the object's descriptor has been closed by other code.
Failure object_descriptor(const Object* object, bool writable, int* fd);

// Whether the owner of this memfd, another process, has truncated it to nothing under a seal: that is a revocation.
// Async-signal-safe.
bool object_revoked_by_owner(const Object* object);

// F_SEAL_…; 0 of what cannot be sealed.
int object_seals(const Object* object);

// Shuts the gate of each object that this stands behind; they are then to be revoked.
void revoke_gates_of(const Backing& backing);

// One of those objects that no thread has begun to revoke, with a reference; nullptr when there is none. Needs no memory.
Object* unrevoked_object_of(const Backing& backing);

// Closes every mapping of it in every thread, then its descriptor. Not a revocation. True when this call did it. All environments
// are notified but the `caller`'s (a subscription of service.h).
bool object_close(Object* object, int caller = kNoSubscription);

}  // namespace revocable
