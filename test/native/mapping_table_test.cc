// The table that the fault handler reads: what it finds, when it forgets, and what concurrent readers may rely on.
// Mappings here are records with made-up addresses; nothing is mapped there.
#include "core/mapping_table.h"

#include <algorithm>
#include <random>
#include <vector>

#include "fixture.h"

using namespace revocable;

namespace {

constexpr uintptr_t kBase = 0x100000000000;

Mapping* publish(uintptr_t start, size_t pages) {
  RegistryLock lock;
  Mapping* mapping = allocate_mapping(start, start + pages * kPageSize);
  static Object object;
  mapping->object = &object;
  mapping->page_shift = kPageShift;
  mapping->handles = 1;
  publish_state(mapping, State::live);
  publish_mapping(mapping);
  reclaim();
  return mapping;
}

void close_record(Mapping* mapping) {
  RegistryLock lock;
  publish_state(mapping, State::closed);
  retire_mapping(mapping);
  mapping->handles = 0;
  release_mapping(mapping);
  reclaim();
}

Mapping* find(uintptr_t address) {
  const ReaderScope scope;
  return find_mapping(address);
}

// Two pages each, one page apart.
uintptr_t place(size_t i) { return kBase + i * 3 * kPageSize; }

}  // namespace

TEST("the table finds each of 5,000 mappings at every one of its bytes and nothing between them") {
  start_library();
  constexpr size_t kCount = 5000;
  std::mt19937 random(check::seed());
  std::vector<size_t> order(kCount);
  for (size_t i = 0; i < kCount; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  std::vector<Mapping*> mappings(kCount);
  for (const size_t i : order) mappings[i] = publish(place(i), 2);
  CHECK(table_sizes().chunks > kCount / TableChunk::kCapacity);
  CHECK_EQ(table_sizes().open_entries, kCount);
  for (size_t i = 0; i < kCount; ++i) {
    const uintptr_t start = place(i), end = start + 2 * kPageSize;
    CHECK(find(start) == mappings[i] && find(start + kPageSize) == mappings[i] && find(end - 1) == mappings[i]);
    CHECK(find(start - 1) == nullptr && find(end) == nullptr);
  }
  CHECK(find(0) == nullptr && find(UINTPTR_MAX) == nullptr);
}

TEST("a full chunk splits wherever the new entry falls") {
  start_library();
  for (const size_t late : {size_t{0}, size_t{1}, size_t{255}, size_t{256}, size_t{257}, size_t{511}, size_t{512}}) {
    const uintptr_t base = kBase + (late + 1) * (uintptr_t{1} << 32);
    std::vector<Mapping*> mappings(TableChunk::kCapacity + 1);
    const auto put = [&](size_t i) { mappings[i] = publish(base + i * 2 * kPageSize, 1); };
    for (size_t i = 0; i < mappings.size(); ++i) {
      if (i != late) put(i);
    }
    put(late);
    for (size_t i = 0; i < mappings.size(); ++i) CHECK_EQ(find(base + i * 2 * kPageSize), mappings[i]);
  }
}

TEST("R12 a closed range stays findable until 1,024 younger ones were closed") {
  start_library();
  Mapping* first = publish(place(0), 2);
  close_record(first);
  for (size_t i = 1; i < 1024; ++i) close_record(publish(place(i), 2));
  CHECK_EQ(find(place(0)), first);
  CHECK_EQ(table_sizes().closed_entries, size_t{1024});
  close_record(publish(place(2000), 2));
  CHECK(find(place(0)) == nullptr);
  CHECK_EQ(table_sizes().closed_entries, size_t{1024});
  CHECK_EQ(table_sizes().open_entries, size_t{0});
}

TEST("a new mapping takes its addresses from every closed range it overlaps") {
  start_library();
  for (size_t i = 0; i < 4; ++i) close_record(publish(kBase + i * 2 * kPageSize, 2));
  {
    RegistryLock lock;
    CHECK(open_mapping_within(kBase, kBase + 8 * kPageSize) == nullptr);
  }
  Mapping* open = publish(kBase + kPageSize, 4);  // overlaps the first three
  for (size_t page = 1; page < 5; ++page) CHECK_EQ(find(kBase + page * kPageSize), open);
  CHECK(find(kBase) == nullptr && find(kBase + 5 * kPageSize) == nullptr);
  CHECK(find(kBase + 6 * kPageSize) != nullptr);
  CHECK_EQ(table_sizes().closed_entries, size_t{1});
  RegistryLock lock;
  CHECK(open_mapping_within(kBase + 4 * kPageSize, kBase + 6 * kPageSize) != nullptr);
  CHECK(open_mapping_within(kBase + 5 * kPageSize, kBase + 6 * kPageSize) == nullptr);
}

TEST("R12 an address that passes from a closed range to a new mapping is findable at every moment") {
  start_library();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> missed{0}, lookups{0};
  publish(kBase, 4);
  close_record(find(kBase));
  Threads reader;
  reader.add([&] {
    while (!stop) {
      if (find(kBase + kPageSize) == nullptr) missed.fetch_add(1);
      lookups.fetch_add(1, std::memory_order_relaxed);
    }
  });
  for (int i = 0; i < check::rounds(100'000); ++i) close_record(publish(kBase, 4));
  EVENTUALLY(lookups.load() > 1000);
  stop = true;
  reader.join();
  CHECK_EQ(missed.load(), uint64_t{0});
}

TEST("a record is recycled only after the reader that could hold it has left") {
  start_library();
  Mapping* old = publish(kBase, 1);
  const uint32_t generation = old->generation;
  {
    const ReaderScope scope;
    REQUIRE(find_mapping(kBase) == old);
    close_record(old);
    publish(kBase, 1);  // pushes it out of the table
    for (int i = 0; i < 10; ++i) CHECK(publish(kBase + static_cast<uintptr_t>(i + 1) * kPageSize, 1) != old);
    CHECK_EQ(old->generation, generation);
    CHECK_EQ(old->start, kBase);
  }
  bool recycled = false;
  for (int i = 0; i < 10; ++i) recycled = recycled || publish(kBase + static_cast<uintptr_t>(i + 100) * kPageSize, 1) == old;
  CHECK(recycled);
  CHECK(old->generation > generation);
}

TEST("a hundred thousand mappings come and go in a bounded number of slots") {
  start_library();
  const int count = check::rounds(100'000);
  for (int i = 0; i < count; ++i) close_record(publish(place(static_cast<size_t>(i)), 2));
  CHECK_EQ(table_sizes().open_entries, size_t{0});
  CHECK(table_sizes().slots_in_use <= 1024 + 8);
}

TEST("readers always find what stays, and never a wrong record, while a writer publishes and retires") {
  start_library();
  constexpr size_t kStable = 1200, kChurning = 300;
  std::vector<Mapping*> stable(kStable);
  for (size_t i = 0; i < kStable; ++i) stable[i] = publish(place(2 * i), 2);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> lookups{0}, missed{0}, wrong{0};
  Threads readers;
  const uint32_t first_seed = check::seed();
  for (uint32_t reader = 0; reader < 2; ++reader) {
    readers.add([&, reader] {
      std::mt19937 random(first_seed + reader);
      while (!stop.load()) {
        const size_t i = random() % kStable;
        if (find(place(2 * i)) != stable[i]) missed.fetch_add(1);
        const uintptr_t address = place(2 * (random() % kChurning) + 1) + random() % (2 * kPageSize);
        const ReaderScope scope;
        const Mapping* mapping = find_mapping(address);
        if (mapping != nullptr && (address < mapping->start || address >= mapping->end)) wrong.fetch_add(1);
        lookups.fetch_add(1);
      }
    });
  }
  std::mt19937 random(first_seed + 100);
  for (int i = 0; i < check::rounds(100'000); ++i) close_record(publish(place(2 * (random() % kChurning) + 1), 1 + random() % 2));
  EVENTUALLY(lookups.load() > 1000);
  stop = true;
  readers.join();
  CHECK_EQ(missed.load(), uint64_t{0});
  CHECK_EQ(wrong.load(), uint64_t{0});
}
