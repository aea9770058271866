// Checked accesses that go through native code: bulk copies, single accesses where the raw memory must not be touched, and the
// question what a page's marks say.
#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <new>

#include "binding/env_state.h"
#include "core/copy_thread.h"
#include "core/mapping.h"
#include "core/region_table.h"
#include "fault/guarded_copy.h"
#include "fault/handler_inside.h"

namespace revocable::binding {
namespace {

// The bytes of an ArrayBufferView; a DataView, which is rare, is another type to Node-API than a typed array.
char* view_bytes(const Napi::Value& value) {
  void* data = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, nullptr, nullptr, &data, nullptr, nullptr) == napi_ok) {
    return static_cast<char*>(data);
  }
  return static_cast<char*>(value.As<Napi::DataView>().Data());
}

uint32_t word_of(const Region* region) { return status_words()[region->slot].load(); }

// A fault in a live mapping is its backing's: the page is marked, so that the caller can say which and why. `word` is the status
// word before the access: with another one now it may have been a suspension's fault, which is over.
void report(Region* region, uint32_t word, uintptr_t address, bool write, bool poisoned = false) {
  if (address < region->start || address >= region->end) return;
  const int allowed = prot_of(mark_access(region->mark_of(region->page_of(address))), *region);
  if ((allowed & (write ? PROT_WRITE : PROT_READ)) == 0) return;  // its backing has nothing to do with it
  if ((word & kStatusStateMask) != 0 || ((word_of(region) ^ word) & ~kStatusMarked) != 0) return;
  absorb_backing_fault(region, address, write, poisoned);
}

// Copies in chunks while the mapping is live. As long as a copy is under way no fill is mapped (handler_inside.cc): it faults at
// the byte it has come to, or every byte of its chunk was real.
constexpr size_t kChunk = size_t{256} << 10;

class Copier {
 public:
  // Sequentially consistent, as is the state: either the handler sees the copier, or the copier sees the mapping gone.
  explicit Copier(Region* region) : region_(region) { region->copiers.fetch_add(1); }
  ~Copier() { region_->copiers.fetch_sub(1); }
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;
  bool live() const { return region_->state.load() == State::live; }

 private:
  Region* region_;
};

// `write`: the target is the mapping's side, not the source.
CopyResult copy_while_live(Region* region, char* to, const char* from, size_t bytes, bool write) {
  for (size_t done = 0; done < bytes;) {
    const Copier copier(region);
    if (!copier.live()) return {done, region->start, write, false};
    const CopyResult copied = guarded_copy(to + done, from + done, std::min(kChunk, bytes - done));
    if (copied.fault_address != 0) return {done + copied.done, copied.fault_address, copied.fault_write, copied.fault_poisoned};
    done += copied.done;
  }
  return {bytes, 0, false, false};
}

// The other buffer is a view of a mapping, perhaps of the same one; the caller holds it. Nobody has looked at its status word
// before the copy, so the byte that failed is copied once more.
void report_other(const CopyResult& copied, char* to, const char* from) {
  Region* other = nullptr;
  {
    const ReaderScope scope;
    other = find_region(copied.fault_address);
  }
  if (other == nullptr) return;
  const uint32_t word = word_of(other);
  const CopyResult again = guarded_copy(to + copied.done, from + copied.done, 1);
  if (again.fault_address == copied.fault_address && again.fault_write == copied.fault_write) {
    report(other, word, again.fault_address, again.fault_write, again.fault_poisoned);
  }
}

Napi::Value partial_copy(Napi::Env env, size_t done, bool mapping) {
  Napi::Object result = Napi::Object::New(env);
  result["done"] = Napi::Number::New(env, static_cast<double>(done));
  result["mapping"] = Napi::Boolean::New(env, mapping);
  return result;
}

