// The protocol of all baselines: a line on standard input asks for one sample, a line on standard output is its nanoseconds.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void must(int held, const char* what) {
  if (held) return;
  perror(what);
  exit(1);
}

// What the subject does between arranging and measuring, so that both find caches and processor as cold (quiet() in
// in_process.mts).
static inline void settle(void) {
  const struct timespec length = {0, 20 * 1000 * 1000};
  nanosleep(&length, NULL);
}

static inline int serve(double (*sample)(void)) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (getchar() != EOF) printf("%.3f\n", sample());
  return 0;
}
