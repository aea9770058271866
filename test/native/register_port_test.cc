// The way of accesses to registers, where several use it at once: who shuts it, who forks, whose slot it is.
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "base/features.h"
#include "base/linux_abi.h"
#include "device/access_trace.h"
#include "device/register_file.h"
#include "instruction/machine_context.h"
#include "register_fixture.h"

#if defined(__x86_64__)

using namespace revocable;

namespace {

// The 128 bytes below rsp may be the compiler's.
#define SET_FLAGS(change) "lea -128(%%rsp), %%rsp\n pushfq\n " change ", (%%rsp)\n popfq\n lea 128(%%rsp), %%rsp"

// A device whose registers are answered by a thread of its own, as those in JavaScript are.
class AnsweringDevice {
 public:
  using Model = std::function<bool(bool write, uint64_t offset, uint64_t* value)>;
  explicit AnsweringDevice(Model model, uint32_t limit_ms = 5000, const RegisterModel* beside = nullptr)
      : model_(std::move(model)), bell_(eventfd(0, EFD_CLOEXEC)) {
    start_library();
    threads_.add([this, limit_ms] { serve(limit_ms); });
    ready_.wait(0);
    ObjectOptions described{.name = "registers", .backing = device, .registers = true};
    CHECK_OK(object_create({.size = kPageSize}, described, &object));
    port_begin(object, {.model = beside, .device = device.get(), .bell = bell_, .trapped = register_trap_reserve()});
    {
      std::lock_guard guard(device->lock);
      device->ports.push_back(port());
    }
    view = map(object, {.fill = Fill::ones});
  }
  ~AnsweringDevice() {
    device_shut(*device);
    stopping_ = true;
    eventfd_write(bell_, 1);
    threads_.join();
  }
  RegisterPort* port() const { return object->port.load(); }
  char* at(size_t offset = 0) const { return view.at + offset; }

  DeviceRef device;
  Object* object = nullptr;
  View view;

 private:
  void serve(uint32_t limit_ms) {
    device = device_create("answering", limit_ms, [] {});
    ready_ = 1;
    ready_.notify_one();
    while (!stopping_) {
      eventfd_t rung;
      eventfd_read(bell_, &rung);
      for (const Work& work : device_take_work(*device, 64)) {
        if (work.kind == WorkKind::access) answer(work);
      }
    }
  }
  void answer(const Work& work) {
    const auto [mapping, offset, width, what, low, high, thread, unused] = work.numbers;
    uint64_t value = low | high << 32, read = 0;
    bool good = true, puts = (what & 1) == 0;
    if ((what & 1) != 0) good = model_(false, offset, &read);
    if (what == 3 && good) puts = device_combine(*device, work.token, read, &value);
    if (puts && good) good = model_(true, offset, &value);
    device_answer_access(*device, work.token, !good, read);
  }

