// What belongs to one environment (the main thread, a worker): its references to objects and mappings, its wake-up handle, the
// results of work done elsewhere. Everything else in the addon is process-global and lives in core/.
#pragma once

#include <napi.h>
#include <uv.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/event_ring.h"
#include "core/registry.h"
#include "core/revoker.h"
#include "core/wait_list.h"
#include "device/device.h"
#include "fault/guarded_copy.h"

namespace revocable::binding {

// The outcome of something that ran on another thread, matched to its promise by a token.
struct Completion {
  double token = 0;
  Failure failure = {};
  RevokeCounts counts = {};
  bool by_this_call = false;
  WaitResult wait = WaitResult::pending;
};

// Shared with the threads that deliver: it outlives the environment, which takes its handle away when it goes.
class Mailbox {
 public:
  explicit Mailbox(uv_async_t* async) : async_(async) {}
  // Room for one more, taken when the work begins: when it ends there may be no memory, and a removal must not fail for that.
  void expect();
  void deliver(const Completion& completion);
  void ring();  // events may have been pushed
  std::vector<Completion> take();
  void shut();

 private:
  std::mutex lock_;
  uv_async_t* async_;
  std::vector<Completion> completions_;
  std::atomic<bool> filled_{false};  // so that looking for nothing does not wait for whoever is ringing
  size_t expected_ = 0;
};

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
  EnvState(Napi::Env env, Napi::Float64Array described);

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

  int watch_registers();     // this thread answers for registers: the eventfd its event loop watches, or -1
  void watch_faults();       // this thread answers for pages: it takes the faults that its event loop sees
  void pending(int change);  // how many promises wait: the loop stays alive while any does
  void close(napi_async_cleanup_hook_handle hook);

  int subscription() const { return subscription_; }  // at the service, which need not tell this one of what it did itself
  Object* object(const Napi::Value& id) const;
  Mapping* mapping(const Napi::Value& id) const;
  Mapping* mapping(uint64_t id) const;
  void forget_last() { last_id_ = 0, last_mapping_ = nullptr; }  // when a mapping is taken out of `mappings`

 private:
  Napi::Reference<Napi::Float64Array> described_holder_;
  uv_async_t* async_;
  // Of a thread that answers for pages; null elsewhere. Closed with the environment.
  struct FaultWatch {
    uv_poll_t poll;
    uv_prepare_t before;
    uv_check_t after;
    uv_async_t* wake;
    bool attentive = false;
    int open = 3;
  };
  void unwatch_faults();
  // Of a thread that answers for registers; null elsewhere.
  struct RegisterWatch {
    uv_poll_t poll;
    uv_async_t* wake;
    int bell;
  };
  void unwatch_registers();
  RegisterWatch* registers_ = nullptr;
  static void set_attentive(FaultWatch* watch, bool now);
  FaultWatch* faults_ = nullptr;
  int subscription_;
  mutable uint64_t last_id_ = 0;  // no mapping's: generations begin at 1
  mutable Mapping* last_mapping_ = nullptr;
  int pending_ = 0;
};

// Its owner goes, and nobody can answer for it any more: to all others it has been unplugged. (devices.cc)
void abandon_device(const DeviceRef& device);

// A mapping's id as JavaScript sees it: generation * 2^20 + slot, exact in a double.
inline double mapping_id(const Mapping* mapping) {
  return static_cast<double>(mapping->generation) * kStatusSlots + mapping->slot;
}

// A Failure as { errno, syscall }, with Node's negative errno; null when there is none.
Napi::Value to_js(Napi::Env env, const Failure& failure);

inline uint64_t to_u64(const Napi::Value& value) { return static_cast<uint64_t>(value.As<Napi::Number>().DoubleValue()); }
inline uint32_t to_u32(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }
inline bool to_bool(const Napi::Value& value) { return value.As<Napi::Boolean>().Value(); }

void export_objects(Napi::Env env, Napi::Object exports);
void export_mappings(Napi::Env env, Napi::Object exports);
void export_access(Napi::Env env, Napi::Object exports);
void export_memory_calls(Napi::Env env, Napi::Object exports);
void export_revocation(Napi::Env env, Napi::Object exports);
void export_waits(Napi::Env env, Napi::Object exports);
void export_observation(Napi::Env env, Napi::Object exports);
void export_devices(Napi::Env env, Napi::Object exports);
void export_traces(Napi::Env env, Napi::Object exports);
void export_bench(Napi::Env env, Napi::Object exports);

}  // namespace revocable::binding
