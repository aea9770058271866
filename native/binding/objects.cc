#include <fcntl.h>
#include <sys/mman.h>

#include "base/features.h"
#include "base/page.h"
#include "binding/env_state.h"
#include "binding/exports.h"
#include "fault/handler_install.h"

namespace revocable::binding {
namespace {

// start(status: Uint8Array, described: Float64Array, libuv: boolean): opens what the library needs and maps the status table over
// the memory of `status`, whole pages of a SharedArrayBuffer. `described` is where mappings are described. `libuv`: the runtime
// is Node, whose event loop can watch descriptors. Once in each environment, before anything else.
Napi::Value start(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (env.GetInstanceData<EnvState>() != nullptr) return env.Null();
  const Failure failure = core_start();
  if (failure) return to_js(env, failure);
  auto status = info[0].As<Napi::Uint8Array>();
  void* at = status.Data();
  // The self-test of the assumption everything rests on: V8 gives whole pages, aligned, and lets them be mapped over.
  if (reinterpret_cast<uintptr_t>(at) % kPageSize != 0 || status.ByteLength() < kStatusBytes)
    return to_js(env, {ENOTSUP, "mmap"});
  if (mmap(at, kStatusBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, status_table_fd(), 0) == MAP_FAILED) {
    return to_js(env, Failure::from_errno("mmap"));
  }
  env.SetInstanceData(new EnvState(env, status, info[1].As<Napi::Float64Array>(), to_bool(info[2])));
  return env.Null();
}

Napi::Value adopt(Napi::Env env, const Failure& failure, Object* object) {
  if (failure) return to_js(env, failure);
  EnvState::of(env).objects.emplace(object->id, EnvState::HeldObject{object, 1});
  return Napi::Number::New(env, static_cast<double>(object->id));
}

// objectCreate(size, hugePages, name, seals, content: Uint8Array or undefined): id | Failure
Napi::Value object_create_js(const Napi::CallbackInfo& info) {
  const std::string name = info[2].As<Napi::String>();
  NewMemory memory{.size = to_u64(info[0]), .huge_pages = to_bool(info[1]), .seals = static_cast<int>(to_u32(info[3]))};
  if (!info[4].IsUndefined()) {
    const auto content = info[4].As<Napi::Uint8Array>();
    memory.content = content.Data();
    memory.content_bytes = content.ByteLength();
  }
  Object* object = nullptr;
  const Failure failure = object_create(memory, {.name = name.c_str()}, &object);
  return adopt(info.Env(), failure, object);
}

// objectOpen(path: Buffer, writable, scope, name): id | Failure. A Buffer, since a path need not be valid UTF-8.
Napi::Value object_open_js(const Napi::CallbackInfo& info) {
  const auto bytes = info[0].As<Napi::Uint8Array>();
  const std::string path(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
  const std::string name = info[3].As<Napi::String>();
  Object* object = nullptr;
  const ObjectOptions options{to_bool(info[1]), static_cast<FaultScope>(to_u32(info[2])), name.c_str()};
  const Failure failure = object_open(path.c_str(), options, &object);
  return adopt(info.Env(), failure, object);
}

// objectFromFd(fd, writable, scope, name): id | Failure
Napi::Value object_from_fd_js(const Napi::CallbackInfo& info) {
  const std::string name = info[3].As<Napi::String>();
  Object* object = nullptr;
  const ObjectOptions options{to_bool(info[1]), static_cast<FaultScope>(to_u32(info[2])), name.c_str()};
  const Failure failure = object_from_fd(info[0].As<Napi::Number>().Int32Value(), options, &object);
  return adopt(info.Env(), failure, object);
}

// objectAcquire(id): true when the object exists; this environment then holds it once more.
Napi::Value object_acquire_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const auto found = state.objects.find(to_u64(info[0]));
  if (found != state.objects.end()) {
    ++found->second.wrappers;
    return Napi::Boolean::New(info.Env(), true);
  }
  Object* object = object_acquire(to_u64(info[0]));
  if (object != nullptr) state.objects.emplace(object->id, EnvState::HeldObject{object, 1});
  return Napi::Boolean::New(info.Env(), object != nullptr);
}

void object_release_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const auto found = state.objects.find(to_u64(info[0]));
  if (found == state.objects.end() || --found->second.wrappers != 0) return;
  object_release(found->second.object);
  state.objects.erase(found);
}

// objectInfo(id): what never changes
Napi::Value object_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Object* object = EnvState::of(env).object(info[0]);
  Napi::Object result = Napi::Object::New(env);
  result["name"] = Napi::String::New(env, object->name);
  result["owned"] = Napi::Boolean::New(env, object->owned);
  result["writable"] = Napi::Boolean::New(env, object->writable);
  result["fd"] = Napi::Number::New(env, object->fd);
  result["sized"] = Napi::Boolean::New(env, object->sized);
  result["pageSize"] = Napi::Number::New(env, static_cast<double>(size_t{1} << object->page_shift));
  return result;
}

