// A3 A7 A8: the backing of a live mapping goes, or an access is not permitted.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/counters.h"
#include "base/memfd.h"
#include "base/spin.h"
#include "core/event_ring.h"
#include "fault/guarded_copy.h"
#include "fault/handler.h"
#include "fixture.h"
#include "stepping.h"

using namespace revocable;

namespace {

uint32_t in_file(int fd, size_t offset) {
  uint32_t value = 0;
  CHECK_EQ(pread(fd, &value, sizeof value, static_cast<off_t>(offset)), ssize_t{sizeof value});
  return value;
}

bool next_fault(RingReader* reader, const Mapping* mapping, Event* event) {
  uint64_t dropped = 0;
  while (reader->next(event, &dropped)) {
    if (event->slot == mapping->slot && event->generation == mapping->generation &&
        (event->kind == EventKind::fault_backing || event->kind == EventKind::fault_protection)) {
      return true;
    }
  }
  return false;
}

void number_pages(const View& view) {
  for (size_t page = 0; page * kPageSize < view.span; ++page) view.store(page * kPageSize, static_cast<uint32_t>(page + 1));
}

// The diverted page is the object's again.
bool settled(const View& view, size_t page) { return (view.mapping->mark_of(page) & kMarkStray) == 0; }

}  // namespace

TEST("A7 past the end of a truncated file only the touched page is lost, and stays lost when the file grows back") {
  start_library();
  const ForeignObject made = foreign_object(6 * kPageSize);
  const View view = map(made.object);
  number_pages(view);
  RingReader reader;
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(2 * kPageSize)) == 0);
  CHECK_EQ(view.load(3 * kPageSize + 16), 0u);
  Event event;
  REQUIRE(next_fault(&reader, view.mapping, &event));
  CHECK_EQ(event.kind, EventKind::fault_backing);
  CHECK_EQ(event.cause, Cause::past_end);
  CHECK_EQ(event.offset, uint64_t{3 * kPageSize + 16});
  CHECK(!event.write);
  CHECK_EQ(view.mapping->lost_cause(3), Cause::past_end);
  CHECK_EQ(view.mapping->lost_cause(4), Cause::none);
  CHECK_EQ(view.state(), State::live);
  CHECK_EQ(view.status(), kStatusMarked);
  view.store(3 * kPageSize, 77);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(6 * kPageSize)) == 0);
  for (size_t page = 0; page < 6; ++page) {
    const uint32_t value = static_cast<uint32_t>(page + 100);
    CHECK_EQ(pwrite(made.fd, &value, 4, static_cast<off_t>(page * kPageSize)), ssize_t{4});
  }
  CHECK_EQ(view.load(3 * kPageSize), 77u);
  CHECK_EQ(in_file(made.fd, 3 * kPageSize), 103u);
  for (const size_t page : {0, 1, 2, 4, 5}) CHECK_EQ(view.load(page * kPageSize), static_cast<uint32_t>(page + 100));
  CHECK_EQ(view.mapping->faults.load(), 1u);
}

TEST("A7 a write past the end says that it was a write, and other mappings lose nothing by it") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize);
  const View view = map(made.object), other = map(made.object);
  RingReader reader;
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
  view.store(2 * kPageSize, 5);
  Event event;
  REQUIRE(next_fault(&reader, view.mapping, &event));
  CHECK(event.write);
  CHECK_EQ(view.load(2 * kPageSize), 5u);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(4 * kPageSize)) == 0);
  CHECK_EQ(other.mapping->lost_cause(2), Cause::none);
  CHECK_EQ(other.load(2 * kPageSize), 0u);
  CHECK_EQ(in_file(made.fd, 2 * kPageSize), 0u);
}

