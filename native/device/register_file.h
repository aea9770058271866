// Registers as data sheets describe them, as a model in C++: each has an offset, a width, a value and what reading and writing
// do. Calls of the model run in the fault handler: see the rules at the top of handler_inside.cc. Values are atomic, so the
// device's own code may look at them and set them at any time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "device/register_port.h"

namespace revocable {

// In the order of REGISTER_KINDS in src/native/enums.ts.
enum class RegisterKind : uint8_t {
  read_write,
  read_only,
  write_one_to_clear,  // of status bits, which the device sets
  write_one_to_set,
  read_to_clear,  // a read takes the value and leaves 0; writes go nowhere
  counter,        // each access that reads any of its bytes counts one up, after it; a write sets it
  write_only,     // reads as if there were no register
  read_to_set,    // a read takes the value and leaves ones; writes go nowhere
  write_to_clear  // whatever is written leaves 0
};

struct RegisterSpec {
  uint64_t offset = 0;
  uint32_t width = 4;
  RegisterKind kind = RegisterKind::read_write;
  uint64_t value = 0;
  // JavaScript is called when it is read, or written.
  bool asks_reads = false, asks_writes = false;
};

// As many bytes of ones, at most 8.
inline uint64_t ones(uint64_t bytes) { return bytes >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1; }

class RegisterFile {
 public:
  // Sorted by offset, and apart from each other. What none of them covers reads as `unlisted`, 0x00 or 0xff.
  RegisterFile(const std::vector<RegisterSpec>& specs, uint8_t unlisted);

  const RegisterModel* model() const { return &model_; }
  // The file whose model it is; null for another.
  static const RegisterFile* of(const RegisterModel* model);
  // Whether JavaScript is called for any access; for this one. Async-signal-safe.
  bool asks() const { return asks_; }
  bool asks(uint64_t offset, unsigned bytes, bool reads, bool writes) const;
  size_t count() const { return count_; }
  // Of the register with that number, without the effects of an access.
  uint64_t value(size_t index) const;
  void set_value(size_t index, uint64_t value) { cells_[index].value.store(value); }

 private:
  struct Cell {
    uint64_t offset = 0;
    uint32_t width = 0;
    RegisterKind kind = RegisterKind::read_write;
    bool asks_reads = false, asks_writes = false;
    std::atomic<uint64_t> value{0};
  };

  static uint64_t read(void* context, uint64_t offset, uint32_t width);
  static void write(void* context, uint64_t offset, uint32_t width, uint64_t value);
  size_t first_reaching(uint64_t offset) const;

  const std::unique_ptr<Cell[]> cells_;
  const size_t count_;
  const uint8_t unlisted_;
  bool asks_ = false;
  const RegisterModel model_;
};

}  // namespace revocable
