#include "core/service.h"

#include <pthread.h>

#include <deque>
#include <map>
#include <mutex>

#include "core/counters.h"
#include "core/futex.h"
#include "core/revoker.h"
#include "core/thread.h"

namespace revocable {
namespace {

struct Service {
  std::mutex start_lock;
  bool started = false;

  FutexWord wakeups{0};  // bumped by every wake: the thread sleeps while it is unchanged

  std::mutex jobs_lock;
  std::deque<std::function<void()>> jobs;

  std::mutex subscribers_lock;
  std::map<int, std::function<void()>> subscribers;
  int next_subscriber = 1;

  std::atomic<void (*)()> watchdog{nullptr};
};

// Never destroyed: the thread outlives static destructors.
Service& service() {
  static Service* instance = new Service;
  return *instance;
}
// The same word, reachable from a signal handler without the function-local static's guard.
std::atomic<FutexWord*> g_wakeups{nullptr};

bool take_job(std::function<void()>* job) {
  std::lock_guard guard(service().jobs_lock);
  if (service().jobs.empty()) return false;
  *job = std::move(service().jobs.front());
  service().jobs.pop_front();
  return true;
}

void notify_subscribers() {
  std::lock_guard guard(service().subscribers_lock);
  for (auto& [id, notify] : service().subscribers) notify();
}

void run(Service& s) {
  uint32_t announced = 0;
  for (;;) {
    const uint32_t seen = s.wakeups.load();
    if (auto* check = s.watchdog.load()) check();
    const bool soon = finish_handler_work();
    std::function<void()> job;
    while (take_job(&job)) job();
    if (seen != announced) notify_subscribers();
    announced = seen;
    const bool watching = g_counters.live.load(std::memory_order_relaxed) + g_counters.revoked.load(std::memory_order_relaxed) +
                              g_counters.suspended.load(std::memory_order_relaxed) !=
                          0;
    const timespec tick{0, soon ? 5'000'000 : 100'000'000};
    futex_wait_private(&s.wakeups, seen, soon || watching ? &tick : nullptr);
  }
}

void* thread_main(void* self) {
  pthread_setname_np(pthread_self(), "revocable-mmap");
  run(*static_cast<Service*>(self));
  return nullptr;
}

}  // namespace

Failure service_start() {
  Service& s = service();
  std::lock_guard guard(s.start_lock);
  if (s.started) return {};
  g_wakeups.store(&s.wakeups, std::memory_order_release);
  const Failure failure = start_thread(thread_main, &s, size_t{256} << 10);
  if (failure) return failure;
  s.started = true;
  return {};
}

void service_post(std::function<void()> job) {
  {
    std::lock_guard guard(service().jobs_lock);
    service().jobs.push_back(std::move(job));
  }
  service_wake();
}

void service_wake() {
  FutexWord* word = g_wakeups.load(std::memory_order_acquire);
  if (word == nullptr) return;
  word->fetch_add(1);
  futex_wake_private(word, 1);
}

int service_subscribe(std::function<void()> notify) {
  std::lock_guard guard(service().subscribers_lock);
  const int id = service().next_subscriber++;
  service().subscribers.emplace(id, std::move(notify));
  return id;
}

void service_unsubscribe(int id) {
  std::lock_guard guard(service().subscribers_lock);
  service().subscribers.erase(id);
}

void service_set_watchdog(void (*check)()) { service().watchdog.store(check); }

}  // namespace revocable