TEST("A7 with the scope of an object one lost page revokes every mapping of it") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize, {.scope = FaultScope::object});
  const View view = map(made.object), other = map(made.object);
  other.store(0, 4711);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
  CHECK_EQ(view.load(2 * kPageSize), 0u);
  EVENTUALLY(made.object->revoke_done.load() == 1);
  CHECK_EQ(view.state(), State::revoked);
  CHECK_EQ(other.state(), State::revoked);
  CHECK_EQ(other.load(0), 0u);
  CHECK_EQ(made.object->revoke_cause.load(), Cause::past_end);
  CHECK_EQ(made.object->counts.mappings, 2u);
  View refused;
  CHECK_EQ(try_map(made.object, {.span = kPageSize}, &refused).errnum, ENODEV);
}

TEST("A7 R1 an object that its owner in another process revoked is revoked here, not faulty") {
  start_library();
  Object* owner = owned_object(4 * kPageSize);
  Object* consumer = nullptr;
  REQUIRE_OK(object_from_fd(owner->fd, {}, &consumer));
  const View view = map(consumer), other = map(consumer);
  view.store(0, 4711);
  RingReader reader;
  REQUIRE(ftruncate(owner->fd, 0) == 0);  // what revoke() does in the other process
  CHECK_EQ(view.load(0), 0u);
  EVENTUALLY(consumer->revoke_done.load() == 1);
  CHECK_EQ(other.state(), State::revoked);
  CHECK_EQ(consumer->revoke_cause.load(), Cause::none);
  Event event;
  CHECK(!next_fault(&reader, view.mapping, &event));
}

TEST("A7 a checked copy past the end marks the page and fills it") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize);
  const View view = map(made.object);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
  uint64_t value = 0;
  CHECK(!guarded_load(view.at + 2 * kPageSize, 4, &value));
  CHECK_EQ(view.mapping->lost_cause(2), Cause::none);
  absorb_backing_fault(view.mapping, {.address = reinterpret_cast<uintptr_t>(view.at + 2 * kPageSize), .bus = true}, 0);
  CHECK_EQ(judge_access(view.mapping, 2 * kPageSize, 4, false).verdict, Verdict::lost);
  CHECK_EQ(judge_access(view.mapping, 2 * kPageSize, 4, false).cause, Cause::past_end);
  CHECK_EQ(judge_access(view.mapping, 3 * kPageSize, 4, false).verdict, Verdict::fine);
  CHECK(guarded_load(view.at + 2 * kPageSize, 4, &value));
  CHECK_EQ(value, uint64_t{0});
}

TEST("A7 of two threads at a page that is lost none reads the fill as its value") {
  start_library();
  const ForeignObject made = foreign_object(2 * kPageSize);
  std::atomic<uint64_t> wrong{0};
  std::atomic<View*> view{nullptr};
  std::atomic<int> reading{-1};
  std::atomic<bool> end{false};
  Threads threads;
  const Finally ends([&] { end = true; });
  // Checked reads: a load, then a look at the status word. Sooner or later after the other thread's fault, so that some come
  // while it is being settled.
  threads.add([&] {
    for (int round = 0; !end; ++round) {
      View* now;
      while ((now = view.load()) == nullptr && !end) sched_yield();
      reading = round;
      while (view.load() == now && !end) {
        for (int i = 0; i < round % 64; ++i) relax_processor();
        const uint32_t value = now->load(kPageSize);
        if (now->status() == 0 && value != 2) ++wrong;
      }
      reading = -1;
    }
  });
  const int rounds = check::rounds(300);
  for (int round = 0; round < rounds; ++round) {
    REQUIRE(ftruncate(made.fd, static_cast<off_t>(2 * kPageSize)) == 0);
    View mapped = map(made.object);
    number_pages(mapped);
    view = &mapped;
    while (reading < 0) sched_yield();
    REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
    mapped.store(kPageSize + 64, 7);  // is not answered, as a load is, but gets the fill
    view = nullptr;
    while (reading >= 0) sched_yield();
    mapped.close();
    munmap(mapped.at, 2 * kPageSize);
  }
  CHECK_EQ(wrong.load(), uint64_t{0});
}

