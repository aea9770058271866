// What an environment's event loop watches while its thread answers for simulated devices.
#pragma once

#include <uv.h>

namespace revocable::binding {

class LoopWatches {
 public:
  // `on_wake(wake)` is called on the loop when there may be something for the thread to take.
  LoopWatches(uv_loop_t* loop, uv_async_t* wake, void (*on_wake)(uv_async_t*)) : loop_(loop), wake_(wake), on_wake_(on_wake) {}
  LoopWatches(const LoopWatches&) = delete;
  LoopWatches& operator=(const LoopWatches&) = delete;

  int registers();  // this thread answers for registers: the eventfd that the loop watches, or -1
  void faults();    // this thread answers for pages: it takes the faults that the loop sees
  void close();     // with the environment

 private:
  // Null until the thread answers for pages.
  struct FaultWatch {
    uv_poll_t poll;
    uv_prepare_t before;
    uv_check_t after;
    const LoopWatches* owner;
    bool attentive = false;
    int open = 3;
  };
  // Null until the thread answers for registers.
  struct RegisterWatch {
    uv_poll_t poll;
    const LoopWatches* owner;
    int bell;
  };
  static void set_attentive(FaultWatch* watch, bool now);
  void close_faults();
  void close_registers();

  uv_loop_t* const loop_;
  uv_async_t* const wake_;
  void (*const on_wake_)(uv_async_t*);
  FaultWatch* faults_ = nullptr;
  RegisterWatch* registers_ = nullptr;
};

}  // namespace revocable::binding
