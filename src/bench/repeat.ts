/** Warm up, repeat, and say how sure the result is. Nothing here assumes that noise has a shape. */
import { integer, options as checkOptions } from '../arguments.js';
import { invalidType } from '../errors.js';

/** Statistics of repeated measurements. */
export interface Summary {
  median: number;
  /** Between these two lies the true median, with a probability of 99 %. */
  low: number;
  high: number;
}

export interface RepeatOptions {
  /** How many samples are kept, at least 1. Default 31. */
  rounds?: number;
  /** How many are taken first and forgotten, at least. Default 3. */
  warmUpRounds?: number;
  /** And for how many milliseconds at least. Default 0. */
  warmUpMs?: number;
}

/** Summary and raw samples, in the order they were taken. */
export interface Repeated extends Summary {
  samples: number[];
}

/** Two sides, and the ratio of the first to the second. */
export interface Compared {
  a: Repeated;
  b: Repeated;
  /** Statistics of the ratios of neighbours, a ÷ b: what disturbed one disturbed the other. */
  ratio: Repeated;
}

/** Takes one measurement, and returns it in whatever unit. */
type Sample = () => number | Promise<number>;

/**
 * Takes samples, after a warm-up.
 *
 * @throws (rejects) what `sample` throws; RangeError, TypeError for bad options.
 *
 * @example
 * ```js
 * const { median, low, high } = await repeat(() => touch(object.map()).meanNs, { rounds: 15 });
 * ```
 */
export async function repeat(sample: Sample, options?: RepeatOptions): Promise<Repeated> {
  requireFunction('sample', sample);
  const plan = validate(options);
  await warmUp(plan, sample);
  const samples: number[] = [];
  while (samples.length < plan.rounds) samples.push(await sample());
  return { ...summarise(samples), samples };
}

/**
 * Compares two things on a machine that others use too: they take turns (a b, b a, a b, …), so that whatever else the machine does
 * hits both, and neither is always the one that finds the caches cold.
 *
 * @throws (rejects) what the two throw; RangeError, TypeError for bad options.
 *
 * @example
 * ```js
 * const { ratio } = await compare(() => first(), () => second());
 * console.log(`${ratio.median} (${ratio.low} … ${ratio.high})`);
 * ```
 */
export async function compare(a: Sample, b: Sample, options?: RepeatOptions): Promise<Compared> {
  requireFunction('a', a);
  requireFunction('b', b);
  const plan = validate(options);
  await warmUp(plan, async () => {
    await a();
    await b();
  });
  const samples: [number[], number[]] = [[], []];
  while (samples[0].length < plan.rounds) {
    const aFirst = samples[0].length % 2 === 0;
    const first = await (aFirst ? a : b)();
    const second = await (aFirst ? b : a)();
    samples[0].push(aFirst ? first : second);
    samples[1].push(aFirst ? second : first);
  }
  const [ofA, ofB] = samples;
  const ratios = ofA.map((value, i) => value / ofB[i]);
  return {
    a: { ...summarise(ofA), samples: ofA },
    b: { ...summarise(ofB), samples: ofB },
    ratio: { ...summarise(ratios), samples: ratios },
  };
}

/** The middle one, or the mean of the two in the middle; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * The median and its interval. Each sample lies above the true median or below it like a tossed coin, so the ranks between which
 * that lies with 99 % probability come from the binomial distribution. Below eight samples no two ranks are that sure: the interval is
 * then all of them.
 */
export function summarise(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = lowerRank(sorted.length, 0.005);
  return { median: median(sorted), low: sorted[rank], high: sorted[sorted.length - 1 - rank] };
}

/** The highest rank below which the median lies with a probability of at most `tail`. */
function lowerRank(count: number, tail: number): number {
  let probability = 0.5 ** count;
  let sum = probability;
  let rank = 0;
  while (sum + (probability * (count - rank)) / (rank + 1) <= tail && rank < count / 2 - 1) {
    probability *= (count - rank) / (rank + 1);
    sum += probability;
    rank++;
  }
  return rank;
}

function validate(options: RepeatOptions | undefined): Required<RepeatOptions> {
  // Defaults are for what is missing; null is not missing.
  const { rounds = 31, warmUpRounds = 3, warmUpMs = 0 } = checkOptions('options', options);
  return {
    rounds: integer('options.rounds', rounds, 1, 1_000_000),
    warmUpRounds: integer('options.warmUpRounds', warmUpRounds, 0, 1_000_000),
    warmUpMs: integer('options.warmUpMs', warmUpMs, 0, 3_600_000),
  };
}

async function warmUp(plan: Required<RepeatOptions>, round: () => unknown): Promise<void> {
  const until = performance.now() + plan.warmUpMs;
  for (let i = 0; i < plan.warmUpRounds || performance.now() < until; i++) await round();
}

function requireFunction(name: string, value: unknown): void {
  if (typeof value !== 'function') throw invalidType(name, 'of type function', value);
}
