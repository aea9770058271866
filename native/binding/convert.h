// Values of JavaScript to those of C++, and back. Arguments have been validated in TypeScript.
#pragma once

#include <napi.h>

#include <cstdint>

#include "base/failure.h"
#include "core/mapping_record.h"

namespace revocable::binding {

// A mapping's id as JavaScript sees it: generation * 2^20 + slot, exact in a double.
inline double mapping_id(const Mapping* mapping) {
  return static_cast<double>(mapping->generation) * kStatusSlots + mapping->slot;
}

// A Failure as { errno, syscall }, with Node's negative errno; null when there is none.
Napi::Value to_js(Napi::Env env, const Failure& failure);

inline uint64_t to_u64(const Napi::Value& value) { return static_cast<uint64_t>(value.As<Napi::Number>().DoubleValue()); }
inline uint32_t to_u32(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }
inline bool to_bool(const Napi::Value& value) { return value.As<Napi::Boolean>().Value(); }

}  // namespace revocable::binding
