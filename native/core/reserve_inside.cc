// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "core/reserve.h"

#include <sys/mman.h>

#include "base/page.h"

namespace revocable {

Reserve g_reserve;

bool plug_from_reserve(const Mapping* mapping, uintptr_t page) {
  char* reserve = g_reserve.pages.load(std::memory_order_acquire);
  if (reserve == nullptr || mapping->page_shift != kPageShift) return false;
  const size_t offset = g_reserve.used.fetch_add(kPageSize, std::memory_order_relaxed);
  if (offset >= g_reserve.bytes.load(std::memory_order_relaxed)) return false;
  char* spare = reserve + offset;
  if (mapping->fill == Fill::ones) {
    for (size_t i = 0; i < kPageSize; ++i) const_cast<volatile char*>(spare)[i] = static_cast<char>(0xff);
  }
  return mremap(spare, kPageSize, kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, reinterpret_cast<void*>(page)) != MAP_FAILED;
}

bool drop_ballast(size_t keep) {
  char* ballast = g_reserve.ballast.load(std::memory_order_acquire);
  size_t index = g_reserve.ballast_used.load(std::memory_order_relaxed);
  do {
    if (ballast == nullptr || index + keep >= kBallast) return false;
  } while (!g_reserve.ballast_used.compare_exchange_weak(index, index + 1, std::memory_order_relaxed));
  return munmap(ballast + index * kPageSize, kPageSize) == 0;
}

bool ensure_marks(Mapping* mapping) {
  if (mapping->marks.load(std::memory_order_relaxed) != nullptr) return true;
  if (mapping->pages() <= Mapping::kFewPages) {
    mapping->marks.store(mapping->few_marks, std::memory_order_release);
    return true;
  }
  const size_t bytes = round_up(mapping->pages(), kPageSize);
  void* table = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (table == MAP_FAILED) return false;
  mapping->marks.store(static_cast<std::atomic<PageMark>*>(table), std::memory_order_release);
  return true;
}

}  // namespace revocable
