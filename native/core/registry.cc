#include "core/registry.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <linux/magic.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_map>
#include <vector>

#include "core/event_ring.h"
#include "core/linux_abi.h"
#include "core/mapping.h"
#include "core/memfd.h"
#include "core/page.h"
#include "core/register_bus.h"
#include "core/service.h"

namespace revocable {
namespace {

struct Registry {
  std::mutex lock;
  std::atomic<uint32_t> waiting{0};
  std::unordered_map<uint64_t, Object*> objects;
  std::vector<Object*> unused;  // records to recycle: the handler may still look at one, so they are never freed
  uint64_t next_id = 1;
};

// Never destroyed: threads and handlers outlive static destructors.
Registry& registry() {
  static Registry* instance = new Registry;
  return *instance;
}

const sigset_t& asynchronous_signals() {
  static const sigset_t set = [] {
    sigset_t all;
    sigfillset(&all);
    for (const int signal : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) sigdelset(&all, signal);
    return all;
  }();
  return set;
}

void lock_registry() {
  registry().waiting.fetch_add(1, std::memory_order_relaxed);
  registry().lock.lock();
  registry().waiting.fetch_sub(1, std::memory_order_relaxed);
}

// What the object's pages are like: how large, whether bounded by a size, whether seals can speak of it.
Failure inspect_file(Object* object) {
  struct stat status;
  if (fstat(object->fd, &status) != 0) return Failure::from_errno("fstat");
  if (S_ISDIR(status.st_mode)) return {EISDIR, "open"};
  object->file_dev = status.st_dev;
  object->inode = status.st_ino;
  object->regular = S_ISREG(status.st_mode);
  struct statfs file_system;
  const bool huge = fstatfs(object->fd, &file_system) == 0 && file_system.f_type == HUGETLBFS_MAGIC;
  object->page_shift = huge ? static_cast<unsigned>(__builtin_ctzl(static_cast<unsigned long>(file_system.f_bsize))) : kPageShift;
  object->sealable = fcntl(object->fd, F_GET_SEALS) >= 0;
  return {};
}

// A trial mapping of one page, so that what cannot be mapped is refused when it is opened, with mmap's own error.
Failure try_mapping(const Object* object) {
  const size_t length = size_t{1} << object->page_shift;
  const int prot = object->writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* at = mmap(nullptr, length, prot, MAP_SHARED, object->fd, 0);
  if (at == MAP_FAILED) return Failure::from_errno("mmap");
  munmap(at, length);
  return {};
}

void close_descriptor(Object* object) {
  if (object->fd >= 0 && still_has_descriptor(object)) close(object->fd);
  object->fd = -1;
}

Object* new_object_locked() {
  Registry& r = registry();
  Object* object;
  if (r.unused.empty()) {
    object = new Object;
  } else {
    object = r.unused.back();
    r.unused.pop_back();
  }
  object->id = r.next_id++;
  object->revoke_cause.store(Cause::none);
  object->revoke_wanted.store(false);
  object->revoke_done.store(0);
  object->vma_identity_known = false;
  object->counts = {};
  object->references = 1;
  r.objects.emplace(object->id, object);
  return object;
}

Failure adopt(int fd, const ObjectOptions& options, bool owned, Object** result) {
  Object probe;
  probe.fd = fd;
  probe.owned = owned;
  probe.writable = options.writable;
  Failure failure = inspect_file(&probe);
  if (!failure) failure = try_mapping(&probe);
  if (failure) {
    close(fd);
    return failure;
  }
  RegistryLock lock;
  Object* object = new_object_locked();
  object->fd = fd;
  object->owned = owned;
  object->writable = options.writable;
  object->scope = options.scope;
  object->name = options.name;
  object->sealable = probe.sealable.load();
  object->regular = probe.regular.load();
  object->page_shift = probe.page_shift;
  object->file_dev = probe.file_dev;
  object->inode = probe.inode;
  object->device = options.device;
  object->device_region = options.device_region;
  object->registers = options.registers;
  object->supply = options.supply;
  object->state.store(State::live);
  *result = object;
  return {};
}

}  // namespace

SignalsBlocked::SignalsBlocked() { pthread_sigmask(SIG_BLOCK, &asynchronous_signals(), &old_mask_); }
SignalsBlocked::~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr); }

