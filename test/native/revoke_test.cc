// R1 R2 R3 R4 R5 R8 R10: what revoke_mappings() promises, seen from this process, the kernel and another process.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/counters.h"
#include "fixture.h"

using namespace revocable;

namespace {

// A storm: readers look at fixed addresses where generation after generation of objects is mapped, filled with its own number
// and revoked. `dead` is the last generation whose revoke() has returned: its number must never be read again. `changes` counts
// how often a reader had a generation's number at a place and the fill at its next look.
struct Storm {
  std::vector<char*> ranges;
  std::atomic<uint32_t> dead{0};
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> changes{0}, stale{0};
  uint32_t fill_value;

  bool is_number(uint32_t value) const { return value != 0 && value != fill_value; }

  void read(size_t pages) {
    std::vector<uint32_t> last(pages * ranges.size());
    for (size_t i = 0; !stop.load(std::memory_order_relaxed); i = (i + 1) % last.size()) {
      const uint32_t gone = dead.load(std::memory_order_acquire);
      const uint32_t value = load_word(ranges[i % ranges.size()] + i / ranges.size() * kPageSize);
      if (is_number(value) && value <= gone) stale.fetch_add(1);
      if (is_number(last[i]) && value == fill_value) changes.fetch_add(1, std::memory_order_relaxed);
      last[i] = value;
    }
  }
};

// At least so many generations, and until readers have seen a tenth as many go; they may not get to run for a while.
void run_storm(bool owned, Fill fill, uint32_t generations) {
  constexpr size_t kPages = 4, kMappings = 3;
  Storm storm;
  storm.fill_value = fill == Fill::ones ? 0xffffffff : 0;
  for (size_t i = 0; i < kMappings; ++i) storm.ranges.push_back(own_range(kPages * kPageSize));
  Threads readers;
  for (int i = 0; i < 3; ++i) readers.add([&] { storm.read(kPages); });
  const auto enough = [&] { return storm.changes.load() >= generations / 10; };
  for (uint32_t generation = 1; generation <= generations || (!enough() && generation <= 30 * generations); ++generation) {
    Object* object = nullptr;
    int fd = -1;
    if (owned) {
      object = owned_object(kPages * kPageSize);
    } else {
      const ForeignObject made = foreign_object(kPages * kPageSize);
      object = made.object;
      fd = made.fd;
    }
    for (size_t page = 0; page < kPages; ++page) {
      CHECK_EQ(pwrite(object->fd, &generation, sizeof generation, static_cast<off_t>(page * kPageSize)), ssize_t{4});
    }
    std::vector<View> views;
    for (char* range : storm.ranges) views.push_back(map(object, {.fill = fill, .at = range}));
    if (generation % 3 == 0) usleep(50);  // lets readers in between, for variety only
    const RevokeCounts counts = revoke(object);
    storm.dead.store(generation, std::memory_order_release);
    CHECK_EQ(counts.replaced, uint32_t{kMappings});
    for (View& view : views) view.close();
    object_release(object);
    if (fd >= 0) close(fd);
  }
  storm.stop = true;
  readers.join();
  CHECK(enough());
  CHECK_EQ(storm.stale.load(), uint64_t{0});
}

uint32_t rounds(int plain) { return static_cast<uint32_t>(check::rounds(plain)); }

std::string shape(const std::vector<MapsLine>& lines) {
  std::string text;
  for (const MapsLine& line : lines) {
    text += std::to_string((line.end - line.start) / kPageSize) + " " + line.flags + " @" +
            std::to_string(line.offset / kPageSize) + "; ";
  }
  return text;
}

}  // namespace

TEST("R1 R2 no thread reads an owned object's memory after revoke, nor finds a hole") {
  start_library();
  run_storm(true, Fill::zeros, rounds(3000));
}

TEST("R1 R2 the same for an object that other code owns") {
  start_library();
  run_storm(false, Fill::zeros, rounds(3000));
}

TEST("R1 R2 the same with a fill of ones") {
  start_library();
  run_storm(true, Fill::ones, rounds(2000));
}

