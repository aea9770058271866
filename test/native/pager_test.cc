// Pages of simulated devices: asked for at the first touch, once a mapping, and never after a removal.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/counters.h"
#include "base/features.h"
#include "base/linux_abi.h"
#include "base/memfd.h"
#include "core/mapping_table.h"
#include "device/device.h"
#include "device/page_source.h"
#include "device/pager.h"
#include "device/userfault.h"
#include "fault/guarded_copy.h"
#include "fixture.h"
#include "stepping.h"

using namespace revocable;

namespace {

bool have_userfault() {
  const Failure failure = userfault_open();
  if (!failure) return true;
  check::skip("no userfaultfd here");
}

// A device whose owner is a thread of the test: `answer` is called there for each page asked for.
class Model {
 public:
  using Op = std::function<void(const Work&)>;
  explicit Model(Op op, uint32_t limit_ms = 5000) : op_(std::move(op)) {
    std::mutex started;
    std::condition_variable ready;
    thread_ = std::thread([&, this, limit_ms] {
      auto device = device_create("model", limit_ms, [this] { ring(); });
      {
        std::lock_guard guard(started);
        device_ = device;
        ready.notify_one();
      }
      serve();
    });
    std::unique_lock wait(started);
    ready.wait(wait, [this] { return device_ != nullptr; });
  }
  ~Model() { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    {
      std::lock_guard guard(lock_);
      stopping_ = true;
      bell_.notify_one();
    }
    thread_.join();
    device_abandon(*device_);
    device_forget(*device_);
  }
  const DeviceRef& device() const { return device_; }
  uint64_t faults() const { return faults_; }
  uint64_t write_faults() const { return write_faults_; }
  uint64_t expired() const { return expired_; }
  uint64_t ends() const { return ends_; }

 private:
  void ring() {
    std::lock_guard guard(lock_);
    rung_ = true;
    bell_.notify_one();
  }
  void serve() {
    for (;;) {
      {
        std::unique_lock wait(lock_);
        bell_.wait(wait, [this] { return rung_ || stopping_; });
        if (stopping_ && !rung_) return;
        rung_ = false;
      }
      for (const Work& work : device_take_work(*device_, 64)) {
        if (work.kind == WorkKind::fault) ++faults_;
        if (work.kind == WorkKind::write_fault) ++write_faults_;
        if (work.kind == WorkKind::expired) ++expired_;
        if (work.kind == WorkKind::mapping_ended) ++ends_;
        op_(work);
      }
    }
  }

  Op op_;
  DeviceRef device_;
  std::thread thread_;
  std::mutex lock_;
  std::condition_variable bell_;
  bool rung_ = false, stopping_ = false;
  std::atomic<uint64_t> faults_{0}, write_faults_{0}, expired_{0}, ends_{0};
};

// Content of a page: its number in the object, plus one, in each word.
std::vector<uint32_t> content_of(uint64_t object_offset) {
  return std::vector<uint32_t>(kPageSize / 4, static_cast<uint32_t>(object_offset / kPageSize) + 1);
}

void supply(const Work& work) {
  if (work.kind != WorkKind::fault && work.kind != WorkKind::write_fault) return;
  const auto content = content_of(work.numbers[3]);
  pager_answer(work.token, {Answer::Kind::content, content.data(), kPageSize});
}

Object* region_of(const DeviceRef& device, size_t pages, Supply supply = {}) {
  CHECK_OK(pager_start(supply.ask_before_write));
  Object* object = nullptr;
  const Failure failure = object_create({.size = pages * kPageSize},
                                        {.backing = device, .supply = std::make_shared<Supply>(std::move(supply))}, &object);
  CHECK_OK(failure);
  return object;
}

Bytes bytes_of(size_t size, int value) {
  Bytes bytes(size);
  memset(bytes.data(), value, bytes.size());
  return bytes;
}

uint64_t count(const std::atomic<uint64_t>& counter) { return counter.load(); }

// What a removal does, but for what only JavaScript knows.
void unplug(Model& model, Object* object) {
  CHECK(device_shut(*model.device()));
  revoke(object);
}

}  // namespace

TEST("a fault op is asked once for each mapping and page, also when several threads touch one page at once") {
  start_library();
  have_userfault();
  constexpr size_t kPages = 64;
  std::mutex lock;
  std::map<std::pair<uint64_t, uint64_t>, int> asked;
  std::set<uint64_t> threads;
  Model model([&](const Work& work) {
    if (work.kind == WorkKind::fault) {
      std::lock_guard guard(lock);
      ++asked[{work.numbers[0], work.numbers[2]}];
      threads.insert(work.numbers[4]);
    }
    supply(work);
  });
  Object* object = region_of(model.device(), kPages);
  const View a = map(object), b = map(object);
  std::atomic<size_t> bad{0};
  std::mutex tids_lock;
  std::set<uint64_t> tids;
  {
    Threads all;
    for (int i = 0; i < 4; ++i) {
      all.add([&] {
        {
          std::lock_guard guard(tids_lock);
          tids.insert(static_cast<uint64_t>(abi::tid()));
        }
        for (size_t page = 0; page < kPages; ++page) {
          for (const View& view : {a, b}) bad += view.load(page * kPageSize) != page + 1;
        }
      });
    }
  }
  CHECK_EQ(bad.load(), size_t{0});
  CHECK_EQ(model.faults(), uint64_t{2 * kPages});
  std::lock_guard guard(lock);
  CHECK_EQ(asked.size(), 2 * kPages);
  for (const auto& [key, times] : asked) CHECK_EQ(times, 1);
  for (const uint64_t tid : threads) CHECK(tids.contains(tid));
  EVENTUALLY(count(g_counters.pages_supplied) == uint64_t{2 * kPages});  // counted after the thread has been woken
}

