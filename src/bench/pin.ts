/** Where the calling thread may run. */
import { integer } from '../arguments.js';
import { invalidType, systemError } from '../errors.js';
import { unwrap } from '../thread/wakeups.js';
import { native } from '../native/load.js';

const MAX_PROCESSOR = 8191;

/** The processors the calling thread may run on, ascending: sched_getaffinity(2). */
export function threadProcessors(): number[] {
  return unwrap(native.threadProcessors());
}

/**
 * Lets the calling thread run on these processors only: sched_setaffinity(2). Threads it starts later inherit that; those that exist
 * (V8's and libuv's) keep theirs.
 *
 * @returns the processors it could run on before, to be given back by another call.
 * @throws `EINVAL` where none of them exists or is allowed; RangeError, TypeError for what is not a number of a processor.
 *
 * @example
 * ```js
 * const before = pinThread(1);
 * try { touch(mapping); } finally { pinThread(before); }
 * ```
 */
export function pinThread(processors: number | readonly number[]): number[] {
  const list = typeof processors === 'number' ? [processors] : processors;
  if (!Array.isArray(list)) throw invalidType('processors', 'of type number or an array of them', processors);
  for (const processor of list as number[]) integer('processors', processor, 0, MAX_PROCESSOR);
  const before = threadProcessors();
  const failure = native.threadPin(list as number[]);
  if (failure !== null) throw systemError(failure);
  return before;
}
