// Checked accesses that go through native code: bulk copies, single accesses where the raw memory must not be touched, and the
// question what a page's marks say.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "binding/env_state.h"
#include "binding/exports.h"
#include "binding/layouts.h"
#include "core/copy_thread.h"
#include "core/mapping.h"
#include "core/mapping_pages.h"
#include "core/mapping_table.h"
#include "core/registry.h"
#include "fault/guarded_copy.h"
#include "fault/handler.h"

namespace revocable::binding {
namespace {

struct View {
  char* at = nullptr;
  size_t bytes = 0;
};

size_t width_of(napi_typedarray_type type) {
  switch (type) {
    case napi_int8_array:
    case napi_uint8_array:
    case napi_uint8_clamped_array: return 1;
    case napi_int32_array:
    case napi_uint32_array:
    case napi_float32_array: return 4;
    case napi_float64_array:
    case napi_bigint64_array:
    case napi_biguint64_array: return 8;
    default: return 2;  // of 16 bits, with those that came after Node-API's list
  }
}

// An ArrayBufferView as it is now; a DataView, which is rare, is another type to Node-API than a typed array.
View view_of(const Napi::Value& value) {
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) == napi_ok) {
    return {static_cast<char*>(data), length * width_of(type)};
  }
  if (napi_get_dataview_info(value.Env(), value, &length, &data, nullptr, nullptr) != napi_ok) return {};
  return {static_cast<char*>(data), length};
}

uint32_t word_of(const Mapping* mapping) { return status_words()[mapping->slot].load(); }

bool is_unmoved(const Mapping* mapping, uint32_t word) { return ((word_of(mapping) ^ word) & ~kStatusMarked) == 0; }

// A SIGBUS in a live mapping is its backing's: the page is marked, so that the caller can say which and why. `word` is the status
// word before the access: with another one now it may have been a suspension's fault, which is over. Of a SIGSEGV the marks say
// why.
void report(Mapping* mapping, uint32_t word, const AccessFault& fault, uint32_t failures) {
  if (fault.address < mapping->start || fault.address >= mapping->end) return;
  if (!fault.bus) {
    const RegistryLock lock;  // a protect() under way may have written its marks and not yet asked the kernel: it ends first
    return;
  }
  if ((word & kStatusStateMask) == 0 && is_unmoved(mapping, word)) absorb_backing_fault(mapping, fault, failures);
}

// The other buffer is a view of a mapping, perhaps of the same one; the caller holds it. No thread has looked at its status word
// before the copy, so the byte that failed is copied once more.
void report_other(const CopyResult& copied, char* to, const char* from, uint32_t failures) {
  Mapping* other = nullptr;
  {
    const ReaderScope scope;
    other = find_mapping(copied.fault.address);
  }
  if (other == nullptr) return;
  const uint32_t word = word_of(other);
  const AccessFault again = guarded_copy(to + copied.done, from + copied.done, 1).fault;
  if (again.address == copied.fault.address && again.write == copied.fault.write) report(other, word, again, failures);
}

// Copies in chunks while the mapping is live. As long as a copy is under way no fill is mapped (handler_inside.cc): it faults at
// the byte it has come to, or every byte of its chunk was real.
constexpr size_t kChunk = size_t{256} << 10;

class Copier {
 public:
  // Sequentially consistent, as is the state: either the handler sees the copier, or the copier sees the mapping gone.
  explicit Copier(Mapping* mapping) : mapping_(mapping) { mapping->copiers.fetch_add(1); }
  ~Copier() { mapping_->copiers.fetch_sub(1); }
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;
  bool live() const { return mapping_->state.load() == State::live; }

 private:
  Mapping* mapping_;
};

// `write`: the target is the mapping's side, not the source.
CopyResult copy_while_live(Mapping* mapping, char* to, const char* from, size_t bytes, bool write) {
  for (size_t done = 0; done < bytes;) {
    const Copier copier(mapping);
    if (!copier.live()) return {done, {.any = true, .address = mapping->start, .write = write}};
    const CopyResult copied = guarded_copy(to + done, from + done, std::min(kChunk, bytes - done));
    if (copied.fault.any) return {done + copied.done, copied.fault};
    done += copied.done;
  }
  return {bytes, {}};
}

