// Unix sockets, eventfds that wait, and what a socket's end revokes. What arrives is for src/share/ to understand.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "binding/env_state.h"
#include "binding/exports.h"
#include "core/registry.h"
#include "share/eventfd_notify.h"
#include "share/hangup.h"
#include "share/owner_lock.h"

namespace revocable::binding {
namespace {

Failure watch_sockets(EnvState& state) {
  bool opened = false;
  Failure failure = state.sockets.open(&opened);
  if (failure || !opened) return failure;
  failure = state.watches->sockets(state.sockets.epoll());
  if (failure) state.sockets.close_all();  // there are none yet: the next attempt begins anew
  return failure;
}

Napi::Value added(Napi::Env env, const SocketSet::Entry& entry) {
  uint32_t id = 0;
  const Failure failure = EnvState::of(env).sockets.add(entry, &id);
  return failure ? to_js(env, failure) : Napi::Number::New(env, id).As<Napi::Value>();
}

std::string text_of(const Napi::Value& bytes) {
  const auto view = bytes.As<Napi::Uint8Array>();
  return {reinterpret_cast<const char*>(view.Data()), view.ByteLength()};
}

SocketSet::Entry* entry_of(const Napi::CallbackInfo& info) { return EnvState::of(info.Env()).sockets.find(to_u32(info[0])); }

Napi::Value is_closed(Napi::Env env) { return to_js(env, {EBADF, "socket"}); }

// socketListen(path: Uint8Array, mode): id | Failure
Napi::Value socket_listen_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Failure failure = watch_sockets(EnvState::of(env));
  Listener listener;
  if (!failure) failure = socket_listen(text_of(info[0]), to_u32(info[1]), &listener);
  return failure ? to_js(env, failure) : added(env, {.fd = listener.fd, .listener = listener});
}

// socketConnect(path: Uint8Array): id | Failure
Napi::Value socket_connect_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Failure failure = watch_sockets(EnvState::of(env));
  int fd = -1;
  if (!failure) failure = socket_connect(text_of(info[0]), &fd);
  return failure ? to_js(env, failure) : added(env, {.fd = fd});
}

// socketAccept(id): id | Failure
Napi::Value socket_accept_js(const Napi::CallbackInfo& info) {
  const SocketSet::Entry* entry = entry_of(info);
  if (entry == nullptr) return is_closed(info.Env());
  int fd = -1;
  const Failure failure = socket_accept(entry->fd, &fd);
  return failure ? to_js(info.Env(), failure) : added(info.Env(), {.fd = fd});
}

// socketPair(): { id, descriptor } | Failure. Two ends of a connection: one of this thread's sockets, and a descriptor to be
// sent, which is held until closeDescriptor.
Napi::Value socket_pair(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Failure failure = watch_sockets(EnvState::of(env));
  if (failure) return to_js(env, failure);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
    return to_js(env, Failure::from_errno("socketpair"));
  const Napi::Value id = added(env, {.fd = ends[0]});
  if (!id.IsNumber()) {
    close(ends[1]);
    return id;
  }
  EnvState::of(env).sockets.hold(ends[1]);
  Napi::Object result = Napi::Object::New(env);
  result["id"] = id;
  result["descriptor"] = Napi::Number::New(env, ends[1]);
  return result;
}

// socketPeer(id): { pid, uid, gid } | Failure
Napi::Value socket_peer(const Napi::CallbackInfo& info) {
  const SocketSet::Entry* entry = entry_of(info);
  if (entry == nullptr) return is_closed(info.Env());
  PeerCredentials peer;
  const Failure failure = socket_credentials(entry->fd, &peer);
  if (failure) return to_js(info.Env(), failure);
  Napi::Object result = Napi::Object::New(info.Env());
  result["pid"] = Napi::Number::New(info.Env(), peer.pid);
  result["uid"] = Napi::Number::New(info.Env(), peer.uid);
  result["gid"] = Napi::Number::New(info.Env(), peer.gid);
  return result;
}

// socketArm(id, events): null | Failure. From then on it is ready when one of EPOLL… events holds.
Napi::Value socket_arm(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), EnvState::of(info.Env()).sockets.arm(to_u32(info[0]), to_u32(info[1])));
}

