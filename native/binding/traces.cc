// Traces of simulated devices, which any thread may open. Records travel in Float64Arrays: see src/native/enums.ts.
#include <cerrno>

#include <array>

#include "base/spin.h"
#include "binding/env_state.h"
#include "binding/exports.h"
#include "binding/layouts.h"
#include "device/access_trace.h"

namespace revocable::binding {
namespace {

constexpr size_t kMostTaken = 128;
constexpr uint32_t kWrite = 1, kRaw = 2, kFailed = 4;  // TRACE_FLAGS in src/native/enums.ts

// traceOpen(deviceId, capacity): token | Failure
Napi::Value trace_open_js(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  const uint64_t began_ns = spin_clock_ns();
  const int number = device == nullptr ? -ENODEV : trace_open(device->traces, to_u64(info[1]));
  if (number < 0) return to_js(info.Env(), Failure{-number, "trace"});
  const uint64_t token = device_token();
  EnvState::of(info.Env()).traces.emplace(token, EnvState::HeldTrace{device, number, began_ns});
  return Napi::Number::New(info.Env(), static_cast<double>(token));
}

// traceTake(token, numbers): how many accesses. `numbers` gets how many were lost before them, whether nothing more will come,
// and eight numbers each.
Napi::Value trace_take_js(const Napi::CallbackInfo& info) {
  const EnvState::HeldTrace& trace = EnvState::of(info.Env()).traces.at(to_u64(info[0]));
  auto numbers = info[1].As<Napi::Float64Array>();
  std::array<AccessRecord, kMostTaken> records;
  const size_t room = std::min((numbers.ElementLength() - trace_head_at::size) / trace_access_at::size, records.size());
  const TraceTaken taken = trace_take(trace.device->traces, trace.number, records.data(), room);
  double* put = numbers.Data();
  put[trace_head_at::lost] = static_cast<double>(taken.lost);
  put[trace_head_at::ended] = taken.ended;
  put += trace_head_at::size;
  for (size_t i = 0; i < taken.count; ++i, put += trace_access_at::size) {
    const AccessRecord& record = records[i];
    put[trace_access_at::time] = static_cast<double>(static_cast<int64_t>(record.time_ns - trace.began_ns)) / 1e6;
    put[trace_access_at::thread] = record.thread;
    put[trace_access_at::region] = record.region;
    put[trace_access_at::offset] = static_cast<double>(record.offset);
    put[trace_access_at::width] = record.width;
    put[trace_access_at::flags] = (record.write ? kWrite : 0) | (record.raw ? kRaw : 0) | (record.failed ? kFailed : 0);
    put[trace_access_at::low] = low_half(record.value);
    put[trace_access_at::high] = high_half(record.value);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(taken.count));
}

// traceLost(token): ever
Napi::Value trace_lost_js(const Napi::CallbackInfo& info) {
  const EnvState::HeldTrace& trace = EnvState::of(info.Env()).traces.at(to_u64(info[0]));
  return Napi::Number::New(info.Env(), static_cast<double>(trace_lost(trace.device->traces, trace.number)));
}

void trace_stop_js(const Napi::CallbackInfo& info) {
  const EnvState::HeldTrace& trace = EnvState::of(info.Env()).traces.at(to_u64(info[0]));
  trace_stop(trace.device->traces, trace.number);
}

void trace_close_js(const Napi::CallbackInfo& info) {
  auto& traces = EnvState::of(info.Env()).traces;
  const auto found = traces.find(to_u64(info[0]));
  if (found == traces.end()) return;
  trace_close(found->second.device->traces, found->second.number);
  traces.erase(found);
}

// traceWord(deviceId): index in the status table; 0 while none of its traces records
Napi::Value trace_word_js(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), device_find(to_u64(info[0]))->traces->word);
}

// traceAccess(deviceId, numbers): an access that JavaScript has answered, but for its time, which is now
void trace_access_js(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  if (device == nullptr || !trace_active(device->traces)) return;
  const double* numbers = info[1].As<Napi::Float64Array>().Data();
  const auto flags = static_cast<uint32_t>(numbers[trace_access_at::flags]);
  const AccessRecord record{.time_ns = spin_clock_ns(),
                            .offset = static_cast<uint64_t>(numbers[trace_access_at::offset]),
                            .value = value_of_halves(numbers[trace_access_at::low], numbers[trace_access_at::high]),
                            .thread = static_cast<uint32_t>(numbers[trace_access_at::thread]),
                            .region = static_cast<uint32_t>(numbers[trace_access_at::region]),
                            .width = static_cast<uint8_t>(numbers[trace_access_at::width]),
                            .write = (flags & kWrite) != 0,
                            .raw = (flags & kRaw) != 0,
                            .failed = (flags & kFailed) != 0};
  const SignalsBlocked blocked;
  trace_access(device->traces, record);
}

}  // namespace

void export_traces(Napi::Env env, Napi::Object exports) {
  exports["traceOpen"] = Napi::Function::New<trace_open_js>(env, "traceOpen");
  exports["traceTake"] = Napi::Function::New<trace_take_js>(env, "traceTake");
  exports["traceLost"] = Napi::Function::New<trace_lost_js>(env, "traceLost");
  exports["traceStop"] = Napi::Function::New<trace_stop_js>(env, "traceStop");
  exports["traceClose"] = Napi::Function::New<trace_close_js>(env, "traceClose");
  exports["traceWord"] = Napi::Function::New<trace_word_js>(env, "traceWord");
  exports["traceAccess"] = Napi::Function::New<trace_access_js>(env, "traceAccess");
}

}  // namespace revocable::binding
