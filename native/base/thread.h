// Threads of the library's own.
#pragma once

#include <cstddef>

#include "base/failure.h"

namespace revocable {

// Starts a detached thread with every signal blocked, SIGBUS and SIGSEGV too: it touches no mapping, and a signal that is sent
// to the process while its own threads block it must go on waiting.
Failure start_thread(void* (*body)(void*), void* argument, size_t stack_bytes);

}  // namespace revocable
