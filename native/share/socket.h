// Unix sockets that carry file descriptors: what Node's own cannot. Descriptors are non-blocking and close-on-exec.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "base/failure.h"
#include "base/spin.h"

namespace revocable {

// The most descriptors that are taken with one read. Of more, the kernel discards the rest and says so.
inline constexpr size_t kMostDescriptors = 64;

// A socket that listens at a path of the file system, and what its removal needs.
struct Listener {
  int fd = -1;
  int directory = -1;
  std::string name;
  dev_t device = 0;
  ino_t inode = 0;
};

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};

// What has been read. The descriptors came with these bytes, and are the caller's.
struct Received {
  size_t bytes = 0;  // 0: the peer sends no more
  int descriptors[kMostDescriptors];
  size_t count = 0;
  bool discarded = false;  // there were more descriptors
};

// Listens at `path`, with exactly `mode`. The name appears in one step, and only once the socket listens, so that a refused
// connection always means a server that has gone: its socket is replaced. EADDRINUSE where a server listens, or where the path is
// anything but a socket, a symbolic link too. May block for the time that another process takes to do the same.
Failure socket_listen(const std::string& path, mode_t mode, Listener* listener);
void socket_unlisten(Listener* listener);  // removes the name, if it still is this socket's, and closes

Failure socket_accept(int listener, int* fd);              // EAGAIN when no peer waits
Failure socket_connect(const std::string& path, int* fd);  // EAGAIN while the server has no room
Failure socket_credentials(int fd, PeerCredentials* peer);

// Adds to `received`, which is new or another read's of the same message.
Failure socket_receive(int fd, void* into, size_t bytes, Received* received);

// A message begins with a header, which has the length of the whole in it, as 32 bits.
inline constexpr size_t kHeaderBytes = 16;
inline constexpr size_t kLengthAt = 4;
// How long to look for what a peer sends at once before sleeping: waking up takes about as long.
inline constexpr uint32_t kSpinUs = 50;

// Reads on in the message of which `have` bytes are at `message` already, where there is room for `room`: its header and what
// follows it, and nothing of the next one, so that the descriptors are this one's. Waits for it up to so many milliseconds.
// EAGAIN when nothing has come.
Failure socket_receive_message(int fd, char* message, size_t have, size_t room, int milliseconds, SpinHabit* habit,
                               Received* received);
// The descriptors go with the first byte.
Failure socket_send(int fd, const void* from, size_t bytes, const int* descriptors, size_t count, size_t* sent);

}  // namespace revocable