TEST("first writes are asked about once a page and mapping, and reads are not") {
  start_library();
  have_userfault();
  if (!userfault_write_protects()) check::skip("no write protection of shared memory");
  Model model(supply);
  Object* object = region_of(model.device(), 8, {.ask_before_write = true});
  const View view = map(object);
  for (size_t page = 0; page < 8; ++page) CHECK_EQ(view.load(page * kPageSize), static_cast<uint32_t>(page + 1));
  CHECK_EQ(model.write_faults(), uint64_t{0});
  for (int round = 0; round < 3; ++round) {
    for (size_t page = 0; page < 4; ++page) view.store(page * kPageSize, 100);
  }
  CHECK_EQ(model.write_faults(), uint64_t{4});
  CHECK_EQ(model.faults(), uint64_t{8});
  CHECK_EQ(view.load(), 100u);
  CHECK_EQ(view.load(4 * kPageSize), 5u);
}

TEST("a first touch that writes asks for the page, then about the write") {
  start_library();
  have_userfault();
  if (!userfault_write_protects()) check::skip("no write protection of shared memory");
  std::atomic<uint32_t> order{0};  // a digit for each
  Model model([&](const Work& work) {
    order = order * 10 + (work.kind == WorkKind::fault ? 1 : work.kind == WorkKind::write_fault ? 2 : 3);
    supply(work);
  });
  Object* object = region_of(model.device(), 1, {.ask_before_write = true});
  const View view = map(object);
  view.store(4, 9);
  CHECK_EQ(order.load(), 12u);
  CHECK_EQ(view.load(0), 1u);
  CHECK_EQ(view.load(4), 9u);
}

TEST("a first write that is refused reaches no other mapping, and readers go on") {
  start_library();
  have_userfault();
  if (!userfault_write_protects()) check::skip("no write protection of shared memory");
  Model model([&](const Work& work) {
    if (work.kind == WorkKind::write_fault) pager_answer(work.token, {.kind = Answer::Kind::refused});
    else supply(work);
  });
  Object* object = region_of(model.device(), 2, {.ask_before_write = true});
  const View view = map(object);
  CHECK_EQ(view.load(0), 1u);
  view.store(0, 77);
  CHECK_EQ(judge_access(view.mapping, 0, 4, true).verdict, Verdict::read_only);
  EVENTUALLY(settled(view));
  CHECK_EQ(view.load(0), 1u);
  CHECK_EQ(view.load(kPageSize), 2u);
  uint32_t value = 0;
  CHECK_EQ(pread(object->fd, &value, 4, 0), ssize_t{4});
  CHECK_EQ(value, 1u);
}

TEST("pages are supplied without asking: zeros, a constant, an image, a model; several at once") {
  start_library();
  have_userfault();
  Model model([](const Work& work) { CHECK_EQ(work.kind, WorkKind::mapping_ended); });
  const auto check_all = [&](Supply supply, uint32_t around, auto expected) {
    supply.around = around;
    Object* object = region_of(model.device(), 40, std::move(supply));
    const View view = map(object), second = map(object);
    for (size_t page = 0; page < 40; ++page) {
      CHECK_EQ(view.load(page * kPageSize + 8), expected(page));
      CHECK_EQ(second.load(page * kPageSize + 8), expected(page));
    }
    object_close(object);
    object_release(object);
  };
  for (const uint32_t around : {1u, 16u}) {
    check_all({.kind = Supply::Kind::zeros}, around, [](size_t) { return 0u; });
    check_all({.kind = Supply::Kind::constant, .content = bytes_of(around * kPageSize, 0x11)}, around,
              [](size_t) { return 0x11111111u; });
    check_all({.kind = Supply::Kind::image, .content = bytes_of(3 * kPageSize + 20, 0x22)}, around,
              [](size_t page) { return page <= 3 ? 0x22222222u : 0u; });
    check_all({.kind = Supply::Kind::model, .model = model_offsets}, around,
              [](size_t page) { return static_cast<uint32_t>(page * kPageSize + 8); });
  }
  CHECK_EQ(model.faults(), uint64_t{0});
}

