/**
 * Memory that this thread shares with native code, and what all copies of the library in this thread have in common.
 */
import { COPY_ORDER, MAP_ORDER, MAPPING, REPORT } from './enums.js';
import type { Failure, MapOrder, MappingDescription, Native, NativeReport } from './functions.js';
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

/** Room for each of the layouts that pass through it. */
const DESCRIBED = Math.max(MAPPING.size, MAP_ORDER.size, REPORT.size, COPY_ORDER.size);

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
  return {
    id: described[MAPPING.id],
    slot: described[MAPPING.slot] | 0,
    address: BigInt(described[MAPPING.address]),
    start: small(described[MAPPING.start]),
    objectId: small(described[MAPPING.objectId]),
    offset: small(described[MAPPING.offset]),
    length: small(described[MAPPING.length]),
    writable: described[MAPPING.writable] !== 0,
    private: described[MAPPING.private] !== 0,
    fill: described[MAPPING.fill] | 0,
  };
}

/** The report of the revocation that native code has just made in this thread. */
export function takeReport(): NativeReport {
  return reportIn(described);
}

/** The report in these numbers: the only decoder of what `encode_report` in native/binding/revocation.cc writes. */
export function reportIn(numbers: Float64Array): NativeReport {
  return {
    mappings: small(numbers[REPORT.mappings]),
    truncated: numbers[REPORT.truncated] !== 0,
    replaced: small(numbers[REPORT.replaced]),
    protected: small(numbers[REPORT.protected]),
    failed: small(numbers[REPORT.failed]),
    durationUs: numbers[REPORT.durationUs],
  };
}

/** What the next call of {@link Native.map} or {@link Native.mapExternal} maps. */
export function orderMapping(order: MapOrder): void {
  described[MAP_ORDER.at] = order.at;
  described[MAP_ORDER.objectId] = order.objectId;
  described[MAP_ORDER.offset] = order.offset;
  described[MAP_ORDER.length] = order.length;
  described[MAP_ORDER.writable] = Number(order.writable);
  described[MAP_ORDER.private] = Number(order.private);
  described[MAP_ORDER.fill] = order.fill;
  described[MAP_ORDER.populate] = Number(order.populate);
  described[MAP_ORDER.deviceFile] = order.deviceFile;
  described[MAP_ORDER.forDevice] = Number(order.forDevice);
}

/** What the next call of {@link Native.readBytes} or {@link Native.writeBytes} copies: beside its arguments, as those cost more. */
export function orderCopy(id: number, offset: number, bytes: number, failures: number): void {
  described[COPY_ORDER.id] = id;
  described[COPY_ORDER.offset] = offset;
  described[COPY_ORDER.bytes] = bytes;
  described[COPY_ORDER.failures] = failures;
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
