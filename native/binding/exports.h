// What each file of this folder exports to JavaScript.
#pragma once

#include <napi.h>

namespace revocable::binding {

void export_objects(Napi::Env env, Napi::Object exports);
void export_mappings(Napi::Env env, Napi::Object exports);
void export_access(Napi::Env env, Napi::Object exports);
void export_memory_calls(Napi::Env env, Napi::Object exports);
void export_revocation(Napi::Env env, Napi::Object exports);
void export_waits(Napi::Env env, Napi::Object exports);
void export_observation(Napi::Env env, Napi::Object exports);
void export_devices(Napi::Env env, Napi::Object exports);
void export_traces(Napi::Env env, Napi::Object exports);
void export_sockets(Napi::Env env, Napi::Object exports);
void export_bench(Napi::Env env, Napi::Object exports);

}  // namespace revocable::binding
