// A2 and A6: what raw views read and keep after revocation.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <cstring>

#include "base/counters.h"
#include "base/memfd.h"
#include "core/event_ring.h"
#include "fixture.h"

using namespace revocable;

namespace {

constexpr size_t kGiB = size_t{1} << 30;
constexpr size_t kLarge = kGiB + 2 * kOnesWindow;

// Four threads write into one revoked extent at once, each its own word, and everything must still be there. At least so many
// rounds, and until two threads have faulted together often enough.
void writers_at_once(Fill fill, size_t stride, int rounds) {
  constexpr uint32_t kThreads = 4;
  constexpr uint64_t kTogether = 20;
  const auto together = [] { return g_counters.faults_shared.load() >= kTogether; };
  for (int round = 0; round < rounds || (!together() && round < 20 * rounds); ++round) {
    Object* object = owned_object(8 * kPageSize);
    View view = map(object, {.fill = fill});
    revoke(object);
    std::barrier start(kThreads);
    Threads threads;
    for (uint32_t i = 0; i < kThreads; ++i) {
      threads.add([&, i] {
        start.arrive_and_wait();
        view.store(i * stride, i + 1);
      });
    }
    threads.join();
    for (uint32_t i = 0; i < kThreads; ++i) CHECK_EQ(view.load(i * stride), i + 1);
    CHECK_EQ(view.load(4 * stride), fill == Fill::ones ? 0xffffffffu : 0u);
    char* at = view.at;
    view.close();
    munmap(at, view.span);
    object_release(object);
  }
  CHECK(together());
}

// A page of other code in the middle of a mapping.
void own_page_at(char* at) {
  const int stranger = memfd("stranger");
  REQUIRE(ftruncate(stranger, static_cast<off_t>(kPageSize)) == 0);
  mmap(at, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, stranger, 0);
  store_word(at, 4711);
  close(stranger);
}

int count_events(RingReader* reader, EventKind kind, const Mapping* mapping) {
  Event event;
  uint64_t dropped = 0;
  int found = 0;
  while (reader->next(&event, &dropped)) found += event.kind == kind && event.slot == mapping->slot;
  return found;
}

}  // namespace

TEST("A6 threads that fault on one page at once lose no write, zeros") {
  start_library();
  writers_at_once(Fill::zeros, 16, check::rounds(1500));
}

TEST("A6 threads that fault on one page at once lose no write, ones") {
  start_library();
  writers_at_once(Fill::ones, 16, check::rounds(1500));
}

TEST("A6 threads that fault on different pages of one extent lose no write") {
  start_library();
  writers_at_once(Fill::zeros, kPageSize, check::rounds(1500));
}

TEST("A6 writes that race the revocation are lost with the memory or kept, and kept for good once revoke has returned") {
  start_library();
  for (int round = 0; round < check::rounds(1500); ++round) {
    Object* object = owned_object(4 * kPageSize);
    View view = map(object);
    std::atomic<bool> revoked{false}, failed{false};
    Threads writers;
    for (size_t i = 0; i < 2; ++i) {
      writers.add([&, i] {
        for (uint32_t value = 1; value < 200; ++value) {
          const bool settled = revoked.load();
          view.store(i * 64, value);
          if (settled && view.load(i * 64) != value) failed = true;
        }
      });
    }
    revoke(object);
    revoked = true;
    writers.join();
    CHECK(!failed.load());
    char* at = view.at;
    view.close();
    munmap(at, view.span);
    object_release(object);
  }
}

TEST("A2 a revoked view reads its fill at every byte, and exactly one event tells of it") {
  start_library();
  for (const Fill fill : {Fill::zeros, Fill::ones}) {
    Object* object = owned_object(5 * kOnesWindow / 2);
    const View view = map(object, {.fill = fill});
    memset(view.at, 3, view.span);
    RingReader reader;
    revoke(object);
    const char expected = fill == Fill::ones ? static_cast<char>(0xff) : char{0};
    size_t wrong = 0;
    for (size_t i = 0; i < view.span; ++i) wrong += view.at[i] != expected;
    CHECK_EQ(wrong, size_t{0});
    CHECK_EQ(count_events(&reader, EventKind::fault_revoked, view.mapping), 1);
    CHECK_EQ(view.state(), State::revoked);
    CHECK_EQ(view.status() & kStatusStateMask, static_cast<uint32_t>(State::revoked));
  }
}

