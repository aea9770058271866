// Where the pages of a device's region come from: the vm_ops `fault` and `page_mkwrite`, in user space.
//
// A thread that touches a page of such a mapping for the first time blocks in the kernel (userfault.h). The pager's thread learns
// of it and supplies the page itself, where the device has said what is in it, or asks the device's owner and goes on to the
// next. A page is asked for once a mapping, however many threads wait for it, until it is let go (zap) or the mapping is.
//
// Everything that puts pages into a range, or takes the range away, holds the mapping's claim: an answer that comes after the
// range has been revoked finds the mapping not live, and is discarded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/failure.h"
#include "core/mapping_record.h"
#include "device/device.h"
#include "device/page_supply.h"

namespace revocable {

// Starts what supplies pages. See userfault_open for the errors; ENOTSUP when `write_faults` are wanted and cannot be had.
Failure pager_start(bool write_faults);

// Takes the faults that have come, as the pager's thread does, in the calling thread: an owner whose event loop sees the
// descriptor readable saves being woken by that thread. That one stays: an owner that has touched its own page, or is busy, reads
// nothing.
void pager_take_faults();
// Calls `done` once the faults that had come before this call have been looked at: on the pager's thread, or at once where there
// is none.
void pager_barrier(std::function<void()> done);
// The owner's event loop is about to wait, or has waited: meanwhile the pager's thread lets it go first.
void pager_attended(bool now);

// Registers what has just been mapped in the mapping, without permissions, and then permits `prot`: no thread touches a
// page in between without waiting for the device. Under the claim, or before another thread can know the range.
Failure pager_arm(Mapping* mapping, uintptr_t start, size_t bytes, int prot);

// Around a pager_arm that puts back a page that was diverted: what has been asked for it stays asked. Under the claim.
PageProgress pager_progress(const Mapping* mapping, size_t page);
void pager_put_back(Mapping* mapping, size_t page, PageProgress before);

// The mapping is about to show other pages there: what has been asked for those that it shows is not to be answered, and who
// waits looks again. Under the claim.
void pager_withdraw(Mapping* mapping, size_t first_page, size_t pages);

// The range has been replaced: who waits in it goes on, what has been asked is not to be answered. Under the registry lock and
// the claim.
void pager_let_go(Mapping* mapping);

// Pages that have left the mapping: the next touch asks again. Under the claim.
void pager_forget(Mapping* mapping, size_t first_page, size_t pages);

struct Answer {
  enum class Kind : uint32_t { content, as_it_is, refused, failed, no_answer, present };
  Kind kind = Kind::as_it_is;
  const void* content = nullptr;  // `bytes` of it; the rest of its last page is zeros
  size_t bytes = 0;
};

// Whether the calling thread, which has just read these bytes, read what is there: false where it got the fill, because it would
// have to supply the page itself, or the page was diverted.
bool pager_was_read(uintptr_t address, size_t bytes);

// The owner's answer to a request. False when no thread waits for it any more.
bool pager_answer(uint64_t token, const Answer& answer);
bool pager_is_asked(uint64_t token);

// The owner has gone, or its device: what it was asked is not to be answered. Who waits is woken by the revocation that follows.
void pager_drop_device(const Device& device);

}  // namespace revocable