TEST("a C++ op serves 100,000 pages, each with its own content") {
  start_library();
  have_userfault();
  Model model([](const Work&) {});
  constexpr size_t kPages = 100'000;
  Object* object = region_of(model.device(), kPages, {.kind = Supply::Kind::model, .model = model_offsets});
  const View view = map(object);
  size_t bad = 0;
  for (size_t page = 0; page < kPages; ++page) bad += view.load(page * kPageSize) != static_cast<uint32_t>(page * kPageSize);
  CHECK_EQ(bad, size_t{0});
  EVENTUALLY(count(g_counters.pages_supplied) == uint64_t{kPages});
  CHECK_EQ(model.faults(), uint64_t{0});
}

TEST("kernel case 28: even pages are refused with SIGBUS, odd ones supplied, and the counts are exact") {
  start_library();
  have_userfault();
  constexpr size_t kPages = 32;
  Model model([&](const Work& work) {
    if (work.kind == WorkKind::fault && work.numbers[2] % 2 == 0) pager_answer(work.token, {.kind = Answer::Kind::refused});
    else supply(work);
  });
  Object* object = region_of(model.device(), kPages);
  const View view = map(object);
  size_t refused = 0;
  for (size_t page = 0; page < kPages; ++page) {
    uint64_t value = 0;
    if (guarded_load(view.at + page * kPageSize, 4, &value)) CHECK_EQ(value, uint64_t{page + 1});
    else ++refused;
  }
  CHECK_EQ(refused, kPages / 2);
  CHECK_EQ(view.mapping->faults.load(), static_cast<uint32_t>(kPages / 2));
  CHECK_EQ(model.faults(), uint64_t{kPages});
  // A raw view reads the fill there, and nothing is asked or counted again.
  for (size_t page = 0; page < kPages; page += 2) CHECK_EQ(view.load(page * kPageSize), 0u);
  CHECK_EQ(view.mapping->faults.load(), static_cast<uint32_t>(kPages / 2));
  CHECK_EQ(model.faults(), uint64_t{kPages});
  CHECK_EQ(view.mapping->lost_cause(2), Cause::refused);
}

TEST("kernel case 26: a page that was refused is asked for again after zap, and once supplied is there") {
  start_library();
  have_userfault();
  std::atomic<bool> refuse{true};
  Model model([&](const Work& work) {
    if (refuse) pager_answer(work.token, {.kind = Answer::Kind::refused});
    else supply(work);
  });
  Object* object = region_of(model.device(), 4);
  const View view = map(object);
  for (int round = 0; round < 3; ++round) {
    uint64_t value = 0;
    CHECK(!guarded_load(view.at + kPageSize, 4, &value));
    CHECK_EQ(model.faults(), static_cast<uint64_t>(round + 1));
    CHECK_OK(zap(object, 0, 4 * kPageSize));
  }
  refuse = false;
  CHECK_EQ(view.load(kPageSize), 2u);
  CHECK_EQ(view.status(), 0u);
}

TEST("kernel case 29: after zap each page is asked for again, and has what was written to it") {
  start_library();
  have_userfault();
  constexpr size_t kPages = 16;
  std::atomic<uint64_t> present{0};
  Model model([&](const Work& work) {
    if ((work.numbers[5] & 2) != 0) ++present;
    supply(work);
  });
  Object* object = region_of(model.device(), kPages);
  const View view = map(object);
  for (size_t page = 0; page < kPages; ++page) view.store(page * kPageSize, 1000 + static_cast<uint32_t>(page));
  CHECK_EQ(model.faults(), uint64_t{kPages});
  CHECK_OK(zap(object, 0, kPages * kPageSize));
  for (size_t page = 0; page < kPages; ++page) CHECK_EQ(view.load(page * kPageSize), 1000 + static_cast<uint32_t>(page));
  CHECK_EQ(model.faults(), uint64_t{2 * kPages});
  CHECK_EQ(present.load(), uint64_t{kPages});
  CHECK_OK(zap(object, 0, 4 * kPageSize));
  for (size_t page = 0; page < kPages; ++page) view.load(page * kPageSize);
  CHECK_EQ(model.faults(), uint64_t{2 * kPages + 4});
}

TEST("an op that does not answer in time loses the page, and its late answer is discarded") {
  start_library();
  have_userfault();
  std::atomic<uint64_t> token{0};
  Model model(
      [&](const Work& work) {
        if (work.kind == WorkKind::fault) token = work.token;
      },
      100);
  Object* object = region_of(model.device(), 2);
  const View view = map(object);
  uint64_t value = 0;
  CHECK(!guarded_load(view.at, 4, &value));
  CHECK_EQ(view.mapping->lost_cause(0), Cause::no_answer);
  EVENTUALLY(model.expired() == 1);
  const auto content = content_of(0);
  CHECK(!pager_answer(token, {Answer::Kind::content, content.data(), kPageSize}));
  CHECK_EQ(view.load(), 0u);
}

TEST("an owner that touches its own page gets the fill and an event, and others get the page") {
  start_library();
  have_userfault();
  std::atomic<uint32_t> own_view{1234};
  View view;
  Model model([&](const Work& work) {
    if (work.kind == WorkKind::fault && work.numbers[2] == 0) own_view = view.load(kPageSize);
    supply(work);
  });
  Object* object = region_of(model.device(), 2);
  view = map(object);
  CHECK_EQ(view.load(0), 1u);
  CHECK_EQ(own_view.load(), 0u);
  CHECK_EQ(view.mapping->device_mapping->self_faults.load(), 1u);
  EVENTUALLY(settled(view));
  CHECK_EQ(view.load(kPageSize), 2u);
  CHECK_EQ(model.faults(), uint64_t{2});
}

