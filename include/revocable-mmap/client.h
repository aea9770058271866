// A client of memory and devices that revocable-mmap serves, in C11 for Linux, in one header without dependency. It speaks the
// vfio-user protocol: docs/reference/vfio-user.md. Define _GNU_SOURCE before the first include.
//
//   struct rm_client client;
//   struct rm_mapping frames;
//   rm_guard_install();                                  // or a handler for SIGBUS of your own
//   if (rm_connect(&client, "/run/user/1000/card.sock") != 0) ...
//   if (rm_map(&client, 0, &frames) != 0) ...
//   uint32_t value;
//   if (rm_load32(&frames, 0, &value) == -ENODEV) ...    // it has been removed
//
// Functions return 0, or a negative errno. A client is for one thread at a time; guarded accesses may be made by all.
#ifndef REVOCABLE_MMAP_CLIENT_H
#define REVOCABLE_MMAP_CLIENT_H

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct rm_client {
  int socket;
  uint16_t next_id;
};

struct rm_mapping {
  volatile uint8_t* at;  // raw; an access after a removal is SIGBUS
  size_t size;
  int writable;
  int fd;  // of the memory, until rm_unmap()
};

enum { RM_VERSION = 1, RM_REGION_INFO = 5, RM_SET_IRQS = 8, RM_REGION_READ = 9, RM_REGION_WRITE = 10 };
enum { RM_MOST_VECTORS = 64, RM_MOST_BODY = 8192, RM_MSIX = 2 };

// --- guarded accesses ---------------------------------------------------------------------------------------------------------

struct rm_guard {
  sigjmp_buf back;
  uintptr_t start, end;
};
static _Thread_local struct rm_guard* volatile rm_guarded;
static struct sigaction rm_previous;

// Ends the guarded access that faulted; passes every other signal on, as if this handler were not there.
static void rm_on_sigbus(int number, siginfo_t* info, void* context) {
  struct rm_guard* guard = rm_guarded;
  const uintptr_t address = (uintptr_t)info->si_addr;
  if (guard != NULL && info->si_code > 0 && address >= guard->start && address < guard->end) siglongjmp(guard->back, 1);
  if ((rm_previous.sa_flags & SA_SIGINFO) != 0) {
    rm_previous.sa_sigaction(number, info, context);
  } else if (rm_previous.sa_handler != SIG_DFL && rm_previous.sa_handler != SIG_IGN) {
    rm_previous.sa_handler(number);
  } else {
    signal(SIGBUS, SIG_DFL);  // the access is made again, and is deadly
    if (info->si_code <= 0) raise(SIGBUS);
  }
}

// Once in a process, before the first guarded access. A handler that was there before still gets what is not a guarded access.
static inline int rm_guard_install(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = rm_on_sigbus;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, &rm_previous) == 0 ? 0 : -errno;
}

#define RM_GUARDED(mapping, offset, bytes, access)                                                                    \
  do {                                                                                                                \
    struct rm_guard guard, *outer = rm_guarded;                                                                       \
    if ((offset) % (bytes) != 0 || (mapping)->size < (bytes) || (offset) > (mapping)->size - (bytes)) return -EINVAL; \
    guard.start = (uintptr_t)(mapping)->at;                                                                           \
    guard.end = guard.start + (mapping)->size;                                                                        \
    if (sigsetjmp(guard.back, 1) != 0) {                                                                              \
      rm_guarded = outer;                                                                                             \
      return -ENODEV;                                                                                                 \
    }                                                                                                                 \
    rm_guarded = &guard;                                                                                              \
    access;                                                                                                           \
    rm_guarded = outer;                                                                                               \
    return 0;                                                                                                         \
  } while (0)

// One load of 32 bits. -ENODEV once the memory has been removed; -EINVAL where there is no such word.
static inline int rm_load32(const struct rm_mapping* mapping, size_t offset, uint32_t* value) {
  RM_GUARDED(mapping, offset, sizeof *value, *value = *(volatile uint32_t*)(mapping->at + offset));
}

// One store of 32 bits. -EACCES where the memory may only be read.
static inline int rm_store32(const struct rm_mapping* mapping, size_t offset, uint32_t value) {
  if (!mapping->writable) return -EACCES;
  RM_GUARDED(mapping, offset, sizeof value, *(volatile uint32_t*)(mapping->at + offset) = value);
}

