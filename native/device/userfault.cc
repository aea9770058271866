#include "device/userfault.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>

#include "base/features.h"
#include "base/linux_abi.h"

namespace revocable {
namespace {

constexpr uint64_t kNeeded = UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_MISSING_SHMEM | abi::kUffdFeatureMinorShmem;
constexpr uint64_t kWriteProtection =
    UFFD_FEATURE_PAGEFAULT_FLAG_WP | abi::kUffdFeatureWpHugetlbfsShmem | abi::kUffdFeatureWpUnpopulated;

struct Userfault {
  std::mutex lock;
  int fd = -1;
  bool write_protects = false;
};

// Never destroyed: its threads outlive static destructors.
Userfault& userfault() {
  static Userfault* instance = new Userfault;
  return *instance;
}

int open_descriptor() { return static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | abi::kUffdUserModeOnly)); }

// A descriptor shakes hands once, and is refused when asked for what the kernel does not have: so one is opened to ask.
Failure offered_features(uint64_t* features) {
  const int fd = open_descriptor();
  if (fd < 0) return Failure::from_errno("userfaultfd");
  uffdio_api api{UFFD_API, 0, 0};
  const Failure failure = ioctl(fd, UFFDIO_API, &api) == 0 ? Failure{} : Failure::from_errno("ioctl");
  close(fd);
  *features = api.features;
  return failure;
}

Failure open_as_offered(Userfault& u) {
  if (!features().userfaultfd) return {ENOSYS, "userfaultfd"};
  uint64_t offered = 0;
  const Failure failure = offered_features(&offered);
  if (failure) return failure;
  if ((offered & kNeeded) != kNeeded) return {EOPNOTSUPP, "userfaultfd"};
  u.write_protects = features().userfaultfd_wp && (offered & kWriteProtection) == kWriteProtection;
  const int fd = open_descriptor();
  if (fd < 0) return Failure::from_errno("userfaultfd");
  uffdio_api api{UFFD_API, kNeeded | (u.write_protects ? kWriteProtection : 0), 0};
  if (ioctl(fd, UFFDIO_API, &api) != 0) {
    const Failure refused = Failure::from_errno("ioctl");
    close(fd);
    return refused;
  }
  u.fd = fd;
  return {};
}

// The kernel answers EAGAIN while the process's mappings are being changed, having done a part of the work or nothing.
template <typename Call>
int insist(Call call) {
  int error;
  do error = call() == 0 ? 0 : errno;
  while (error == EAGAIN);
  return error;
}

}  // namespace

Failure userfault_open() {
  Userfault& u = userfault();
  std::lock_guard guard(u.lock);
  return u.fd >= 0 ? Failure{} : open_as_offered(u);
}

void userfault_close() {
  Userfault& u = userfault();
  std::lock_guard guard(u.lock);
  if (u.fd >= 0) close(u.fd);
  u.fd = -1;
}

int userfault_fd() { return userfault().fd; }
bool userfault_write_protects() { return userfault().write_protects; }

Failure userfault_register(uintptr_t start, size_t bytes, bool write_protect) {
  uffdio_register registration{{start, bytes}, UFFDIO_REGISTER_MODE_MISSING | abi::kUffdRegisterModeMinor, 0};
  if (write_protect) registration.mode |= UFFDIO_REGISTER_MODE_WP;
  return ioctl(userfault_fd(), UFFDIO_REGISTER, &registration) == 0 ? Failure{} : Failure::from_errno("userfaultfd");
}

int userfault_copy(uintptr_t start, const void* content, size_t bytes, bool write_protect, size_t* copied) {
  *copied = 0;
  return insist([&] {
    uffdio_copy copy{start + *copied, reinterpret_cast<uintptr_t>(content) + *copied, bytes - *copied,
                     write_protect ? UFFDIO_COPY_MODE_WP : 0, 0};
    const int result = ioctl(userfault_fd(), UFFDIO_COPY, &copy);
    const int error = errno;
    if (copy.copy > 0) *copied += static_cast<size_t>(copy.copy);
    errno = error;
    return result;
  });
}

int userfault_continue(uintptr_t start, size_t bytes, bool write_protect) {
  return insist([&] {
    abi::uffd_continue pages{start, bytes, write_protect ? abi::kUffdContinueModeWp : 0, 0};
    return ioctl(userfault_fd(), abi::kUffdContinue, &pages);
  });
}

int userfault_allow_write(uintptr_t start, size_t bytes) {
  return insist([&] {
    uffdio_writeprotect pages{{start, bytes}, 0};
    return ioctl(userfault_fd(), UFFDIO_WRITEPROTECT, &pages);
  });
}

void userfault_wake(uintptr_t start, size_t bytes) {
  uffdio_range range{start, bytes};
  ioctl(userfault_fd(), UFFDIO_WAKE, &range);
}

}  // namespace revocable
