// hold PATH BYTES PROCESSES: so many processes map PATH and touch it; a line on standard output says that they have. They end
// with standard input.
#define _GNU_SOURCE
#include "hold.h"

#include <fcntl.h>

int main(int argc, char** argv) {
  must(argc == 4, "arguments");
  const size_t bytes = strtoul(argv[2], NULL, 10), count = strtoul(argv[3], NULL, 10);
  const int fd = open(argv[1], O_RDWR | O_CLOEXEC);
  must(fd >= 0, "open");
  pid_t* children = malloc(count * sizeof *children);
  hold(fd, bytes, children, count);
  printf("ready\n");
  fflush(stdout);
  while (getchar() != EOF) continue;
  let_go(children, count);
  return 0;
}