TEST("R1 another process without the library has lost an owned object when revoke returns") {
  start_library();
  Object* object = owned_object(2 * kPageSize);
  const View view = map(object);
  view.store(kPageSize, 4711);
  int ready[2], go[2];
  REQUIRE(pipe(ready) == 0 && pipe(go) == 0);
  Threads revoker;
  revoker.add([&] {
    char byte;
    CHECK_EQ(read(ready[0], &byte, 1), ssize_t{1});
    revoke(object);
    CHECK_EQ(write(go[1], "x", 1), ssize_t{1});
  });
  const int status = check::run_in_child([&] {
    signal(SIGBUS, SIG_DFL);
    void* at = mmap(nullptr, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, object->fd, 0);
    const volatile uint32_t* word = reinterpret_cast<uint32_t*>(static_cast<char*>(at) + kPageSize);
    CHECK_EQ(*word, 4711u);
    char byte = 'r';
    CHECK_EQ(write(ready[1], &byte, 1), ssize_t{1});
    CHECK_EQ(read(go[0], &byte, 1), ssize_t{1});
    CHECK_EQ(ftruncate(object->fd, 2 * kPageSize), -1);  // and no thread gives the pages back
    (void)*word;
  });
  CHECK_DIED_OF(status, SIGBUS);
}

TEST("R1 private, read-only and rearranged mappings are revoked too") {
  start_library();
  Object* object = owned_object(4 * kPageSize);
  const View shared = map(object);
  const View copy = map(object, {.private_copy = true});
  const View reader = map(object, {.writable = false});
  const View moved = map(object);
  for (size_t page = 0; page < 4; ++page) shared.store(page * kPageSize, static_cast<uint32_t>(page + 1));
  copy.store(0, 99);  // its own page
  CHECK_OK(remap_pages(moved.mapping, 0, 1, 3 * kPageSize));
  CHECK_OK(remap_pages(moved.mapping, 2, 1, 0));
  CHECK_EQ(moved.load(0), 4u);
  CHECK_EQ(moved.load(2 * kPageSize), 1u);
  const RevokeCounts counts = revoke(object);
  CHECK_EQ(counts.mappings, 4u);
  CHECK_EQ(counts.replaced, 4u);
  for (const View& view : {shared, copy, reader, moved}) {
    for (size_t page = 0; page < 4; ++page) CHECK_EQ(view.load(page * kPageSize), 0u);
    CHECK_EQ(view.state(), State::revoked);
  }
}

TEST("R1 2,000 mappings of one object are revoked by one call") {
  start_library();
  Object* object = owned_object(2 * kPageSize);
  std::vector<View> views;
  for (int i = 0; i < 2000; ++i) views.push_back(map(object));
  views[0].store(0, 1);
  const RevokeCounts counts = revoke(object);
  CHECK_EQ(counts.mappings, 2000u);
  CHECK_EQ(counts.replaced, 2000u);
  CHECK(counts.truncated);
  CHECK(counts.duration_us > 0);
  const auto lines = maps_of(nullptr, SIZE_MAX);
  size_t pages = 0;
  for (const MapsLine& line : lines) pages += line.path == "/memfd:revoked (deleted)" ? (line.end - line.start) / kPageSize : 0;
  CHECK_EQ(pages, size_t{4000});
  for (const View& view : views) CHECK_EQ(view.load(), 0u);
}

TEST("R3 address, length, offset and each page's protection stay, also where mprotect split the range") {
  start_library();
  Object* object = owned_object(16 * kPageSize);
  const View view = map(object, {.offset = 4 * kPageSize, .span = 10 * kPageSize});
  CHECK_OK(protect_pages(view.mapping, 1, 2, Access::read));
  CHECK_OK(protect_pages(view.mapping, 4, 1, Access::none));
  CHECK_EQ(mprotect(view.at + 7 * kPageSize, kPageSize, PROT_READ), 0);  // behind the library's back
  CHECK_OK(remap_pages(view.mapping, 9, 1, 0));
  const std::string before = shape(maps_of(view.at, view.span));
  CHECK_EQ(before, std::string("1 rw-s @4; 2 r--s @5; 1 rw-s @7; 1 ---s @8; 2 rw-s @9; 1 r--s @11; 1 rw-s @12; 1 rw-s @0; "));
  revoke(object);
  const auto after = maps_of(view.at, view.span);
  CHECK_EQ(shape(after), before);
  uintptr_t at = reinterpret_cast<uintptr_t>(view.at);
  for (const MapsLine& line : after) {
    CHECK_EQ(line.path, std::string("/memfd:revoked (deleted)"));
    CHECK_EQ(line.start, at);
    at = line.end;
  }
  CHECK_EQ(at, reinterpret_cast<uintptr_t>(view.at) + view.span);
}

