// A4: copies and single accesses that come back with the exact place of the fault. The edge is the end of a file that is
// shorter than its mapping; a guarded access leaves it there, since nothing is filled for it.
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "base/processor.h"
#include "fault/guarded_copy.h"
#include "fixture.h"
#include "stepping.h"

using namespace revocable;

namespace {

constexpr size_t kMaxDistance = 130;
constexpr char kUntouched = 0x5a;

char pattern(size_t i) { return static_cast<char>(i * 7 + 13); }

// Three pages that can be touched, then two that cannot.
struct Edge {
  Object* object = foreign_object(3 * kPageSize).object;
  View view = map(object, {.span = 5 * kPageSize});
  char* at = view.at + 3 * kPageSize;
};

bool all(const char* from, size_t bytes, char value) {
  for (size_t i = 0; i < bytes; ++i) {
    if (from[i] != value) return false;
  }
  return true;
}

bool is_pattern(const char* from, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    if (from[i] != pattern(i)) return false;
  }
  return true;
}

// Distances from the edge for a copy of `bytes`: the first 131, and the same beyond one page for large copies.
std::vector<size_t> distances(size_t bytes) {
  std::vector<size_t> found;
  for (size_t base : {size_t{0}, size_t{4096}}) {
    for (size_t d = base; d <= base + kMaxDistance && d < bytes; ++d) found.push_back(d);
  }
  return found;
}

constexpr size_t kSizes[] = {1, 7, 64, 100, 131, 200, 1000, 4095, 4096, 4097, 9000};

enum class Side { source, target };

bool exact(const CopyResult& result, size_t distance, const char* edge, Side side, const char* what) {
  const bool good = result.done == distance && result.fault.address == reinterpret_cast<uintptr_t>(edge) &&
                    result.fault.write == (side == Side::target) && !result.fault.poisoned;
  return check::report(good, __FILE__, __LINE__,
                       std::string(what) + " at distance " + std::to_string(distance) + ": " + std::to_string(result.done) +
                           " bytes, fault at edge" + (result.fault.address >= reinterpret_cast<uintptr_t>(edge) ? "+" : "-") +
                           std::to_string(result.fault.address - reinterpret_cast<uintptr_t>(edge)));
}

}  // namespace

TEST("A4 a copy out of vanishing memory reports every distance exactly") {
  start_library();
  const Edge edge;
  std::vector<char> target(16384);
  for (const size_t bytes : kSizes) {
    for (const size_t distance : distances(bytes)) {
      char* from = edge.at - distance;
      for (size_t i = 0; i < distance; ++i) from[i] = pattern(i);
      for (const size_t shift : {0, 1, 8, 13}) {
        char* to = target.data() + 64 + shift;
        memset(target.data(), kUntouched, target.size());
        exact(guarded_copy(to, from, bytes), distance, edge.at, Side::source, "source");
        CHECK(is_pattern(to, distance));
        CHECK(all(to + distance, bytes + 64 - distance, kUntouched));
        CHECK(all(target.data(), 64 + shift, kUntouched));
      }
    }
  }
}

TEST("A4 a copy into vanishing memory reports every distance exactly") {
  start_library();
  const Edge edge;
  std::vector<char> source(16384);
  for (const size_t bytes : kSizes) {
    for (const size_t distance : distances(bytes)) {
      for (const size_t shift : {0, 1, 8, 13}) {
        char* from = source.data() + shift;
        for (size_t i = 0; i < bytes; ++i) from[i] = pattern(i);
        memset(edge.at - distance - 64, kUntouched, distance + 64);
        exact(guarded_copy(edge.at - distance, from, bytes), distance, edge.at, Side::target, "target");
        CHECK(is_pattern(edge.at - distance, distance));
        CHECK(all(edge.at - distance - 64, 64, kUntouched));
      }
    }
  }
}

TEST("A4 a copy between two mappings stops at the nearer of two edges") {
  start_library();
  const Edge source, target;
  for (size_t a = 0; a <= kMaxDistance; ++a) {
    const size_t b = kMaxDistance - a;
    memset(source.at - a, 1, a);
    const CopyResult result = guarded_copy(target.at - b, source.at - a, 500);
    CHECK_EQ(result.done, std::min(a, b));
    const char* nearer = a <= b ? source.at : target.at;
    if (a == b) continue;
    CHECK_EQ(result.fault.address, reinterpret_cast<uintptr_t>(nearer));
    CHECK_EQ(result.fault.write, b < a);
  }
}

