#include "core/region_table.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "base/memfd.h"
#include "base/page.h"
#include "core/registry.h"
#include "core/vm_ops.h"

namespace revocable {

TableReaders g_table;

namespace {

constexpr size_t kClosedKept = 1024;
constexpr size_t kRegionsPerSlab = 1024;

// Everything the writers own. Allocated once and never destroyed: a handler may run while the process exits.
struct Writer {
  Region* slabs[kStatusSlots / kRegionsPerSlab] = {};
  std::vector<uint32_t> free_slots;
  uint32_t next_slot = kClosedSlot + 1;
  std::deque<Region*> closed;       // in the table, oldest first
  std::vector<void*> garbage[2];    // old chunks and directories, by the parity of the epoch they were retired in
  std::vector<Region*> leaving[2];  // regions that left the table and that nobody has a handle on
  size_t open_entries = 0;
  size_t slots_in_use = 0;
};

Writer& writer() {
  static Writer* instance = new Writer;
  return *instance;
}

uint32_t parity() { return g_table.epoch.load(std::memory_order_relaxed) & 1; }
void discard(void* memory) { writer().garbage[parity()].push_back(memory); }

TableChunk* new_chunk() { return static_cast<TableChunk*>(malloc(sizeof(TableChunk))); }

TableDirectory* new_directory(size_t count) {
  auto* directory = static_cast<TableDirectory*>(malloc(sizeof(TableDirectory) + count * sizeof(TableDirectory::Item)));
  directory->count = count;
  return directory;
}

// Index of the chunk whose range of addresses `address` belongs to: the last one that starts at or before it.
size_t chunk_for(const TableDirectory* directory, uintptr_t address) {
  size_t low = 0, high = directory->count;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    if (directory->items[middle].first <= address) low = middle;
    else high = middle;
  }
  return low;
}

// Publishes a directory in which chunk `index` is replaced by the `count` given chunks (none, one, or the two halves of a split).
void replace_chunk(size_t index, TableChunk* const* chunks, size_t count) {
  TableDirectory* old = g_table.directory.load(std::memory_order_relaxed);
  const size_t old_count = old == nullptr ? 0 : old->count;
  const size_t removed = old_count == 0 ? 0 : 1;
  TableDirectory* fresh = new_directory(old_count - removed + count);
  size_t at = 0;
  for (size_t i = 0; i < index && i < old_count; ++i) fresh->items[at++] = old->items[i];
  for (size_t i = 0; i < count; ++i) fresh->items[at++] = {chunks[i]->entries[0].start, chunks[i]};
  for (size_t i = index + removed; i < old_count; ++i) fresh->items[at++] = old->items[i];
  g_table.directory.store(fresh);  // publishes the chunks to handlers; seq_cst pairs with ReaderScope
  if (old != nullptr) {
    if (removed != 0) discard(old->items[index].chunk);
    discard(old);
  }
}

void insert_entry(const TableEntry& entry) {
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  TableChunk* fresh = new_chunk();
  if (directory == nullptr || directory->count == 0) {
    fresh->count = 1;
    fresh->entries[0] = entry;
    replace_chunk(0, &fresh, 1);
    return;
  }
  const size_t index = chunk_for(directory, entry.start);
  const TableChunk* old = directory->items[index].chunk;
  const TableEntry* begin = old->entries;
  const TableEntry* end = begin + old->count;
  const size_t position = static_cast<size_t>(
      std::lower_bound(begin, end, entry, [](const TableEntry& a, const TableEntry& b) { return a.start < b.start; }) - begin);
  if (old->count < TableChunk::kCapacity) {
    memcpy(fresh->entries, begin, position * sizeof entry);
    fresh->entries[position] = entry;
    memcpy(fresh->entries + position + 1, begin + position, (old->count - position) * sizeof entry);
    fresh->count = old->count + 1;
    replace_chunk(index, &fresh, 1);
    return;
  }
  // Full: split in two halves, the new entry in whichever it belongs to.
  TableChunk* halves[2] = {fresh, new_chunk()};
  const size_t half = TableChunk::kCapacity / 2;
  const auto copy = [&](TableChunk* chunk, size_t from, size_t to) {
    chunk->count = 0;
    for (size_t i = from; i < to; ++i) {
      if (i == position) chunk->entries[chunk->count++] = entry;
      chunk->entries[chunk->count++] = begin[i];
    }
  };
  copy(halves[0], 0, half);
  copy(halves[1], half, old->count);
  if (position == old->count) halves[1]->entries[halves[1]->count++] = entry;
  replace_chunk(index, halves, 2);
}

void remove_entry(const Region* region) {
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  if (directory == nullptr || directory->count == 0) return;
  const size_t index = chunk_for(directory, region->start);
  const TableChunk* old = directory->items[index].chunk;
  TableChunk* fresh = new_chunk();
  fresh->count = 0;
  for (size_t i = 0; i < old->count; ++i) {
    if (old->entries[i].region != region) fresh->entries[fresh->count++] = old->entries[i];
  }
  if (fresh->count == 0) {
    free(fresh);
    replace_chunk(index, nullptr, 0);
  } else {
    replace_chunk(index, &fresh, 1);
  }
}

// Calls visit(region) for each entry that overlaps [start, end), until it returns false.
template <typename Visit>
void for_each_overlap(uintptr_t start, uintptr_t end, Visit visit) {
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  if (directory == nullptr || directory->count == 0) return;
  for (size_t c = chunk_for(directory, start); c < directory->count && directory->items[c].first < end; ++c) {
    const TableChunk* chunk = directory->items[c].chunk;
    for (size_t i = 0; i < chunk->count; ++i) {
      const TableEntry& entry = chunk->entries[i];
      if (entry.start < end && start < entry.end && !visit(entry.region)) return;
    }
  }
}

void recycle(Region* region) {
  if (auto* marks = region->marks.exchange(nullptr); marks == region->few_marks) {
    for (auto& mark : region->few_marks) mark.store(0, std::memory_order_relaxed);
  } else if (marks != nullptr) {
    munmap(marks, round_up(region->pages(), kPageSize));
  }
  if (auto* moved = region->rearranged.exchange(nullptr)) {
    munmap(moved, round_up(region->pages() * sizeof(uint64_t), kPageSize));
  }
  delete region->pieces;
  region->pieces = nullptr;
  region->extent_count = 0;
  if (region->ops != nullptr) region->ops->recycled(region);
  region->ops = nullptr;
  writer().free_slots.push_back(region->slot);
  --writer().slots_in_use;
}

// A closed region leaves the table; its record follows when nobody has a handle on it.
void leave_table(Region* region) {
  remove_entry(region);
  if (region->used_zero_file) {
    fallocate(zero_fill_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(region->start),
              static_cast<off_t>(region->end - region->start));
  }
  region->in_table = false;
  if (region->handles == 0) writer().leaving[parity()].push_back(region);
}

}  // namespace

