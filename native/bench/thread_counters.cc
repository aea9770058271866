#include "bench/thread_counters.h"

#include <linux/perf_event.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace revocable {
namespace {

uint64_t microseconds(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000 + static_cast<uint64_t>(time.tv_usec);
}

int open_event(uint32_t type, uint64_t config, bool user_only) {
  perf_event_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.size = sizeof attributes;
  attributes.type = type;
  attributes.config = config;
  attributes.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  attributes.exclude_kernel = attributes.exclude_hv = user_only ? 1 : 0;
  return static_cast<int>(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
}

// More processors than a cpu_set_t has room for exist.
constexpr size_t kProcessors = 8192;
using Mask = unsigned long[kProcessors / (8 * sizeof(unsigned long))];
constexpr size_t kBitsOfWord = 8 * sizeof(unsigned long);

}  // namespace

ThreadUsage thread_usage() {
  rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return {static_cast<uint64_t>(usage.ru_minflt), static_cast<uint64_t>(usage.ru_majflt), static_cast<uint64_t>(usage.ru_nvcsw),
          static_cast<uint64_t>(usage.ru_nivcsw), microseconds(usage.ru_utime),           microseconds(usage.ru_stime)};
}

Failure perf_open(uint32_t type, uint64_t config, PerfEvent* event) {
  event->user_only = false;
  event->fd = open_event(type, config, false);
  if (event->fd < 0 && (errno == EACCES || errno == EPERM)) {
    event->user_only = true;
    event->fd = open_event(type, config, true);
  }
  return event->fd < 0 ? Failure::from_errno("perf_event_open") : Failure{};
}

Failure perf_read(int fd, double* count) {
  uint64_t values[3] = {};  // count, time enabled, time running
  const ssize_t got = read(fd, values, sizeof values);
  if (got < 0) return Failure::from_errno("read");
  *count = static_cast<double>(values[0]);
  if (values[2] != 0 && values[2] < values[1]) *count *= static_cast<double>(values[1]) / static_cast<double>(values[2]);
  return {};
}

void perf_close(int fd) { close(fd); }

// The system calls themselves: glibc's wrappers want a set of fixed size.
Failure thread_pin(const std::vector<uint32_t>& processors) {
  Mask mask = {};
  for (const uint32_t processor : processors) mask[processor / kBitsOfWord] |= 1ul << (processor % kBitsOfWord);
  return syscall(SYS_sched_setaffinity, 0, sizeof mask, mask) == 0 ? Failure{} : Failure::from_errno("sched_setaffinity");
}

Failure thread_processors(std::vector<uint32_t>* processors) {
  Mask mask = {};
  if (syscall(SYS_sched_getaffinity, 0, sizeof mask, mask) < 0) return Failure::from_errno("sched_getaffinity");
  for (uint32_t processor = 0; processor < kProcessors; ++processor) {
    if ((mask[processor / kBitsOfWord] >> (processor % kBitsOfWord) & 1) != 0) processors->push_back(processor);
  }
  return {};
}

}  // namespace revocable
