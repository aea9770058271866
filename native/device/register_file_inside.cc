// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "device/register_file.h"

#include <algorithm>

namespace revocable {
namespace {

// The bytes that an access and a register have in common: where they begin in each, in bits, and a mask of their number.
struct Overlap {
  unsigned in_access, in_register;
  uint64_t mask;
  Overlap(uint64_t offset, uint32_t width, uint64_t at, uint32_t bytes) {
    const uint64_t from = std::max(offset, at), to = std::min(offset + width, at + bytes);
    in_access = static_cast<unsigned>(8 * (from - offset));
    in_register = static_cast<unsigned>(8 * (from - at));
    mask = ones(to - from);
  }
  uint64_t register_mask() const { return mask << in_register; }
};

}  // namespace

bool RegisterFile::asks(uint64_t offset, unsigned bytes, bool reads, bool writes) const {
  if (!asks_) return false;
  for (size_t i = first_reaching(offset); i < count_ && cells_[i].offset < offset + bytes; ++i) {
    if ((reads && cells_[i].asks_reads) || (writes && cells_[i].asks_writes)) return true;
  }
  return false;
}

// The first register that ends behind `offset`.
size_t RegisterFile::first_reaching(uint64_t offset) const {
  size_t low = 0, high = count_;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (cells_[middle].offset + cells_[middle].width <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

uint64_t RegisterFile::read(void* context, uint64_t offset, uint32_t width) {
  const auto* self = static_cast<RegisterFile*>(context);
  uint64_t result = self->unlisted_ == 0 ? 0 : ones(width);
  for (size_t i = self->first_reaching(offset); i < self->count_ && self->cells_[i].offset < offset + width; ++i) {
    Cell& cell = self->cells_[i];
    if (cell.kind == RegisterKind::write_only) continue;
    const Overlap common(offset, width, cell.offset, cell.width);
    uint64_t value;
    switch (cell.kind) {
      case RegisterKind::read_to_clear: value = cell.value.fetch_and(~common.register_mask()); break;
      case RegisterKind::read_to_set: value = cell.value.fetch_or(common.register_mask()); break;
      case RegisterKind::counter: value = cell.value.fetch_add(1); break;
      default: value = cell.value.load();
    }
    result &= ~(common.mask << common.in_access);
    result |= ((value >> common.in_register) & common.mask) << common.in_access;
  }
  return result;
}

void RegisterFile::write(void* context, uint64_t offset, uint32_t width, uint64_t value) {
  const auto* self = static_cast<RegisterFile*>(context);
  for (size_t i = self->first_reaching(offset); i < self->count_ && self->cells_[i].offset < offset + width; ++i) {
    Cell& cell = self->cells_[i];
    const Overlap common(offset, width, cell.offset, cell.width);
    const uint64_t bits = ((value >> common.in_access) & common.mask) << common.in_register;
    switch (cell.kind) {
      case RegisterKind::read_only:
      case RegisterKind::read_to_clear:
      case RegisterKind::read_to_set: break;
      case RegisterKind::write_to_clear: cell.value.fetch_and(~common.register_mask()); break;
      case RegisterKind::write_one_to_clear: cell.value.fetch_and(~bits); break;
      case RegisterKind::write_one_to_set: cell.value.fetch_or(bits); break;
      case RegisterKind::counter:
      case RegisterKind::write_only:
      case RegisterKind::read_write: {
        uint64_t old = cell.value.load();
        while (!cell.value.compare_exchange_weak(old, (old & ~common.register_mask()) | bits)) {
        }
        break;
      }
    }
  }
}

}  // namespace revocable
