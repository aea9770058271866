// Traces: every access once, in each thread's order; what finds a full ring is counted where it would have been.
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <vector>

#include "base/linux_abi.h"
#include "core/service.h"
#include "core/status_table.h"
#include "device/access_trace.h"
#include "device/device.h"
#include "fixture.h"

using namespace revocable;

namespace {

// A device's set, for as long as a test needs it.
struct OwnSet {
  OwnSet() { start_library(); }
  ~OwnSet() { trace_set_release(set); }
  TraceSet* set = trace_set_acquire();

  void access(uint64_t value, uint32_t thread = 1) const {
    const SignalsBlocked blocked;
    if (trace_active(set)) trace_access(set, {.value = value, .thread = thread, .width = 4});
  }
  uint32_t word() const { return status_words()[set->word].load(); }
};

struct All {
  std::vector<uint64_t> values;
  std::vector<uint64_t> lost;  // before each of the values; at the end, behind all
  bool ended = false;
};

// All there is now.
All take_all(TraceSet* set, int trace, size_t most = 4) {
  All all;
  std::vector<AccessRecord> records(most);
  uint64_t lost = 0;
  for (;;) {
    const TraceTaken taken = trace_take(set, trace, records.data(), most);
    lost += taken.lost;
    for (size_t i = 0; i < taken.count; ++i) {
      all.values.push_back(records[i].value);
      all.lost.push_back(lost);
      lost = 0;
    }
    if (taken.count > 0 || taken.lost > 0) continue;
    all.ended = taken.ended;
    all.lost.push_back(lost);
    return all;
  }
}

using Numbers = std::vector<uint64_t>;

}  // namespace