  Model model_;
  int bell_;
  std::atomic<int> ready_{0};
  std::atomic<bool> stopping_{false};
  Threads threads_;
};

TEST("registers: of a file, accesses of those that ask are answered by the device's thread, and all others where they are made") {
  RegisterFile file({{.offset = 0, .value = 10},
                     {.offset = 4, .value = 20, .asks_reads = true},
                     {.offset = 8, .value = 30, .asks_writes = true},
                     {.offset = 12, .value = 40}},
                    0);
  CHECK(RegisterFile::of(file.model()) == &file);
  std::vector<std::pair<bool, uint64_t>> asked;
  AnsweringDevice device(
      [&](bool write, uint64_t offset, uint64_t* value) {
        asked.emplace_back(write, offset);
        if (!write) *value = 7;
        return true;
      },
      5000, file.model());
  auto* words = reinterpret_cast<volatile uint32_t*>(device.at());
  const auto took = [&](std::vector<std::pair<bool, uint64_t>> expected) {
    const bool same = asked == expected;
    asked.clear();
    return same;
  };
  CHECK_EQ(words[0], 10u);
  CHECK_EQ(words[2], 30u);
  words[1] = 21;
  words[3] = 41;
  CHECK(took({}));
  CHECK_EQ(words[1], 7u);
  CHECK(took({{false, 4}}));
  words[2] = 31;
  CHECK(took({{true, 8}}));
  CHECK_EQ(file.value(1), 21u);
  CHECK_EQ(file.value(2), 30u);  // not by this device's thread
  // Of both halves; and of the last byte of one.
  CHECK_EQ(*reinterpret_cast<volatile uint64_t*>(device.at()), 7u);
  CHECK(took({{false, 0}}));
  CHECK_EQ(*reinterpret_cast<volatile uint8_t*>(device.at(7)), 7u);
  CHECK(took({{false, 7}}));
  // Reads and writes at once: of what asks in either direction. The other neighbours do not.
  asm volatile("lock addl $1, %0" : "+m"(*device.at(8))::"cc");
  CHECK(took({{false, 8}, {true, 8}}));
  asm volatile("lock addl $1, %0" : "+m"(*device.at(12))::"cc");
  CHECK(took({}));
  CHECK_EQ(file.value(3), 42u);
  // Normal code.
  uint64_t value = 0;
  CHECK(port_access(device.port(), false, 4, 4, &value) == PortAnswer::asks);
  CHECK(port_access(device.port(), false, 8, 4, &value) == PortAnswer::given && value == 30);
  CHECK(port_access(device.port(), true, 8, 4, &value) == PortAnswer::asks);
  port_access_asked(device.port(), *file.model(), false, 4, 4, &value);
  CHECK_EQ(value, 21u);
  device_shut(*device.device);
  CHECK(port_access(device.port(), false, 4, 4, &value) == PortAnswer::gone);
  port_access_asked(device.port(), *file.model(), true, 4, 4, &(value = 22));
  CHECK_EQ(file.value(1), 22u);
}

TEST("registers: another's model asks nothing, whatever its context is") {
  const RegisterModel model{[](void*, uint64_t, uint32_t) { return uint64_t{9}; }, [](void*, uint64_t, uint32_t, uint64_t) {},
                            nullptr};
  CHECK(RegisterFile::of(&model) == nullptr);
  CHECK(RegisterFile::of(nullptr) == nullptr);
  const RegisterDevice device(&model);
  CHECK_EQ(*reinterpret_cast<volatile uint32_t*>(device.at()), 9u);
}

TEST("registers: a loop of a load and a comparison of a pair with exchange ends where the model's writes fail") {
  alignas(16) uint64_t held[2] = {0x1111'2222'3333'4444, 0x5555'6666'7777'8888};
  const AnsweringDevice device([&](bool write, uint64_t offset, uint64_t* value) {
    if (!write) *value = held[offset / 8];
    return !write;
  });
  bool equal = false;
  int rounds = 0;
  // Two registers of four bytes, then two of eight; other than what is held, so that the first round fails.
  for (uint32_t low = 1, high = 2; !equal && rounds < 10; ++rounds) {
    asm volatile("lock cmpxchg8b (%[at])"
                 : "=@ccz"(equal), "+a"(low), "+d"(high)
                 : [at] "D"(device.at()), "b"(7), "c"(8)
                 : "memory");
    if (equal) CHECK(low == 0x3333'4444 && high == 0x1111'2222);
  }
  CHECK(equal);
  CHECK_EQ(rounds, 2);
  equal = false;
  rounds = 0;
  for (uint64_t low = 1, high = 2; !equal && rounds < 10; ++rounds) {
    asm volatile("lock cmpxchg16b (%[at])"
                 : "=@ccz"(equal), "+a"(low), "+d"(high)
                 : [at] "D"(device.at()), "b"(7), "c"(8)
                 : "memory");
    if (equal) CHECK(low == held[0] && high == held[1]);
  }
  CHECK(equal);
  CHECK_EQ(rounds, 2);
}

// Runs something one instruction at a time.
class Stepped {
 public:
  // Calls `between` behind each instruction of `call`, until it has done what it was to do. False when that has never been.
  template <typename Call>
  static bool run(bool (*between)(), Call call) {
    done_ = false;
    between_ = between;
    struct sigaction action {
    }, before;
    action.sa_sigaction = trapped;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, &before);
    asm volatile(SET_FLAGS("orq $0x100")::: "memory", "cc");
    call();
    asm volatile(SET_FLAGS("andq $~0x100")::: "memory", "cc");
    sigaction(SIGTRAP, &before, nullptr);
    return done_;
  }

 private:
  static void trapped(int, siginfo_t*, void* context) {
    done_ = between_();
    if (done_) MachineContext(context).set_trap_flag(false);
  }
  static inline volatile bool done_ = false;
  static inline bool (*volatile between_)() = nullptr;
};

// A slot of one port, until it is another's: the thread that waited has left it, and the next one's has been taken too.
struct ReusedSlot {
  static inline RegisterPort one, other;
  static inline volatile int behind = 0;  // how many instructions since it was taken
  static AskedAccess& slot() { return g_asked_accesses[0]; }
  static constexpr uint32_t kGeneration = 1u << AskedAccess::kStateBits;
  static constexpr uint32_t kTaken = 5 * kGeneration + AskedAccess::kTaken, kTakenAgain = kTaken + kGeneration;

  static bool reuse() {
    if (slot().word != kTaken) return false;
    behind = behind - 1;
    if (behind > 0) return false;
    slot().port = &other;
    slot().word = kTakenAgain;
    return true;
  }
  template <typename Call>
  static void check_at_each_instruction(AskedAccess::State state, Call call) {
    if (!features().single_step) check::skip("no single steps");
    if (check::kTsan) check::skip("its own instructions would be stepped through too");
    one.open = false;
    for (int instructions = 1;; ++instructions) {
      behind = instructions;
      slot().port = &one;
      slot().word = 5 * kGeneration + state;
      if (!Stepped::run(reuse, call)) return check_ended(instructions);
      CHECK(slot().word == kTakenAgain);
    }
  }
  static void check_ended(int instructions) {
    CHECK(instructions > 1);
    CHECK(slot().word != kTaken && slot().word != kTakenAgain);
  }
};

