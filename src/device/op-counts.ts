/** How often each op of a device has been called: numbers in memory that threads share. */
import { inspect } from 'node:util';
import { status } from '../native/shared-state.js';
import type { DeviceOps } from './device-ops.js';

export type OpCounts = Record<keyof DeviceOps, number>;

export const OP_NAMES: readonly (keyof DeviceOps)[] = [
  'attach',
  'open',
  'release',
  'mmap',
  'close',
  'fault',
  'pageMkwrite',
  'read',
  'write',
  'ioctl',
  'poll',
  'readRegister',
  'writeRegister',
];

/** Index of each op in the counts. */
export const OP_INDEX = Object.fromEntries(OP_NAMES.map((op, i) => [op, i])) as OpCounts;

/**
 * Zeros. Only the thread that runs the ops writes to them, so they need no atomic addition; processors store and load an aligned 64-bit
 * number whole, and unlike 32 bits it does not run over.
 */
export function newOpCounts(): Float64Array {
  return new Float64Array(new SharedArrayBuffer(OP_NAMES.length * Float64Array.BYTES_PER_ELEMENT));
}

/** A live view. */
export function viewOf(counts: Float64Array): Readonly<OpCounts> {
  const view = {} as OpCounts;
  for (const [i, op] of OP_NAMES.entries()) {
    const get = (): number => {
      Atomics.load(status, 0); // or the optimiser may take a loop's load of a count out of the loop
      return counts[i];
    };
    Object.defineProperty(view, op, { enumerable: true, get });
  }
  Object.defineProperty(view, inspect.custom, { value: () => ({ ...view }) });
  return Object.freeze(view);
}
