/** Waiting for a futex word of a mapping: the part above `native/core/wait_list.h`. */
import { abortSignal, integer, multipleOf, options as checkOptions } from '../arguments.js';
import { outOfRange, invalidType } from '../errors.js';
import { completionOf, unwrap } from '../loop.js';
import { native, WAIT_RESULTS } from '../native.js';

/** As Atomics.wait has them. */
export type WaitResult = 'ok' | 'not-equal' | 'timed-out';

export interface WaitOptions {
  /** Milliseconds; default no limit. */
  timeout?: number;
  /** Ends the wait, which then rejects or throws with the signal's reason. */
  signal?: AbortSignal;
}

interface ValidWait {
  offset: number;
  expected: number;
  /** Milliseconds, or -1. */
  timeout: number;
  signal: AbortSignal | undefined;
}

/** How long a thread sleeps before it looks whether it has been terminated. */
const SLICE_MS = 50;

/** The longest a timer of the kernel's clock is asked for: about 24 days, as Node's timers. */
const LONGEST_MS = 0x7fff_ffff;

export function validateWait(mapping: { length: number }, offset: number, expected: number, given?: WaitOptions): ValidWait {
  multipleOf('offset', integer('offset', offset, 0, Math.max(0, mapping.length - 4)), 4);
  if (mapping.length < 4) throw outOfRange('offset', `in a mapping of at least 4 bytes, not ${mapping.length}`, offset);
  integer('expected', expected, -0x8000_0000, 0xffff_ffff);
  const { timeout, signal } = checkOptions<WaitOptions>('options', given);
  if (timeout !== undefined && typeof timeout !== 'number') throw invalidType('options.timeout', 'of type number', timeout);
  if (timeout !== undefined && !(timeout >= 0)) throw outOfRange('options.timeout', '>= 0', timeout);
  const limit = timeout === undefined || timeout > LONGEST_MS ? -1 : timeout;
  return { offset, expected: expected >>> 0, timeout: limit, signal: abortSignal('options.signal', signal) };
}

/** `gone(why)` throws the error of a mapping that went. */
export function waitSync(
  id: number,
  { offset, expected, timeout, signal }: ValidWait,
  gone: (why: 'gone' | 'faulted') => never,
): WaitResult {
  signal?.throwIfAborted();
  const end = timeout < 0 ? Infinity : performance.now() + timeout;
  const wait = native.waitBegin(id, offset, expected) ?? gone('gone');
  try {
    for (;;) {
      const left = end - performance.now();
      const result = WAIT_RESULTS[native.waitSlice(wait, Math.max(0, Math.min(SLICE_MS, left)))];
      if (result === 'gone' || result === 'faulted') gone(result);
      if (result === 'ok' || result === 'not-equal') return result;
      if (left <= SLICE_MS && performance.now() >= end) return 'timed-out';
    }
  } finally {
    native.waitEnd(wait);
  }
}

export async function waitAsync(
  id: number,
  { offset, expected, timeout, signal }: ValidWait,
  gone: (why: 'gone' | 'faulted') => never,
): Promise<WaitResult> {
  signal?.throwIfAborted();
  let token = 0;
  const cancel = (): void => native.waitCancel(token);
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    token = unwrap(native.waitAsync(id, offset, expected, timeout) ?? gone('gone'));
    const result = WAIT_RESULTS[(await completionOf(token)).wait];
    switch (result) {
      case 'ok':
      case 'not-equal':
      case 'timed-out':
        return result;
      case 'gone':
      case 'faulted':
        return gone(result);
      default:
        throw signal?.reason ?? new Error('the wait was cancelled');
    }
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
