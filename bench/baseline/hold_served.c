// hold_served PATH PROCESSES: so many clients of a served device map its region 0 and touch it; a line on standard output says
// that they have. Each lets go when the device has been removed. They end with standard input: to end a process takes as long as
// all that is measured.
#define _GNU_SOURCE
#include <revocable-mmap/client.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sample.h"

static void hold_in_child(const char* path, int ready, int leave) {
  struct rm_client client;
  struct rm_mapping memory;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  must(rm_guard_install() == 0, "handler");
  must(rm_connect(&client, path) == 0, "connect");
  must(rm_map(&client, 0, &memory) == 0, "map");
  for (size_t at = 0; at < memory.size; at += 4096) must(rm_store32(&memory, at, 1) == 0, "store");
  must(write(ready, "r", 1) == 1, "write");
  must(rm_removed(&client, -1) == 1, "removed");
  rm_close(&client);
  char byte;
  must(read(leave, &byte, 1) == 0, "read");
  _exit(0);
}

int main(int argc, char** argv) {
  must(argc == 3, "arguments");
  const size_t count = strtoul(argv[2], NULL, 10);
  int ready[2], leave[2];
  must(pipe(ready) == 0 && pipe(leave) == 0, "pipe");
  for (size_t i = 0; i < count; ++i) {
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child > 0) continue;
    close(leave[1]);
    hold_in_child(argv[1], ready[1], leave[0]);
  }
  char byte;
  for (size_t i = 0; i < count; ++i) must(read(ready[0], &byte, 1) == 1, "read");
  printf("ready\n");
  fflush(stdout);
  while (getchar() != EOF) continue;
  close(leave[1]);
  for (size_t i = 0; i < count; ++i) {
    int status;
    must(wait(&status) > 0 && status == 0, "a client");
  }
  return 0;
}
