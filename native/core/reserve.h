// What the handler and revocation fall back on where the kernel refuses every new mapping. Reserved before the first mapping; the
// functions are async-signal-safe but for reserve_open.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/mapping_record.h"

namespace revocable {

// Normal code, one thread at a time. False when there is no memory.
bool reserve_open();

// Pages of last resort. Where RLIMIT_AS is exceeded no mmap succeeds any more, but moving existing pages does. These are moved to
// where an access waits for one, one page at a time. Address space only, until it is used. Under the claim.
bool plug_from_reserve(const Mapping* mapping, uintptr_t page);

// At the limit of mappings (vm.max_map_count) no mmap succeeds, not even one that replaces a mapping by another. The library
// keeps some mappings of no use to give back then: false when no more than `keep` are left.
bool drop_ballast(size_t keep = 0);

// Makes the table of marks if there is none: one byte a page, from the kernel, sparse; of a small mapping in its record. Under
// the claim.
bool ensure_marks(Mapping* mapping);

struct Reserve {
  std::atomic<char*> pages{nullptr};
  std::atomic<size_t> bytes{0};
  std::atomic<size_t> used{0};
  // Pages with every second one protected differently, so that each is a mapping of its own.
  std::atomic<char*> ballast{nullptr};
  std::atomic<size_t> ballast_used{0};
};
extern Reserve g_reserve;
inline constexpr size_t kBallast = 64;

}  // namespace revocable
