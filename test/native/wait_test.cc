// R11: threads blocked in a futex wait on a word of a mapping are woken by wake, and by revocation with an error.
#include "core/wait_list.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "base/features.h"
#include "fixture.h"

using namespace revocable;

namespace {

constexpr uint64_t kLong = 15'000'000'000;  // ns

void without_futex_waitv() { switch_off_features("futex-waitv"); }

// Until its limit no thread has woken it: what has happened meanwhile it may know, but by its own look.
WaitResult woken_slice(Waiter* waiter) {
  const auto begun = std::chrono::steady_clock::now();
  const WaitResult result = wait_slice(waiter, kLong);
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::nanoseconds(kLong / 2));
  return result;
}

WaitResult wait_once(Mapping* mapping, size_t offset, uint32_t expected) {
  Waiter* waiter = wait_begin(mapping, offset, expected);
  const WaitResult result = woken_slice(waiter);
  wait_end(waiter);
  return result;
}

// One thread asleep on `view`'s word until `end` does something; checks how it ended.
template <typename End>
void wait_until(const View& view, WaitResult expected, End end) {
  std::atomic<pid_t> tid{0};
  std::atomic<uint32_t> result{99};
  Threads threads;
  threads.add([&] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    result = static_cast<uint32_t>(wait_once(view.mapping, 64, 0));
  });
  EVENTUALLY(tid.load() != 0 && sleeps_in_futex(tid.load()));
  end();
  threads.join();
  CHECK_EQ(result.load(), static_cast<uint32_t>(expected));
}

void every_end_of_a_wait() {
  start_library();
  for (int i = 0; i < 20; ++i) {
    Object* object = owned_object(kPageSize);
    View view = map(object), other = map(object);
    wait_until(view, WaitResult::woken, [&] { CHECK_EQ(wake_word(view.mapping, 64, 1), 1u); });
    wait_until(view, WaitResult::woken, [&] { CHECK_EQ(wake_word(other.mapping, 64, 5), 1u); });  // by the other mapping
    if (i % 4 == 0) wait_until(view, WaitResult::gone, [&] { revoke(object); });
    if (i % 4 == 1) wait_until(view, WaitResult::gone, [&] { view.close(); });
    if (i % 4 == 2) wait_until(view, WaitResult::gone, [&] { CHECK(object_close(object)); });
    if (i % 4 == 3) {
      RevokeCounts counts;
      bool mine;
      wait_until(view, WaitResult::gone, [&] { CHECK_OK(suspend(object, &counts, &mine)); });
    }
  }
}

void no_wait_survives_a_racing_revoke() {
  start_library();
  const int count = check::rounds(features().futex_waitv ? 3000 : 300);
  for (int round = 0; round < count; ++round) {
    Object* object = owned_object(kPageSize);
    View view = map(object);
    WaitResult results[2];
    std::atomic<int> started{0};
    Threads threads;
    for (WaitResult& result : results) {
      threads.add([&] {
        ++started;
        result = wait_once(view.mapping, 0, 0);
      });
    }
    while (started.load() < round % 3) sched_yield();
    revoke(object);
    threads.join();
    // `not_equal`: the truncated word reads as a fill; its value is 0 here, so only `gone` is right.
    for (const WaitResult result : results) CHECK_EQ(result, WaitResult::gone);
    char* at = view.at;
    view.close();
    munmap(at, kPageSize);
    object_release(object);
  }
}

// Ping-pong by wake alone, while the word stays the same: a wake that finds no waiter asleep must reach the thread that has begun
// to wait.
void no_wake_is_lost() {
  start_library();
  const View view = map(owned_object(kPageSize));
  const int count = check::rounds(features().futex_waitv ? 5000 : 150);
  std::atomic<Waiter*> begun{nullptr};
  std::atomic<bool> done{false};
  int lost = 0;
  Threads threads;
  threads.add([&] {
    for (int i = 0; i < count; ++i) {
      Waiter* waiter = wait_begin(view.mapping, 0, 0);
      begun = waiter;
      if (woken_slice(waiter) != WaitResult::woken) ++lost;
      wait_end(waiter);
    }
    done = true;
  });
  int woken = 0;
  while (!done) {
    if (begun.exchange(nullptr) == nullptr) continue;
    if (wake_word(view.mapping, 0, 1) == 1) ++woken;
  }
  threads.join();
  CHECK_EQ(lost, 0);
  CHECK_EQ(woken, count);
}

}  // namespace

TEST("R11 a wait ends by wake, also through another mapping, and by revoke, close and suspend") { every_end_of_a_wait(); }
TEST("R11 the same without futex_waitv") {
  without_futex_waitv();
  every_end_of_a_wait();
}

TEST("R11 no waiter survives a revoke that races with its going to sleep") { no_wait_survives_a_racing_revoke(); }
TEST("R11 the same race without futex_waitv") {
  without_futex_waitv();
  no_wait_survives_a_racing_revoke();
}

TEST("R11 no wake is lost on a waiter that is not asleep yet") { no_wake_is_lost(); }
TEST("R11 no wake is lost without futex_waitv") {
  without_futex_waitv();
  no_wake_is_lost();
}

TEST("R11 a wake before the wait has gone to sleep is kept for it") {
  start_library();
  const View view = map(owned_object(kPageSize));
  Waiter* waiter = wait_begin(view.mapping, 8, 0);
  CHECK_EQ(wake_word(view.mapping, 8, 1), 1u);
  CHECK_EQ(woken_slice(waiter), WaitResult::woken);
  wait_end(waiter);
  CHECK_EQ(wake_word(view.mapping, 8, 1), 0u);
}

