#include "core/status_table.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/memfd.h"

namespace revocable {
namespace {

int g_fd = -1;
std::atomic<uint32_t>* g_words = nullptr;

}  // namespace

Failure status_table_open() {
  if (g_words != nullptr) return {};
  const int fd = memfd("revocable-status");
  if (fd < 0) return Failure::from_errno("memfd_create");
  void* at = MAP_FAILED;
  if (ftruncate(fd, kStatusBytes) == 0) at = mmap(nullptr, kStatusBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) {
    const Failure failure = Failure::from_errno("mmap");
    close(fd);
    return failure;
  }
  g_fd = fd;
  g_words = static_cast<std::atomic<uint32_t>*>(at);
  g_words[kClosedSlot].store(static_cast<uint32_t>(State::closed), std::memory_order_relaxed);
  return {};
}

std::atomic<uint32_t>* status_words() { return g_words; }

uint32_t take_sink() {
  static std::atomic<uint32_t> taken{0};
  return kStatusSlots + (taken.fetch_add(1, std::memory_order_relaxed) % kSinkThreads) * kSinkStride;
}

int status_table_fd() { return g_fd; }

}  // namespace revocable
