// Unix sockets that carry file descriptors: what Node's own cannot. Descriptors are non-blocking and close-on-exec.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "base/failure.h"

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

// What one read has brought. The descriptors came with the last of its bytes, and are the caller's.
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

Failure socket_receive(int fd, void* into, size_t bytes, Received* received);
// The descriptors go with the first byte.
Failure socket_send(int fd, const void* from, size_t bytes, const int* descriptors, size_t count, size_t* sent);

}  // namespace revocable