TEST("an owner that touches the page that it is asked for is asked once, within one limit, and its answer counts") {
  start_library();
  have_userfault();
  std::atomic<uint32_t> own_view{1234};
  std::atomic<int> answered{0};
  View view;
  Model model([&](const Work& work) {
    if (work.kind != WorkKind::fault) return;
    own_view = view.load(work.numbers[2] * kPageSize);
    const auto content = content_of(work.numbers[3]);
    answered += pager_answer(work.token, {Answer::Kind::content, content.data(), kPageSize});
  });
  const int pages = check::rounds(200);
  Object* object = region_of(model.device(), static_cast<size_t>(pages));
  view = map(object);
  int good = 0, other = 0;
  for (int page = 0; page < pages; ++page) {
    const size_t at = static_cast<size_t>(page) * kPageSize;
    // A raw load may see the fill of the owner's touch; then the page has come, or comes.
    const uint32_t seen = view.load(at);
    ++(seen == static_cast<uint32_t>(page) + 1 || seen == 0 ? good : other);
    EVENTUALLY(answered == page + 1);
    CHECK_EQ(own_view.load(), 0u);
    EVENTUALLY(settled(view));
    CHECK_EQ(view.load(at), static_cast<uint32_t>(page) + 1);
  }
  CHECK_EQ(other, 0);
  CHECK_EQ(model.faults(), static_cast<uint64_t>(pages));
}

TEST("an owner that touches the page that it is asked for, and does not answer: the time is up once") {
  start_library();
  have_userfault();
  View view;
  std::atomic<bool> expired{false};
  Model model(
      [&](const Work& work) {
        if (work.kind == WorkKind::expired) expired = true;
        if (work.kind == WorkKind::fault) view.load();
      },
      200);
  Object* object = region_of(model.device(), 1);
  view = map(object);
  uint64_t value = 0;
  while (guarded_load(view.at, 4, &value) && !expired) {  // the fill, for a moment
    settle_strays(view.mapping);
  }
  EVENTUALLY(expired.load());
  CHECK_EQ(view.mapping->lost_cause(0), Cause::no_answer);
  CHECK_EQ(model.faults(), uint64_t{1});
}

TEST("an owner that writes to the page whose first write it is asked about is asked once") {
  start_library();
  have_userfault();
  if (!userfault_write_protects()) check::skip("no write protection of shared memory");
  View view;
  Model model([&](const Work& work) {
    if (work.kind == WorkKind::write_fault) view.store(4, 1234);
    supply(work);
  });
  Object* object = region_of(model.device(), 1, {.ask_before_write = true});
  view = map(object);
  CHECK_EQ(view.load(0), 1u);
  for (uint32_t tries = 0; view.load(8) != 9u && tries < 1000; ++tries) {
    view.store(8, 9);
    settle_strays(view.mapping);
  }
  CHECK_EQ(view.load(8), 9u);
  CHECK_EQ(view.load(4), 1u);
  CHECK_EQ(model.write_faults(), uint64_t{1});
  CHECK_EQ(model.faults(), uint64_t{1});
}

TEST("pages that come together: as far as they are protected alike and neither lost nor diverted") {
  start_library();
  have_userfault();
  View view;
  Model model([&](const Work& work) {
    if (work.kind != WorkKind::fault) return;
    if (work.numbers[2] == 2) {
      pager_answer(work.token, {.kind = Answer::Kind::refused});
      return;
    }
    if (work.numbers[2] == 4) view.load(5 * kPageSize);  // its own touch, diverted
    const std::vector<uint32_t> content(3 * kPageSize / 4, 7);
    pager_answer(work.token, {Answer::Kind::content, content.data(), 3 * kPageSize});
  });
  Object* object = region_of(model.device(), 8);
  view = map(object);
  uint64_t value = 0;
  CHECK(!guarded_load(view.at + 2 * kPageSize, 4, &value));  // lost
  CHECK_EQ(view.load(0), 7u);
  CHECK_EQ(view.load(kPageSize), 7u);
  CHECK_EQ(model.faults(), uint64_t{2});
  CHECK_EQ(view.load(4 * kPageSize), 7u);
  EVENTUALLY(settled(view));
  CHECK_EQ(view.load(5 * kPageSize), 7u);
  CHECK_OK(protect_pages(view.mapping, 7, 1, Access::read));
  CHECK_EQ(view.load(7 * kPageSize), 7u);

  Object* zeros = region_of(model.device(), 8, {.kind = Supply::Kind::zeros, .around = 8});
  const View around = map(zeros);
  CHECK_OK(protect_pages(around.mapping, 1, 1, Access::read));
  for (size_t page = 0; page < 8; ++page) CHECK_EQ(around.load(page * kPageSize), 0u);
}

