// Runs a program, and all its threads, under ptrace(2), and hands on every signal: tracer PROGRAM ARGUMENTS…. Ends as it does; with 126
// where ptrace(2) is refused.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char** arguments) {
  (void)count;
  const pid_t child = fork();
  if (child == 0) {
    raise(SIGSTOP);  // until it is seized
    execvp(arguments[1], arguments + 1);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, WUNTRACED);
  if (ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) != 0) {
    perror("ptrace");
    kill(child, SIGKILL);
    return 126;
  }
  kill(child, SIGCONT);
  unsigned long handed_on = 0;
  for (;;) {
    const pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0) return 125;
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      if (thread != child) continue;
      fprintf(stderr, "%lu signals\n", handed_on);
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    // An event of ptrace's own is no signal of the program.
    const int number = status >> 16 == 0 ? WSTOPSIG(status) : 0;
    if (number != 0) ++handed_on;
    ptrace(PTRACE_CONT, thread, 0, number);
  }
}
