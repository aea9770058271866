// Kernel interfaces newer than the headers this builds against (Debian 12 ships 6.1's). Numbers and layouts are the
// kernel's user ABI and never change; each is used only after the running kernel has been seen to have it.
#pragma once

#include <linux/ioctl.h>
#include <linux/types.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace revocable::abi {

// include/uapi/linux/fs.h, Linux 6.11: one VMA of /proc/PID/maps by address, without parsing text.
struct procmap_query {
  __u64 size;
  __u64 query_flags;
  __u64 query_addr;
  __u64 vma_start;
  __u64 vma_end;
  __u64 vma_flags;
  __u64 vma_page_size;
  __u64 vma_offset;
  __u64 inode;
  __u32 dev_major;
  __u32 dev_minor;
  __u32 vma_name_size;
  __u32 build_id_size;
  __u64 vma_name_addr;
  __u64 build_id_addr;
};
inline constexpr unsigned long kProcmapQuery = _IOWR('f', 17, procmap_query);
inline constexpr uint64_t kVmaReadable = 0x01, kVmaWritable = 0x02, kVmaExecutable = 0x04, kVmaShared = 0x08;
inline constexpr uint64_t kCoveringOrNextVma = 0x10;

// include/uapi/linux/futex.h, Linux 5.16.
struct futex_waitv {
  __u64 val;
  __u64 uaddr;
  __u32 flags;
  __u32 reserved;
};
inline constexpr uint32_t kFutex32 = 2;
inline constexpr long kSysFutexWaitv = 449;  // the same number on every architecture
inline constexpr int kFutexWaitvMax = 128;

inline constexpr int kMadvCold = 20, kMadvPageout = 21;                // Linux 5.4
inline constexpr int kMadvPopulateRead = 22, kMadvPopulateWrite = 23;  // Linux 5.14
inline constexpr int kMadvDontneedLocked = 24;                         // Linux 5.18
inline constexpr int kMadvGuardInstall = 102, kMadvGuardRemove = 103;  // Linux 6.13, file mappings 6.15
inline constexpr int kSealFutureWrite = 0x10, kSealExec = 0x20;        // Linux 5.1, 6.3
inline constexpr unsigned kMfdNoexecSeal = 8;                          // Linux 6.3
inline constexpr unsigned kMfdHugeShift = 26;                          // log2 of the page size goes here

// include/uapi/linux/userfaultfd.h.
inline constexpr int kUffdUserModeOnly = 1;            // Linux 5.11
inline constexpr uint64_t kUffdRegisterModeMinor = 4;  // Linux 5.13, as the next three
inline constexpr uint64_t kUffdFeatureMinorShmem = uint64_t{1} << 10;
inline constexpr uint64_t kUffdPagefaultFlagMinor = 4;
struct uffd_continue {
  __u64 start, len;
  __u64 mode;
  __s64 mapped;
};
inline constexpr unsigned long kUffdContinue = _IOWR(0xAA, 0x07, uffd_continue);
inline constexpr uint64_t kUffdFeatureWpHugetlbfsShmem = uint64_t{1} << 12;  // Linux 5.19
inline constexpr uint64_t kUffdFeatureWpUnpopulated = uint64_t{1} << 13;     // Linux 6.4, as the next one
inline constexpr uint64_t kUffdContinueModeWp = 2;                           // mapped write-protected right away

inline int tid() { return static_cast<int>(syscall(SYS_gettid)); }

}  // namespace revocable::abi
