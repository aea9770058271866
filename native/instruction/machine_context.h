// What a signal handler can read and change of the interrupted instruction, per processor.
#pragma once

#include <signal.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace revocable {

class MachineContext {
 public:
  explicit MachineContext(void* context) : context_(static_cast<ucontext_t*>(context)) {}

  // Whether the kernel called the handler, and not another handler that has it as its previous one. The kernel's frame lies
  // right where the handler's caller would be: struct rt_sigframe begins, behind the return address, with the context on x86 and
  // with the siginfo on ARM. `cfa` is where the stack pointer was before the call of the handler.
  static bool delivered_by_kernel(const siginfo_t* info, const void* context, const void* cfa) {
#if defined(__x86_64__)
    (void)info;
    return context == cfa;
#elif defined(__aarch64__)
    (void)context;
    return info == cfa;
#endif
  }

  // Signals blocked in the interrupted code, from when the handler returns. The C library's sets have 128 bytes, the kernel's
  // kMaskBytes; what is behind those in the frame is the handler's siginfo on x86.
  static constexpr size_t kMaskBytes = 8;
  sigset_t mask() const {
    sigset_t mask;
    sigemptyset(&mask);
    memcpy(&mask, &context_->uc_sigmask, kMaskBytes);
    return mask;
  }
  void set_mask(const sigset_t& mask) { memcpy(&context_->uc_sigmask, &mask, kMaskBytes); }

#if defined(__x86_64__)
  uintptr_t pc() const { return static_cast<uintptr_t>(context_->uc_mcontext.gregs[REG_RIP]); }
  void resume_at(uintptr_t pc, uintptr_t argument) {
    context_->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(pc);
    context_->uc_mcontext.gregs[REG_RDX] = static_cast<greg_t>(argument);
  }
  void step_to(uintptr_t pc) { context_->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(pc); }
  // Registers by the numbers that instructions have for them.
  uint64_t general(unsigned number) const { return static_cast<uint64_t>(context_->uc_mcontext.gregs[kGeneral[number]]); }
  void set_general(unsigned number, uint64_t value) {
    context_->uc_mcontext.gregs[kGeneral[number]] = static_cast<greg_t>(value);
  }
  uint64_t flags() const { return static_cast<uint64_t>(context_->uc_mcontext.gregs[REG_EFL]); }
  void set_flags(uint64_t flags) { context_->uc_mcontext.gregs[REG_EFL] = static_cast<greg_t>(flags); }
  // Where the kernel saved the vector registers, as XSAVE does; null where it did not.
  uint8_t* vectors() const { return reinterpret_cast<uint8_t*>(context_->uc_mcontext.fpregs); }
  // After its next instruction the thread gets SIGTRAP.
  bool trap_flag() const { return (context_->uc_mcontext.gregs[REG_EFL] & kTrapFlag) != 0; }
  void set_trap_flag(bool on) {
    auto& flags = context_->uc_mcontext.gregs[REG_EFL];
    flags = on ? flags | kTrapFlag : flags & ~kTrapFlag;
  }
  // Bit 1 of the page fault's error code: Intel SDM volume 3, 4.7.
  bool is_write() const { return (context_->uc_mcontext.gregs[REG_ERR] & 2) != 0; }
#elif defined(__aarch64__)
  uintptr_t pc() const { return context_->uc_mcontext.pc; }
  void resume_at(uintptr_t pc, uintptr_t argument) {
    context_->uc_mcontext.pc = pc;
    context_->uc_mcontext.regs[4] = argument;
  }
  // For register_trap_inside.cc, which compiles here and has nothing to do: no registers are trapped, and no step is made.
  uint64_t general(unsigned number) const { return context_->uc_mcontext.regs[number]; }
  void set_general(unsigned number, uint64_t value) { context_->uc_mcontext.regs[number] = value; }
  bool trap_flag() const { return false; }
  void set_trap_flag(bool) {}
  // WnR, bit 6 of the syndrome of a data abort, in the record the kernel adds to the frame (asm/sigcontext.h).
  bool is_write() const {
    constexpr uint32_t kEsrMagic = 0x45535201;
    // Bytes in glibc, long doubles in musl.
    const uint8_t* record = reinterpret_cast<const uint8_t*>(context_->uc_mcontext.__reserved);
    for (;;) {
      const uint32_t magic = reinterpret_cast<const uint32_t*>(record)[0];
      const uint32_t size = reinterpret_cast<const uint32_t*>(record)[1];
      if (magic == kEsrMagic) return (reinterpret_cast<const uint64_t*>(record)[1] & (1u << 6)) != 0;
      if (magic == 0 || size == 0) return false;
      record += size;
    }
  }
#endif

 private:
#if defined(__x86_64__)
  static constexpr greg_t kTrapFlag = 0x100;
  static constexpr int kGeneral[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                       REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
#endif
  ucontext_t* context_;
};

}  // namespace revocable