TEST("A7 from the instruction on at which the fill of a lost page can be read its status word says so") {
  if (!can_step()) check::skip("no single steps");
  start_library();
  const ForeignObject made = foreign_object(2 * kPageSize);
  enum class Seen { nothing, fill, data };
  // What another thread's checked read has behind so many instructions of the one that loses the page.
  const auto seen_after = [&](size_t instructions, bool* within) {
    CHECK_EQ(ftruncate(made.fd, static_cast<off_t>(2 * kPageSize)), 0);
    View view = map(made.object);
    number_pages(view);
    CHECK_EQ(ftruncate(made.fd, static_cast<off_t>(kPageSize)), 0);
    const auto address = reinterpret_cast<uintptr_t>(view.at + kPageSize);
    Seen seen = Seen::nothing;
    const auto read = [&] {
      uint64_t value;
      if (guarded_load(view.at + kPageSize, 4, &value)) seen = view.status() == 0 ? Seen::data : Seen::fill;
    };
    *within = run_interrupted(instructions, read, [&] {
      absorb_backing_fault(view.mapping, {.any = true, .address = address, .write = true, .bus = true}, 0);
    });
    CHECK_EQ(view.mapping->lost_cause(1), Cause::past_end);
    view.close();
    munmap(view.at, 2 * kPageSize);
    return seen;
  };
  constexpr size_t kStride = 20;
  bool within = true;
  size_t first = 0;
  while (within && seen_after(first, &within) == Seen::nothing) first += kStride;
  REQUIRE(within && first > kStride);
  size_t filled = 0;
  for (size_t instructions = first - kStride; instructions < first + 2 * kStride; ++instructions) {
    const Seen seen = seen_after(instructions, &within);
    CHECK(seen != Seen::data);
    filled += seen == Seen::fill;
  }
  CHECK(filled >= kStride);
}

TEST("A7 threads that lose a page at once lose no write") {
  start_library();
  for (int round = 0; round < check::rounds(500); ++round) {
    const ForeignObject made = foreign_object(2 * kPageSize);
    View view = map(made.object);
    REQUIRE(ftruncate(made.fd, 0) == 0);
    Threads threads;
    for (uint32_t i = 0; i < 4; ++i) {
      threads.add([&, i] {
        view.store(i * 16, i + 1);
        view.store(kPageSize + i * 16, i + 1);
      });
    }
    threads.join();
    for (uint32_t i = 0; i < 4; ++i) {
      CHECK_EQ(view.load(i * 16), i + 1);
      CHECK_EQ(view.load(kPageSize + i * 16), i + 1);
    }
    char* at = view.at;
    view.close();
    munmap(at, view.span);
    object_release(made.object);
    close(made.fd);
  }
}

TEST("A7 a file that is truncated and grown in a tight loop is never taken for a full or dead one") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> cycles{0};
  Threads threads;
  const Finally end([&] { stop = true; });
  threads.add([&] {
    while (!stop) {
      CHECK_EQ(ftruncate(made.fd, static_cast<off_t>(kPageSize)), 0);
      CHECK_EQ(ftruncate(made.fd, static_cast<off_t>(4 * kPageSize)), 0);
      cycles.fetch_add(1);
    }
  });
  for (int i = 0; i < check::rounds(2000); ++i) {
    View view;
    REQUIRE_OK(try_map(made.object, {.span = 4 * kPageSize}, &view));
    view.store(0, 1);
    for (size_t page = 1; page < 4; ++page) {
      view.store(page * kPageSize, 2);
      (void)view.load(page * kPageSize);
    }
    CHECK_EQ(view.mapping->lost_cause(0), Cause::none);
    for (size_t page = 1; page < 4; ++page) {
      const Cause cause = view.mapping->lost_cause(page);
      CHECK(cause == Cause::none || cause == Cause::past_end);
    }
    CHECK_EQ(view.state(), State::live);
    char* at = view.at;
    view.close();
    munmap(at, view.span);
  }
  EVENTUALLY(cycles.load() > 10);
  stop = true;
}

