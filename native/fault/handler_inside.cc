// PLEASE READ BEFORE CHANGING THIS FILE, or another whose name ends in _inside.cc.
//
// Everything in them may run inside a signal handler, in any thread, between any two instructions of any program:
//
//   1. No lock, no malloc, no logging, no thread-local storage, no function-local static, no Node-API call, and nothing that
//      does one of these. System calls, lock-free atomics and what these files define are all there is: `npm run check:structure`
//      knows each symbol that they may need. mmap(2) and mremap(2) are not on POSIX's list of async-signal-safe functions; on
//      Linux they are plain system calls and safe.
//   2. The handler returns only after something has changed that lets the faulting instruction go on, after passing the
//      signal on, or after a wait for another thread's change; each way back that changes nothing is counted and bounded, or a
//      thread would fault for ever.
//
// What runs in normal code and changes the same state holds the same claim (mapping_record.h) with asynchronous signals blocked.
#include "fault/handler.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/counters.h"
#include "core/mapping_record.h"
#include "core/mapping_table.h"
#include "core/vm_ops.h"
#include "fault/backing.h"
#include "fault/fault.h"
#include "fault/fill.h"
#include "fault/guarded_copy.h"
#include "fault/protection.h"
#include "fault/signal_chain.h"
#include "instruction/decode.h"
#include "instruction/machine_context.h"

