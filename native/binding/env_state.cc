#include "binding/env_state.h"

#include <sys/mman.h>

#include "binding/devices.h"
#include "core/mapping.h"
#include "core/service.h"
#include "core/status_table.h"
#include "fault/fill.h"

namespace revocable::binding {
namespace {

// Node runs the loop once more while it tears an environment down, when JavaScript can no longer be called: that fails without
// an exception, and no JavaScript is left that could be notified. Deno writes the result
// also where it is given no place for one.
void on_wake(void* data) {
  auto* state = static_cast<EnvState*>(data);
  const Napi::HandleScope scope(state->env);
  if (state->notify.IsEmpty()) return;
  napi_value global = nullptr, ignored = nullptr, error = nullptr;
  bool thrown = false;
  if (napi_get_global(state->env, &global) != napi_ok) return;
  napi_make_callback(state->env, nullptr, global, state->notify.Value(), 0, nullptr, &ignored);
  if (napi_is_exception_pending(state->env, &thrown) != napi_ok || !thrown) return;
  if (napi_get_and_clear_last_exception(state->env, &error) == napi_ok) napi_fatal_exception(state->env, error);
}

void on_environment_gone(napi_async_cleanup_hook_handle hook, void* state) { static_cast<EnvState*>(state)->close(hook); }

// Where no handle of libuv is to be waited for. Deno frees an asynchronous hook twice that is removed while it runs.
void on_environment_gone_at_once(void* state) { static_cast<EnvState*>(state)->close(nullptr); }

}  // namespace

EnvState::EnvState(Napi::Env environment, Napi::Uint8Array status, Napi::Float64Array where, bool libuv)
    : env(environment),
      described(where.Data()),
      mailbox(std::make_shared<Mailbox>(&wake_)),
      status_(status.Data()),
      status_holder_(Napi::Persistent(status)),
      described_holder_(Napi::Persistent(where)),
      wake_(environment, on_wake, this) {
  uv_loop_t* loop = nullptr;
  if (libuv) napi_get_uv_event_loop(env, &loop);
  watches = std::make_unique<LoopWatches>(loop, &wake_, mailbox);
  subscription_ = service_subscribe([box = mailbox] { box->ring(); });
  if (libuv) napi_add_async_cleanup_hook(env, on_environment_gone, this, nullptr);
  else napi_add_env_cleanup_hook(env, on_environment_gone_at_once, this);
}

// Hooks run in the reverse order of their making: this one before that of whatever was loaded to make the model.
static void shut_device(void* device) { device_shut(**static_cast<DeviceRef*>(device)); }

void EnvState::shut_before_models(const DeviceRef& device) {
  auto& held = foreign_models[device->id];
  if (held != nullptr) return;
  held = std::make_unique<DeviceRef>(device);
  napi_add_env_cleanup_hook(env, shut_device, held.get());
}

void EnvState::forget_models(uint64_t device) {
  const auto found = foreign_models.find(device);
  if (found == foreign_models.end()) return;
  napi_remove_env_cleanup_hook(env, shut_device, found->second.get());
  foreign_models.erase(found);
}

void EnvState::pending(int change) {
  if (change > 0) mailbox->expect();
  pending_ += change;
  wake_.keep_loop_alive(pending_ > 0);
}

static void on_handles_closed(void* hook) {
  if (hook != nullptr) napi_remove_async_cleanup_hook(static_cast<napi_async_cleanup_hook_handle>(hook));
}

// The environment goes: its own mappings end for every thread, what it attached to or pinned is let go, its waits are given up.
// All of it before V8 frees the buffers' memory, so that the registry never holds a freed range.
void EnvState::close(napi_async_cleanup_hook_handle hook) {
  service_unsubscribe(subscription_);
  mailbox->shut();
  wake_.close();
  for (Waiter* waiter : waiting) wait_end(waiter);
  waiting.clear();
  for (auto& [token, held] : device_calls) device_call_end(*held.device, token);
  for (const DeviceRef& device : devices) abandon_device(device);
  for (auto& [token, trace] : traces) trace_close(trace.device->traces, trace.number);
  traces.clear();
  {
    std::lock_guard guard(*threaded_waits.lock);
    for (auto& [token, waiter] : *threaded_waits.waiters) wait_cancel(waiter);
  }
  for (auto& [id, held] : mappings) {
    for (uint32_t i = 0; i < held.handles; ++i) release_mapping_handle(held.mapping, held.creator && i == 0);
  }
  // V8 is about to unmap the buffers' memory. The copies have been woken, and end within their chunk.
  for (auto& [token, copy] : copies) {
    const auto found = mappings.find(static_cast<uint64_t>(mapping_id(copy->mapping)));
    while (found != mappings.end() && found->second.creator && copy->done.load() == 0)
      futex_wait_private(&copy->done, 0, nullptr);
  }
  copies.clear();
  mappings.clear();
  for (auto& [id, held] : objects) object_release(held.object);
  objects.clear();
  notify.Reset();
  described_holder_.Reset();
  // The pages go back to the engine as plain memory: JavaScriptCore clears what it will use again, and would clear the table.
  // Where they cannot become plain, the engine does not get them.
  if (map_over(reinterpret_cast<uintptr_t>(status_), kStatusBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    status_holder_.Reset();
  else status_holder_.SuppressDestruct();
  watches->close(on_handles_closed, hook);
}

Object* EnvState::object(uint64_t id) const {
  const auto found = objects.find(id);
  return found == objects.end() ? nullptr : found->second.object;
}

Mapping* EnvState::mapping(const Napi::Value& id) const { return mapping(to_u64(id)); }

Mapping* EnvState::mapping(uint64_t key) const {
  if (key == last_id_) return last_mapping_;  // loops copy from one mapping
  const auto found = mappings.find(key);
  if (found == mappings.end()) return nullptr;
  last_id_ = key;
  return last_mapping_ = found->second.mapping;
}

}  // namespace revocable::binding