TEST("A7 a write into a full tmpfs loses that page to no-space, and what was written stays") {
  if (geteuid() != 0) check::skip("mounting a small tmpfs needs root");
  if (unshare(CLONE_NEWNS) != 0) check::skip("no mount namespace: errno " + std::to_string(errno));
  mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  char directory[] = "/tmp/full-tmpfs-XXXXXX";
  REQUIRE(mkdtemp(directory) != nullptr);
  REQUIRE(mount("tmpfs", directory, "tmpfs", 0, "size=64k") == 0);
  const std::string path = std::string(directory) + "/file";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(ftruncate(fd, static_cast<off_t>(64 * kPageSize)) == 0);
  start_library();
  Object* object = nullptr;
  REQUIRE_OK(object_open(path.c_str(), {}, &object));
  const View view = map(object);
  RingReader reader;
  size_t lost = 0;
  for (size_t page = 0; page < 64; ++page) {
    view.store(page * kPageSize, static_cast<uint32_t>(page + 1));
    CHECK_EQ(view.load(page * kPageSize), static_cast<uint32_t>(page + 1));
    const Cause cause = view.mapping->lost_cause(page);
    if (cause == Cause::none) {
      CHECK_EQ(in_file(fd, page * kPageSize), static_cast<uint32_t>(page + 1));
    } else {
      CHECK_EQ(cause, Cause::no_space);
      ++lost;
    }
  }
  CHECK(lost > 40 && lost < 64);
  CHECK_EQ(view.state(), State::live);
  Event event;
  CHECK(next_fault(&reader, view.mapping, &event));
  CHECK_EQ(event.cause, Cause::no_space);
  CHECK(event.write);
  umount2(directory, MNT_DETACH);
  rmdir(directory);
}

TEST("A8 a raw write to a read-only mapping completes, reaches no other mapping, and is undone") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize);
  const View writer = map(made.object), view = map(made.object, {.writable = false});
  number_pages(writer);
  RingReader reader;
  view.store(kPageSize, 99);
  Event event;
  REQUIRE(next_fault(&reader, view.mapping, &event));
  CHECK_EQ(event.kind, EventKind::fault_protection);
  CHECK(event.write);
  CHECK_EQ(event.offset, uint64_t{kPageSize});
  CHECK_EQ(writer.load(kPageSize), 2u);
  CHECK_EQ(in_file(made.fd, kPageSize), 2u);
  EVENTUALLY(settled(view, 1));
  CHECK_EQ(view.load(kPageSize), 2u);
  writer.store(kPageSize, 55);
  CHECK_EQ(view.load(kPageSize), 55u);
  EVENTUALLY(settled(view));
  CHECK_EQ(view.load(0), 1u);
}

TEST("A8 R1 a page diverted by a forbidden write is revoked with its mapping") {
  start_library();
  for (int round = 0; round < check::rounds(300); ++round) {
    const ForeignObject made = foreign_object(2 * kPageSize);
    View writer = map(made.object), view = map(made.object, {.writable = false});
    number_pages(writer);
    view.store(64, 99);
    revoke(made.object);
    CHECK_EQ(view.load(0), 0u);
    CHECK_EQ(view.load(64), 0u);
    CHECK_EQ(view.load(kPageSize), 0u);
    for (View* closing : {&writer, &view}) {
      closing->close();
      munmap(closing->at, closing->span);
    }
    object_release(made.object);
    close(made.fd);
  }
}

TEST("A8 protect none and read: raw access completes, reads give the fill, writes reach no other mapping") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize);
  const View view = map(made.object, {.fill = Fill::ones});
  number_pages(view);
  CHECK_OK(protect_pages(view.mapping, 1, 1, Access::none));
  CHECK_OK(protect_pages(view.mapping, 2, 1, Access::read));
  CHECK_EQ(judge_access(view.mapping, kPageSize, 4, false).verdict, Verdict::protected_);
  CHECK_EQ(judge_access(view.mapping, 2 * kPageSize, 4, true).verdict, Verdict::read_only);
  CHECK_EQ(judge_access(view.mapping, 2 * kPageSize, 4, false).verdict, Verdict::fine);
  CHECK_EQ(view.load(kPageSize + 8), 0xffffffffu);
  view.store(kPageSize, 99);
  view.store(2 * kPageSize, 99);
  CHECK_EQ(in_file(made.fd, kPageSize), 2u);
  CHECK_EQ(in_file(made.fd, 2 * kPageSize), 3u);
  EVENTUALLY(settled(view, 1) && settled(view, 2));
  CHECK_EQ(maps_of(view.at + kPageSize, kPageSize).at(0).flags, std::string("---s"));
  CHECK_EQ(view.load(2 * kPageSize), 3u);
  CHECK_OK(protect_pages(view.mapping, 0, 4, Access::read_write));
  EVENTUALLY(settled(view));
  for (size_t page = 0; page < 4; ++page) CHECK_EQ(view.load(page * kPageSize), static_cast<uint32_t>(page + 1));
}

