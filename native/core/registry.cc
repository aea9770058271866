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
#include <cstdio>
#include <unordered_map>

#include "base/file_size.h"
#include "base/linux_abi.h"
#include "base/memfd.h"
#include "base/page.h"
#include "core/event_ring.h"
#include "core/mapping.h"
#include "core/service.h"
#include "core/vm_ops.h"

namespace revocable {
namespace {

struct Registry {
  std::mutex lock;
  std::atomic<uint32_t> waiting{0};
  std::unordered_map<uint64_t, Object*> objects;
  Object* unused = nullptr;  // records to recycle: the handler may still look at one, so they are never freed
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
  object->sized = object->regular || S_ISBLK(status.st_mode);
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

bool is_file_of(const Object* object, int fd, uint64_t* size) {
  struct stat status;
  if (fstat(fd, &status) != 0) return false;
  if (size != nullptr) *size = static_cast<uint64_t>(status.st_size);
  return status.st_dev == object->file_dev && status.st_ino == object->inode;
}

void close_descriptor(Object* object) {
  if (object->fd >= 0 && still_has_descriptor(object)) close(object->fd);
  if (object->owner_fd >= 0 && is_file_of(object, object->owner_fd, nullptr)) close(object->owner_fd);
  object->fd = object->owner_fd = -1;
}

Object* new_object_locked() {
  Registry& r = registry();
  Object* object;
  if (r.unused == nullptr) {
    object = new Object;
  } else {
    object = r.unused;
    r.unused = object->next_unused;
  }
  object->id = r.next_id++;
  object->revoke_cause.store(Cause::none);
  object->revoke_taken.store(false);
  object->spare_holders.store(false);
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
  object->sized = probe.sized;
  object->page_shift = probe.page_shift;
  object->file_dev = probe.file_dev;
  object->inode = probe.inode;
  object->backing = options.backing;
  object->device_region = options.device_region;
  object->registers = options.registers;
  object->supply = options.supply;
  object->gate.store(State::live);
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

static Failure write_content(int fd, const NewMemory& memory) {
  const char* content = static_cast<const char*>(memory.content);
  for (size_t done = 0; done < memory.content_bytes;) {
    const ssize_t written = pwrite(fd, content + done, memory.content_bytes - done, static_cast<off_t>(done));
    if (written < 0) return Failure::from_errno("pwrite");
    done += static_cast<size_t>(written);
  }
  return {};
}

static Failure fill_and_seal(int fd, const NewMemory& memory) {
  if (ftruncate(fd, static_cast<off_t>(memory.size)) != 0) return Failure::from_errno("ftruncate");
  const Failure failure = write_content(fd, memory);
  if (failure) return failure;
  // GROW and SEAL: the owner can truncate it to nothing, from then on nothing can undo that, and no peer can add F_SEAL_SHRINK to
  // keep it alive. With SHRINK, which only its owner can ask for, revocation is left with the mappings of this process.
  return add_seals(fd, F_SEAL_GROW | F_SEAL_SEAL | memory.seals);
}

// The same file, open for reading only: shared mappings of memory that is sealed against writing need that before Linux 6.7, and
// its holder can neither write nor truncate.
static int reopen_for_reading(int fd) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return open(path, O_RDONLY | O_CLOEXEC);
}

static bool is_sealed_against_writing(int seals) { return (seals & (F_SEAL_WRITE | abi::kSealFutureWrite)) != 0; }

Failure object_create(const NewMemory& memory, const ObjectOptions& options, Object** object) {
  const int fd = memfd(options.name[0] == '\0' ? "revocable" : options.name,
                       memory.huge_pages ? MFD_HUGETLB | (kHugePageShift << abi::kMfdHugeShift) : 0);
  if (fd < 0) return Failure::from_errno("memfd_create");
  Failure failure = fill_and_seal(fd, memory);
  if (!failure && !is_sealed_against_writing(memory.seals)) return adopt(fd, options, true, object);
  const int reading = failure ? -1 : reopen_for_reading(fd);
  if (!failure && reading < 0) failure = Failure::from_errno("open");
  ObjectOptions unwritable = options;
  unwritable.writable = false;
  if (!failure) failure = adopt(reading, unwritable, true, object);
  if (failure) close(fd);
  else (*object)->owner_fd = fd;
  return failure;
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
  const int seals = fcntl(copy, F_GET_SEALS);
  const Failure failure = adopt(copy, options, false, object);
  if (failure.errnum != EPERM || options.writable || seals < 0 || !is_sealed_against_writing(seals)) return failure;
  const int reading = reopen_for_reading(fd);
  return reading < 0 ? failure : adopt(reading, options, false, object);
}

bool still_has_descriptor(const Object* object, uint64_t* size) { return is_file_of(object, object->fd, size); }

bool truncate_owned(const Object* object) {
  const int fd = object->owner_fd >= 0 ? object->owner_fd : object->fd.load();
  uint64_t size = 0;
  if (!object->owned || !is_file_of(object, fd, &size)) return false;
  if (!object->spare_holders.load()) return ftruncate(fd, 0) == 0;
  fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
  return false;
}

Failure object_descriptor(const Object* object, bool writable, int* fd) {
  const int owner = object->owner_fd >= 0 ? object->owner_fd : object->fd.load();
  if (!is_file_of(object, owner, nullptr)) return {EBADF, "fcntl"};
  if (writable) {
    *fd = fcntl(object->fd, F_DUPFD_CLOEXEC, 3);
    return *fd >= 0 ? Failure{} : Failure::from_errno("fcntl");
  }
  if (object->owned && fchmod(owner, 0444) != 0) return Failure::from_errno("fchmod");
  *fd = reopen_for_reading(owner);
  return *fd >= 0 ? Failure{} : Failure::from_errno("open");
}

int object_seals(const Object* object) {
  const int seals = fcntl(object->fd, F_GET_SEALS);
  return seals < 0 ? 0 : seals;
}

Object* object_acquire(uint64_t id) {
  RegistryLock lock;
  const auto found = registry().objects.find(id);
  if (found == registry().objects.end()) return nullptr;
  ++found->second->references;
  return found->second;
}

// Linear in its mappings; a few nanoseconds each.
static void settle_gate(Object* object) {
  for (const MappingList* list : {&object->live, &object->suspended, &object->dead}) {
    for (const Mapping* mapping = list->first; mapping != nullptr; mapping = mapping->next) follow_gate(mapping);
  }
  object->state.store(object->gate.load());
}

void set_gate_locked(Object* object, State gate) {
  object->gate.store(gate);
  settle_gate(object);
}

State object_state(Object* object) {
  const State state = object->state.load();
  if (state == object->gate.load()) return state;
  RegistryLock lock;
  settle_gate(object);
  return object->state.load();
}

void object_release_locked(Object* object) {
  if (--object->references != 0) return;
  close_descriptor(object);
  set_gate_locked(object, State::closed);
  if (object->backing != nullptr) object->backing->ops.shut(object);
  object->trapped = false;
  object->backing.reset();
  object->supply.reset();
  registry().objects.erase(object->id);
  object->next_unused = registry().unused;
  registry().unused = object;
}

void object_release(Object* object) {
  RegistryLock lock;
  object_release_locked(object);
}

Failure object_size(const Object* object, uint64_t* size) {
  struct stat status;
  if (fstat(object->fd, &status) != 0) return Failure::from_errno("fstat");
  *size = file_size(object->fd, status);
  return {};
}

void revoke_gates_of(const Backing& backing) {
  RegistryLock lock;
  for (auto& [id, object] : registry().objects) {
    if (object->backing.get() == &backing && object->gate.load() != State::closed) set_gate_locked(object, State::revoked);
  }
}

Object* unrevoked_object_of(const Backing& backing) {
  RegistryLock lock;
  for (auto& [id, object] : registry().objects) {
    if (object->backing.get() != &backing || object->gate.load() == State::closed || object->revoke_taken.load()) continue;
    ++object->references;
    return object;
  }
  return nullptr;
}

bool object_close(Object* object, int caller) {
  RegistryLock lock;
  if (object->gate.load() == State::closed) return false;
  set_gate_locked(object, State::closed);
  if (object->backing != nullptr) object->backing->ops.shut(object);
  for (MappingList* list : {&object->live, &object->suspended, &object->dead}) {
    while (list->first != nullptr) {
      close_mapping_locked(list->first, list->first->handles > 1);
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