Napi::Value partial_copy(Napi::Env env, size_t done, bool of_mapping) {
  Napi::Object result = Napi::Object::New(env);
  result["done"] = Napi::Number::New(env, static_cast<double>(done));
  result["mapping"] = Napi::Boolean::New(env, of_mapping);
  return result;
}

// What a copy is of, in the environment's `described`: each number as an argument would cost a hundredth of a 64 KiB copy.
struct CopyOrder {
  EnvState& state;
  Mapping* mapping;
  char* at;
  size_t bytes;
  uint32_t failures;
  explicit CopyOrder(const Napi::CallbackInfo& info)
      : state(EnvState::of(info.Env())),
        mapping(state.mapping(static_cast<uint64_t>(state.described[copy_order_at::id]))),
        at(reinterpret_cast<char*>(mapping->start + static_cast<uint64_t>(state.described[copy_order_at::offset]))),
        bytes(static_cast<size_t>(state.described[copy_order_at::bytes])),
        failures(static_cast<uint32_t>(state.described[copy_order_at::failures])) {}
};

bool overlap(const char* a, const char* b, size_t bytes) { return a < b + bytes && b < a + bytes; }

// { done, mapping }: how many bytes, and whether it was the mapping's side that failed; undefined when all were copied, false
// when the other buffer has not as many bytes as it said, null when the two sides overlap and nothing was copied.
Napi::Value copy_sides(const CopyOrder& order, const View& other, bool write) {
  if (other.bytes < order.bytes) return Napi::Boolean::New(order.state.env, false);
  if (overlap(order.at, other.at, order.bytes)) return order.state.env.Null();
  char* to = write ? order.at : other.at;
  const char* from = write ? other.at : order.at;
  const uint32_t word = word_of(order.mapping);
  const CopyResult copied = copy_while_live(order.mapping, to, from, order.bytes, write);
  if (!copied.fault.any) return Napi::Value();
  const bool of_mapping = copied.fault.write == write;
  if (of_mapping) {
    report(order.mapping, word, copied.fault, order.failures);
  } else {
    const Copier copier(order.mapping);  // no fill of its own goes to the other buffer
    if (copier.live()) report_other(copied, to, from, order.failures);
  }
  return partial_copy(order.state.env, copied.done, of_mapping);
}

// readBytes(target), with `described` id, offset, bytes, and how often it has failed
Napi::Value read_bytes(const Napi::CallbackInfo& info) {
  const CopyOrder order(info);
  return copy_sides(order, view_of(info[0]), false);
}

// writeBytes(source), as readBytes
Napi::Value write_bytes(const Napi::CallbackInfo& info) {
  const CopyOrder order(info);
  return copy_sides(order, view_of(info[0]), true);
}

// overlaps(id, offset, view): whether the view shows a part of the memory that so many bytes of the mapping are
Napi::Value overlaps(const Napi::CallbackInfo& info) {
  const Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  const View other = view_of(info[2]);
  const char* at = reinterpret_cast<const char*>(mapping->start + to_u64(info[1]));
  return Napi::Boolean::New(info.Env(), overlap(at, other.at, other.bytes));
}

// takeBytes(source, target, failures): copies between buffers, which may be views of mappings. It answers as readBytes does.
Napi::Value take_bytes(const Napi::CallbackInfo& info) {
  const View from = view_of(info[0]), to = view_of(info[1]);
  const CopyResult copied = guarded_copy(to.at, from.at, std::min(from.bytes, to.bytes));
  if (!copied.fault.any) return Napi::Value();
  report_other(copied, to.at, from.at, to_u32(info[2]));
  return partial_copy(info.Env(), copied.done, false);
}

// How many bytes the marks allow to be copied, and the status word that says so.
struct Allowance {
  size_t bytes;
  uint32_t word;
};

