// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "fault/probe.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/page.h"

namespace revocable {

// rt_sigprocmask copies its second argument from user
// memory (EFAULT) before it refuses the first one (EINVAL), and does nothing.
bool readable(uintptr_t address) {
  constexpr int kNoSuchHow = 0x7fff;
  return syscall(SYS_rt_sigprocmask, kNoSuchHow, round_down(address, kPageSize), nullptr, 8) != 0 && errno == EINVAL;
}

// mincore(2) says ENOMEM of a hole.
bool mapped(uintptr_t address) {
  unsigned char resident;
  return mincore(reinterpret_cast<void*>(round_down(address, kPageSize)), kPageSize, &resident) == 0;
}

}  // namespace revocable