namespace revocable {

std::atomic<const StepHandler*> g_step_handler{nullptr};

namespace {

// How often a fault in a closed range is sent back. A thread that faulted before the range was closed needs it once; a fault of
// the owner of the addresses now comes again.
constexpr uint32_t kClosedLimit = 128;

Outcome closed_fault(Mapping* mapping) {
  return mapping->futile.fetch_add(1, std::memory_order_relaxed) < kClosedLimit ? Outcome::handled : Outcome::foreign;
}

// Under the claim.
Outcome settle_claimed(Mapping* mapping, const Fault& fault, const Diagnosis& diagnosis) {
  // The record may have been recycled between the lookup and the claim.
  if (fault.address < mapping->start || fault.address >= mapping->end) return Outcome::handled;
  switch (mapping->state.load(std::memory_order_acquire)) {
    case State::revoked: return plug(mapping, fault, g_counters.faults_revoked);
    case State::suspended: return plug(mapping, fault, g_counters.faults_suspended);
    case State::closed: return closed_fault(mapping);
    case State::live: break;
  }
  return fault.signal == SIGBUS ? backing_fault(mapping, fault, diagnosis) : protection_fault(mapping, fault);
}

}  // namespace

Outcome settle(Mapping* mapping, const Fault& fault) {
  Diagnosis diagnosis{Cause::unknown, false, true};  // of a mapping that turns out live only after the claim: look again
  if (fault.signal == SIGBUS && mapping->state.load(std::memory_order_acquire) == State::live)
    diagnosis = diagnose(mapping, fault);
  if (!try_claim(mapping)) {
    bump(g_counters.faults_shared);
    await_claim(mapping);
    return Outcome::handled;  // the instruction is tried again, and faults again if it must
  }
  const Outcome outcome = settle_claimed(mapping, fault, diagnosis);
  release_claim(mapping);
  return outcome;
}

namespace {

// Signals that a fault of memory raised in this thread: not those sent by kill(2), whose si_addr is junk, nor misaligned
// accesses, nor machine checks in memory that no thread has touched.
bool is_memory_fault(int signal, int code) {
  if (signal == SIGBUS) return code == BUS_ADRERR || code == BUS_MCEERR_AR;
  return code == SEGV_MAPERR || code == SEGV_ACCERR;
}

bool is_register_access(const Mapping* mapping, const Fault& fault) {
  return mapping->trapped && fault.signal == SIGSEGV && fault.code == SEGV_ACCERR &&
         mapping->state.load(std::memory_order_acquire) == State::live;
}

Outcome register_access(Mapping* mapping, const Fault& fault, ReaderScope& scope) {
  switch (mapping->ops->access(mapping, fault.address, *fault.machine, scope)) {
    case Delivery::complete: return Outcome::handled;
    case Delivery::deadly: return Outcome::foreign;
    case Delivery::not_understood: break;
  }
  return settle(mapping, fault);
}

// read_code has come to the end of what can be read.
bool look_at_code(MachineContext& machine) {
  const uintptr_t pad = load_landing_pad(machine.pc());
  if (pad != 0) machine.resume_at(pad, pad_argument({}));
  return pad != 0;
}

Outcome resolve(int signal, const siginfo_t* info, MachineContext machine) {
  // A load of ours from code that only runs: execute-only memory raises this where processors have protection keys.
  if (signal == SIGSEGV && info->si_code == SEGV_PKUERR && look_at_code(machine)) return Outcome::handled;
  if (!is_memory_fault(signal, info->si_code)) return Outcome::foreign;
  const Fault fault{reinterpret_cast<uintptr_t>(info->si_addr), signal, info->si_code, machine.is_write(), &machine};
  ReaderScope scope;
  Mapping* mapping = find_mapping(fault.address);
  const uintptr_t pad = landing_pad(machine.pc());  // in any memory: a copy's other buffer, or code
  if (pad == 0 && mapping == nullptr) return Outcome::foreign;
  if (pad == 0 && is_register_access(mapping, fault)) return register_access(mapping, fault, scope);
  if (pad == 0) return settle(mapping, fault);
  const bool bus = signal == SIGBUS;
  machine.resume_at(pad, pad_argument({true, fault.address, fault.write, bus, bus && fault.code == BUS_MCEERR_AR}));
  if (mapping != nullptr) bump(g_counters.faults_copy);
  return Outcome::handled;
}

}  // namespace

// It has been executed, which does not say that it can be read: its page may be for execution only, and the kernel takes
// protection keys away from signal handlers.
size_t read_code(uintptr_t pc, uint8_t* code) {
  // By loads that may fault, since asking the kernel first costs as much as a good part of the signal.
  size_t bytes = 0;
  for (unsigned width = 8; width != 0; width /= 2) {
    uint64_t word;
    while (bytes + width <= kLongestInstruction && guarded_load(reinterpret_cast<const void*>(pc + bytes), width, &word)) {
      memcpy(code + bytes, &word, width);
      bytes += width;
    }
  }
  if (bytes != 0) return bytes;
  // Keys do not count for a process that reads another's memory, be it its own.
  const iovec to{code, kLongestInstruction}, from{reinterpret_cast<void*>(pc), kLongestInstruction};
  const long read = syscall(SYS_process_vm_readv, getpid(), &to, 1, &from, 1, 0);
  return read > 0 ? static_cast<size_t>(read) : 0;
}

// `cfa`: where the stack pointer was before the call of the handler.
extern "C" __attribute__((used, visibility("hidden"))) void revocable_mmap_on_fault(int signal, siginfo_t* info, void* context,
                                                                                    const void* cfa) {
  const int saved_errno = errno;
  MachineContext machine(context);
  if (resolve(signal, info, machine) == Outcome::foreign) {
    if (const StepHandler* steps = g_step_handler.load(std::memory_order_acquire)) steps->abandon(machine);
    bump(g_counters.foreign);
    chain_signal(signal, info, context, MachineContext::delivered_by_kernel(info, context, cfa));
  }
  errno = saved_errno;
}

#if defined(__aarch64__)
// Clang's __builtin_dwarf_cfa() is the frame pointer on ARM, which is not where the caller's frame ends.
asm(R"(
  .pushsection .text.revocable_mmap_fault_handler, "ax", %progbits
  .p2align 2
  .globl revocable_mmap_fault_handler
  .type revocable_mmap_fault_handler, %function
revocable_mmap_fault_handler:
  .cfi_startproc
  hint #34 // bti c
  mov x3, sp
  b revocable_mmap_on_fault
  .cfi_endproc
  .size revocable_mmap_fault_handler, .-revocable_mmap_fault_handler
  .popsection
)");
#else
extern "C" void revocable_mmap_fault_handler(int signal, siginfo_t* info, void* context) {
  revocable_mmap_on_fault(signal, info, context, __builtin_dwarf_cfa());
}
#endif

}  // namespace revocable
