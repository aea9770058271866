// The sockets and eventfds of one environment, by number, and descriptors that have been received and not been taken yet.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>

#include "base/failure.h"
#include "share/socket.h"

namespace revocable::binding {

class SocketSet {
 public:
  struct Entry {
    int fd = -1;
    Listener listener = {};  // of a socket that listens: `fd` is its
    uint64_t hangup = 0;     // 0: its end revokes nothing
    SpinHabit habit = {};    // of waiting for its peer
  };

  int epoll() const { return epoll_; }
  Failure open(bool* opened);  // the epoll descriptor, once; `opened`: by this call
  // Owns the descriptor from then on, also when it fails. Watched for nothing yet.
  Failure add(const Entry& entry, uint32_t* id);
  Entry* find(uint32_t id);
  Failure arm(uint32_t id, uint32_t events);  // from then on
  // Puts the ids of those that are ready into `ids`; `soon`: one may be in a moment, and is looked for where that has paid.
  size_t ready(double* ids, size_t most, bool soon);
  void close(uint32_t id);
  void close_all();

  void hold(int descriptor) { held_.insert(descriptor); }
  void close_held(int descriptor);

 private:
  static void let_go(Entry* entry);

  int epoll_ = -1;
  SpinHabit habit_;
  uint32_t next_id_ = 1;
  std::unordered_map<uint32_t, Entry> entries_;
  std::unordered_set<int> held_;
};

}  // namespace revocable::binding
