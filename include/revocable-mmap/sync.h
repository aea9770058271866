// The ring and the mutex of revocable-mmap/share, in C11 for Linux: what JavaScript makes with Ring.create() and Mutex.create()
// in memory that client.h has mapped. Needs rm_guard_install(): accesses are guarded.
//
//   struct rm_ring ring;
//   if (rm_ring_open(&ring, &mapping, 0) != 0) ...
//   while (rm_ring_wait_data(&ring, 1, -1) == 1) count = rm_ring_pull(&ring, slots, 16);   // -ENODEV: it has been removed
//
//   struct rm_owner self;                                // one for each thread that locks
//   struct rm_mutex mutex;
//   if (rm_owner_open(&self, &mapping) != 0 || rm_mutex_open(&mutex, &mapping, 0) != 0) ...
//   if (rm_mutex_lock(&mutex, &self, -1) == 1) ...       // its last holder has died: make whole what it protects
//   rm_mutex_unlock(&mutex, &self);
//
// Functions return a negative errno where they fail: -ENODEV once the memory has been removed, -EPROTO where it holds no ring or
// mutex, or something else has been written over it. A wait looks every 50 ms whether the memory is still there.
#ifndef REVOCABLE_MMAP_SYNC_H
#define REVOCABLE_MMAP_SYNC_H

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <revocable-mmap/client.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

enum { RM_LOOK_MS = 50 };

static inline int64_t rm_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline uint32_t* rm_word(const struct rm_mapping* mapping, size_t offset) { return (uint32_t*)(mapping->at + offset); }

// Sleeps while the word is `expected`, at most until `end` or the next look. 0, or -ETIMEDOUT once `end` (-1: never) has come.
static inline int rm_sleep(uint32_t* word, uint32_t expected, int64_t end) {
  const int64_t left = end < 0 ? RM_LOOK_MS : end - rm_now_ms();
  if (left <= 0) return -ETIMEDOUT;
  const struct timespec limit = {0, (long)(left < RM_LOOK_MS ? left : RM_LOOK_MS) * 1000000};
  syscall(SYS_futex, word, FUTEX_WAIT, expected, &limit, NULL, 0);  // memory that has gone is found by the next access
  return 0;
}

static inline void rm_wake(uint32_t* word, int most) { syscall(SYS_futex, word, FUTEX_WAKE, most, NULL, NULL, 0); }

// --- the ring
// -------------------------------------------------------------------------------------------------------------------

enum { RM_RING_MAGIC = 0x31524d52, RM_RING_HEADER = 384, RM_RING_ALIGNMENT = 128 };
// Words of the header, in bytes.
enum { RM_PRODUCED = 128, RM_CONSUMER_WANTS = 260, RM_CONSUMED = 256, RM_PRODUCER_WANTS = 132 };

struct rm_ring {
  const struct rm_mapping* mapping;
  size_t offset;
  uint32_t slot_size, slots;
};

struct rm_ring_call {
  struct rm_ring* ring;
  void* bytes;
  uint32_t count;
  int64_t end;
};

static inline uint32_t* rm_ring_word(const struct rm_ring* ring, size_t word) {
  return rm_word(ring->mapping, ring->offset + word);
}

static inline int rm_ring_look(void* argument) {
  struct rm_ring* ring = ((struct rm_ring_call*)argument)->ring;
  const uint32_t magic = __atomic_load_n(rm_ring_word(ring, 0), __ATOMIC_ACQUIRE);
  ring->slot_size = *rm_ring_word(ring, 4);
  ring->slots = *rm_ring_word(ring, 8);
  const size_t room = ring->mapping->size - ring->offset - RM_RING_HEADER;
  const int counts = ring->slot_size > 0 && ring->slots > 0 && ring->slots <= 1u << 30 && (ring->slots & (ring->slots - 1)) == 0;
  return magic == RM_RING_MAGIC && counts && room / ring->slot_size >= ring->slots ? 0 : -EPROTO;
}

