// What is in the pages of a device's region at their first touch, where its ops are not asked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "device/page_source.h"

namespace revocable {

// A model in C++: writes the page of the object that begins at `offset`. Called on the pager's thread only.
using PageModel = void (*)(const void* context, uint64_t offset, void* page);

// Bytes that a user has given: empty where there is no memory for so many.
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(size_t size) : data_(new(std::nothrow) char[size]), size_(data_ == nullptr ? 0 : size) {}
  char* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  std::unique_ptr<char[]> data_;
  size_t size_ = 0;
};

// Pages that one fault may bring at most.
inline constexpr uint32_t kMostAround = 512;

struct Supply {
  enum class Kind : uint8_t { ask, zeros, constant, image, model, elsewhere };
  Kind kind = Kind::ask;
  Bytes content = {};  // the image; of a constant, `around` pages of it
  PageModel model = nullptr;
  uint64_t seed = 0;    // the model's context
  uint32_t around = 1;  // how many pages one fault may bring, when they are untouched
  bool ask_before_write = false;
  std::shared_ptr<PageSource> source = nullptr;  // of pages that come from elsewhere
  // The thread that has made the region would have to bring its pages itself, and must not wait for one.
  bool owner_serves = false;
};

void model_offsets(const void* context, uint64_t offset, void* page);  // each 64-bit word holds its own offset
void model_random(const void* context, uint64_t offset, void* page);   // the same for the same seed (context) and offset

// The content of so many pages, from `offset` of the object on: in the supply itself or in `scratch`, which has room for
// kMostAround pages.
const void* content_of(const Supply& supply, uint64_t offset, size_t pages, char* scratch);

}  // namespace revocable
