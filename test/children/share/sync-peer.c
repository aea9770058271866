// Uses the ring and the mutex of served memory, as test/share/ring.test.ts and mutex.test.ts ask: sync-peer PATH ACTION [COUNT].
// The mutex is at offset 0, what it protects at 64, the ring at 128; its slots hold their number in each word.
#define _GNU_SOURCE
#include <revocable-mmap/sync.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORDS = 16, MOST = 64 };

static uint32_t slots[MOST][WORDS];
static struct rm_client client;
static struct rm_mapping mapping;
static struct rm_owner self;
static struct rm_mutex mutex;
static struct rm_ring ring;

static int need(const char* what, int result) {
  if (result >= 0) return result;
  printf("%s %d\n", what, -result);
  exit(3);
}

static void say(const char* what) {
  puts(what);
  fflush(stdout);
}

static void feed(uint32_t count) {
  for (uint32_t next = 0; next < count;) {
    const uint32_t most = 1 + next % MOST, some = most < count - next ? most : count - next;
    for (uint32_t i = 0; i < some; ++i)
      for (uint32_t word = 0; word < WORDS; ++word) slots[i][word] = next + i;
    const int pushed = need("push", rm_ring_push(&ring, slots, some));
    next += (uint32_t)pushed;
    if (pushed == 0) need("wait", rm_ring_wait_room(&ring, 1, -1));
  }
}

static void drain(uint32_t count) {
  for (uint32_t next = 0; next < count;) {
    const int pulled = need("pull", rm_ring_pull(&ring, slots, 1 + next % MOST));
    for (int i = 0; i < pulled; ++i, ++next)
      for (uint32_t word = 0; word < WORDS; ++word)
        if (slots[i][word] != next) need("order", -1);
    if (pulled == 0) need("wait", rm_ring_wait_data(&ring, 1, -1));
  }
}

static void count_up(uint32_t rounds) {
  volatile uint32_t* counter = (volatile uint32_t*)(mapping.at + 64);
  for (uint32_t i = 0; i < rounds; ++i) {
    need("lock", rm_mutex_lock(&mutex, &self, -1));
    *counter = *counter + 1;
    need("unlock", rm_mutex_unlock(&mutex, &self));
  }
}

int main(int argc, char** argv) {
  const char* action = argv[2];
  const uint32_t count = argc > 3 ? (uint32_t)atol(argv[3]) : 0;
  need("guard", rm_guard_install());
  need("connect", rm_connect(&client, argv[1]));
  need("map", rm_map(&client, 0, &mapping));
  need("owner", rm_owner_open(&self, &mapping));
  need("mutex", rm_mutex_open(&mutex, &mapping, 0));
  need("ring", rm_ring_open(&ring, &mapping, 128));
  say("ready");
  if (strcmp(action, "feed") == 0) feed(count);
  if (strcmp(action, "drain") == 0) drain(count);
  if (strcmp(action, "count") == 0) count_up(count);
  if (strcmp(action, "wait") == 0) need("wait", rm_ring_wait_data(&ring, 1, -1));
  if (strcmp(action, "hold") == 0) {
    say(need("lock", rm_mutex_lock(&mutex, &self, -1)) == 1 ? "held, owner died" : "held");
    for (;;) pause();
  }
  say("done");
  return 0;
}
