/**
 * Memory that this thread shares with native code, and what all copies of the library in this thread have in common.
 */
import type { Failure, MappingDescription, Native, NativeReport } from './functions.js';
import { native } from './load.js';

/**
 * What all copies of this JavaScript in one thread have in common: a cleared require cache, or a test runner's module registry,
 * loads the JavaScript again, but not the addon.
 */
interface Shared {
  statusBuffer: SharedArrayBuffer;
  described: Float64Array;
  started: boolean;
  /** What {@link onceInThread} has done. */
  done: Set<string>;
  /** Registries of `thread/identities.ts` and `thread/wakeups.ts`, by name. */
  registries: Map<string, Map<number, unknown>>;
}

function newShared(): Shared {
  const statusBuffer = new SharedArrayBuffer(native.statusBytes, { maxByteLength: native.statusBytes });
  return { statusBuffer, described: new Float64Array(DESCRIBED), started: false, done: new Set(), registries: new Map() };
}

/** How many numbers describe a mapping. */
const DESCRIBED = 10;

const shared: Shared = ((native as Native & { shared?: Shared }).shared ??= newShared());

const described = shared.described;

/** One word a mapping, shared with every thread and with the fault handler once {@link start} has mapped it. */
export const status: Int32Array = new Int32Array(shared.statusBuffer, 0, native.statusBytes / 4);

/** The same memory by 64 bits. */
export const status64: BigUint64Array = new BigUint64Array(shared.statusBuffer, 0, native.statusBytes / 8);

// Deno has a few of libuv's functions, Bun all of their names: those that watch a descriptor abort the process.
const libuv = !('deno' in process.versions || 'bun' in process.versions);

/** Prepares this thread; a no-op from the second call on. Importing the package alone changes nothing in the process. */
export function start(): Failure | null {
  if (shared.started) return null;
  const failure = native.start(new Uint8Array(shared.statusBuffer, 0, native.statusBytes), described, libuv);
  shared.started = failure === null;
  return failure;
}

/** The mapping that native code has just described. */
export function takeDescription(): MappingDescription {
  const d = described;
  return {
    id: d[0],
    slot: d[1] | 0,
    address: BigInt(d[2]),
    start: small(d[3]),
    objectId: small(d[4]),
    offset: small(d[5]),
    length: small(d[6]),
    writable: d[7] !== 0,
    private: d[8] !== 0,
    fill: d[9] | 0,
  };
}

/** The report of the revocation that native code has just made, and whether it was this call that made it. */
export function takeReport(): NativeReport & { mine: boolean } {
  const d = described;
  return {
    mine: d[0] !== 0,
    mappings: small(d[1]),
    truncated: d[2] !== 0,
    replaced: small(d[3]),
    protected: small(d[4]),
    failed: small(d[5]),
    durationUs: d[6],
  };
}

/** What the next call of {@link Native.readBytes} or {@link Native.writeBytes} copies: beside its arguments, as those cost more. */
export function orderCopy(id: number, offset: number, bytes: number, failures: number): void {
  described[0] = id;
  described[1] = offset;
  described[2] = bytes;
  described[3] = failures;
}

/** The same number. Out of a Float64Array V8 keeps each as a double on its heap, to be converted at every use. */
function small(value: number): number {
  return (value | 0) === value ? value | 0 : value;
}

/** A map that all copies of the library in this thread share. */
export function sharedRegistry<T>(name: string): Map<number, T> {
  const found = shared.registries.get(name) ?? new Map<number, unknown>();
  shared.registries.set(name, found);
  return found as Map<number, T>;
}

/** Calls `act` once in this thread, however many copies of the library it loads: for listeners that stay. */
export function onceInThread(name: string, act: () => void): void {
  if (shared.done.has(name)) return;
  shared.done.add(name);
  act();
}
