#include "core/service.h"

#include <pthread.h>

#include <list>
#include <map>
#include <mutex>

#include "base/counters.h"
#include "base/futex.h"
#include "base/thread.h"
#include "core/revoker.h"

namespace revocable {
namespace {

struct Service {
  std::mutex start_lock;
  bool started = false;

  FutexWord wakeups{0};  // bumped by every wake: the thread sleeps while it is unchanged

  std::mutex jobs_lock;
  std::list<std::function<void()>> jobs;  // lists: to take something off one needs no memory
  std::list<std::function<void()>> barriers;

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

// The thread has nothing to watch and sleeps until it is woken.
std::atomic<bool> g_resting{false};

bool take_job(std::function<void()>* job) {
  std::lock_guard guard(service().jobs_lock);
  if (service().jobs.empty()) return false;
  *job = std::move(service().jobs.front());
  service().jobs.pop_front();
  return true;
}

void take_barriers(std::list<std::function<void()>>* taken) {
  std::lock_guard guard(service().jobs_lock);
  taken->splice(taken->end(), service().barriers);
}

uint64_t watched() { return g_counters.live.load() + g_counters.revoked.load() + g_counters.suspended.load(); }

// Says that it rests before it looks for the last time, as service_watch counts its mapping before it looks who rests.
bool may_rest() {
  g_resting.store(true);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (watched() == 0) return true;
  g_resting.store(false);
  return false;
}

void run(Service& s) {
  uint32_t announced = 0;
  bool idle = false;  // one tick without a mapping, before it rests: mappings come and go
  std::list<std::function<void()>> barriers;
  for (;;) {
    take_barriers(&barriers);  // first: what is looked for below was there before them, or comes on top
    const uint32_t seen = s.wakeups.load();
    if (auto* check = s.watchdog.load()) check();
    const bool soon = finish_handler_work();
    std::function<void()> job;
    while (take_job(&job)) job();
    if (seen != announced) service_notify(kNoSubscription);
    announced = seen;
    if (!soon) {
      for (const auto& done : barriers) done();
      barriers.clear();
    }
    const bool was_idle = idle;
    idle = watched() == 0;
    const bool rest = idle && was_idle && !soon && may_rest();
    const timespec tick{0, soon ? 5'000'000 : 100'000'000};
    futex_wait_private(&s.wakeups, seen, rest ? nullptr : &tick);
    g_resting.store(false);
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
  g_service_bell.wakeups.store(&s.wakeups, std::memory_order_release);
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

void service_barrier(std::function<void()> done) {
  {
    std::lock_guard guard(service().jobs_lock);
    service().barriers.push_back(std::move(done));
  }
  service_wake();
}

void service_watch() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (g_resting.load()) service_wake();
}

void service_events_looked_at() { g_service_bell.announced.store(false); }

void service_notify(int except) {
  std::lock_guard guard(service().subscribers_lock);
  for (auto& [id, notify] : service().subscribers) {
    if (id != except) notify();
  }
}

int service_subscribe(std::function<void()> notify) {
  std::lock_guard guard(service().subscribers_lock);
  const int id = service().next_subscriber++;
  service().subscribers.emplace(id, std::move(notify));
  service_events_looked_at();  // the newcomer has not been notified of anything
  return id;
}

void service_unsubscribe(int id) {
  std::lock_guard guard(service().subscribers_lock);
  service().subscribers.erase(id);
}

void service_set_watchdog(void (*check)()) { service().watchdog.store(check); }

}  // namespace revocable
