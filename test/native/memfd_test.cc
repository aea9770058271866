// The library's own files, whose seals revocation and fills rest on: no descriptor of them can undo either.
#include "base/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "fixture.h"

using namespace revocable;

namespace {

template <typename Call>
void refused(const char* what, Call call) {
  errno = 0;
  const bool failed = call() < 0;
  check::report(failed && errno == EPERM, __FILE__, __LINE__, std::string(what) + ": errno " + std::to_string(errno));
}

// The same file, opened anew as another library in the process could: it is the file that is sealed, not the descriptor.
int opened_anew(int fd) {
  const int anew = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC);
  CHECK(anew >= 0);
  return anew;
}

}  // namespace

TEST("R1 the tombstone can be neither grown nor sealed otherwise, by any descriptor of it") {
  start_library();
  constexpr int kSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  revoke(object);
  for (const int fd : {tombstone_fd(), opened_anew(tombstone_fd())}) {
    CHECK_EQ(fcntl(fd, F_GET_SEALS) & kSeals, kSeals);
    refused("ftruncate", [&] { return ftruncate(fd, static_cast<off_t>(kPageSize)); });
    refused("write", [&] { return pwrite(fd, "x", 1, 0); });
    refused("fallocate", [&] { return fallocate(fd, 0, 0, static_cast<off_t>(kPageSize)); });
    for (const int seal : {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_SEAL}) {
      refused("F_ADD_SEALS", [&] { return fcntl(fd, F_ADD_SEALS, seal); });
    }
    CHECK_EQ(lseek(fd, 0, SEEK_END), off_t{0});
  }
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_EQ(write(ends[1], view.at, 1), ssize_t{-1});
  CHECK_EQ(errno, EFAULT);
}

TEST("A2 the fill of ones can be neither written nor resized, by any descriptor of it") {
  start_library();
  constexpr int kSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
  for (const int fd : {ones_fill_fd(), opened_anew(ones_fill_fd())}) {
    CHECK_EQ(fcntl(fd, F_GET_SEALS) & kSeals, kSeals);
    refused("write", [&] { return pwrite(fd, "x", 1, 0); });
    refused("shrinking", [&] { return ftruncate(fd, 0); });
    refused("growing", [&] { return ftruncate(fd, 2 * static_cast<off_t>(kOnesWindow)); });
    refused("punching",
            [&] { return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(kPageSize)); });
    refused("mmap", [&] { return mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0; });
    refused("F_ADD_SEALS", [&] { return fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL); });
  }
  Object* object = owned_object(kPageSize);
  const View view = map(object, {.fill = Fill::ones});
  revoke(object);
  CHECK_EQ(view.load(), 0xffffffffu);
}

// Longer than the kernel waits by itself (150 ms), so that the first attempt fails as the one before it does; whenever the pipe
// is read, the seal is there in the end.
TEST("A2 a seal against writing is added once the kernel has let go of the pages, here those in a pipe") {
  const int fd = memfd("spliced");
  REQUIRE(pwrite(fd, "x", 1, 0) == 1);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  off_t at = 0;
  REQUIRE(splice(fd, &at, ends[1], nullptr, 1, 0) == 1);
  CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
  CHECK_EQ(errno, EBUSY);
  std::thread reader([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    char byte;
    CHECK_EQ(read(ends[0], &byte, 1), ssize_t{1});
  });
  const Failure failure = add_seals(fd, F_SEAL_WRITE);
  reader.join();
  CHECK_EQ(failure.errnum, 0);
  CHECK_EQ(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE, F_SEAL_WRITE);
  for (const int each : {fd, ends[0], ends[1]}) close(each);
}
