// What the end of a socket revokes, without an event loop.
#include "share/hangup.h"

#include <sys/socket.h>
#include <unistd.h>

#include "fixture.h"

using namespace revocable;

namespace {

struct Pair {
  int ours = -1;
  int theirs = -1;
};

Pair connected() {
  int ends[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  return {ends[0], ends[1]};
}

// Returns when the peer has ended its side: 0 bytes, or an error.
ssize_t until_end(int socket) {
  char byte;
  return read(socket, &byte, 1);
}

}  // namespace

TEST("R1 the end of a peer revokes the objects before this side ends") {
  start_library();
  Object* objects[] = {owned_object(kPageSize), owned_object(kPageSize)};
  const View views[] = {map(objects[0]), map(objects[1])};
  const View other = map(owned_object(kPageSize));
  views[0].store(0, 7);
  const Pair pair = connected();
  uint64_t token = 0;
  REQUIRE(!hangup_watch(pair.ours, {objects[0], objects[1]}, &token));
  CHECK_EQ(views[0].load(), 7u);
  shutdown(pair.theirs, SHUT_WR);
  CHECK_EQ(until_end(pair.theirs), 0);
  for (const View& view : views) CHECK_EQ(view.load(), 0u);
  for (Object* object : objects) CHECK(object->state.load() == State::revoked);
  other.store(0, 1);
  CHECK_EQ(other.load(), 1u);
  hangup_forget(token);
}

TEST("a peer that is forgotten revokes nothing, and sees the end only then") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  const Pair pair = connected();
  uint64_t token = 0;
  REQUIRE(!hangup_watch(pair.ours, {object}, &token));
  close(pair.ours);
  char byte;
  CHECK_EQ(recv(pair.theirs, &byte, 1, MSG_DONTWAIT), -1);  // the copy is open
  hangup_forget(token);
  CHECK_EQ(until_end(pair.theirs), 0);
  close(pair.theirs);
  view.store(0, 3);
  CHECK_EQ(view.load(), 3u);
  hangup_forget(token);  // twice is fine
}

TEST("a thread that has seen the end itself has the objects revoked when it returns") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  view.store(0, 7);
  const Pair pair = connected();
  uint64_t token = 0;
  REQUIRE(!hangup_watch(pair.ours, {object}, &token));
  hangup_now(token);
  CHECK_EQ(view.load(), 0u);
  CHECK_EQ(until_end(pair.theirs), 0);
  hangup_now(token + 1);  // of no socket
  hangup_forget(token);
}
