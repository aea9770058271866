// Memory accesses that come back with an error where the memory is gone. Each is a short assembly routine whose faulting
// instructions have landing pads: the fault handler finds the program counter here and moves it to the pad.
//
// They never leave a half-done state behind: a copy reports exactly how many bytes were transferred, a load or store is one
// access of its width or none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace revocable {

struct CopyResult {
  size_t done;              // bytes transferred, in ascending order of address
  uintptr_t fault_address;  // 0 when all were
  bool fault_write;         // it was the target's: both sides may lie in one page
  bool fault_poisoned;      // broken memory (BUS_MCEERR_AR)
};

// What the handler hands to a landing pad: the address, which has none of these bits in user space.
inline constexpr uintptr_t kFaultWrite = uintptr_t{1} << 63, kFaultPoisoned = uintptr_t{1} << 62;
constexpr uintptr_t pad_argument(uintptr_t address, bool write, bool poisoned) {
  return address | (write ? kFaultWrite : 0) | (poisoned ? kFaultPoisoned : 0);
}

// Asks the processor what it has. Normal code, before the handler is in place; without it copies are right, and slower.
void guarded_copy_reserve();

// Like memcpy. Large copies run at memcpy's speed; a fault costs one signal more than necessary, because the part of a chunk
// before the faulting byte is copied again byte by byte.
CopyResult guarded_copy(void* to, const void* from, size_t bytes);

// One access of `width` 1, 2, 4 or 8 bytes, naturally aligned. False when it faulted.
bool guarded_load(const void* from, unsigned width, uint64_t* value);
bool guarded_store(void* to, unsigned width, uint64_t value);

// Where execution goes on when the instruction at `pc` faults, or 0 when it is not one of these routines. Async-signal-safe.
uintptr_t landing_pad(uintptr_t pc);

// The same, of guarded_load only, which the handler also uses to look at memory that is nobody's it knows. Async-signal-safe.
uintptr_t load_landing_pad(uintptr_t pc);

}  // namespace revocable
