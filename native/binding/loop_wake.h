// Runs a function on an environment's event loop, asked for by any thread.
#pragma once

#include <node_api.h>

#include <atomic>

namespace revocable::binding {

// A thread-safe function of Node-API, which every runtime has, so that the addon needs no symbol of libuv. Requests are counted
// as one until the loop has come to it.
class LoopWake {
 public:
  // `wake` runs with an open handle scope, never after close().
  LoopWake(napi_env env, void (*wake)(void*), void* data);
  LoopWake(const LoopWake&) = delete;
  LoopWake& operator=(const LoopWake&) = delete;

  void request();  // any thread, before close()
  void run();      // the environment's: at once
  void keep_loop_alive(bool alive);
  void close();  // the environment's, once

 private:
  static void on_loop(napi_env env, napi_value, void* context, void*);

  napi_env const env_;
  void (*const wake_)(void*);
  void* const data_;
  napi_threadsafe_function function_ = nullptr;
  std::atomic<bool> requested_{false};
};

}  // namespace revocable::binding