TEST("A2 the fills of two mappings, and of two windows of one, never alias") {
  start_library();
  for (const Fill fill : {Fill::zeros, Fill::ones}) {
    Object* object = owned_object(3 * kOnesWindow);
    const View a = map(object, {.fill = fill}), b = map(object, {.fill = fill});
    revoke(object);
    const uint32_t empty = fill == Fill::ones ? 0xffffffffu : 0u;
    a.store(64, 7);
    CHECK_EQ(a.load(64), 7u);
    CHECK_EQ(b.load(64), empty);
    CHECK_EQ(a.load(kOnesWindow + 64), empty);
    CHECK_EQ(a.load(2 * kOnesWindow + 64), empty);
  }
}

TEST("A2 a read-only view's fill takes a write and keeps it") {
  start_library();
  Object* object = owned_object(2 * kPageSize);
  const View view = map(object, {.writable = false});
  revoke(object);
  CHECK_EQ(view.load(kPageSize), 0u);  // the fill is there for reading
  view.store(kPageSize, 8);
  CHECK_EQ(view.load(kPageSize), 8u);
}

TEST("A2 a page without permission reads the fill once its object is revoked") {
  start_library();
  Object* object = owned_object(4 * kPageSize);
  const View view = map(object, {.fill = Fill::ones});
  CHECK_OK(protect_pages(view.mapping, 1, 1, Access::none));
  revoke(object);
  CHECK_EQ(view.load(kPageSize), 0xffffffffu);
  CHECK_EQ(view.load(0), 0xffffffffu);
}

TEST("A2 ones over more than 1 GiB come window by window and lose no write") {
  if (check::kTsan) check::skip("the sanitizer's shadow of 1 GiB is slow to map");
  start_library();
  Object* object = owned_object(kLarge);
  const View view = map(object, {.fill = Fill::ones});
  revoke(object);
  constexpr uint32_t kThreads = 4;
  Threads threads;
  std::barrier start(kThreads);
  for (uint32_t i = 0; i < kThreads; ++i) {
    threads.add([&, i] {
      for (size_t window = 0; window < 32; ++window) {
        start.arrive_and_wait();
        view.store(window * kOnesWindow + i * 8, i + 1);
      }
    });
  }
  threads.join();
  for (size_t window = 0; window < 32; ++window) {
    for (uint32_t i = 0; i < kThreads; ++i) CHECK_EQ(view.load(window * kOnesWindow + i * 8), i + 1);
    CHECK_EQ(view.load(window * kOnesWindow + 512), 0xffffffffu);
  }
  CHECK_EQ(view.load(kLarge - 4), 0xffffffffu);
  CHECK(maps_of(view.at, view.span).size() < 40);
}

// A thread that runs into the truncation of a revocation, before that has come to its mapping, gets the fill then.
void touch_before_the_replacement(Fill fill, size_t bytes) {
  Object* object = owned_object(bytes);
  View view = map(object, {.fill = fill});
  const View other = map(object, {.fill = fill});
  view.store(0, 4711);
  const uint32_t empty = fill == Fill::ones ? 0xffffffffu : 0u;
  const size_t last = bytes - kPageSize;
  REQUIRE(revoke_begin(object));
  REQUIRE(ftruncate(object->fd, 0) == 0);
  CHECK_EQ(view.load(0), empty);
  view.store(0, 5);
  view.store(last + 8, 6);
  CHECK_EQ(view.load(0), 5u);
  const RevokeCounts counts = revoke_finish(object, true);
  CHECK_EQ(counts.replaced, 2u);
  CHECK_EQ(view.load(0), 5u);
  CHECK_EQ(view.load(last + 8), 6u);
  CHECK_EQ(view.load(4), empty);
  CHECK_EQ(view.load(last), empty);
  if (bytes > 2 * kOnesWindow) CHECK_EQ(view.load(kOnesWindow), empty);
  CHECK_EQ(other.load(0), empty);  // and not in the fill of another mapping
  view.close();
  CHECK_EQ(view.load(0), 0u);
}

