// R12 L1: a stale view, after its mapping was closed, shows private zeros for ever: never another mapping's bytes, never a crash.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/counters.h"
#include "core/mapping_table.h"
#include "fault/guarded_copy.h"
#include "fixture.h"

using namespace revocable;

namespace {

void check_private_zeros(const View& view) {
  uint32_t found = 0;
  for (size_t at = 0; at < view.span; at += 4) found |= view.load(at);
  CHECK_EQ(found, 0u);
  for (const MapsLine& line : maps_of(view.at, view.span)) {
    CHECK_EQ(line.inode, uint64_t{0});
    CHECK_EQ(line.flags, std::string("rw-p"));
  }
  view.store(8, 3);
  CHECK_EQ(view.load(8), 3u);
}

}  // namespace

TEST("R12 a closed range holds private zeros, whatever it held before") {
  start_library();
  for (const Fill fill : {Fill::zeros, Fill::ones, Fill::deadly}) {
    for (const bool owned : {true, false}) {
      for (const bool revoked : {true, false}) {
        Object* object = owned ? owned_object(4 * kPageSize) : foreign_object(4 * kPageSize).object;
        View view = map(object, {.fill = fill});
        view.store(0, 4711);
        CHECK_OK(protect_pages(view.mapping, 1, 1, Access::none));
        CHECK_OK(protect_pages(view.mapping, 2, 1, Access::read));
        if (revoked) revoke(object);
        if (revoked && fill != Fill::deadly) (void)view.load(0);
        view.close();
        check_private_zeros(view);
        CHECK_EQ(view.state(), State::closed);
      }
    }
  }
}

TEST("R12 closing a suspended mapping leaves zeros, and resume does not bring it back") {
  start_library();
  Object* object = owned_object(2 * kPageSize);
  View closed = map(object);
  const View kept = map(object);
  kept.store(0, 4711);
  RevokeCounts counts;
  bool mine;
  CHECK_OK(suspend(object, &counts, &mine));
  closed.close();
  CHECK_OK(resume(object));
  check_private_zeros(closed);
  CHECK_EQ(kept.load(), 4711u);
}

TEST("L1 object_close closes every mapping, is no revocation, and happens once") {
  start_library();
  Object* object = foreign_object(2 * kPageSize).object;
  std::vector<View> views;
  for (int i = 0; i < 300; ++i) views.push_back(map(object));
  views[0].store(0, 4711);
  const uint64_t revokes = g_counters.revokes.load();
  CHECK(object_close(object));
  CHECK(!object_close(object));
  for (const View& view : views) CHECK_EQ(view.state(), State::closed);
  CHECK_EQ(views[0].load(), 0u);
  View refused;
  CHECK_EQ(try_map(object, {.span = kPageSize}, &refused).errnum, EBADF);
  CHECK(!revoke_begin(object));
  CHECK_EQ(revoke_finish(object, false).mappings, 0u);
  CHECK_EQ(g_counters.revokes.load(), revokes);
  for (View& view : views) release_mapping_handle(view.mapping, true);
  object_release(object);
  CHECK_EQ(g_counters.live.load(), uint64_t{0});
}

TEST("L1 a mapping with two handles lives until the last is given back, or one closes it for all") {
  start_library();
  Object* object = owned_object(kPageSize);
  View view = map(object);
  view.store(0, 5);
  Mapping* again = nullptr;
  REQUIRE(acquire_mapping(view.mapping->slot, view.mapping->generation, &again));
  release_mapping_handle(again, false);
  CHECK_EQ(view.load(), 5u);
  REQUIRE(acquire_mapping(view.mapping->slot, view.mapping->generation, &again));
  view.close();
  CHECK_EQ(again->state.load(), State::closed);
  CHECK_EQ(view.load(), 0u);
  const uint32_t slot = again->slot, generation = again->generation;
  release_mapping_handle(again, true);
  CHECK(!acquire_mapping(slot, generation, &again));
}