RegistryLock::RegistryLock() { lock_registry(); }
RegistryLock::~RegistryLock() { registry().lock.unlock(); }

void RegistryLock::yield() {
  registry().lock.unlock();
  // The mutex is not fair: without a pause this thread would take it again before a waiter has woken up.
  for (int i = 0; i < 100 && registry().waiting.load(std::memory_order_relaxed) != 0; ++i) sched_yield();
  lock_registry();
}

void RegistryLock::pause() {
  registry().lock.unlock();
  const timespec length{0, 20'000};
  nanosleep(&length, nullptr);
  lock_registry();
}

Failure core_start() {
  static std::mutex once;
  static bool started = false;
  std::lock_guard guard(once);
  if (started) return {};
  Failure failure = revocation_files_open();
  if (!failure) failure = status_table_open();
  if (!failure) failure = VmaReader::open();
  if (!failure) failure = service_start();
  started = !failure;
  return failure;
}

Failure object_create(uint64_t size, bool huge_pages, const ObjectOptions& options, Object** object) {
  const int fd = memfd(options.name[0] == '\0' ? "revocable" : options.name,
                       huge_pages ? MFD_HUGETLB | (kHugePageShift << abi::kMfdHugeShift) : 0);
  if (fd < 0) return Failure::from_errno("memfd_create");
  Failure failure;
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) failure = Failure::from_errno("ftruncate");
  // GROW and SEAL, never SHRINK: the owner can truncate it to nothing, and from then on nobody can undo that; no peer can
  // add F_SEAL_SHRINK to keep it alive.
  else if (fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SEAL) != 0) failure = Failure::from_errno("fcntl");
  if (failure) {
    close(fd);
    return failure;
  }
  return adopt(fd, options, true, object);
}

Failure object_open(const char* path, const ObjectOptions& options, Object** object) {
  // O_NONBLOCK: opening a FIFO must not hang; it is then refused by mmap.
  const int fd = open(path, (options.writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return Failure::from_errno("open");
  return adopt(fd, options, false, object);
}

Failure object_from_fd(int fd, const ObjectOptions& options, Object** object) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Failure::from_errno("fcntl");
  return adopt(copy, options, false, object);
}

bool still_has_descriptor(const Object* object) {
  struct stat status;
  return fstat(object->fd, &status) == 0 && status.st_dev == object->file_dev && status.st_ino == object->inode;
}

Object* object_acquire(uint64_t id) {
  RegistryLock lock;
  const auto found = registry().objects.find(id);
  if (found == registry().objects.end()) return nullptr;
  ++found->second->references;
  return found->second;
}

void object_release_locked(Object* object) {
  if (--object->references != 0) return;
  close_descriptor(object);
  object->state.store(State::closed);
  bus_shut(object->bus.load());
  object->trapped = false;
  object->device.reset();
  object->supply.reset();
  registry().objects.erase(object->id);
  registry().unused.push_back(object);
}

void object_release(Object* object) {
  RegistryLock lock;
  object_release_locked(object);
}

Failure object_size(const Object* object, uint64_t* size) {
  struct stat status;
  if (fstat(object->fd, &status) != 0) return Failure::from_errno("fstat");
  *size = static_cast<uint64_t>(status.st_size);
  return {};
}

std::vector<Object*> objects_of(const Device& device) {
  RegistryLock lock;
  std::vector<Object*> found;
  for (auto& [id, object] : registry().objects) {
    if (object->device.get() != &device) continue;
    ++object->references;
    found.push_back(object);
  }
  return found;
}

bool object_close(Object* object, int caller) {
  RegistryLock lock;
  if (object->state.exchange(State::closed) == State::closed) return false;
  bus_shut(object->bus.load());
  for (RegionList* list : {&object->live, &object->suspended, &object->dead}) {
    while (list->first != nullptr) {
      close_region_locked(list->first, list->first->handles > 1);
      if (list->count % 64 == 0) lock.yield();
    }
  }
  close_descriptor(object);
  Event event;
  event.kind = EventKind::object_changed;
  event.object = object->id;
  push_event(event);
  service_notify(caller);
  return true;
}

}  // namespace revocable