TEST("R11 a wait for another value ends at once, one that no thread wakes is pending, one on a revoked mapping is gone") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  view.store(0, 5);
  CHECK_EQ(wait_once(view.mapping, 0, 4), WaitResult::not_equal);
  Waiter* waiter = wait_begin(view.mapping, 0, 5);
  CHECK_EQ(wait_slice(waiter, 3'000'000), WaitResult::pending);
  wait_end(waiter);
  revoke(object);
  CHECK_EQ(wait_once(view.mapping, 0, 5), WaitResult::gone);
}

TEST("R11 wake wakes as many as asked, of this word and no other") {
  start_library();
  const View view = map(owned_object(2 * kPageSize));
  std::atomic<int> woken{0}, on_other{0};
  std::atomic<pid_t> tids[5] = {};
  Threads threads;
  for (int i = 0; i < 5; ++i) {
    threads.add([&, i] {
      tids[i] = static_cast<pid_t>(syscall(SYS_gettid));
      const WaitResult result = wait_once(view.mapping, i < 4 ? 64 : kPageSize + 64, 0);
      if (result == WaitResult::woken) ++(i < 4 ? woken : on_other);
    });
  }
  for (auto& tid : tids) EVENTUALLY(tid.load() != 0 && sleeps_in_futex(tid.load()));
  CHECK_EQ(wake_word(view.mapping, 64, 2), 2u);
  EVENTUALLY(woken.load() == 2);
  CHECK_EQ(wake_word(view.mapping, 64, 10), 2u);
  EVENTUALLY(woken.load() == 4);
  CHECK_EQ(on_other.load(), 0);
  CHECK_EQ(wake_word(view.mapping, kPageSize + 64, UINT32_MAX), 1u);
  threads.join();
  CHECK_EQ(on_other.load(), 1);
}

TEST("R11 waits and wakes reach across processes") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  // The child sleeps on its own mapping by futex(2); this process wakes it, and is then woken by it.
  Threads threads;
  std::atomic<uint32_t> result{99};
  std::atomic<pid_t> tid{0};
  threads.add([&] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    result = static_cast<uint32_t>(wait_once(view.mapping, 128, 0));
  });
  EVENTUALLY(tid.load() != 0 && sleeps_in_futex(tid.load()));
  std::atomic<uint32_t> woken{0};
  threads.add([&] { CHECK(check::eventually([&] { return (woken = wake_word(view.mapping, 64, 1)) == 1; })); });
  const int status = check::run_in_child([&] {
    void* at = mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, object->fd, 0);
    CHECK(at != MAP_FAILED);
    CHECK_EQ(syscall(SYS_futex, static_cast<char*>(at) + 64, FUTEX_WAIT, 0, nullptr, nullptr, 0), 0L);
    CHECK_EQ(syscall(SYS_futex, static_cast<char*>(at) + 128, FUTEX_WAKE, 1, nullptr, nullptr, 0), 1L);
  });
  CHECK_EXITED(status);
  threads.join();
  CHECK_EQ(woken.load(), 1u);
  CHECK_EQ(result.load(), static_cast<uint32_t>(WaitResult::woken));
}

TEST("R11 a wait on a thread of its own ends by wake, timeout, cancel and revoke, and says so once") {
  start_library();
  for (const char* how : {"wake", "timeout", "cancel", "revoke"}) {
    for (int i = 0; i < check::rounds(100); ++i) {
      Object* object = owned_object(kPageSize);
      View view = map(object);
      std::atomic<int> calls{0};
      std::atomic<uint32_t> got{99};
      Waiter* waiter = wait_begin(view.mapping, 0, 0);
      const std::string end = how;
      REQUIRE_OK(wait_on_thread(waiter, end == "timeout" ? 1'000'000 : -1, [&, waiter](WaitResult result) {
        wait_end(waiter);
        got = static_cast<uint32_t>(result);
        ++calls;
      }));
      WaitResult expected = WaitResult::timed_out;
      if (end == "wake") {
        CHECK_EQ(wake_word(view.mapping, 0, 1), 1u);
        expected = WaitResult::woken;
      } else if (end == "cancel") {
        wait_cancel(waiter);
        expected = WaitResult::cancelled;
      } else if (end == "revoke") {
        revoke(object);
        expected = WaitResult::gone;
      }
      EVENTUALLY(calls.load() == 1);
      CHECK_EQ(got.load(), static_cast<uint32_t>(expected));
      char* at = view.at;
      view.close();
      munmap(at, kPageSize);
      object_release(object);
    }
  }
}

TEST("R11 a thousand sleepers on one mapping are all woken by its revocation") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  const int count = check::kTsan ? 100 : 1000;
  std::atomic<int> gone{0}, finished{0};
  for (int i = 0; i < count; ++i) {
    Waiter* waiter = wait_begin(view.mapping, static_cast<size_t>(i % 1024) * 4, 0);
    REQUIRE_OK(wait_on_thread(waiter, -1, [&, waiter](WaitResult result) {
      wait_end(waiter);
      gone += result == WaitResult::gone;
      ++finished;
    }));
  }
  revoke(object);
  EVENTUALLY(finished.load() == count);
  CHECK_EQ(gone.load(), count);
}
