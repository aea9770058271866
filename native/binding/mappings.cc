#include <sys/mman.h>

#include <cerrno>

#include "base/page.h"
#include "binding/env_state.h"
#include "binding/exports.h"
#include "core/mapping.h"
#include "core/mapping_table.h"
#include "fault/handler_install.h"

namespace revocable::binding {
namespace {

// Fills the environment's `described`, in the order of DESCRIBED in src/native.ts. `buffer` is where the JavaScript buffer
// begins: the mapping may begin behind it, at the next larger page.
void describe(const EnvState& state, const Mapping* mapping, uintptr_t buffer) {
  double* put = state.described;
  *put++ = mapping_id(mapping);
  *put++ = mapping->slot;
  *put++ = static_cast<double>(mapping->start);  // exact: the address of a page
  *put++ = static_cast<double>(mapping->start - buffer);
  *put++ = static_cast<double>(mapping->object->id);
  *put++ = static_cast<double>(mapping->object_offset);
  *put++ = static_cast<double>(mapping->length);
  *put++ = mapping->writable ? 1 : 0;
  *put++ = mapping->private_copy ? 1 : 0;
  *put++ = static_cast<double>(mapping->fill);
}

struct MapArguments {
  Object* object;
  uint64_t offset;
  size_t length;
  bool writable, private_copy;
  Fill fill;
  bool populate;
  uint64_t device_file;
  bool for_device;
  bool borrowed = false;
};

MapArguments map_arguments(const Napi::CallbackInfo& info, size_t first) {
  return {EnvState::of(info.Env()).object(info[first]),
          to_u64(info[first + 1]),
          static_cast<size_t>(to_u64(info[first + 2])),
          to_bool(info[first + 3]),
          to_bool(info[first + 4]),
          static_cast<Fill>(to_u32(info[first + 5])),
          to_bool(info[first + 6]),
          to_u64(info[first + 7]),
          to_bool(info[first + 8])};
}

Failure map_at(const MapArguments& arguments, uintptr_t start, Mapping** mapping) {
  const Failure failure = handlers_ensure();
  if (failure) return failure;
  const size_t span = round_up(arguments.length, size_t{1} << arguments.object->page_shift);
  return create_mapping(
      {arguments.object, start, span, arguments.length, arguments.offset, arguments.writable, arguments.private_copy,
       arguments.fill, arguments.populate, arguments.borrowed, arguments.device_file, arguments.for_device},
      mapping);
}

void hold(EnvState& state, Mapping* mapping, bool creator, uintptr_t buffer) {
  Held& held = state.mappings.try_emplace(static_cast<uint64_t>(mapping_id(mapping)), Held{mapping, 0, creator}).first->second;
  ++held.handles;
  describe(state, mapping, buffer);
}

// map(bytes, at, objectId, offset, length, writable, private, fill, populate, deviceFile, forDevice): null, and the mapping
// described | Failure `bytes` covers the whole SharedArrayBuffer; the mapping starts at its first address that is aligned to the
// object's pages, or `at` bytes from its beginning where that is not -1: inside memory that is in use.
Napi::Value map(const Napi::CallbackInfo& info) {
  const auto bytes = info[0].As<Napi::Uint8Array>();
  const double at = info[1].As<Napi::Number>().DoubleValue();
  MapArguments arguments = map_arguments(info, 2);
  arguments.borrowed = at >= 0;
  const size_t page = size_t{1} << arguments.object->page_shift;
  const auto base = reinterpret_cast<uintptr_t>(bytes.Data());
  Mapping* mapping = nullptr;
  const uintptr_t start = round_up(arguments.borrowed ? base + static_cast<uintptr_t>(at) : base, page);
  // V8 maps whole pages, so the mapping may end behind the last byte of the buffer, but not behind its last page.
  if (start + round_up(arguments.length, page) > round_up(base + bytes.ByteLength(), kPageSize)) {
    return to_js(info.Env(), {ENOTSUP, "mmap"});
  }
  const Failure failure = map_at(arguments, start, &mapping);
  if (!failure) hold(EnvState::of(info.Env()), mapping, true, base);
  return to_js(info.Env(), failure);
}

struct ExternalRange {
  uintptr_t start;
  size_t span;
  bool creating = true;
};

// V8 has let go of the ArrayBuffer: only now may its addresses be given back. Node also calls it for a buffer that it then does
// not make: that is map_external's to clean up.
void free_external(napi_env, void*, void* hint) {
  auto* range = static_cast<ExternalRange*>(hint);
  if (range->creating) return;
  close_mappings_within(range->start, range->start + range->span);
  munmap(reinterpret_cast<void*>(range->start), range->span);
  delete range;
}

constexpr int kMostRanges = 100;

// Maps over a range of this process's own. One that is within a mapping of ours that another part of the program has unmapped
// (EEXIST) is passed over, and kept until another has been found, so that the kernel does not give it again.
Failure map_in_free_range(const MapArguments& arguments, size_t bytes, size_t page, void** at, Mapping** mapping) {
  void* passed[kMostRanges];
  int count = 0;
  Failure failure;
  do {
    *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*at == MAP_FAILED) {
      failure = Failure::from_errno("mmap");
      break;
    }
    failure = map_at(arguments, round_up(reinterpret_cast<uintptr_t>(*at), page), mapping);
    if (failure) passed[count++] = *at;
  } while (failure.errnum == EEXIST && count < kMostRanges);
  while (count > 0) munmap(passed[--count], bytes);
  return failure;
}

// mapExternal(objectId, offset, length, writable, private, fill, populate, deviceFile, forDevice): the ArrayBuffer, and the
// mapping described | Failure
Napi::Value map_external(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const MapArguments arguments = map_arguments(info, 0);
  const size_t page = size_t{1} << arguments.object->page_shift;
  const size_t span = round_up(arguments.length, page);
  const size_t reserved = span + (page > kPageSize ? page : 0);
  void* at = nullptr;
  Mapping* mapping = nullptr;
  const Failure failure = map_in_free_range(arguments, reserved, page, &at, &mapping);
  if (failure) return to_js(env, failure);
  const uintptr_t start = mapping->start;
  auto* range = new ExternalRange{reinterpret_cast<uintptr_t>(at), reserved};
  napi_value buffer;
  const napi_status status =
      napi_create_external_arraybuffer(env, reinterpret_cast<void*>(start), arguments.length, free_external, range, &buffer);
  range->creating = false;
  if (status != napi_ok) {
    // Too long for this Node (4 GiB on Node 20), or a build that allows no external buffers (Electron).
    if (env.IsExceptionPending()) env.GetAndClearPendingException();
    release_mapping_handle(mapping, true);
    munmap(at, reserved);
    delete range;
    return to_js(env, {status == napi_no_external_buffers_allowed ? ENOTSUP : EFBIG, "napi_create_external_arraybuffer"});
  }
  hold(EnvState::of(env), mapping, true, mapping->start);
  return Napi::Value(env, buffer);
}

// attach(id, bytes, same): true, and the mapping described | false when it is no longer there, or `bytes` is not its memory or
// not that of `same` | Failure
Napi::Value attach(const Napi::CallbackInfo& info) {
  const uint64_t id = to_u64(info[0]);
  const auto bytes = info[1].As<Napi::Uint8Array>();
  Mapping* mapping = nullptr;
  const Failure failure = handlers_ensure();
  if (failure) return to_js(info.Env(), failure);
  const uint64_t generation = id / kStatusSlots;  // of more than 32 bits in no id that was ever given
  if (generation > UINT32_MAX) return Napi::Boolean::New(info.Env(), false);
  if (!acquire_mapping(static_cast<uint32_t>(id % kStatusSlots), static_cast<uint32_t>(generation), &mapping))
    return Napi::Boolean::New(info.Env(), false);
  const auto base = reinterpret_cast<uintptr_t>(bytes.Data());
  const bool same = info[2].As<Napi::Uint8Array>().Data() == bytes.Data();
  if (!same || mapping->start < base || mapping->start + mapping->length > base + bytes.ByteLength()) {
    release_mapping_handle(mapping, false);
    return Napi::Boolean::New(info.Env(), false);
  }
  ++mapping->attaches;
  hold(EnvState::of(info.Env()), mapping, false, base);
  return Napi::Boolean::New(info.Env(), true);
}

// attached(id): whether any thread has ever attached to it
Napi::Value attached(const Napi::CallbackInfo& info) {
  const Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  return Napi::Boolean::New(info.Env(), mapping == nullptr || mapping->attaches.load() != 0);
}

// release(id, close): gives one handle back; with `close` the mapping ends for everybody
void release(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const auto found = state.mappings.find(to_u64(info[0]));
  if (found == state.mappings.end()) return;
  Mapping* mapping = found->second.mapping;
  if (--found->second.handles == 0) {
    state.mappings.erase(found);
    state.forget_last();
  }
  release_mapping_handle(mapping, to_bool(info[1]));
}

Napi::Value faults(const Napi::CallbackInfo& info) {
  const Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  return Napi::Number::New(info.Env(), mapping == nullptr ? 0 : mapping->faults.load());
}

// protect(id, firstPage, pages, access): null | Failure
Napi::Value protect(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  return to_js(info.Env(), protect_pages(mapping, to_u64(info[1]), to_u64(info[2]), static_cast<Access>(to_u32(info[3]))));
}

// remapPages(id, firstPage, pages, objectOffset): null | Failure
Napi::Value remap_pages_js(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  return to_js(info.Env(), remap_pages(mapping, to_u64(info[1]), to_u64(info[2]), to_u64(info[3])));
}

}  // namespace

void export_mappings(Napi::Env env, Napi::Object exports) {
  exports["map"] = Napi::Function::New(env, map, "map");
  exports["mapExternal"] = Napi::Function::New(env, map_external, "mapExternal");
  exports["attach"] = Napi::Function::New(env, attach, "attach");
  exports["attached"] = Napi::Function::New(env, attached, "attached");
  exports["release"] = Napi::Function::New(env, release, "release");
  exports["faults"] = Napi::Function::New(env, faults, "faults");
  exports["protect"] = Napi::Function::New(env, protect, "protect");
  exports["remapPages"] = Napi::Function::New(env, remap_pages_js, "remapPages");
}

}  // namespace revocable::binding
