// socket_ping: another process answers messages as long as those of a register's read (vfio-user's REGION_READ of 4 bytes), over
// a Unix socket: what an access costs at least whose answer comes by messages. Both sides block in the kernel.
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sample.h"

enum { kTimes = 500, kAsked = 32, kAnswered = 36 };
static int peer;

static void answer(int socket) {
  char bytes[kAnswered] = {0};
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (recv(socket, bytes, kAsked, MSG_WAITALL) == kAsked) must(send(socket, bytes, kAnswered, 0) == kAnswered, "send");
  _exit(0);
}

static double sample(void) {
  char bytes[kAnswered] = {0};
  const uint64_t start = now_ns();
  for (int i = 0; i < kTimes; ++i) {
    must(send(peer, bytes, kAsked, 0) == kAsked, "send");
    must(recv(peer, bytes, kAnswered, MSG_WAITALL) == kAnswered, "recv");
  }
  return (double)(now_ns() - start) / kTimes;
}

int main(void) {
  int pair[2];
  must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
  const pid_t child = fork();
  must(child >= 0, "fork");
  if (child == 0) {
    close(pair[0]);
    answer(pair[1]);
  }
  close(pair[1]);
  peer = pair[0];
  return serve(sample);
}
