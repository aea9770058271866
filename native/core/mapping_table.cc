#include "core/mapping_table.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "base/memfd.h"
#include "base/page.h"
#include "core/registry.h"
#include "core/vm_ops.h"

namespace revocable {

namespace {

constexpr size_t kClosedKept = 1024;
constexpr size_t kMappingsPerSlab = 1024;
constexpr size_t kSparesKept = 4;

// Linked through the records themselves, as a mapping that is closed must find room here without memory.
struct MappingQueue {
  Mapping* first = nullptr;
  Mapping* last = nullptr;
  size_t size = 0;

  void push(Mapping* mapping) {
    mapping->queue_previous = last;
    mapping->queue_next = nullptr;
    (last == nullptr ? first : last->queue_next) = mapping;
    last = mapping;
    ++size;
  }
  void remove(Mapping* mapping) {
    (mapping->queue_previous == nullptr ? first : mapping->queue_previous->queue_next) = mapping->queue_next;
    (mapping->queue_next == nullptr ? last : mapping->queue_next->queue_previous) = mapping->queue_previous;
    --size;
  }
};

// Chunks or directories that no reader has.
template <typename Part>
struct Parts {
  Part* top = nullptr;
  size_t count = 0;

  void push(Part* part) {
    part->next = top;
    top = part;
    ++count;
  }
  Part* pop() {
    Part* part = top;
    top = part->next;
    --count;
    return part;
  }
};

// Everything the writers own. Allocated once and never destroyed: a handler may run while the process exits.
struct Writer {
  Mapping* slabs[kStatusSlots / kMappingsPerSlab] = {};
  uint32_t next_slot = kClosedSlot + 1;
  MappingQueue unused;      // records to use again
  MappingQueue closed;      // in the table, oldest first
  MappingQueue leaving[2];  // mappings that left the table and that no thread has a handle on, by the parity of that epoch
  Parts<TableChunk> old_chunks[2], spare_chunks;
  Parts<TableDirectory> old_directories[2], spare_directories;
  size_t directory_capacity = 16;  // of spare directories
  size_t open_entries = 0;
  size_t slots_in_use = 0;
};

Writer& writer() {
  static Writer* instance = new Writer;
  return *instance;
}

uint32_t parity() { return g_table.epoch.load(std::memory_order_relaxed) & 1; }

TableDirectory* new_directory(size_t capacity) {
  void* memory = ::operator new(sizeof(TableDirectory) + capacity * sizeof(TableDirectory::Item), std::nothrow);
  if (memory == nullptr) return nullptr;
  auto* directory = static_cast<TableDirectory*>(memory);
  directory->capacity = capacity;
  return directory;
}

void grow_spare_directories(size_t count) {
  Writer& w = writer();
  if (count <= w.directory_capacity) return;
  while (w.spare_directories.top != nullptr) ::operator delete(w.spare_directories.pop());
  w.directory_capacity = std::bit_ceil(count);
}

// Has as many spare chunks and directories as this many entries can take that come or go. False where there is no memory.
bool reserve_changes(size_t changes) {
  Writer& w = writer();
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  grow_spare_directories((directory == nullptr ? 0 : directory->count) + changes);
  while (w.spare_directories.count < changes) {
    TableDirectory* fresh = new_directory(w.directory_capacity);
    if (fresh == nullptr) return false;
    w.spare_directories.push(fresh);
  }
  while (w.spare_chunks.count < changes + 1) {  // one more: a chunk may be split
    auto* fresh = new (std::nothrow) TableChunk;
    if (fresh == nullptr) return false;
    w.spare_chunks.push(fresh);
  }
  return true;
}

// No reader has them any more.
void keep_or_free(TableChunk* chunk) {
  if (writer().spare_chunks.count < kSparesKept) writer().spare_chunks.push(chunk);
  else delete chunk;
}

void keep_or_free(TableDirectory* directory) {
  Writer& w = writer();
  if (w.spare_directories.count < kSparesKept && directory->capacity == w.directory_capacity) w.spare_directories.push(directory);
  else ::operator delete(directory);
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
  TableDirectory* fresh = writer().spare_directories.pop();
  fresh->count = old_count - removed + count;
  size_t at = 0;
  for (size_t i = 0; i < index && i < old_count; ++i) fresh->items[at++] = old->items[i];
  for (size_t i = 0; i < count; ++i) fresh->items[at++] = {chunks[i]->entries[0].start, chunks[i]};
  for (size_t i = index + removed; i < old_count; ++i) fresh->items[at++] = old->items[i];
  g_table.directory.store(fresh);  // publishes the chunks to handlers; seq_cst pairs with ReaderScope
  if (old != nullptr) {
    if (removed != 0) writer().old_chunks[parity()].push(old->items[index].chunk);
    writer().old_directories[parity()].push(old);
  }
}

// Both take spare parts, which have been reserved.
void insert_entry(const TableEntry& entry) {
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  TableChunk* fresh = writer().spare_chunks.pop();
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
  TableChunk* halves[2] = {fresh, writer().spare_chunks.pop()};
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

void remove_entry(const Mapping* mapping) {
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  if (directory == nullptr || directory->count == 0) return;
  const size_t index = chunk_for(directory, mapping->start);
  const TableChunk* old = directory->items[index].chunk;
  TableChunk* fresh = writer().spare_chunks.pop();
  fresh->count = 0;
  for (size_t i = 0; i < old->count; ++i) {
    if (old->entries[i].mapping != mapping) fresh->entries[fresh->count++] = old->entries[i];
  }
  if (fresh->count == 0) {
    writer().spare_chunks.push(fresh);
    replace_chunk(index, nullptr, 0);
  } else {
    replace_chunk(index, &fresh, 1);
  }
}

// Calls visit(mapping) for each entry that overlaps [start, end), until it returns false.
template <typename Visit>
void for_each_overlap(uintptr_t start, uintptr_t end, Visit visit) {
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  if (directory == nullptr || directory->count == 0) return;
  for (size_t c = chunk_for(directory, start); c < directory->count && directory->items[c].first < end; ++c) {
    const TableChunk* chunk = directory->items[c].chunk;
    for (size_t i = 0; i < chunk->count; ++i) {
      const TableEntry& entry = chunk->entries[i];
      if (entry.start < end && start < entry.end && !visit(entry.mapping)) return;
    }
  }
}

void recycle(Mapping* mapping) {
  if (auto* marks = mapping->marks.exchange(nullptr); marks == mapping->few_marks) {
    for (auto& mark : mapping->few_marks) mark.store(0, std::memory_order_relaxed);
  } else if (marks != nullptr) {
    munmap(marks, round_up(mapping->pages(), kPageSize));
  }
  if (auto* moved = mapping->rearranged.exchange(nullptr)) {
    munmap(moved, round_up(mapping->pages() * sizeof(uint64_t), kPageSize));
  }
  delete mapping->pieces;
  mapping->pieces = nullptr;
  mapping->extent_count = 0;
  if (mapping->ops != nullptr) mapping->ops->recycled(mapping);
  mapping->ops = nullptr;
  writer().unused.push(mapping);
  --writer().slots_in_use;
}

// A closed mapping leaves the table, for which a change has been reserved; its record follows when no thread has a handle on it.
void leave_table(Mapping* mapping) {
  remove_entry(mapping);
  if (mapping->used_zero_file) {
    fallocate(zero_fill_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(mapping->start),
              static_cast<off_t>(mapping->end - mapping->start));
  }
  mapping->in_table = false;
  if (mapping->handles == 0) writer().leaving[parity()].push(mapping);
}

}  // namespace

Mapping* mapping_at_slot(uint32_t slot) {
  if (slot == kClosedSlot || slot >= writer().next_slot) return nullptr;
  return &writer().slabs[slot / kMappingsPerSlab][slot % kMappingsPerSlab];
}

Mapping* mapping_at_slot_now(uint32_t slot) {
  RegistryLock lock;
  return mapping_at_slot(slot);
}

// Its slot is the next one, or nullptr.
static Mapping* new_record() {
  Writer& w = writer();
  if (w.next_slot == kStatusSlots) return nullptr;
  Mapping*& slab = w.slabs[w.next_slot / kMappingsPerSlab];
  if (slab == nullptr) slab = new (std::nothrow) Mapping[kMappingsPerSlab];
  if (slab == nullptr) return nullptr;
  const uint32_t slot = w.next_slot++;
  Mapping* mapping = mapping_at_slot(slot);
  mapping->slot = slot;
  return mapping;
}

Mapping* allocate_mapping(uintptr_t start, uintptr_t end) {
  Writer& w = writer();
  size_t changes = 1;
  for_each_overlap(start, end, [&](const Mapping*) { return ++changes != 0; });
  if (!reserve_changes(changes)) return nullptr;
  Mapping* mapping = w.unused.last;
  if (mapping != nullptr) w.unused.remove(mapping);
  else mapping = new_record();
  if (mapping == nullptr) return nullptr;
  ++w.slots_in_use;
  mapping->start = start;
  mapping->end = end;
  ++mapping->generation;
  mapping->filled = mapping->unfillable = mapping->used_zero_file = mapping->weak = mapping->announced = false;
  mapping->stray_first = mapping->filled_first = mapping->lost_first = SIZE_MAX;
  mapping->stray_last = mapping->filled_last = mapping->lost_last = 0;
  mapping->tail_filled = mapping->by_pages = mapping->self_faulted = false;
  mapping->marked_pages = 0;
  mapping->fill_prot = 0;
  mapping->lost_from.store(UINTPTR_MAX, std::memory_order_relaxed);
  mapping->faults.store(0, std::memory_order_relaxed);
  mapping->futile.store(0, std::memory_order_relaxed);
  mapping->retry_tag.store(0, std::memory_order_relaxed);
  mapping->waits_for_copiers.store(0, std::memory_order_relaxed);
  mapping->handles = 0;
  mapping->attaches = 0;
  return mapping;
}

void forget_mapping(Mapping* mapping) { recycle(mapping); }

Mapping* open_mapping_within(uintptr_t start, uintptr_t end) {
  Mapping* found = nullptr;
  for_each_overlap(start, end, [&](Mapping* mapping) {
    if (mapping->state.load(std::memory_order_relaxed) != State::closed) found = mapping;
    return found == nullptr;
  });
  return found;
}

void publish_mapping(Mapping* mapping) {
  MappingQueue stale;
  for_each_overlap(mapping->start, mapping->end, [&](Mapping* old) {
    writer().closed.remove(old);
    stale.push(old);
    return true;
  });
  // The new one first: an address that passes from a closed range to it is found at every moment.
  insert_entry({mapping->start, mapping->end, mapping});
  while (Mapping* old = stale.first) {
    stale.remove(old);
    leave_table(old);
  }
  mapping->in_table = true;
  ++writer().open_entries;
}

// Without memory for a table that lacks one, more of them stay for the time being.
static void forget_oldest() {
  Writer& w = writer();
  while (w.closed.size > kClosedKept && reserve_changes(1)) {
    Mapping* oldest = w.closed.first;
    w.closed.remove(oldest);
    leave_table(oldest);
  }
}

void retire_mapping(Mapping* mapping) {
  --writer().open_entries;
  writer().closed.push(mapping);
  forget_oldest();
}

void release_mapping(Mapping* mapping) {
  if (!mapping->in_table) writer().leaving[parity()].push(mapping);
}

void reclaim() {
  Writer& w = writer();
  const uint32_t epoch = g_table.epoch.load(std::memory_order_relaxed);
  const uint32_t before = (epoch & 1) ^ 1;  // parity of the epoch before this one, and of the next
  if (g_table.inside[before].load() != 0) return;
  while (w.old_chunks[before].top != nullptr) keep_or_free(w.old_chunks[before].pop());
  while (w.old_directories[before].top != nullptr) keep_or_free(w.old_directories[before].pop());
  while (Mapping* mapping = w.leaving[before].first) {
    w.leaving[before].remove(mapping);
    recycle(mapping);
  }
  g_table.epoch.store(epoch + 1);
}

TableSizes table_sizes() {
  const TableDirectory* directory = g_table.directory.load(std::memory_order_relaxed);
  return {writer().open_entries, writer().closed.size, directory == nullptr ? 0 : directory->count, writer().slots_in_use};
}

}  // namespace revocable