TEST("registers: a removal does not end another device's access, whose slot was its own between any two instructions") {
  ReusedSlot::check_at_each_instruction(AskedAccess::kTaken, [] { port_let_go(&ReusedSlot::one); });
}

TEST("registers: what is taken from a shut device does not end another's access either") {
  std::vector<TakenAccess> taken;
  ReusedSlot::check_at_each_instruction(AskedAccess::kAsked, [&] {
    taken.clear();
    port_push(&ReusedSlot::one, &ReusedSlot::slot());
    port_take(&ReusedSlot::one, &taken);
  });
}

TEST("registers: removals of one device end no access of another") {
  const auto answers = [](bool, uint64_t, uint64_t* value) {
    *value = 7;
    return true;
  };
  const AnsweringDevice one(answers), other(answers);
  std::atomic<bool> stop{false};
  std::atomic<uint32_t> ended{0};
  Threads threads;
  threads.add([&] {
    for (int i = 0; i < check::rounds(3000); ++i) ended += other.view.load() != 7;
    stop = true;
  });
  threads.add([&] {
    while (!stop) one.view.load();
  });
  while (!stop) port_let_go(one.port());
  threads.join();
  CHECK_EQ(ended.load(), 0u);
}

// A model that takes its time.
struct Held {
  std::atomic<bool> inside{false}, let_go{false};
  static uint64_t read(void* context, uint64_t, uint32_t) {
    auto* self = static_cast<Held*>(context);
    self->inside = true;
    while (!self->let_go) usleep(100);
    return 1;
  }
  static void write(void*, uint64_t, uint32_t, uint64_t) {}
  RegisterModel model() { return {read, write, this}; }
};

TEST("registers: a second removal, too, returns only when the model is not running") {
  Held held;
  const RegisterModel behind = held.model();
  const RegisterDevice device(&behind);
  std::atomic<int> second{0};
  std::atomic<bool> returned{false};
  Threads threads;
  const Finally ends([&] { held.let_go = true; });
  threads.add([&] { device.view.load(); });
  REQUIRE(EVENTUALLY(held.inside.load()));
  threads.add([&] { CHECK(device_shut(*device.device)); });
  REQUIRE(EVENTUALLY(device.device->removed.load()));
  threads.add([&] {
    second = abi::tid();
    CHECK(!device_shut(*device.device));
    returned = true;
  });
  EVENTUALLY(returned || (second != 0 && sleeps_in_futex(second)));
  CHECK(!returned);
}

// It has no alarm: signals wait for the access.
constexpr int kChildSeconds = 20;

TEST("registers: a fork's child makes accesses though another thread was within the model") {
  Held held;
  const RegisterModel behind = held.model();
  const RegisterDevice device(&behind);
  Threads threads;
  const Finally ends([&] { held.let_go = true; });
  threads.add([&] { device.view.load(); });
  REQUIRE(EVENTUALLY(held.inside.load()));
  CHECK_EXITED(check::run_in_child(
      [&] {
        held.let_go = true;
        CHECK_EQ(device.view.load(), 1u);
      },
      kChildSeconds));
}

TEST("registers: a fork's child makes accesses though another thread was within the traces, of which it then has none") {
  Held held;
  held.let_go = true;
  const RegisterModel behind = held.model();
  const RegisterDevice device(&behind);
  TraceSet* traces = device.device->traces;
  const int trace = trace_open(traces, 16);
  REQUIRE(trace >= 0);
  device.view.load();
  std::atomic<bool> inside{false}, let_go{false};
  Threads threads;
  const Finally ends([&] { let_go = true; });
  threads.add([&] {
    const SignalsBlocked blocked;
    const TraceLock lock(traces);
    inside = true;
    while (!let_go) usleep(100);
  });
  REQUIRE(EVENTUALLY(inside.load()));
  CHECK_EXITED(check::run_in_child(
      [&] {
        CHECK_EQ(device.view.load(), 1u);
        CHECK(!trace_active(traces));
        AccessRecord record;
        CHECK(trace_take(traces, trace, &record, 1).ended);
      },
      kChildSeconds));
}

TEST("registers: each of many forks' children makes accesses while a thread polls, and is traced") {
  Held held;
  held.let_go = true;
  const RegisterModel behind = held.model();
  const RegisterDevice device(&behind);
  REQUIRE(trace_open(device.device->traces, 16) >= 0);
  std::atomic<bool> stop{false};
  Threads threads;
  const Finally ends([&] { stop = true; });
  threads.add([&] {
    while (!stop) device.view.load();
  });
  for (int i = 0; i < check::rounds(200); ++i) {
    CHECK_EXITED(check::run_in_child([&] { CHECK_EQ(device.view.load(), 1u); }, kChildSeconds));
  }
}

}  // namespace

#endif