constexpr int kMostSettled = 100;  // by then it is another thread that diverts its accesses there all the time

Allowance allowed(const Copy& copy) {
  for (int i = 0; i < kMostSettled; ++i) {
    const uint32_t word = word_of(copy.mapping);
    if ((word & kStatusSpecial) == 0) return {copy.bytes, word};
    if ((word & kStatusStateMask) != 0) return {0, word};
    const PageVerdict verdict = judge_access(copy.mapping, copy.offset, copy.bytes, copy.write);
    if (verdict.verdict == Verdict::fine) return {copy.bytes, word};
    if (verdict.verdict != Verdict::stray) return {verdict.offset - copy.offset, word};
  }
  return {0, 0};
}

// A first write of one byte, where the copy is only that.
CopyResult touch_while_live(Mapping* mapping, char* at) {
  const Copier copier(mapping);
  if (!copier.live()) return {0, {.any = true, .address = mapping->start, .write = true}};
  CopyResult result{1, {}};
  if (!guarded_touch(at, &result.fault)) result.done = 0;
  return result;
}

// On a copy thread, where the looks at the status word lie as close to the copy as in a copy that waits.
void perform(Copy& copy) {
  const Allowance allowance = allowed(copy);
  auto* at = reinterpret_cast<char*>(copy.mapping->start + copy.offset);
  char* own = copy.memory.get();
  if (copy.touch) copy.result = allowance.bytes == 0 ? CopyResult{} : touch_while_live(copy.mapping, at);
  else copy.result = copy_while_live(copy.mapping, copy.write ? at : own, copy.write ? own : at, allowance.bytes, copy.write);
  if (copy.result.fault.any) report(copy.mapping, allowance.word, copy.result.fault, copy.failures);
  copy.real = is_unmoved(copy.mapping, allowance.word);
}

// copyAsync(id, offset, bytes, source, null or undefined, failures): token | Failure. One attempt of a copy, on another thread,
// from `source`, a buffer of JavaScript's own, or to memory of its own; null: of one byte to itself.
Napi::Value copy_async(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const Mapping* held = state.mapping(info[0]);
  auto copy = std::make_shared<Copy>();
  copy->offset = to_u64(info[1]);
  copy->touch = info[3].IsNull();
  copy->write = !info[3].IsUndefined();
  copy->bytes = to_u64(info[2]);
  copy->failures = to_u32(info[4]);
  copy->memory.reset(new (std::nothrow) char[copy->bytes]);
  if (copy->memory == nullptr) return to_js(info.Env(), {ENOMEM, "copy"});
  if (copy->write && !copy->touch) memcpy(copy->memory.get(), view_of(info[3]).at, copy->bytes);
  if (!acquire_mapping(held->slot, held->generation, &copy->mapping)) return to_js(info.Env(), {EBADF, "copy"});
  const double token = state.next_token++;
  state.pending(+1);
  const Failure failure = run_on_copy_thread([copy, box = state.mailbox, token] {
    perform(*copy);
    copy->done.store(1);
    futex_wake_private(&copy->done);
    release_mapping_handle(copy->mapping, false);
    box->deliver({.token = token});
  });
  if (failure) {
    release_mapping_handle(copy->mapping, false);
    state.pending(-1);
    return to_js(info.Env(), failure);
  }
  state.copies.emplace(token, std::move(copy));
  return Napi::Number::New(info.Env(), token);
}

// copyEnd(token, target or undefined): undefined when all were copied and real | { done, mapping }, as readBytes answers. What
// was read goes to `target`, a whole buffer of so many bytes; without one it is forgotten.
Napi::Value copy_end(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const auto found = state.copies.find(info[0].As<Napi::Number>().DoubleValue());
  const std::shared_ptr<Copy> copy = found->second;
  state.copies.erase(found);
  const CopyResult& result = copy->result;
  const bool whole = result.done == copy->bytes;
  if (!info[1].IsUndefined() && (copy->real || !whole)) {
    char* target = view_of(info[1]).at;
    const CopyResult delivered = guarded_copy(target, copy->memory.get(), result.done);
    if (delivered.fault.any) {
      report_other(delivered, target, copy->memory.get(), copy->failures);
      return partial_copy(info.Env(), delivered.done, false);
    }
  }
  return whole && copy->real ? Napi::Value() : partial_copy(info.Env(), result.done, true);
}

