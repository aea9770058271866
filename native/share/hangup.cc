#include "share/hangup.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/thread.h"
#include "core/registry.h"
#include "core/revoker.h"

namespace revocable {
namespace {

struct Watched {
  int socket;
  std::vector<Object*> objects;
};
using WatchedRef = std::shared_ptr<const Watched>;  // to look one up needs no memory

struct Hangups {
  std::mutex lock;  // taken before the registry lock
  int epoll = -1;
  bool running = false;
  std::unordered_map<uint64_t, WatchedRef> watched;
  uint64_t next_token = 1;
};

// Never destroyed: the thread outlives static destructors.
Hangups& hangups() {
  static Hangups* instance = new Hangups;
  return *instance;
}

void release_all(const std::vector<Object*>& objects) {
  for (Object* object : objects) object_release(object);
}

// What is watched, with a reference to each object: it may be forgotten meanwhile. The descriptor is the caller's, of its own.
WatchedRef look_up(uint64_t token, int* socket) {
  std::lock_guard guard(hangups().lock);
  const auto found = hangups().watched.find(token);
  if (found == hangups().watched.end()) return nullptr;
  const WatchedRef& watched = found->second;
  *socket = fcntl(watched->socket, F_DUPFD_CLOEXEC, 3);
  for (const Object* object : watched->objects) object_acquire(object->id);
  return watched;
}

void on_hangup(uint64_t token) {
  int socket = -1;
  const WatchedRef watched = look_up(token, &socket);
  if (watched == nullptr) return;
  for (Object* object : watched->objects) revoke_finish(object, revoke_begin(object));
  release_all(watched->objects);
  if (socket < 0) return;
  shutdown(socket, SHUT_WR);
  close(socket);
}

void* run(void*) {
  for (;;) {
    epoll_event ready[16];
    const int count = epoll_wait(hangups().epoll, ready, 16, -1);
    for (int i = 0; i < count; ++i) on_hangup(ready[i].data.u64);
  }
}

Failure start_locked() {
  Hangups& h = hangups();
  constexpr size_t kStackBytes = 256 << 10;
  if (h.epoll < 0) h.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (h.epoll < 0) return Failure::from_errno("epoll_create");
  if (h.running) return {};
  const Failure failure = start_thread(run, nullptr, kStackBytes);
  h.running = !failure;
  return failure;
}

Failure watch_locked(int socket, const std::vector<Object*>& objects, uint64_t* token) {
  Hangups& h = hangups();
  const Failure failure = start_locked();
  if (failure) return failure;
  const int copy = fcntl(socket, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Failure::from_errno("fcntl");
  const uint64_t number = h.next_token++;
  // Once: a descriptor that has hung up stays ready.
  epoll_event event{};
  event.events = EPOLLRDHUP | EPOLLONESHOT;
  event.data.u64 = number;
  h.watched.emplace(number, std::make_shared<const Watched>(Watched{copy, objects}));
  if (epoll_ctl(h.epoll, EPOLL_CTL_ADD, copy, &event) != 0) {
    const Failure refused = Failure::from_errno("epoll_ctl");
    h.watched.erase(number);
    close(copy);
    return refused;
  }
  *token = number;
  return {};
}

}  // namespace

Failure hangup_watch(int socket, const std::vector<Object*>& objects, uint64_t* token) {
  std::vector<Object*> held;
  for (const Object* object : objects) {
    if (Object* acquired = object_acquire(object->id); acquired != nullptr) held.push_back(acquired);
  }
  Failure failure;
  {
    std::lock_guard guard(hangups().lock);
    failure = watch_locked(socket, held, token);
  }
  if (failure) release_all(held);
  return failure;
}

void hangup_now(uint64_t token) { on_hangup(token); }

void hangup_forget(uint64_t token) {
  WatchedRef watched;
  {
    std::lock_guard guard(hangups().lock);
    const auto found = hangups().watched.find(token);
    if (found == hangups().watched.end()) return;
    watched = std::move(found->second);
    hangups().watched.erase(found);
    epoll_ctl(hangups().epoll, EPOLL_CTL_DEL, watched->socket, nullptr);
  }
  close(watched->socket);
  release_all(watched->objects);
}

}  // namespace revocable