TEST("A8 forbidden writes in a storm never crash and never reach the object") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize);
  const View view = map(made.object, {.writable = false}), writer = map(made.object);
  number_pages(writer);
  Threads threads;
  for (uint32_t i = 0; i < 3; ++i) {
    threads.add([&, i] {
      for (int round = 0; round < check::rounds(3000); ++round) view.store((round % 4) * kPageSize + 4 + i * 4, 99);
    });
  }
  threads.add([&] {
    for (int round = 0; round < check::rounds(3000); ++round)
      CHECK_OK(protect_pages(view.mapping, 1, 2, round % 2 ? Access::none : Access::read));
  });
  threads.join();
  for (size_t page = 0; page < 4; ++page) {
    CHECK_EQ(in_file(made.fd, page * kPageSize), static_cast<uint32_t>(page + 1));
    for (uint32_t i = 0; i < 3; ++i) CHECK_EQ(in_file(made.fd, page * kPageSize + 4 + i * 4), 0u);
  }
  CHECK_OK(protect_pages(view.mapping, 0, 4, Access::read));
  for (size_t page = 0; page < 4; ++page) {
    EVENTUALLY(settled(view, page));
    CHECK_EQ(view.load(page * kPageSize), static_cast<uint32_t>(page + 1));
  }
}

TEST("A8 a private read-only mapping keeps its own copies through a forbidden write") {
  start_library();
  const ForeignObject made = foreign_object(2 * kPageSize);
  const View view = map(made.object, {.private_copy = true});
  view.store(0, 7);
  CHECK_OK(protect_pages(view.mapping, 0, 1, Access::read));
  view.store(4, 8);
  EVENTUALLY(settled(view, 0));
  CHECK_EQ(view.load(0), 7u);
  CHECK_EQ(in_file(made.fd, 0), 0u);
  CHECK_EQ(in_file(made.fd, 4), 0u);
}

TEST("R2 protect in a storm never kills an access that is permitted again and again") {
  start_library();
  const View view = map(owned_object(2 * kPageSize));
  std::atomic<bool> stop{false};
  Threads threads;
  for (int i = 0; i < 2; ++i) {
    threads.add([&] {
      while (!stop) {
        (void)view.load(0);
        view.store(kPageSize, 1);
      }
    });
  }
  for (int round = 0; round < check::rounds(20000); ++round) {
    CHECK_OK(protect_pages(view.mapping, 0, 2, round % 2 == 0 ? Access::none : Access::read_write));
  }
  stop = true;
  threads.join();
  CHECK_OK(protect_pages(view.mapping, 0, 2, Access::read_write));
  EVENTUALLY(settled(view));
}

TEST("A3 a deadly fill leaves SIGBUS deadly for raw access, and only for raw access") {
  const auto body = [](bool raw, bool truncated) {
    return check::run_in_child([=] {
      start_library();
      const ForeignObject made = foreign_object(2 * kPageSize);
      const View view = map(made.object, {.fill = Fill::deadly});
      if (truncated) REQUIRE(ftruncate(made.fd, 0) == 0);
      else revoke(made.object);
      uint64_t value;
      CHECK(!guarded_load(view.at, 4, &value));
      if (truncated) absorb_backing_fault(view.mapping, {.address = reinterpret_cast<uintptr_t>(view.at), .bus = true}, 0);
      CHECK(!guarded_load(view.at, 4, &value));
      if (raw) view.load(0);
    });
  };
  CHECK_EXITED(body(false, false));
  CHECK_EXITED(body(false, true));
  CHECK_DIED_OF(body(true, false), SIGBUS);
  CHECK_DIED_OF(body(true, true), SIGBUS);
}