TEST("R4 before any touch /proc/self/mem gives EIO and system calls EFAULT") {
  start_library();
  for (const bool owned : {true, false}) {
    Object* object = owned ? owned_object(2 * kPageSize) : foreign_object(2 * kPageSize).object;
    const View view = map(object);
    view.store(0, 1);
    revoke(object);
    const int mem = open("/proc/self/mem", O_RDWR);
    char byte = 1;
    errno = 0;
    CHECK_EQ(pread(mem, &byte, 1, reinterpret_cast<off_t>(view.at)), ssize_t{-1});
    CHECK_EQ(errno, EIO);
    CHECK_EQ(pwrite(mem, &byte, 1, reinterpret_cast<off_t>(view.at)), ssize_t{-1});
    CHECK_EQ(errno, EIO);
    close(mem);
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    CHECK_EQ(write(ends[1], view.at, 100), ssize_t{-1});
    CHECK_EQ(errno, EFAULT);
    CHECK_EQ(write(ends[1], "x", 1), ssize_t{1});
    CHECK_EQ(read(ends[0], view.at, 1), ssize_t{-1});
    CHECK_EQ(errno, EFAULT);
    iovec local{&byte, 1}, remote{view.at, 1};
    CHECK_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), ssize_t{-1});
    CHECK_EQ(errno, EFAULT);
    CHECK_EQ(view.mapping->faults.load(), 0u);
  }
}

TEST("A5 after a touch a system call sees the fill like any other reader") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View view = map(object, {.fill = Fill::ones});
  revoke(object);
  CHECK_EQ(view.load(), 0xffffffffu);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_EQ(write(ends[1], view.at + 8, 1), ssize_t{1});
  unsigned char byte = 0;
  CHECK_EQ(read(ends[0], &byte, 1), ssize_t{1});
  CHECK_EQ(byte, 0xff);
}

TEST("R5 a thousand maps racing one revoke leave none live") {
  start_library();
  for (int round = 0; round < check::rounds(20); ++round) {
    Object* object = owned_object(kPageSize);
    View first = map(object);
    first.store(0, 4711);
    std::atomic<int> mapped{0}, refused{0}, other{0};
    std::vector<View> views(1000);
    Threads mappers;
    for (size_t thread = 0; thread < 4; ++thread) {
      mappers.add([&, thread] {
        for (size_t i = thread * 250; i < (thread + 1) * 250; ++i) {
          const Failure failure = try_map(object, {.span = kPageSize}, &views[i]);
          ++(!failure ? mapped : failure.errnum == ENODEV ? refused : other);
        }
      });
    }
    EVENTUALLY(mapped.load() > 20 * round);
    const RevokeCounts counts = revoke(object);
    View late;
    CHECK_EQ(try_map(object, {.span = kPageSize}, &late).errnum, ENODEV);
    mappers.join();
    CHECK_EQ(other.load(), 0);
    CHECK_EQ(counts.mappings, static_cast<uint32_t>(mapped.load()) + 1);
    CHECK_EQ(object->live.count, size_t{0});
    for (View& view : views) {
      CHECK_EQ(view.load(), 0u);
      view.store(0, 1);  // refused: still the caller's own anonymous memory
      if (view.mapping != nullptr) view.close();
      munmap(view.at, kPageSize);
    }
    first.close();
    object_release(object);
  }
}

