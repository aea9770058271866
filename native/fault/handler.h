// The fault handler. See handler_inside.cc for the rules of everything that runs in it.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>

#include "core/event_ring.h"
#include "core/mapping_record.h"
#include "fault/fault.h"
#include "fault/guarded_copy.h"
#include "instruction/machine_context.h"

namespace revocable {

// For SIGBUS and SIGSEGV. The name is exported so that another copy of the library in the process can recognise it (dladdr).
extern "C" __attribute__((visibility("default"))) void revocable_mmap_fault_handler(int signal, siginfo_t* info, void* context);

// Reserves what the handler needs when the kernel refuses every new mapping. Normal code, once, before the first mapping.
bool handler_reserve();

// The same decision the handler takes about a live mapping, for a checked access that ran into a SIGBUS and left it on its
// landing pad: the page is marked, and filled unless its fill is deadly. `failures` is how often the access has been made before,
// in vain: at first one to a page that is there again is only to be made once more. Normal code, without the registry lock.
void absorb_backing_fault(Mapping* mapping, const AccessFault& fault, uint32_t failures);

// Why the kernel could not bring a page of a live mapping that nothing has touched. Normal code, without the registry lock.
Cause cause_of_missing_page(Mapping* mapping, size_t offset, bool write);

// What a device's answer does to a page that a thread waits for (device/pager.cc); who waits is woken by the caller, after it.
// Normal code with asynchronous signals blocked, under the claim; the mapping is live.
//
// The page is lost for `cause`, as if the kernel had said SIGBUS for it.
void lose_page_of_device(Mapping* mapping, size_t page, Cause cause, uintptr_t address, bool write);
// The access goes to a page of fill, and what it means is announced; the object's page is put back by the service thread.
void divert_self_fault(Mapping* mapping, uintptr_t address, bool write);

// The handler for SIGTRAP, which device/ has: it is put in place when a thread wants it, and then kept there as the two for
// faults are.
struct StepHandler {
  void (*handler)(int signal, siginfo_t* info, void* context);
  // Normal code, one thread at a time: whether a thread waits for it; whether it is in place; what came of putting it there.
  bool (*wanted)();
  bool (*in_place)();
  void (*installed)(bool done);
  // In the fault handler: this thread was to make a step, perhaps, and has come to a fault that is not ours. Its registers are to
  // be as they were before.
  void (*abandon)(MachineContext& machine);
};
// Null until device/ has registered it; constant from then on.
extern std::atomic<const StepHandler*> g_step_handler;

// The decision about a fault on a mapping, in a reader's scope or under the registry lock.
Outcome settle(Mapping* mapping, const Fault& fault);

// For what else runs in the handler (device/register_trap_inside.cc): as many bytes of the instruction as can be read without a
// fault, at most kLongestInstruction.
size_t read_code(uintptr_t pc, uint8_t* code);

}  // namespace revocable
