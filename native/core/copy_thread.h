// Copies that may have to wait for a page: on threads of their own, so that the event loop goes on and can supply it.
//
// Not on libuv's pool: four copies that wait there would keep out the file reads that the device needs to supply their pages.
#pragma once

#include <functional>

#include "base/failure.h"

namespace revocable {

// Runs `job` on one of up to 256 threads; jobs beyond that wait their turn. The thread dies of no fault: SIGBUS and SIGSEGV are
// open in it. EAGAIN when there can be no thread at all.
Failure run_on_copy_thread(std::function<void()> job);

}  // namespace revocable