TEST("A4 a copy without a fault is complete, at every size and alignment") {
  start_library();
  const View view = map(owned_object(16 * kPageSize));
  std::vector<char> source(70000), target(70000);
  for (size_t i = 0; i < source.size(); ++i) source[i] = pattern(i);
  for (const size_t bytes : {0, 1, 2, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 65000}) {
    for (const size_t shift : {0, 1, 3, 8, 15}) {
      memset(target.data(), kUntouched, target.size());
      CHECK_EQ(guarded_copy(view.at + shift, source.data(), bytes).done, bytes);
      const CopyResult result = guarded_copy(target.data() + shift, view.at + shift, bytes);
      CHECK_EQ(result.done, bytes);
      CHECK_EQ(result.fault.address, uintptr_t{0});
      CHECK(is_pattern(target.data() + shift, bytes));
      CHECK(all(target.data() + shift + bytes, 64, kUntouched));
    }
  }
}

TEST("A4 copies stop at a page that forbids the access") {
  start_library();
  const View view = map(owned_object(4 * kPageSize));
  char* edge = view.at + 2 * kPageSize;
  char buffer[512] = {};
  CHECK_OK(protect_pages(view.mapping, 2, 1, Access::read));
  exact(guarded_copy(edge - 100, buffer, 200), 100, edge, Side::target, "read-only target");
  CHECK_EQ(guarded_copy(buffer, edge - 100, 200).done, size_t{200});
  CHECK_OK(protect_pages(view.mapping, 2, 1, Access::none));
  exact(guarded_copy(buffer, edge - 100, 200), 100, edge, Side::source, "forbidden source");
}

TEST("A4 of a copy within a page that may only be read, it is the target that fails") {
  start_library();
  const View view = map(owned_object(kPageSize), {.writable = false});
  for (const size_t bytes : kSizes) {
    if (bytes <= 1000) exact(guarded_copy(view.at + 2000, view.at, bytes), 0, view.at + 2000, Side::target, "target");
  }
}

TEST("A4 copies to and from a revoked view transfer nothing") {
  start_library();
  Object* object = owned_object(4 * kPageSize);
  const View view = map(object);
  view.store(0, 42);
  revoke(object);
  char buffer[256];
  memset(buffer, kUntouched, sizeof buffer);
  exact(guarded_copy(buffer, view.at + 5, 200), 0, view.at + 5, Side::source, "revoked source");
  exact(guarded_copy(view.at + 5, buffer, 200), 0, view.at + 5, Side::target, "revoked target");
  CHECK(all(buffer, sizeof buffer, kUntouched));
}

TEST("A4 single loads and stores of every width happen or do not") {
  start_library();
  const Edge edge;
  for (const unsigned width : {1u, 2u, 4u, 8u}) {
    const uint64_t mask = width == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * width)) - 1;
    const uint64_t value = 0xfedcba9876543210;
    char* last = edge.at - width;
    memset(last - 8, kUntouched, 8);
    CHECK(guarded_store(last, width, value));
    CHECK(all(last - 8, 8, kUntouched));
    uint64_t loaded = ~uint64_t{0};
    CHECK(guarded_load(last, width, &loaded));
    CHECK_EQ(loaded, value & mask);
    loaded = 77;
    CHECK(!guarded_load(edge.at, width, &loaded));
    CHECK_EQ(loaded, uint64_t{77});
    CHECK(!guarded_store(edge.at, width, value));
  }
}

TEST("A4 a touch for writing changes nothing, whatever others write there, and fails where a store would") {
  start_library();
  const Edge edge;
  char* last = edge.at - 1;
  *last = 7;
  CHECK(guarded_touch(last));
  CHECK_EQ(*last, char{7});
  AccessFault fault;
  CHECK(!guarded_touch(edge.at, &fault));
  CHECK(fault.any && fault.write && fault.bus);
  CHECK_EQ(fault.address, reinterpret_cast<uintptr_t>(edge.at));
  // Each increment of the other thread is there at the end: the touch writes what is there in the same step.
  auto* counter = reinterpret_cast<std::atomic<uint8_t>*>(last);
  counter->store(0);
  std::atomic<bool> over{false};
  std::thread toucher([&] {
    while (!over) CHECK(guarded_touch(last));
  });
  uint32_t lost = 0;
  for (int i = 0; i < 1'000'000; ++i) lost += counter->fetch_add(1) != static_cast<uint8_t>(i);
  over = true;
  toucher.join();
  CHECK_EQ(lost, 0u);
}

