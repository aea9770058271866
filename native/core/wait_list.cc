#include "core/wait_list.h"

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <memory>
#include <mutex>

#include "base/features.h"
#include "base/linux_abi.h"
#include "base/thread.h"
#include "core/registry.h"

namespace revocable {
namespace {

struct WaitList {
  std::mutex lock;
  std::list<Waiter*> waiters;
};
WaitList& wait_list() {
  static WaitList* instance = new WaitList;
  return *instance;
}

constexpr uint64_t kPollNs = 20'000'000;
constexpr uint64_t kVanishedNs = 50'000'000;
constexpr uint64_t kForeverNs = 3600ull * 1'000'000'000;

uint64_t object_offset_of(const Mapping* mapping, size_t offset) {
  const size_t page = offset >> mapping->page_shift;
  return mapping->object_offset_of(page) + (offset & (mapping->page_size() - 1));
}

timespec to_timespec(uint64_t ns) { return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)}; }

uint64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Sleeps until one of the three words changes or is woken. Returns the index woken, or -errno.
long sleep_on_words(const Waiter* waiter, uint32_t status, uint32_t own, uint64_t deadline_ns) {
  if (features().futex_waitv) {
    const auto* status_word = &status_words()[waiter->mapping->slot];
    abi::futex_waitv words[3] = {
        {waiter->expected, waiter->address, abi::kFutex32, 0},
        {status, reinterpret_cast<uintptr_t>(status_word), abi::kFutex32, 0},
        {own, reinterpret_cast<uintptr_t>(&waiter->own), abi::kFutex32 | FUTEX_PRIVATE_FLAG, 0},
    };
    const timespec deadline = to_timespec(deadline_ns);
    const long woken = syscall(abi::kSysFutexWaitv, words, 3, 0, &deadline, CLOCK_MONOTONIC);
    return woken < 0 ? -errno : woken;
  }
  const uint64_t now = monotonic_ns();
  const timespec limit = to_timespec(std::min(kPollNs, deadline_ns > now ? deadline_ns - now : 0));
  const long result = syscall(SYS_futex, waiter->address, FUTEX_WAIT, waiter->expected, &limit, nullptr, 0);
  return result < 0 ? -errno : 0;
}

// However a slice ends, the waiter is not asleep any more.
class Awake {
 public:
  explicit Awake(Waiter* waiter) : waiter_(waiter) {}
  ~Awake() { waiter_->asleep.store(false); }
  Awake(const Awake&) = delete;
  Awake& operator=(const Awake&) = delete;

 private:
  Waiter* waiter_;
};

bool is_cancelled(const Waiter* waiter) {
  std::lock_guard guard(wait_list().lock);
  return waiter->cancelled;
}

struct ThreadedWait {
  Waiter* waiter;
  int64_t timeout_ns;
  std::function<void(WaitResult)> done;
};

void* wait_thread(void* argument) {
  const std::unique_ptr<ThreadedWait> wait(static_cast<ThreadedWait*>(argument));
  pthread_setname_np(pthread_self(), "revocable-wait");
  const Object* object = wait->waiter->mapping->object;
  // Truncation by the memory's owner, another process, wakes no thread here: look for it now and then.
  const bool may_vanish = object->sealable && !object->owned;
  const uint64_t slice = may_vanish ? kVanishedNs : kForeverNs;
  const uint64_t end = wait->timeout_ns < 0 ? UINT64_MAX : monotonic_ns() + static_cast<uint64_t>(wait->timeout_ns);
  WaitResult result;
  do {
    const uint64_t now = monotonic_ns();
    result = wait_slice(wait->waiter, std::min(slice, end > now ? end - now : 0));
    if (result == WaitResult::pending && may_vanish && object_revoked_by_owner(object)) result = WaitResult::faulted;
  } while (result == WaitResult::pending && monotonic_ns() < end);
  wait->done(result == WaitResult::pending ? WaitResult::timed_out : result);
  return nullptr;
}

}  // namespace

