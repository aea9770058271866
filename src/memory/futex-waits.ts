/** Waiting for a futex word of a mapping: the part above `native/core/wait_list.h`. */
import { osConstants } from '../os-constants.js';
import { abortSignal, integer, multipleOf, options as checkOptions } from '../arguments.js';
import { outOfRange, invalidType, systemError } from '../errors.js';
import { completionOf, unwrap } from '../thread/wakeups.js';
import { WAIT_RESULTS } from '../native/enums.js';
import { native } from '../native/load.js';

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
  integer('offset', offset, 0, mapping.length < 4 ? Number.MAX_SAFE_INTEGER : mapping.length - 4);
  if (mapping.length < 4) throw outOfRange('offset', `in a mapping of at least 4 bytes, not ${mapping.length}`, offset);
  multipleOf('offset', offset, 4);
  integer('expected', expected, -0x8000_0000, 0xffff_ffff);
  const { timeout, signal } = checkOptions<WaitOptions>('options', given);
  if (timeout !== undefined && typeof timeout !== 'number') throw invalidType('options.timeout', 'of type number', timeout);
  if (timeout !== undefined && !(timeout >= 0)) throw outOfRange('options.timeout', '>= 0', timeout);
  const limit = timeout === undefined || timeout > LONGEST_MS ? -1 : timeout;
  return { offset, expected: expected >>> 0, timeout: limit, signal: abortSignal('options.signal', signal) };
}

/**
 * The futex could not read the word. A page that a device has yet to supply is one reason: it is there when it has been read, and to be waited
 * for. So often that is tried.
 */
const MOST_FAULTS = 100;

/** `gone(why, last)` throws the error of a mapping that went; it returns, but for `last`, when a word that could not be read can be. */
export function waitSync(
  id: number,
  { offset, expected, timeout, signal }: ValidWait,
  gone: (why: 'gone' | 'faulted', last: boolean) => void,
): WaitResult {
  signal?.throwIfAborted();
  const end = timeout < 0 ? Infinity : performance.now() + timeout;
  const wait = native.waitBegin(id, offset, expected);
  if (wait === null) {
    gone('gone', true); // the signal's own methods have closed it
    throw systemError({ errno: -osConstants.errno.EBADF, syscall: 'futex' });
  }
  try {
    for (let faults = 0; ;) {
      const left = end - performance.now();
      const result = WAIT_RESULTS[native.waitSlice(wait, Math.max(0, Math.min(SLICE_MS, left)))];
      if (result === 'gone' || result === 'faulted') {
        gone(result, ++faults === MOST_FAULTS);
        continue;
      }
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
  gone: (why: 'gone' | 'faulted', last: boolean) => Promise<void>,
): Promise<WaitResult> {
  const end = timeout < 0 ? Infinity : performance.now() + timeout;
  for (let faults = 1; ; faults++) {
    signal?.throwIfAborted(); // of a signal that has been aborted before there comes no event
    const left = timeout < 0 ? -1 : Math.max(0, end - performance.now());
    const result = await waitOnce(id, offset, expected, left, signal);
    if (result !== 'gone' && result !== 'faulted') return result;
    // The device may take longer than the wait.
    if (!(await within(gone(result, faults === MOST_FAULTS), end - performance.now(), signal))) return 'timed-out';
  }
}

async function waitOnce(
  id: number,
  offset: number,
  expected: number,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<WaitResult | 'gone' | 'faulted'> {
  let token = 0;
  const cancel = (): void => native.waitCancel(token);
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    const begun = native.waitAsync(id, offset, expected, timeout);
    if (begun === null) return 'gone';
    token = unwrap(begun);
    const result = WAIT_RESULTS[(await completionOf(token)).wait];
    if (result === 'pending' || result === 'cancelled') throw signal?.reason ?? new Error('the wait was cancelled');
    return result;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

/** True if `step` has come to its end in so many milliseconds; rejects with what it rejects with, or the signal's reason. */
async function within(step: Promise<void>, milliseconds: number, signal: AbortSignal | undefined): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  let stop: () => void = () => undefined;
  const ended = new Promise<boolean>((resolve, reject) => {
    stop = () => reject(signal!.reason as Error);
    if (milliseconds < Infinity) timer = setTimeout(resolve, Math.max(0, milliseconds), false);
  });
  try {
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted === true) stop();
    return await Promise.race([step.then(() => true), ended]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}