TEST("a thread that waits for a page which is then rearranged gets the page that is shown there instead") {
  start_library();
  have_userfault();
  std::atomic<uint64_t> first{0};
  Model model([&](const Work& work) {
    if (work.kind == WorkKind::fault && work.numbers[3] == 0) first = work.token;
    else supply(work);
  });
  Object* object = region_of(model.device(), 4);
  const View view = map(object);
  std::atomic<uint32_t> seen{0};
  Threads threads;
  threads.add([&] { seen = view.load(); });
  EVENTUALLY(first != 0);
  CHECK_OK(remap_pages(view.mapping, 0, 1, 3 * kPageSize));
  threads.join();
  CHECK_EQ(seen.load(), 4u);
  const auto content = content_of(0);
  CHECK(!pager_answer(first, {Answer::Kind::content, content.data(), kPageSize}));
}

TEST("R11 a thread blocked in a page that never comes is released by revoke, with ones, 1,000 of 1,000 times") {
  start_library();
  have_userfault();
  const int rounds = check::rounds(1000);
  std::atomic<uint64_t> asked{0};
  Model model([&](const Work& work) { asked += work.kind == WorkKind::fault; });  // never answers
  int ones = 0, released = 0;
  for (int round = 0; round < rounds; ++round) {
    Object* object = region_of(model.device(), 1);
    const View raw = map(object, {.fill = Fill::ones}), checked = map(object);
    const uint64_t before = asked.load();
    std::atomic<uint32_t> seen{0};
    std::atomic<bool> threw{false};
    {
      Threads threads;
      threads.add([&] { seen = raw.load(); });
      threads.add([&] {
        uint64_t value = 0;
        threw = !guarded_load(checked.at, 4, &value);
      });
      if (!EVENTUALLY(asked.load() == before + 2)) _exit(1);
      revoke(object);
    }
    ones += seen == 0xffffffffu;
    released += threw;
    object_close(object);
    object_release(object);
  }
  CHECK_EQ(ones, rounds);
  CHECK_EQ(released, rounds);
}

TEST("R11 revoke at any moment of a first touch: content or ones, never zeros") {
  start_library();
  have_userfault();
  Model model(supply);
  const int rounds = check::rounds(2000);
  int content = 0, fill = 0, other = 0;
  for (int round = 0; round < rounds; ++round) {
    Object* object = region_of(model.device(), 1);
    const View view = map(object, {.fill = Fill::ones});
    std::atomic<bool> go{false};
    std::atomic<uint32_t> seen{0};
    {
      Threads threads;
      threads.add([&] {
        while (!go) {
        }
        seen = view.load();
      });
      go = true;
      for (int spin = 0; spin < (round % 100) * 50; ++spin) asm volatile("");
      revoke(object);
    }
    ++(seen == 1 ? content : seen == 0xffffffffu ? fill : other);
    object_close(object);
    object_release(object);
  }
  CHECK_EQ(other, 0);
  CHECK_EQ(content + fill, rounds);
}

