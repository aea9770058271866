// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "instruction/vector_registers.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstddef>
#include <cstring>

namespace revocable {

VectorLayout g_vector_layout;

#if defined(__x86_64__)

namespace {

constexpr size_t kControl = 24, kXmm = 160, kHeader = 512;
// The kernel's own in the legacy area: struct _fpx_sw_bytes. The second magic is behind the image.
constexpr size_t kMagic = 464, kFeatures = 472, kImageBytes = 480;
constexpr uint32_t kExtended = 0x46505853, kExtendedEnd = 0x46505845;
constexpr size_t kHalf = 16, kZmm = 64;
constexpr unsigned kRegisters = 16;

uint32_t offset_of_component(unsigned number) {
  unsigned size, offset, flags, unused;
  return __get_cpuid_count(0xd, number, &size, &offset, &flags, &unused) != 0 && size != 0 ? offset : 0;
}

template <typename Number>
Number number_at(const uint8_t* at) {
  Number number;
  memcpy(&number, at, sizeof number);
  return number;
}

// Without an extended image there is no header, and the legacy area is all there is.
bool is_extended(const uint8_t* image) {
  if (number_at<uint32_t>(image + kMagic) != kExtended) return false;
  return number_at<uint32_t>(image + number_at<uint32_t>(image + kImageBytes)) == kExtendedEnd;
}

bool is_zero(const uint8_t* bytes, size_t count) {
  while (count > 0 && bytes[count - 1] == 0) --count;
  return count == 0;
}

}  // namespace

// As many bytes of each of its registers, one behind the other. Its bit in the header is its number.
struct VectorRegisters::Component {
  uint64_t bit;
  size_t offset, bytes, registers;

  static Component xmm() { return {1 << 1, kXmm, kHalf, kRegisters}; }
  static Component ymm() { return {1 << 2, g_vector_layout.ymm, kHalf, kRegisters}; }  // bytes 16 to 31
  static Component masks() { return {1 << 5, g_vector_layout.masks, 8, 8}; }
  static Component zmm() { return {1 << 6, g_vector_layout.zmm, kZmm / 2, kRegisters}; }  // bytes 32 to 63
  static Component more_zmm() { return {1 << 7, g_vector_layout.more_zmm, kZmm, kRegisters}; }
};

void find_vector_registers() {
  g_vector_layout = {offset_of_component(2), offset_of_component(6), offset_of_component(7), offset_of_component(5)};
}

bool VectorRegisters::has(const Component& component) const {
  if (!has_xmm() || !is_extended(image_) || component.offset == 0) return false;
  if ((number_at<uint64_t>(image_ + kFeatures) & component.bit) == 0) return false;
  return component.offset + component.bytes * component.registers <= number_at<uint32_t>(image_ + kImageBytes);
}

bool VectorRegisters::has_ymm() const { return has(Component::ymm()); }

bool VectorRegisters::has_zmm() const {
  return has_ymm() && has(Component::zmm()) && has(Component::more_zmm()) && has(Component::masks());
}

bool VectorRegisters::in_use(const Component& component) const {
  if (!is_extended(image_)) return component.offset == kXmm;
  return (number_at<uint64_t>(image_ + kHeader) & component.bit) != 0;
}

void VectorRegisters::get_part(const Component& component, unsigned number, uint8_t* bytes) const {
  if (in_use(component)) memcpy(bytes, image_ + component.offset + number * component.bytes, component.bytes);
  else memset(bytes, 0, component.bytes);
}

// Zeros do not begin the use: upper halves in use make instructions without VEX slower.
void VectorRegisters::set_part(const Component& component, unsigned number, const uint8_t* bytes) {
  if (!in_use(component)) {
    if (is_zero(bytes, component.bytes)) return;
    memset(image_ + component.offset, 0, component.bytes * component.registers);
    const uint64_t bits = number_at<uint64_t>(image_ + kHeader) | component.bit;
    memcpy(image_ + kHeader, &bits, sizeof bits);
  }
  memcpy(image_ + component.offset + number * component.bytes, bytes, component.bytes);
}

void VectorRegisters::get(unsigned number, unsigned width, uint8_t* bytes) const {
  if (number >= kRegisters) {
    uint8_t whole[kZmm];
    get_part(Component::more_zmm(), number - kRegisters, whole);
    memcpy(bytes, whole, width);
    return;
  }
  get_part(Component::xmm(), number, bytes);
  if (width > kHalf) get_part(Component::ymm(), number, bytes + kHalf);
  if (width == kZmm) get_part(Component::zmm(), number, bytes + 2 * kHalf);
}

void VectorRegisters::set_low(unsigned number, const uint8_t* bytes) { set_part(Component::xmm(), number, bytes); }

void VectorRegisters::set_whole(unsigned number, const uint8_t* bytes) {
  if (number >= kRegisters) return set_part(Component::more_zmm(), number - kRegisters, bytes);
  set_low(number, bytes);
  set_part(Component::ymm(), number, bytes + kHalf);
  if (has(Component::zmm())) set_part(Component::zmm(), number, bytes + 2 * kHalf);
}

uint64_t VectorRegisters::mask(unsigned number) const {
  uint8_t bytes[8];
  get_part(Component::masks(), number, bytes);
  return number_at<uint64_t>(bytes);
}

uint32_t VectorRegisters::control() const { return number_at<uint32_t>(image_ + kControl); }

void VectorRegisters::set_control(uint32_t value) { memcpy(image_ + kControl, &value, sizeof value); }

#else

void find_vector_registers() {}

#endif

}  // namespace revocable