Region* region_at_slot(uint32_t slot) {
  if (slot == kClosedSlot || slot >= writer().next_slot) return nullptr;
  return &writer().slabs[slot / kRegionsPerSlab][slot % kRegionsPerSlab];
}

Region* region_at_slot_now(uint32_t slot) {
  RegistryLock lock;
  return region_at_slot(slot);
}

Region* allocate_region() {
  Writer& w = writer();
  uint32_t slot;
  if (!w.free_slots.empty()) {
    slot = w.free_slots.back();
    w.free_slots.pop_back();
  } else {
    if (w.next_slot == kStatusSlots) return nullptr;
    slot = w.next_slot++;
    Region*& slab = w.slabs[slot / kRegionsPerSlab];
    if (slab == nullptr) slab = new Region[kRegionsPerSlab];
  }
  ++w.slots_in_use;
  Region* region = region_at_slot(slot);
  region->slot = slot;
  ++region->generation;
  region->filled = region->unfillable = region->used_zero_file = region->weak = region->told = false;
  region->stray_first = region->filled_first = region->lost_first = SIZE_MAX;
  region->stray_last = region->filled_last = region->lost_last = 0;
  region->tail_filled = region->by_pages = region->self_faulted = false;
  region->marked_pages = 0;
  region->fill_prot = 0;
  region->lost_from.store(UINTPTR_MAX, std::memory_order_relaxed);
  region->faults.store(0, std::memory_order_relaxed);
  region->futile.store(0, std::memory_order_relaxed);
  region->retry_tag.store(0, std::memory_order_relaxed);
  region->waits_for_copiers.store(0, std::memory_order_relaxed);
  region->handles = 0;
  region->attaches = 0;
  return region;
}

void forget_region(Region* region) { recycle(region); }

Region* open_region_within(uintptr_t start, uintptr_t end) {
  Region* found = nullptr;
  for_each_overlap(start, end, [&](Region* region) {
    if (region->state.load(std::memory_order_relaxed) != State::closed) found = region;
    return found == nullptr;
  });
  return found;
}

void publish_region(Region* region) {
  std::vector<Region*> stale;
  for_each_overlap(region->start, region->end, [&](Region* old) {
    stale.push_back(old);
    return true;
  });
  // The new one first: an address that passes from a closed range to it is found at every moment.
  insert_entry({region->start, region->end, region});
  for (Region* old : stale) {
    std::erase(writer().closed, old);
    leave_table(old);
  }
  region->in_table = true;
  ++writer().open_entries;
}

void retire_region(Region* region) {
  Writer& w = writer();
  --w.open_entries;
  w.closed.push_back(region);
  while (w.closed.size() > kClosedKept) {
    Region* oldest = w.closed.front();
    w.closed.pop_front();
    leave_table(oldest);
  }
}

void release_region(Region* region) {
  if (!region->in_table) writer().leaving[parity()].push_back(region);
}

void reclaim() {
  Writer& w = writer();
  const uint32_t epoch = g_table.epoch.load(std::memory_order_relaxed);
  const uint32_t before = (epoch & 1) ^ 1;  // parity of the epoch before this one, and of the next
  if (g_table.inside[before].load() != 0) return;
  for (void* memory : w.garbage[before]) free(memory);
  w.garbage[before].clear();
  for (Region* region : w.leaving[before]) recycle(region);
  w.leaving[before].clear();
  g_table.epoch.store(epoch + 1);
}

TableSizes table_sizes() {
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  return {writer().open_entries, writer().closed.size(), directory == nullptr ? 0 : directory->count, writer().slots_in_use};
}

}  // namespace revocable
