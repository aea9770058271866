// Instructions that access registers and are run by the processor, one step each: see register_trap.h.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/futex.h"
#include "core/mapping_table.h"
#include "core/vm_ops.h"
#include "instruction/decode.h"
#include "instruction/machine_context.h"

namespace revocable {

// Reserves the scratch pages, and registers the handler for SIGTRAP with the fault handler. Normal code. False where there is no
// memory.
bool step_reserve();

// Moves the instruction's operands to scratch pages and lets it run for one step. Leaves the scope before it waits. In the
// handler.
Delivery redirect(const Instruction& instruction, MachineContext& machine, ReaderScope& scope);

// This thread has gone on: a step that it abandoned does not begin again. In the handler.
void forget_abandoned();

// This thread was to make a step and has come to a fault that is not ours: its registers are as they were before. Should the
// instruction begin again, it gets what the model has given already. In the handler: see StepHandler.
void abandon_step(MachineContext& machine);

// Whether the handler below is in place. The watchdog (handlers_check) puts it there when it is wanted.
enum : uint32_t { kTrapHandlerUnasked, kTrapHandlerWanted, kTrapHandlerInPlace, kTrapHandlerRefused };
extern FutexWord g_trap_handler;

// Whether a trap comes behind an instruction that was to run by itself: some emulators and sandboxes run on. Normal code, once
// the handler is in place.
bool single_step_works();

// What register_step.cc begins and the handlers use.
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
