/** Loops over mapped memory, in native code. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { boolean, integer, multipleOf, oneOf, options as checkOptions } from '../arguments.js';
import { invalidType, invalidValue, outOfRange, ReadOnlyMappingError } from '../errors.js';
import { Mapping } from '../memory/mapping.js';
import type { TouchPlan } from '../native/functions.js';
import { native } from '../native/load.js';
import { threadUsage, type ThreadUsage } from './counters.js';

/** What {@link touch} touches, and how. */
export interface TouchOptions {
  /** First byte of the mapping. A multiple of `width`. Default 0. */
  offset?: number;
  /** Bytes from there on. Default: to the end of the mapping. */
  length?: number;
  /** Bytes from one place to the next, a multiple of `width`. Default 4096: each page once. */
  stride?: number;
  /** Bytes of one access: 1, 2, 4 or 8 (default). */
  width?: 1 | 2 | 4 | 8;
  /** `'sequential'` (default) is ascending; `'random'` visits each place once too, in an order that `seed` decides. */
  order?: 'sequential' | 'random';
  /** Seed of the random order. Default 1. */
  seed?: number;
  /** Store zeros instead of loading. What was there is lost. Default false. */
  write?: boolean;
  /** Time every access on its own. Costs two looks at the clock an access: see {@link clockCost}. Default false. */
  histogram?: boolean;
}

/** What {@link touch} did. */
export interface TouchResult {
  /** How many places were touched. */
  accesses: number;
  /** Nanoseconds of all of it, and the mean of one access, which includes computing the next place. */
  totalNs: number;
  meanNs: number;
  /** What the kernel counted for this thread meanwhile. */
  usage: ThreadUsage;
  /** Nanoseconds of each access, the clock's own cost included: an HDR histogram of Node's, with three significant digits. */
  histogram: RecordableHistogram | undefined;
}

/** Places touched by one native call: a worker can be terminated between two, and a revocation is noticed. */
const PLACES_A_CALL = 65_536;

/**
 * Touches a mapping, place by place, with raw accesses in native code, and tells what that cost. Blocks this thread meanwhile.
 *
 * @throws MappingRevokedError, MappingSuspendedError or MappingClosedError when the mapping goes meanwhile; ReadOnlyMappingError for
 *   a write to one that may only be read; TypeError `ERR_INVALID_ARG_VALUE` for a mapping with `fill: 'signal'`, which raw accesses
 *   could not survive; RangeError `ERR_OUT_OF_RANGE` and TypeError `ERR_INVALID_ARG_TYPE` for bad options.
 *
 * @example
 * ```js
 * const mapping = MemoryObject.create({ size: 64 << 20 }).map();
 * const first = touch(mapping, { write: true, histogram: true });
 * console.log(first.usage.minorFaults, 'faults, median', first.histogram.percentile(50), 'ns');
 * ```
 */
export function touch(mapping: Mapping, options?: TouchOptions): TouchResult {
  if (!Mapping._is(mapping)) throw invalidType('mapping', 'an instance of Mapping', mapping);
  const plan = validate(mapping, options);
  const times = plan.histogram ? new Uint32Array(Math.min(plan.places, PLACES_A_CALL)) : null;
  const histogram = plan.histogram ? createHistogram({ figures: 3 }) : undefined;
  const before = threadUsage();
  let totalNs = 0;
  for (let from = 0; from < plan.places; from += PLACES_A_CALL) {
    const count = Math.min(PLACES_A_CALL, plan.places - from);
    mapping._throwUnlessLive(undefined);
    totalNs += native.touch(mapping._id, plan, from, count, times);
    for (let i = 0; times !== null && i < count; i++) histogram?.record(Math.max(1, times[i]));
  }
  mapping._throwUnlessLive(undefined);
  return { accesses: plan.places, totalNs, meanNs: totalNs / plan.places, usage: since(before), histogram };
}

/** The nanoseconds that a timed access shows when the access itself takes none. */
export function clockCost(): number {
  return native.clockNs();
}

interface Plan extends TouchPlan {
  histogram: boolean;
}

function validate(mapping: Mapping, options: TouchOptions | undefined): Plan {
  // Defaults are for what is missing; null is not missing.
  const given = checkOptions('options', options);
  const { width = 8, offset = 0, stride = 4096, seed = 1 } = given;
  integer('options.width', width, 1, 8);
  if (![1, 2, 4, 8].includes(width)) throw outOfRange('options.width', 'one of 1, 2, 4, 8', width);
  if (width > mapping.length) throw outOfRange('options.width', `<= ${mapping.length}, the length of the mapping`, width);
  multipleOf('options.offset', integer('options.offset', offset, 0, mapping.length - width), width);
  const rest = mapping.length - offset;
  const { length = rest } = given;
  integer('options.length', length, width, rest);
  multipleOf('options.stride', integer('options.stride', stride, width, 2 ** 40), width);
  const random = oneOf('options.order', given.order, ['sequential', 'random'], 'sequential') === 'random';
  integer('options.seed', seed, 0, Number.MAX_SAFE_INTEGER);
  const write = boolean('options.write', given.write, false);
  const histogram = boolean('options.histogram', given.histogram, false);
  mapping._throwUnlessLive(undefined);
  if (mapping._deadly) throw invalidValue('mapping', "must not be one with fill: 'signal'", 'signal');
  if (write && mapping.access === 'r') throw new ReadOnlyMappingError({ object: mapping.object.name, offset });
  return { offset, places: Math.floor((length - width) / stride) + 1, stride, width, random, seed, write, histogram };
}

function since(before: ThreadUsage): ThreadUsage {
  const now = threadUsage();
  for (const name of Object.keys(now) as (keyof ThreadUsage)[]) now[name] -= before[name];
  return now;
}
