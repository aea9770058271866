// R9: the temporary kind of revocation. The same views work again afterwards.
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <vector>

#include "base/counters.h"
#include "core/event_ring.h"
#include "fault/guarded_copy.h"
#include "fixture.h"

using namespace revocable;

namespace {

RevokeCounts suspend_now(Object* object) {
  RevokeCounts counts;
  bool mine = false;
  CHECK_OK(suspend(object, &counts, &mine));
  CHECK(mine);
  return counts;
}

bool unreachable(const View& view, size_t offset) {
  uint64_t value;
  return !guarded_load(view.at + offset, 4, &value);
}

}  // namespace

TEST("R9 a suspended view is out of reach in the kernel's eyes too, and is back with its content after resume") {
  start_library();
  Object* object = owned_object(4 * kPageSize);
  const View view = map(object);
  for (size_t page = 0; page < 4; ++page) view.store(page * kPageSize, static_cast<uint32_t>(page + 1));
  const RevokeCounts counts = suspend_now(object);
  CHECK_EQ(counts.mappings, 1u);
  CHECK_EQ(counts.replaced, 1u);
  CHECK(!counts.truncated);
  CHECK_EQ(view.state(), State::suspended);
  CHECK_EQ(maps_of(view.at, view.span).at(0).path, std::string("/memfd:revoked (deleted)"));
  CHECK(unreachable(view, 0));
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_EQ(write(ends[1], view.at, 1), ssize_t{-1});
  CHECK_EQ(errno, EFAULT);
  CHECK_EQ(view.load(), 0u);
  view.store(0, 99);  // into the fill
  CHECK_EQ(view.load(), 99u);
  CHECK_OK(resume(object));
  CHECK_EQ(view.status(), 0u);
  for (size_t page = 0; page < 4; ++page) CHECK_EQ(view.load(page * kPageSize), static_cast<uint32_t>(page + 1));
  view.store(0, 5);
  uint32_t value = 0;
  CHECK_EQ(pread(object->fd, &value, 4, 0), ssize_t{4});
  CHECK_EQ(value, 5u);
}

TEST("R9 each phase of suspend, touch, resume, revoke and touch tells of its first touch, and of no other") {
  start_library();
  for (const Fill fill : {Fill::zeros, Fill::ones}) {
    Object* object = owned_object(4 * kPageSize);
    const View view = map(object, {.fill = fill});
    RingReader reader;
    const auto announced = [&] {
      int touches = 0, others = 0;
      Event event;
      uint64_t dropped = 0;
      while (reader.next(&event, &dropped)) {
        if (event.kind == EventKind::object_changed) continue;
        ++(event.kind == EventKind::fault_revoked && event.slot == view.mapping->slot ? touches : others);
      }
      CHECK_EQ(others, 0);
      return touches;
    };
    const auto touch = [&] {
      for (size_t page = 0; page < 4; ++page) view.load(page * kPageSize);
      view.store(8, 1);
    };
    const uint64_t suspended = g_counters.faults_suspended, revoked = g_counters.faults_revoked;
    for (uint64_t phase = 1; phase <= 3; ++phase) {
      suspend_now(object);
      CHECK_EQ(announced(), 0);
      touch();
      CHECK_EQ(announced(), 1);
      CHECK_EQ(g_counters.faults_suspended - suspended, phase);
      view.mapping->retry_tag = 1;  // as a thread leaves it that was sent back
      CHECK_OK(resume(object));
      CHECK_EQ(view.mapping->retry_tag.load(), uint64_t{0});
      touch();
      CHECK_EQ(announced(), 0);
    }
    revoke(object);
    CHECK_EQ(announced(), 0);
    touch();
    CHECK_EQ(announced(), 1);
    touch();
    CHECK_EQ(announced(), 0);
    CHECK_EQ(g_counters.faults_revoked - revoked, uint64_t{1});
    CHECK_EQ(view.mapping->faults.load(), 4u);
  }
}

TEST("R9 R3 protections and rearranged pages are the same after resume") {
  start_library();
  Object* object = owned_object(8 * kPageSize);
  const View view = map(object);
  CHECK_OK(protect_pages(view.mapping, 1, 2, Access::read));
  CHECK_OK(protect_pages(view.mapping, 5, 1, Access::none));
  CHECK_OK(remap_pages(view.mapping, 7, 1, 0));
  const auto before = maps_of(view.at, view.span);
  for (int round = 0; round < 3; ++round) {
    suspend_now(object);
    const auto meanwhile = maps_of(view.at, view.span);
    REQUIRE(meanwhile.size() == before.size());
    for (size_t i = 0; i < before.size(); ++i) CHECK_EQ(meanwhile[i].flags, before[i].flags);
    if (round == 1) (void)view.load(5 * kPageSize);
    CHECK_OK(resume(object));
    const auto after = maps_of(view.at, view.span);
    REQUIRE(after.size() == before.size());
    for (size_t i = 0; i < before.size(); ++i) {
      CHECK_EQ(after[i].start, before[i].start);
      CHECK_EQ(after[i].flags, before[i].flags);
      CHECK_EQ(after[i].offset, before[i].offset);
      CHECK_EQ(after[i].path, before[i].path);
    }
  }
}

