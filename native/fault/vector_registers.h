// The vector registers of the code that a signal interrupted, where the kernel has saved them: the XSAVE image of the signal's
// frame, from which it restores them when the handler returns.
//
// Intel SDM volume 1, chapter 13; <asm/sigcontext.h>. A component whose bit in the header is clear is in its initial state,
// zeros, whatever its bytes are. Async-signal-safe, but for find_vector_registers().
#pragma once

#include <cstdint>

#include "fault/machine_context.h"

namespace revocable {

// Where an image has the upper halves of ymm and of zmm. 0: the processor has none, or nobody has asked it.
struct VectorLayout {
  uint32_t ymm = 0, zmm = 0;
};
extern VectorLayout g_vector_layout;

// Asks the processor, which in a virtual machine takes far longer than a fault. Normal code, before the handlers are installed.
void find_vector_registers();

#if defined(__x86_64__)

class VectorRegisters {
 public:
  explicit VectorRegisters(const MachineContext& machine) : image_(machine.vectors()) {}

  bool has_xmm() const { return image_ != nullptr; }
  bool has_ymm() const;

  // The lower 16 bytes of a register, and the next 16.
  void get_low(unsigned number, uint8_t* bytes) const;
  void get_high(unsigned number, uint8_t* bytes) const;
  // Keeps what is above them, as instructions without VEX do.
  void set_low(unsigned number, const uint8_t* bytes);
  // Of 32 bytes. Clears what is above them, as instructions with VEX do.
  void set_whole(unsigned number, const uint8_t* bytes);

  uint32_t control() const;  // MXCSR
  void set_control(uint32_t value);

 private:
  bool is_extended() const;
  bool in_use(uint64_t component) const;
  void begin_use(uint64_t component, uint32_t offset);
  void set_high(unsigned number, const uint8_t* bytes);
  uint8_t* image_;
};

#endif

}  // namespace revocable
