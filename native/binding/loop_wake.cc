#include "binding/loop_wake.h"

namespace revocable::binding {

LoopWake::LoopWake(napi_env env, void (*wake)(void*), void* data) : env_(env), wake_(wake), data_(data) {
  napi_value name = nullptr;
  napi_create_string_utf8(env, "revocable-mmap", NAPI_AUTO_LENGTH, &name);
  napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, on_loop, &function_);
  keep_loop_alive(false);
}

void LoopWake::on_loop(napi_env env, napi_value, void* context, void*) {
  if (env != nullptr) static_cast<LoopWake*>(context)->run();  // null: what was still queued when the function was given back
}

void LoopWake::request() {
  if (!requested_.exchange(true)) napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

// Cleared before the look, so that what is delivered during the look is found by it or asks for another.
void LoopWake::run() {
  requested_.store(false);
  wake_(data_);
}

void LoopWake::keep_loop_alive(bool alive) {
  alive ? napi_ref_threadsafe_function(env_, function_) : napi_unref_threadsafe_function(env_, function_);
}

void LoopWake::close() { napi_release_threadsafe_function(function_, napi_tsfn_abort); }

}  // namespace revocable::binding
