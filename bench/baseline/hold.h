// Other processes that map a memfd and have touched it: as many as there are, each keeps its mapping until it is killed.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sample.h"

static inline void hold_in_child(int fd, size_t bytes, int ready) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  char* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  must(at != MAP_FAILED, "mmap");
  for (size_t i = 0; i < bytes; i += 4096) at[i] = 1;
  must(write(ready, "r", 1) == 1, "write");
  for (;;) pause();
}

static inline void hold(int fd, size_t bytes, pid_t* children, size_t count) {
  int ready[2];
  must(pipe(ready) == 0, "pipe");
  for (size_t i = 0; i < count; ++i) {
    children[i] = fork();
    must(children[i] >= 0, "fork");
    if (children[i] == 0) hold_in_child(fd, bytes, ready[1]);
  }
  char byte;
  for (size_t i = 0; i < count; ++i) must(read(ready[0], &byte, 1) == 1, "read");
  close(ready[0]);
  close(ready[1]);
}

static inline void let_go(const pid_t* children, size_t count) {
  for (size_t i = 0; i < count; ++i) kill(children[i], SIGKILL);
  for (size_t i = 0; i < count; ++i) waitpid(children[i], NULL, 0);
}
