#include "device/register_file.h"

namespace revocable {

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

// A counter has run over into the bits above its width, which are never read.
uint64_t RegisterFile::value(size_t index) const { return cells_[index].value.load() & ones(cells_[index].width); }

}  // namespace revocable
