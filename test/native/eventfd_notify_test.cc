#include "share/eventfd_notify.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

namespace revocable {
namespace {

uint64_t take(int fd) {
  eventfd_t count = 0;
  return eventfd_read(fd, &count) == 0 ? count : 0;
}

// An emulator of one process, and some filters of system calls, know none.
bool has_asynchronous_reads() {
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, 1, &context) != 0) return false;
  syscall(SYS_io_destroy, context);
  return true;
}

}  // namespace

TEST("an eventfd of another process is signalled once a call") {
  const int fd = eventfd(0, EFD_CLOEXEC);
  for (int i = 0; i < 20; ++i) eventfd_notify(fd);
  CHECK(take(fd) == 20);
  close(fd);
}

TEST("an eventfd that is signalled keeps its mode") {
  if (!has_asynchronous_reads()) check::skip("there are no asynchronous reads here");
  const int fd = eventfd(0, EFD_CLOEXEC);
  eventfd_notify(fd);
  CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
  close(fd);
}

TEST("a full eventfd that would block its writer does not block") {
  const int fd = eventfd(0, EFD_CLOEXEC);
  constexpr uint64_t kFull = 0xffff'ffff'ffff'fffe;
  CHECK(eventfd_write(fd, kFull) == 0);
  eventfd_notify(fd);
  eventfd_notify(fd);
  CHECK(take(fd) >= kFull);
  eventfd_notify(fd);
  CHECK(take(fd) == 1);
  close(fd);
}

TEST("a child of fork signals too") {
  const int fd = eventfd(0, EFD_CLOEXEC);
  eventfd_notify(fd);
  const pid_t child = fork();
  if (child == 0) {
    eventfd_notify(fd);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(take(fd) == 2);
  close(fd);
}

}  // namespace revocable
