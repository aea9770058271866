/** How a memory object is made: options, and their validation. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { osConstants } from '../os-constants.js';
import { asBytes, bytesView, oneOf } from '../arguments.js';
import { invalidType, invalidValue, outOfRange, systemError } from '../errors.js';
import { SCOPES, SEALS } from '../native/enums.js';

export interface CreateOptions {
  /** Bytes, at least 1. With `hugePages` a multiple of 2 MiB. */
  size: number;
  /** Shown in errors, in `/proc/PID/maps` and by `util.inspect`. Default `'revocable'`. */
  name?: string;
  /** 2 MiB pages from the system's reserved pool. Default false. */
  hugePages?: boolean;
  /** What it holds at first, at most `size` bytes; zeros behind that. Copied. Not with `hugePages`. Default nothing but zeros. */
  content?: Uint8Array;
  /**
   * What no process can do to it any more, its maker included, besides `'grow'` and `'seal'`, which are always among them. Default none.
   *
   * `'write'` and `'future-write'`: it is memory to be read only, by all; `content` is the one way to put something into it.
   *
   * `'shrink'`: no process with its descriptor can take the memory from another. So the library cannot either: a revocation replaces the
   * mappings of this process, its report says `truncated: false`, and other processes keep theirs until they are given notice and revoke
   * for themselves.
   */
  seals?: readonly Seal[];
}

/** A seal of memory, by its name in fcntl(2): `'shrink'` is F_SEAL_SHRINK. */
export type Seal = keyof typeof SEALS;

export interface OpenOptions {
  /** Open for writing too. Default false. */
  writable?: boolean;
  /**
   * What one lost page takes away: only itself, or the whole object, which is then revoked. Default: by cause. Past the end of
   * the file, no space and broken memory take the page; anything else takes the object, because pages that are still cached
   * would go on swallowing writes.
   */
  onBackingFault?: 'page' | 'object';
}

export const HUGE_PAGE = 2 * 1024 * 1024;

export const SEAL_NAMES = Object.keys(SEALS) as Seal[];
export const NO_SUCH_SEAL = 'this kernel does not know one of options.seals';
export const SEALED_AGAINST_WRITING =
  "the memory is sealed against writing (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE): it can be mapped with access: 'r' or private: true";

export function sealBits(seals: unknown): number {
  if (seals === undefined) return 0;
  if (!Array.isArray(seals)) throw invalidType('options.seals', 'an instance of Array', seals);
  const checked = Array.from(seals, (seal: unknown, i) => oneOf(`options.seals[${i}]`, seal, SEAL_NAMES));
  return checked.reduce((bits, seal) => bits | SEALS[seal], 0);
}

export function contentOption(content: unknown, size: number): Uint8Array | undefined {
  if (content === undefined) return undefined;
  const bytes = asBytes(bytesView('options.content', content));
  if (bytes.byteLength > size)
    throw outOfRange('options.content', `at most ${size} bytes long, as options.size`, bytes.byteLength);
  return bytes;
}

export function toPath(path: string | URL): string {
  if (path instanceof URL || (typeof path === 'object' && path !== null && 'href' in path)) return toPath(fileURLToPath(path));
  if (typeof path !== 'string') throw invalidType('path', 'of type string or an instance of URL', path);
  if (path.includes('\0')) throw invalidValue('path', 'must be a string without null bytes', JSON.stringify(path));
  return path;
}

export function toScope(value: 'page' | 'object' | undefined): number {
  return SCOPES.indexOf(value === undefined ? 'by-cause' : oneOf('options.onBackingFault', value, ['page', 'object']));
}

/** hugetlbfs reserves at mmap time and says ENOMEM; this says what to do about it. */
export function requireHugePages(size: number): void {
  let free = 0;
  try {
    free = Number(readFileSync('/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages', 'utf8'));
  } catch {
    // No such pages on this kernel: none free.
  }
  const needed = size / HUGE_PAGE;
  if (free >= needed) return;
  throw systemError(
    { errno: -osConstants.errno.ENOMEM, syscall: 'mmap' },
    { hint: `${needed} pages of 2 MiB needed, ${free} free: reserve them with "sysctl vm.nr_hugepages=${needed}"` },
  );
}
