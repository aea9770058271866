#include "binding/loop_watches.h"

#include <sys/eventfd.h>

#include <mutex>
#include <vector>

#include "device/pager.h"
#include "device/userfault.h"

namespace revocable::binding {

void LoopWatches::set_attentive(FaultWatch* watch, bool now) {
  if (watch->attentive == now) return;
  watch->attentive = now;
  pager_attended(now);
}

void LoopWatches::faults() {
  if (faults_ != nullptr) return;
  auto* watch = new FaultWatch;
  if (uv_poll_init(loop_, &watch->poll, userfault_fd()) != 0) {  // the pager's thread rings, then
    delete watch;
    return;
  }
  faults_ = watch;
  watch->owner = this;
  uv_prepare_init(loop_, &watch->before);
  uv_check_init(loop_, &watch->after);
  watch->poll.data = watch->before.data = watch->after.data = watch;
  uv_poll_start(&watch->poll, UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto* own = static_cast<FaultWatch*>(handle->data);
    set_attentive(own, false);
    pager_take_faults();
    own->owner->on_wake_(own->owner->wake_);
  });
  uv_prepare_start(&watch->before, [](uv_prepare_t* handle) { set_attentive(static_cast<FaultWatch*>(handle->data), true); });
  uv_check_start(&watch->after, [](uv_check_t* handle) { set_attentive(static_cast<FaultWatch*>(handle->data), false); });
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll));
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->before));
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->after));
}

void LoopWatches::close_faults() {
  if (faults_ == nullptr) return;
  set_attentive(faults_, false);
  const auto closed = [](uv_handle_t* handle) {
    auto* watch = static_cast<FaultWatch*>(handle->data);
    if (--watch->open == 0) delete watch;
  };
  uv_close(reinterpret_cast<uv_handle_t*>(&faults_->poll), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&faults_->before), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&faults_->after), closed);
  faults_ = nullptr;
}

namespace {

// Never closed: a handler that has just looked one up may still ring it. Those of environments that have gone are used again.
struct Bells {
  std::mutex lock;
  std::vector<int> unused;
};
Bells& bells() {
  static Bells* instance = new Bells;
  return *instance;
}

int take_bell() {
  std::lock_guard guard(bells().lock);
  if (bells().unused.empty()) return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int bell = bells().unused.back();
  bells().unused.pop_back();
  return bell;
}

void give_bell_back(int bell) {
  std::lock_guard guard(bells().lock);
  bells().unused.push_back(bell);
}

}  // namespace

int LoopWatches::registers() {
  if (registers_ != nullptr) return registers_->bell;
  const int bell = take_bell();
  if (bell < 0) return -1;
  auto* watch = new RegisterWatch{{}, this, bell};
  if (uv_poll_init(loop_, &watch->poll, bell) != 0) {
    give_bell_back(bell);
    delete watch;
    return -1;
  }
  registers_ = watch;
  watch->poll.data = watch;
  uv_poll_start(&watch->poll, UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto* own = static_cast<RegisterWatch*>(handle->data);
    eventfd_t rung;
    eventfd_read(own->bell, &rung);
    own->owner->on_wake_(own->owner->wake_);
  });
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll));
  return bell;
}

void LoopWatches::close_registers() {
  if (registers_ == nullptr) return;
  uv_close(reinterpret_cast<uv_handle_t*>(&registers_->poll), [](uv_handle_t* handle) {
    auto* watch = static_cast<RegisterWatch*>(handle->data);
    give_bell_back(watch->bell);
    delete watch;
  });
  registers_ = nullptr;
}

void LoopWatches::close() {
  close_faults();
  close_registers();
}

}  // namespace revocable::binding