// Calls `call(argument)`, which may access the mapping and must hold nothing that a jump out of it would leak. What it returns,
// or -ENODEV once the memory has been removed.
static inline int rm_guarded_call(const struct rm_mapping* mapping, int (*call)(void*), void* argument) {
  struct rm_guard guard, *outer = rm_guarded;
  guard.start = (uintptr_t)mapping->at;
  guard.end = guard.start + mapping->size;
  if (sigsetjmp(guard.back, 1) != 0) {
    rm_guarded = outer;
    return -ENODEV;
  }
  rm_guarded = &guard;
  const int result = call(argument);
  rm_guarded = outer;
  return result;
}

// --- messages -----------------------------------------------------------------------------------------------------------------

struct rm_header {
  uint16_t id, command;
  uint32_t size, flags, error;
};

static inline int rm_send(int socket, const void* bytes, size_t size, const int* fds, size_t count) {
  const char* from = (const char*)bytes;
  while (size > 0) {
    union {
      struct cmsghdr header;
      char room[CMSG_SPACE(sizeof(int) * RM_MOST_VECTORS)];
    } control;
    struct iovec part = {(void*)from, size};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count > 0) {
      memset(&control, 0, sizeof control);
      message.msg_control = &control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
      control.header.cmsg_level = SOL_SOCKET;
      control.header.cmsg_type = SCM_RIGHTS;
      control.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
      memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * count);
    }
    ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EPIPE ? -ENODEV : -errno;
    from += sent;
    size -= (size_t)sent;
    count = 0;
  }
  return 0;
}

// At most one descriptor is kept, in `fd`; others are closed.
static inline int rm_receive(int socket, void* bytes, size_t size, int* fd) {
  char* into = (char*)bytes;
  while (size > 0) {
    union {
      struct cmsghdr header;
      char room[CMSG_SPACE(sizeof(int) * RM_MOST_VECTORS)];
    } control;
    struct iovec part = {into, size};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == ECONNRESET ? -ENODEV : -errno;
    for (struct cmsghdr* header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      for (size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int each;
        memcpy(&each, CMSG_DATA(header) + i * sizeof each, sizeof each);
        if (fd != NULL && *fd < 0) *fd = each;
        else close(each);
      }
    }
    if (got == 0) return -ENODEV;  // the server sends no more
    into += got;
    size -= (size_t)got;
  }
  return 0;
}

// Sends a command and waits for its reply, whose body must be of `reply_size` bytes (or with 0 is passed over).
static inline int rm_call(struct rm_client* client, uint16_t command, const void* body, size_t size, const int* fds, size_t count,
                          void* reply, size_t reply_size, int* fd) {
  struct rm_header header = {++client->next_id, command, (uint32_t)(sizeof header + size), 0, 0};
  char rest[RM_MOST_BODY];
  int failure = rm_send(client->socket, &header, sizeof header, fds, count);
  if (failure == 0) failure = rm_send(client->socket, body, size, NULL, 0);
  if (failure == 0) failure = rm_receive(client->socket, &header, sizeof header, fd);
  if (failure != 0) return failure;
  const size_t left = header.size - sizeof header;
  if (header.size < sizeof header || left > sizeof rest || (header.flags & 0xf) != 1 || header.id != client->next_id)
    return -EPROTO;
  failure = rm_receive(client->socket, rest, left, fd);
  if (failure != 0) return failure;
  if ((header.flags & 0x20) != 0) return header.error != 0 ? -(int)header.error : -EIO;
  if (reply_size == 0) return 0;
  if (left < reply_size) return -EPROTO;
  memcpy(reply, rest, reply_size);
  return 0;
}

// --- the client ---------------------------------------------------------------------------------------------------------------

// Connects, and says that this program survives a removal: it has a handler for SIGBUS, that of rm_guard_install() or its own.
static inline int rm_connect(struct rm_client* client, const char* path) {
  static const char capabilities[] =
      "{\"capabilities\":{\"max_msg_fds\":1,\"revocable_mmap\":{\"thread\":\"\",\"survives\":true}}}";
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char body[4 + sizeof capabilities] = {0};
  if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  strcpy(address.sun_path, path);
  memcpy(body + 4, capabilities, sizeof capabilities);
  client->next_id = 0;
  client->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client->socket < 0) return -errno;
  int failure = connect(client->socket, (struct sockaddr*)&address, sizeof address) == 0 ? 0 : -errno;
  if (failure == 0) failure = rm_call(client, RM_VERSION, body, sizeof body, NULL, 0, NULL, 0, NULL);
  if (failure != 0) close(client->socket);
  return failure;
}

