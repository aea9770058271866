// A test harness in two files. Each test is a sentence under the rule it proves, and runs in a process of its own:
//
//   TEST("R4 a system call on a revoked view fails with EFAULT") {
//     const View view = map(owned_object(kPageSize));
//     CHECK_EQ(write(fd, view.at, 1), -1);
//   }
//
// so no test sees another one's library, and one that dies or hangs fails alone. A failed check prints its place and values and
// the test goes on; REQUIRE also leaves the function. A test without a single check fails.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>

namespace check {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAsan = true;
#else
inline constexpr bool kAsan = false;
#endif
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kTsan = true;
#else
inline constexpr bool kTsan = false;
#endif

// Rounds of a storm: fewer where a sanitizer makes each one slow, and TEST_ROUNDS percent of that.
int rounds(int plain);

// Registers a test. Called by TEST before main().
struct Registration {
  Registration(const char* sentence, const char* file, void (*run)());
};

// Counts a check; prints `what` when it failed. Shared with children, so a check that fails there fails the test.
bool report(bool good, const char* file, int line, const std::string& what);

// Ends the test process: this kernel, user or build cannot run it, for this reason.
[[noreturn]] void skip(const std::string& reason);

// Runs `body` in a forked child that exits with 0, or with 1 when a check failed in it. Returns waitpid's status. A child that
// takes longer than `seconds` is killed and fails the test. No core is dumped.
//
// fork() leaves the library's service thread behind: a child that needs the library is forked before it was started. A
// child forked later may use memory and system calls only.
int run_in_child(const std::function<void()>& body, int seconds = 120);
std::string describe(int wait_status);

// Waits until `condition` holds. False, and a failed check at the caller, when it does not within 40 s.
bool eventually(const std::function<bool()>& condition);

// A seed for random tests: TEST_SEED from the environment or the clock's; printed.
uint32_t seed();

template <typename T>
std::string text(const T& value) {
  if constexpr (std::is_enum_v<T>) return std::to_string(static_cast<long long>(value));
  else if constexpr (std::is_pointer_v<T> && !std::is_same_v<std::decay_t<std::remove_pointer_t<T>>, char>)
    return "pointer " + std::to_string(reinterpret_cast<uintptr_t>(value));
  else if constexpr (std::is_arithmetic_v<T>) return std::to_string(value);
  else return std::string(value);
}

template <typename A, typename B>
bool report_equal(const A& a, const B& b, const char* what, const char* file, int line) {
  if (a == b) return report(true, file, line, {});
  return report(false, file, line, std::string(what) + ": " + text(a) + " is not " + text(b));
}

// For messages: "SIGBUS".
std::string signal_name(int signal);

bool report_exited(int wait_status, const char* file, int line);  // with 0
bool report_died(int wait_status, int signal, const char* file, int line);

}  // namespace check

#define CHECK_JOIN_(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN_(a, b)
#define TEST(sentence)                                                                                                   \
  static void CHECK_JOIN(test_, __LINE__)();                                                                             \
  static const check::Registration CHECK_JOIN(registration_, __LINE__)(sentence, __FILE__, CHECK_JOIN(test_, __LINE__)); \
  static void CHECK_JOIN(test_, __LINE__)()

#define CHECK(condition) check::report((condition), __FILE__, __LINE__, #condition)
#define CHECK_EQ(a, b) check::report_equal((a), (b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_OK(failure)                                                                                           \
  [](const revocable::Failure& got) {                                                                               \
    return check::report(!got, __FILE__, __LINE__,                                                                  \
                         std::string(#failure " failed: ") + got.syscall + " errno " + std::to_string(got.errnum)); \
  }(failure)
#define REQUIRE(condition)         \
  do {                             \
    if (!CHECK(condition)) return; \
  } while (false)
#define REQUIRE_OK(failure)         \
  do {                              \
    if (!CHECK_OK(failure)) return; \
  } while (false)
#define EVENTUALLY(condition) \
  check::report(check::eventually([&] { return condition; }), __FILE__, __LINE__, "within 20 s: " #condition)
#define CHECK_EXITED(status) check::report_exited((status), __FILE__, __LINE__)
#define CHECK_DIED_OF(status, signal) check::report_died((status), (signal), __FILE__, __LINE__)
