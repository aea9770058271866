// Page arithmetic. The page size is read once at load, because sysconf() must not be called in a signal handler.
#pragma once

#include <cstddef>
#include <cstdint>

namespace revocable {

extern const size_t kPageSize;
extern const unsigned kPageShift;

inline constexpr size_t kHugePageSize = size_t{2} << 20;
inline constexpr unsigned kHugePageShift = 21;

inline uintptr_t round_down(uintptr_t value, size_t alignment) { return value & ~(uintptr_t{alignment} - 1); }
inline uintptr_t round_up(uintptr_t value, size_t alignment) { return round_down(value + alignment - 1, alignment); }

}  // namespace revocable
