// revoke MAPPINGS PAGES: truncates a memfd and replaces each mapping of it by one of an empty memfd, asking the kernel before
// each whether the range is still that memfd's, as the library must.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/types.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sample.h"

struct query {  // struct procmap_query of Linux 6.11
  __u64 size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
  __u32 dev_major, dev_minor, vma_name_size, build_id_size;
  __u64 vma_name_addr, build_id_addr;
};
#define PROCMAP_QUERY _IOWR('f', 17, struct query)

static size_t mappings, bytes;
static int maps_fd, tombstone;

static int is_ours(const char* at, ino_t inode) {
  struct query query;
  memset(&query, 0, sizeof query);
  query.size = sizeof query;
  query.query_addr = (uintptr_t)at;
  return ioctl(maps_fd, PROCMAP_QUERY, &query) != 0 || query.inode == inode;  // a kernel without it: nothing to ask
}

static double sample(void) {
  const int fd = memfd_create("device", MFD_CLOEXEC);
  struct stat status;
  must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && fstat(fd, &status) == 0, "memfd");
  char** at = malloc(mappings * sizeof *at);
  for (size_t i = 0; i < mappings; ++i) {
    at[i] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    must(at[i] != MAP_FAILED, "mmap");
  }
  const uint64_t start = now_ns();
  must(ftruncate(fd, 0) == 0, "ftruncate");
  for (size_t i = 0; i < mappings; ++i) {
    must(is_ours(at[i], status.st_ino), "PROCMAP_QUERY");
    must(mmap(at[i], bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, tombstone, 0) != MAP_FAILED, "mmap");
  }
  const uint64_t end = now_ns();
  for (size_t i = 0; i < mappings; ++i) munmap(at[i], bytes);
  free(at);
  close(fd);
  return (double)(end - start);
}

int main(int argc, char** argv) {
  must(argc == 3, "arguments");
  mappings = strtoul(argv[1], NULL, 10);
  bytes = strtoul(argv[2], NULL, 10) * 4096;
  maps_fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  tombstone = memfd_create("revoked", MFD_CLOEXEC);
  return serve(sample);
}
