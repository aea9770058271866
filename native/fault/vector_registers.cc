// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "fault/vector_registers.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstddef>
#include <cstring>

namespace revocable {

VectorLayout g_vector_layout;

#if defined(__x86_64__)

namespace {

// Bits of the header's XSTATE_BV, which are the numbers of components.
constexpr uint64_t kSse = 1 << 1, kAvx = 1 << 2, kZmmHigh = 1 << 6;
constexpr size_t kControl = 24, kXmm = 160, kHeader = 512;
// The kernel's own in the legacy area: struct _fpx_sw_bytes.
constexpr size_t kMagic = 464, kFeatures = 472;
constexpr uint32_t kExtended = 0x46505853;
constexpr size_t kRegisters = 16, kHalf = 16, kZmmHalf = 32;

uint32_t offset_of_component(unsigned number) {
  unsigned size, offset, flags, unused;
  return __get_cpuid_count(0xd, number, &size, &offset, &flags, &unused) != 0 && size != 0 ? offset : 0;
}

uint64_t bits_of(const uint8_t* image) {
  uint64_t bits;
  memcpy(&bits, image + kHeader, sizeof bits);
  return bits;
}

}  // namespace

void find_vector_registers() { g_vector_layout = {offset_of_component(2), offset_of_component(6)}; }

bool VectorRegisters::is_extended() const {
  uint32_t magic;
  memcpy(&magic, image_ + kMagic, sizeof magic);
  return magic == kExtended;
}

bool VectorRegisters::has_ymm() const {
  if (!has_xmm() || !is_extended() || g_vector_layout.ymm == 0) return false;
  uint64_t features;
  memcpy(&features, image_ + kFeatures, sizeof features);
  return (features & kAvx) != 0;
}

// Without an extended image there is no header, and the legacy area is all there is.
bool VectorRegisters::in_use(uint64_t component) const {
  return is_extended() ? (bits_of(image_) & component) != 0 : component == kSse;
}

void VectorRegisters::begin_use(uint64_t component, uint32_t offset) {
  if (in_use(component)) return;
  memset(image_ + offset, 0, kRegisters * kHalf);
  const uint64_t bits = bits_of(image_) | component;
  memcpy(image_ + kHeader, &bits, sizeof bits);
}

void VectorRegisters::get_low(unsigned number, uint8_t* bytes) const {
  if (in_use(kSse)) memcpy(bytes, image_ + kXmm + number * kHalf, kHalf);
  else memset(bytes, 0, kHalf);
}

void VectorRegisters::get_high(unsigned number, uint8_t* bytes) const {
  if (in_use(kAvx)) memcpy(bytes, image_ + g_vector_layout.ymm + number * kHalf, kHalf);
  else memset(bytes, 0, kHalf);
}

void VectorRegisters::set_low(unsigned number, const uint8_t* bytes) {
  begin_use(kSse, kXmm);
  memcpy(image_ + kXmm + number * kHalf, bytes, kHalf);
}

void VectorRegisters::set_whole(unsigned number, const uint8_t* bytes) {
  set_low(number, bytes);
  set_high(number, bytes + kHalf);
  if (g_vector_layout.zmm != 0 && in_use(kZmmHigh)) memset(image_ + g_vector_layout.zmm + number * kZmmHalf, 0, kZmmHalf);
}

// Zeros do not begin the use: upper halves in use make instructions without VEX slower.
void VectorRegisters::set_high(unsigned number, const uint8_t* bytes) {
  constexpr uint8_t kZeros[kHalf] = {};
  if (!in_use(kAvx) && memcmp(bytes, kZeros, kHalf) == 0) return;
  begin_use(kAvx, g_vector_layout.ymm);
  memcpy(image_ + g_vector_layout.ymm + number * kHalf, bytes, kHalf);
}

uint32_t VectorRegisters::control() const {
  uint32_t value;
  memcpy(&value, image_ + kControl, sizeof value);
  return value;
}

void VectorRegisters::set_control(uint32_t value) { memcpy(image_ + kControl, &value, sizeof value); }

#else

void find_vector_registers() {}

#endif

}  // namespace revocable
