#include <sys/mman.h>

#include <cerrno>

#include "base/page.h"
#include "binding/env_state.h"
#include "binding/exports.h"
#include "binding/layouts.h"
#include "core/mapping.h"
#include "core/mapping_pages.h"
#include "core/mapping_table.h"
#include "fault/handler_install.h"

namespace revocable::binding {
namespace {

// Describes the mapping in the environment's `described`, for takeDescription in src/native/shared-state.ts. `buffer` is where
// the JavaScript buffer begins: the mapping may begin behind it, at the next larger page.
void describe(const EnvState& state, const Mapping* mapping, uintptr_t buffer) {
  double* numbers = state.described;
  numbers[mapping_at::id] = mapping_id(mapping);
  numbers[mapping_at::slot] = mapping->slot;
  numbers[mapping_at::address] = static_cast<double>(mapping->start);  // exact: the address of a page
  numbers[mapping_at::start] = static_cast<double>(mapping->start - buffer);
  numbers[mapping_at::object_id] = static_cast<double>(mapping->object->id);
  numbers[mapping_at::offset] = static_cast<double>(mapping->object_offset);
  numbers[mapping_at::length] = static_cast<double>(mapping->length);
  numbers[mapping_at::writable] = mapping->writable;
  numbers[mapping_at::private_] = mapping->private_copy;
  numbers[mapping_at::fill] = static_cast<double>(mapping->fill);
}

// What orderMapping in src/native/shared-state.ts has put into `described`.
struct MapOrder {
  bool borrowed;  // `at` bytes from the beginning of memory that is in use
  uintptr_t at;
  Object* object;
  uint64_t offset;
  size_t length;
  bool writable, private_copy;
  Fill fill;
  bool populate;
  uint64_t device_file;
  bool for_device;

  explicit MapOrder(const EnvState& state) {
    const double* numbers = state.described;
    borrowed = numbers[map_order_at::at] >= 0;
    at = borrowed ? static_cast<uintptr_t>(numbers[map_order_at::at]) : 0;
    object = state.object(static_cast<uint64_t>(numbers[map_order_at::object_id]));
    offset = static_cast<uint64_t>(numbers[map_order_at::offset]);
    length = static_cast<size_t>(numbers[map_order_at::length]);
    writable = numbers[map_order_at::writable] != 0;
    private_copy = numbers[map_order_at::private_] != 0;
    fill = static_cast<Fill>(static_cast<uint32_t>(numbers[map_order_at::fill]));
    populate = numbers[map_order_at::populate] != 0;
    device_file = static_cast<uint64_t>(numbers[map_order_at::device_file]);
    for_device = numbers[map_order_at::for_device] != 0;
  }
};

Failure map_at(const MapOrder& order, uintptr_t start, Mapping** mapping) {
  const Failure failure = handlers_ensure();
  if (failure) return failure;
  const size_t span = round_up(order.length, size_t{1} << order.object->page_shift);
  return create_mapping({order.object, start, span, order.length, order.offset, order.writable, order.private_copy, order.fill,
                         order.populate, order.borrowed, order.device_file, order.for_device},
                        mapping);
}

void hold(EnvState& state, Mapping* mapping, bool creator, uintptr_t buffer) {
  Held& held = state.mappings.try_emplace(static_cast<uint64_t>(mapping_id(mapping)), Held{mapping, 0, creator}).first->second;
  ++held.handles;
  describe(state, mapping, buffer);
}

// map(bytes): null, and the mapping described | Failure. `bytes` covers the whole SharedArrayBuffer; the mapping starts at its
// first address that is aligned to the object's pages, or where the order says: inside memory that is in use.
Napi::Value map(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const MapOrder order(state);
  const auto bytes = info[0].As<Napi::Uint8Array>();
  const size_t page = size_t{1} << order.object->page_shift;
  const auto base = reinterpret_cast<uintptr_t>(bytes.Data());
  Mapping* mapping = nullptr;
  const uintptr_t start = round_up(base + order.at, page);
  // V8 maps whole pages, so the mapping may end behind the last byte of the buffer, but not behind its last page.
  if (start + round_up(order.length, page) > round_up(base + bytes.ByteLength(), kPageSize)) {
    return to_js(info.Env(), {ENOTSUP, "mmap"});
  }
  const Failure failure = map_at(order, start, &mapping);
  if (!failure) hold(state, mapping, true, base);
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
Failure map_in_free_range(const MapOrder& order, size_t bytes, size_t page, void** at, Mapping** mapping) {
  void* passed[kMostRanges];
  int count = 0;
  Failure failure;
  do {
    *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*at == MAP_FAILED) {
      failure = Failure::from_errno("mmap");
      break;
    }
    failure = map_at(order, round_up(reinterpret_cast<uintptr_t>(*at), page), mapping);
    if (failure) passed[count++] = *at;
  } while (failure.errnum == EEXIST && count < kMostRanges);
  while (count > 0) munmap(passed[--count], bytes);
  return failure;
}

// mapExternal(): the ArrayBuffer, and the mapping described | Failure
Napi::Value map_external(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  EnvState& state = EnvState::of(env);
  const MapOrder order(state);
  const size_t page = size_t{1} << order.object->page_shift;
  const size_t span = round_up(order.length, page);
  const size_t reserved = span + (page > kPageSize ? page : 0);
  void* at = nullptr;
  Mapping* mapping = nullptr;
  const Failure failure = map_in_free_range(order, reserved, page, &at, &mapping);
  if (failure) return to_js(env, failure);
  const uintptr_t start = mapping->start;
  auto* range = new ExternalRange{reinterpret_cast<uintptr_t>(at), reserved};
  napi_value buffer;
  const napi_status status =
      napi_create_external_arraybuffer(env, reinterpret_cast<void*>(start), order.length, free_external, range, &buffer);
  range->creating = false;
  if (status != napi_ok) {
    // Too long for this Node (4 GiB on Node 20), or a build that allows no external buffers (Electron).
    if (env.IsExceptionPending()) env.GetAndClearPendingException();
    release_mapping_handle(mapping, true);
    munmap(at, reserved);
    delete range;
    return to_js(env, {status == napi_no_external_buffers_allowed ? ENOTSUP : EFBIG, "napi_create_external_arraybuffer"});
  }
  hold(state, mapping, true, mapping->start);
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

// release(id, close): gives one handle back; with `close` the mapping ends for every thread
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
  exports["map"] = Napi::Function::New<map>(env, "map");
  exports["mapExternal"] = Napi::Function::New<map_external>(env, "mapExternal");
  exports["attach"] = Napi::Function::New<attach>(env, "attach");
  exports["attached"] = Napi::Function::New<attached>(env, "attached");
  exports["release"] = Napi::Function::New<release>(env, "release");
  exports["faults"] = Napi::Function::New<faults>(env, "faults");
  exports["protect"] = Napi::Function::New<protect>(env, "protect");
  exports["remapPages"] = Napi::Function::New<remap_pages_js>(env, "remapPages");
}

}  // namespace revocable::binding
