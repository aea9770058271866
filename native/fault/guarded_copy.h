// Memory accesses that come back with an error where the memory is gone. Each is a short assembly routine whose faulting
// instructions have landing pads: the fault handler finds the program counter here and moves it to the pad.
//
// They never leave a half-done state behind: a copy reports exactly how many bytes were transferred, a load or store is one
// access of its width or none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace revocable {

struct AccessFault {
  bool any = false;
  uintptr_t address = 0;
  bool write = false;     // of a copy: its target's side
  bool bus = false;       // SIGBUS, the backing's, and not SIGSEGV, the protection's
  bool poisoned = false;  // broken memory (BUS_MCEERR_AR)
};

struct CopyResult {
  size_t done = 0;  // bytes transferred, in ascending order of address
  AccessFault fault;
};

// A fault in one word, as the handler hands it to a landing pad: addresses in user space have none of these bits.
inline constexpr uintptr_t kFaultWrite = uintptr_t{1} << 63, kFaultBus = uintptr_t{1} << 62, kFaultPoisoned = uintptr_t{1} << 61,
                           kFaultAny = uintptr_t{1} << 60;
constexpr uintptr_t pad_argument(const AccessFault& fault) {
  return fault.address | kFaultAny | (fault.write ? kFaultWrite : 0) | (fault.bus ? kFaultBus : 0) |
         (fault.poisoned ? kFaultPoisoned : 0);
}

// Asks the processor what it has. Normal code, before the handler is in place; without it copies are right, and slower.
void guarded_copy_reserve();

// Like memcpy. Large copies run at memcpy's speed; a fault costs one signal more than necessary, because the part of a chunk
// before the faulting byte is copied again byte by byte.
CopyResult guarded_copy(void* to, const void* from, size_t bytes);

// One access of `width` 1, 2, 4 or 8 bytes, naturally aligned. False when it faulted, and `fault` says how.
bool guarded_load(const void* from, unsigned width, uint64_t* value, AccessFault* fault = nullptr);
bool guarded_store(void* to, unsigned width, uint64_t value, AccessFault* fault = nullptr);

// Writes the byte that is there, in one step: a first write that changes nothing, whatever other threads write there.
bool guarded_touch(void* at, AccessFault* fault = nullptr);

// Where execution goes on when the instruction at `pc` faults, or 0 when it is not one of these routines. Async-signal-safe.
uintptr_t landing_pad(uintptr_t pc);

// The same, of guarded_load only, which the handler also uses to look at memory that it knows nothing of. Async-signal-safe.
uintptr_t load_landing_pad(uintptr_t pc);

}  // namespace revocable