TEST("L1 L2 mappings closed in every order with revoke leave no record behind") {
  start_library();
  const size_t before = table_sizes().slots_in_use;
  for (int round = 0; round < 400; ++round) {
    Object* object = owned_object(kPageSize);
    View view = map(object);
    char* at = view.at;
    const bool close_first = round % 2 == 0, touch = round % 4 < 2, release_first = round % 8 < 4;
    if (close_first) view.close();
    if (release_first && close_first) object_release(object);
    else revoke(object);
    if (touch) CHECK_EQ(view.load(), 0u);
    if (!close_first) view.close();
    if (!(release_first && close_first)) object_release(object);
    munmap(at, kPageSize);
  }
  CHECK_EQ(table_sizes().open_entries, size_t{0});
  CHECK(table_sizes().slots_in_use <= before + 1024);
  CHECK_EQ(g_counters.live.load() + g_counters.revoked.load() + g_counters.suspended.load(), uint64_t{0});
}

TEST("R12 a storm of accesses while their ranges close never crashes and sees only what its mapping held, or zeros") {
  start_library();
  constexpr size_t kRanges = 4, kPages = 4;
  char* ranges[kRanges];
  for (char*& range : ranges) range = own_range(kPages * kPageSize);
  std::atomic<uint32_t> closed{0};  // the last generation whose close has returned
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0}, rounds{0};
  Threads accessors;
  for (size_t thread = 0; thread < 3; ++thread) {
    accessors.add([&, thread] {
      for (size_t n = 0; !stop; ++n) {
        char* word = ranges[n % kRanges] + (n % kPages) * kPageSize;
        const uint32_t gone = closed.load();
        const uint32_t value = load_word(word);
        if (value != 0 && value <= gone) wrong.fetch_add(1);
        store_word(word + 16 + 4 * thread, 7);
        rounds.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (uint32_t generation = 1; generation <= static_cast<uint32_t>(check::rounds(2000)); ++generation) {
    const ForeignObject made = foreign_object(kPages * kPageSize);
    for (size_t page = 0; page < kPages; ++page) {
      CHECK_EQ(pwrite(made.fd, &generation, 4, static_cast<off_t>(page * kPageSize)), ssize_t{4});
    }
    View views[kRanges];
    for (size_t i = 0; i < kRanges; ++i) views[i] = map(made.object, {.at = ranges[i]});
    switch (generation % 4) {
      case 0: break;
      case 1: revoke(made.object); break;
      case 2: CHECK_EQ(ftruncate(made.fd, 0), 0); break;
      case 3: CHECK(object_close(made.object)); break;
    }
    for (View& view : views) view.close();
    closed = generation;
    object_release(made.object);
    close(made.fd);
  }
  EVENTUALLY(rounds.load() > 1000);
  stop = true;
  accessors.join();
  CHECK_EQ(wrong.load(), uint64_t{0});
}

TEST("R12 a stale view never shows the bytes of mappings made later") {
  start_library();
  Object* first = foreign_object(4 * kPageSize).object;
  std::vector<View> stale;
  for (int i = 0; i < 1500; ++i) {  // more than the table keeps of closed ranges
    stale.push_back(map(first));
    stale.back().close();
  }
  Object* second = foreign_object(4 * kPageSize).object;
  const View live = map(second);
  for (size_t at = 0; at < live.span; at += 4) live.store(at, 4711);
  for (const View& view : stale) {
    CHECK_EQ(view.load(kPageSize), 0u);
    view.store(kPageSize, 5);
  }
  CHECK_EQ(live.load(kPageSize), 4711u);
}

TEST("R12 a closed range that its owner unmapped is a stranger's again") {
  const int status = check::run_in_child([] {
    start_library();
    View view = map(owned_object(kPageSize));
    view.close();
    munmap(view.at, kPageSize);
    (void)view.load();
  });
  CHECK_DIED_OF(status, SIGSEGV);
}

TEST("L1 closes racing revokes, suspensions and accesses end in zeros") {
  start_library();
  for (int round = 0; round < check::rounds(1000); ++round) {
    Object* object = owned_object(2 * kPageSize);
    View views[3];
    for (View& view : views) {
      view = map(object);
      view.store(0, 4711);
    }
    Threads threads;
    threads.add([&] {
      for (View& view : views) view.close();
    });
    threads.add([&] {
      if (round % 2 == 0) {
        revoke(object);
        return;
      }
      RevokeCounts counts;
      bool mine;
      CHECK_OK(suspend(object, &counts, &mine));
      CHECK_OK(resume(object));
    });
    threads.add([&] {
      for (int i = 0; i < 50; ++i) (void)views[i % 3].load(kPageSize);
    });
    threads.join();
    for (const View& view : views) {
      CHECK_EQ(view.load(), 0u);
      munmap(view.at, view.span);
    }
    object_release(object);
  }
}