TEST("A4 copies end exactly once while a revocation lands in the middle of them") {
  start_library();
  constexpr size_t kBytes = size_t{256} << 10;
  std::vector<char> target(kBytes);
  for (int round = 0; round < check::rounds(300); ++round) {
    Object* object = owned_object(kBytes);
    View view = map(object);
    memset(view.at, 1, kBytes);
    memset(target.data(), 2, kBytes);
    Threads threads;
    threads.add([&] { revoke(object); });
    const CopyResult result = guarded_copy(target.data(), view.at, kBytes);
    threads.join();
    CHECK(all(target.data(), result.done, 1));
    CHECK(all(target.data() + result.done, kBytes - result.done, 2));
    if (result.done != kBytes) CHECK_EQ(result.fault.address, reinterpret_cast<uintptr_t>(view.at + result.done));
    view.close();
    object_release(object);
  }
}

TEST("A4 wherever between two instructions of a copy its memory goes, it counts exactly what it stored") {
  if (!can_step()) check::skip("no single steps");
  start_library();
  Object* object = owned_object(kPageSize);
  const View gone = map(object), seen = map(object);
  const auto take = [&] { mprotect(gone.at, kPageSize, PROT_NONE); };
  const auto give = [&] { mprotect(gone.at, kPageSize, PROT_READ | PROT_WRITE); };
  char buffer[kPageSize];
  CopyResult copied;
  size_t between = 0;
  // Words and bytes; 64-byte blocks of four stores; blocks of 128 bytes behind an alignment.
  for (const auto& [bytes, shift] : {std::pair<size_t, size_t>{13, 5}, {100, 0}, {200, 5}, {450, 5}}) {
    {
      char* at = gone.at + shift;
      const auto into = [&] { copied = guarded_copy(at, buffer, bytes); };
      const auto out = [&] { copied = guarded_copy(buffer, at, bytes); };
      bool within = true;
      for (size_t instructions = 0; within; ++instructions) {
        // What has been stored is seen in the other mapping.
        for (size_t i = 0; i < bytes; ++i) buffer[i] = static_cast<char>(pattern(i) | 1);
        memset(seen.at, 0, kPageSize);
        within = run_interrupted(instructions, take, into);
        give();
        const bool exactly = memcmp(seen.at + shift, buffer, copied.done) == 0 && all(seen.at, shift, 0) &&
                             all(seen.at + shift + copied.done, kPageSize - shift - copied.done, 0);
        if (!exactly) CHECK_EQ("not " + std::to_string(copied.done), "instructions " + std::to_string(instructions));
        CHECK(copied.done == bytes || copied.fault.address == reinterpret_cast<uintptr_t>(at + copied.done));
        between += copied.done > 0 && copied.done < bytes;
        for (size_t i = 0; i < bytes; ++i) seen.at[shift + i] = pattern(i);
        memset(buffer, kUntouched, sizeof buffer);
        run_interrupted(instructions, take, out);
        give();
        CHECK(is_pattern(buffer, copied.done) && all(buffer + copied.done, sizeof buffer - copied.done, kUntouched));
      }
    }
  }
  CHECK(between > 100);
}

TEST("A4 a guarded copy or access that meets memory of no mapping says so, as a system call would") {
  start_library();
  char* forbidden = own_range(2 * kPageSize) + kPageSize;
  mprotect(forbidden, kPageSize, PROT_NONE);
  char buffer[300] = {};
  exact(guarded_copy(buffer, forbidden - 100, sizeof buffer), 100, forbidden, Side::source, "source");
  exact(guarded_copy(forbidden - 100, buffer, sizeof buffer), 100, forbidden, Side::target, "target");
  CHECK(guarded_copy(nullptr, buffer, 16).fault.any);
  uint64_t value = 5;
  AccessFault fault;
  CHECK(!guarded_load(forbidden + 8, 4, &value, &fault));
  CHECK(fault.any && !fault.write && !fault.bus && fault.address == reinterpret_cast<uintptr_t>(forbidden + 8));
  CHECK(!guarded_store(forbidden + 8, 4, value, &fault));
  CHECK(fault.any && fault.write);
  CHECK_EQ(value, uint64_t{5});
}

#if defined(__x86_64__)
TEST("A4 wide copies are used where the compiler, too, finds AVX") { CHECK_EQ(has_avx(), __builtin_cpu_supports("avx") != 0); }
#endif
