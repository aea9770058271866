// Simulated devices, as far as they concern more than one thread: who answers for them, what there is to do, whether they are
// there.
//
// A device's ops run in the thread that made it, its *owner*. Work for the owner comes from other threads: pages that are asked
// for, accesses to registers, mappings that ended. It waits in the device's queue, and the owner's event loop is rung.
#pragma once

#include <atomic>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/futex.h"
#include "core/mapping_record.h"
#include "core/vm_ops.h"
#include "device/access_trace.h"
#include "device/register_port.h"

namespace revocable {

// What the owner's `close` op gets when a mapping is gone. Made with the mapping, as a removal must need no memory.
struct MappingEnd {
  MappingEnd* next = nullptr;
  uint64_t mapping = 0;  // generation and slot, as JavaScript names it
  uint32_t device_region = 0;
  uint64_t offset = 0;
  size_t length = 0;
  uint64_t file = 0;  // through which it was mapped; 0: none
};

enum class PageProgress : uint8_t {
  untouched,    // the next touch asks
  asked,        // a thread waits, the device has been asked
  supplied,     // mapped; write-protected where the device wants to hear of the first write
  write_asked,  // a writer waits, the device has been asked
  writable
};

// A mapping of a device's region.
struct DeviceMapping {
  std::unique_ptr<MappingEnd> end;
  PageProgress* pages = nullptr;  // one a page where the device supplies them, from the kernel, sparse; under the mapping's claim
  std::atomic<uint32_t> self_faults{0};  // touches by the thread that would have had to answer
  // Raw accesses to registers that did not reach the model; of the last one, its Cause in the highest byte, and its offset.
  std::atomic<uint32_t> raw_failures{0};
  std::atomic<uint64_t> raw_failure{0};
};

enum class WorkKind : uint32_t { fault, write_fault, expired, call, mapping_ended, access };

// One thing for the owner, in numbers: see takeDeviceWork in src/native/device-functions.ts.
struct Work {
  WorkKind kind = WorkKind::fault;
  uint64_t token = 0;
  std::array<uint64_t, 8> numbers{};
};

// A call of an op: which, its arguments, and the calling thread.
constexpr size_t kCallNumbers = 7;

enum class CallResult : uint32_t { pending, done, gone };

// A call of an op from another thread, which waits for it.
struct DeviceCall {
  FutexWord settled{0};
  CallResult result = CallResult::pending;
  int errnum = 0;      // of the op's error, 0 when it has none
  uint64_t value = 0;  // or 1 for an error without an errno, which has a message
  std::string message;
};

struct Device : Backing {
  Device();
  ~Device() { trace_set_release(traces); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  uint64_t id = 0;
  std::string name;
  int owner_tid = 0;
  uint32_t limit_ms = 5000;  // how long an op may take
  // From the first instant of a removal: nothing is opened, mapped, asked or called any more.
  std::atomic<bool> removed{false};
  // The gates of its regions have followed.
  std::atomic<bool> regions_shut{false};
  TraceSet* const traces = trace_set_acquire();

  std::mutex ring_lock;        // a leaf. Not the next one: who is woken takes that at once
  std::function<void()> ring;  // the owner's event loop; empty when the owner has gone

  std::mutex lock;  // a leaf: nothing else is locked under it
  // Under it:
  bool attended = true;  // there is an owner
  std::deque<Work> work;
  std::map<uint64_t, std::shared_ptr<DeviceCall>> calls;
  MappingEnd* ended = nullptr;  // in order
  MappingEnd** ended_last = &ended;
  uint32_t open_mappings = 0;
  std::vector<RegisterPort*> ports;  // of its regions of registers; each may have gone to another device since
  std::unordered_map<uint64_t, Combination> combinations;  // of accesses under way that read and write, by token
};

using DeviceRef = std::shared_ptr<Device>;

// What stands behind a region of a device.
inline Device& device_of(const Object* object) { return static_cast<Device&>(*object->backing); }

DeviceRef device_create(const std::string& name, uint32_t limit_ms, std::function<void()> ring);
DeviceRef device_find(uint64_t id);  // null when there is none (any more)

// Shuts the gate; queued calls end with `gone`. True when this call did it; either way its models in C++ are not running when it
// returns, and will not be called. Its regions are to be revoked after it.
bool device_shut(Device& device);
// Whether it has been shut; its regions say so too, then.
bool device_is_shut(Device& device);
// No thread answers for it any more: it is shut, and nothing is delivered. Its owner's environment has gone.
void device_abandon(Device& device);
void device_forget(Device& device);  // it has been removed

void device_post(Device& device, const Work& work);
// Moves up to `most` things to do out of the queue, requests that were dropped meanwhile left out.
std::vector<Work> device_take_work(Device& device, size_t most);

// What the access puts where the model has just read `old`; false when it puts nothing.
bool device_combine(Device& device, uint64_t token, uint64_t old, uint64_t* value);
// The model's answer to an access; false when no thread waits for it any more.
bool device_answer_access(Device& device, uint64_t token, bool failed, uint64_t value);

uint64_t device_token();  // never 0, never the same twice

// Calls an op; null when the device is gone. Wait in slices with device_call_wait, then forget it with device_call_end.
std::shared_ptr<DeviceCall> device_call(Device& device, uint64_t token, const std::array<uint64_t, kCallNumbers>& arguments);
CallResult device_call_wait(const DeviceCall& call, uint64_t limit_ns);
// `withdraw`: an op that has not been called yet never will be.
void device_call_end(Device& device, uint64_t token, bool withdraw = true);
// The owner's answer; false when no thread waits for it any more.
bool device_answer_call(Device& device, uint64_t token, int errnum, uint64_t value, const std::string& message);

// --- mappings of a device's region, under the registry lock ---------------------------------------------------------------

// Gives the mapping what it needs as a mapping of its object's device; false when there is no memory for it.
bool device_mapping_begin(Mapping* mapping, uint64_t file);
void device_mapping_ended(Mapping* mapping);  // queues the owner's `close`, once
void device_mapping_undo(Mapping* mapping);   // it has come to nothing: no `close`
void device_mapping_free(Mapping* mapping);

}  // namespace revocable