TEST("closing the userfaultfd before the mapping is replaced would let the waiter read zeros") {
  have_userfault();
  const int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
  REQUIRE(fd >= 0);
  uffdio_api api{UFFD_API, 0, 0};
  REQUIRE(ioctl(fd, UFFDIO_API, &api) == 0);
  const int memory = memfd("early");
  REQUIRE(ftruncate(memory, static_cast<off_t>(kPageSize)) == 0);
  auto* at = static_cast<char*>(mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0));
  uffdio_register registration{{reinterpret_cast<uintptr_t>(at), kPageSize}, UFFDIO_REGISTER_MODE_MISSING, 0};
  REQUIRE(ioctl(fd, UFFDIO_REGISTER, &registration) == 0);
  std::atomic<uint32_t> seen{1};
  Threads threads;
  threads.add([&] { seen = load_word(at); });
  pollfd ready{fd, POLLIN, 0};
  CHECK_EQ(poll(&ready, 1, 20'000), 1);  // it waits
  close(fd);
  threads.join();
  CHECK_EQ(seen.load(), 0u);
}

TEST("R6 a mapping's end is queued exactly once, by close or by revoke, and not for the device's own view") {
  start_library();
  Model model([](const Work&) {});
  Object* object = nullptr;
  REQUIRE_OK(object_create({.size = 4 * kPageSize}, {.backing = model.device()}, &object));
  View first = map(object), second = map(object), third = map(object);
  first.close();
  EVENTUALLY(model.ends() == 1);
  unplug(model, object);
  EVENTUALLY(model.ends() == 3);
  second.close();
  third.close();
  CHECK_EQ(model.device()->open_mappings, 0u);
  model.stop();
  CHECK_EQ(model.ends(), uint64_t{3});
}

// A page that a thread waits for, as it has been asked: the request's token comes to the model's owner.
struct Waiting {
  std::atomic<uint64_t> token{0};
  void take(const Work& work) {
    if (work.kind == WorkKind::fault) token = work.token;
  }
};

TEST("R6 an answer between the gate of a removal and the revocation is discarded, whichever thread waits") {
  start_library();
  have_userfault();
  Waiting asked;
  Model model([&](const Work& work) { asked.take(work); });
  Object* object = region_of(model.device(), 2);
  const View view = map(object, {.fill = Fill::ones});
  std::atomic<uint32_t> read{1234};
  Threads threads;
  threads.add([&] { read = view.load(kPageSize); });
  REQUIRE(EVENTUALLY(asked.token != 0));
  const uint64_t discarded = g_counters.answers_discarded, supplied = g_counters.pages_supplied;
  CHECK(device_shut(*model.device()));
  const auto content = content_of(kPageSize);
  CHECK(!pager_answer(asked.token, {Answer::Kind::content, content.data(), kPageSize}));
  CHECK_EQ(read.load(), 1234u);  // it waits for what wakes it: the revocation
  CHECK_EQ(g_counters.answers_discarded - discarded, uint64_t{1});
  revoke(object);
  threads.join();
  CHECK_EQ(read.load(), 0xffffffffu);
  CHECK_EQ(g_counters.pages_supplied - supplied, uint64_t{0});
}

// The constructor of RegistryLock: where an answer has taken its request, and holds no lock.
extern "C" void before_the_registry() __asm__("_ZN9revocable12RegistryLockC1Ev");

TEST("R6 an answer that was under way when its mapping was closed does not land in the one that got the slot") {
  if (!can_step()) check::skip("no single steps");
  start_library();
  have_userfault();
  Waiting first, second;
  Model one([&](const Work& work) { first.take(work); }), two([&](const Work& work) { second.take(work); });
  Object *of_one = region_of(one.device(), 1), *of_two = region_of(two.device(), 1);
  View old = map(of_one), view;
  const uint32_t slot = old.mapping->slot;
  std::atomic<bool> mapped{false};
  std::atomic<uint32_t> read{1234};
  Threads threads;
  const Finally end([&] {
    mapped = true;
    revoke(of_one);
    revoke(of_two);
  });
  threads.add([&] { old.load(); });
  REQUIRE(EVENTUALLY(first.token != 0));
  threads.add([&] {
    while (!mapped) sched_yield();
    if (view.mapping != nullptr) read = view.load();
  });
  const auto pass_the_slot_on = [&] {
    old.close();
    map(owned_object(kPageSize), {.at = old.at});  // a record is used again when another mapping has its addresses
    for (int i = 0; i < 3; ++i) {
      const RegistryLock lock;
      reclaim();
    }
    view = map(of_two);
    mapped = true;
    EVENTUALLY(second.token != 0);
  };
  const std::vector<uint32_t> wrong(kPageSize / 4, 0x01d01d);
  bool taken = true;
  const auto answer = [&] { taken = pager_answer(first.token, {Answer::Kind::content, wrong.data(), kPageSize}); };
  REQUIRE(run_interrupted_at(reinterpret_cast<const void*>(before_the_registry), pass_the_slot_on, answer));
  REQUIRE(view.mapping->slot == slot);
  CHECK(!taken);
  const auto content = content_of(0);
  CHECK(pager_answer(second.token, {Answer::Kind::content, content.data(), kPageSize}));
  EVENTUALLY(read == 1u);
}

TEST("the limit of a device that answers sooner holds while a page of a slower one is waited for") {
  start_library();
  have_userfault();
  Model slow([](const Work&) {}, 60'000), quick([](const Work&) {}, 50);
  Object* objects[] = {region_of(slow.device(), 1), region_of(quick.device(), 1)};
  const View first = map(objects[0]), second = map(objects[1]);
  Threads threads;
  const Finally end([&] { revoke(objects[0]); });
  threads.add([&] { first.load(); });
  REQUIRE(EVENTUALLY(slow.faults() == 1));
  const auto begun = std::chrono::steady_clock::now();
  uint64_t value;
  CHECK(!guarded_load(second.at, 4, &value));
  CHECK_EQ(second.mapping->lost_cause(0), Cause::no_answer);
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(5));
}

TEST("R9 pages are asked for again after a suspension, and have what they had") {
  start_library();
  have_userfault();
  Model model(supply);
  Object* object = region_of(model.device(), 4);
  const View view = map(object);
  view.store(0, 55);
  CHECK_EQ(view.load(kPageSize), 2u);
  for (int round = 0; round < 10; ++round) {
    RevokeCounts counts;
    bool mine = false;
    CHECK_OK(suspend(object, &counts, &mine));
    CHECK_EQ(view.load(), 0u);
    CHECK_OK(resume(object));
    CHECK_EQ(view.load(), 55u);
    CHECK_EQ(view.load(kPageSize), 2u);
  }
  CHECK_EQ(model.faults(), uint64_t{22});
}

TEST("R11 a thread blocked in a page that never comes is released by suspend, and asks again after resume") {
  start_library();
  have_userfault();
  std::atomic<bool> answer{false};
  std::atomic<uint64_t> asked{0};
  Model model([&](const Work& work) {
    asked += work.kind == WorkKind::fault;
    if (answer) supply(work);
  });
  Object* object = region_of(model.device(), 1);
  const View view = map(object);
  std::atomic<bool> released{false};
  Threads threads;
  threads.add([&] {
    uint64_t value = 0;
    released = !guarded_load(view.at, 4, &value);
  });
  REQUIRE(EVENTUALLY(asked == 1));
  RevokeCounts counts;
  bool mine = false;
  CHECK_OK(suspend(object, &counts, &mine));
  threads.join();
  CHECK(released.load());
  answer = true;
  CHECK_OK(resume(object));
  CHECK_EQ(view.load(), 1u);
}

TEST("a thread blocked in a page that never comes is released when the mapping is closed") {
  start_library();
  have_userfault();
  std::atomic<uint64_t> asked{0};
  Model model([&](const Work& work) { asked += work.kind == WorkKind::fault; });
  Object* object = region_of(model.device(), 1);
  View view = map(object);
  std::atomic<uint32_t> seen{1};
  Threads threads;
  threads.add([&] { seen = load_word(view.at); });
  REQUIRE(EVENTUALLY(asked == 1));
  view.close();
  threads.join();
  CHECK_EQ(seen.load(), 0u);
}

TEST("rearranged pages are asked for by what they show") {
  start_library();
  have_userfault();
  Model model(supply);
  Object* object = region_of(model.device(), 8);
  const View view = map(object);
  CHECK_OK(remap_pages(view.mapping, 0, 2, 5 * kPageSize));
  CHECK_EQ(view.load(0), 6u);
  CHECK_EQ(view.load(kPageSize), 7u);
  CHECK_EQ(view.load(2 * kPageSize), 3u);
}

TEST("a call from another thread gets the owner's answer, and ends when the device goes") {
  start_library();
  DeviceRef device;
  std::atomic<bool> answer{true};
  Model model([&](const Work& work) {
    if (work.kind == WorkKind::call && answer) device_answer_call(*device, work.token, 0, work.numbers[1] + 1, "");
  });
  device = model.device();
  const auto call = [&](uint64_t value) {
    const uint64_t token = device_token();
    auto made = device_call(*device, token, {0, value});
    if (made == nullptr) return std::pair{CallResult::gone, uint64_t{0}};
    while (device_call_wait(*made, 1'000'000) == CallResult::pending) {
    }
    device_call_end(*device, token);
    return std::pair{made->result, made->value};
  };
  for (uint64_t i = 0; i < 100; ++i) CHECK(call(i) == std::pair(CallResult::done, i + 1));
  answer = false;
  std::atomic<bool> gone{false};
  Threads threads;
  threads.add([&] { gone = call(1).first == CallResult::gone; });
  EVENTUALLY([&] {
    std::lock_guard guard(device->lock);
    return !device->calls.empty();
  }());
  CHECK(device_shut(*device));
  threads.join();
  CHECK(gone.load());
  CHECK(call(1).first == CallResult::gone);
}

TEST("first touches, zaps and suspensions in a storm: no page is ever read with another's content") {
  start_library();
  have_userfault();
  constexpr size_t kPages = 32;
  Model model(supply);
  Object* object = region_of(model.device(), kPages);
  const View view = map(object);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0}, good{0};
  {
    Threads threads;
    const Finally end([&] { stop = true; });
    for (int i = 0; i < 3; ++i) {
      threads.add([&, i] {
        for (size_t page = static_cast<size_t>(i); !stop; page = (page + 7) % kPages) {
          const uint32_t value = view.load(page * kPageSize);
          if (value == page + 1) ++good;
          else if (value != 0) ++wrong;  // 0: the fill, while it is suspended
        }
      });
    }
    for (int round = 0; round < check::rounds(3000); ++round) {
      CHECK_OK(zap(object, (static_cast<uint64_t>(round) % kPages) * kPageSize, kPageSize));
      if (round % 10 != 0) continue;
      RevokeCounts counts;
      bool mine = false;
      CHECK_OK(suspend(object, &counts, &mine));
      CHECK_OK(resume(object));
    }
    EVENTUALLY(good.load() > 1000);
  }
  CHECK_EQ(wrong.load(), uint64_t{0});
}

