// The vector registers of the code that a signal interrupted, where the kernel has saved them: the XSAVE image of the signal's
// frame, from which it restores them when the handler returns.
//
// Intel SDM volume 1, chapter 13; <asm/sigcontext.h>. A component whose bit in the header is clear is in its initial state,
// zeros, whatever its bytes are. Async-signal-safe, but for find_vector_registers(). Nothing here runs an instruction that the
// processor might lack: registers are bytes of the image.
#pragma once

#include <cstdint>

#include "instruction/machine_context.h"

namespace revocable {

// Where an image has the upper halves of ymm, those of zmm, the registers zmm16 to zmm31, and the masks k0 to k7. 0: the
// processor has none, or has not been asked.
struct VectorLayout {
  uint32_t ymm = 0, zmm = 0, more_zmm = 0, masks = 0;
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
  bool has_zmm() const;  // and masks, and 32 registers

  // The lower `width` bytes of a register: 16, 32 or 64.
  void get(unsigned number, unsigned width, uint8_t* bytes) const;
  // 16 bytes. Keeps what is above them, as instructions without VEX do.
  void set_low(unsigned number, const uint8_t* bytes);
  // All 64 bytes of a register, as instructions with VEX and EVEX do, as far as there are so many.
  void set_whole(unsigned number, const uint8_t* bytes);
  uint64_t mask(unsigned number) const;

  uint32_t control() const;  // MXCSR
  void set_control(uint32_t value);

 private:
  struct Component;
  bool has(const Component& component) const;
  bool in_use(const Component& component) const;
  void get_part(const Component& component, unsigned number, uint8_t* bytes) const;
  void set_part(const Component& component, unsigned number, const uint8_t* bytes);
  uint8_t* image_;
};

#endif

}  // namespace revocable
