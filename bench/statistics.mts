/** What the summaries of `revocable-mmap/bench` mean for a target, and how costs grow. */
import type { Summary } from 'revocable-mmap/bench';
import type { Target } from './row.mjs';

export type Verdict = 'met' | 'missed' | 'noisy' | 'no target';

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
