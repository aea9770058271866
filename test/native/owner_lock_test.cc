// Which owner of shared memory lives: what the mutex of src/share/mutex.ts rests on.
#include "share/owner_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "fixture.h"

using namespace revocable;

namespace {

struct Owner {
  int fd = -1;
  uint32_t number = 0;
};

Owner owner_of(int file) {
  Owner owner;
  const Failure failure = owner_open(file, &owner.fd, &owner.number);
  CHECK_EQ(failure.errnum, 0);
  return owner;
}

int memory() { return memfd_create("owned", MFD_CLOEXEC); }

}  // namespace

TEST("an owner lives until its descriptor is closed, and sees others of the same file only") {
  const int file = memory();
  const int other_file = memory();
  const Owner one = owner_of(file);
  const Owner two = owner_of(file);
  const Owner stranger = owner_of(other_file);
  CHECK(one.number != two.number);
  CHECK(one.number >= 1 && one.number <= kMostOwner);
  CHECK(owner_lives(one.fd, one.number, one.number));
  CHECK(owner_lives(one.fd, one.number, two.number));
  CHECK(owner_lives(two.fd, two.number, one.number));
  CHECK(!owner_lives(one.fd, one.number, stranger.number));
  close(two.fd);
  CHECK(!owner_lives(one.fd, one.number, two.number));
  CHECK(owner_lives(one.fd, one.number, one.number));
}

TEST("an owner outlives other descriptors of the file, and a truncation") {
  const int file = memory();
  CHECK_EQ(ftruncate(file, 4096), 0);
  const Owner one = owner_of(file);
  const Owner two = owner_of(file);
  close(dup(file));
  CHECK_EQ(ftruncate(file, 0), 0);
  close(file);
  CHECK(owner_lives(one.fd, one.number, two.number));
}

TEST("an owner ends with its process, however that ends") {
  const int file = memory();
  const Owner self = owner_of(file);
  int numbers[2];
  REQUIRE(pipe(numbers) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const Owner owner = owner_of(file);
    if (write(numbers[1], &owner.number, sizeof owner.number) != sizeof owner.number) _exit(1);
    for (;;) pause();
  }
  uint32_t theirs = 0;
  REQUIRE(read(numbers[0], &theirs, sizeof theirs) == sizeof theirs);
  CHECK(owner_lives(self.fd, self.number, theirs));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(!owner_lives(self.fd, self.number, theirs));
}

TEST("memory that may only be read has owners, and what is no file has none") {
  const int file = memory();
  CHECK_EQ(fchmod(file, 0444), 0);
  const Owner one = owner_of(file);
  const Owner two = owner_of(one.fd);
  CHECK(owner_lives(one.fd, one.number, two.number));
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  Owner none;
  CHECK_EQ(owner_open(ends[0], &none.fd, &none.number).errnum, EINVAL);
  CHECK_EQ(owner_open(-1, &none.fd, &none.number).errnum, EBADF);
}