// socketsReady(ids: Float64Array, soon): how many are ready; `soon`: another may be in a moment
Napi::Value sockets_ready(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  auto ids = info[0].As<Napi::Float64Array>();
  const size_t count = state.sockets.ready(ids.Data(), ids.ElementLength(), to_bool(info[1]));
  state.watches->sockets_taken();
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

// socketReceive(id, message: Uint8Array, have, descriptors: Int32Array, milliseconds): bytes | Failure | null. Reads on in a
// message; null: nothing has come in that time. `descriptors` gets their number, whether there were more, and the descriptors,
// which are held until closeDescriptor.
Napi::Value socket_receive_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  SocketSet::Entry* entry = entry_of(info);
  if (entry == nullptr) return is_closed(env);
  auto message = info[1].As<Napi::Uint8Array>();
  auto descriptors = info[3].As<Napi::Int32Array>();
  const int milliseconds = info[4].As<Napi::Number>().Int32Value();
  Received received;
  const Failure failure = socket_receive_message(entry->fd, reinterpret_cast<char*>(message.Data()), to_u32(info[2]),
                                                 message.ByteLength(), milliseconds, &entry->habit, &received);
  if (failure.errnum == EAGAIN) return env.Null();
  if (failure) return to_js(env, failure);
  descriptors[0] = static_cast<int32_t>(received.count);
  descriptors[1] = received.discarded ? 1 : 0;
  for (size_t i = 0; i < received.count; ++i) {
    descriptors[i + 2] = received.descriptors[i];
    EnvState::of(env).sockets.hold(received.descriptors[i]);
  }
  return Napi::Number::New(env, static_cast<double>(received.bytes));
}

// socketSend(id, bytes: Uint8Array, descriptors: Int32Array): bytes | Failure
Napi::Value socket_send_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const SocketSet::Entry* entry = entry_of(info);
  if (entry == nullptr) return is_closed(env);
  const auto bytes = info[1].As<Napi::Uint8Array>();
  const auto descriptors = info[2].As<Napi::Int32Array>();
  size_t sent = 0;
  const Failure failure =
      socket_send(entry->fd, bytes.Data(), bytes.ByteLength(), descriptors.Data(), descriptors.ElementLength(), &sent);
  return failure ? to_js(env, failure) : Napi::Number::New(env, static_cast<double>(sent)).As<Napi::Value>();
}

// socketWaitForRoom(id, milliseconds): whether there is room to send. Blocks.
Napi::Value socket_wait_for_room(const Napi::CallbackInfo& info) {
  const SocketSet::Entry* entry = entry_of(info);
  if (entry == nullptr) return Napi::Boolean::New(info.Env(), true);
  pollfd ready{entry->fd, POLLOUT, 0};
  return Napi::Boolean::New(info.Env(), poll(&ready, 1, info[1].As<Napi::Number>().Int32Value()) != 0);
}

// socketEnd(id): this side sends no more
void socket_end(const Napi::CallbackInfo& info) {
  if (const SocketSet::Entry* entry = entry_of(info); entry != nullptr) shutdown(entry->fd, SHUT_WR);
}

void socket_close(const Napi::CallbackInfo& info) { EnvState::of(info.Env()).sockets.close(to_u32(info[0])); }

// socketHold(change): so many more sockets keep the event loop alive
void socket_hold(const Napi::CallbackInfo& info) { EnvState::of(info.Env()).held_open(info[0].As<Napi::Number>().Int32Value()); }

// socketRevokes(id, objects: Float64Array): null | Failure. These are revoked when the peer sends no more.
Napi::Value socket_revokes(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  SocketSet::Entry* entry = entry_of(info);
  if (entry == nullptr) return is_closed(env);
  const auto ids = info[1].As<Napi::Float64Array>();
  std::vector<Object*> objects;
  for (size_t i = 0; i < ids.ElementLength(); ++i) {
    if (Object* object = EnvState::of(env).object(static_cast<uint64_t>(ids[i])); object != nullptr) objects.push_back(object);
  }
  return to_js(env, hangup_watch(entry->fd, objects, &entry->hangup));
}

// socketRevokeNow(id): returns when these objects are revoked
void socket_revoke_now(const Napi::CallbackInfo& info) {
  if (const SocketSet::Entry* entry = entry_of(info); entry != nullptr && entry->hangup != 0) hangup_now(entry->hangup);
}

// eventfdWatched(): id | Failure. An eventfd that can be armed.
Napi::Value eventfd_watched(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Failure failure = watch_sockets(EnvState::of(env));
  if (failure) return to_js(env, failure);
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? to_js(env, Failure::from_errno("eventfd")) : added(env, {.fd = fd});
}

