#include "core/vma_reader.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>

#include "core/features.h"
#include "core/linux_abi.h"

namespace revocable {
namespace {

// Kept open: opening it costs more than the query.
int maps_fd() {
  static const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  return fd;
}

bool query(uintptr_t address, Vma* vma) {
  abi::procmap_query q{};
  q.size = sizeof q;
  q.query_flags = abi::kCoveringOrNextVma;
  q.query_addr = address;
  if (ioctl(maps_fd(), abi::kProcmapQuery, &q) != 0) return false;
  const int prot = ((q.vma_flags & abi::kVmaReadable) != 0 ? PROT_READ : 0) |
                   ((q.vma_flags & abi::kVmaWritable) != 0 ? PROT_WRITE : 0) |
                   ((q.vma_flags & abi::kVmaExecutable) != 0 ? PROT_EXEC : 0);
  *vma = {q.vma_start, q.vma_end, prot, (q.vma_flags & abi::kVmaShared) != 0, q.vma_offset, q.inode, q.dev_major, q.dev_minor};
  return true;
}

Failure read_text(std::string* text) {
  const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Failure::from_errno("open");
  char block[65536];
  ssize_t got;
  while ((got = read(fd, block, sizeof block)) > 0) text->append(block, static_cast<size_t>(got));
  const Failure failure = got < 0 ? Failure::from_errno("read") : Failure{};
  close(fd);
  return failure;
}

bool parse_line(const char* line, Vma* vma) {
  char flags[5];
  if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %" SCNx64 " %x:%x %" SCNu64, &vma->start, &vma->end, flags, &vma->offset,
             &vma->major, &vma->minor, &vma->inode) != 7) {
    return false;
  }
  vma->prot = (flags[0] == 'r' ? PROT_READ : 0) | (flags[1] == 'w' ? PROT_WRITE : 0) | (flags[2] == 'x' ? PROT_EXEC : 0);
  vma->shared = flags[3] == 's';
  return true;
}

}  // namespace

Failure VmaReader::begin() {
  if (features().procmap_query) return {};
  snapshot_.clear();
  std::string text;
  const Failure failure = read_text(&text);
  if (failure) return failure;
  for (const char* line = text.c_str(); *line != '\0';) {
    Vma vma;
    if (parse_line(line, &vma)) snapshot_.push_back(vma);
    const char* end = strchr(line, '\n');
    if (end == nullptr) break;
    line = end + 1;
  }
  return {};
}

bool VmaReader::find(uintptr_t address, Vma* vma) const {
  if (features().procmap_query) return query(address, vma);
  const auto found = std::upper_bound(snapshot_.begin(), snapshot_.end(), address,
                                      [](uintptr_t value, const Vma& candidate) { return value < candidate.end; });
  if (found == snapshot_.end()) return false;
  *vma = *found;
  return true;
}

}  // namespace revocable