// What a copy is of, in the environment's `described`: each number as an argument would cost a hundredth of a 64 KiB copy.
struct CopyOrder {
  EnvState& state;
  Region* region;
  char* at;
  size_t bytes;
  explicit CopyOrder(const Napi::CallbackInfo& info)
      : state(EnvState::of(info.Env())),
        region(state.region(static_cast<uint64_t>(state.described[0]))),
        at(reinterpret_cast<char*>(region->start + static_cast<uint64_t>(state.described[1]))),
        bytes(static_cast<size_t>(state.described[2])) {}
};

// { done, mapping }: how many bytes, and whether it was the mapping's side that failed; undefined when all were copied.
Napi::Value copy_sides(const CopyOrder& order, char* to, const char* from, bool write) {
  const uint32_t word = word_of(order.region);
  const CopyResult copied = copy_while_live(order.region, to, from, order.bytes, write);
  if (copied.fault_address == 0) return Napi::Value();
  const bool mapping = copied.fault_write == write;
  if (mapping) {
    report(order.region, word, copied.fault_address, write, copied.fault_poisoned);
  } else {
    const Copier copier(order.region);  // no fill of its own goes to the other buffer
    if (copier.live()) report_other(copied, to, from);
  }
  return partial_copy(order.state.env, copied.done, mapping);
}

// readBytes(target), with `described` id, offset and bytes
Napi::Value read_bytes(const Napi::CallbackInfo& info) {
  const CopyOrder order(info);
  return copy_sides(order, view_bytes(info[0]), order.at, false);
}

// writeBytes(source), with `described` id, offset and bytes
Napi::Value write_bytes(const Napi::CallbackInfo& info) {
  const CopyOrder order(info);
  return copy_sides(order, order.at, view_bytes(info[0]), true);
}

// Of a source that ends in a fault, what comes before is written, as by a copy that waits.
void take_source(Copy& copy, const char* source) {
  copy.taken = guarded_copy(copy.memory.get(), source, copy.bytes);
  copy.bytes = copy.taken.done;
  if (copy.taken.fault_address != 0) report_other(copy.taken, copy.memory.get(), source);
}

// copyAsync(id, offset, bytes, source or undefined): token | Failure. Copies on another thread, from `source` or to memory of its
// own.
Napi::Value copy_async(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const Region* held = state.region(info[0]);
  auto copy = std::make_shared<Copy>();
  copy->offset = to_u64(info[1]);
  copy->write = !info[3].IsUndefined();
  copy->bytes = to_u64(info[2]);
  copy->memory.reset(new (std::nothrow) char[copy->bytes]);
  if (copy->memory == nullptr) return to_js(info.Env(), {ENOMEM, "copy"});
  if (copy->write) take_source(*copy, view_bytes(info[3]));
  if (!acquire_region(held->slot, held->generation, &copy->region)) return to_js(info.Env(), {EBADF, "copy"});
  const double token = state.next_token++;
  state.pending(+1);
  const Failure failure = run_on_copy_thread([copy, box = state.mailbox, token] {
    auto* at = reinterpret_cast<char*>(copy->region->start + copy->offset);
    char* own = copy->memory.get();
    const uint32_t word = word_of(copy->region);
    copy->result = copy_while_live(copy->region, copy->write ? at : own, copy->write ? own : at, copy->bytes, copy->write);
    if (copy->result.fault_address != 0)
      report(copy->region, word, copy->result.fault_address, copy->write, copy->result.fault_poisoned);
    copy->done.store(1);
    futex_wake_private(&copy->done);
    release_region_handle(copy->region, false);
    box->deliver({.token = token});
  });
  if (failure) {
    release_region_handle(copy->region, false);
    state.pending(-1);
    return to_js(info.Env(), failure);
  }
  state.copies.emplace(token, std::move(copy));
  return Napi::Number::New(info.Env(), token);
}

