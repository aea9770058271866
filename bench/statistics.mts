/** Medians and their confidence intervals: nothing here assumes that noise has a shape. */
import type { Target } from './row.mjs';

export interface Summary {
  median: number;
  /** Between these lies the true median, at 99 %. */
  low: number;
  high: number;
}

export type Verdict = 'met' | 'missed' | 'noisy' | 'no target';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * The interval between two order statistics that holds the median with 99 % probability: each sample is above it or below it like a
 * tossed coin, so the ranks come from the binomial distribution.
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

/** Met or missed only when the whole interval says so: then the next run will say the same. */
export function judge(ratio: Summary, target: Target | undefined): Verdict {
  if (target === undefined) return 'no target';
  const [inside, outside] =
    'atMost' in target
      ? [ratio.high <= target.atMost, ratio.low > target.atMost]
      : [ratio.low >= target.atLeast, ratio.high < target.atLeast];
  return inside ? 'met' : outside ? 'missed' : 'noisy';
}

/** The exponent k of cost ~ size^k: the slope of the least-squares line through the logarithms. */
export function growth(points: readonly (readonly [size: number, cost: number])[]): number {
  const logs = points.map(([size, cost]) => [Math.log(size), Math.log(cost)] as const);
  const mean = (index: 0 | 1): number => logs.reduce((sum, point) => sum + point[index], 0) / logs.length;
  const [meanSize, meanCost] = [mean(0), mean(1)];
  const covariance = logs.reduce((sum, [size, cost]) => sum + (size - meanSize) * (cost - meanCost), 0);
  const variance = logs.reduce((sum, [size]) => sum + (size - meanSize) ** 2, 0);
  return covariance / variance;
}
