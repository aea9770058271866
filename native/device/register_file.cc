#include "device/register_file.h"

#include <algorithm>

namespace revocable {
namespace {

uint64_t ones(uint64_t bytes) { return bytes >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1; }

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

RegisterFile::RegisterFile(const std::vector<RegisterSpec>& specs, uint8_t unlisted)
    : cells_(new Cell[specs.size()]), count_(specs.size()), unlisted_(unlisted), model_{read, write, this} {
  for (size_t i = 0; i < count_; ++i) {
    cells_[i].offset = specs[i].offset;
    cells_[i].width = specs[i].width;
    cells_[i].kind = specs[i].kind;
    cells_[i].asks_reads = specs[i].asks_reads;
    cells_[i].asks_writes = specs[i].asks_writes;
    asks_ = asks_ || specs[i].asks_reads || specs[i].asks_writes;
    cells_[i].value.store(specs[i].value & ones(specs[i].width), std::memory_order_relaxed);
  }
}

const RegisterFile* RegisterFile::of(const RegisterModel* model) {
  return model != nullptr && model->read == read ? static_cast<const RegisterFile*>(model->context) : nullptr;
}

bool RegisterFile::asks(uint64_t offset, unsigned bytes, bool reads, bool writes) const {
  if (!asks_) return false;
  for (size_t i = first_reaching(offset); i < count_ && cells_[i].offset < offset + bytes; ++i) {
    if ((reads && cells_[i].asks_reads) || (writes && cells_[i].asks_writes)) return true;
  }
  return false;
}

// A counter has run over into the bits above its width, where nobody looks.
uint64_t RegisterFile::value(size_t index) const { return cells_[index].value.load() & ones(cells_[index].width); }

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