// copyEnd(token, target or undefined): bytes done, and whether all were: as readBytes answers. Copies what was read to `target`.
Napi::Value copy_end(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const auto found = state.copies.find(info[0].As<Napi::Number>().DoubleValue());
  const std::shared_ptr<Copy> copy = found->second;
  state.copies.erase(found);
  if (!info[1].IsUndefined()) {
    char* target = view_bytes(info[1]);
    const CopyResult delivered = guarded_copy(target, copy->memory.get(), copy->result.done);
    if (delivered.fault_address != 0) {
      report_other(delivered, target, copy->memory.get());
      return partial_copy(info.Env(), delivered.done, false);
    }
  }
  if (copy->result.fault_address != 0) return partial_copy(info.Env(), copy->result.done, true);
  if (copy->taken.fault_address != 0) return partial_copy(info.Env(), copy->taken.done, false);
  return Napi::Number::New(info.Env(), static_cast<double>(copy->result.done));
}

// load(id, offset, width): the value, a bigint for width 8; undefined when it faulted
Napi::Value load(const Napi::CallbackInfo& info) {
  Region* region = EnvState::of(info.Env()).region(info[0]);
  const uintptr_t address = region->start + to_u64(info[1]);
  const uint32_t width = to_u32(info[2]);
  const uint32_t word = word_of(region);
  uint64_t value = 0;
  if (!guarded_load(reinterpret_cast<const void*>(address), width, &value)) {
    report(region, word, address, false);
    return info.Env().Undefined();
  }
  if (width == 8) return Napi::BigInt::New(info.Env(), value);
  return Napi::Number::New(info.Env(), static_cast<double>(value));
}

// store(id, offset, width, value): whether it was made
Napi::Value store(const Napi::CallbackInfo& info) {
  Region* region = EnvState::of(info.Env()).region(info[0]);
  const uintptr_t address = region->start + to_u64(info[1]);
  const uint32_t width = to_u32(info[2]);
  bool lossless = false;
  const uint64_t value = width == 8 ? info[3].As<Napi::BigInt>().Uint64Value(&lossless) : to_u32(info[3]);
  const uint32_t word = word_of(region);
  const bool done = guarded_store(reinterpret_cast<void*>(address), width, value);
  if (!done) report(region, word, address, true);
  return Napi::Boolean::New(info.Env(), done);
}

// judge(id, offset, width, write, result): fills result with verdict, cause, first byte concerned
void judge(const Napi::CallbackInfo& info) {
  Region* region = EnvState::of(info.Env()).region(info[0]);
  auto result = info[4].As<Napi::Float64Array>();
  const PageVerdict verdict = judge_access(region, to_u64(info[1]), to_u64(info[2]), to_bool(info[3]));
  result[0] = static_cast<double>(verdict.verdict);
  result[1] = static_cast<double>(verdict.cause);
  result[2] = static_cast<double>(verdict.offset);
}

// firstBytePast(id, offset, length, end): the first byte whose page is at or past byte `end` of the object; -1 for none
Napi::Value first_byte_past_js(const Napi::CallbackInfo& info) {
  const Region* region = EnvState::of(info.Env()).region(info[0]);
  const size_t found = first_byte_past(region, to_u64(info[1]), to_u64(info[2]), to_u64(info[3]));
  return Napi::Number::New(info.Env(), found == SIZE_MAX ? -1 : static_cast<double>(found));
}

}  // namespace

void export_access(Napi::Env env, Napi::Object exports) {
  exports["readBytes"] = Napi::Function::New(env, read_bytes, "readBytes");
  exports["writeBytes"] = Napi::Function::New(env, write_bytes, "writeBytes");
  exports["copyAsync"] = Napi::Function::New(env, copy_async, "copyAsync");
  exports["copyEnd"] = Napi::Function::New(env, copy_end, "copyEnd");
  exports["load"] = Napi::Function::New(env, load, "load");
  exports["store"] = Napi::Function::New(env, store, "store");
  exports["firstBytePast"] = Napi::Function::New(env, first_byte_past_js, "firstBytePast");
  exports["judge"] = Napi::Function::New(env, judge, "judge");
}

}  // namespace revocable::binding