static inline int rm_ring_open(struct rm_ring* ring, const struct rm_mapping* mapping, size_t offset) {
  struct rm_ring_call call = {ring, NULL, 0, 0};
  if (!mapping->writable) return -EACCES;
  if (offset % RM_RING_ALIGNMENT != 0 || mapping->size < RM_RING_HEADER || offset > mapping->size - RM_RING_HEADER)
    return -EINVAL;
  ring->mapping = mapping;
  ring->offset = offset;
  return rm_guarded_call(mapping, rm_ring_look, &call);
}

static inline int rm_ring_filled(const struct rm_ring* ring, uint32_t* produced, uint32_t* consumed) {
  *produced = __atomic_load_n(rm_ring_word(ring, RM_PRODUCED), __ATOMIC_ACQUIRE);
  *consumed = __atomic_load_n(rm_ring_word(ring, RM_CONSUMED), __ATOMIC_ACQUIRE);
  const uint32_t filled = *produced - *consumed;
  return filled <= ring->slots ? (int)filled : -EPROTO;
}

static inline char* rm_ring_slot(const struct rm_ring* ring, uint32_t position) {
  return (char*)ring->mapping->at + ring->offset + RM_RING_HEADER + (size_t)(position & (ring->slots - 1)) * ring->slot_size;
}

// How many of `count` slots from `position` on lie before the ring's end.
static inline uint32_t rm_ring_first(const struct rm_ring* ring, uint32_t position, uint32_t count) {
  const uint32_t before_end = ring->slots - (position & (ring->slots - 1));
  return count < before_end ? count : before_end;
}

static inline void rm_ring_move(const struct rm_ring* ring, size_t word, uint32_t position, size_t wants, uint32_t there) {
  __atomic_store_n(rm_ring_word(ring, word), position, __ATOMIC_SEQ_CST);
  const uint32_t wanted = __atomic_load_n(rm_ring_word(ring, wants), __ATOMIC_SEQ_CST);
  if (wanted != 0 && there >= wanted) rm_wake(rm_ring_word(ring, word), INT_MAX);
}

static inline int rm_ring_push_raw(void* argument) {
  const struct rm_ring_call* call = (const struct rm_ring_call*)argument;
  const struct rm_ring* ring = call->ring;
  uint32_t produced, consumed;
  const int filled = rm_ring_filled(ring, &produced, &consumed);
  if (filled < 0) return filled;
  const uint32_t room = ring->slots - (uint32_t)filled;
  const uint32_t count = call->count < room ? call->count : room;
  const size_t first = (size_t)rm_ring_first(ring, produced, count) * ring->slot_size;
  if (count == 0) return 0;
  memcpy(rm_ring_slot(ring, produced), call->bytes, first);
  memcpy(rm_ring_slot(ring, 0), (const char*)call->bytes + first, (size_t)count * ring->slot_size - first);
  rm_ring_move(ring, RM_PRODUCED, produced + count, RM_CONSUMER_WANTS, (uint32_t)filled + count);
  return (int)count;
}

static inline int rm_ring_pull_raw(void* argument) {
  const struct rm_ring_call* call = (const struct rm_ring_call*)argument;
  const struct rm_ring* ring = call->ring;
  uint32_t produced, consumed;
  const int filled = rm_ring_filled(ring, &produced, &consumed);
  if (filled < 0) return filled;
  const uint32_t count = call->count < (uint32_t)filled ? call->count : (uint32_t)filled;
  const size_t first = (size_t)rm_ring_first(ring, consumed, count) * ring->slot_size;
  if (count == 0) return 0;
  memcpy(call->bytes, rm_ring_slot(ring, consumed), first);
  memcpy((char*)call->bytes + first, rm_ring_slot(ring, 0), (size_t)count * ring->slot_size - first);
  rm_ring_move(ring, RM_CONSUMED, consumed + count, RM_PRODUCER_WANTS, ring->slots - (uint32_t)filled + count);
  return (int)count;
}

// Copies up to `count` slots into the ring, or out of it; how many, which may be 0.
static inline int rm_ring_push(struct rm_ring* ring, const void* from, uint32_t count) {
  struct rm_ring_call call = {ring, (void*)from, count, 0};
  return rm_guarded_call(ring->mapping, rm_ring_push_raw, &call);
}

static inline int rm_ring_pull(struct rm_ring* ring, void* into, uint32_t count) {
  struct rm_ring_call call = {ring, into, count, 0};
  return rm_guarded_call(ring->mapping, rm_ring_pull_raw, &call);
}

