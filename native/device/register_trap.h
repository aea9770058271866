// Raw accesses to the registers of a simulated device: the fault handler delivers each to the model. The page is never opened.
//
// The pages of such a mapping have no permissions, so every load and store faults. What the instruction does is decoded
// (instruction/decode.h). One on general registers, or that moves a vector register, is completed in the handler. Any other is
// *redirected*: what the model gave is put into a scratch page of this thread's, the register that addresses the operand is moved
// there, and the instruction runs by itself, for one step; the trap behind it moves the register back and gives the model what
// was written. So other threads' accesses find the page shut at every moment. docs/decisions/007-trapped-registers.md
#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/futex.h"
#include "core/mapping_record.h"
#include "core/mapping_table.h"
#include "core/vm_ops.h"
#include "instruction/machine_context.h"

namespace revocable {

// Reserves the scratch pages, and registers the handler for SIGTRAP with the fault handler. Normal code, before the first mapping
// of registers. False where accesses cannot be trapped.
bool register_trap_reserve();

// An access to a live mapping of registers: see VmOps::access.
Delivery deliver_access(Mapping* mapping, uintptr_t address, MachineContext& machine, ReaderScope& scope);

// For check(): an access to a mapping of registers has not reached the model. In the handler: see VmOps::missed.
void note_raw_failure(Mapping* mapping, uintptr_t address, Cause cause);

// This thread was to make a step and has come to a fault that is not ours: its registers are as they were before. Should the
// instruction begin again, it gets what the model has given already. In the handler: see StepHandler.
void abandon_step(MachineContext& machine);

// Whether the handler below is in place. The watchdog (handlers_check) puts it there when it is wanted.
enum : uint32_t { kTrapHandlerUnasked, kTrapHandlerWanted, kTrapHandlerInPlace, kTrapHandlerRefused };
extern FutexWord g_trap_handler;

// Whether a trap comes behind an instruction that was to run by itself: some emulators and sandboxes run on. Normal code, once
// the handler is in place.
bool single_step_works();

// What register_trap.cc begins and the handlers use.
struct TrapStart {
  std::atomic<char*> scratch{nullptr};  // kTrapScratchBytes
  std::atomic<int> process{0};          // that has the service thread
  // The thread that tries whether steps are possible, and what came of it.
  std::atomic<int> trying{0};
  std::atomic<bool> trapped{false};
};
extern TrapStart g_trap_start;
inline constexpr size_t kTrapScratchBytes = size_t{1} << 20;  // 64 steps, of two accesses, of two pages

// For SIGTRAP.
extern "C" __attribute__((visibility("default"))) void revocable_mmap_trap_handler(int signal, siginfo_t* info, void* context);

}  // namespace revocable
