#include "binding/loop_watches.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <vector>

#include "base/futex.h"
#include "base/thread.h"
#include "device/pager.h"
#include "device/userfault.h"

// The addon loads without them: a runtime that is not Node need not have libuv.
#pragma weak uv_poll_init
#pragma weak uv_poll_start
#pragma weak uv_prepare_init
#pragma weak uv_prepare_start
#pragma weak uv_check_init
#pragma weak uv_check_start
#pragma weak uv_close
#pragma weak uv_unref

namespace revocable::binding {

struct LoopWatches::Handles {
  LoopWake* wake = nullptr;
  bool faults = false;
  bool registers = false;
  bool attentive = false;
  int sockets = -1;  // a copy of the epoll descriptor: the environment may close its own before libuv has let go
  int bell = -1;
  uv_poll_t userfault;
  uv_prepare_t before;
  uv_check_t after;
  uv_poll_t bell_poll;
  uv_poll_t socket_poll;
  int open = 0;  // while they are being closed
  void (*closed)(void*) = nullptr;
  void* data = nullptr;
};

LoopWatches::LoopWatches(uv_loop_t* loop, LoopWake* wake, std::shared_ptr<Mailbox> mailbox)
    : loop_(loop), mailbox_(std::move(mailbox)), handles_(new Handles{}) {
  handles_->wake = wake;
}

void LoopWatches::set_attentive(Handles* handles, bool now) {
  if (handles->attentive == now) return;
  handles->attentive = now;
  pager_attended(now);
}

namespace {

template <typename Handle>
uv_handle_t* as_handle(Handle* handle) {
  return reinterpret_cast<uv_handle_t*>(handle);
}

// Never closed: a handler that has just looked one up may still ring it. Those of environments that have gone are used again.
struct Bells {
  std::mutex lock;
  std::vector<int> unused;  // with room for all: an environment that goes may find no memory
  size_t made = 0;
};
Bells& bells() {
  static Bells* instance = new Bells;
  return *instance;
}

int take_bell() {
  std::lock_guard guard(bells().lock);
  if (bells().unused.empty()) {
    bells().unused.reserve(++bells().made);
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  }
  const int bell = bells().unused.back();
  bells().unused.pop_back();
  return bell;
}

void give_bell_back(int bell) {
  std::lock_guard guard(bells().lock);
  bells().unused.push_back(bell);
}

}  // namespace

// Where the loop cannot watch, the pager's thread takes the faults and rings.
void LoopWatches::faults() {
  Handles* h = handles_;
  if (loop_ == nullptr || h->faults || uv_poll_init(loop_, &h->userfault, userfault_fd()) != 0) return;
  h->faults = true;
  uv_prepare_init(loop_, &h->before);
  uv_check_init(loop_, &h->after);
  h->userfault.data = h->before.data = h->after.data = h;
  uv_poll_start(&h->userfault, UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto* own = static_cast<Handles*>(handle->data);
    set_attentive(own, false);
    pager_take_faults();
    own->wake->run();
  });
  uv_prepare_start(&h->before, [](uv_prepare_t* handle) { set_attentive(static_cast<Handles*>(handle->data), true); });
  uv_check_start(&h->after, [](uv_check_t* handle) { set_attentive(static_cast<Handles*>(handle->data), false); });
  uv_unref(as_handle(&h->userfault));
  uv_unref(as_handle(&h->before));
  uv_unref(as_handle(&h->after));
}

bool LoopWatches::poll_bell() {
  Handles* h = handles_;
  if (loop_ == nullptr || uv_poll_init(loop_, &h->bell_poll, bell_) != 0) return false;
  h->registers = true;
  h->bell = bell_;
  h->bell_poll.data = h;
  uv_poll_start(&h->bell_poll, UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto* own = static_cast<Handles*>(handle->data);
    eventfd_t rung;
    eventfd_read(own->bell, &rung);
    own->wake->run();
  });
  uv_unref(as_handle(&h->bell_poll));
  return true;
}

// Waits for a bell on a thread of its own. The last ring is the environment's, which has set `over`.
struct LoopWatches::BellThread {
  int bell;
  std::shared_ptr<Mailbox> mailbox;
  std::atomic<bool> over{false};
};

void* LoopWatches::watch_bell(void* thread) {
  const std::unique_ptr<std::shared_ptr<BellThread>> own(static_cast<std::shared_ptr<BellThread>*>(thread));
  BellThread& watched = **own;
  while (!watched.over.load()) {
    pollfd ready{watched.bell, POLLIN, 0};
    eventfd_t rung;
    if (poll(&ready, 1, -1) == 1 && eventfd_read(watched.bell, &rung) == 0) watched.mailbox->ring();
  }
  give_bell_back(watched.bell);
  return nullptr;
}