static inline int rm_ring_await(const struct rm_ring_call* call, size_t word, size_t wants) {
  const struct rm_ring* ring = call->ring;
  uint32_t produced, consumed;
  for (;;) {
    __atomic_store_n(rm_ring_word(ring, wants), call->count, __ATOMIC_SEQ_CST);
    const int filled = rm_ring_filled(ring, &produced, &consumed);
    const uint32_t there = word == RM_PRODUCED ? (uint32_t)filled : ring->slots - (uint32_t)filled;
    int result = filled < 0 ? filled : there >= call->count;
    if (result == 0) result = rm_sleep(rm_ring_word(ring, word), word == RM_PRODUCED ? produced : consumed, call->end);
    if (result == 0) continue;
    __atomic_store_n(rm_ring_word(ring, wants), 0, __ATOMIC_SEQ_CST);
    return result == -ETIMEDOUT ? 0 : result;
  }
}

static inline int rm_ring_await_room(void* argument) {
  return rm_ring_await((const struct rm_ring_call*)argument, RM_CONSUMED, RM_PRODUCER_WANTS);
}

static inline int rm_ring_await_data(void* argument) {
  return rm_ring_await((const struct rm_ring_call*)argument, RM_PRODUCED, RM_CONSUMER_WANTS);
}

static inline int rm_ring_wait(struct rm_ring* ring, uint32_t slots, int milliseconds, int (*await)(void*)) {
  struct rm_ring_call call = {ring, NULL, slots, milliseconds < 0 ? -1 : rm_now_ms() + milliseconds};
  if (slots == 0 || slots > ring->slots) return -EINVAL;
  return rm_guarded_call(ring->mapping, await, &call);
}

// Waits at most so many milliseconds (-1: for ever) until `slots` slots are free, or filled: 1 when they are, 0 when the time is
// up.
static inline int rm_ring_wait_room(struct rm_ring* ring, uint32_t slots, int milliseconds) {
  return rm_ring_wait(ring, slots, milliseconds, rm_ring_await_room);
}

static inline int rm_ring_wait_data(struct rm_ring* ring, uint32_t slots, int milliseconds) {
  return rm_ring_wait(ring, slots, milliseconds, rm_ring_await_data);
}

// --- the mutex
// ------------------------------------------------------------------------------------------------------------------

enum { RM_MUTEX_MAGIC = 0x314d4d52, RM_MUTEX_BYTES = 64 };
#define RM_MUTEX_OWNER 0x3fffffffu
#define RM_MUTEX_WAITERS 0x80000000u

// A thread that locks. It lives until rm_owner_close(), or the end of the process: the kernel releases a file lock then.
struct rm_owner {
  int fd;
  uint32_t number;
};

static inline struct flock rm_owner_byte(uint32_t number, short type) {
  struct flock lock;
  memset(&lock, 0, sizeof lock);
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = (off_t)(((int64_t)1 << 62) + number);
  lock.l_len = 1;
  return lock;
}

static inline int rm_owner_lives(const struct rm_owner* self, uint32_t number) {
  struct flock lock = rm_owner_byte(number, F_WRLCK);
  return number == self->number || (fcntl(self->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK);
}

static inline void rm_owner_close(struct rm_owner* owner) {
  close(owner->fd);
  owner->fd = -1;
}

// -EACCES where the mode of the memory's file does not let this process open it. Needs 64-bit offsets.
static inline int rm_owner_open(struct rm_owner* owner, const struct rm_mapping* mapping) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", mapping->fd);
  owner->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (owner->fd < 0) return -errno;
  int failure = 0;
  for (int alone = 0; !alone && failure == 0;) {
    owner->number = 0;
    if (getrandom(&owner->number, sizeof owner->number, 0) != sizeof owner->number) continue;
    owner->number &= RM_MUTEX_OWNER;
    if (owner->number == 0) continue;
    struct flock lock = rm_owner_byte(owner->number, F_RDLCK), others = rm_owner_byte(owner->number, F_WRLCK);
    if (fcntl(owner->fd, F_OFD_SETLK, &lock) != 0 || fcntl(owner->fd, F_OFD_GETLK, &others) != 0) failure = -errno;
    alone = others.l_type == F_UNLCK;
    lock.l_type = F_UNLCK;
    if (!alone) fcntl(owner->fd, F_OFD_SETLK, &lock);
  }
  if (failure != 0) rm_owner_close(owner);
  return failure;
}

