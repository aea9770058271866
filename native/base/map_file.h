// Mapping a file over a range that is in use.
#pragma once

#include <cstddef>
#include <cstdint>

namespace revocable {

// Maps `bytes` of the file over [start, start + bytes), with mmap(2)'s other flags in `flags`. False, with errno set, when the
// kernel or the file's driver refuses: then the range shows what it showed before.
//
// MAP_FIXED alone would not do. It unmaps the range before it asks the driver, and a driver that refuses leaves a hole, which the
// next mmap(2) of any thread may take. So the file is mapped elsewhere first, and moved over the range in one step.
//
// Async-signal-safe.
bool map_file_over(uintptr_t start, size_t bytes, int prot, int flags, int fd, uint64_t offset);

}  // namespace revocable
