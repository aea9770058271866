// Address -> Mapping, readable in a signal handler: no lock, no malloc, no thread-local storage.
//
// The table is an immutable directory of immutable chunks, each up to 512 entries sorted by address; a change copies one
// chunk and the directory and publishes them with one pointer store. (One flat array costs 46 us a change at 40,000
// mappings.) Old copies, and the Mapping records they name, are reclaimed by a two-epoch scheme:
//
//   reader:  ReaderScope scope;  Mapping* r = find_mapping(address);  … use r …          // any thread, any signal handler
//   writer:  publish_mapping(r);  retire_mapping(r);  reclaim();                          // under the registry lock
//
// A reader counts itself into the current epoch's parity. What is retired in epoch E was unpublished in E, so only readers
// counted in E or before can hold it; it is freed when the epoch moves from E+1 to E+2, which waits for E's counter to be zero.
// No thread ever blocks for this: reclaim() does what is possible now.
//
// A range that is closed stays in the table, in state `closed`, until another mapping takes its addresses or 1,024 younger
// ones have been closed: a thread may have faulted just before the range was replaced and only now enter the handler.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/mapping_record.h"

namespace revocable {

struct TableEntry {
  uintptr_t start;
  uintptr_t end;
  Mapping* mapping;
};

struct TableChunk {
  static constexpr size_t kCapacity = 512;
  TableChunk* next;  // of those that are no part of the table, for writers
  size_t count;
  TableEntry entries[kCapacity];
};

struct TableDirectory {
  TableDirectory* next;  // as above
  size_t capacity;
  size_t count;
  struct Item {
    uintptr_t first;  // chunk->entries[0].start, here so that a search touches few cache lines
    TableChunk* chunk;
  } items[];
};

struct TableReaders {
  std::atomic<TableDirectory*> directory{nullptr};
  std::atomic<uint32_t> epoch{0};
  std::atomic<uint32_t> inside[2]{};
};
extern TableReaders g_table;

class ReaderScope {
 public:
  // Sequentially consistent: the count must be visible before the directory is read, and reclaim() reads them the other way
  // round.
  ReaderScope() : parity_(g_table.epoch.load() & 1) { g_table.inside[parity_].fetch_add(1); }
  ~ReaderScope() { leave(); }
  void leave() {
    if (!left_) g_table.inside[parity_].fetch_sub(1, std::memory_order_release);
    left_ = true;
  }
  ReaderScope(const ReaderScope&) = delete;
  ReaderScope& operator=(const ReaderScope&) = delete;

 private:
  uint32_t parity_;
  bool left_ = false;
};

// The mapping that contains `address`, closed ones included, or nullptr. Call within a ReaderScope.
Mapping* find_mapping(uintptr_t address);

// --- writers, under the registry lock -----------------------------------------------------------------------------------

// A record for that range, and all the memory that publishing it takes: from then on nothing here needs any. nullptr when there
// is none, or when all 2^20 slots are in use.
Mapping* allocate_mapping(uintptr_t start, uintptr_t end);
void forget_mapping(Mapping* mapping);                         // allocated, never published
void publish_mapping(Mapping* mapping);                        // makes it findable; closed ranges it overlaps leave the table
Mapping* open_mapping_within(uintptr_t start, uintptr_t end);  // one that overlaps the range and is not closed, or nullptr
void retire_mapping(Mapping* mapping);                         // it has been closed: stays findable for a while
void release_mapping(Mapping* mapping);  // no thread has a handle any more: recycle once it has left the table
void reclaim();

Mapping* mapping_at_slot(uint32_t slot);  // the record, whatever its state; nullptr if never used

Mapping* mapping_at_slot_now(uint32_t slot);  // the same for callers without the lock

struct TableSizes {
  size_t open_entries, closed_entries, chunks, slots_in_use;
};
TableSizes table_sizes();

}  // namespace revocable
