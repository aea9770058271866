/** What this process has open, and things to open that cannot be mapped. */
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load(null);
const socketpairInto = libc.func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)');
const epollCreate1 = libc.func('int epoll_create1(int flags)');
const eventfd = libc.func('int eventfd(unsigned int count, int flags)');
const pipeInto = libc.func('int pipe(_Out_ int *fds)');

const AF_UNIX = 1;
const SOCK_STREAM = 1;

/** What each open descriptor is, without the one used for looking. */
export function openDescriptors(): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return `${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`;
      } catch {
        return '';
      }
    })
    .filter((line) => line !== '' && !/\/proc\/\d+\/fd$/.test(line));
}

/** What is open, and was not `before`. Others may be closed meanwhile, of objects that have been forgotten. */
export function openedSince(before: readonly string[]): string[] {
  return openDescriptors().filter((line) => !before.includes(line));
}

const pair = (into: (fds: number[]) => number): number[] => {
  const fds = [-1, -1];
  if (into(fds) !== 0) throw new Error(`errno ${koffi.errno()}`);
  return fds;
};

/** Makes descriptors that mmap(2) refuses. */
export const UNMAPPABLE: Record<string, () => number[]> = {
  pipe: () => pair((fds) => pipeInto(fds) as number),
  socket: () => pair((fds) => socketpairInto(AF_UNIX, SOCK_STREAM, 0, fds) as number),
  epoll: () => [epollCreate1(0) as number],
  eventfd: () => [eventfd(0, 0) as number],
};

/** Runs `body` with descriptors that are closed afterwards. */
export function withDescriptors<T>(fds: number[], body: (...fds: number[]) => T): T {
  try {
    return body(...fds);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
