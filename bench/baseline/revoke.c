// revoke MAPPINGS PAGES OBJECTS PROCESSES: truncates a memfd and replaces each mapping of it by one of an empty memfd, asking the
// kernel before each whether the range is still that memfd's, as the library must. Mean of so many memfds; the first is mapped by
// so many other processes too.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/types.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hold.h"
#include "sample.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct query {  // struct procmap_query of Linux 6.11
  __u64 size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
  __u32 dev_major, dev_minor, vma_name_size, build_id_size;
  __u64 vma_name_addr, build_id_addr;
};
#define PROCMAP_QUERY _IOWR('f', 17, struct query)

static size_t mappings, bytes, objects, processes;
static int maps_fd, tombstone;

static int is_ours(const char* at, ino_t inode) {
  struct query query;
  memset(&query, 0, sizeof query);
  query.size = sizeof query;
  query.query_addr = (uintptr_t)at;
  return ioctl(maps_fd, PROCMAP_QUERY, &query) != 0 || query.inode == inode;  // a kernel without it: nothing to ask
}

struct object {
  int fd;
  ino_t inode;
  char** at;
};

static struct object make(void) {
  struct object made = {.fd = memfd_create("device", MFD_CLOEXEC), .at = malloc(mappings * sizeof(char*))};
  struct stat status;
  must(made.fd >= 0 && ftruncate(made.fd, (off_t)bytes) == 0 && fstat(made.fd, &status) == 0, "memfd");
  made.inode = status.st_ino;
  for (size_t i = 0; i < mappings; ++i) {
    made.at[i] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0);
    must(made.at[i] != MAP_FAILED, "mmap");
    // Present and dirty, as map({ populate: true }) makes them; MAP_POPULATE of a shared mapping would only read.
    must(madvise(made.at[i], bytes, MADV_POPULATE_WRITE) == 0, "madvise");
  }
  return made;
}

static void take_away(const struct object* object) {
  must(ftruncate(object->fd, 0) == 0, "ftruncate");
  for (size_t i = 0; i < mappings; ++i) {
    char* at = object->at[i];
    must(is_ours(at, object->inode), "PROCMAP_QUERY");
    must(mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, tombstone, 0) != MAP_FAILED, "mmap");
  }
}

static void dispose(struct object* object) {
  for (size_t i = 0; i < mappings; ++i) munmap(object->at[i], bytes);
  free(object->at);
  close(object->fd);
}

static double sample(void) {
  struct object* made = malloc(objects * sizeof *made);
  pid_t* children = malloc(processes * sizeof *children);
  for (size_t i = 0; i < objects; ++i) made[i] = make();
  if (processes > 0) hold(made[0].fd, bytes, children, processes);
  settle();
  const uint64_t start = now_ns();
  for (size_t i = 0; i < objects; ++i) take_away(&made[i]);
  const uint64_t end = now_ns();
  if (processes > 0) let_go(children, processes);
  for (size_t i = 0; i < objects; ++i) dispose(&made[i]);
  free(children);
  free(made);
  return (double)(end - start) / (double)objects;
}

int main(int argc, char** argv) {
  must(argc == 5, "arguments");
  mappings = strtoul(argv[1], NULL, 10);
  bytes = strtoul(argv[2], NULL, 10) * 4096;
  objects = strtoul(argv[3], NULL, 10);
  processes = strtoul(argv[4], NULL, 10);
  maps_fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  tombstone = memfd_create("revoked", MFD_CLOEXEC);
  return serve(sample);
}
