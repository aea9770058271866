// What the kernel says of an address, asked without a signal. Async-signal-safe.
#pragma once

#include <cstdint>

namespace revocable {

// Whether the page can be read.
bool readable(uintptr_t address);

// Whether anything is mapped there.
bool mapped(uintptr_t address);

}  // namespace revocable
