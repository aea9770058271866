#include "fixture.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "base/features.h"
#include "base/linux_abi.h"
#include "base/memfd.h"
#include "core/registry.h"
#include "core/status_table.h"
#include "fault/handler_install.h"

namespace revocable {

// Before main, where there is one thread.
[[maybe_unused]] static const bool g_switched_off = [] {
  const char* names = getenv("REVOCABLE_MMAP_WITHOUT");
  if (names != nullptr) switch_off_features(names);
  return true;
}();

void start_library() {
  CHECK_OK(core_start());
  CHECK_OK(handlers_ensure());
}

Object* owned_object(size_t bytes, bool huge_pages) {
  Object* object = nullptr;
  CHECK_OK(object_create({.size = bytes, .huge_pages = huge_pages}, {}, &object));
  return object;
}

ForeignObject foreign_object(size_t bytes, const ObjectOptions& options) {
  ForeignObject made{memfd("foreign"), nullptr};
  CHECK_EQ(ftruncate(made.fd, static_cast<off_t>(bytes)), 0);
  CHECK_OK(object_from_fd(made.fd, options, &made.object));
  return made;
}

char* own_range(size_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(at != MAP_FAILED);
  return static_cast<char*>(at);
}

uint32_t View::word() const { return status_words()[mapping->slot].load(); }
uint32_t View::status() const { return word() & kStatusSpecial; }

bool sleeps_in_futex(int tid) {
  long call = -1;  // "running" is no number
  std::ifstream("/proc/self/task/" + std::to_string(tid) + "/syscall") >> call;
  return call == SYS_futex || call == abi::kSysFutexWaitv;
}

bool settled(const View& view) {
  const RegistryLock lock;
  const Claim claim(view.mapping);
  return view.mapping->stray_first > view.mapping->stray_last;
}

Failure try_map(Object* object, const MapOptions& options, View* view) {
  uint64_t size = 0;
  if (options.span == 0) object_size(object, &size);
  view->span = options.span != 0 ? options.span : round_up(size - options.offset, kPageSize);
  view->at = options.at != nullptr ? options.at : own_range(view->span);
  const MapRequest request{object,
                           reinterpret_cast<uintptr_t>(view->at),
                           view->span,
                           view->span,
                           options.offset,
                           options.writable,
                           options.private_copy,
                           options.fill,
                           options.populate,
                           options.borrowed};
  return create_mapping(request, &view->mapping);
}

View map(Object* object, const MapOptions& options) {
  View view;
  CHECK_OK(try_map(object, options, &view));
  return view;
}

RevokeCounts revoke(Object* object) {
  const bool mine = revoke_begin(object);
  return revoke_finish(object, mine);
}

std::vector<MapsLine> maps_of(const char* start, size_t bytes) {
  const auto from = reinterpret_cast<uintptr_t>(start), to = from + bytes;
  std::vector<MapsLine> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    MapsLine entry{};
    char flags[5] = "", path[256] = "";
    sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %4s %" SCNx64 " %*x:%*x %" SCNu64 " %255[^\n]", &entry.start, &entry.end,
           flags, &entry.offset, &entry.inode, path);
    entry.flags = flags;
    entry.path = path;
    if (entry.start < to && from < entry.end) found.push_back(entry);
  }
  return found;
}

}  // namespace revocable
