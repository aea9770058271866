// Which thread, of which process, lives that has put a number of its own into shared memory: it holds the kernel's lock of one
// byte of the file, far beyond its end, and the kernel releases that when the thread's descriptor is closed or the process dies.
// It needs no process id, so it holds across pid namespaces (docs/decisions/011-dead-owners.md).
#pragma once

#include <cstdint>

#include "base/failure.h"

namespace revocable {

// Numbers are 1 to this: two bits of a word are left for its user.
inline constexpr uint32_t kMostOwner = 0x3fffffff;

// A descriptor of the file of `object_fd` that shares its locks with no other one, and the number of which it holds the lock; to
// be closed by the caller, which ends the owner. EACCES where the file's mode does not let this process open it; EINVAL where it
// is no regular file.
Failure owner_open(int object_fd, int* fd, uint32_t* owner);

// Asks with a descriptor of owner_open. True for an owner that lives, also one that has just begun or that is this one.
bool owner_lives(int fd, uint32_t self, uint32_t owner);

}  // namespace revocable
