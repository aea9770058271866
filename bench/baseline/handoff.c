// handoff: a question to another thread and its answer, each by a futex: what a call that waits for another thread costs at
// least.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sample.h"

enum { kTimes = 2000 };
static _Atomic uint32_t asked, answered;

static void await_change(_Atomic uint32_t* word, uint32_t from) {
  while (atomic_load(word) == from) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, from, NULL, NULL, 0);
}

static void advance(_Atomic uint32_t* word) {
  atomic_fetch_add(word, 1);
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void* answer(void* unused) {
  for (uint32_t seen = 0;; ++seen) {
    await_change(&asked, seen);
    advance(&answered);
  }
  return unused;
}

static double sample(void) {
  const uint64_t start = now_ns();
  for (int i = 0; i < kTimes; ++i) {
    const uint32_t before = atomic_load(&answered);
    advance(&asked);
    await_change(&answered, before);
  }
  return (double)(now_ns() - start) / kTimes;
}

int main(void) {
  pthread_t thread;
  must(pthread_create(&thread, NULL, answer, NULL) == 0, "pthread_create");
  return serve(sample);
}
