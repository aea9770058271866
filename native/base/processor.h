// What the processor has. Compilers' own functions for this need a variable of their runtime library, which not every toolchain
// has for shared objects.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>

namespace revocable {

// AVX, and a kernel that keeps its registers.
inline bool has_avx() {
  constexpr uint32_t kOsxsave = 1u << 27, kAvx = 1u << 28, kSseAndAvxState = 6;
  uint32_t unused, features;
  if (__get_cpuid(1, &unused, &unused, &features, &unused) == 0) return false;
  if ((features & (kOsxsave | kAvx)) != (kOsxsave | kAvx)) return false;
  uint32_t low, high;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & kSseAndAvxState) == kSseAndAvxState;
}

}  // namespace revocable
#endif
