// What an environment's event loop watches while its thread answers for simulated devices.
#pragma once

#include <uv.h>

#include <memory>
#include <utility>

#include "base/failure.h"
#include "binding/loop_wake.h"
#include "binding/mailbox.h"

namespace revocable::binding {

// The loop itself watches where it is libuv's (`loop` not null). Elsewhere threads of the library do, and ring the mailbox.
class LoopWatches {
 public:
  LoopWatches(uv_loop_t* loop, LoopWake* wake, std::shared_ptr<Mailbox> mailbox);
  LoopWatches(const LoopWatches&) = delete;
  LoopWatches& operator=(const LoopWatches&) = delete;

  Failure registers(int* bell);  // this thread answers for registers: the eventfd that is watched
  Failure sockets(int epoll);    // this thread has sockets: rings whenever one of them is ready, until sockets_taken()
  void sockets_taken();
  void faults();  // this thread answers for pages: it takes the faults that the loop sees
  // With the environment, once. `closed(data)` is called when libuv has let go of every handle, at once where there is none.
  void close(void (*closed)(void*), void* data);

 private:
  struct Handles;
  struct BellThread;
  struct SocketThread;
  static void set_attentive(Handles* handles, bool now);
  static void* watch_bell(void* thread);
  static void* watch_sockets(void* thread);
  static void handle_closed(uv_handle_t* handle);
  bool poll_bell();
  bool poll_sockets(int epoll);
  Failure start_bell_thread();

  uv_loop_t* const loop_;
  const std::shared_ptr<Mailbox> mailbox_;
  Handles* handles_;  // libuv may let go of them after the environment has gone
  int bell_ = -1;     // taken when the thread first answers for registers
  std::shared_ptr<BellThread> bell_thread_;
  std::shared_ptr<SocketThread> socket_thread_;
};

}  // namespace revocable::binding
