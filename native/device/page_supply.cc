#include "device/page_supply.h"

#include <cstring>

#include "base/page.h"

namespace revocable {

static const void* content_of_image(const Supply& supply, uint64_t offset, size_t bytes, char* scratch) {
  if (offset + bytes <= supply.content.size()) return supply.content.data() + offset;
  const size_t there = offset >= supply.content.size() ? 0 : supply.content.size() - offset;
  if (there != 0) memcpy(scratch, supply.content.data() + offset, there);
  memset(scratch + there, 0, bytes - there);  // behind the image's end
  return scratch;
}

const void* content_of(const Supply& supply, uint64_t offset, size_t pages, char* scratch) {
  switch (supply.kind) {
    case Supply::Kind::constant: return supply.content.data();
    case Supply::Kind::image: return content_of_image(supply, offset, pages << kPageShift, scratch);
    case Supply::Kind::model:
      for (size_t i = 0; i < pages; ++i) {
        supply.model(&supply.seed, offset + (i << kPageShift), scratch + (i << kPageShift));
      }
      return scratch;
    case Supply::Kind::zeros:
    case Supply::Kind::elsewhere:
    case Supply::Kind::ask: break;
  }
  memset(scratch, 0, pages << kPageShift);
  return scratch;
}

void model_offsets(const void*, uint64_t offset, void* page) {
  for (size_t i = 0; i < kPageSize / 8; ++i) static_cast<uint64_t*>(page)[i] = offset + 8 * i;
}

// SplitMix64 of seed and offset: the content of a page depends on nothing else.
void model_random(const void* context, uint64_t offset, void* page) {
  uint64_t state = *static_cast<const uint64_t*>(context) ^ (offset * 0x9e3779b97f4a7c15);
  for (size_t i = 0; i < kPageSize / 8; ++i) {
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    static_cast<uint64_t*>(page)[i] = z ^ (z >> 31);
  }
}

}  // namespace revocable
