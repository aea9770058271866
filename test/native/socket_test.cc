// Sockets that carry descriptors: what a name is, and what becomes of descriptors.
#include "share/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

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

namespace {

struct Pair {
  Pair() { REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0); }
  ~Pair() {
    close(ends[0]);
    close(ends[1]);
  }
  int ends[2];
};

// Two messages: 20 bytes, and 17.
std::string two_messages() {
  std::string bytes(20 + 17, 'x');
  const uint32_t lengths[] = {20, 17};
  memcpy(&bytes[kLengthAt], &lengths[0], sizeof lengths[0]);
  memcpy(&bytes[20 + kLengthAt], &lengths[1], sizeof lengths[1]);
  return bytes;
}

size_t receive_all_there_is(int fd, char* message, size_t have, Received* received) {
  SpinHabit habit;
  for (;;) {
    received->bytes = 0;
    const Failure failure = socket_receive_message(fd, message, have, 64, 0, &habit, received);
    if (failure) {
      CHECK_EQ(failure.errnum, EAGAIN);
      return have;
    }
    have += received->bytes;
    if (have >= kHeaderBytes) return have;
  }
}

}  // namespace

TEST("one read brings a message to its end, wherever the stream is cut, and nothing of the next one") {
  const std::string stream = two_messages();
  for (size_t cut = 1; cut < stream.size(); ++cut) {
    const Pair pair;
    size_t sent = 0;
    REQUIRE(!socket_send(pair.ends[0], stream.data(), cut, nullptr, 0, &sent));
    char message[64];
    Received received;
    size_t have = receive_all_there_is(pair.ends[1], message, 0, &received);
    CHECK_EQ(have, std::min<size_t>(cut, 20));
    // The descriptor goes with the rest: it is the second message's unless the first is still to be completed.
    REQUIRE(!socket_send(pair.ends[0], stream.data() + cut, stream.size() - cut, &pair.ends[0], 1, &sent));
    if (cut < 20) {
      have = receive_all_there_is(pair.ends[1], message, have, &received);
      CHECK_EQ(have, 20u);
      CHECK_EQ(received.count, 1u);
    } else {
      CHECK_EQ(received.count, 0u);
    }
    Received next;
    size_t second = receive_all_there_is(pair.ends[1], message, 0, &next);
    if (second < 17) second = receive_all_there_is(pair.ends[1], message, second, &next);
    CHECK_EQ(second, 17u);
    CHECK_EQ(next.count, cut < 20 ? 0u : 1u);
    for (const Received* each : {&received, &next}) {
      for (size_t i = 0; i < each->count; ++i) close(each->descriptors[i]);
    }
  }
}

TEST("a read of a message ends with its room") {
  const Pair pair;
  const std::string stream = two_messages();
  size_t sent = 0;
  REQUIRE(!socket_send(pair.ends[0], stream.data(), stream.size(), nullptr, 0, &sent));
  char message[18 + 1];
  message[18] = '!';
  SpinHabit habit;
  Received received;
  REQUIRE(!socket_receive_message(pair.ends[1], message, 0, 18, 0, &habit, &received));
  CHECK_EQ(received.bytes, 18u);
  CHECK_EQ(message[18], '!');
}

TEST("a read that waits ends when the message comes, when the peer ends, and when its time is up") {
  Pair pair;
  char message[64];
  SpinHabit habit;
  Received nothing;
  CHECK_EQ(socket_receive_message(pair.ends[1], message, 0, sizeof message, 1, &habit, &nothing).errnum, EAGAIN);
  constexpr int kLonger = 60'000;
  std::thread sender([&] {
    size_t sent = 0;
    CHECK(!socket_send(pair.ends[0], two_messages().data(), 20, nullptr, 0, &sent));
  });
  Received received;
  CHECK(!socket_receive_message(pair.ends[1], message, 0, sizeof message, kLonger, &habit, &received));
  CHECK(received.bytes >= kHeaderBytes);
  sender.join();
  if (received.bytes < 20) CHECK(!socket_receive_message(pair.ends[1], message, received.bytes, 64, 0, &habit, &received));
  CHECK_EQ(received.bytes, 20u);
  std::thread ender([&] { shutdown(pair.ends[0], SHUT_RDWR); });
  Received end;
  CHECK(!socket_receive_message(pair.ends[1], message, 0, sizeof message, kLonger, &habit, &end));
  CHECK_EQ(end.bytes, 0u);
  ender.join();
}

TEST("spinning is left out after what came late, and goes on after what came in time") {
  constexpr uint32_t kShort = 100, kLong = 60'000'000;
  SpinHabit habit;
  int asked = 0;
  const auto late = [&] {
    ++asked;
    const timespec pause{0, 2'000'000};
    nanosleep(&pause, nullptr);
    return true;
  };
  const auto at_once = [&] { return ++asked > 0; };
  CHECK(habit.spin(kShort, late));
  CHECK(!habit.spin(kShort, late));
  CHECK_EQ(asked, 1);
  CHECK(habit.spin(kLong, at_once));
  CHECK(habit.spin(kLong, at_once));
  CHECK_EQ(asked, 3);
}
