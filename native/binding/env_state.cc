#include "binding/env_state.h"

#include <sys/eventfd.h>

#include "core/mapping.h"
#include "core/service.h"
#include "device/pager.h"
#include "device/userfault.h"

namespace revocable::binding {
namespace {

// Node runs the loop once more while it tears an environment down, when JavaScript can no longer be called: that fails without
// an exception, and there is nobody left to tell.
void on_wake(uv_async_t* async) {
  auto* state = static_cast<EnvState*>(async->data);
  const Napi::HandleScope scope(state->env);
  if (state->notify.IsEmpty()) return;
  napi_value global = nullptr, error = nullptr;
  bool thrown = false;
  if (napi_get_global(state->env, &global) != napi_ok) return;
  napi_make_callback(state->env, nullptr, global, state->notify.Value(), 0, nullptr, nullptr);
  if (napi_is_exception_pending(state->env, &thrown) != napi_ok || !thrown) return;
  if (napi_get_and_clear_last_exception(state->env, &error) == napi_ok) napi_fatal_exception(state->env, error);
}

void on_environment_gone(napi_async_cleanup_hook_handle hook, void* state) { static_cast<EnvState*>(state)->close(hook); }

}  // namespace

void Mailbox::expect() {
  std::lock_guard guard(lock_);
  completions_.reserve(++expected_);
}

void Mailbox::deliver(const Completion& completion) {
  std::lock_guard guard(lock_);
  completions_.push_back(completion);
  filled_.store(true, std::memory_order_release);
  if (async_ != nullptr) uv_async_send(async_);
}

void Mailbox::ring() {
  std::lock_guard guard(lock_);
  if (async_ != nullptr) uv_async_send(async_);
}

std::vector<Completion> Mailbox::take() {
  if (!filled_.load(std::memory_order_acquire)) return {};
  std::lock_guard guard(lock_);
  std::vector<Completion> taken = completions_;
  expected_ -= taken.size();
  completions_.clear();  // keeps its capacity
  filled_.store(false, std::memory_order_relaxed);
  return taken;
}

void Mailbox::shut() {
  std::lock_guard guard(lock_);
  async_ = nullptr;
}

EnvState::EnvState(Napi::Env environment, Napi::Float64Array where)
    : env(environment), described(where.Data()), described_holder_(Napi::Persistent(where)), async_(new uv_async_t) {
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  uv_async_init(loop, async_, on_wake);
  async_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(async_));
  mailbox = std::make_shared<Mailbox>(async_);
  subscription_ = service_subscribe([box = mailbox] { box->ring(); });
  napi_add_async_cleanup_hook(env, on_environment_gone, this, nullptr);
}

void EnvState::set_attentive(FaultWatch* watch, bool now) {
  if (watch->attentive == now) return;
  watch->attentive = now;
  pager_attended(now);
}

void EnvState::watch_faults() {
  if (faults_ != nullptr) return;
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto* watch = new FaultWatch;
  if (uv_poll_init(loop, &watch->poll, userfault_fd()) != 0) {  // the pager's thread rings, then
    delete watch;
    return;
  }
  faults_ = watch;
  watch->wake = async_;
  uv_prepare_init(loop, &watch->before);
  uv_check_init(loop, &watch->after);
  watch->poll.data = watch->before.data = watch->after.data = watch;
  uv_poll_start(&watch->poll, UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto* own = static_cast<FaultWatch*>(handle->data);
    set_attentive(own, false);
    pager_take_faults();
    on_wake(own->wake);
  });
  uv_prepare_start(&watch->before, [](uv_prepare_t* handle) { set_attentive(static_cast<FaultWatch*>(handle->data), true); });
  uv_check_start(&watch->after, [](uv_check_t* handle) { set_attentive(static_cast<FaultWatch*>(handle->data), false); });
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll));
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->before));
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->after));
}

void EnvState::unwatch_faults() {
  if (faults_ == nullptr) return;
  set_attentive(faults_, false);
  const auto closed = [](uv_handle_t* handle) {
    auto* watch = static_cast<FaultWatch*>(handle->data);
    if (--watch->open == 0) delete watch;
  };
  uv_close(reinterpret_cast<uv_handle_t*>(&faults_->poll), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&faults_->before), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&faults_->after), closed);
  faults_ = nullptr;
}

namespace {

// Never closed: a handler that has just looked one up may still ring it. Those of environments that have gone are used again.
struct Bells {
  std::mutex lock;
  std::vector<int> unused;
};
Bells& bells() {
  static Bells* instance = new Bells;
  return *instance;
}

int take_bell() {
  std::lock_guard guard(bells().lock);
  if (bells().unused.empty()) return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int bell = bells().unused.back();
  bells().unused.pop_back();
  return bell;
}

void give_bell_back(int bell) {
  std::lock_guard guard(bells().lock);
  bells().unused.push_back(bell);
}

}  // namespace

int EnvState::watch_registers() {
  if (registers_ != nullptr) return registers_->bell;
  const int bell = take_bell();
  if (bell < 0) return -1;
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto* watch = new RegisterWatch{{}, async_, bell};
  if (uv_poll_init(loop, &watch->poll, bell) != 0) {
    give_bell_back(bell);
    delete watch;
    return -1;
  }
  registers_ = watch;
  watch->poll.data = watch;
  uv_poll_start(&watch->poll, UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto* own = static_cast<RegisterWatch*>(handle->data);
    eventfd_t rung;
    eventfd_read(own->bell, &rung);
    on_wake(own->wake);
  });
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll));
  return bell;
}

void EnvState::unwatch_registers() {
  if (registers_ == nullptr) return;
  uv_close(reinterpret_cast<uv_handle_t*>(&registers_->poll), [](uv_handle_t* handle) {
    auto* watch = static_cast<RegisterWatch*>(handle->data);
    give_bell_back(watch->bell);
    delete watch;
  });
  registers_ = nullptr;
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
  auto* handle = reinterpret_cast<uv_handle_t*>(async_);
  pending_ > 0 ? uv_ref(handle) : uv_unref(handle);
}

// The environment goes: its own mappings end for everybody, what it attached to or pinned is let go, its waits are given up.
// All of it before V8 frees the buffers' memory, so that the registry never holds a freed range.
void EnvState::close(napi_async_cleanup_hook_handle hook) {
  service_unsubscribe(subscription_);
  mailbox->shut();
  unwatch_faults();
  unwatch_registers();
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
  struct Closing {
    napi_async_cleanup_hook_handle hook;
  };
  async_->data = new Closing{hook};
  uv_close(reinterpret_cast<uv_handle_t*>(async_), [](uv_handle_t* handle) {
    auto* closing = static_cast<Closing*>(handle->data);
    napi_remove_async_cleanup_hook(closing->hook);
    delete closing;
    delete reinterpret_cast<uv_async_t*>(handle);
  });
}

Object* EnvState::object(const Napi::Value& id) const {
  const auto found = objects.find(to_u64(id));
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

Napi::Value to_js(Napi::Env env, const Failure& failure) {
  if (!failure) return env.Null();
  Napi::Object result = Napi::Object::New(env);
  result["errno"] = Napi::Number::New(env, -failure.errnum);
  result["syscall"] = Napi::String::New(env, failure.syscall);
  return result;
}

}  // namespace revocable::binding
