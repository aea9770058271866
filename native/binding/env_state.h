// What belongs to one environment (the main thread, a worker): its references to objects and mappings, its wake-up handle, the
// results of work done elsewhere. Everything else in the addon is process-global and lives in core/.
#pragma once

#include <napi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "binding/convert.h"
#include "binding/loop_wake.h"
#include "binding/loop_watches.h"
#include "binding/mailbox.h"
#include "binding/socket_set.h"
#include "core/event_ring.h"
#include "core/registry.h"
#include "core/revoker.h"
#include "core/wait_list.h"
#include "device/device.h"
#include "fault/guarded_copy.h"

namespace revocable::binding {

struct Held {
  Mapping* mapping;
  uint32_t handles;  // Mapping objects of this environment, and pins
  bool creator;      // made here: it ends with the environment
};

// Asynchronous waits under way, by token. Shared with their threads: a wait may end while it is being cancelled, or after
// the environment has gone.
struct ThreadedWaits {
  std::shared_ptr<std::mutex> lock = std::make_shared<std::mutex>();
  std::shared_ptr<std::unordered_map<double, Waiter*>> waiters = std::make_shared<std::unordered_map<double, Waiter*>>();
};

// A copy on another thread, between the mapping and memory of its own.
struct Copy {
  Mapping* mapping;
  size_t offset;
  bool write;
  bool touch;  // for writing, of one byte: see guarded_touch
  std::unique_ptr<char[]> memory;
  size_t bytes;
  uint32_t failures;  // how often it was made before, in vain
  CopyResult result;
  bool real = false;  // nothing in the mapping changed meanwhile
  FutexWord done{0};
};

class EnvState {
 public:
  static EnvState& of(Napi::Env env) { return *env.GetInstanceData<EnvState>(); }
  // `status`: where the status table is mapped for its JavaScript. `libuv`: the environment's event loop is libuv's, and can
  // watch descriptors.
  EnvState(Napi::Env env, Napi::Uint8Array status, Napi::Float64Array described, bool libuv);

  Napi::Env env;
  // Where a mapping is described: properties of an object would cost more than mapping it. And what a copy is of.
  double* described;
  Napi::FunctionReference notify;  // called on the event loop when there may be something to take
  RingReader events;
  uint64_t events_dropped = 0;
  std::shared_ptr<Mailbox> mailbox;
  struct HeldObject {
    Object* object;     // one reference for all of them
    uint32_t wrappers;  // MemoryObjects of this environment
  };
  std::unordered_map<uint64_t, HeldObject> objects;
  std::unordered_map<uint64_t, Held> mappings;  // by mapping id
  std::unordered_set<Waiter*> waiting;          // synchronous waits under way
  ThreadedWaits threaded_waits;
  std::vector<DeviceRef> devices;  // owned by this thread
  // Devices with models of other addons, which go before this library does: shut first.
  std::unordered_map<uint64_t, std::unique_ptr<DeviceRef>> foreign_models;
  void shut_before_models(const DeviceRef& device);
  void forget_models(uint64_t device);
  struct HeldCall {
    DeviceRef device;
    std::shared_ptr<DeviceCall> call;
  };
  std::unordered_map<uint64_t, HeldCall> device_calls;  // this thread waits for their answers
  struct HeldTrace {
    DeviceRef device;
    int number;
    uint64_t began_ns;
  };
  std::unordered_map<uint64_t, HeldTrace> traces;            // opened by this thread, by token
  std::unordered_map<double, std::shared_ptr<Copy>> copies;  // asynchronous ones, by token
  double next_token = 1;
  std::unique_ptr<LoopWatches> watches;
  SocketSet sockets;

  void pending(int change);    // how many promises wait: the loop stays alive while any does
  void held_open(int change);  // how many sockets keep the loop alive
  void close(napi_async_cleanup_hook_handle hook);

  int subscription() const { return subscription_; }  // at the service, which need not tell this one of what it did itself
  Object* object(const Napi::Value& id) const { return object(to_u64(id)); }
  Object* object(uint64_t id) const;
  Mapping* mapping(const Napi::Value& id) const;
  Mapping* mapping(uint64_t id) const;
  void forget_last() { last_id_ = 0, last_mapping_ = nullptr; }  // when a mapping is taken out of `mappings`

 private:
  void* const status_;  // of `status_holder_`: there is no scope for a handle when the environment goes
  Napi::Reference<Napi::Uint8Array> status_holder_;
  Napi::Reference<Napi::Float64Array> described_holder_;
  LoopWake wake_;
  int subscription_;
  mutable uint64_t last_id_ = 0;  // no mapping's: generations begin at 1
  mutable Mapping* last_mapping_ = nullptr;
  int pending_ = 0;
  int held_open_ = 0;
};

}  // namespace revocable::binding
