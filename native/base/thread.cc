#include "base/thread.h"

#include <pthread.h>
#include <signal.h>

namespace revocable {

Failure start_thread(void* (*body)(void*), void* argument, size_t stack_bytes) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, stack_bytes);
  pthread_t thread;
  pthread_sigmask(SIG_SETMASK, &all, &old);  // a new thread begins with its creator's
  const int error = pthread_create(&thread, &attributes, body, argument);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attributes);
  return error == 0 ? Failure{} : Failure{error, "pthread_create"};
}

}  // namespace revocable
