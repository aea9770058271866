#include "check.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace check {
namespace {

struct Case {
  const char* sentence;
  const char* file;
  void (*run)();
};

// Constructed at the first registration, whatever the order of static initialisers.
std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

// What a test process tells the runner. In shared memory, because a test may die without a word.
struct Outcome {
  std::atomic<int> checks, failures;
  std::atomic<bool> skipped;
  char reason[512];
};
Outcome* g_outcome = nullptr;

constexpr int kPrintedFailures = 20;

// Generous: a test that hangs is a failure, a slow machine is not.
int test_seconds() {
  const char* given = getenv("TEST_SECONDS");
  return given != nullptr ? atoi(given) : 240;
}

double now_s() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Waits for the child at most `seconds`; false when it had to be killed. Retried after EINTR without counting anew: a signal
// during a wait is rare, and the limit is generous.
bool reap(pid_t child, int seconds, int* status) {
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  pollfd poller{fd, POLLIN, 0};
  int ready;
  do ready = poll(&poller, 1, seconds * 1000);
  while (ready < 0 && errno == EINTR);
  close(fd);
  if (ready == 0) {
    kill(-child, SIGKILL);
    kill(child, SIGKILL);
  }
  while (waitpid(child, status, 0) < 0 && errno == EINTR) {
  }
  return ready != 0;
}

std::string base_name(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

enum class Result { passed, failed, skipped };

Result run(const Case& test) {
  g_outcome->checks = g_outcome->failures = 0;
  g_outcome->skipped = false;
  fflush(stdout);
  const double start = now_s();
  const pid_t child = fork();
  if (child == 0) {
    setpgid(0, 0);  // so that a hanging test is killed with its children
    test.run();
    fflush(stdout);
    _exit(0);
  }
  int status = 0;
  const bool in_time = reap(child, test_seconds(), &status);
  kill(-child, SIGKILL);  // children the test left behind
  std::string why;
  if (!in_time) why = "did not end within " + std::to_string(test_seconds()) + " s";
  else if (status != 0) why = "the test process " + describe(status);
  else if (g_outcome->failures > 0) why = std::to_string(g_outcome->failures) + " checks failed";
  else if (!g_outcome->skipped && g_outcome->checks == 0) why = "checked nothing";
  const std::string file = base_name(test.file);
  if (!why.empty()) printf("FAIL  %s (%s): %s\n", test.sentence, file.c_str(), why.c_str());
  else if (g_outcome->skipped) printf("skip  %s: %s\n", test.sentence, g_outcome->reason);
  else printf("ok    %s (%.0f ms)\n", test.sentence, (now_s() - start) * 1000);
  fflush(stdout);
  return !why.empty() ? Result::failed : g_outcome->skipped ? Result::skipped : Result::passed;
}

}  // namespace

Registration::Registration(const char* sentence, const char* file, void (*run)()) { cases().push_back({sentence, file, run}); }

bool report(bool good, const char* file, int line, const std::string& what) {
  g_outcome->checks.fetch_add(1, std::memory_order_relaxed);
  if (good) return true;
  if (g_outcome->failures.fetch_add(1) < kPrintedFailures) {
    printf("      %s:%d: %s\n", base_name(file).c_str(), line, what.c_str());
    fflush(stdout);
  }
  return false;
}

void skip(const std::string& reason) {
  snprintf(g_outcome->reason, sizeof g_outcome->reason, "%s", reason.c_str());
  g_outcome->skipped = true;
  _exit(0);
}

int run_in_child(const std::function<void()>& body, int seconds) {
  fflush(stdout);
  const int failures = g_outcome->failures;
  const pid_t child = fork();
  if (child == 0) {
    body();
    fflush(stdout);
    _exit(g_outcome->failures == failures ? 0 : 1);
  }
  int status = 0;
  const bool in_time = reap(child, seconds, &status);
  report(in_time, __FILE__, __LINE__, "a child did not end within " + std::to_string(seconds) + " s");
  return status;
}

// sigabbrev_np(3) is in no C library but glibc 2.32.
std::string signal_name(int signal) {
  switch (signal) {
    case SIGABRT: return "SIGABRT";
    case SIGBUS: return "SIGBUS";
    case SIGKILL: return "SIGKILL";
    case SIGSEGV: return "SIGSEGV";
    case SIGTRAP: return "SIGTRAP";
    default: return "signal " + std::to_string(signal);
  }
}

std::string describe(int status) {
  if (WIFSIGNALED(status)) return "died of " + signal_name(WTERMSIG(status));
  return "exited with " + std::to_string(WEXITSTATUS(status));
}

bool report_exited(int status, const char* file, int line) {
  return report(status == 0, file, line, "the child " + describe(status) + ", not with 0");
}

bool report_died(int status, int signal, const char* file, int line) {
  return report(WIFSIGNALED(status) && WTERMSIG(status) == signal, file, line,
                "the child " + describe(status) + ", not of " + signal_name(signal));
}

bool eventually(const std::function<bool()>& condition) {
  const double end = now_s() + 40;
  while (!condition()) {
    if (now_s() > end) return false;
    usleep(100);
  }
  return true;
}

int rounds(int plain) {
  static const char* const percent = getenv("TEST_ROUNDS");
  const int wanted = percent != nullptr ? static_cast<int>(plain * atof(percent) / 100) : plain;
  return (kTsan ? wanted / 10 : kAsan ? wanted / 4 : wanted) + 1;
}

uint32_t seed() {
  const char* given = getenv("TEST_SEED");
  const uint32_t value =
      given != nullptr ? static_cast<uint32_t>(strtoul(given, nullptr, 0)) : static_cast<uint32_t>(time(nullptr));
  printf("      TEST_SEED=%u\n", value);
  return value;
}

// `TEST_SHARD=1/2` runs every second test, from the first: runners beside each other share the tests out.
bool in_shard(int index) {
  static const char* const given = getenv("TEST_SHARD");
  int shard, shards;
  if (given == nullptr || sscanf(given, "%d/%d", &shard, &shards) != 2) return true;
  return index % shards == shard - 1;
}

int run_all(const char* filter) {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  g_outcome = static_cast<Outcome*>(mmap(nullptr, sizeof(Outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  int count[3] = {};
  int matching = 0;
  for (const Case& test : cases()) {
    if (strstr(test.sentence, filter) == nullptr && strstr(test.file, filter) == nullptr) continue;
    if (!in_shard(matching++)) continue;
    ++count[static_cast<int>(run(test))];
  }
  printf("%d passed, %d failed, %d skipped\n", count[0], count[1], count[2]);
  return count[1] == 0 && matching > 0 ? 0 : 1;
}

}  // namespace check

// The first argument, if any, is a part of the sentences or file names to run.
int main(int argc, char** argv) { return check::run_all(argc > 1 ? argv[1] : ""); }