// Maps a region of memory: number 0 of plain memory. -ENXIO where it can only be accessed by rm_register_read and its like.
static inline int rm_map(struct rm_client* client, uint32_t region, struct rm_mapping* mapping) {
  struct {
    uint32_t argsz, flags, index, cap_offset;
    uint64_t size, offset;
  } info = {sizeof info, 0, region, 0, 0, 0};
  int fd = -1;
  int failure = rm_call(client, RM_REGION_INFO, &info, sizeof info, NULL, 0, &info, sizeof info, &fd);
  if (failure == 0 && (fd < 0 || (info.flags & 4) == 0 || info.size > SIZE_MAX)) failure = -ENXIO;
  if (failure == 0) {
    mapping->writable = (info.flags & 2) != 0;
    mapping->size = (size_t)info.size;
    void* at = mmap(NULL, mapping->size, PROT_READ | (mapping->writable ? PROT_WRITE : 0), MAP_SHARED, fd, (off_t)info.offset);
    if (at == MAP_FAILED) failure = -errno;
    else mapping->at = (volatile uint8_t*)at;
    mapping->fd = fd;
  }
  if (failure != 0 && fd >= 0) close(fd);
  return failure;
}

static inline void rm_unmap(struct rm_mapping* mapping) {
  munmap((void*)mapping->at, mapping->size);
  close(mapping->fd);
  mapping->fd = -1;
  mapping->at = NULL;
  mapping->size = 0;
}

struct rm_access {
  uint64_t offset;
  uint32_t region, count;
  uint8_t data[8];
};

// One access to a register, of 1, 2, 4 or 8 bytes. Waits for the server.
static inline int rm_register_read(struct rm_client* client, uint32_t region, uint64_t offset, uint32_t width, uint64_t* value) {
  struct rm_access access = {offset, region, width, {0}};
  if (width == 0 || width > 8) return -EINVAL;
  int failure = rm_call(client, RM_REGION_READ, &access, 16, NULL, 0, &access, 16 + width, NULL);
  *value = 0;
  if (failure == 0) memcpy(value, access.data, width);
  return failure;
}

static inline int rm_register_write(struct rm_client* client, uint32_t region, uint64_t offset, uint32_t width, uint64_t value) {
  struct rm_access access = {offset, region, width, {0}};
  if (width == 0 || width > 8) return -EINVAL;
  memcpy(access.data, &value, width);
  return rm_call(client, RM_REGION_WRITE, &access, 16 + width, NULL, 0, NULL, 0, NULL);
}

// Fills `eventfds` with one for each vector from 0 on; they are the caller's to close. A read takes how often it was raised.
static inline int rm_interrupts(struct rm_client* client, uint32_t vectors, int* eventfds) {
  struct {
    uint32_t argsz, flags, index, start, count;
  } set = {sizeof set, 4 | 32, RM_MSIX, 0, vectors};
  if (vectors == 0 || vectors > RM_MOST_VECTORS) return -EINVAL;
  int failure = 0;
  uint32_t made = 0;
  while (made < vectors && failure == 0) {
    eventfds[made] = eventfd(0, EFD_CLOEXEC);
    if (eventfds[made] < 0) failure = -errno;
    else ++made;
  }
  if (failure == 0) failure = rm_call(client, RM_SET_IRQS, &set, sizeof set, eventfds, vectors, NULL, 0, NULL);
  while (failure != 0 && made > 0) close(eventfds[--made]);
  return failure;
}

// Waits at most so many milliseconds (-1: for ever) for a removal: 1 once what is served has been removed, or the server has
// died. Then call rm_close(), which is the acknowledgement. Memory that the library made is gone without it where it was removed;
// where the server has died it can be read until it is unmapped.
static inline int rm_removed(const struct rm_client* client, int milliseconds) {
  struct pollfd watched = {client->socket, POLLRDHUP, 0};
  int ready = poll(&watched, 1, milliseconds);
  return ready < 0 ? -errno : ready;
}

static inline void rm_close(struct rm_client* client) {
  close(client->socket);
  client->socket = -1;
}

#endif  // REVOCABLE_MMAP_CLIENT_H
