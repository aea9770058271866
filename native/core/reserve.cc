#include "core/reserve.h"

#include <sys/mman.h>

#include "base/page.h"

namespace revocable {
namespace {

constexpr size_t kReserveBytes = size_t{64} << 20, kSmallReserveBytes = size_t{256} << 10;

char* map_private(size_t bytes, int prot) {
  void* at = mmap(nullptr, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<char*>(at);
}

}  // namespace

bool reserve_open() {
  if (g_reserve.pages.load() != nullptr) return true;
  size_t bytes = kReserveBytes;
  char* reserve = map_private(bytes, PROT_READ | PROT_WRITE);
  if (reserve == nullptr) reserve = map_private(bytes = kSmallReserveBytes, PROT_READ | PROT_WRITE);
  char* ballast = map_private(kBallast * kPageSize, PROT_NONE);
  if (reserve == nullptr || ballast == nullptr) return false;
  for (size_t i = 0; i < kBallast; i += 2) mprotect(ballast + i * kPageSize, kPageSize, PROT_READ);
  g_reserve.bytes.store(bytes);
  g_reserve.ballast.store(ballast, std::memory_order_release);
  g_reserve.pages.store(reserve, std::memory_order_release);
  return true;
}

}  // namespace revocable
