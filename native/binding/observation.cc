#include "base/counters.h"
#include "binding/env_state.h"
#include "binding/exports.h"
#include "core/mapping_table.h"
#include "core/service.h"
#include "device/pager.h"
#include "fault/handler_install.h"

namespace revocable::binding {
namespace {

// setNotify(callback): called on the event loop when takeEvents or takeCompletions may have something
void set_notify(const Napi::CallbackInfo& info) {
  EnvState::of(info.Env()).notify = Napi::Persistent(info[0].As<Napi::Function>());
}

// takeEvents(): { events: [{ kind, cause, write, region, object, offset }], dropped }
Napi::Value take_events(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  EnvState& state = EnvState::of(env);
  service_events_looked_at();
  Event event;
  uint64_t dropped = 0;
  uint32_t count = 0;
  bool more = state.events.next(&event, &dropped);
  if (!more && dropped == 0) return env.Null();  // as at each page that a device is asked for
  Napi::Array events = Napi::Array::New(env);
  // Bounded, so that a storm of faults cannot keep this thread here for ever.
  for (; more; more = count < kRingSlots && state.events.next(&event, &dropped)) {
    Napi::Object item = Napi::Object::New(env);
    item["kind"] = Napi::Number::New(env, static_cast<uint32_t>(event.kind));
    item["cause"] = Napi::Number::New(env, static_cast<uint32_t>(event.cause));
    item["write"] = Napi::Boolean::New(env, event.write);
    item["region"] = Napi::Number::New(env, static_cast<double>(event.generation) * kStatusSlots + event.slot);
    item["object"] = Napi::Number::New(env, static_cast<double>(event.object));
    item["offset"] = Napi::Number::New(env, static_cast<double>(event.offset));
    events[count++] = item;
  }
  g_counters.events_dropped.fetch_add(dropped, std::memory_order_relaxed);
  Napi::Object result = Napi::Object::New(env);
  result["events"] = events;
  result["dropped"] = Napi::Number::New(env, static_cast<double>(dropped));
  return result;
}

// barrier(): token. Its completion comes after whatever the library's threads had to do or to send before this call.
Napi::Value barrier(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  state.pending(+1);
  const double token = state.next_token++;
  pager_barrier([box = state.mailbox, token] { service_barrier([box, token] { box->deliver({.token = token}); }); });
  return Napi::Number::New(info.Env(), token);
}

void check_handlers(const Napi::CallbackInfo&) { handlers_check(); }

// claimWarning(): true for the first caller in the process
Napi::Value claim_warning(const Napi::CallbackInfo& info) {
  static std::atomic<bool> claimed{false};
  return Napi::Boolean::New(info.Env(), !claimed.exchange(true));
}

Napi::Value stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  const auto put = [&](const char* name, const std::atomic<uint64_t>& counter) {
    result[name] = Napi::Number::New(env, static_cast<double>(counter.load(std::memory_order_relaxed)));
  };
  put("mapped", g_counters.mapped);
  put("live", g_counters.live);
  put("suspended", g_counters.suspended);
  put("revoked", g_counters.revoked);
  put("closed", g_counters.closed);
  put("revokes", g_counters.revokes);
  put("suspends", g_counters.suspends);
  put("resumes", g_counters.resumes);
  put("faultsRevoked", g_counters.faults_revoked);
  put("faultsSuspended", g_counters.faults_suspended);
  put("faultsBacking", g_counters.faults_backing);
  put("faultsProtection", g_counters.faults_protection);
  put("faultsChecked", g_counters.faults_copy);
  put("faultsShared", g_counters.faults_shared);
  put("fills", g_counters.fills);
  put("foreign", g_counters.foreign);
  put("eventsDropped", g_counters.events_dropped);
  put("displacements", g_counters.displacements);
  put("pagesSupplied", g_counters.pages_supplied);
  put("pagesAsked", g_counters.pages_asked);
  put("selfFaults", g_counters.self_faults);
  put("answersDiscarded", g_counters.answers_discarded);
  put("accessesRefused", g_counters.accesses_refused);
  return result;
}

}  // namespace

void export_observation(Napi::Env env, Napi::Object exports) {
  exports["setNotify"] = Napi::Function::New<set_notify>(env, "setNotify");
  exports["takeEvents"] = Napi::Function::New<take_events>(env, "takeEvents");
  exports["barrier"] = Napi::Function::New<barrier>(env, "barrier");
  exports["checkHandlers"] = Napi::Function::New<check_handlers>(env, "checkHandlers");
  exports["claimWarning"] = Napi::Function::New<claim_warning>(env, "claimWarning");
  exports["stats"] = Napi::Function::New<stats>(env, "stats");
}

}  // namespace revocable::binding
