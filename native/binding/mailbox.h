// Results of work that was done on other threads, for the environment that asked for it.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <optional>
#include <vector>

#include "base/failure.h"
#include "binding/loop_wake.h"
#include "core/mapping_record.h"
#include "core/wait_list.h"

namespace revocable::binding {

// The outcome of something that ran on another thread, matched to its promise by a token.
struct Completion {
  double token = 0;
  Failure failure = {};
  std::optional<RevokeCounts> counts = {};  // of a revocation or suspension
  bool by_this_call = false;
  WaitResult wait = WaitResult::pending;
};

// Shared with the threads that deliver: it outlives the environment, which takes its wake away when it goes.
class Mailbox {
 public:
  explicit Mailbox(LoopWake* wake) : wake_(wake) {}
  // Room for one more, taken when the work begins: when it ends there may be no memory, and a removal must not fail for that.
  void expect();
  void deliver(const Completion& completion);
  void ring();  // events may have been pushed
  std::vector<Completion> take();
  void shut();

 private:
  std::mutex lock_;
  LoopWake* wake_;
  std::vector<Completion> completions_;
  std::atomic<bool> filled_{false};  // so that looking for nothing does not wait for a thread that rings
  size_t expected_ = 0;
};

}  // namespace revocable::binding
