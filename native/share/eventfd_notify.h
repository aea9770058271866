// Signals eventfds of other processes, which may have filled them, and may change their mode at any time.
#pragma once

namespace revocable {

// Adds one; where the counter is at its end it stays there. Never waits for room, and leaves the mode as it is: the kernel
// signals the eventfd, as the completion of an asynchronous read of nothing. Where a process may have no such reads (aio-max-nr,
// a filter of system calls) it is written to, with O_NONBLOCK set before, which its owner could take away in between. What is no
// eventfd is left alone.
void eventfd_notify(int fd);

}  // namespace revocable
