/** System calls on addresses, typed. See `test/children/kernel-calls.cjs`, which child processes load too. */
import { closeSync } from 'node:fs';
import { runInChild, type ChildOptions } from './child.js';

export interface Vma {
  start: bigint;
  end: bigint;
  /** As printed: `rw-s`. */
  flags: string;
  path: string;
}

/** Numbers are what the kernel answered, negative ones the errno. Addresses come as numbers or bigints, whichever holds them. */
export interface KernelCalls {
  PAGE: number;
  PROT: Record<'NONE' | 'READ' | 'WRITE', number>;
  MAP: Record<'SHARED' | 'PRIVATE' | 'FIXED' | 'ANONYMOUS' | 'NORESERVE' | 'FIXED_NOREPLACE', number>;
  MREMAP: Record<'MAYMOVE' | 'FIXED' | 'DONTUNMAP', number>;
  MADV: Record<
    | 'NORMAL'
    | 'WILLNEED'
    | 'DONTNEED'
    | 'FREE'
    | 'WIPEONFORK'
    | 'COLD'
    | 'PAGEOUT'
    | 'POPULATE_READ'
    | 'POPULATE_WRITE'
    | 'DONTNEED_LOCKED',
    number
  >;
  SEAL: Record<'SEAL' | 'SHRINK' | 'GROW' | 'WRITE' | 'FUTURE_WRITE' | 'EXEC', number>;
  errorName(negativeErrno: number | bigint): string;
  mmap(at: bigint, bytes: number, prot: number, flags: number, fd?: number, offset?: number): number | bigint;
  munmap(at: bigint, bytes: number): number;
  mprotect(at: bigint, bytes: number, prot: number): number;
  mremap(at: bigint, oldBytes: number, newBytes: number, flags: number, to?: bigint): number | bigint;
  madvise(at: bigint, bytes: number, advice: number): number;
  mlock(at: bigint, bytes: number): number;
  mlockall(flags: number): number;
  munlockall(): number;
  mseal(at: bigint, bytes: number): number;
  read(fd: number, to: bigint, bytes: number): number;
  write(fd: number, from: bigint, bytes: number): number;
  ftruncate(fd: number, bytes: number): number;
  fallocate(fd: number, mode: number, offset: number, bytes: number): number;
  punchHole(fd: number, offset: number, bytes: number): number;
  addSeals(fd: number, seals: number): number;
  getSeals(fd: number): number;
  ioctl(fd: number, request: number | bigint, argument: Uint8Array): number;
  userfaultfd(flags: number): number;
  memfd(bytes: number, options?: { sealable?: boolean }): number;
  pipe(): [number, number];
  waitpid(pid: number): [number | null, number | null];
  perfEvent(): number;
  /** What the kernel reads there for a system call, or the error's name. Touches nothing. */
  peek(address: bigint, bytes?: number): Buffer | string;
  /** How many bytes the kernel could write there, or the error's name. */
  poke(address: bigint, bytes: Uint8Array): number | string;
  /** One letter a page: `R` readable, `-` not. */
  readablePages(address: bigint, bytes: number): string;
  maps(address: bigint, bytes: number): Vma[];
}

export const kernel = require('../children/kernel-calls.cjs') as KernelCalls;

/** Why mseal(2) cannot be used here; undefined when it can. */
export function whyNoMseal(): string | undefined {
  return kernel.mseal(0n, 0) === 0 ? undefined : 'this kernel has no mseal(2)';
}

/** Why there is no perf ring buffer to map; undefined when there is one. */
export function whyNoPerfEvent(): string | undefined {
  const fd = kernel.perfEvent();
  if (fd < 0) return `perf_event_open(2) gives ${kernel.errorName(fd)}`;
  closeSync(fd);
  return undefined;
}

/**
 * Runs `body` in a process of its own, which must survive: status 0 and no signal. What it returned; bigints come as strings.
 * It sees only the package, the system calls, and `input`.
 *
 * With `leave: 'exit'` it ends by process.exit(), which leaves V8's heap as it is: V8 aborts where it cannot unmap a buffer.
 */
export async function survivingChild<I, T>(
  body: (lib: typeof import('revocable-mmap'), kernel: KernelCalls, input: I) => T | Promise<T>,
  options: ChildOptions & { input?: I; leave?: 'exit' } = {},
): Promise<T> {
  const leave = options.leave === 'exit' ? "process.once('beforeExit', () => process.exit());" : '';
  // Only its text is used.
  const wrapped = {
    toString: () =>
      `(lib, require, input) => { ${leave} return (${body.toString()})(lib, require('./test/children/kernel-calls.cjs'), input); }`,
  } as never;
  const { status, signal, stderr, value } = await runInChild<I, T>(wrapped, options);
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  return value as T;
}