struct rm_mutex {
  const struct rm_mapping* mapping;
  size_t offset;
};

struct rm_mutex_call {
  const struct rm_mutex* mutex;
  const struct rm_owner* self;
  int64_t end;
};

static inline int rm_mutex_look(void* argument) {
  const struct rm_mutex* mutex = ((const struct rm_mutex_call*)argument)->mutex;
  return __atomic_load_n(rm_word(mutex->mapping, mutex->offset + 8), __ATOMIC_ACQUIRE) == RM_MUTEX_MAGIC ? 0 : -EPROTO;
}

static inline int rm_mutex_open(struct rm_mutex* mutex, const struct rm_mapping* mapping, size_t offset) {
  const struct rm_mutex_call call = {mutex, NULL, 0};
  if (!mapping->writable) return -EACCES;
  if (offset % RM_MUTEX_BYTES != 0 || mapping->size < RM_MUTEX_BYTES || offset > mapping->size - RM_MUTEX_BYTES) return -EINVAL;
  mutex->mapping = mapping;
  mutex->offset = offset;
  return rm_guarded_call(mapping, rm_mutex_look, (void*)&call);
}

static inline int rm_replace(uint32_t* word, uint32_t expected, uint32_t value) {
  return __atomic_compare_exchange_n(word, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static inline int rm_mutex_lock_raw(void* argument) {
  const struct rm_mutex_call* call = (const struct rm_mutex_call*)argument;
  uint32_t* state = rm_word(call->mutex->mapping, call->mutex->offset);
  for (uint32_t waiters = 0;;) {
    const uint32_t word = __atomic_load_n(state, __ATOMIC_SEQ_CST), owner = word & RM_MUTEX_OWNER;
    if (owner == call->self->number) return -EDEADLK;
    if (owner == 0 || !rm_owner_lives(call->self, owner)) {
      if (!rm_replace(state, word, call->self->number | ((word | waiters) & RM_MUTEX_WAITERS))) continue;
      __atomic_add_fetch(state + 1, 1, __ATOMIC_RELAXED);
      return owner != 0;
    }
    const uint32_t waiting = word | RM_MUTEX_WAITERS;
    if (waiting != word && !rm_replace(state, word, waiting)) continue;
    waiters = RM_MUTEX_WAITERS;
    if (rm_sleep(state, waiting, call->end) != 0) return -ETIMEDOUT;
  }
}

// Waits at most so many milliseconds (-1: for ever): 0 when it is locked, 1 when it is and its last holder has died, -ETIMEDOUT;
// -EDEADLK where this owner holds it.
static inline int rm_mutex_lock(const struct rm_mutex* mutex, const struct rm_owner* self, int milliseconds) {
  struct rm_mutex_call call = {mutex, self, milliseconds < 0 ? -1 : rm_now_ms() + milliseconds};
  return rm_guarded_call(mutex->mapping, rm_mutex_lock_raw, &call);
}

static inline int rm_mutex_unlock_raw(void* argument) {
  const struct rm_mutex_call* call = (const struct rm_mutex_call*)argument;
  uint32_t* state = rm_word(call->mutex->mapping, call->mutex->offset);
  uint32_t word = __atomic_load_n(state, __ATOMIC_SEQ_CST);
  do
    if ((word & RM_MUTEX_OWNER) != call->self->number) return -EPERM;
  while (!__atomic_compare_exchange_n(state, &word, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  if ((word & RM_MUTEX_WAITERS) != 0) rm_wake(state, 1);
  return 0;
}

// -EPERM where this owner does not hold it.
static inline int rm_mutex_unlock(const struct rm_mutex* mutex, const struct rm_owner* self) {
  struct rm_mutex_call call = {mutex, self, 0};
  return rm_guarded_call(mutex->mapping, rm_mutex_unlock_raw, &call);
}

#endif  // REVOCABLE_MMAP_SYNC_H
