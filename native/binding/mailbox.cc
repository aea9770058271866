#include "binding/mailbox.h"

namespace revocable::binding {

void Mailbox::expect() {
  std::lock_guard guard(lock_);
  completions_.reserve(++expected_);
}

void Mailbox::deliver(const Completion& completion) {
  std::lock_guard guard(lock_);
  completions_.push_back(completion);
  filled_.store(true, std::memory_order_release);
  if (wake_ != nullptr) wake_->request();
}

void Mailbox::ring() {
  std::lock_guard guard(lock_);
  if (wake_ != nullptr) wake_->request();
}

std::vector<Completion> Mailbox::take() {
  if (!filled_.load(std::memory_order_acquire)) return {};
  std::lock_guard guard(lock_);
  std::vector<Completion> taken = completions_;
  expected_ -= taken.size();
  completions_.clear();  // keeps its capacity
  filled_.store(false, std::memory_order_relaxed);
  return taken;
}

void Mailbox::shut() {
  std::lock_guard guard(lock_);
  wake_ = nullptr;
}

}  // namespace revocable::binding