TEST("A2 what was read back from a fill before its mapping's turn came stays: the revocation replaces no fill") {
  start_library();
  for (const Fill fill : {Fill::zeros, Fill::ones}) {
    for (const size_t bytes : {2 * kPageSize, 3 * kOnesWindow}) touch_before_the_replacement(fill, bytes);
  }
  if (!check::kTsan) touch_before_the_replacement(Fill::ones, kLarge);  // the sanitizer's shadow of 1 GiB is slow to map
}

// What a suspension's fill took stays when the suspension ends in a revocation; resume() would have taken it away.
void write_while_suspended(Fill fill, size_t bytes, bool with_stranger) {
  Object* object = owned_object(bytes);
  View view = map(object, {.writable = !with_stranger, .fill = fill});
  const uint32_t empty = fill == Fill::ones ? 0xffffffffu : 0u;
  const size_t stranger = bytes / 2;
  if (with_stranger) own_page_at(view.at + stranger);
  RevokeCounts counts;
  bool mine;
  CHECK_OK(suspend(object, &counts, &mine));
  CHECK_EQ(view.load(0), empty);
  view.store(0, 5);
  revoke(object);
  CHECK_EQ(view.load(0), 5u);
  CHECK_EQ(view.load(4), empty);
  view.store(kPageSize, 6);  // where nothing has been touched before
  CHECK_EQ(view.load(kPageSize), 6u);
  CHECK_EQ(view.load(bytes - kPageSize), empty);
  if (with_stranger) CHECK_EQ(view.load(stranger), 4711u);
  view.close();
}

TEST("A2 R9 what was written to the fill of a suspension stays when a revocation follows") {
  start_library();
  for (const Fill fill : {Fill::zeros, Fill::ones}) {
    for (const bool with_stranger : {false, true}) write_while_suspended(fill, 8 * kPageSize, with_stranger);
  }
  if (!check::kTsan) write_while_suspended(Fill::ones, kLarge, false);
}

TEST("A2 R1 a page that was diverted before a fault took the object reads the fill, not what the object held") {
  if (check::kTsan) check::skip("the sanitizer's shadow of 1 GiB is slow to map");
  start_library();
  const ForeignObject made = foreign_object(kLarge, {.scope = FaultScope::object});
  const uint32_t secret = 4711;
  CHECK_EQ(pwrite(made.fd, &secret, sizeof secret, 0), ssize_t{sizeof secret});
  const View view = map(made.object, {.writable = false, .fill = Fill::ones});
  CHECK_EQ(view.load(0), secret);
  view.store(4, 1);  // diverted, to a copy of the page
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kOnesWindow)) == 0);
  CHECK_EQ(view.load(2 * kOnesWindow), 0xffffffffu);  // takes the object; windows are filled as they are touched
  EVENTUALLY(made.object->revoke_done.load() == 1);
  CHECK_EQ(view.load(0), 0xffffffffu);
  CHECK_EQ(view.load(4), 0xffffffffu);
}

TEST("A2 large ones touched between truncation and replacement survive the replacement") {
  if (check::kTsan) check::skip("the sanitizer's shadow of 1 GiB is slow to map");
  start_library();
  // As another process with the library sees it: the owner has revoked, the handler learns of it from the seals and fills what
  // was touched, and the service thread revokes the rest.
  const int fd = memfd("owner");
  REQUIRE(ftruncate(fd, kLarge) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0);
  Object* object = nullptr;
  REQUIRE_OK(object_from_fd(fd, {}, &object));
  const View view = map(object, {.fill = Fill::ones});
  REQUIRE(ftruncate(fd, 0) == 0);
  view.store(0, 5);
  EVENTUALLY(object->revoke_done.load() == 1);
  CHECK_EQ(view.load(0), 5u);
  CHECK_EQ(view.load(8), 0xffffffffu);
  CHECK_EQ(view.load(kOnesWindow), 0xffffffffu);
}

