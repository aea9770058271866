#include "base/features.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <iterator>

#include "base/linux_abi.h"
#include "base/page.h"

namespace revocable {
namespace {

constexpr std::string_view kNames[] = {"procmap-query",  "futex-waitv",    "guard",      "userfaultfd",
                                       "userfaultfd-wp", "register-traps", "single-step"};

// A bit for each of the names. No more than a number is published.
std::atomic<uint32_t> g_off{0};

uint32_t bit_of(std::string_view name) {
  const auto* found = std::find(std::begin(kNames), std::end(kNames), name);
  return found == std::end(kNames) ? 0 : 1u << (found - std::begin(kNames));
}

bool switched_off(std::string_view name) { return (g_off.load(std::memory_order_relaxed) & bit_of(name)) != 0; }

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

void switch_off_features(std::string_view names) {
  uint32_t off = 0;
  for (size_t at = 0; at < names.size();) {
    const size_t end = std::min(names.find(',', at), names.size());
    off |= bit_of(names.substr(at, end - at));
    at = end + 1;
  }
  g_off.store(off, std::memory_order_relaxed);
}

const Features& features() {
  static const Features found = probe();
  return found;
}

}  // namespace revocable