TEST("R9 a page lost before a suspension is still lost after it") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize);
  const View view = map(made.object);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(kPageSize)) == 0);
  view.store(2 * kPageSize, 5);
  REQUIRE(ftruncate(made.fd, static_cast<off_t>(4 * kPageSize)) == 0);
  suspend_now(made.object);
  CHECK_OK(resume(made.object));
  CHECK_EQ(view.mapping->lost_cause(2), Cause::past_end);
  CHECK_EQ(view.load(2 * kPageSize + 4), 0u);
  view.store(2 * kPageSize, 6);
  uint32_t value = 0;
  CHECK_EQ(pread(made.fd, &value, 4, static_cast<off_t>(2 * kPageSize)), ssize_t{4});
  CHECK_EQ(value, 0u);
  view.store(0, 7);
  CHECK_EQ(pread(made.fd, &value, 4, 0), ssize_t{4});
  CHECK_EQ(value, 7u);
}

TEST("R9 suspending and resuming twice are fine, and a suspended object refuses new mappings") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  suspend_now(object);
  RevokeCounts counts;
  bool mine = true;
  CHECK_OK(suspend(object, &counts, &mine));
  CHECK(!mine);
  View refused;
  CHECK_EQ(try_map(object, {.span = kPageSize}, &refused).errnum, ECANCELED);
  CHECK_OK(resume(object));
  CHECK_OK(resume(object));
  CHECK_EQ(view.state(), State::live);
  CHECK_OK(try_map(object, {.span = kPageSize}, &refused));
}

TEST("R9 an object with a private mapping refuses to be suspended") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View copy = map(object, {.private_copy = true});
  copy.store(0, 5);
  RevokeCounts counts;
  bool mine = false;
  CHECK_EQ(suspend(object, &counts, &mine).errnum, EBUSY);
  CHECK_EQ(object->state.load(), State::live);
  CHECK_EQ(copy.load(), 5u);
}

TEST("R9 revoking while suspended is for ever") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View touched = map(object), untouched = map(object);
  touched.store(0, 4711);
  suspend_now(object);
  touched.store(0, 6);
  const RevokeCounts counts = revoke(object);
  CHECK_EQ(counts.mappings, 2u);
  CHECK_EQ(counts.replaced, 2u);
  CHECK(counts.truncated);
  CHECK_EQ(resume(object).errnum, ENODEV);
  CHECK_EQ(touched.state(), State::revoked);
  CHECK_EQ(untouched.state(), State::revoked);
  CHECK_EQ(untouched.load(), 0u);
  CHECK_EQ(touched.load(), 6u);
}