Failure LoopWatches::start_bell_thread() {
  constexpr size_t kStackBytes = 64 << 10;
  auto thread = std::make_shared<BellThread>();
  thread->bell = bell_;
  thread->mailbox = mailbox_;
  auto* held = new std::shared_ptr<BellThread>(thread);
  const Failure failure = start_thread(watch_bell, held, kStackBytes);
  if (failure) delete held;
  else bell_thread_ = std::move(thread);
  return failure;
}

Failure LoopWatches::registers(int* bell) {
  if (bell_ < 0) {
    bell_ = take_bell();
    if (bell_ < 0) return Failure::from_errno("eventfd");
    const Failure failure = poll_bell() ? Failure{} : start_bell_thread();
    if (failure) {
      give_bell_back(bell_);
      bell_ = -1;
      return failure;
    }
  }
  *bell = bell_;
  return {};
}

// Waits for the epoll descriptor on a thread of its own, and after each ring for the loop to have taken what was ready.
struct LoopWatches::SocketThread {
  int epoll = -1;
  int wake = -1;
  std::shared_ptr<Mailbox> mailbox;
  FutexWord taken{1};
  std::atomic<bool> over{false};
  ~SocketThread() {
    if (epoll >= 0) ::close(epoll);
    if (wake >= 0) ::close(wake);
  }
};

void* LoopWatches::watch_sockets(void* thread) {
  const std::unique_ptr<std::shared_ptr<SocketThread>> own(static_cast<std::shared_ptr<SocketThread>*>(thread));
  SocketThread& watched = **own;
  while (!watched.over.load()) {
    pollfd ready[2] = {{watched.epoll, POLLIN, 0}, {watched.wake, POLLIN, 0}};
    if (poll(ready, 2, -1) < 1 || watched.over.load()) continue;
    watched.taken.store(0);
    watched.mailbox->ring();
    while (watched.taken.load() == 0 && !watched.over.load()) futex_wait_private(&watched.taken, 0, nullptr);
  }
  return nullptr;
}

bool LoopWatches::poll_sockets(int epoll) {
  Handles* h = handles_;
  if (loop_ == nullptr) return false;
  h->sockets = fcntl(epoll, F_DUPFD_CLOEXEC, 3);
  if (h->sockets < 0) return false;
  if (uv_poll_init(loop_, &h->socket_poll, h->sockets) != 0) {
    ::close(h->sockets);
    h->sockets = -1;
    return false;
  }
  h->socket_poll.data = h;
  uv_poll_start(&h->socket_poll, UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<Handles*>(handle->data)->wake->run(); });
  uv_unref(as_handle(&h->socket_poll));
  return true;
}

Failure LoopWatches::sockets(int epoll) {
  if (poll_sockets(epoll)) return {};
  auto watch = std::make_shared<SocketThread>();
  watch->epoll = fcntl(epoll, F_DUPFD_CLOEXEC, 3);
  watch->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  watch->mailbox = mailbox_;
  if (watch->epoll < 0 || watch->wake < 0) return Failure::from_errno("eventfd");
  constexpr size_t kStackBytes = 64 << 10;
  auto* held = new std::shared_ptr<SocketThread>(watch);
  const Failure failure = start_thread(watch_sockets, held, kStackBytes);
  if (failure) delete held;
  else socket_thread_ = std::move(watch);
  return failure;
}

void LoopWatches::sockets_taken() {
  if (socket_thread_ == nullptr || socket_thread_->taken.exchange(1) != 0) return;
  futex_wake_private(&socket_thread_->taken);
}

void LoopWatches::handle_closed(uv_handle_t* handle) {
  auto* handles = static_cast<Handles*>(handle->data);
  if (--handles->open > 0) return;
  if (handles->registers) give_bell_back(handles->bell);
  if (handles->sockets >= 0) ::close(handles->sockets);
  handles->closed(handles->data);
  delete handles;
}

void LoopWatches::close(void (*closed)(void*), void* data) {
  if (bell_thread_ != nullptr) {
    bell_thread_->over.store(true);
    eventfd_write(bell_, 1);
  }
  if (socket_thread_ != nullptr) {
    socket_thread_->over.store(true);
    eventfd_write(socket_thread_->wake, 1);
    sockets_taken();
  }
  Handles* h = std::exchange(handles_, nullptr);
  h->closed = closed;
  h->data = data;
  h->open = (h->faults ? 3 : 0) + (h->registers ? 1 : 0) + (h->sockets >= 0 ? 1 : 0);
  if (h->open == 0) {
    closed(data);
    delete h;
    return;
  }
  set_attentive(h, false);
  if (h->registers) uv_close(as_handle(&h->bell_poll), handle_closed);
  if (h->sockets >= 0) uv_close(as_handle(&h->socket_poll), handle_closed);
  if (!h->faults) return;
  uv_close(as_handle(&h->userfault), handle_closed);
  uv_close(as_handle(&h->before), handle_closed);
  uv_close(as_handle(&h->after), handle_closed);
}

}  // namespace revocable::binding
