#include "core/copy_thread.h"

#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "base/thread.h"

namespace revocable {
namespace {

constexpr size_t kMostThreads = 256;
constexpr auto kLinger = std::chrono::seconds(1);

struct Pool {
  std::mutex lock;
  std::condition_variable work;
  std::deque<std::function<void()>> jobs;
  size_t threads = 0;
  size_t idle = 0;
};

// Never destroyed: its threads outlive static destructors.
Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

// The next job, or none when there has not been one for a while.
std::function<void()> next_job(Pool& p) {
  std::unique_lock wait(p.lock);
  ++p.idle;
  const bool some = p.work.wait_for(wait, kLinger, [&] { return !p.jobs.empty(); });
  --p.idle;
  if (!some) {
    --p.threads;
    return nullptr;
  }
  auto job = std::move(p.jobs.front());
  p.jobs.pop_front();
  return job;
}

// Threads of the library begin with every signal blocked; this one touches mappings.
void open_fault_signals() {
  sigset_t faults;
  sigemptyset(&faults);
  sigaddset(&faults, SIGBUS);
  sigaddset(&faults, SIGSEGV);
  pthread_sigmask(SIG_UNBLOCK, &faults, nullptr);
}

void* copy_thread_main(void*) {
  pthread_setname_np(pthread_self(), "revocable-copy");
  open_fault_signals();
  while (auto job = next_job(pool())) job();
  return nullptr;
}

}  // namespace

Failure run_on_copy_thread(std::function<void()> job) {
  Pool& p = pool();
  std::lock_guard guard(p.lock);
  if (p.idle <= p.jobs.size() && p.threads < kMostThreads) {
    const Failure failure = start_thread(copy_thread_main, nullptr, size_t{256} << 10);
    if (failure && p.threads == 0) return failure;
    if (!failure) ++p.threads;
  }
  p.jobs.push_back(std::move(job));
  p.work.notify_one();
  return {};
}

}  // namespace revocable
