// What the library knows of one mapped object (kernel: file and address_space). As type-stable as a mapping's record
// (mapping_record.h), since the fault handler reads it too.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/futex.h"
#include "base/page.h"
#include "core/status_table.h"

namespace revocable {

// The last three are a device's: its fault op said no, failed, or did not answer in time.
enum class Cause : uint8_t { none, past_end, no_space, poisoned, unknown, refused, failed, no_answer };
enum class FaultScope : uint8_t { by_cause, page, object };  // what one backing fault takes away

struct Mapping;       // mapping_record.h
struct Backing;       // vm_ops.h
struct RegisterPort;  // device/register_port.h
struct Supply;        // device/page_supply.h

struct MappingList {
  Mapping* first = nullptr;
  size_t count = 0;
};

// What revocation did, as RevokeReport says it.
struct RevokeCounts {
  uint32_t mappings = 0;
  bool truncated = false;
  uint32_t replaced = 0;    // by the tombstone, or already by a fill
  uint32_t protected_ = 0;  // PROT_NONE or guard pages: a weaker means was all the kernel allowed
  uint32_t failed = 0;      // still reaches the object: sealed by other code, not ours, no guard pages
  double duration_us = 0;
};

struct Object {
  uint64_t id = 0;
  std::atomic<int> fd{-1};  // this and the next two also for a handler that looks at a record on its way out
  // Of memory of our own that is sealed against writing: the descriptor that can truncate it. `fd` is one that cannot.
  int owner_fd = -1;
  bool owned = false;
  bool writable = false;
  // Its descriptor is held by a process that would not survive a truncation: a revocation empties its pages instead.
  std::atomic<bool> spare_holders{false};
  std::atomic<bool> sealable{false};  // a memfd: its seals can tell that its owner revoked it
  std::atomic<bool> regular{false};   // a regular file or memfd
  bool sized = false;                 // regular, or a block device: its size bounds its pages
  unsigned page_shift = 0;            // 12, or 21 for 2 MiB pages
  FaultScope scope = FaultScope::by_cause;
  dev_t file_dev = 0;  // identity of the file behind fd, checked before it is truncated
  ino_t inode = 0;
  std::string name;

  // Constant while it exists; not for the handler. What stands behind it besides its file; null: shared memory as any other.
  std::shared_ptr<Backing> backing;
  // Of a region of a simulated device: read by device/ only.
  uint32_t device_region = 0;
  bool registers = false;                // accesses go to the device's model, not to memory
  std::shared_ptr<const Supply> supply;  // where its pages come from; null: shared memory as any other
  // Of registers: the way to their model. Stays with the record for ever.
  std::atomic<RegisterPort*> port{nullptr};
  bool trapped = false;  // raw accesses to the registers are delivered

  // The gate: anything but `live` refuses new mappings. Set before anything else happens; read by the handler.
  std::atomic<State> gate{State::live};
  // What is said of the object: follows the gate when every mapping's status word does (settle_gate in registry.h), so that no
  // thread is given an answer that a checked access of its own contradicts.
  std::atomic<State> state{State::live};
  std::atomic<Cause> revoke_cause{Cause::none};  // why, when a backing fault revoked it
  std::atomic<bool> revoke_taken{false};         // a caller, or the handler for the service thread, has taken the revocation on
  std::atomic<bool> revoke_wanted{false};        // the handler asks the service thread to revoke the rest

  // Under the registry lock:
  MappingList live, suspended, dead;  // dead: revoked, not yet closed
  bool vma_identity_known = false;    // as /proc/self/maps shows it: may differ from fstat (btrfs, overlayfs)
  uint32_t vma_major = 0, vma_minor = 0;
  uint64_t vma_inode = 0;
  Object* next_unused = nullptr;
  Object* next_to_revoke = nullptr;  // by the service thread
  bool queued_to_revoke = false;
  uint32_t references = 0;   // JavaScript objects in all threads, and mappings
  FutexWord revoke_done{0};  // 1 when `counts` is final: other callers wait for it
  RevokeCounts counts;
  std::vector<std::function<void(const RevokeCounts&)>> revoke_waiters;  // to be called when `counts` is final
};
// Whether mmap(2) of it may fail after the range it is mapped over has been unmapped: a driver has its say. Shared memory of our
// own with pages of the usual size has no such driver.
inline bool may_be_refused(const Object* object) { return !object->owned || object->page_shift == kHugePageShift; }

}  // namespace revocable
