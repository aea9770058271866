/** Runs rows: subject and baseline take turns, so that whatever else the machine does hits both. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { compare, median, summarise, type Summary } from 'revocable-mmap/bench';
import type { Case, Row, Target } from './row.mjs';
import { growth, judge, type Verdict } from './statistics.mjs';

export interface CaseResult {
  label: string;
  size: number | undefined;
  /** Medians, in the row's unit. */
  subject: number;
  baseline: number;
  /** Of the ratios of neighbouring samples. */
  ratio: Summary;
  target: Case['target'];
  verdict: Verdict;
  samples: Samples;
}

export interface RowResult {
  id: string;
  title: string;
  unit: string;
  baselineName: string;
  sizeName?: string;
  cases: CaseResult[];
  /** Cases that cannot be measured here, and why. */
  unavailable?: { label: string; reason: string }[];
  /** The exponents k of cost ~ size^k, where sizes grow. */
  growth?: { subject: number; baseline: number };
}

export interface RunOptions {
  plan: Plan;
  /** What the verdict is on, in place of the case's or the row's target. */
  bound?: Target | undefined;
  /** Called before each case, also one that turns out to be unavailable. */
  begin(row: Row, item: Case): void;
  /** Called before each sample. */
  progress(row: Row, item: Case, round: number, rounds: number): void;
}

/** Raw, in the order they were taken. */
export interface Samples {
  subject: number[];
  baseline: number[];
}

/** Arguments of the process that measures a case. */
export interface Order {
  row: string;
  case: number;
  plan: Plan;
  target: Target | undefined;
}

/** What it tells. */
export type Report = { round: number; rounds: number } | { samples: Samples };

/** How many samples of each side. Where the verdict is not clear after so many, twice as many, and again. */
export interface Plan {
  rounds: number;
  warmUpMs: number;
  /** A case that takes longer ends, once it has as many samples as an interval needs. */
  budgetMs: number;
  /** Only as many cases as the row says. */
  quick: boolean;
}

export const PLANS = {
  whole: { rounds: 31, warmUpMs: 1000, budgetMs: 30_000, quick: false },
  quick: { rounds: 15, warmUpMs: 300, budgetMs: 30_000, quick: true },
  gate: { rounds: 15, warmUpMs: 300, budgetMs: 5000, quick: true },
} satisfies Record<string, Plan>;

const LONGER = [1, 2, 4];
const WARM_UP_ROUNDS = 2;
/** Of the budget. A first round that takes as long has warmed up what there is: of slow cases it would be too many seconds to repeat. */
const WARM_UP_SHARE = 0.1;
const PORTION = 2; // even, so that each side is first in half of them
/** Of fewer, no two ranks hold the median with 99 % probability (`summarise`). */
const LEAST_SAMPLES = 8;
const CASE_CHILD = new URL('./case_child.mjs', import.meta.url);

/** Those that a run measures. */
export function casesOf(row: Row, { quick }: Plan): Case[] {
  return quick ? row.cases.slice(0, row.quickCases ?? 1) : row.cases;
}

export async function runRow(row: Row, options: RunOptions): Promise<RowResult> {
  const results: CaseResult[] = [];
  const unavailable: { label: string; reason: string }[] = [];
  for (const item of casesOf(row, options.plan)) {
    const result = await runCase(row, item, options);
    if ('reason' in result) unavailable.push(result);
    else results.push(result);
  }
  const { id, title, unit, baselineName, sizeName } = row;
  const result: RowResult = { id, title, unit, baselineName, sizeName, cases: results };
  if (unavailable.length > 0) result.unavailable = unavailable;
  const sized = results.filter((each) => each.size !== undefined);
  if (sized.length > 2) {
    const fit = (of: 'subject' | 'baseline'): number => growth(sized.map((each) => [each.size as number, each[of]] as const));
    result.growth = { subject: fit('subject'), baseline: fit('baseline') };
  }
  return result;
}

/** One of a row's cases; or why it cannot be measured here. */
export async function runCase(
  row: Row,
  item: Case,
  options: RunOptions,
): Promise<CaseResult | { label: string; reason: string }> {
  options.begin(row, item);
  if (item.unavailable !== undefined) return { label: item.label, reason: item.unavailable };
  const target = options.bound ?? item.target ?? row.target;
  const samples = await measureElsewhere(row, item, target, options);
  const ratio = summarise(ratios(samples));
  return {
    label: item.label,
    size: item.size,
    subject: median(samples.subject),
    baseline: median(samples.baseline),
    ratio,
    target,
    verdict: judge(ratio, target),
    samples,
  };
}

/** Of neighbours: what disturbed one disturbed the other. */
function ratios(samples: Samples): number[] {
  return samples.subject.map((a, i) => a / samples.baseline[i]);
}

/** In a process of its own: what one case leaves in the heap or the address space is not the next one's to pay for. */
async function measureElsewhere(row: Row, item: Case, target: Target | undefined, options: RunOptions): Promise<Samples> {
  const order: Order = { row: row.id, case: row.cases.indexOf(item), plan: options.plan, target };
  const child = fork(CASE_CHILD, [JSON.stringify(order)], { execArgv: ['--expose-gc'] });
  let samples: Samples | undefined;
  child.on('message', (report: Report) => {
    if ('samples' in report) samples = report.samples;
    else options.progress(row, item, report.round, report.rounds);
  });
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (samples === undefined) throw new Error(`${row.id}, ${item.label}: the process ended with ${signal ?? status}`);
  return samples;
}

/** Takes the samples of a case, in this process, until the verdict on `target` is clear or the plan is at its end. */
export async function measure(
  item: Pick<Case, 'subject' | 'baseline'>,
  { rounds, warmUpMs, budgetMs }: Plan,
  target: Target | undefined,
  progress: (round: number, rounds: number) => void,
): Promise<Samples> {
  const subject = await item.subject();
  const baseline = await item.baseline();
  const samples: Samples = { subject: [], baseline: [] };
  const started = performance.now();
  const elapsed = (): number => performance.now() - started;
  const isEnough = (): boolean => elapsed() > budgetMs && samples.subject.length >= LEAST_SAMPLES;
  // In portions, so that a case whose samples take seconds ends with fewer of them.
  const take = async (upTo: number): Promise<void> => {
    while (samples.subject.length < upTo && !isEnough()) {
      progress(samples.subject.length, upTo);
      const { a, b } = await compare(
        () => subject.sample(),
        () => baseline.sample(),
        { rounds: Math.min(PORTION, upTo - samples.subject.length), warmUpRounds: 0 },
      );
      samples.subject.push(...a.samples);
      samples.baseline.push(...b.samples);
    }
  };
  try {
    progress(0, rounds);
    for (let round = 0; round < WARM_UP_ROUNDS || elapsed() < warmUpMs; round++) {
      await subject.sample();
      await baseline.sample();
      if (elapsed() > WARM_UP_SHARE * budgetMs) break;
    }
    for (const times of LONGER) {
      await take(times * rounds);
      if (judge(summarise(ratios(samples)), target) !== 'noisy') break;
    }
  } finally {
    await subject.close?.();
    await baseline.close?.();
  }
  return samples;
}
