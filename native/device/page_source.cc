#include "device/page_source.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <unordered_map>

namespace revocable {
namespace {

// The protocol's header, and behind it what this command says, in the order of the wire.
struct Message {
  uint16_t id;
  uint16_t command;
  uint32_t size;
  uint32_t flags;
  uint32_t errnum;
  uint64_t token;
  uint64_t offset;
  uint32_t access;
  uint32_t unused;
};

constexpr uint16_t kPageFault = 0x5046;
constexpr uint32_t kReply = 1, kError = 0x20;
constexpr uint32_t kWrite = 1, kFirstWrite = 2;

bool is_answer(const Message& message) {
  return message.command == kPageFault && message.size == sizeof message && (message.flags & kReply) != 0;
}

int errno_of(const Message& message) {
  if ((message.flags & kError) == 0) return 0;
  return message.errnum == 0 || message.errnum > 4095 ? EIO : static_cast<int>(message.errnum);
}

struct Sources {
  int epoll = -1;
  std::mutex lock;  // a leaf
  uint64_t next = 0;
  std::unordered_map<uint64_t, std::weak_ptr<PageSource>> by_key;  // what epoll calls them
};

// Never destroyed: its thread outlives static destructors.
Sources& sources() {
  static Sources* instance = new Sources;
  return *instance;
}

std::shared_ptr<PageSource> source_of(uint64_t key) {
  std::lock_guard guard(sources().lock);
  const auto found = sources().by_key.find(key);
  return found == sources().by_key.end() ? nullptr : found->second.lock();
}

void unwatch(const PageSource& source) { epoll_ctl(sources().epoll, EPOLL_CTL_DEL, source.fd(), nullptr); }

}  // namespace

// Closing alone leaves it watched where a child process has a copy of the descriptor.
PageSource::~PageSource() {
  unwatch(*this);
  close(fd_);
}

void PageSource::ask(const PageRequest& request) const {
  Message message{};
  message.command = kPageFault;
  message.size = sizeof message;
  message.token = request.token;
  message.offset = request.offset;
  message.access = (request.write ? kWrite : 0) | (request.first_write ? kFirstWrite : 0);
  while (send(fd_, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

bool PageSource::take_answers(const std::function<void(uint64_t, int)>& answered) {
  static_assert(sizeof(Message) == kBytes);
  for (;;) {
    const ssize_t got = recv(fd_, answer_ + have_, kBytes - have_, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    have_ += static_cast<uint32_t>(got);
    if (have_ < kBytes) continue;
    have_ = 0;
    Message message;
    memcpy(&message, answer_, sizeof message);
    if (!is_answer(message)) return false;
    answered(message.token, errno_of(message));
  }
}

Failure page_sources_open() {
  if (sources().epoll < 0) sources().epoll = epoll_create1(EPOLL_CLOEXEC);
  return sources().epoll < 0 ? Failure::from_errno("epoll_create") : Failure{};
}

int page_sources_fd() { return sources().epoll; }

void page_sources_take(const std::function<void(uint64_t, int)>& answered) {
  epoll_event events[16];
  const int count = epoll_wait(sources().epoll, events, 16, 0);
  for (int i = 0; i < count; ++i) {
    const uint64_t key = events[i].data.u64;
    const std::shared_ptr<PageSource> source = source_of(key);
    if (source != nullptr && source->take_answers(answered)) continue;
    if (source != nullptr) unwatch(*source);
    std::lock_guard guard(sources().lock);
    sources().by_key.erase(key);
  }
}

Failure page_source_add(const std::shared_ptr<PageSource>& source) {
  Sources& all = sources();
  std::lock_guard guard(all.lock);
  epoll_event event{};
  event.events = EPOLLIN;
  const uint64_t key = all.next++;
  event.data.u64 = key;
  if (epoll_ctl(all.epoll, EPOLL_CTL_ADD, source->fd(), &event) != 0) return Failure::from_errno("epoll_ctl");
  // A source that has gone is taken out by its last answers, or here.
  std::erase_if(all.by_key, [](const auto& item) { return item.second.expired(); });
  all.by_key.emplace(key, source);
  return {};
}

}  // namespace revocable
