// One thread stopped between two of its instructions: what another thread, or a signal, does in just that moment.
#pragma once

#include <cstddef>
#include <functional>

namespace revocable {

// Whether it can be done here. Not on arm64, nor where the kernel or a sanitizer keeps traps from the process.
bool can_step();

// Runs `body`. When so many of its instructions have run, `interrupt` is called, in a signal handler. False when it had not as
// many.
bool run_interrupted(size_t instructions, const std::function<void()>& interrupt, const std::function<void()>& body);

// The same when it comes to an instruction for the first time: the beginning of a function, where the locks held are known.
bool run_interrupted_at(const void* instruction, const std::function<void()>& interrupt, const std::function<void()>& body);

}  // namespace revocable
