// What most tests begin with: the library started, an object, a mapping of it, and what the kernel says about an address.
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "base/failure.h"
#include "base/page.h"
#include "check.h"
#include "core/mapping.h"
#include "core/mapping_pages.h"
#include "core/mapping_record.h"
#include "core/registry.h"
#include "core/revoker.h"

namespace revocable {

void start_library();

// A memfd of the library's own.
Object* owned_object(size_t bytes, bool huge_pages = false);

// A memfd that other code (the test) owns and can truncate. `fd` stays the test's.
struct ForeignObject {
  int fd;
  Object* object;
};
ForeignObject foreign_object(size_t bytes, const ObjectOptions& options = {});

// Private anonymous memory, as the caller of create_mapping must own it.
char* own_range(size_t bytes);

struct MapOptions {
  uint64_t offset = 0;
  size_t span = 0;  // 0: from `offset` to the end of the object
  bool writable = true;
  bool private_copy = false;
  Fill fill = Fill::zeros;
  bool populate = false;
  char* at = nullptr;  // nullptr: anywhere
  bool borrowed = false;
};

// One access to mapped memory. To the thread sanitizer an mmap over a range is a write to all of it, and so an access that
// meets a revocation a data race; that they may meet is the point, so these two are not instrumented.
__attribute__((no_sanitize("thread"))) inline uint32_t load_word(const void* at) {
  return *static_cast<const volatile uint32_t*>(at);
}
__attribute__((no_sanitize("thread"))) inline void store_word(void* at, uint32_t value) {
  *static_cast<volatile uint32_t*>(at) = value;
}

struct View {
  Mapping* mapping = nullptr;
  char* at = nullptr;
  size_t span = 0;

  uint32_t load(size_t offset = 0) const { return load_word(at + offset); }
  void store(size_t offset, uint32_t value) const { store_word(at + offset, value); }
  uint32_t word() const;    // its status word
  uint32_t status() const;  // what is special about it
  State state() const { return mapping->state.load(); }
  void close() { release_mapping_handle(mapping, true); }
};

// Whether a thread of this process sleeps in futex(2) or futex_waitv(2): what it waits for has not come.
bool sleeps_in_futex(int tid);

// Whether no page of it is diverted any more.
bool settled(const View& view);

Failure try_map(Object* object, const MapOptions& options, View* view);
View map(Object* object, const MapOptions& options = {});

RevokeCounts revoke(Object* object);

// The lines of /proc/self/maps that overlap [start, end).
struct MapsLine {
  uintptr_t start, end;
  std::string flags;  // "rw-s"
  uint64_t offset;
  uint64_t inode;
  std::string path;
};
std::vector<MapsLine> maps_of(const char* start, size_t bytes);

// Runs `action` when it goes out of scope. Declared after a Threads, it ends them before they are joined.
template <typename Action>
class Finally {
 public:
  explicit Finally(Action action) : action_(action) {}
  ~Finally() { action_(); }
  Finally(const Finally&) = delete;

 private:
  Action action_;
};

// Joins its threads when it goes out of scope.
class Threads {
 public:
  ~Threads() { join(); }
  template <typename Body>
  void add(Body body) {
    threads_.emplace_back(body);
  }
  void join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

}  // namespace revocable
