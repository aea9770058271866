// Uses a device that another process serves, until it is removed:
//
//   cc -std=c11 -I include -o client examples/share/client.c && ./client /run/user/1000/card.sock
//
// Region 0 is registers, region 1 memory. Prints a line for each step; status 0 when the removal was noticed and survived.
// With a second argument it has its own handler for SIGBUS, and none of the header's.
#define _GNU_SOURCE
#include <revocable-mmap/client.h>
#include <stdio.h>
#include <stdlib.h>

static sigjmp_buf own_way_out;

static void own_handler(int number) {
  (void)number;
  siglongjmp(own_way_out, 1);
}

static void need(const char *what, int result) {
  if (result >= 0) return;
  fprintf(stderr, "%s: %s\n", what, strerror(-result));
  exit(1);
}

// Reads until the memory is gone, guarded by the header. What a server that has died leaves behind can still be read: this
// program notices its end by the connection.
static int read_guarded(const struct rm_client *client, const struct rm_mapping *frames) {
  uint32_t value;
  while (rm_load32(frames, 0, &value) == 0) {
    if (rm_removed(client, 0) != 0) return 1;
  }
  return rm_store32(frames, 0, 1) == -ENODEV;
}

// The same, raw, with a handler of the program's own.
static int read_raw(const struct rm_mapping *frames) {
  if (sigsetjmp(own_way_out, 1) != 0) return 1;
  for (;;) (void)*(volatile uint32_t *)frames->at;
}

int main(int count, char **arguments) {
  const int own = count > 2;
  struct rm_client client;
  struct rm_mapping frames;
  uint32_t value;
  uint64_t answer, raised;
  int eventfds[4];
  if (own) signal(SIGBUS, own_handler);
  else need("handler", rm_guard_install());
  need("connect", rm_connect(&client, arguments[1]));
  need("map", rm_map(&client, 1, &frames));
  value = *(volatile uint32_t *)frames.at;
  printf("memory %x\n", value);
  need("write", rm_register_write(&client, 0, 8, 4, 77));
  need("read", rm_register_read(&client, 0, 8, 4, &answer));
  printf("register %u\n", (unsigned)answer);
  need("interrupts", rm_interrupts(&client, 4, eventfds));
  need("raise", rm_register_write(&client, 0, 0xf0, 4, 3));
  if (read(eventfds[3], &raised, sizeof raised) == sizeof raised) printf("interrupt 3\n");
  printf("waiting\n");
  fflush(stdout);
  if (!(own ? read_raw(&frames) : read_guarded(&client, &frames))) return 2;
  need("removed", rm_removed(&client, 10000));
  printf("removed\n");
  rm_close(&client);
  return 0;
}
