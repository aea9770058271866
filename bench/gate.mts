/** The comparison of this run's ratios with recorded ones. */
import type { Summary } from 'revocable-mmap/bench';
import type { Target } from './row.mjs';

/** Ratios to C, by the major version of Node, then by row and case. */
export type Recorded = Record<string, Record<string, number>>;

/** What was recorded of one case, and on which Node. */
export interface Earlier {
  ratio: number;
  node: string;
}

export interface Checked {
  name: string;
  earlier?: Earlier;
  now?: Summary;
  finding: 'slower' | 'as recorded' | 'faster' | 'not recorded' | 'not measured';
  /** Why it was not measured. */
  reason?: string;
}

/**
 * How much worse than recorded a ratio may be: another processor has other caches and another price of a system call, and on one machine
 * the ratios of the shortest cases differ by 1.4 from day to day.
 */
export const MARGIN = 1.5;
/** A regression is there each time one looks; a busy neighbour is not. */
const LOOKS = 3;

/** On this version of Node; where it has no record, the worst of those on others. */
export function earlierOf(all: Recorded, name: string, major: string): Earlier | undefined {
  const known = Object.entries(all).flatMap(([node, { [name]: ratio }]) => (typeof ratio === 'number' ? [{ node, ratio }] : []));
  return known.find(({ node }) => node === major) ?? known.sort((a, b) => b.ratio - a.ratio)[0];
}

/** Slower only when the whole interval is beyond the margin, and faster likewise. */
export function compared(now: Summary, { ratio }: Earlier): 'slower' | 'as recorded' | 'faster' {
  return now.low > ratio * MARGIN ? 'slower' : now.high < ratio / MARGIN ? 'faster' : 'as recorded';
}

/** Measures a case, again where it seems slower. What has no record is not measured: there is nothing to compare with. */
export async function checked(
  name: string,
  earlier: Earlier | undefined,
  look: (bound: Target) => Promise<{ ratio: Summary } | { reason: string }>,
): Promise<Checked> {
  if (earlier === undefined) return { name, finding: 'not recorded' };
  for (let looks = 1; ; looks++) {
    const found = await look({ atMost: earlier.ratio * MARGIN });
    if ('reason' in found) return { name, earlier, finding: 'not measured', reason: found.reason };
    const finding = compared(found.ratio, earlier);
    if (finding !== 'slower' || looks === LOOKS) return { name, earlier, now: found.ratio, finding };
  }
}

/** A gate that skips what is not recorded would be none. */
export function isFailure({ finding }: Checked): boolean {
  return finding === 'slower' || finding === 'not recorded';
}