// A page of other code in the middle of the second window: every fill goes round it.
void fill_spares_a_stranger(Fill fill, size_t bytes) {
  const ForeignObject made = foreign_object(bytes);
  View view = map(made.object, {.fill = fill});
  const size_t theirs = kOnesWindow + 5 * kPageSize;
  const int stranger = memfd("stranger");
  REQUIRE(ftruncate(stranger, static_cast<off_t>(kPageSize)) == 0);
  mmap(view.at + theirs, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, stranger, 0);
  view.store(theirs, 4711);
  revoke(made.object);
  const uint32_t empty = fill == Fill::ones ? 0xffffffffu : 0u;
  const size_t places[] = {0, kOnesWindow, theirs - kPageSize, theirs + kPageSize, 2 * kOnesWindow, bytes - kPageSize};
  for (const size_t at : places) CHECK_EQ(view.load(at), empty);
  for (const size_t at : places) view.store(at + 8, 1);
  for (const size_t at : places) CHECK_EQ(view.load(at + 8), 1u);
  CHECK_EQ(view.load(theirs), 4711u);
  CHECK_EQ(maps_of(view.at + theirs, kPageSize).at(0).path, std::string("/memfd:stranger (deleted)"));
  view.close();
  munmap(view.at, bytes);
  object_release(made.object);
}

TEST("A2 R10 a fill goes round what other code mapped into the range, whatever its size") {
  start_library();
  for (const Fill fill : {Fill::zeros, Fill::ones}) fill_spares_a_stranger(fill, 3 * kOnesWindow);
  if (!check::kTsan) fill_spares_a_stranger(Fill::ones, kLarge);  // the sanitizer's shadow of 1 GiB is slow to map
}

TEST("A2 a fault of the stranger's page is the stranger's") {
  const int status = check::run_in_child([] {
    start_library();
    const View view = map(foreign_object(3 * kPageSize).object);
    const int stranger = memfd("stranger");
    REQUIRE(ftruncate(stranger, static_cast<off_t>(kPageSize)) == 0);
    Object* object = view.mapping->object;
    mmap(view.at + kPageSize, kPageSize, PROT_READ, MAP_SHARED | MAP_FIXED, stranger, 0);
    revoke(object);
    REQUIRE(ftruncate(stranger, 0) == 0);
    view.load(kPageSize);
  });
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

TEST("R9 large ones can be touched in every suspension") {
  if (check::kTsan) check::skip("the sanitizer's shadow of 1 GiB is slow to map");
  start_library();
  Object* object = owned_object(kLarge);
  const View view = map(object, {.fill = Fill::ones});
  view.store(0, 5);
  for (int i = 0; i < 3; ++i) {
    RevokeCounts counts;
    bool mine;
    CHECK_OK(suspend(object, &counts, &mine));
    CHECK_EQ(view.load(0), 0xffffffffu);
    CHECK_OK(resume(object));
    CHECK_EQ(view.load(0), 5u);
    CHECK_EQ(view.status(), 0u);
  }
}

TEST("R9 large ones touched while suspended can be touched after the revocation") {
  if (check::kTsan) check::skip("the sanitizer's shadow of 1 GiB is slow to map");
  start_library();
  Object* object = owned_object(kLarge);
  const View view = map(object, {.fill = Fill::ones});
  RevokeCounts counts;
  bool mine;
  CHECK_OK(suspend(object, &counts, &mine));
  CHECK_EQ(view.load(0), 0xffffffffu);
  revoke(object);
  CHECK_EQ(view.load(0), 0xffffffffu);
}

TEST("A2 pages of 2 MiB read their fill") {
  start_library();
  Object* object = nullptr;
  const Failure failure = object_create({.size = 2 * kHugePageSize, .huge_pages = true}, {}, &object);
  if (failure) check::skip("no 2 MiB pages reserved: errno " + std::to_string(failure.errnum));
  char* range = own_range(4 * kHugePageSize);
  char* aligned = reinterpret_cast<char*>(round_up(reinterpret_cast<uintptr_t>(range), kHugePageSize));
  const View view = map(object, {.at = aligned});
  view.store(0, 5);
  CHECK_EQ(revoke(object).replaced, 1u);
  CHECK_EQ(view.load(0), 0u);
  view.store(kHugePageSize, 6);
  CHECK_EQ(view.load(kHugePageSize), 6u);
}
