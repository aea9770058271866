'use strict';
/**
 * System calls on addresses, by koffi: for tests, and for the programs they run in processes of their own. Each answers what the
 * kernel answered, or the negative errno, so that a test can name the error it expects.
 */
const { ftruncateSync, readSync, writeSync } = require('node:fs');
const { constants } = require('node:os');
const koffi = require('koffi');

const libc = koffi.load(null);
const PAGE = 4096;

const ARM = process.arch === 'arm64';
const SYS = {
  mseal: 462,
  userfaultfd: ARM ? 282 : 323,
};

const PROT = { NONE: 0, READ: 1, WRITE: 2 };
const MAP = { SHARED: 1, PRIVATE: 2, FIXED: 0x10, ANONYMOUS: 0x20, NORESERVE: 0x4000, FIXED_NOREPLACE: 0x100000 };
const MREMAP = { MAYMOVE: 1, FIXED: 2, DONTUNMAP: 4 };
const MADV = {
  NORMAL: 0,
  WILLNEED: 3,
  DONTNEED: 4,
  FREE: 8,
  WIPEONFORK: 18,
  COLD: 20,
  PAGEOUT: 21,
  POPULATE_READ: 22,
  POPULATE_WRITE: 23,
  DONTNEED_LOCKED: 24,
};
const SEAL = { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8, FUTURE_WRITE: 0x10, EXEC: 0x20 };
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const FALLOC_KEEP_SIZE_PUNCH_HOLE = 3;

const functions = {
  mmap: libc.func('int64 mmap(uint64 at, size_t bytes, int prot, int flags, int fd, int64 offset)'),
  munmap: libc.func('int munmap(uint64 at, size_t bytes)'),
  mprotect: libc.func('int mprotect(uint64 at, size_t bytes, int prot)'),
  mremap: libc.func('int64 mremap(uint64 at, size_t old_bytes, size_t new_bytes, int flags, ...)'),
  madvise: libc.func('int madvise(uint64 at, size_t bytes, int advice)'),
  mlock: libc.func('int mlock(uint64 at, size_t bytes)'),
  mlockall: libc.func('int mlockall(int flags)'),
  munlockall: libc.func('int munlockall()'),
  pread: libc.func('int64 pread(int fd, uint64 to, size_t bytes, int64 offset)'),
  pwrite: libc.func('int64 pwrite(int fd, uint64 from, size_t bytes, int64 offset)'),
  read: libc.func('int64 read(int fd, uint64 to, size_t bytes)'),
  write: libc.func('int64 write(int fd, uint64 from, size_t bytes)'),
  fcntl: libc.func('int fcntl(int fd, int command, ...)'),
  fallocate: libc.func('int fallocate(int fd, int mode, int64 offset, int64 bytes)'),
  ftruncate: libc.func('int ftruncate(int fd, int64 bytes)'),
  memfd_create: libc.func('int memfd_create(const char *name, unsigned int flags)'),
  pipe: libc.func('int pipe(_Out_ int *fds)'),
  ioctl: libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)'),
  syscall3: libc.func('long syscall(long number, uint64 a, uint64 b, uint64 c)'),
  perf_event_open: libc.func('long syscall(long number, uint8_t *attributes, long pid, long cpu, long group, long flags)'),
  waitpid: libc.func('int waitpid(int pid, _Out_ int *status, int options)'),
};

/** The answer as a number where it is one, or the negative errno. */
function answer(result) {
  return result === -1 || result === -1n ? -koffi.errno() : result;
}

const mmap = (at, bytes, prot, flags, fd = -1, offset = 0) => answer(functions.mmap(at, bytes, prot, flags, fd, offset));
const munmap = (at, bytes) => answer(functions.munmap(at, bytes));
const mprotect = (at, bytes, prot) => answer(functions.mprotect(at, bytes, prot));
const mremap = (at, oldBytes, newBytes, flags, to = 0n) => answer(functions.mremap(at, oldBytes, newBytes, flags, 'uint64', to));
const madvise = (at, bytes, advice) => answer(functions.madvise(at, bytes, advice));
const mlock = (at, bytes) => answer(functions.mlock(at, bytes));
const mlockall = (flags) => answer(functions.mlockall(flags));
const munlockall = () => answer(functions.munlockall());
const mseal = (at, bytes) => answer(functions.syscall3(SYS.mseal, at, bytes, 0));
const read = (fd, to, bytes) => answer(functions.read(fd, to, bytes));
const write = (fd, from, bytes) => answer(functions.write(fd, from, bytes));
const ftruncate = (fd, bytes) => answer(functions.ftruncate(fd, bytes));
const fallocate = (fd, mode, offset, bytes) => answer(functions.fallocate(fd, mode, offset, bytes));
const punchHole = (fd, offset, bytes) => fallocate(fd, FALLOC_KEEP_SIZE_PUNCH_HOLE, offset, bytes);
const addSeals = (fd, seals) => answer(functions.fcntl(fd, F_ADD_SEALS, 'int', seals));
const getSeals = (fd) => answer(functions.fcntl(fd, F_GET_SEALS, 'int', 0));
const ioctl = (fd, request, argument) => answer(functions.ioctl(fd, request, argument));
const userfaultfd = (flags) => answer(functions.syscall3(SYS.userfaultfd, flags, 0, 0));

