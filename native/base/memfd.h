// Creating memfds, and the two that revocation needs for as long as the process lives.
#pragma once

#include <sys/types.h>

#include "base/failure.h"

namespace revocable {

// memfd_create(2), close-on-exec, sealable, not executable where the kernel knows how. Returns -1 and sets errno.
int memfd(const char* name, unsigned extra_flags = 0);

// Adds seals to a memfd that is not mapped. F_SEAL_WRITE waits until no other part of the kernel (compaction, a scanner of pages)
// has a reference to a page of it, and fails with EBUSY after some 150 ms: it is tried again, for about three seconds.
Failure add_seals(int fd, int seals);

// The tombstone, `/memfd:revoked`: zero bytes long and sealed against growing, shrinking and further seals. Mapping it over
// a range makes every access there SIGBUS and every system call on it EFAULT: what revoked_filp is in revoke_mappings.
// It is not sealed against writing, because a shared writable mapping of it (the replaced one may have been writable)
// would then be refused with EPERM.
int tombstone_fd();

// A sparse file of zeros with one offset for every user-space address: what a fill is made of where private memory is
// refused (RLIMIT_DATA, overcommit). The fill of a range sits at the offset equal to its address, so no two ranges share pages.
int zero_fill_fd();

// 2 MiB of 0xff, mapped privately as often as needed: what a PCI read of an absent device returns.
int ones_fill_fd();
inline constexpr size_t kOnesWindow = size_t{2} << 20;

// Opens all of them. Safe to call again.
Failure revocation_files_open();

}  // namespace revocable
