// R7: revocation cannot fail. Each test takes one means away for real and runs in a child, because limits and seals stay.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/features.h"
#include "base/memfd.h"
#include "fault/guarded_copy.h"
#include "fixture.h"

using namespace revocable;

namespace {

constexpr long kSysMseal = 462;  // Linux 6.10, the same number on every architecture

rlimit exceed(auto resource) {
  rlimit before;
  CHECK_EQ(getrlimit(resource, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = 1 << 20;
  CHECK_EQ(setrlimit(resource, &limit), 0);
  // Proof that it bites.
  CHECK(mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
  return before;
}

// Sets RLIMIT_DATA so that `bytes` more of private writable memory can be had. The limit that was.
rlimit leave_data(size_t bytes) {
  FILE* file = fopen("/proc/self/status", "r");
  size_t in_use = 0;
  char line[256];
  while (fgets(line, sizeof line, file) != nullptr) sscanf(line, "VmData: %zu kB", &in_use);
  fclose(file);
  CHECK(in_use > 0);
  rlimit before;
  CHECK_EQ(getrlimit(RLIMIT_DATA, &before), 0);
  const rlimit limits{(in_use << 10) + bytes, before.rlim_max};
  CHECK_EQ(setrlimit(RLIMIT_DATA, &limits), 0);
  return before;
}

// Maps single pages with alternating protection until the kernel allows no more.
void exhaust_map_count() {
  int maps = 0;
  while (mmap(nullptr, kPageSize, maps % 2 == 0 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
    REQUIRE(++maps < 2'000'000);
  }
  CHECK_EQ(errno, ENOMEM);
}

void need_small_map_count() {
  FILE* file = fopen("/proc/sys/vm/max_map_count", "r");
  int limit = 0;
  if (file == nullptr || fscanf(file, "%d", &limit) != 1) check::skip("vm.max_map_count cannot be read");
  fclose(file);
  if (limit > 300'000) check::skip("vm.max_map_count is " + std::to_string(limit) + ": too many to exhaust");
}

void need_no_sanitizer() {
  if (check::kAsan || check::kTsan) check::skip("the sanitizer's own memory does not fit under the limit");
}

void need_mseal() {
  if (syscall(kSysMseal, 0, 0, 0) != 0 && errno == ENOSYS) check::skip("no mseal on this kernel (Linux 6.10)");
}

bool unreachable(const View& view, size_t offset) {
  uint64_t value;
  return !guarded_load(view.at + offset, 4, &value) && !guarded_store(view.at + offset, 4, 1);
}

// One mapping with canaries in every page, of an object that is ours or not.
struct Subject {
  Object* object;
  View view;
  int fd = -1;

  Subject(bool owned, Fill fill, size_t pages = 16) {
    if (owned) {
      object = owned_object(pages * kPageSize);
    } else {
      const ForeignObject made = foreign_object(pages * kPageSize);
      object = made.object;
      fd = made.fd;
    }
    view = map(object, {.fill = fill});
    for (size_t page = 0; page < pages; ++page) view.store(page * kPageSize, 4711);
  }
};

void check_fill_completes(const View& view, uint32_t empty) {
  for (size_t at = 0; at < view.span; at += kPageSize) CHECK_EQ(view.load(at), empty);
  for (size_t at = 0; at < view.span; at += kPageSize) view.store(at + 8, static_cast<uint32_t>(at + 1));
  for (size_t at = 0; at < view.span; at += kPageSize) CHECK_EQ(view.load(at + 8), static_cast<uint32_t>(at + 1));
}

// Revokes under a limit that leaves no mmap: weaker means are reported, nothing is reachable, raw access completes.
void revoke_without_mmap(void (*limit)(), bool owned, Fill fill) {
  start_library();
  const Subject subject(owned, fill);
  limit();
  const RevokeCounts counts = revoke(subject.object);
  CHECK_EQ(counts.mappings, 1u);
  CHECK_EQ(counts.replaced, 0u);
  CHECK_EQ(counts.protected_, 1u);
  CHECK_EQ(counts.failed, 0u);
  CHECK_EQ(counts.truncated, owned);
  for (size_t at = 0; at < subject.view.span; at += kPageSize) CHECK(unreachable(subject.view, at));
  check_fill_completes(subject.view, fill == Fill::ones ? 0xffffffffu : 0u);
  if (!owned) {
    uint32_t kept = 0;
    CHECK_EQ(pread(subject.fd, &kept, 4, 0), ssize_t{4});
    CHECK_EQ(kept, 4711u);  // the writes did not reach the object
  }
}

void exceed_address_space() { exceed(RLIMIT_AS); }

}  // namespace

TEST("R7 RLIMIT_AS exceeded: owned memory is protected, raw access completes") {
  need_no_sanitizer();
  CHECK_EXITED(check::run_in_child([] { revoke_without_mmap(exceed_address_space, true, Fill::zeros); }));
  CHECK_EXITED(check::run_in_child([] { revoke_without_mmap(exceed_address_space, true, Fill::ones); }));
}

TEST("R7 RLIMIT_AS exceeded: memory of other code is protected, raw access completes") {
  need_no_sanitizer();
  CHECK_EXITED(check::run_in_child([] { revoke_without_mmap(exceed_address_space, false, Fill::zeros); }));
}

TEST("R7 RLIMIT_AS exceeded: an access between truncation and replacement does not spoil those that follow") {
  need_no_sanitizer();
  const int status = check::run_in_child([] {
    start_library();
    const int fd = memfd("owner");  // revoked by its owner: the handler fills before anything is replaced
    REQUIRE(ftruncate(fd, static_cast<off_t>(4 * kPageSize)) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0);
    Object* object = nullptr;
    REQUIRE_OK(object_from_fd(fd, {}, &object));
    const View view = map(object);
    exceed(RLIMIT_AS);
    REQUIRE(ftruncate(fd, 0) == 0);
    view.store(0, 5);
    EVENTUALLY(object->revoke_done.load() == 1);
    CHECK_EQ(view.load(0), 5u);
    CHECK_EQ(view.load(kPageSize), 0u);
  });
  CHECK_EXITED(status);
}

TEST("R7 RLIMIT_AS exceeded: a view of many pages completes at every one") {
  need_no_sanitizer();
  const int status = check::run_in_child([] {
    start_library();
    const Subject subject(true, Fill::zeros, 256);
    exceed(RLIMIT_AS);
    revoke(subject.object);
    check_fill_completes(subject.view, 0);
  });
  CHECK_EXITED(status);
}

TEST("R7 the map count exhausted: memory is protected or replaced, raw access completes") {
  need_no_sanitizer();
  need_small_map_count();
  for (const bool owned : {true, false}) {
    const int status = check::run_in_child([owned] {
      start_library();
      const Subject subject(owned, Fill::zeros);
      exhaust_map_count();
      const RevokeCounts counts = revoke(subject.object);
      CHECK_EQ(counts.replaced + counts.protected_, 1u);
      CHECK_EQ(counts.failed, 0u);
      CHECK(unreachable(subject.view, 0));
      check_fill_completes(subject.view, 0);
    });
    CHECK_EXITED(status);
  }
}

TEST("R7 the map count exhausted: a view of differing protections is revoked as a whole") {
  need_no_sanitizer();
  need_small_map_count();
  const int status = check::run_in_child([] {
    start_library();
    const Subject subject(false, Fill::zeros);
    for (size_t page = 0; page < 16; page += 2) CHECK_OK(protect_pages(subject.view.mapping, page, 1, Access::read));
    exhaust_map_count();
    const RevokeCounts counts = revoke(subject.object);
    CHECK_EQ(counts.failed, 0u);
    for (size_t page = 0; page < 16; ++page) CHECK(unreachable(subject.view, page * kPageSize));
  });
  CHECK_EXITED(status);
}

TEST("the map count exhausted: pages that could not all be rearranged show what they showed before") {
  need_no_sanitizer();
  need_small_map_count();
  const int status = check::run_in_child([] {
    start_library();
    Object* object = owned_object(16 * kPageSize);
    const View view = map(object);
    for (uint32_t page = 0; page < 16; ++page) view.store(page * kPageSize, page);
    // Pages 1 to 3 take the last mapping there is, so none is left for those that may only be read, nor for the way back.
    CHECK_OK(protect_pages(view.mapping, 4, 4, Access::read));
    CHECK_OK(remap_pages(view.mapping, 0, 1, 0));  // makes the table
    void* last = mmap(nullptr, kPageSize, PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    exhaust_map_count();
    REQUIRE(munmap(last, kPageSize) == 0);
    const Failure failure = remap_pages(view.mapping, 1, 7, 8 * kPageSize);
    CHECK_EQ(failure.errnum, ENOMEM);
    for (uint32_t page = 0; page < 16; ++page) CHECK_EQ(view.load(page * kPageSize), page);
  });
  CHECK_EXITED(status);
}

TEST("R7 RLIMIT_DATA exceeded: memory is replaced, and the zeros come from a file without aliasing") {
  need_no_sanitizer();
  const int status = check::run_in_child([] {
    start_library();
    const Subject a(true, Fill::zeros), b(false, Fill::zeros);
    const rlimit unlimited = exceed(RLIMIT_DATA);
    CHECK_EQ(revoke(a.object).replaced, 1u);
    CHECK_EQ(revoke(b.object).replaced, 1u);
    CHECK(unreachable(a.view, 0));
    check_fill_completes(a.view, 0);
    for (size_t at = 0; at < b.view.span; at += kPageSize) CHECK_EQ(b.view.load(at + 8), 0u);
    check_fill_completes(b.view, 0);
    // Reading a file takes memory of this test's own.
    setrlimit(RLIMIT_DATA, &unlimited);
    CHECK_EQ(maps_of(a.view.at, 1).at(0).path, std::string("/memfd:revoked-fill (deleted)"));
  });
  CHECK_EXITED(status);
}

TEST("R7 RLIMIT_DATA reached half way through a fill of ones: what was written to the first half stays") {
  need_no_sanitizer();
  const int status = check::run_in_child([] {
    start_library();
    Object* object = owned_object(4 * kOnesWindow);
    const View view = map(object, {.fill = Fill::ones});
    revoke(object);
    std::barrier start(5), stored(5);
    Threads threads;
    for (uint32_t i = 0; i < 4; ++i) {
      threads.add([&, i] {
        start.arrive_and_wait();
        view.store(i * kOnesWindow, i + 1);
        stored.arrive_and_wait();  // a stack that is given back would be room for a window
      });
    }
    // Room for one private window and a half: the others come from the zero file.
    const rlimit unlimited = leave_data(3 * kOnesWindow / 2);
    start.arrive_and_wait();
    stored.arrive_and_wait();
    setrlimit(RLIMIT_DATA, &unlimited);
    threads.join();
    int refused = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      refused += maps_of(view.at + i * kOnesWindow, 1).at(0).path == "/memfd:revoked-fill (deleted)";
    }
    CHECK(refused > 0 && refused < 4);
    for (uint32_t i = 0; i < 4; ++i) CHECK_EQ(view.load(i * kOnesWindow), i + 1);
    for (uint32_t i = 0; i < 4; ++i) CHECK_EQ(view.load(i * kOnesWindow + 8), 0xffffffffu);
  });
  CHECK_EXITED(status);
}

TEST("R12 RLIMIT_DATA exceeded: a closed range that was borrowed is its owner's memory, for ever") {
  need_no_sanitizer();
  const int status = check::run_in_child([] {
    start_library();
    Object* object = owned_object(2 * kPageSize);
    View borrowed = map(object, {.borrowed = true});
    Object* others = owned_object(kPageSize);
    const rlimit unlimited = exceed(RLIMIT_DATA);
    revoke(object);
    borrowed.store(0, 99);
    borrowed.close();
    CHECK_EQ(borrowed.load(0), 0u);
    borrowed.store(0, 98);
    borrowed.store(kPageSize, 97);
    setrlimit(RLIMIT_DATA, &unlimited);
    for (int i = 0; i < 2000; ++i) map(others).close();  // until the library has forgotten that it ever was there
    CHECK_EQ(borrowed.load(0), 98u);
    CHECK_EQ(borrowed.load(kPageSize), 97u);
  });
  CHECK_EXITED(status);
}

TEST("R12 RLIMIT_DATA exceeded: a closed range holds zeros, and a later mapping's fill there is zeros again") {
  need_no_sanitizer();
  const int status = check::run_in_child([] {
    start_library();
    Subject first(true, Fill::zeros);
    Object* second_object = owned_object(16 * kPageSize);
    const rlimit unlimited = exceed(RLIMIT_DATA);
    revoke(first.object);
    first.view.store(0, 99);
    first.view.close();
    CHECK_EQ(first.view.load(0), 0u);
    first.view.store(4, 98);
    CHECK_EQ(first.view.load(4), 98u);
    // The owner of the addresses gives them back and gets the same ones again.
    setrlimit(RLIMIT_DATA, &unlimited);
    munmap(first.view.at, first.view.span);
    REQUIRE(mmap(first.view.at, first.view.span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                 0) != MAP_FAILED);
    const View second = map(second_object, {.at = first.view.at});
    exceed(RLIMIT_DATA);
    CHECK_EQ(second.load(0), 0u);
    second.store(0, 97);
    revoke(second_object);
    CHECK_EQ(second.load(0), 0u);
    CHECK_EQ(second.load(4), 0u);
  });
  CHECK_EXITED(status);
}

TEST("R7 a sealed range of owned memory: truncation alone takes it away") {
  need_mseal();
  const auto sealed = [] {
    start_library();
    const Subject subject(true, Fill::zeros);
    REQUIRE(syscall(kSysMseal, subject.view.at, subject.view.span, 0) == 0);
    const RevokeCounts counts = revoke(subject.object);
    CHECK(counts.truncated);
    CHECK_EQ(counts.replaced, 0u);
    CHECK_EQ(counts.protected_, 1u);
    CHECK_EQ(counts.failed, 0u);
    CHECK(subject.view.mapping->unfillable);
    CHECK_EQ(subject.view.state(), State::revoked);
    for (size_t at = 0; at < subject.view.span; at += kPageSize) CHECK(unreachable(subject.view, at));
  };
  CHECK_EXITED(check::run_in_child(sealed));
  // Nothing can be mapped there, not even a fill: raw access dies, at once and not by hanging.
  const int raw = check::run_in_child([] {
    start_library();
    const Subject subject(true, Fill::zeros);
    syscall(kSysMseal, subject.view.at, subject.view.span, 0);
    revoke(subject.object);
    subject.view.load(0);
  });
  CHECK(WIFSIGNALED(raw) && (WTERMSIG(raw) == SIGBUS || WTERMSIG(raw) == SIGSEGV));
}

TEST("R7 a sealed range of memory of other code: guard pages, or counted as failed") {
  need_mseal();
  const int status = check::run_in_child([] {
    start_library();
    const Subject subject(false, Fill::zeros);
    REQUIRE(syscall(kSysMseal, subject.view.at, subject.view.span, 0) == 0);
    const RevokeCounts counts = revoke(subject.object);
    CHECK_EQ(counts.mappings, 1u);
    CHECK_EQ(counts.replaced, 0u);
    CHECK(!counts.truncated);
    CHECK(subject.view.mapping->unfillable);
    CHECK_EQ(subject.view.state(), State::revoked);
    if (features().guard) {
      CHECK_EQ(counts.protected_, 1u);
      CHECK_EQ(counts.failed, 0u);
      for (size_t at = 0; at < subject.view.span; at += kPageSize) CHECK(unreachable(subject.view, at));
    } else {
      CHECK_EQ(counts.protected_, 0u);
      CHECK_EQ(counts.failed, 1u);
      CHECK_EQ(subject.view.load(0), 4711u);  // the named exception: still the object's memory, and the status says revoked
    }
  });
  CHECK_EXITED(status);
}

TEST("R7 without guard pages a sealed range of memory of other code is counted as failed") {
  need_mseal();
  const int status = check::run_in_child([] {
    switch_off_features("guard");
    start_library();
    const Subject subject(false, Fill::zeros), other(false, Fill::zeros);
    REQUIRE(syscall(kSysMseal, subject.view.at, subject.view.span, 0) == 0);
    const RevokeCounts counts = revoke(subject.object);
    CHECK_EQ(counts.failed, 1u);
    CHECK_EQ(counts.mappings, 1u);
    CHECK_EQ(subject.view.status(), static_cast<uint32_t>(State::revoked));
    CHECK_EQ(revoke(other.object).replaced, 1u);
  });
  CHECK_EXITED(status);
}

TEST("R7 a seal on a part of a mapping leaves the rest replaced") {
  need_mseal();
  const int status = check::run_in_child([] {
    start_library();
    const Subject subject(true, Fill::zeros);
    REQUIRE(syscall(kSysMseal, subject.view.at + 4 * kPageSize, kPageSize, 0) == 0);
    const RevokeCounts counts = revoke(subject.object);
    CHECK_EQ(counts.protected_, 1u);
    for (size_t at = 0; at < subject.view.span; at += kPageSize) CHECK(unreachable(subject.view, at));
    CHECK_EQ(maps_of(subject.view.at, kPageSize).at(0).path, std::string("/memfd:revoked (deleted)"));
    CHECK_EQ(maps_of(subject.view.at + 8 * kPageSize, kPageSize).at(0).path, std::string("/memfd:revoked (deleted)"));
  });
  CHECK_EXITED(status);
}

TEST("R7 L1 closing a sealed mapping leaves no live memory of an owned object and does not hang") {
  need_mseal();
  const int status = check::run_in_child([] {
    start_library();
    Subject subject(true, Fill::zeros);
    REQUIRE(syscall(kSysMseal, subject.view.at, subject.view.span, 0) == 0);
    revoke(subject.object);
    subject.view.close();
    uint64_t value;
    CHECK(!guarded_load(subject.view.at, 4, &value) || value == 0);
  });
  CHECK_EXITED(status);
}