// load(id, offset, width, failures): the value, a bigint for width 8; undefined when it faulted
Napi::Value load(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  const uintptr_t address = mapping->start + to_u64(info[1]);
  const uint32_t width = to_u32(info[2]);
  const uint32_t word = word_of(mapping);
  uint64_t value = 0;
  AccessFault fault;
  if (!guarded_load(reinterpret_cast<const void*>(address), width, &value, &fault)) {
    report(mapping, word, fault, to_u32(info[3]));
    return info.Env().Undefined();
  }
  if (width == 8) return Napi::BigInt::New(info.Env(), value);
  return Napi::Number::New(info.Env(), static_cast<double>(value));
}

// store(id, offset, width, value, failures): whether it was made
Napi::Value store(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  const uintptr_t address = mapping->start + to_u64(info[1]);
  const uint32_t width = to_u32(info[2]);
  bool lossless = false;
  const uint64_t value = width == 8 ? info[3].As<Napi::BigInt>().Uint64Value(&lossless) : to_u32(info[3]);
  const uint32_t word = word_of(mapping);
  AccessFault fault;
  const bool done = guarded_store(reinterpret_cast<void*>(address), width, value, &fault);
  if (!done) report(mapping, word, fault, to_u32(info[4]));
  return Napi::Boolean::New(info.Env(), done);
}

// judge(id, offset, width, write, result): fills result with verdict, cause, first byte concerned
void judge(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  auto result = info[4].As<Napi::Float64Array>();
  const PageVerdict verdict = judge_access(mapping, to_u64(info[1]), to_u64(info[2]), to_bool(info[3]));
  result[0] = static_cast<double>(verdict.verdict);
  result[1] = static_cast<double>(verdict.cause);
  result[2] = static_cast<double>(verdict.offset);
}

// objectOffset(id, offset): which byte of the object it is
Napi::Value object_offset(const Napi::CallbackInfo& info) {
  const Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  const size_t offset = to_u64(info[1]), within = offset & (mapping->page_size() - 1);
  return Napi::Number::New(info.Env(), static_cast<double>(mapping->object_offset_of(offset >> mapping->page_shift) + within));
}

// firstBytePastEnd(id, offset, length, size): the first byte that a file of `size` bytes no longer has; -1 for none
Napi::Value first_byte_past_end_js(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  const size_t found = first_byte_past_end(mapping, to_u64(info[1]), to_u64(info[2]), to_u64(info[3]));
  return Napi::Number::New(info.Env(), found == SIZE_MAX ? -1 : static_cast<double>(found));
}

}  // namespace

void export_access(Napi::Env env, Napi::Object exports) {
  exports["readBytes"] = Napi::Function::New<read_bytes>(env, "readBytes");
  exports["writeBytes"] = Napi::Function::New<write_bytes>(env, "writeBytes");
  exports["overlaps"] = Napi::Function::New<overlaps>(env, "overlaps");
  exports["takeBytes"] = Napi::Function::New<take_bytes>(env, "takeBytes");
  exports["copyAsync"] = Napi::Function::New<copy_async>(env, "copyAsync");
  exports["copyEnd"] = Napi::Function::New<copy_end>(env, "copyEnd");
  exports["load"] = Napi::Function::New<load>(env, "load");
  exports["store"] = Napi::Function::New<store>(env, "store");
  exports["objectOffset"] = Napi::Function::New<object_offset>(env, "objectOffset");
  exports["firstBytePastEnd"] = Napi::Function::New<first_byte_past_end_js>(env, "firstBytePastEnd");
  exports["judge"] = Napi::Function::New<judge>(env, "judge");
}

}  // namespace revocable::binding