// eventfdTake(id): how often it was signalled since the last time
Napi::Value eventfd_take(const Napi::CallbackInfo& info) {
  const SocketSet::Entry* entry = entry_of(info);
  eventfd_t count = 0;
  if (entry == nullptr || eventfd_read(entry->fd, &count) != 0) count = 0;
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

// eventfdSignalShared(fd): of another process
void eventfd_signal_shared(const Napi::CallbackInfo& info) { eventfd_notify(info[0].As<Napi::Number>().Int32Value()); }

// socketDescriptor(id): its descriptor, for sending
Napi::Value socket_descriptor(const Napi::CallbackInfo& info) {
  const SocketSet::Entry* entry = entry_of(info);
  return Napi::Number::New(info.Env(), entry == nullptr ? -1 : entry->fd);
}

// closeDescriptor(fd): one that was received or opened here
void close_descriptor(const Napi::CallbackInfo& info) {
  EnvState::of(info.Env()).sockets.close_held(info[0].As<Napi::Number>().Int32Value());
}

// objectDescriptor(id, writable): fd | Failure. For closeDescriptor.
Napi::Value object_descriptor_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  int fd = -1;
  const Failure failure = object_descriptor(state.object(info[0]), to_bool(info[1]), &fd);
  if (failure) return to_js(info.Env(), failure);
  state.sockets.hold(fd);
  return Napi::Number::New(info.Env(), fd);
}

// objectSpareHolders(id): a revocation empties its pages and does not truncate it
void object_spare_holders(const Napi::CallbackInfo& info) { EnvState::of(info.Env()).object(info[0])->spare_holders.store(true); }

// ownerOpen(objectId, numbers: Int32Array): null | Failure. Numbers: a descriptor for closeDescriptor, and the owner's number.
Napi::Value owner_open_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  auto numbers = info[1].As<Napi::Int32Array>();
  int fd = -1;
  uint32_t owner = 0;
  const Failure failure = owner_open(state.object(info[0])->fd.load(), &fd, &owner);
  if (failure) return to_js(info.Env(), failure);
  state.sockets.hold(fd);
  numbers[0] = fd;
  numbers[1] = static_cast<int32_t>(owner);
  return info.Env().Null();
}

// ownerLives(fd, self, owner): boolean
Napi::Value owner_lives_js(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), owner_lives(info[0].As<Napi::Number>().Int32Value(), to_u32(info[1]), to_u32(info[2])));
}

}  // namespace

void export_sockets(Napi::Env env, Napi::Object exports) {
  exports["socketListen"] = Napi::Function::New<socket_listen_js>(env, "socketListen");
  exports["socketConnect"] = Napi::Function::New<socket_connect_js>(env, "socketConnect");
  exports["socketAccept"] = Napi::Function::New<socket_accept_js>(env, "socketAccept");
  exports["socketPair"] = Napi::Function::New<socket_pair>(env, "socketPair");
  exports["socketPeer"] = Napi::Function::New<socket_peer>(env, "socketPeer");
  exports["socketArm"] = Napi::Function::New<socket_arm>(env, "socketArm");
  exports["socketsReady"] = Napi::Function::New<sockets_ready>(env, "socketsReady");
  exports["socketReceive"] = Napi::Function::New<socket_receive_js>(env, "socketReceive");
  exports["socketSend"] = Napi::Function::New<socket_send_js>(env, "socketSend");
  exports["socketWaitForRoom"] = Napi::Function::New<socket_wait_for_room>(env, "socketWaitForRoom");
  exports["socketEnd"] = Napi::Function::New<socket_end>(env, "socketEnd");
  exports["socketClose"] = Napi::Function::New<socket_close>(env, "socketClose");
  exports["socketHold"] = Napi::Function::New<socket_hold>(env, "socketHold");
  exports["socketRevokes"] = Napi::Function::New<socket_revokes>(env, "socketRevokes");
  exports["socketRevokeNow"] = Napi::Function::New<socket_revoke_now>(env, "socketRevokeNow");
  exports["eventfdWatched"] = Napi::Function::New<eventfd_watched>(env, "eventfdWatched");
  exports["eventfdTake"] = Napi::Function::New<eventfd_take>(env, "eventfdTake");
  exports["eventfdSignalShared"] = Napi::Function::New<eventfd_signal_shared>(env, "eventfdSignalShared");
  exports["socketDescriptor"] = Napi::Function::New<socket_descriptor>(env, "socketDescriptor");
  exports["closeDescriptor"] = Napi::Function::New<close_descriptor>(env, "closeDescriptor");
  exports["objectDescriptor"] = Napi::Function::New<object_descriptor_js>(env, "objectDescriptor");
  exports["ownerOpen"] = Napi::Function::New<owner_open_js>(env, "ownerOpen");
  exports["ownerLives"] = Napi::Function::New<owner_lives_js>(env, "ownerLives");
  exports["objectSpareHolders"] = Napi::Function::New<object_spare_holders>(env, "objectSpareHolders");
}

}  // namespace revocable::binding
