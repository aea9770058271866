// System calls that the library does not make for its users.
const koffi = require('koffi');

const libc = koffi.load(null);

exports.koffi = koffi;
exports.PROT = { none: 0, read: 1, write: 2 };
exports.MAP = { shared: 1, private: 2, fixed: 0x10, anonymous: 0x20, norsv: 0x4000, fixedNoReplace: 0x100000 };
exports.RLIMIT = { data: 2, nofile: 7, as: 9 };

/** The address, or -1. */
exports.mmap = libc.func('intptr_t mmap(intptr_t at, size_t length, int prot, int flags, int fd, int64_t offset)');
exports.munmap = libc.func('int munmap(intptr_t at, size_t length)');
/** 0, or -1 where something of the range is not mapped. */
exports.mincore = libc.func('int mincore(intptr_t at, size_t length, _Out_ uint8_t *pages)');
exports.mprotect = libc.func('int mprotect(intptr_t at, size_t length, int prot)');

const syscall3 = libc.func('long syscall(long number, intptr_t a, size_t b, unsigned long c)');
/** mseal(2), Linux 6.10: 0, or -1 where the kernel has it not. The number is the same on every architecture. */
exports.mseal = (at, length) => Number(syscall3(462, at, length, 0));

const Limit = koffi.struct('rlimit', { soft: 'uint64_t', hard: 'uint64_t' });
const getrlimit = libc.func('getrlimit', 'int', ['int', koffi.out(koffi.pointer(Limit))]);
const setrlimit = libc.func('setrlimit', 'int', ['int', koffi.pointer(Limit)]);

exports.getSoftLimit = (resource) => {
  const limit = {};
  if (getrlimit(resource, limit) !== 0) throw new Error('getrlimit');
  return limit;
};
/** Lowers a soft limit; returns what puts it back. Everything is prepared before, so that the two calls need no memory. */
exports.lowerSoftLimit = (resource, soft) => {
  const before = exports.getSoftLimit(resource);
  const lowered = { soft, hard: before.hard };
  return {
    lower: () => {
      if (setrlimit(resource, lowered) !== 0) throw new Error('setrlimit');
    },
    restore: () => {
      if (setrlimit(resource, before) !== 0) throw new Error('setrlimit');
    },
  };
};