TEST("A7 a file with no room on the map count loses its tail in one piece") {
  if (check::kAsan || check::kTsan) check::skip("the sanitizer needs mappings of its own");
  start_library();
  constexpr size_t kPages = 70'000;
  const ForeignObject made = foreign_object(kPages * kPageSize);
  const View view = map(made.object);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
  for (size_t page = kPages - 2; page > 0; page -= 2) {  // every other one, so that no two fills merge
    view.store(page * kPageSize, 5);
    if (view.load(page * kPageSize) != 5u) CHECK_EQ(view.load(page * kPageSize), 5u);
  }
  for (size_t page = 2; page < kPages; page += 2)
    CHECK(view.mapping->lost_cause(page) != Cause::none || view.state() == State::revoked);
  view.store(0, 6);
  CHECK(view.load(0) == 6u);
}

// Loses pages until the map count has no room for one more and a tail is lost in one piece.
static void lose_until_tail(const ForeignObject& made, const View& view, size_t pages) {
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
  for (size_t page = pages - 2; page > 0 && view.mapping->lost_from.load() == UINTPTR_MAX; page -= 2) {
    view.store(page * kPageSize, 5);
  }
  REQUIRE(view.mapping->lost_from.load() != UINTPTR_MAX);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(pages * kPageSize)) == 0);
}

TEST("A7 zap brings back a tail that was lost in one piece, and every page that was lost before") {
  if (check::kAsan || check::kTsan) check::skip("the sanitizer needs mappings of its own");
  start_library();
  constexpr size_t kPages = 140'000;
  const ForeignObject made = foreign_object(kPages * kPageSize);
  const View view = map(made.object);
  lose_until_tail(made, view, kPages);
  const size_t tail = view.mapping->page_of(view.mapping->lost_from.load());
  for (const size_t page : {tail, tail + 1, kPages - 1}) CHECK(view.mapping->lost_cause(page) == Cause::past_end);
  CHECK_OK(zap(made.object, 0, kPages * kPageSize));
  CHECK_EQ(view.status(), 0u);
  for (size_t page = 1; page < kPages; ++page) {
    if (view.mapping->lost_cause(page) != Cause::none || view.load(page * kPageSize) != 0)
      CHECK_EQ(page, size_t{0});  // its number
  }
  view.store((kPages - 1) * kPageSize, 7);
  CHECK_EQ(in_file(made.fd, (kPages - 1) * kPageSize), 7u);
}

TEST("A7 a range of a tail that was lost in one piece comes back by itself") {
  if (check::kAsan || check::kTsan) check::skip("the sanitizer needs mappings of its own");
  start_library();
  constexpr size_t kPages = 140'000;
  const ForeignObject made = foreign_object(kPages * kPageSize);
  const View view = map(made.object);
  lose_until_tail(made, view, kPages);
  const size_t tail = view.mapping->page_of(view.mapping->lost_from.load());
  CHECK_OK(zap(made.object, (tail + 1) * kPageSize, 2 * kPageSize));
  CHECK(view.mapping->lost_cause(tail) == Cause::past_end);
  CHECK(view.mapping->lost_cause(tail + 1) == Cause::none);
  CHECK(view.mapping->lost_cause(tail + 2) == Cause::none);
  CHECK(view.mapping->lost_cause(tail + 3) == Cause::past_end);
  CHECK(view.mapping->lost_cause(kPages - 1) == Cause::past_end);
  view.store((tail + 2) * kPageSize, 7);
  view.store((tail + 3) * kPageSize, 8);
  CHECK_EQ(in_file(made.fd, (tail + 2) * kPageSize), 7u);
  CHECK_EQ(in_file(made.fd, (tail + 3) * kPageSize), 0u);
  CHECK_OK(remap_pages(view.mapping, tail + 3, 1, 0));  // another page of the object, which is not lost
  CHECK(view.mapping->lost_cause(tail + 3) == Cause::none);
}