namespace {

// The other end of a source of pages: answers as the test says.
struct FarEnd {
  struct Message {
    uint16_t id, command;
    uint32_t size, flags, errnum;
    uint64_t token, offset;
    uint32_t access, unused;
  };
  int ends[2];
  std::shared_ptr<PageSource> source;

  FarEnd() {
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    CHECK_OK(pager_start(false));
    source = std::make_shared<PageSource>(ends[0]);
    CHECK_OK(page_source_add(source));
  }
  ~FarEnd() {
    if (ends[1] >= 0) close(ends[1]);
  }
  Message next() const {
    Message message{};
    CHECK_EQ(recv(ends[1], &message, sizeof message, MSG_WAITALL), ssize_t{sizeof message});
    CHECK_EQ(message.size, uint32_t{sizeof message});
    return message;
  }
  void answer(Message message, int error = 0) const {
    message.flags = 1 | (error == 0 ? 0 : 0x20);
    message.errnum = static_cast<uint32_t>(error);
    const char* at = reinterpret_cast<const char*>(&message);
    for (size_t i = 0; i < sizeof message; ++i) CHECK_EQ(send(ends[1], at + i, 1, MSG_NOSIGNAL), ssize_t{1});  // in pieces
  }
  Supply supply(bool ask_before_write = false) const {
    Supply made;
    made.kind = Supply::Kind::elsewhere;
    made.ask_before_write = ask_before_write;
    made.source = source;
    return made;
  }
};

}  // namespace

