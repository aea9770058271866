// userfaultfd(2): the kernel blocks a thread at its first touch of a page and asks this process for the page.
//
// One descriptor for the process, USER_MODE_ONLY, which needs no privilege: a system call that touches a page not yet supplied
// gets EFAULT instead of waiting. Ranges are of memfds, mapped shared, and registered for three kinds of faults: the page is
// nowhere (MISSING), it is in the object but not in this mapping (MINOR), it is here and is written to for the first time (WP).
//
// The order when a range goes: replace what is mapped there, then userfault_wake. A waiter is woken neither by MAP_FIXED nor by
// ftruncate, and closing the descriptor, or unregistering, before the replacement would let it read zeros.
#pragma once

#include <linux/userfaultfd.h>

#include <cstddef>
#include <cstdint>

#include "base/failure.h"

namespace revocable {

// Opens it, unless it is open: EPERM (a sandbox, or the kernel's settings), ENOSYS (none in the kernel), EOPNOTSUPP (a kernel
// without MINOR faults on shared memory, before 5.14), EMFILE, ENOMEM. A failure is not remembered.
Failure userfault_open();
void userfault_close();  // no range has been registered
int userfault_fd();

// Whether first writes can be asked about (Linux 6.4). After userfault_open.
bool userfault_write_protects();

Failure userfault_register(uintptr_t start, size_t bytes, bool write_protect);

// Each answers 0 or an errno; when 0, threads that waited in the range have been woken.
//
// New pages with this content. EEXIST: the object has the first of those left already; `copied` says how many bytes were before
// it.
int userfault_copy(uintptr_t start, const void* content, size_t bytes, bool write_protect, size_t* copied);
// The pages the object has. EEXIST: mapped already. EFAULT: the object has none there.
int userfault_continue(uintptr_t start, size_t bytes, bool write_protect);
int userfault_allow_write(uintptr_t start, size_t bytes);

// Threads that wait in the range look again what is there. Works on any range, registered or not.
void userfault_wake(uintptr_t start, size_t bytes);

}  // namespace revocable
