#include "core/vma_reader.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <system_error>

#include "base/features.h"
#include "base/linux_abi.h"
#include "core/mapping_table.h"

namespace revocable {
namespace {

// Kept open: opening it costs more than the query, and there may be no descriptor left when it is needed.
int g_maps_fd = -1;

// The snapshot of a kernel without PROCMAP_QUERY. Static, as there may be no memory to allocate; more than it holds, and the
// library's own records must do.
Vma g_snapshot[16384];
size_t g_snapshot_count = 0;

bool query(uintptr_t address, Vma* vma) {
  abi::procmap_query q{};
  q.size = sizeof q;
  q.query_flags = abi::kCoveringOrNextVma;
  q.query_addr = address;
  if (ioctl(g_maps_fd, abi::kProcmapQuery, &q) != 0) return false;
  const int prot = ((q.vma_flags & abi::kVmaReadable) != 0 ? PROT_READ : 0) |
                   ((q.vma_flags & abi::kVmaWritable) != 0 ? PROT_WRITE : 0) |
                   ((q.vma_flags & abi::kVmaExecutable) != 0 ? PROT_EXEC : 0);
  *vma = {q.vma_start, q.vma_end, prot, (q.vma_flags & abi::kVmaShared) != 0, q.vma_offset, q.inode, q.dev_major, q.dev_minor};
  return true;
}

// Reads a number and the character behind it, and moves `at` past them.
template <typename Number>
bool take_number(const char*& at, const char* end, int base, char behind, Number* number) {
  const std::from_chars_result found = std::from_chars(at, end, *number, base);
  if (found.ec != std::errc{} || found.ptr == end || *found.ptr != behind) return false;
  at = found.ptr + 1;
  return true;
}

// start-end rwxp offset major:minor inode path
bool parse_line(const char* at, const char* end, Vma* vma) {
  if (!take_number(at, end, 16, '-', &vma->start) || !take_number(at, end, 16, ' ', &vma->end)) return false;
  const char* flags = at;
  at = std::find(at, end, ' ');
  if (at == end || at - flags != 4) return false;
  ++at;
  if (!take_number(at, end, 16, ' ', &vma->offset) || !take_number(at, end, 16, ':', &vma->major) ||
      !take_number(at, end, 16, ' ', &vma->minor) || !take_number(at, end, 10, ' ', &vma->inode)) {
    return false;
  }
  vma->prot = (flags[0] == 'r' ? PROT_READ : 0) | (flags[1] == 'w' ? PROT_WRITE : 0) | (flags[2] == 'x' ? PROT_EXEC : 0);
  vma->shared = flags[3] == 's';
  return true;
}

}  // namespace

Failure VmaReader::open() {
  if (g_maps_fd < 0) g_maps_fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  return g_maps_fd < 0 ? Failure::from_errno("open") : Failure{};
}

// Block by block through a static buffer, keeping only what matters: at the limit of mappings the text has megabytes, and there
// may be no memory for it.
Failure VmaReader::begin(uintptr_t also_start, uintptr_t also_end) {
  also_start_ = also_start;
  also_end_ = also_end;
  if (features().procmap_query) return {};
  static char block[65536];
  g_snapshot_count = 0;
  size_t held = 0;
  for (off_t at = 0;;) {
    const ssize_t got = pread(g_maps_fd, block + held, sizeof block - 1 - held, at);
    if (got < 0) {
      usable_ = false;
      return Failure::from_errno("pread");
    }
    if (got == 0) break;
    at += got;
    held += static_cast<size_t>(got);
    block[held] = '\0';
    held = take_lines(block, held);
  }
  return {};
}

// Parses the whole lines of `text`, moves the rest to its beginning, and returns how much that is.
size_t VmaReader::take_lines(char* text, size_t length) {
  char* line = text;
  for (char* end; (end = strchr(line, '\n')) != nullptr; line = end + 1) {
    Vma vma;
    if (!parse_line(line, end, &vma) || !is_wanted(vma)) continue;
    usable_ = usable_ && g_snapshot_count < std::size(g_snapshot);
    if (usable_) g_snapshot[g_snapshot_count++] = vma;
  }
  const size_t rest = length - static_cast<size_t>(line - text);
  memmove(text, line, rest);
  return rest;
}

bool VmaReader::is_wanted(const Vma& vma) const {
  return (vma.start < also_end_ && also_start_ < vma.end) || open_mapping_within(vma.start, vma.end) != nullptr;
}

bool VmaReader::find(uintptr_t address, Vma* vma) const {
  if (features().procmap_query) return query(address, vma);
  const Vma* end = g_snapshot + g_snapshot_count;
  const Vma* found = std::upper_bound(static_cast<const Vma*>(g_snapshot), end, address,
                                      [](uintptr_t value, const Vma& candidate) { return value < candidate.end; });
  if (found == end) return false;
  *vma = *found;
  return true;
}

}  // namespace revocable