TEST("R8 of concurrent revokes one revokes, and all report the same") {
  start_library();
  for (int round = 0; round < check::rounds(300); ++round) {
    Object* object = owned_object(kPageSize);
    std::vector<View> views;
    for (int i = 0; i < 20; ++i) views.push_back(map(object));
    std::atomic<int> mine{0};
    RevokeCounts counts[4];
    Threads revokers;
    for (RevokeCounts& count : counts) {
      revokers.add([&] {
        const bool by_me = revoke_begin(object);
        mine += by_me;
        count = revoke_finish(object, by_me);
      });
    }
    revokers.join();
    CHECK_EQ(mine.load(), 1);
    const RevokeCounts again = revoke(object);
    for (const RevokeCounts& count : counts) {
      CHECK_EQ(count.mappings, 20u);
      CHECK_EQ(count.replaced, 20u);
      CHECK_EQ(count.failed + count.protected_, 0u);
      CHECK_EQ(count.truncated, again.truncated);
      CHECK_EQ(count.duration_us, again.duration_us);
    }
    for (View& view : views) {
      char* at = view.at;
      view.close();
      munmap(at, kPageSize);
    }
    object_release(object);
  }
}

TEST("R10 other objects, neighbours and copies are untouched") {
  start_library();
  Object* doomed = owned_object(kPageSize);
  Object* other = owned_object(kPageSize);
  char* range = own_range(5 * kPageSize);  // one page each: anonymous, other, doomed, other, anonymous
  const View left = map(other, {.at = range + kPageSize});
  const View view = map(doomed, {.at = range + 2 * kPageSize});
  const View right = map(other, {.at = range + 3 * kPageSize});
  memset(range, 1, 5 * kPageSize);
  memset(view.at, 2, kPageSize);
  std::vector<char> copy(view.at, view.at + kPageSize);
  revoke(doomed);
  CHECK_EQ(view.load(), 0u);
  view.store(0, 3);
  for (size_t i = 0; i < 5 * kPageSize; ++i) {
    if (i / kPageSize != 2 && range[i] != 1) CHECK_EQ(range[i], char{1});
  }
  CHECK_EQ(copy[100], char{2});
  CHECK_EQ(left.state(), State::live);
  CHECK_EQ(right.status(), 0u);
  CHECK_EQ(other->state.load(), State::live);
  left.store(8, 77);
  CHECK_EQ(right.load(8), 77u);
}

TEST("R10 what other code mapped into the range is not touched") {
  start_library();
  Object* object = foreign_object(4 * kPageSize).object;
  const View view = map(object);
  const int stranger = memfd_create("stranger", MFD_CLOEXEC);
  REQUIRE(ftruncate(stranger, static_cast<off_t>(kPageSize)) == 0);
  mmap(view.at + kPageSize, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, stranger, 0);
  view.store(kPageSize, 4711);
  munmap(view.at + 2 * kPageSize, kPageSize);
  revoke(object);
  CHECK_EQ(maps_of(view.at, kPageSize).at(0).path, std::string("/memfd:revoked (deleted)"));
  CHECK_EQ(maps_of(view.at + kPageSize, kPageSize).at(0).path, std::string("/memfd:stranger (deleted)"));
  CHECK_EQ(view.load(kPageSize), 4711u);
  // The hole is left alone: not that nothing is there, since the C library may have got it for memory of its own.
  for (const MapsLine& line : maps_of(view.at + 2 * kPageSize, kPageSize)) CHECK(line.path.find("revoked") == std::string::npos);
  CHECK_EQ(maps_of(view.at + 3 * kPageSize, kPageSize).at(0).path, std::string("/memfd:revoked (deleted)"));
}

TEST("R1 an owned object whose descriptor other code closed and reused is revoked, and the other file is not truncated") {
  start_library();
  Object* object = owned_object(kPageSize);
  const View view = map(object);
  view.store(0, 5);
  const int other = memfd_create("other", MFD_CLOEXEC);
  REQUIRE(ftruncate(other, 8192) == 0);
  REQUIRE(dup2(other, object->fd) == object->fd);
  const RevokeCounts counts = revoke(object);
  CHECK(!counts.truncated);
  CHECK_EQ(counts.replaced, 1u);
  CHECK_EQ(view.load(), 0u);
  CHECK_EQ(lseek(other, 0, SEEK_END), off_t{8192});
}
