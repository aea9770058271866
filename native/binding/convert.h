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

// A value of 64 bits travels as its low and its high 32 bits, each exact in a double.
inline uint64_t value_of_halves(double low, double high) {
  const auto word = [](double half) { return uint64_t{static_cast<uint32_t>(static_cast<int64_t>(half))}; };
  return word(low) | word(high) << 32;
}
inline double low_half(uint64_t value) { return static_cast<double>(value & 0xffffffffu); }
inline double high_half(uint64_t value) { return static_cast<double>(value >> 32); }

inline uint64_t to_u64(const Napi::Value& value) { return static_cast<uint64_t>(value.As<Napi::Number>().DoubleValue()); }
inline uint32_t to_u32(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }
inline bool to_bool(const Napi::Value& value) { return value.As<Napi::Boolean>().Value(); }

}  // namespace revocable::binding