constexpr uint32_t kRevokeDone = 0x80;

// objectState(id): State | kRevokeDone | cause of a revocation by a backing fault << 8
Napi::Value object_state_js(const Napi::CallbackInfo& info) {
  Object* object = EnvState::of(info.Env()).object(info[0]);
  const uint32_t done = object->revoke_done.load() != 0 ? kRevokeDone : 0;
  const auto cause = static_cast<uint32_t>(object->revoke_cause.load());
  return Napi::Number::New(info.Env(), static_cast<uint32_t>(object_state(object)) | done | cause << 8);
}

// objectSize(id): bytes now | Failure
Napi::Value object_size_js(const Napi::CallbackInfo& info) {
  uint64_t size = 0;
  const Failure failure = object_size(EnvState::of(info.Env()).object(info[0]), &size);
  return failure ? to_js(info.Env(), failure) : Napi::Number::New(info.Env(), static_cast<double>(size)).As<Napi::Value>();
}

// objectSeals(id): F_SEAL_…; 0 of what cannot be sealed
Napi::Value object_seals_js(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), object_seals(EnvState::of(info.Env()).object(info[0])));
}

// objectClose(id): whether this call closed it
Napi::Value object_close_js(const Napi::CallbackInfo& info) {
  const EnvState& state = EnvState::of(info.Env());
  return Napi::Boolean::New(info.Env(), object_close(state.object(info[0]), state.subscription()));
}

// objectDiscard(id, offset, length): null | Failure. The pages' content is forgotten, in every mapping.
Napi::Value object_discard(const Napi::CallbackInfo& info) {
  const Object* object = EnvState::of(info.Env()).object(info[0]);
  const int result = fallocate(object->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(to_u64(info[1])),
                               static_cast<off_t>(to_u64(info[2])));
  return to_js(info.Env(), result == 0 ? Failure{} : Failure::from_errno("fallocate"));
}

// objectRevokedByOwner(id): whether another process has revoked this memfd, which no thread of this process has touched since
Napi::Value object_revoked_by_owner_js(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), object_revoked_by_owner(EnvState::of(info.Env()).object(info[0])));
}

Napi::Value features_js(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result["procmapQuery"] = Napi::Boolean::New(info.Env(), features().procmap_query);
  result["futexWaitv"] = Napi::Boolean::New(info.Env(), features().futex_waitv);
  result["guard"] = Napi::Boolean::New(info.Env(), features().guard);
  return result;
}

// `process.env` is read under a lock that Node takes for writing it, too. A worker may have one of its own, and Deno may forbid
// it.
void switch_off_features_of(Napi::Env env) {
  const Napi::Value process = env.Global().Get("process");
  const Napi::Value variables = process.IsObject() ? process.As<Napi::Object>().Get("env") : env.Undefined();
  if (!variables.IsObject()) return;
  const Napi::Value names = variables.As<Napi::Object>().Get("REVOCABLE_MMAP_WITHOUT");
  if (env.IsExceptionPending()) env.GetAndClearPendingException();
  else if (names.IsString()) switch_off_features(names.As<Napi::String>().Utf8Value());
}

}  // namespace

void export_objects(Napi::Env env, Napi::Object exports) {
  switch_off_features_of(env);
  exports["pageSize"] = Napi::Number::New(env, static_cast<double>(kPageSize));
  exports["statusBytes"] = Napi::Number::New(env, static_cast<double>(kStatusBytes));
  exports["sink"] = Napi::Number::New(env, take_sink());
  exports["start"] = Napi::Function::New<start>(env, "start");
  exports["features"] = Napi::Function::New<features_js>(env, "features");
  exports["objectCreate"] = Napi::Function::New<object_create_js>(env, "objectCreate");
  exports["objectOpen"] = Napi::Function::New<object_open_js>(env, "objectOpen");
  exports["objectFromFd"] = Napi::Function::New<object_from_fd_js>(env, "objectFromFd");
  exports["objectAcquire"] = Napi::Function::New<object_acquire_js>(env, "objectAcquire");
  exports["objectRelease"] = Napi::Function::New<object_release_js>(env, "objectRelease");
  exports["objectInfo"] = Napi::Function::New<object_info>(env, "objectInfo");
  exports["objectState"] = Napi::Function::New<object_state_js>(env, "objectState");
  exports["objectSize"] = Napi::Function::New<object_size_js>(env, "objectSize");
  exports["objectRevokedByOwner"] = Napi::Function::New<object_revoked_by_owner_js>(env, "objectRevokedByOwner");
  exports["objectDiscard"] = Napi::Function::New<object_discard>(env, "objectDiscard");
  exports["objectSeals"] = Napi::Function::New<object_seals_js>(env, "objectSeals");
  exports["objectClose"] = Napi::Function::New<object_close_js>(env, "objectClose");
}

}  // namespace revocable::binding
