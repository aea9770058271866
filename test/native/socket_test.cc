// Sockets that carry descriptors: what a name is, and what becomes of descriptors.
#include "share/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fixture.h"

using namespace revocable;

namespace {

std::string folder() {
  char name[] = "/tmp/socket-test-XXXXXX";
  CHECK(mkdtemp(name) != nullptr);
  return name;
}

int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

}  // namespace

TEST("a name has its mode, refuses a second server, and outlives none") {
  const std::string path = folder() + "/s";
  umask(0177);
  Listener listener, second;
  REQUIRE(!socket_listen(path, 0660, &listener));
  struct stat status;
  CHECK_EQ(stat(path.c_str(), &status), 0);
  CHECK_EQ(status.st_mode & 0777, 0660u);
  CHECK_EQ(socket_listen(path, 0600, &second).errnum, EADDRINUSE);
  close(listener.fd);  // as if the process had died: the name stays
  listener.fd = -1;
  REQUIRE(!socket_listen(path, 0600, &second));
  socket_unlisten(&listener);  // its name is another server's now
  CHECK_EQ(stat(path.c_str(), &status), 0);
  socket_unlisten(&second);
  CHECK_EQ(stat(path.c_str(), &status), -1);
}

TEST("a name longer than an address is reached, and a file is left alone") {
  const std::string path = folder() + "/" + std::string(200, 'n');
  Listener listener;
  REQUIRE(!socket_listen(path, 0600, &listener));
  int client = -1, server = -1;
  REQUIRE(!socket_connect(path, &client));
  REQUIRE(!socket_accept(listener.fd, &server));
  PeerCredentials peer;
  REQUIRE(!socket_credentials(server, &peer));
  CHECK_EQ(peer.pid, getpid());
  CHECK_EQ(peer.uid, getuid());
  socket_unlisten(&listener);
  close(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  CHECK_EQ(socket_listen(path, 0600, &listener).errnum, EADDRINUSE);
}

TEST("descriptors come with the bytes they were sent with, close-on-exec, and more than the most are refused") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  int pipes[2];
  REQUIRE(pipe(pipes) == 0);
  size_t sent = 0;
  REQUIRE(!socket_send(ends[0], "ab", 2, pipes, 2, &sent));
  CHECK_EQ(sent, 2u);
  char bytes[8];
  Received received;
  REQUIRE(!socket_receive(ends[1], bytes, sizeof bytes, &received));
  CHECK_EQ(received.bytes, 2u);
  CHECK_EQ(received.count, 2u);
  CHECK(!received.discarded);
  CHECK_EQ(fcntl(received.descriptors[0], F_GETFD), FD_CLOEXEC);
  CHECK_EQ(write(received.descriptors[1], "x", 1), 1);
  CHECK_EQ(read(pipes[0], bytes, 1), 1);
  int many[kMostDescriptors + 1];
  for (int& fd : many) fd = pipes[0];
  CHECK_EQ(socket_send(ends[0], "a", 1, many, kMostDescriptors + 1, &sent).errnum, EINVAL);
  Received nothing;
  CHECK_EQ(socket_receive(ends[1], bytes, sizeof bytes, &nothing).errnum, EAGAIN);
  close(ends[0]);
  Received end;
  REQUIRE(!socket_receive(ends[1], bytes, sizeof bytes, &end));
  CHECK_EQ(end.bytes, 0u);
  CHECK_EQ(socket_send(ends[1], "a", 1, nullptr, 0, &sent).errnum, EPIPE);
}

TEST("of more descriptors than fit none is leaked, and the reader is notified") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  constexpr size_t kMany = kMostDescriptors + 36;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMany)] = {};
  char byte = 'a';
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * kMany);
  for (size_t i = 0; i < kMany; ++i) memcpy(CMSG_DATA(header) + i * sizeof(int), &ends[0], sizeof(int));
  REQUIRE(sendmsg(ends[0], &message, 0) == 1);
  const int before = open_descriptors();
  Received received;
  REQUIRE(!socket_receive(ends[1], &byte, 1, &received));
  CHECK(received.discarded);
  CHECK_EQ(received.count, kMostDescriptors);
  for (size_t i = 0; i < received.count; ++i) close(received.descriptors[i]);
  CHECK_EQ(open_descriptors(), before);
}
