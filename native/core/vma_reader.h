// Which mappings does the kernel see at an address: the "look the VMA up again under the lock" of revoke_mappings.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/failure.h"

namespace revocable {

struct Vma {
  uintptr_t start, end;
  int prot;
  bool shared;
  uint64_t offset;
  uint64_t inode;  // 0 for anonymous memory
  uint32_t major, minor;
};

// One lookup is one PROCMAP_QUERY where the kernel has it (Linux 6.11). Elsewhere begin() parses /proc/self/maps once and the
// lookups that follow see that snapshot, which holds what overlaps open mappings, and the given range; so call begin() again
// after the registry lock has been let go. All of it under that lock.
class VmaReader {
 public:
  // Opens what begin() and find() read, once, while there still are descriptors.
  static Failure open();

  Failure begin(uintptr_t also_start = 0, uintptr_t also_end = 0);
  // False when the kernel could not be asked: what is mapped where must then be taken from the library's own records.
  bool usable() const { return usable_; }
  // The first VMA that ends after `address`: the one that covers it, or the next one. False when there is none.
  bool find(uintptr_t address, Vma* vma) const;

 private:
  size_t take_lines(char* text, size_t length);
  bool is_wanted(const Vma& vma) const;

  bool usable_ = true;
  uintptr_t also_start_ = 0, also_end_ = 0;
};

}  // namespace revocable
