#include "base/features.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/linux_abi.h"
#include "base/page.h"

namespace revocable {
namespace {

bool switched_off(const char* name) {
  const char* list = getenv("REVOCABLE_MMAP_WITHOUT");
  const size_t length = strlen(name);
  for (const char* at = list; at != nullptr && *at != '\0';) {
    const char* end = strchrnul(at, ',');
    if (static_cast<size_t>(end - at) == length && strncmp(at, name, length) == 0) return true;
    at = *end == ',' ? end + 1 : end;
  }
  return false;
}

bool probe_procmap_query() {
  const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  abi::procmap_query query{};
  query.size = sizeof query;
  query.query_flags = abi::kCoveringOrNextVma;
  query.query_addr = reinterpret_cast<uintptr_t>(&kPageSize);
  const bool works = ioctl(fd, abi::kProcmapQuery, &query) == 0;
  close(fd);
  return works;
}

bool probe_futex_waitv() {
  // An empty vector is refused with EINVAL where the call exists, with ENOSYS (or a sandbox's EPERM) where it does not.
  return syscall(abi::kSysFutexWaitv, nullptr, 0, 0, nullptr, 0) == -1 && errno == EINVAL;
}

bool probe_guard() {
  void* page = mmap(nullptr, kPageSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  const bool works = madvise(page, kPageSize, abi::kMadvGuardInstall) == 0;
  munmap(page, kPageSize);
  return works;
}

Features probe() {
  return {
      .procmap_query = !switched_off("procmap-query") && probe_procmap_query(),
      .futex_waitv = !switched_off("futex-waitv") && probe_futex_waitv(),
      .guard = !switched_off("guard") && probe_guard(),
      .userfaultfd = !switched_off("userfaultfd"),
      .userfaultfd_wp = !switched_off("userfaultfd-wp"),
      .register_traps = !switched_off("register-traps"),
      .single_step = !switched_off("single-step"),
  };
}

}  // namespace

const Features& features() {
  static const Features found = probe();
  return found;
}

}  // namespace revocable
