#include "binding/socket_set.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>

#include "share/hangup.h"

namespace revocable::binding {

Failure SocketSet::open(bool* opened) {
  *opened = epoll_ < 0;
  if (!*opened) return {};
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  return epoll_ >= 0 ? Failure{} : Failure::from_errno("epoll_create");
}

void SocketSet::let_go(Entry* entry) {
  if (entry->hangup != 0) hangup_forget(entry->hangup);
  if (entry->listener.fd >= 0) socket_unlisten(&entry->listener);
  else ::close(entry->fd);
}

Failure SocketSet::add(const Entry& entry, uint32_t* id) {
  epoll_event event{};
  event.events = EPOLLONESHOT;
  event.data.u64 = next_id_;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, entry.fd, &event) == 0) {
    *id = next_id_++;
    entries_.emplace(*id, entry);
    return {};
  }
  const Failure failure = Failure::from_errno("epoll_ctl");
  Entry refused = entry;
  let_go(&refused);
  return failure;
}

SocketSet::Entry* SocketSet::find(uint32_t id) {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : &found->second;
}

// One that is watched for nothing reports its end all the same: once.
Failure SocketSet::arm(uint32_t id, uint32_t events) {
  const Entry* entry = find(id);
  if (entry == nullptr) return {EBADF, "epoll_ctl"};
  epoll_event event{};
  event.events = events != 0 ? events : static_cast<uint32_t>(EPOLLONESHOT);
  event.data.u64 = id;
  return epoll_ctl(epoll_, EPOLL_CTL_MOD, entry->fd, &event) == 0 ? Failure{} : Failure::from_errno("epoll_ctl");
}

size_t SocketSet::ready(double* ids, size_t most, bool soon) {
  constexpr size_t kMost = 64;
  epoll_event events[kMost];
  int count = 0;
  const auto come = [&] {
    count = epoll_wait(epoll_, events, static_cast<int>(std::min(most, kMost)), 0);
    return count > 0;
  };
  if (epoll_ < 0 || (soon ? !habit_.spin(kSpinUs, come) && !come() : !come())) return 0;
  for (int i = 0; i < count; ++i) ids[i] = static_cast<double>(events[i].data.u64);
  return static_cast<size_t>(count);
}

void SocketSet::close(uint32_t id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  // Not left to the last close: a copy of the descriptor may be on its way to another process.
  epoll_ctl(epoll_, EPOLL_CTL_DEL, found->second.fd, nullptr);
  let_go(&found->second);
  entries_.erase(found);
}

void SocketSet::close_all() {
  while (!entries_.empty()) close(entries_.begin()->first);
  for (const int descriptor : held_) ::close(descriptor);
  held_.clear();
  if (epoll_ >= 0) ::close(epoll_);
  epoll_ = -1;
}

void SocketSet::close_held(int descriptor) {
  if (held_.erase(descriptor) != 0) ::close(descriptor);
}

}  // namespace revocable::binding
