/** System calls the library does not make for its users, called by koffi. */
import koffi from 'koffi';

const libc = koffi.load(null);

export const PAGE = 4096;
/** What is the same on x86-64 and arm64. */
export const SYS: Readonly<Record<'userfaultfd', number>> = { userfaultfd: process.arch === 'arm64' ? 282 : 323 };

export const memfdCreate = libc.func('int memfd_create(const char *name, unsigned int flags)') as (
  name: string,
  flags: number,
) => number;
export const socketpair = libc.func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)') as (
  domain: number,
  type: number,
  protocol: number,
  fds: number[],
) => number;
export const epollCreate = libc.func('int epoll_create1(int flags)') as (flags: number) => number;
export const eventfd = libc.func('int eventfd(unsigned int count, int flags)') as (count: number, flags: number) => number;
export const pipe = libc.func('int pipe(_Out_ int *fds)') as (fds: number[]) => number;
export const syscallPlain = libc.func('long syscall(long number, long a)') as (number: number, a: number) => number;
export const ioctlBytes = libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)') as (
  fd: number,
  request: number,
  argument: Uint8Array,
) => number;
