/** What becomes of a program whose mapped file another process truncates: each in a process of its own, since some of them die. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, openSync, readSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { MemoryObject } from 'revocable-mmap';
import { java, javaSource } from './java.mjs';
import { createShm, libc, mapWithMmapIo, whyNot } from './rivals.mjs';

export interface Truncation {
  rival: string;
  /** Whether it can be used on this version of Node: 'yes', or why not. */
  loads: string;
  outcome: string;
}

const CHILD = fileURLToPath(new URL('./truncation_child.mjs', import.meta.url));
const BYTES = 65_536;
/** In the third page: the first may be treated as another one would not. */
const OFFSET = 8192;
const LIMIT_MS = 30_000;
/** Shared memory of POSIX has its names there. */
const SHARED = '/dev/shm';

/** How a byte of a file is read by one means: what this returns has the mapping already. */
interface Reader {
  rival: string;
  package?: string;
  open(path: string): (offset: number) => string;
}

function describeRead(value: number): string {
  return `reads ${value}`;
}

function openedFile(path: string): number {
  return openSync(path, 'r+');
}

export const READERS: Record<string, Reader> = {
  checked: {
    rival: 'revocable-mmap, checked read8',
    open(path) {
      const mapping = MemoryObject.openFile(path).map();
      return (offset) => describeRead(mapping.read8(offset));
    },
  },
  raw: {
    rival: 'revocable-mmap, raw bytes and check()',
    open(path) {
      const mapping = MemoryObject.openFile(path).map();
      return (offset) => {
        const value = describeRead(mapping.bytes[offset]);
        try {
          mapping.check();
          return value;
        } catch (error) {
          return `${value}; check() throws ${(error as NodeJS.ErrnoException).code}`;
        }
      };
    },
  },
  koffi: {
    rival: 'koffi.view of an mmap',
    package: 'koffi',
    open(path) {
      const { map, view } = libc();
      const bytes = view(map(openedFile(path), BYTES), BYTES);
      return (offset) => describeRead(bytes[offset]);
    },
  },
  mmapIo: {
    rival: '@riaskov/mmap-io',
    package: '@riaskov/mmap-io',
    open(path) {
      const bytes = mapWithMmapIo(openedFile(path), BYTES);
      return (offset) => describeRead(bytes[offset]);
    },
  },
  shm: {
    rival: 'shm-typed-array, of POSIX',
    package: 'shm-typed-array',
    open(path) {
      const name = `/revocable-bench-${process.pid}`;
      const { bytes } = createShm(BYTES, name);
      bytes.fill(7);
      renameSync(join(SHARED, name), path); // the same file, where it is going to be truncated
      return (offset) => describeRead(bytes[offset]);
    },
  },
  fs: {
    rival: 'fs.readSync',
    open(path) {
      const fd = openedFile(path);
      const target = new Uint8Array(1);
      return (offset) => (readSync(fd, target, 0, 1, offset) === 0 ? 'returns 0: the end of the file' : describeRead(target[0]));
    },
  },
};

/** Maps a file by each means, truncates it from here, and tells what the next read did. */
export async function whatATruncationDoes(): Promise<Truncation[]> {
  const found: Truncation[] = [];
  for (const [name, { rival, package: needed }] of Object.entries(READERS)) {
    found.push(await tried(rival, whyNot(needed), process.execPath, (path) => [CHILD, name, path, String(OFFSET)]));
  }
  const jvm = java();
  const missing = jvm === undefined ? 'there is no java on this machine' : undefined;
  const args = (path: string): string[] => [javaSource('Truncated'), 'once', path, String(OFFSET)];
  found.push(
    await tried(`Java ${jvm?.version ?? ''} MappedByteBuffer`.replace('  ', ' '), missing, jvm?.command ?? 'java', args),
  );
  return found;
}

async function tried(
  rival: string,
  missing: string | undefined,
  command: string,
  args: (path: string) => string[],
): Promise<Truncation> {
  if (missing !== undefined) return { rival, loads: missing, outcome: '' };
  const directory = mkdtempSync(join(existsSync(SHARED) ? SHARED : tmpdir(), 'revocable-bench-'));
  const path = join(directory, 'file');
  try {
    writeFileSync(path, new Uint8Array(BYTES).fill(7));
    return { rival, loads: 'yes', outcome: await truncatedUnder(command, args(path), path) };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** The program says that it has mapped the file, waits for a line, and prints what its read did, if it can. */
async function truncatedUnder(command: string, args: string[], path: string): Promise<string> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], timeout: LIMIT_MS });
  const ended = once(child, 'close') as Promise<[number | null, string | null]>;
  child.stdin.on('error', () => undefined); // it has died: its status says so
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line);
    if (lines.length > 1) return;
    truncateSync(path, 0);
    child.stdin.end('\n');
  });
  const [status, signal] = await ended;
  if (signal !== null) return `the process dies of ${signal}`;
  return status === 0 ? lines.slice(1).join('; ') : `the process ends with status ${status}`;
}