TEST("a trace has what was accessed between its opening and its stop, in order") {
  const OwnSet own;
  own.access(1);
  CHECK(!trace_active(own.set));
  CHECK_EQ(own.word(), 0u);
  const int trace = trace_open(own.set, 16);
  CHECK_EQ(trace, 0);
  CHECK(trace_active(own.set));
  CHECK_EQ(own.word(), 1u);
  for (uint64_t value = 2; value < 12; ++value) own.access(value);
  const All first = take_all(own.set, trace, 3);
  CHECK(first.values == Numbers({2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  CHECK(!first.ended);
  own.access(12);
  trace_stop(own.set, trace);
  CHECK(!trace_active(own.set));
  CHECK_EQ(own.word(), 0u);
  own.access(13);
  const All rest = take_all(own.set, trace);
  CHECK(rest.values == Numbers({12}));
  CHECK(rest.ended);
  CHECK_EQ(trace_lost(own.set, trace), uint64_t{0});
  trace_close(own.set, trace);
}

TEST("a record is taken out as it was put in") {
  const OwnSet own;
  const int trace = trace_open(own.set, 1);
  const AccessRecord put{1, uint64_t{1} << 40, UINT64_MAX, 4, 5, 8, true, true, true};
  const SignalsBlocked blocked;
  trace_access(own.set, put);
  AccessRecord got;
  CHECK_EQ(trace_take(own.set, trace, &got, 1).count, size_t{1});
  CHECK(got.time_ns == put.time_ns && got.offset == put.offset && got.value == put.value && got.thread == put.thread);
  CHECK(got.region == put.region && got.width == put.width && got.write && got.raw && got.failed);
}

TEST("a full ring loses what comes, counts it, and says where") {
  const OwnSet own;
  const int trace = trace_open(own.set, 3);
  for (uint64_t value = 0; value < 5; ++value) own.access(value);
  CHECK_EQ(trace_lost(own.set, trace), uint64_t{2});
  AccessRecord one;
  CHECK_EQ(trace_take(own.set, trace, &one, 1).count, size_t{1});
  own.access(5);  // there is room for this one
  own.access(6);
  const All middle = take_all(own.set, trace);
  CHECK(middle.values == Numbers({1, 2, 5}));
  CHECK(middle.lost == Numbers({0, 0, 2, 1}));
  own.access(7);
  const All last = take_all(own.set, trace);
  CHECK(last.values == Numbers({7}));
  CHECK(last.lost == Numbers({0, 0}));
  CHECK_EQ(trace_lost(own.set, trace), uint64_t{3});
}

TEST("eight traces of one device record at once, each for itself; a ninth is refused") {
  const OwnSet own;
  std::vector<int> traces;
  for (uint32_t i = 0; i < kMostTraces; ++i) {
    traces.push_back(trace_open(own.set, 8));
    own.access(i);
  }
  CHECK_EQ(trace_open(own.set, 8), -EMFILE);
  for (uint32_t i = 0; i < kMostTraces; ++i) CHECK_EQ(take_all(own.set, traces[i]).values.size(), size_t{kMostTraces - i});
  trace_close(own.set, traces[3]);
  CHECK_EQ(trace_open(own.set, 8), traces[3]);
  CHECK_EQ(own.word(), kMostTraces);
  CHECK(take_all(own.set, traces[3]).values.empty());
  CHECK_EQ(trace_open(own.set, SIZE_MAX / 4096), -ENOMEM);
}

TEST("a removal ends all traces, and there is no new one; the next device begins afresh") {
  start_library();
  TraceSet* set;
  {
    const DeviceRef device = device_create("traced", 1000, [] {});
    set = device->traces;
    const int trace = trace_open(set, 8);
    {
      const SignalsBlocked blocked;
      trace_access(set, {.value = 7});
    }
    device_shut(*device);
    CHECK(trace_active(set));  // ops are still running
    device_abandon(*device);
    device_forget(*device);
    CHECK(!trace_active(set));
    CHECK_EQ(trace_open(set, 8), -ENODEV);
    const All all = take_all(set, trace);
    CHECK(all.values == Numbers({7}));
    CHECK(all.ended);
  }
  const DeviceRef next = device_create("next", 1000, [] {});
  CHECK(next->traces == set);
  CHECK_EQ(trace_open(set, 8), 0);
  CHECK(take_all(set, 0).values.empty());
  device_abandon(*next);
  device_forget(*next);
}

TEST("a storm of threads into one trace: none lost, none doubled, each thread's order kept; the consumer is woken") {
  const OwnSet own;
  constexpr uint32_t kThreads = 4;
  const auto each = static_cast<uint64_t>(check::rounds(50'000));
  const int trace = trace_open(own.set, 1 << 20);
  FutexWord rung{0};
  const int subscription = service_subscribe([&] {
    rung.fetch_add(1);
    futex_wake_private(&rung);
  });
  std::atomic<uint32_t> running{kThreads};
  std::vector<uint64_t> next(kThreads, 0);
  uint64_t wrong = 0, lost = 0, missed = 0;
  {
    Threads threads;
    for (uint32_t thread = 0; thread < kThreads; ++thread) {
      threads.add([&, thread] {
        for (uint64_t i = 0; i < each; ++i) own.access(i, thread);
        if (running.fetch_sub(1) == 1) trace_end(own.set);
      });
    }
    std::vector<AccessRecord> records(512);
    for (;;) {
      const uint32_t seen = rung.load();
      const TraceTaken taken = trace_take(own.set, trace, records.data(), records.size());
      lost += taken.lost;
      for (size_t i = 0; i < taken.count; ++i) wrong += records[i].value != next[records[i].thread]++;
      if (taken.count > 0 || taken.lost > 0) continue;
      if (taken.ended) break;
      // The next access rings, at the latest the end.
      const timespec limit{20, 0};
      if (futex_wait_private(&rung, seen, &limit) != 0 && errno == ETIMEDOUT) ++missed;
    }
  }
  service_unsubscribe(subscription);
  CHECK_EQ(wrong, uint64_t{0});
  CHECK_EQ(lost, uint64_t{0});
  CHECK_EQ(missed, uint64_t{0});
  for (const uint64_t count : next) CHECK_EQ(count, each);
}

TEST("a storm into a small ring: what is taken and what is lost are together all, and the traces agree on the order") {
  const OwnSet own;
  constexpr uint32_t kThreads = 3;
  const auto each = static_cast<uint64_t>(check::rounds(30'000));
  const int small = trace_open(own.set, 7);
  const int large = trace_open(own.set, 1 << 20);
  uint64_t taken_all = 0, lost_all = 0;
  std::vector<AccessRecord> kept;
  {
    Threads threads;
    std::atomic<uint32_t> running{kThreads};
    for (uint32_t thread = 0; thread < kThreads; ++thread) {
      threads.add([&, thread] {
        for (uint64_t i = 0; i < each; ++i) own.access(i, thread);
        --running;
      });
    }
    AccessRecord records[5];
    for (bool more = true; more;) {
      const bool last = running.load() == 0;
      const TraceTaken taken = trace_take(own.set, small, records, 5);
      taken_all += taken.count;
      lost_all += taken.lost;
      kept.insert(kept.end(), records, records + taken.count);
      more = !last || taken.count > 0 || taken.lost > 0;
    }
  }
  CHECK_EQ(taken_all + lost_all, kThreads * each);
  CHECK_EQ(trace_lost(own.set, small), lost_all);
  // What the small ring kept is a subsequence of what the large one has.
  std::vector<AccessRecord> records(kThreads * each);
  CHECK_EQ(trace_take(own.set, large, records.data(), records.size()).count, records.size());
  size_t at = 0;
  for (const AccessRecord& record : records) {
    if (at < kept.size() && kept[at].thread == record.thread && kept[at].value == record.value) ++at;
  }
  CHECK_EQ(at, kept.size());
}

namespace {
TraceSet* g_interrupted = nullptr;
std::atomic<uint64_t> g_from_handlers{0};
void record_in_handler(int) {
  trace_access(g_interrupted, {.value = 1, .thread = 2});
  g_from_handlers.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

TEST("a signal handler may record at any instruction of a thread that records, opens, takes and closes") {
  const OwnSet own;
  g_interrupted = own.set;
  const int trace = trace_open(own.set, 1 << 20);
  struct sigaction action = {};
  action.sa_handler = record_in_handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  std::atomic<bool> stop{false};
  uint64_t mine = 0, taken_all = 0;
  {
    const pthread_t self = pthread_self();
    Threads threads;
    threads.add([&] {
      const timespec pause{0, 20'000};
      while (!stop.load()) {
        pthread_kill(self, SIGUSR1);
        nanosleep(&pause, nullptr);
      }
    });
    const Finally end([&] { stop = true; });
    std::vector<AccessRecord> records(64);
    for (int i = 0; i < check::rounds(20'000); ++i) {
      own.access(0);
      ++mine;
      const int other = trace_open(own.set, 4);
      taken_all += trace_take(own.set, trace, records.data(), records.size()).count;
      trace_close(own.set, other);
    }
  }
  taken_all += take_all(own.set, trace).values.size();
  CHECK(g_from_handlers.load() > 0);
  CHECK_EQ(taken_all, mine + g_from_handlers.load());
  signal(SIGUSR1, SIG_DFL);
}
