#include <optional>

#include "binding/env_state.h"
#include "binding/exports.h"
#include "binding/layouts.h"
#include "core/service.h"
#include "fault/handler_install.h"

namespace revocable::binding {
namespace {

// The only encoder of a report; its decoder is reportIn in src/native/shared-state.ts.
void encode_report(const RevokeCounts& counts, double* numbers) {
  numbers[report_at::mappings] = counts.mappings;
  numbers[report_at::truncated] = counts.truncated;
  numbers[report_at::replaced] = counts.replaced;
  numbers[report_at::protected_] = counts.protected_;
  numbers[report_at::failed] = counts.failed;
  numbers[report_at::duration_us] = counts.duration_us;
}

// A Float64Array of its own, since completions are read later; null where nothing has been revoked or suspended.
Napi::Value report_of(Napi::Env env, const std::optional<RevokeCounts>& counts) {
  if (!counts) return env.Null();
  Napi::Float64Array numbers = Napi::Float64Array::New(env, report_at::size);
  if (numbers.Data() == nullptr) return env.Null();  // the worker is being terminated: V8 makes no arrays any more
  encode_report(*counts, numbers.Data());
  return numbers;
}

// What an asynchronous call needs until its completion is delivered: a reference to the object, the way back.
struct Pending {
  std::shared_ptr<Mailbox> mailbox;
  Object* object;
  double token;

  void deliver(Completion completion) const {
    completion.token = token;
    object_release(object);
    mailbox->deliver(completion);
  }
};

Pending begin(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  state.pending(+1);
  return {state.mailbox, object_acquire(state.object(info[0])->id), state.next_token++};
}

// revokeSync(objectId): true if this call is the one that revokes; the report is in `described`, as an object's properties would
// cost a tenth of the revocation of a page. The gate and the rest are one call: between two, a worker could be terminated, and
// no thread would revoke the object whose gate it has shut.
Napi::Value revoke_sync(const Napi::CallbackInfo& info) {
  handlers_ensure();
  const EnvState& state = EnvState::of(info.Env());
  Object* object = state.object(info[0]);
  const bool mine = revoke_begin(object);
  encode_report(revoke_finish(object, mine, state.subscription()), state.described);
  return Napi::Boolean::New(info.Env(), mine);
}

// revokeAsync(objectId): { token, mine }. The gate is shut when it returns; what would be done by the time that the service
// thread is awake has been done.
Napi::Value revoke_async(const Napi::CallbackInfo& info) {
  handlers_ensure();
  const Pending pending = begin(info);
  const bool mine = revoke_begin(pending.object);
  const auto deliver = [pending](const RevokeCounts& counts) { pending.deliver({.counts = counts}); };
  if (mine && revoke_is_brief(pending.object)) deliver(revoke_finish(pending.object, true));
  else if (mine) service_post([pending, deliver] { deliver(revoke_finish(pending.object, true)); });
  else revoke_when_done(pending.object, deliver);
  Napi::Object result = Napi::Object::New(info.Env());
  result["token"] = Napi::Number::New(info.Env(), pending.token);
  result["mine"] = Napi::Boolean::New(info.Env(), mine);
  return result;
}

Napi::Value suspend_async(const Napi::CallbackInfo& info) {
  const Pending pending = begin(info);
  service_post([pending] {
    Completion completion{.counts = RevokeCounts{}};
    completion.failure = suspend(pending.object, &*completion.counts, &completion.by_this_call);
    pending.deliver(completion);
  });
  return Napi::Number::New(info.Env(), pending.token);
}

Napi::Value resume_async(const Napi::CallbackInfo& info) {
  const Pending pending = begin(info);
  service_post([pending] { pending.deliver({.failure = resume(pending.object)}); });
  return Napi::Number::New(info.Env(), pending.token);
}

// zap(objectId, offset, length): null | Failure
Napi::Value zap_js(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), zap(EnvState::of(info.Env()).object(info[0]), to_u64(info[1]), to_u64(info[2])));
}

// takeCompletions(): [{ token, failure, report, byThisCall, wait }]
Napi::Value take_completions(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  EnvState& state = EnvState::of(env);
  const std::vector<Completion> completions = state.mailbox->take();
  if (completions.empty()) return env.Null();
  Napi::Array result = Napi::Array::New(env, completions.size());
  for (uint32_t i = 0; i < completions.size(); ++i) {
    const Completion& completion = completions[i];
    Napi::Object item = Napi::Object::New(env);
    item["token"] = Napi::Number::New(env, completion.token);
    item["failure"] = to_js(env, completion.failure);
    item["report"] = report_of(env, completion.counts);
    item["byThisCall"] = Napi::Boolean::New(env, completion.by_this_call);
    item["wait"] = Napi::Number::New(env, static_cast<uint32_t>(completion.wait));
    result[i] = item;
    state.pending(-1);
  }
  return result;
}

}  // namespace

void export_revocation(Napi::Env env, Napi::Object exports) {
  exports["revokeSync"] = Napi::Function::New<revoke_sync>(env, "revokeSync");
  exports["revokeAsync"] = Napi::Function::New<revoke_async>(env, "revokeAsync");
  exports["suspendAsync"] = Napi::Function::New<suspend_async>(env, "suspendAsync");
  exports["resumeAsync"] = Napi::Function::New<resume_async>(env, "resumeAsync");
  exports["zap"] = Napi::Function::New<zap_js>(env, "zap");
  exports["takeCompletions"] = Napi::Function::New<take_completions>(env, "takeCompletions");
}

}  // namespace revocable::binding
