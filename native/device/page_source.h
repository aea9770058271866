// Where another process supplies the pages of a region: a socket to it, on which this process asks for a page and is answered
// when the object has it, or is not to have it. Messages are those of the vfio-user protocol's framing, with a command of this
// library's own (docs/reference/vfio-user.md); the other end is `PageServer` of src/share/.
//
// The pager's thread sends and receives, so a page comes whatever the thread does that has connected: it may be the one that
// waits for the page.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/failure.h"

namespace revocable {

struct PageRequest {
  uint64_t token;
  uint64_t offset;  // of the object
  bool write;
  bool first_write;  // the page is there, and is to be written to for the first time
};

class PageSource {
 public:
  explicit PageSource(int fd) : fd_(fd) {}  // owns it; non-blocking
  ~PageSource();
  PageSource(const PageSource&) = delete;
  PageSource& operator=(const PageSource&) = delete;

  int fd() const { return fd_; }

  // A request that finds no room is lost, as is one after the other process has gone: its time runs out, or the region is
  // revoked.
  void ask(const PageRequest& request) const;
  // Calls `answered(token, errno)` for each answer that has come. False when there will be none any more.
  bool take_answers(const std::function<void(uint64_t, int)>& answered);

 private:
  static constexpr uint32_t kBytes = 40;  // of a request, and of an answer

  const int fd_;
  char answer_[kBytes];  // as much of it as has come
  uint32_t have_ = 0;
};

// All that there are, for the thread that takes their answers. Opened once, before the first is added; readable when one has
// answered.
Failure page_sources_open();
int page_sources_fd();
void page_sources_take(const std::function<void(uint64_t, int)>& answered);
// Its answers are taken from then on. Of a process that has gone, or says what is no answer, no more is taken: the pages that it
// was asked for wait for the revocation that its end brings, or for their limit.
Failure page_source_add(const std::shared_ptr<PageSource>& source);

}  // namespace revocable
