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

static inline int serve(double (*sample)(void)) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (getchar() != EOF) printf("%.3f\n", sample());
  return 0;
}
