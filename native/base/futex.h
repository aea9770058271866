// Thin futex(2) wrappers. Both are plain system calls, so they may run in a signal handler.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace revocable {

using FutexWord = std::atomic<uint32_t>;

// Words that only threads of this process wait on.
inline long futex_wait_private(const FutexWord* word, uint32_t expected, const timespec* relative) {
  return syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, expected, relative, nullptr, 0);
}
inline long futex_wake_private(const FutexWord* word, int count = INT_MAX) {
  return syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, nullptr, nullptr, 0);
}

// Words in memory that other mappings or processes see too: keyed by the file and offset, not by the address.
inline long futex_wake_shared(const void* word, int count = INT_MAX) {
  return syscall(SYS_futex, word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

}  // namespace revocable
