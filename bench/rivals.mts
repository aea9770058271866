/** What else gets bytes from a file or from another process into JavaScript: each as memory to read, under one interface. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { extra } from './extras.mjs';

export interface Koffi {
  load(library: string): { func(signature: string): (...args: unknown[]) => unknown };
  view(pointer: unknown, bytes: number): ArrayBuffer;
}

export interface MmapIo {
  readonly PROT_READ: number;
  readonly PROT_WRITE: number;
  readonly MAP_SHARED: number;
  map(bytes: number, protection: number, flags: number, fd: number): Buffer;
}

export interface ShmTypedArray {
  create(count: number, type: 'Uint8Array', key?: string): (Uint8Array & { key: number }) | null;
  detach(key: number | string, force?: boolean): number;
}

/** The calls of libc that a mapping by hand needs. */
export interface Libc {
  memfd: (bytes: number) => number;
  map: (fd: number, bytes: number) => unknown;
  unmap: (pointer: unknown, bytes: number) => void;
  view: (pointer: unknown, bytes: number) => Uint8Array;
}

export interface Memory {
  bytes: Uint8Array;
  close: () => void;
}

/** A way to have memory, and the package it comes in. */
export interface Rival {
  name: string;
  package?: string;
  make: (bytes: number) => Memory;
}

// The types of Node do not have it.
declare const WebAssembly: { Memory: new (limits: { initial: number }) => { readonly buffer: ArrayBuffer } };

const READ_WRITE = 3;
const MAP_SHARED = 1;
const WASM_PAGE = 65_536;

export function whyNot(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  const found = extra(name);
  return 'unavailable' in found ? found.unavailable : undefined;
}

function load<T>(name: string): T {
  const found = extra<T>(name);
  if ('unavailable' in found) throw new Error(`${name}: ${found.unavailable}`);
  return found.module;
}

export function libc(): Libc {
  const koffi = load<Koffi>('koffi');
  const library = koffi.load('libc.so.6');
  const memfdCreate = library.func('int memfd_create(const char *, uint)');
  const mmap = library.func('void *mmap(void *, size_t, int, int, int, int64)');
  const munmap = library.func('int munmap(void *, size_t)');
  return {
    memfd(bytes) {
      const fd = memfdCreate('rival', 0) as number;
      ftruncateSync(fd, bytes);
      return fd;
    },
    map: (fd, bytes) => mmap(null, bytes, READ_WRITE, MAP_SHARED, fd, 0),
    unmap: (pointer, bytes) => void munmap(pointer, bytes),
    view: (pointer, bytes) => new Uint8Array(koffi.view(pointer, bytes)),
  };
}

function byKoffi(bytes: number): Memory {
  const { memfd, map, unmap, view } = libc();
  const fd = memfd(bytes);
  const at = map(fd, bytes);
  closeSync(fd);
  return { bytes: view(at, bytes), close: () => unmap(at, bytes) };
}

/** Unmapped when its Buffer is collected: there is no other way. */
export function mapWithMmapIo(fd: number, bytes: number): Buffer {
  const io = load<MmapIo>('@riaskov/mmap-io');
  return io.map(bytes, io.PROT_READ | io.PROT_WRITE, io.MAP_SHARED, fd);
}

function byMmapIo(bytes: number): Memory {
  const directory = mkdtempSync(join(tmpdir(), 'revocable-bench-'));
  const fd = openSync(join(directory, 'file'), 'w+');
  try {
    ftruncateSync(fd, bytes);
    return { bytes: mapWithMmapIo(fd, bytes), close: () => undefined };
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
}

/** Of System V, which has no file and no truncation; with a name, of POSIX, which has both. */
export function createShm(bytes: number, name?: string): Memory {
  const shm = load<ShmTypedArray>('shm-typed-array');
  const made = shm.create(bytes, 'Uint8Array', name);
  if (made === null) throw new Error('shm-typed-array: it exists already');
  return { bytes: made, close: () => void shm.detach(name ?? made.key, true) };
}

function ofBuffer(make: (bytes: number) => SharedArrayBuffer | ArrayBuffer): Rival['make'] {
  return (bytes) => ({ bytes: new Uint8Array(make(bytes)), close: () => undefined });
}

export const RIVALS: Rival[] = [
  { name: 'koffi.view of an mmap', package: 'koffi', make: byKoffi },
  { name: '@riaskov/mmap-io', package: '@riaskov/mmap-io', make: byMmapIo },
  { name: 'shm-typed-array', package: 'shm-typed-array', make: createShm },
  {
    name: 'WebAssembly.Memory',
    make: ofBuffer((bytes) => new WebAssembly.Memory({ initial: Math.ceil(bytes / WASM_PAGE) }).buffer),
  },
  { name: 'plain SharedArrayBuffer', make: ofBuffer((bytes) => new SharedArrayBuffer(bytes)) },
];
