#include "binding/env_state.h"
#include "binding/exports.h"
#include "core/mapping.h"

namespace revocable::binding {
namespace {

Waiter* waiter_of(const Napi::Value& handle) { return handle.As<Napi::External<Waiter>>().Data(); }

// waitBegin(id, offset, expected): a handle for waitSlice and waitEnd | null when the mapping is closed
Napi::Value wait_begin_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  if (state.mapping(info[0]) == nullptr) return info.Env().Null();
  Waiter* waiter = wait_begin(state.mapping(info[0]), to_u64(info[1]), to_u32(info[2]));
  state.waiting.insert(waiter);
  return Napi::External<Waiter>::New(info.Env(), waiter);
}

// waitSlice(handle, milliseconds): WaitResult. Blocks the thread; JavaScript loops over it, so that a worker can be terminated.
Napi::Value wait_slice_js(const Napi::CallbackInfo& info) {
  const double milliseconds = info[1].As<Napi::Number>().DoubleValue();
  const WaitResult result = wait_slice(waiter_of(info[0]), static_cast<uint64_t>(milliseconds * 1e6));
  return Napi::Number::New(info.Env(), static_cast<uint32_t>(result));
}

void wait_end_js(const Napi::CallbackInfo& info) {
  Waiter* waiter = waiter_of(info[0]);
  EnvState::of(info.Env()).waiting.erase(waiter);
  wait_end(waiter);
}

// waitAsync(id, offset, expected, milliseconds or -1): token | null when the mapping is closed | Failure
Napi::Value wait_async(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  Mapping* held = state.mapping(info[0]);
  Mapping* mapping = nullptr;
  if (held == nullptr || !acquire_mapping(held->slot, held->generation, &mapping)) return info.Env().Null();
  Waiter* waiter = wait_begin(mapping, to_u64(info[1]), to_u32(info[2]));
  const double token = state.next_token++;
  const double milliseconds = info[3].As<Napi::Number>().DoubleValue();
  state.pending(+1);
  {
    std::lock_guard guard(*state.threaded_waits.lock);
    state.threaded_waits.waiters->emplace(token, waiter);
  }
  const auto done = [box = state.mailbox, waits = state.threaded_waits, waiter, mapping, token](WaitResult result) {
    {
      std::lock_guard guard(*waits.lock);
      waits.waiters->erase(token);
    }
    wait_end(waiter);
    release_mapping_handle(mapping, false);
    box->deliver({token, {}, {}, false, result});
  };
  const Failure failure = wait_on_thread(waiter, milliseconds < 0 ? -1 : static_cast<int64_t>(milliseconds * 1e6), done);
  if (failure) {
    std::lock_guard guard(*state.threaded_waits.lock);
    state.threaded_waits.waiters->erase(token);
    wait_end(waiter);
    release_mapping_handle(mapping, false);
    state.pending(-1);
    return to_js(info.Env(), failure);
  }
  return Napi::Number::New(info.Env(), token);
}

// waitCancel(token): the wait ends with `cancelled`, unless it has ended already
void wait_cancel_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  std::lock_guard guard(*state.threaded_waits.lock);
  const auto found = state.threaded_waits.waiters->find(info[0].As<Napi::Number>().DoubleValue());
  if (found != state.threaded_waits.waiters->end()) wait_cancel(found->second);
}

// wake(id, offset, count): how many were woken
Napi::Value wake(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  return Napi::Number::New(info.Env(), wake_word(mapping, to_u64(info[1]), to_u32(info[2])));
}

}  // namespace

void export_waits(Napi::Env env, Napi::Object exports) {
  exports["waitBegin"] = Napi::Function::New<wait_begin_js>(env, "waitBegin");
  exports["waitSlice"] = Napi::Function::New<wait_slice_js>(env, "waitSlice");
  exports["waitEnd"] = Napi::Function::New<wait_end_js>(env, "waitEnd");
  exports["waitAsync"] = Napi::Function::New<wait_async>(env, "waitAsync");
  exports["waitCancel"] = Napi::Function::New<wait_cancel_js>(env, "waitCancel");
  exports["wake"] = Napi::Function::New<wake>(env, "wake");
}

}  // namespace revocable::binding