TEST("R9 readers see the content or the fill, and nothing but the content while it is resumed") {
  start_library();
  constexpr uint32_t kCanary = 4711;
  Object* object = owned_object(4 * kPageSize);
  const View view = map(object), other = map(object);
  for (size_t page = 0; page < 4; ++page) view.store(page * kPageSize, kCanary);
  std::atomic<uint32_t> phase{0};  // odd while not live
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0}, reads{0};
  Threads readers;
  for (int i = 0; i < 3; ++i) {
    readers.add([&] {
      for (size_t n = 0; !stop; ++n) {
        const uint32_t before = phase.load();
        const uint32_t value = (n % 2 == 0 ? view : other).load((n % 4) * kPageSize);
        const bool live = before % 2 == 0 && phase.load() == before;
        if (value != kCanary && (live || value != 0)) wrong.fetch_add(1);
        reads.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (int round = 0; round < check::rounds(3000); ++round) {
    phase.fetch_add(1);
    suspend_now(object);
    CHECK_OK(resume(object));
    phase.fetch_add(1);
  }
  EVENTUALLY(reads.load() > 1000);
  stop = true;
  readers.join();
  CHECK_EQ(wrong.load(), uint64_t{0});
  CHECK_EQ(view.load(), kCanary);
}

TEST("R9 a revoke in the middle of a storm of suspensions ends it for good") {
  start_library();
  for (int round = 0; round < check::rounds(200); ++round) {
    Object* object = owned_object(kPageSize);
    std::vector<View> views;
    for (int i = 0; i < 8; ++i) views.push_back(map(object));
    views[0].store(0, 4711);
    std::atomic<int> cycles{0};
    Threads threads;
    threads.add([&] {
      for (;;) {
        RevokeCounts counts;
        bool mine;
        if (suspend(object, &counts, &mine) || resume(object)) return;
        ++cycles;
      }
    });
    threads.add([&] {
      while (object->state.load() != State::revoked) (void)views[3].load();
    });
    EVENTUALLY(cycles.load() > round % 4);
    const RevokeCounts counts = revoke(object);
    threads.join();
    CHECK_EQ(counts.mappings, 8u);
    for (View& view : views) {
      CHECK_EQ(view.state(), State::revoked);
      CHECK_EQ(view.load(), 0u);
      char* at = view.at;
      view.close();
      munmap(at, kPageSize);
    }
    object_release(object);
  }
}

TEST("zap lets pages go and the next touch asks the object again") {
  start_library();
  const ForeignObject made = foreign_object(4 * kPageSize);
  const View view = map(made.object), copy = map(made.object, {.private_copy = true});
  view.store(kPageSize, 5);
  copy.store(0, 6);
  CHECK_OK(zap(made.object, 0, 4 * kPageSize));
  unsigned char resident[4];
  CHECK_EQ(view.load(kPageSize), 5u);
  CHECK_EQ(copy.load(), 6u);
  CHECK_EQ(mincore(view.at, view.span, resident), 0);
  CHECK_EQ(view.state(), State::live);
}

// What a checked accessor does: a look at the word, a load, a look at the word.
TEST("R9 A1 the word of a resumed mapping, or of one whose pages are as before, is another one than before") {
  start_library();
  Object* object = owned_object(4 * kPageSize);
  const View view = map(object);
  std::vector<uint32_t> seen{view.word()};
  CHECK_EQ(seen[0], 0u);
  const auto changed = [&] {
    CHECK_EQ(view.status(), 0u);
    CHECK(std::find(seen.begin(), seen.end(), view.word()) == seen.end());
    seen.push_back(view.word());
  };
  for (int round = 0; round < 3; ++round) {
    suspend_now(object);
    CHECK_OK(resume(object));
    changed();
    CHECK_OK(protect_pages(view.mapping, 1, 1, Access::read));
    view.store(kPageSize, 1);  // diverted
    CHECK_OK(protect_pages(view.mapping, 1, 1, Access::read_write));
    settle_strays(view.mapping);
    changed();
  }
  const uint32_t quiet = view.word();
  CHECK_OK(protect_pages(view.mapping, 2, 1, Access::read));
  CHECK_EQ(view.status(), kStatusMarked);
  CHECK_EQ(view.word(), quiet | kStatusMarked);  // what the pages show is the same
  suspend_now(object);
  CHECK_OK(resume(object));
  CHECK_EQ(view.status(), kStatusMarked);
  CHECK(view.word() != (quiet | kStatusMarked));
  const View fresh = map(object);
  CHECK_EQ(fresh.word(), 0u);
}

TEST("R9 A1 no load that a suspension answered passes for real, although the mapping is live before and after it") {
  start_library();
  constexpr uint32_t kCanary = 0xca9a21e5;
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  view.store(0, kCanary);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> real{0}, wrong{0}, resumed_meanwhile{0};
  Threads threads;
  const Finally end([&] { stop.store(true); });
  // More readers than processors, which give theirs away where any thread may lose it: before and after the load, for as long as
  // a suspension takes.
  for (int reader = 0; reader < 4; ++reader) {
    threads.add([&, reader] {
      for (unsigned i = 0; !stop.load(std::memory_order_relaxed); ++i) {
        const uint32_t before = view.word();
        if ((before & kStatusSpecial) != 0) continue;
        const timespec pause{0, reader % 2 == 0 ? 0 : long{i % 64} * 100'000};
        pause.tv_nsec == 0 ? sched_yield() : nanosleep(&pause, nullptr);
        const uint32_t value = view.load();
        pause.tv_nsec == 0 ? sched_yield() : nanosleep(&pause, nullptr);
        const uint32_t after = view.word();
        if (before != after) resumed_meanwhile += (after & kStatusSpecial) == 0 && value != kCanary;
        else if (value == kCanary) ++real;
        else ++wrong;
      }
    });
  }
  const auto enough = [&] { return real > 100 && resumed_meanwhile > 10; };
  for (int round = 0; (round < check::rounds(200) || !enough()) && wrong == 0; ++round) {
    suspend_now(object);
    CHECK_OK(resume(object));
    usleep(500);  // the readers find it live for as long as suspended
  }
  stop = true;
  threads.join();
  CHECK_EQ(wrong.load(), uint64_t{0});
}
