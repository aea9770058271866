// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "core/mapping_table.h"

namespace revocable {

TableReaders g_table;

Mapping* find_mapping(uintptr_t address) {
  const TableDirectory* directory = g_table.directory.load();
  if (directory == nullptr || directory->count == 0) return nullptr;
  size_t low = 0, high = directory->count;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    if (directory->items[middle].first <= address) low = middle;
    else high = middle;
  }
  const TableChunk* chunk = directory->items[low].chunk;
  size_t first = 0, last = chunk->count;
  while (last - first > 1) {
    const size_t middle = first + (last - first) / 2;
    if (chunk->entries[middle].start <= address) first = middle;
    else last = middle;
  }
  const TableEntry& entry = chunk->entries[first];
  return address >= entry.start && address < entry.end ? entry.mapping : nullptr;
}

}  // namespace revocable