TEST("pages from elsewhere: the object's page is mapped once it is said to be there, in the owner's thread too") {
  start_library();
  have_userfault();
  const FarEnd far;
  const DeviceRef device = device_create("far", 5000, [] {});
  Object* object = region_of(device, 4, far.supply());
  std::thread server([&] {
    for (size_t i = 0; i < 3; ++i) {
      const auto request = far.next();
      const uint32_t content = static_cast<uint32_t>(request.offset / kPageSize) + 1;
      CHECK_EQ(pwrite(object->fd, &content, 4, static_cast<off_t>(request.offset)), ssize_t{4});
      far.answer(request);
    }
  });
  const View view = map(object);
  for (size_t page = 0; page < 3; ++page) CHECK_EQ(view.load(page * kPageSize), static_cast<uint32_t>(page + 1));
  for (size_t page = 0; page < 3; ++page) CHECK_EQ(view.load(page * kPageSize), static_cast<uint32_t>(page + 1));
  server.join();
  device_abandon(*device);
  device_forget(*device);
}

TEST("pages from elsewhere: errors are causes, and a page that is said to be there and is not is asked for again") {
  start_library();
  have_userfault();
  const FarEnd far;
  const DeviceRef device = device_create("far", 5000, [] {});
  Object* object = region_of(device, 8, far.supply());
  std::thread server([&] {
    for (const int error : {EFAULT, ETIMEDOUT, EIO, ENODEV}) far.answer(far.next(), error);
    const auto request = far.next();
    far.answer(request);  // nothing has been written
    const auto again = far.next();
    CHECK_EQ(again.offset, request.offset);
    const uint32_t content = 9;
    CHECK_EQ(pwrite(object->fd, &content, 4, static_cast<off_t>(again.offset)), ssize_t{4});
    far.answer(again);
  });
  const View view = map(object);
  constexpr Cause kCauses[] = {Cause::refused, Cause::no_answer, Cause::failed, Cause::failed};
  for (size_t page = 0; page < 4; ++page) {
    view.load(page * kPageSize);
    const PageVerdict verdict = judge_access(view.mapping, page * kPageSize, 4, false);
    CHECK_EQ(verdict.verdict, Verdict::lost);
    CHECK_EQ(verdict.cause, kCauses[page]);
  }
  CHECK_EQ(view.load(4 * kPageSize), 9u);
  server.join();
  device_abandon(*device);
  device_forget(*device);
}

TEST("pages from elsewhere: what is no answer ends the source, and who waits gets the limit or the revocation") {
  start_library();
  have_userfault();
  for (const bool garbage : {true, false}) {
    FarEnd far;
    const DeviceRef device = device_create("far", 200, [] {});
    Object* object = region_of(device, 4, far.supply());
    const View view = map(object);
    std::thread server([&] {
      auto request = far.next();
      if (garbage) {
        request.command = 13;
        far.answer(request);
      } else {
        close(far.ends[1]);
        far.ends[1] = -1;
      }
    });
    view.load(0);
    CHECK_EQ(judge_access(view.mapping, 0, 4, false).cause, Cause::no_answer);
    server.join();
    std::thread toucher([&] { view.load(kPageSize); });
    EVENTUALLY(count(g_counters.pages_asked) > 0);
    CHECK(device_shut(*device));
    revoke(object);
    toucher.join();
    device_abandon(*device);
    device_forget(*device);
  }
}

TEST("pages from elsewhere: first writes are asked about, and only then") {
  start_library();
  have_userfault();
  if (!userfault_write_protects()) check::skip("no write protection of shared memory");
  const FarEnd far;
  const DeviceRef device = device_create("far", 5000, [] {});
  Object* object = region_of(device, 2, far.supply(true));
  const uint32_t content[2048] = {1};
  CHECK_EQ(pwrite(object->fd, content, sizeof content, 0), ssize_t{sizeof content});
  std::vector<uint32_t> asked;
  std::thread server([&] {
    for (int i = 0; i < 4; ++i) {
      const auto request = far.next();
      asked.push_back(request.access);
      far.answer(request, i == 3 ? EACCES : 0);
    }
  });
  const View view = map(object);
  CHECK_EQ(view.load(0), 1u);  // 0
  view.store(0, 5);            // 3: a write, and the first to a page that is there
  view.store(kPageSize, 6);    // 1, then 3, which is refused
  server.join();
  CHECK(asked == (std::vector<uint32_t>{0, 3, 1, 3}));
  CHECK_EQ(view.load(0), 5u);
  CHECK_EQ(judge_access(view.mapping, kPageSize, 4, true).verdict, Verdict::read_only);
  device_abandon(*device);
  device_forget(*device);
}
