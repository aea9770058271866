#include "share/socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace revocable {
namespace {

int new_socket() { return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

// An address names at most 107 bytes, a path more: it is reached through a descriptor of its directory, or of itself.
struct Address {
  explicit Address(int fd, const char* name = nullptr) {
    if (name == nullptr) snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", fd);
    else snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", fd, name);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
};

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

// The name is a socket on which no process listens.
bool is_stale(int directory, const char* name) {
  const Descriptor at(openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  if (at.get() < 0 || fstat(at.get(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const Descriptor probe(new_socket());
  if (probe.get() < 0) return false;
  const Address address(at.get());
  return connect(probe.get(), address.get(), sizeof address.address) != 0 && errno == ECONNREFUSED;
}

// Removes a stale name. One process at a time may: another one could have put its own socket there after the look.
Failure remove_stale(int directory, const char* name) {
  if (!is_stale(directory, name)) return {EADDRINUSE, "bind"};
  const Descriptor lock(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.get() < 0) return Failure::from_errno("open");
  constexpr int kAttempts = 100;
  const timespec pause{0, 10'000'000};
  for (int attempt = 0; flock(lock.get(), LOCK_EX | LOCK_NB) != 0; ++attempt) {
    if (errno != EWOULDBLOCK || attempt == kAttempts) return Failure::from_errno("flock");
    nanosleep(&pause, nullptr);
  }
  if (!is_stale(directory, name)) return {};  // gone, or replaced: the next attempt says which
  return unlinkat(directory, name, 0) == 0 || errno == ENOENT ? Failure{} : Failure::from_errno("unlink");
}

// Binds under a name of its own, with the mode, whatever the umask.
Failure bind_as(int fd, int directory, const char* name, mode_t mode) {
  if (fchmod(fd, mode) != 0) return Failure::from_errno("fchmod");  // the mode that the name is made with, less the umask
  const Address address(directory, name);
  if (bind(fd, address.get(), sizeof address.address) != 0) return Failure::from_errno("bind");
  if (fchmodat(directory, name, mode, 0) != 0) return Failure::from_errno("chmod");
  return listen(fd, 128) == 0 ? Failure{} : Failure::from_errno("listen");
}

Failure publish(int directory, const char* temporary, const char* name) {
  constexpr int kAttempts = 16;
  for (int attempt = 0;; ++attempt) {
    if (linkat(directory, temporary, directory, name, 0) == 0) return {};
    if (errno != EEXIST) return Failure::from_errno("link");
    if (attempt == kAttempts) return {EADDRINUSE, "bind"};
    const Failure failure = remove_stale(directory, name);
    if (failure) return failure;
  }
}

// Not by process id: one that died here may have had the same.
std::string temporary_name() {
  uint64_t random = 0;
  while (getrandom(&random, sizeof random, 0) < 0 && errno == EINTR) continue;
  char name[32];
  snprintf(name, sizeof name, ".revocable-%016" PRIx64, random);
  return name;
}

// musl's macro compares a size with a difference of pointers.
cmsghdr* next_control(msghdr* message, cmsghdr* header) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"
  return CMSG_NXTHDR(message, header);
#pragma GCC diagnostic pop
}

// How much of a message is to be read next, where `have` bytes of it are there.
size_t wanted(const char* message, size_t have, size_t room) {
  if (have < kHeaderBytes) return kHeaderBytes - have;
  uint32_t length;
  memcpy(&length, message + kLengthAt, sizeof length);
  const size_t end = std::min<size_t>(length, room);
  return end > have ? end - have : 0;
}

}  // namespace

Failure socket_listen(const std::string& path, mode_t mode, Listener* listener) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return {EISDIR, "bind"};
  Descriptor directory(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) return Failure::from_errno("open");
  Descriptor fd(new_socket());
  if (fd.get() < 0) return Failure::from_errno("socket");
  const std::string temporary = temporary_name();
  Failure failure = bind_as(fd.get(), directory.get(), temporary.c_str(), mode);
  struct stat status;
  if (!failure && fstatat(directory.get(), temporary.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
    failure = Failure::from_errno("stat");
  if (!failure) failure = publish(directory.get(), temporary.c_str(), name.c_str());
  unlinkat(directory.get(), temporary.c_str(), 0);
  if (failure) return failure;
  *listener = {fd.release(), directory.release(), name, status.st_dev, status.st_ino};
  return {};
}

void socket_unlisten(Listener* listener) {
  struct stat status;
  if (fstatat(listener->directory, listener->name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
      status.st_dev == listener->device && status.st_ino == listener->inode)
    unlinkat(listener->directory, listener->name.c_str(), 0);
  close(listener->fd);
  close(listener->directory);
  *listener = {};
}

Failure socket_accept(int listener, int* fd) {
  *fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return *fd >= 0 ? Failure{} : Failure::from_errno("accept");
}

Failure socket_connect(const std::string& path, int* fd) {
  const Descriptor at(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (at.get() < 0) return Failure::from_errno("connect");
  Descriptor made(new_socket());
  if (made.get() < 0) return Failure::from_errno("socket");
  const Address address(at.get());
  if (connect(made.get(), address.get(), sizeof address.address) != 0) return Failure::from_errno("connect");
  *fd = made.release();
  return {};
}

Failure socket_credentials(int fd, PeerCredentials* peer) {
  ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return Failure::from_errno("getsockopt");
  *peer = {credentials.pid, credentials.uid, credentials.gid};
  return {};
}

Failure socket_receive(int fd, void* into, size_t bytes, Received* received) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)];
  iovec part{into, bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t result;
  do result = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (result < 0 && errno == EINTR);
  if (result < 0) return Failure::from_errno("recvmsg");
  received->bytes += static_cast<size_t>(result);
  if ((message.msg_flags & MSG_CTRUNC) != 0) received->discarded = true;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = next_control(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
      if (received->count < kMostDescriptors) {
        received->descriptors[received->count++] = descriptor;
        continue;
      }
      received->discarded = true;
      close(descriptor);
    }
  }
  return {};
}

Failure socket_receive_message(int fd, char* message, size_t have, size_t room, int milliseconds, SpinHabit* habit,
                               Received* received) {
  Failure failure;
  const auto come = [&] {
    failure = socket_receive(fd, message + have, wanted(message, have, room), received);
    return failure.errnum != EAGAIN;
  };
  if (milliseconds == 0 || !habit->spin(kSpinUs, come)) {
    pollfd ready{fd, POLLIN, 0};
    if (milliseconds != 0) poll(&ready, 1, milliseconds);
    come();
  }
  if (failure || have >= kHeaderBytes || have + received->bytes < kHeaderBytes) return failure;
  const size_t rest = wanted(message, kHeaderBytes, room);
  // Where the rest has not come, or never will, the next read says so.
  if (rest > 0) socket_receive(fd, message + kHeaderBytes, rest, received);
  return {};
}

Failure socket_send(int fd, const void* from, size_t bytes, const int* descriptors, size_t count, size_t* sent) {
  if (count > kMostDescriptors) return {EINVAL, "sendmsg"};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)] = {};
  iovec part{const_cast<void*>(from), bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
  }
  ssize_t result;
  do result = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (result < 0 && errno == EINTR);
  if (result < 0) return Failure::from_errno("sendmsg");
  *sent = static_cast<size_t>(result);
  return {};
}

}  // namespace revocable