function memfd(bytes, { sealable = true } = {}) {
  const fd = answer(functions.memfd_create('kernel-case', MFD_CLOEXEC | (sealable ? MFD_ALLOW_SEALING : 0)));
  ftruncateSync(fd, bytes);
  return fd;
}

function pipe() {
  const fds = [-1, -1];
  if (functions.pipe(fds) !== 0) throw new Error(`pipe: errno ${koffi.errno()}`);
  return fds;
}

/** Waits for a child of fork(2): `[exit status or null, signal number or null]`. */
function waitpid(pid) {
  const status = [0];
  if (functions.waitpid(pid, status, 0) !== pid) throw new Error(`waitpid: errno ${koffi.errno()}`);
  const signal = status[0] & 0x7f;
  return signal === 0 ? [(status[0] >> 8) & 0xff, null] : [null, signal];
}

/**
 * A ring buffer of perf_event_open(2), counting this thread's CPU clock: memory of the kernel mapped by page frame number, as a
 * device's is (VM_PFNMAP), which needs no hardware. Negative errno where it is refused.
 */
function perfEvent() {
  const bytes = 128;
  const attributes = Buffer.alloc(bytes);
  attributes.writeUInt32LE(1, 0); // PERF_TYPE_SOFTWARE
  attributes.writeUInt32LE(bytes, 4);
  attributes.writeBigUInt64LE((1n << 0n) | (1n << 5n) | (1n << 6n), 40); // disabled, exclude_kernel, exclude_hv
  const PERF_FLAG_FD_CLOEXEC = 8;
  return answer(functions.perf_event_open(ARM ? 241 : 298, attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
}

let scratch = -1;
function scratchFd() {
  if (scratch < 0) scratch = memfd(0);
  return scratch;
}

/**
 * The bytes at an address as the kernel reads them for a system call, without a signal: nothing is touched by this thread, so a
 * revoked page stays untouched. `'EFAULT'` where there is nothing to read.
 */
function peek(address, bytes = 1) {
  const fd = scratchFd();
  ftruncateSync(fd, 0);
  const done = answer(functions.pwrite(fd, address, bytes, 0));
  if (done < 0) return errorName(done);
  const copy = Buffer.alloc(Number(done));
  readSync(fd, copy, 0, copy.length, 0);
  return copy;
}

/** Bytes put at an address by the kernel, as read(2) does: how many, or `'EFAULT'`. */
function poke(address, bytes) {
  const fd = scratchFd();
  ftruncateSync(fd, 0);
  writeSync(fd, bytes, 0, bytes.length, 0);
  const done = answer(functions.pread(fd, address, bytes.length, 0));
  return done < 0 ? errorName(done) : Number(done);
}

function errorName(negativeErrno) {
  const found = Object.entries(constants.errno).find(([, value]) => value === -Number(negativeErrno));
  return found === undefined ? String(negativeErrno) : found[0];
}

/** One letter a page: `R` readable by the kernel, `-` not. */
function readablePages(address, bytes) {
  let letters = '';
  for (let at = 0; at < bytes; at += PAGE) letters += typeof peek(address + BigInt(at)) === 'string' ? '-' : 'R';
  return letters;
}

/** The lines of /proc/self/maps over a range: `[start, end, flags, path]`. */
function maps(address, bytes) {
  const end = address + BigInt(bytes);
  return require('node:fs')
    .readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [range, flags, , , , ...path] = line.split(/ +/);
      const [from, to] = range.split('-').map((hex) => BigInt(`0x${hex}`));
      return { start: from, end: to, flags, path: path.join(' ') };
    })
    .filter((vma) => vma.start < end && vma.end > address);
}

module.exports = {
  PAGE,
  PROT,
  MAP,
  MREMAP,
  MADV,
  SEAL,
  errorName,
  mmap,
  munmap,
  mprotect,
  mremap,
  madvise,
  mlock,
  mlockall,
  munlockall,
  mseal,
  read,
  write,
  ftruncate,
  fallocate,
  punchHole,
  addSeals,
  getSeals,
  ioctl,
  userfaultfd,
  memfd,
  pipe,
  waitpid,
  perfEvent,
  peek,
  poke,
  readablePages,
  maps,
};
