#include "binding/env_state.h"
#include "core/service.h"
#include "fault/handler_install.h"

namespace revocable::binding {
namespace {

Napi::Object report(Napi::Env env, const RevokeCounts& counts) {
  Napi::Object result = Napi::Object::New(env);
  result["mappings"] = Napi::Number::New(env, counts.mappings);
  result["truncated"] = Napi::Boolean::New(env, counts.truncated);
  result["replaced"] = Napi::Number::New(env, counts.replaced);
  result["protected"] = Napi::Number::New(env, counts.protected_);
  result["failed"] = Napi::Number::New(env, counts.failed);
  result["durationUs"] = Napi::Number::New(env, counts.duration_us);
  return result;
}

// Runs work(object, completion) on the service thread and answers with a token; the completion comes by takeCompletions.
template <typename Work>
Napi::Value post(const Napi::CallbackInfo& info, Work work) {
  EnvState& state = EnvState::of(info.Env());
  Object* object = object_acquire(state.object(info[0])->id);  // the job's own reference
  const double token = state.next_token++;
  state.pending(+1);
  service_post([box = state.mailbox, object, token, work] {
    Completion completion{token, {}, {}, false, WaitResult::pending};
    work(object, &completion);
    object_release(object);
    box->deliver(completion);
  });
  return Napi::Number::New(info.Env(), token);
}

// revokeBegin(objectId): shuts the gate; whether this call is the one that revokes
Napi::Value revoke_begin_js(const Napi::CallbackInfo& info) {
  handlers_ensure();
  return Napi::Boolean::New(info.Env(), revoke_begin(EnvState::of(info.Env()).object(info[0])));
}

// revokeSync(objectId, mine): report
Napi::Value revoke_sync(const Napi::CallbackInfo& info) {
  Object* object = EnvState::of(info.Env()).object(info[0]);
  return report(info.Env(), revoke_finish(object, to_bool(info[1])));
}

// revokeAsync(objectId, mine): token
Napi::Value revoke_async(const Napi::CallbackInfo& info) {
  const bool mine = to_bool(info[1]);
  return post(info, [mine](Object* object, Completion* completion) {
    completion->counts = revoke_finish(object, mine);
    completion->by_this_call = mine;
  });
}

Napi::Value suspend_async(const Napi::CallbackInfo& info) {
  return post(info, [](Object* object, Completion* completion) {
    completion->failure = suspend(object, &completion->counts, &completion->by_this_call);
  });
}

Napi::Value resume_async(const Napi::CallbackInfo& info) {
  return post(info, [](Object* object, Completion* completion) { completion->failure = resume(object); });
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
  Napi::Array result = Napi::Array::New(env, completions.size());
  for (uint32_t i = 0; i < completions.size(); ++i) {
    const Completion& completion = completions[i];
    Napi::Object item = Napi::Object::New(env);
    item["token"] = Napi::Number::New(env, completion.token);
    item["failure"] = to_js(env, completion.failure);
    item["report"] = report(env, completion.counts);
    item["byThisCall"] = Napi::Boolean::New(env, completion.by_this_call);
    item["wait"] = Napi::Number::New(env, static_cast<uint32_t>(completion.wait));
    result[i] = item;
    state.pending(-1);
  }
  return result;
}

}  // namespace

void export_revocation(Napi::Env env, Napi::Object exports) {
  exports["revokeBegin"] = Napi::Function::New(env, revoke_begin_js, "revokeBegin");
  exports["revokeSync"] = Napi::Function::New(env, revoke_sync, "revokeSync");
  exports["revokeAsync"] = Napi::Function::New(env, revoke_async, "revokeAsync");
  exports["suspendAsync"] = Napi::Function::New(env, suspend_async, "suspendAsync");
  exports["resumeAsync"] = Napi::Function::New(env, resume_async, "resumeAsync");
  exports["zap"] = Napi::Function::New(env, zap_js, "zap");
  exports["takeCompletions"] = Napi::Function::New(env, take_completions, "takeCompletions");
}

}  // namespace revocable::binding
