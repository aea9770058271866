// Raw accesses to the registers of a simulated device: the fault handler delivers each to the model. The page is never opened.
//
// The pages of such a mapping have no permissions, so every load and store faults. What the instruction does is decoded
// (instruction/decode.h). One on general registers, or that moves a vector register, is completed in the handler. Any other is
// *redirected* (register_step.h): what the model gave is put into a scratch page of this thread's, the register that addresses
// the operand is moved there, and the instruction runs by itself, for one step; the trap behind it moves the register back and
// gives the model what was written. So other threads' accesses find the page shut at every moment.
// docs/decisions/007-trapped-registers.md
#pragma once

#include <cstdint>

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

}  // namespace revocable
