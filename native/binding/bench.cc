// What `revocable-mmap/bench` is built upon.
#include "bench/thread_counters.h"
#include "bench/touch.h"
#include "binding/env_state.h"
#include "binding/exports.h"

namespace revocable::binding {
namespace {

// touch(id, plan, from, count, times: Uint32Array | null): nanoseconds
Napi::Value touch_js(const Napi::CallbackInfo& info) {
  const Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  const auto given = info[1].As<Napi::Object>();
  const TouchPlan plan{.start = reinterpret_cast<char*>(mapping->start + to_u64(given["offset"])),
                       .places = to_u64(given["places"]),
                       .stride = to_u64(given["stride"]),
                       .width = to_u32(given["width"]),
                       .write = to_bool(given["write"]),
                       .random = to_bool(given["random"]),
                       .seed = to_u64(given["seed"])};
  uint32_t* times = info[4].IsNull() ? nullptr : info[4].As<Napi::Uint32Array>().Data();
  return Napi::Number::New(info.Env(), static_cast<double>(touch(plan, to_u64(info[2]), to_u64(info[3]), times)));
}

Napi::Value clock_ns(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), touch_clock_ns()); }

// threadUsage(result: Float64Array): faults minor and major, switches voluntary and not, microseconds of user and system
void thread_usage_js(const Napi::CallbackInfo& info) {
  auto result = info[0].As<Napi::Float64Array>();
  const ThreadUsage usage = thread_usage();
  const uint64_t values[] = {usage.minor_faults,         usage.major_faults, usage.voluntary_switches,
                             usage.involuntary_switches, usage.user_us,      usage.system_us};
  for (size_t i = 0; i < std::size(values); ++i) result[i] = static_cast<double>(values[i]);
}

// perfOpen(type, config): { fd, userOnly } | Failure
Napi::Value perf_open_js(const Napi::CallbackInfo& info) {
  PerfEvent event;
  const Failure failure = perf_open(to_u32(info[0]), to_u64(info[1]), &event);
  if (failure) return to_js(info.Env(), failure);
  Napi::Object result = Napi::Object::New(info.Env());
  result["fd"] = Napi::Number::New(info.Env(), event.fd);
  result["userOnly"] = Napi::Boolean::New(info.Env(), event.user_only);
  return result;
}

// perfRead(fd): count | Failure
Napi::Value perf_read_js(const Napi::CallbackInfo& info) {
  double count = 0;
  const Failure failure = perf_read(info[0].As<Napi::Number>().Int32Value(), &count);
  return failure ? to_js(info.Env(), failure) : Napi::Number::New(info.Env(), count).As<Napi::Value>();
}

void perf_close_js(const Napi::CallbackInfo& info) { perf_close(info[0].As<Napi::Number>().Int32Value()); }

// threadPin(processors: number[]): null | Failure
Napi::Value thread_pin_js(const Napi::CallbackInfo& info) {
  const auto list = info[0].As<Napi::Array>();
  std::vector<uint32_t> processors(list.Length());
  for (uint32_t i = 0; i < processors.size(); ++i) processors[i] = to_u32(list.Get(i));
  return to_js(info.Env(), thread_pin(processors));
}

// threadProcessors(): number[] | Failure
Napi::Value thread_processors_js(const Napi::CallbackInfo& info) {
  std::vector<uint32_t> processors;
  const Failure failure = thread_processors(&processors);
  if (failure) return to_js(info.Env(), failure);
  Napi::Array result = Napi::Array::New(info.Env(), processors.size());
  for (uint32_t i = 0; i < processors.size(); ++i) result[i] = Napi::Number::New(info.Env(), processors[i]);
  return result;
}

}  // namespace

void export_bench(Napi::Env env, Napi::Object exports) {
  exports["touch"] = Napi::Function::New<touch_js>(env, "touch");
  exports["clockNs"] = Napi::Function::New<clock_ns>(env, "clockNs");
  exports["threadUsage"] = Napi::Function::New<thread_usage_js>(env, "threadUsage");
  exports["perfOpen"] = Napi::Function::New<perf_open_js>(env, "perfOpen");
  exports["perfRead"] = Napi::Function::New<perf_read_js>(env, "perfRead");
  exports["perfClose"] = Napi::Function::New<perf_close_js>(env, "perfClose");
  exports["threadPin"] = Napi::Function::New<thread_pin_js>(env, "threadPin");
  exports["threadProcessors"] = Napi::Function::New<thread_processors_js>(env, "threadProcessors");
}

}  // namespace revocable::binding
