// A9: a SIGBUS or SIGSEGV that is not ours behaves exactly as if the library were not loaded. So each scenario runs twice, in a
// child without the library and in one with it, and everything that can be seen must be the same.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/counters.h"
#include "base/memfd.h"
#include "fault/handler_install.h"
#include "fixture.h"

using namespace revocable;

namespace {

enum class Shape { dfl, ign, plain, siginfo };
enum class Trigger { fault, kill, queue, thread_kill, kill_blocked };

constexpr int kRecorded = 4;

// What the previous handler saw. In shared memory, zeroed before each child.
struct Seen {
  int calls;
  int signal[kRecorded], code[kRecorded], sent_by_self[kRecorded], value[kRecorded];
  uintptr_t address[kRecorded];
  uint64_t mask[kRecorded];
  uint64_t mask_after;
  int calls_while_blocked;
  int reached_end;
};
Seen* g_seen;
char* g_target;  // memory of no mapping whose pages fault
int g_signal;
size_t g_next_page;  // the page to open by a handler that does not get the address

uint64_t current_mask() {
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  uint64_t bits;
  memcpy(&bits, &mask, sizeof bits);
  return bits;
}

void open_page(size_t page) {
  mmap(g_target + page * kPageSize, kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

void note(int signal, const siginfo_t* info) {
  const int i = g_seen->calls++;
  if (i >= kRecorded) return;
  g_seen->signal[i] = signal;
  g_seen->mask[i] = current_mask();
  if (info == nullptr) return;
  g_seen->code[i] = info->si_code;
  if (info->si_code > 0) g_seen->address[i] = reinterpret_cast<uintptr_t>(info->si_addr);
  else g_seen->sent_by_self[i] = info->si_pid == getpid();
  if (info->si_code == SI_QUEUE) g_seen->value[i] = info->si_value.sival_int;
}

void plain_handler(int signal) {
  note(signal, nullptr);
  open_page(g_next_page);
}
void siginfo_handler(int signal, siginfo_t* info, void*) {
  note(signal, info);
  open_page(g_next_page);
}

void pull(Trigger trigger, size_t page) {
  g_next_page = page;
  sigval value{};
  value.sival_int = 42;
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, g_signal);
  switch (trigger) {
    case Trigger::fault: *reinterpret_cast<volatile char*>(g_target + page * kPageSize) = 1; return;
    case Trigger::kill: kill(getpid(), g_signal); return;
    case Trigger::queue: sigqueue(getpid(), g_signal, value); return;
    case Trigger::thread_kill: raise(g_signal); return;
    case Trigger::kill_blocked:
      pthread_sigmask(SIG_BLOCK, &set, &old);
      kill(getpid(), g_signal);
      // That nothing happens can only be watched for a while; another thread that takes the signal does so within microseconds.
      for (int i = 0; i < 500 && g_seen->calls == static_cast<int>(page); ++i) usleep(100);
      g_seen->calls_while_blocked += g_seen->calls - static_cast<int>(page);
      pthread_sigmask(SIG_SETMASK, &old, nullptr);
      return;
  }
}

// The scenario: a previous action, two signals in a row, and what is left afterwards.
void play(Shape shape, int flags, Trigger trigger, bool library) {
  struct sigaction action {};
  action.sa_flags = flags;
  if (shape == Shape::dfl) action.sa_handler = SIG_DFL;
  if (shape == Shape::ign) action.sa_handler = SIG_IGN;
  if (shape == Shape::plain) action.sa_handler = plain_handler;
  if (shape == Shape::siginfo) {
    action.sa_sigaction = siginfo_handler;
    action.sa_flags |= SA_SIGINFO;
  }
  sigaddset(&action.sa_mask, SIGUSR1);
  sigaction(g_signal, &action, nullptr);
  if (library) start_library();
  sigset_t other;
  sigemptyset(&other);
  sigaddset(&other, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &other, nullptr);
  for (size_t page = 0; page < 2; ++page) pull(trigger, page);
  g_seen->mask_after = current_mask();
  g_seen->reached_end = 1;
}

bool same(const Seen& a, const Seen& b) { return memcmp(&a, &b, sizeof a) == 0; }

std::string summary(int status, const Seen& seen) {
  return check::describe(status) + ", " + std::to_string(seen.calls) + " calls (" + std::to_string(seen.calls_while_blocked) +
         " while blocked), mask " + std::to_string(seen.mask[0]) + " then " + std::to_string(seen.mask_after) + ", code " +
         std::to_string(seen.code[0]);
}

void prepare_target(int signal) {
  g_signal = signal;
  if (signal == SIGSEGV) {
    g_target = own_range(2 * kPageSize);
    mprotect(g_target, 2 * kPageSize, PROT_NONE);
  } else {
    g_target = static_cast<char*>(
        mmap(nullptr, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_create("empty", MFD_CLOEXEC), 0));
  }
}

void compare(int signal, Shape shape, int flags, Trigger trigger) {
  prepare_target(signal);
  int status[2];
  Seen seen[2];
  for (const bool library : {false, true}) {
    *g_seen = {};
    status[library] = check::run_in_child([&] { play(shape, flags, trigger, library); });
    seen[library] = *g_seen;
  }
  static const char* const kShapes[] = {"SIG_DFL", "SIG_IGN", "a plain handler", "a siginfo handler"};
  static const char* const kTriggers[] = {"fault", "kill", "sigqueue", "raise", "kill while blocked"};
  const bool good = status[0] == status[1] && same(seen[0], seen[1]);
  check::report(good, __FILE__, __LINE__,
                check::signal_name(signal) + " by " + kTriggers[static_cast<int>(trigger)] + " over " +
                    kShapes[static_cast<int>(shape)] + " with flags " + std::to_string(static_cast<unsigned>(flags)) +
                    "\n        without the library " + summary(status[0], seen[0]) + "\n        with it             " +
                    summary(status[1], seen[1]));
}

void compare_triggers(Shape shape, int flags, std::initializer_list<Trigger> triggers) {
  g_seen = static_cast<Seen*>(mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  for (const int signal : {SIGBUS, SIGSEGV}) {
    for (const Trigger trigger : triggers) compare(signal, shape, flags, trigger);
  }
}

void compare_all(Shape shape, int flags) {
  if (check::kTsan) check::skip("the sanitizer postpones signals that are sent, and changes the masks that handlers see");
  compare_triggers(shape, flags, {Trigger::fault, Trigger::kill, Trigger::queue, Trigger::thread_kill});
}

// Read from memory: the compiler does not expect that a load changes errno.
int errno_now() {
  asm volatile("" ::: "memory");
  return errno;
}

// --- leaving a handler by siglongjmp, and newcomers -------------------------------------------------------------------------

sigjmp_buf g_back;
std::atomic<int> g_jumps{0};
struct sigaction g_saved[NSIG];

void jumping_handler(int, siginfo_t*, void*) {
  ++g_jumps;
  siglongjmp(g_back, 1);
}

// Touches the target at the bottom of `depth` frames and comes back by siglongjmp.
__attribute__((noinline)) void touch_at_depth(int depth) {
  char frame[512];
  memset(frame, depth, sizeof frame);
  if (depth > 0) touch_at_depth(depth - 1);
  else *reinterpret_cast<volatile char*>(g_target) = frame[0];
  asm volatile("" ::"r"(frame) : "memory");
}

__attribute__((noinline)) void jump_out_once(int depth) {
  if (sigsetjmp(g_back, 1) == 0) touch_at_depth(depth);
}

void jump_out(int times, int depth_step) {
  for (int i = 0; i < times; ++i) jump_out_once((i * depth_step) % 100);
}

void install(int signal, void (*handler)(int, siginfo_t*, void*), int flags = 0) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  sigaction(signal, &action, &g_saved[signal]);
}

// A newcomer that handles nothing itself and calls what it found, as a well-behaved library does.
std::atomic<int> g_newcomer_calls{0};
void chaining_newcomer(int signal, siginfo_t* info, void* context) {
  ++g_newcomer_calls;
  const struct sigaction& saved = g_saved[signal];
  if ((saved.sa_flags & SA_SIGINFO) != 0) saved.sa_sigaction(signal, info, context);
  else if (saved.sa_handler == SIG_DFL)
    signal == SIGBUS ? sigaction(SIGBUS, &saved, nullptr) : sigaction(SIGSEGV, &saved, nullptr);
  else saved.sa_handler(signal);
}

std::atomic<int> g_original_calls{0};
void repairing_original(int, siginfo_t* info, void*) {
  ++g_original_calls;
  const uintptr_t page = round_down(reinterpret_cast<uintptr_t>(info->si_addr), kPageSize);
  mmap(reinterpret_cast<void*>(page), kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

}  // namespace

TEST("A9 over SIG_DFL") { compare_all(Shape::dfl, 0); }
TEST("A9 over SIG_IGN") { compare_all(Shape::ign, 0); }
TEST("A9 over a plain handler") { compare_all(Shape::plain, 0); }
TEST("A9 over a plain handler with SA_RESETHAND") { compare_all(Shape::plain, static_cast<int>(SA_RESETHAND)); }
TEST("A9 over a plain handler with SA_NODEFER") { compare_all(Shape::plain, SA_NODEFER); }
TEST("A9 over a siginfo handler") { compare_all(Shape::siginfo, 0); }
TEST("A9 over a siginfo handler with SA_RESETHAND") { compare_all(Shape::siginfo, static_cast<int>(SA_RESETHAND)); }
TEST("A9 over a siginfo handler with SA_NODEFER") { compare_all(Shape::siginfo, SA_NODEFER); }
TEST("A9 over a siginfo handler with SA_RESETHAND and SA_NODEFER") {
  compare_all(Shape::siginfo, static_cast<int>(SA_RESETHAND | SA_NODEFER));
}

TEST("A9 a signal sent while its thread blocks it waits, as it would without the library") {
  if (check::kTsan) check::skip("the sanitizer postpones signals that are sent");
  compare_triggers(Shape::siginfo, 0, {Trigger::kill_blocked});
}

// Leaves 5,000 faults by siglongjmp, for both signals and from several depths, once `arrange` has installed the handlers.
void jump_out_of_faults(void (*arrange)(int signal)) {
  if (check::kTsan) check::skip("leaving a handler by siglongjmp confuses the sanitizer's stack of calls");
  for (const int signal : {SIGBUS, SIGSEGV}) {
    for (const int step : {0, 1, 7, 99}) {
      prepare_target(signal);
      CHECK_EXITED(check::run_in_child([&] {
        g_jumps = 0;
        arrange(signal);
        jump_out(5000, step);
        CHECK_EQ(g_jumps.load(), 5000);
      }));
    }
  }
}

TEST("A9 a previous handler may leave by siglongjmp again and again, from any depth") {
  jump_out_of_faults([](int signal) {
    install(signal, jumping_handler);
    start_library();
  });
}

TEST("A9 a newcomer may leave by siglongjmp again and again, from any depth") {
  jump_out_of_faults([](int signal) {
    start_library();
    install(signal, jumping_handler);
    handlers_check();
  });
}

TEST("A9 a newcomer that displaces us and chains back is repaired, chained and never loops") {
  if (check::kTsan) check::skip("the sanitizer calls handlers from one of its own, so the caller is not known");
  for (const int signal : {SIGBUS, SIGSEGV}) {
    prepare_target(signal);
    CHECK_EXITED(check::run_in_child([&] {
      g_newcomer_calls = g_original_calls = 0;
      install(signal, repairing_original);
      start_library();
      const uint64_t before = g_counters.displacements.load();
      install(signal, chaining_newcomer);
      Object* object = owned_object(kPageSize);
      const View view = map(object);
      EVENTUALLY(g_counters.displacements.load() == before + 1);  // by the watchdog
      revoke(object);
      CHECK_EQ(view.load(), 0u);
      CHECK_EQ(g_newcomer_calls.load(), 0);
      for (size_t page = 0; page < 2; ++page) *reinterpret_cast<volatile char*>(g_target + page * kPageSize) = 1;
      CHECK_EQ(g_newcomer_calls.load(), 2);
      CHECK_EQ(g_original_calls.load(), 2);
      handlers_check();
      CHECK_EQ(g_counters.displacements.load(), before + 1);
    }));
  }
}

TEST("A9 while a chaining newcomer is in place our faults are still handled") {
  CHECK_EXITED(check::run_in_child([] {
    g_newcomer_calls = 0;
    start_library();
    Object* object = owned_object(kPageSize);
    const View view = map(object);
    revoke(object);
    install(SIGBUS, chaining_newcomer);
    CHECK_EQ(view.load(), 0u);
    view.store(0, 5);
    CHECK_EQ(view.load(), 5u);
  }));
}

TEST("A9 a newcomer that resets to SIG_DFL is repaired, and strangers' faults still kill") {
  prepare_target(SIGSEGV);
  const int status = check::run_in_child([] {
    start_library();
    Object* object = owned_object(kPageSize);
    const View view = map(object);
    signal(SIGBUS, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    handlers_check();
    revoke(object);
    CHECK_EQ(view.load(), 0u);
    *reinterpret_cast<volatile char*>(g_target) = 1;
  });
  CHECK_DIED_OF(status, SIGSEGV);
}

TEST("A9 twenty displacements by two handlers in turn keep the right one chained") {
  if (check::kTsan) check::skip("the sanitizer calls handlers from one of its own, so the caller is not known");
  prepare_target(SIGSEGV);
  CHECK_EXITED(check::run_in_child([] {
    g_newcomer_calls = g_original_calls = 0;
    start_library();
    for (int i = 0; i < 20; ++i) {
      install(SIGSEGV, repairing_original);
      handlers_check();
      install(SIGSEGV, chaining_newcomer);
      handlers_check();
    }
    install(SIGSEGV, repairing_original);
    handlers_check();
    *reinterpret_cast<volatile char*>(g_target) = 1;
    CHECK_EQ(g_original_calls.load(), 1);
    CHECK_EQ(g_newcomer_calls.load(), 0);
  }));
}

TEST("A9 a displacement is counted when the handler is back in place, not before") {
  if (check::kTsan) check::skip("the sanitizer answers sigaction from a table of its own, without a lock");
  CHECK_EXITED(check::run_in_child([] {
    start_library();
    struct sigaction ours {};
    sigaction(SIGSEGV, nullptr, &ours);
    constexpr uint64_t kRounds = 2'000;
    const uint64_t before = g_counters.displacements.load();
    std::atomic<uint64_t> seen{before};
    std::atomic<int> missing{0};
    Threads threads;
    threads.add([&] {
      while (seen.load() != before + kRounds) {
        const uint64_t now = g_counters.displacements.load();
        if (now == seen.load()) continue;
        struct sigaction found {};
        sigaction(SIGSEGV, nullptr, &found);
        if (found.sa_sigaction != ours.sa_sigaction) ++missing;
        seen.store(now);
      }
    });
    for (uint64_t round = 1; round <= kRounds; ++round) {
      signal(SIGSEGV, SIG_DFL);
      handlers_check();
      while (seen.load() != before + round) sched_yield();
    }
    threads.join();
    CHECK_EQ(missing.load(), 0);
  }));
}

TEST("A9 a handler installed anew with other flags gets those flags") {
  if (check::kTsan) check::skip("the sanitizer changes the masks that handlers see");
  g_seen = static_cast<Seen*>(mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  prepare_target(SIGSEGV);
  CHECK_EXITED(check::run_in_child([] {
    start_library();
    for (const int flags : {0, SA_NODEFER}) {
      install(SIGSEGV, siginfo_handler, flags);
      handlers_check();
      pull(Trigger::fault, flags == 0 ? 0 : 1);
    }
    REQUIRE(g_seen->calls == 2);
    const uint64_t own = uint64_t{1} << (SIGSEGV - 1);
    CHECK_EQ(g_seen->mask[0] & own, own);
    CHECK_EQ(g_seen->mask[1] & own, uint64_t{0});
  }));
}

TEST("A9 a previous handler that touches a revoked page is served within itself") {
  static View view;
  prepare_target(SIGSEGV);
  CHECK_EXITED(check::run_in_child([] {
    install(SIGSEGV, [](int, siginfo_t*, void*) {
      view.store(0, view.load() + 1);
      open_page(0);
    });
    start_library();
    Object* object = owned_object(kPageSize);
    view = map(object);
    revoke(object);
    *reinterpret_cast<volatile char*>(g_target) = 1;
    CHECK_EQ(view.load(), 1u);
  }));
}

TEST("A9 faults in eight threads at once all reach the previous handler") {
  if (check::kTsan) check::skip("the previous handler's own memory is shared on purpose");
  CHECK_EXITED(check::run_in_child([] {
    g_original_calls = 0;
    install(SIGSEGV, repairing_original);
    start_library();
    install(SIGSEGV, chaining_newcomer);
    handlers_check();
    constexpr int kPages = 500;
    char* memory = own_range(8 * kPages * kPageSize);
    mprotect(memory, 8 * kPages * kPageSize, PROT_NONE);
    Threads threads;
    for (size_t i = 0; i < 8; ++i) {
      threads.add([=] {
        for (size_t page = 0; page < kPages; ++page)
          *reinterpret_cast<volatile char*>(memory + (i * kPages + page) * kPageSize) = 1;
      });
    }
    threads.join();
    CHECK_EQ(g_original_calls.load(), 8 * kPages);
  }));
}

TEST("A9 errno is as it was after every kind of fault of ours, also where the handler's own calls failed") {
  CHECK_EXITED(check::run_in_child([] {
    start_library();
    Object* object = owned_object(kPageSize);
    const View view = map(object);
    const ForeignObject made = foreign_object(2 * kPageSize);
    const View short_view = map(made.object);
    const View refused = map(owned_object(kPageSize));
    revoke(object);
    revoke(refused.mapping->object);
    CHECK_EQ(ftruncate(made.fd, 0), 0);
    errno = 123;
    (void)view.load();
    CHECK_EQ(errno_now(), 123);
    (void)short_view.load();
    CHECK_EQ(errno_now(), 123);
    // The first fill is refused with ENOMEM, the second one is taken.
    rlimit unlimited;
    getrlimit(RLIMIT_DATA, &unlimited);
    const rlimit exceeded{1 << 16, unlimited.rlim_max};
    REQUIRE(setrlimit(RLIMIT_DATA, &exceeded) == 0);
    errno = 123;
    (void)refused.load();
    const int after = errno_now();
    setrlimit(RLIMIT_DATA, &unlimited);
    CHECK_EQ(after, 123);
    CHECK(refused.mapping->used_zero_file);
  }));
}

TEST("A9 strangers' signals are counted and change nothing of ours") {
  prepare_target(SIGBUS);
  CHECK_EXITED(check::run_in_child([] {
    install(SIGBUS, repairing_original);
    start_library();
    Object* object = owned_object(kPageSize);
    const View view = map(object);
    *reinterpret_cast<volatile char*>(g_target) = 1;
    CHECK_EQ(g_counters.foreign.load(), uint64_t{1});
    CHECK_EQ(view.status(), 0u);
    CHECK_EQ(view.mapping->faults.load(), 0u);
    revoke(object);
    CHECK_EQ(view.load(), 0u);
    CHECK_EQ(g_counters.foreign.load(), uint64_t{1});
  }));
}
