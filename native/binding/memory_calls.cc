// System calls on a mapping's range. Each takes (id, firstByte, bytes), whole pages that TypeScript has checked, and answers null
// or a Failure. A range that is revoked meanwhile makes the call fail, or act on pages that hold nothing.
#include <sys/mman.h>

#include <cerrno>
#include <memory>
#include <new>

#include "base/linux_abi.h"
#include "base/page.h"
#include "binding/env_state.h"
#include "binding/exports.h"
#include "core/registry.h"
#include "core/vm_ops.h"
#include "fault/guarded_copy.h"
#include "fault/handler.h"

namespace revocable::binding {
namespace {

struct Range {
  void* at;
  size_t bytes;
};

Range range_of(const Napi::CallbackInfo& info) {
  const Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  return {reinterpret_cast<void*>(mapping->start + to_u64(info[1])), static_cast<size_t>(to_u64(info[2]))};
}

Napi::Value answer(Napi::Env env, int result, const char* syscall) {
  return result == 0 ? env.Null() : to_js(env, Failure::from_errno(syscall));
}

// A device is asked again for pages that have left the mapping.
void forget_pages(Mapping* mapping, const Range& range) {
  RegistryLock lock;
  const Claim claim(mapping);
  mapping->ops->forget(mapping, mapping->page_of(reinterpret_cast<uintptr_t>(range.at)),
                       round_up(range.bytes, kPageSize) >> kPageShift);
}

// advise(id, firstByte, bytes, advice)
Napi::Value advise(const Napi::CallbackInfo& info) {
  const Range range = range_of(info);
  const int advice = info[3].As<Napi::Number>().Int32Value();
  const int result = madvise(range.at, range.bytes, advice);
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  if (result == 0 && advice == MADV_DONTNEED && mapping->supplied) forget_pages(mapping, range);
  return answer(info.Env(), result, "madvise");
}

Napi::Value sync(const Napi::CallbackInfo& info) {
  const Range range = range_of(info);
  return answer(info.Env(), msync(range.at, range.bytes, MS_SYNC), "msync");
}

Napi::Value lock(const Napi::CallbackInfo& info) {
  const Range range = range_of(info);
  return answer(info.Env(), mlock(range.at, range.bytes), "mlock");
}

Napi::Value unlock(const Napi::CallbackInfo& info) {
  const Range range = range_of(info);
  return answer(info.Env(), munlock(range.at, range.bytes), "munlock");
}

// residency(id, firstByte, bytes, target: Uint8Array): one byte a page, 1 when it is in memory
Napi::Value residency(const Napi::CallbackInfo& info) {
  const Range range = range_of(info);
  auto target = info[3].As<Napi::Uint8Array>();
  const size_t count = round_up(range.bytes, kPageSize) / kPageSize;
  const std::unique_ptr<unsigned char[]> pages(new (std::nothrow) unsigned char[count]);
  if (pages == nullptr) return to_js(info.Env(), {ENOMEM, "mincore"});
  if (mincore(range.at, range.bytes, pages.get()) != 0) return to_js(info.Env(), Failure::from_errno("mincore"));
  for (size_t i = 0; i < count && i < target.ElementLength(); ++i) target[i] = pages[i] & 1;
  return info.Env().Null();
}

// prefetch(id, firstByte, bytes): MADV_POPULATE_READ, and MADV_WILLNEED before Linux 5.14
Napi::Value prefetch(const Napi::CallbackInfo& info) {
  const Range range = range_of(info);
  int result = madvise(range.at, range.bytes, abi::kMadvPopulateRead);
  if (result != 0 && errno == EINVAL) result = madvise(range.at, range.bytes, MADV_WILLNEED);
  return answer(info.Env(), result, "madvise");
}

// Brings pages in as a touch would, without one. Where the kernel cannot do that (before Linux 5.14), by touches that may fail.
int populate(const Mapping* mapping, size_t offset, size_t bytes, bool write) {
  const uintptr_t at = mapping->start + offset;
  const int advice = write ? abi::kMadvPopulateWrite : abi::kMadvPopulateRead;
  if (madvise(reinterpret_cast<void*>(at), bytes, advice) == 0) return 0;
  if (errno != EINVAL || write) return errno;
  for (size_t done = 0; done < bytes; done += mapping->page_size()) {
    uint64_t ignored;
    if (!guarded_load(reinterpret_cast<const void*>(at + done), 1, &ignored)) return EFAULT;
  }
  return 0;
}

// firstUnbacked(id, firstByte, bytes, write, result): whether a touch of the range would be a backing fault now; `result` gets
// the byte and the Cause. A part that is there is brought in. Nothing is marked as lost.
Napi::Value first_unbacked(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  size_t from = to_u64(info[1]), bytes = round_up(to_u64(info[2]), mapping->page_size());
  const bool write = to_bool(info[3]);
  int error = populate(mapping, from, bytes, write);
  while (error != 0 && bytes > mapping->page_size()) {
    const size_t half = round_up(bytes / 2, mapping->page_size());
    const int first = populate(mapping, from, half, write);
    if (first == 0) from += half;
    else error = first;
    bytes = first == 0 ? bytes - half : half;
  }
  if (error != EFAULT && error != EHWPOISON) return Napi::Boolean::New(info.Env(), false);
  const Cause cause = error == EHWPOISON ? Cause::poisoned : cause_of_missing_page(mapping, from, write);
  auto result = info[4].As<Napi::Float64Array>();
  result[0] = static_cast<double>(from);
  result[1] = static_cast<double>(cause);
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace

void export_memory_calls(Napi::Env env, Napi::Object exports) {
  exports["advise"] = Napi::Function::New<advise>(env, "advise");
  exports["sync"] = Napi::Function::New<sync>(env, "sync");
  exports["lock"] = Napi::Function::New<lock>(env, "lock");
  exports["unlock"] = Napi::Function::New<unlock>(env, "unlock");
  exports["residency"] = Napi::Function::New<residency>(env, "residency");
  exports["firstUnbacked"] = Napi::Function::New<first_unbacked>(env, "firstUnbacked");
  exports["prefetch"] = Napi::Function::New<prefetch>(env, "prefetch");
  Napi::Object advice = Napi::Object::New(env);
  const struct {
    const char* name;
    int value;
  } kinds[] = {
      {"normal", MADV_NORMAL},
      {"random", MADV_RANDOM},
      {"sequential", MADV_SEQUENTIAL},
      {"willneed", MADV_WILLNEED},
      {"dontneed", MADV_DONTNEED},
      {"cold", abi::kMadvCold},
      {"pageout", abi::kMadvPageout},
      {"hugepage", MADV_HUGEPAGE},
      {"nohugepage", MADV_NOHUGEPAGE},
      {"dontdump", MADV_DONTDUMP},
      {"dodump", MADV_DODUMP},
      {"populate-read", abi::kMadvPopulateRead},
      {"populate-write", abi::kMadvPopulateWrite},
  };
  for (const auto& kind : kinds) advice[kind.name] = Napi::Number::New(env, kind.value);
  exports["advice"] = advice;
}

}  // namespace revocable::binding
