// R7 R12 L1: what takes memory away needs none. While a test says so, operator new has none to give to any thread of the process.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "core/mapping_table.h"
#include "core/service.h"
#include "device/device.h"
#include "fixture.h"
#include "share/hangup.h"

using namespace revocable;

namespace {

std::atomic<bool> g_no_memory{false};

void* allocate(size_t size) noexcept { return g_no_memory.load() ? nullptr : malloc(size == 0 ? 1 : size); }

void* allocate_or_abort(size_t size) {
  void* memory = allocate(size);
  if (memory == nullptr) abort();
  return memory;
}

// The harness's own checks allocate: none within.
class NoMemory {
 public:
  NoMemory() { g_no_memory = true; }
  ~NoMemory() { g_no_memory = false; }
  NoMemory(const NoMemory&) = delete;
  NoMemory& operator=(const NoMemory&) = delete;
};

// By the service thread or that of hang-ups; the runner ends a test that waits in vain.
void await_revocation_of(const Object* object) {
  while (object->revoke_done.load() == 0) usleep(100);
}

// The first mapping starts threads, and calls make their function-local statics.
void warm_up() {
  start_library();
  Object* object = owned_object(kPageSize);
  View view = map(object);
  revoke(object);
  (void)view.load();
  view.close();
  object_release(object);
}

}  // namespace

void* operator new(size_t size) { return allocate_or_abort(size); }
void* operator new[](size_t size) { return allocate_or_abort(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
void operator delete[](void* memory, size_t) noexcept { free(memory); }

TEST("R12 L1 without memory, more mappings than the table keeps are closed, whatever state they are in") {
  warm_up();
  std::vector<View> views;
  std::vector<Object*> objects;
  for (int i = 0; i < 220; ++i) {  // of four descriptors each: no more than a thousand are allowed everywhere
    Object* live = foreign_object(4 * kPageSize).object;
    Object* suspended = owned_object(4 * kPageSize);
    Object* revoked = owned_object(4 * kPageSize);
    objects.insert(objects.end(), {live, suspended, revoked});
    for (Object* object : {live, suspended, revoked}) views.push_back(map(object));
    views.push_back(map(revoked, {.fill = Fill::ones}));
    views.push_back(map(live, {.private_copy = true}));
    CHECK_OK(protect_pages(views.back().mapping, 1, 1, Access::none));
    RevokeCounts counts;
    bool mine;
    CHECK_OK(suspend(suspended, &counts, &mine));
    revoke(revoked);
    (void)views[views.size() - 2].load();
  }
  {
    const NoMemory none;
    for (View& view : views) view.close();
    for (Object* object : objects) object_release(object);
  }
  CHECK_EQ(table_sizes().open_entries, size_t{0});
  for (const View& view : views) {
    CHECK_EQ(view.load(), 0u);
    CHECK_EQ(view.load(kPageSize), 0u);
  }
  // With memory again, the table forgets what it has had to keep.
  Object* object = owned_object(kPageSize);
  map(object).close();
  CHECK_EQ(table_sizes().closed_entries, size_t{1024});
  map(object).close();
  map(object).close();
  CHECK(table_sizes().slots_in_use <= 1024 + 4);
}

TEST("without memory a mapping is refused, and what was closed where it would have been is not forgotten") {
  warm_up();
  Object* object = owned_object(kPageSize);
  std::vector<View> closed;
  char* range = own_range(64 * kPageSize);
  for (size_t i = 0; i < 64; ++i) {
    closed.push_back(map(object, {.at = range + i * kPageSize}));
    closed.back().close();
  }
  Object* large = owned_object(64 * kPageSize);
  View refused;
  Failure failure;
  {
    const NoMemory none;
    failure = try_map(large, {.at = range}, &refused);
  }
  CHECK_EQ(failure.errnum, ENOMEM);
  CHECK_EQ(table_sizes().open_entries, size_t{0});
  for (const View& view : closed) {
    const ReaderScope scope;
    CHECK(find_mapping(reinterpret_cast<uintptr_t>(view.at)) != nullptr);
  }
  const View view = map(large, {.at = range});
  view.store(63 * kPageSize, 4711);
  CHECK_EQ(view.load(63 * kPageSize), 4711u);
}

TEST("R7 without memory a backing fault revokes the whole object, also when its mapping is closed at once") {
  warm_up();
  for (const bool close_at_once : {false, true}) {
    const ForeignObject made = foreign_object(4 * kPageSize, {.scope = FaultScope::object});
    View touched = map(made.object), other = map(made.object);
    CHECK_EQ(ftruncate(made.fd, 0), 0);
    {
      const NoMemory none;
      if (close_at_once) {
        const RegistryLock lock;  // the service thread waits for it
        (void)touched.load();
        close_mapping_locked(touched.mapping, false);
      } else {
        (void)touched.load();
      }
      await_revocation_of(made.object);
    }
    CHECK_EQ(other.state(), State::revoked);
    CHECK_EQ(touched.state(), close_at_once ? State::closed : State::revoked);
    touched.close();
    other.close();
    object_release(made.object);
    close(made.fd);
  }
}

TEST("R1 without memory the end of a peer revokes what it shared") {
  warm_up();
  int ends[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
  std::vector<Object*> shared;
  for (int i = 0; i < 20; ++i) shared.push_back(owned_object(kPageSize));
  const View view = map(shared.back());
  uint64_t token = 0;
  REQUIRE_OK(hangup_watch(ends[0], shared, &token));
  {
    const NoMemory none;
    close(ends[1]);
    for (const Object* object : shared) await_revocation_of(object);
    hangup_forget(token);
  }
  CHECK_EQ(view.state(), State::revoked);
  CHECK_EQ(view.load(), 0u);
}

TEST("R6 without memory a device goes with all of its regions") {
  warm_up();
  const DeviceRef device = device_create("leaving", 5000, [] {});
  std::vector<View> views;
  for (int i = 0; i < 20; ++i) {
    Object* region = nullptr;
    REQUIRE_OK(object_create({.size = kPageSize}, {.backing = device}, &region));
    views.push_back(map(region));
    views.back().store(0, 4711);
  }
  {
    const NoMemory none;
    device_abandon(*device);
    revoke_objects_of(*device);
    device_forget(*device);
  }
  for (View& view : views) {
    CHECK_EQ(view.state(), State::revoked);
    CHECK_EQ(view.load(), 0u);
  }
  const NoMemory none;
  for (View& view : views) view.close();
}
