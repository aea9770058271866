#include "share/eventfd_notify.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <mutex>

namespace revocable {
namespace {

// The reads of one process: after fork the child has none.
struct Reads {
  std::mutex lock;
  pid_t owner = 0;
  int empty = -1;  // a file without bytes
  aio_context_t context = 0;
  bool usable = false;
};

// Never destroyed: threads may signal while the process exits.
Reads& reads() {
  static Reads* instance = new Reads;
  return *instance;
}

void open_locked(Reads& r) {
  if (r.owner == getpid()) return;
  r.owner = getpid();
  r.context = 0;
  if (r.empty < 0) r.empty = memfd_create("revocable-empty", MFD_CLOEXEC);
  constexpr unsigned kReads = 8;  // one at a time is under way
  r.usable = r.empty >= 0 && syscall(SYS_io_setup, kReads, &r.context) == 0;
}

// False where it cannot be done so.
bool read_nothing_for(int fd) {
  Reads& r = reads();
  std::lock_guard guard(r.lock);
  open_locked(r);
  if (!r.usable) return false;
  char byte = 0;
  iocb read{};
  read.aio_lio_opcode = IOCB_CMD_PREAD;
  read.aio_fildes = static_cast<uint32_t>(r.empty);
  read.aio_buf = reinterpret_cast<uintptr_t>(&byte);
  read.aio_nbytes = 1;
  read.aio_flags = IOCB_FLAG_RESFD;
  read.aio_resfd = static_cast<uint32_t>(fd);
  iocb* list[] = {&read};
  if (syscall(SYS_io_submit, r.context, 1, list) != 1) return false;
  // A memfd is read in the call. What has completed makes room for the next.
  io_event completed;
  syscall(SYS_io_getevents, r.context, 1, 1, &completed, nullptr);
  return true;
}

}  // namespace

void eventfd_notify(int fd) {
  if (read_nothing_for(fd)) return;
  const int flags = fcntl(fd, F_GETFL);
  if (flags >= 0 && ((flags & O_NONBLOCK) != 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0)) eventfd_write(fd, 1);
}

}  // namespace revocable