Waiter* wait_begin(Mapping* mapping, size_t offset, uint32_t expected) {
  auto* waiter = new Waiter{mapping, mapping->start + offset, expected, mapping->object->id, object_offset_of(mapping, offset)};
  mapping->waiters.fetch_add(1);
  std::lock_guard guard(wait_list().lock);
  wait_list().waiters.push_back(waiter);
  return waiter;
}

void wait_end(Waiter* waiter) {
  {
    std::lock_guard guard(wait_list().lock);
    wait_list().waiters.remove(waiter);
  }
  waiter->mapping->waiters.fetch_sub(1);
  delete waiter;
}

WaitResult wait_slice(Waiter* waiter, uint64_t limit_ns) {
  const Awake awake(waiter);
  const uint64_t deadline = monotonic_ns() + limit_ns;
  const auto& status_word = status_words()[waiter->mapping->slot];
  for (;;) {
    waiter->asleep.store(true);  // before the look at its own word: see wake_word
    // Read before sleeping, and passed to the kernel as what the words must still be.
    const uint32_t own = waiter->own.load();
    const uint32_t status = status_word.load();
    if ((status & kStatusStateMask) != 0) return WaitResult::gone;
    if (own != 0) return is_cancelled(waiter) ? WaitResult::cancelled : WaitResult::woken;
    const long woken = sleep_on_words(waiter, status, own, deadline);
    if (woken == 0) return WaitResult::woken;
    if (woken > 0 || woken == -EINTR) continue;
    if (status_word.load() != status || waiter->own.load() != own) continue;  // the top of the loop distinguishes them
    if (woken == -EAGAIN) return waiter->slept ? WaitResult::woken : WaitResult::not_equal;
    // Truncated, and not yet published: the mapping is on its way out.
    if (woken != -ETIMEDOUT && waiter->mapping->object->gate.load() != State::live) return WaitResult::gone;
    if (woken != -ETIMEDOUT) return WaitResult::faulted;
    waiter->slept = true;
    if (monotonic_ns() >= deadline) return WaitResult::pending;
  }
}

Failure wait_on_thread(Waiter* waiter, int64_t timeout_ns, std::function<void(WaitResult)> done) {
  auto* wait = new ThreadedWait{waiter, timeout_ns, std::move(done)};
  const Failure failure = start_thread(wait_thread, wait, size_t{128} << 10);
  if (failure) delete wait;
  return failure;
}

void wait_cancel(Waiter* waiter) {
  {
    std::lock_guard guard(wait_list().lock);
    waiter->cancelled = true;
  }
  waiter->own.fetch_add(1);
  futex_wake_private(&waiter->own);
}

uint32_t wake_word(Mapping* mapping, size_t offset, uint32_t count) {
  const uint64_t object = mapping->object->id;
  const uint64_t object_offset = object_offset_of(mapping, offset);
  uint32_t notified = 0;
  uint32_t notified_asleep = 0;
  {
    // Each of this process's waiters is notified through a word of its own, asleep or on its way: none is lost, none notified
    // twice.
    std::lock_guard guard(wait_list().lock);
    for (Waiter* waiter : wait_list().waiters) {
      if (notified == count) return notified;
      if (waiter->notified || waiter->object != object || waiter->object_offset != object_offset) continue;
      waiter->notified = true;
      ++notified;
      waiter->own.fetch_add(1);
      if (waiter->asleep.load()) ++notified_asleep;  // one that is not yet will see its own word changed, and not go to sleep
      futex_wake_private(&waiter->own);
    }
  }
  if (notified == count) return notified;
  // Those of other processes. The kernel may still hold some of ours in the same queue: they must not use up the others' count.
  const uint64_t limit = std::min<uint64_t>(uint64_t{count} - notified + notified_asleep, INT_MAX);
  const long woken = futex_wake_shared(reinterpret_cast<void*>(mapping->start + offset), static_cast<int>(limit));
  const uint32_t others = woken < 0 ? 0 : static_cast<uint32_t>(woken);
  return notified + (others > notified_asleep ? others - notified_asleep : 0);
}

}  // namespace revocable
