/** Runs rows: subject and baseline take turns, so that whatever else the machine does hits both. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { compare, median, summarise, type Summary } from 'revocable-mmap/bench';
import type { Case, Row } from './row.mjs';
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
  quick: boolean;
  /** Called before each sample. */
  progress(row: Row, item: Case, round: number, rounds: number): void;
}

/** Raw, in the order they were taken. */
export interface Samples {
  subject: number[];
  baseline: number[];
}

/** What the process that measures a case tells. */
export type Report = { round: number; rounds: number } | { samples: Samples };

/** How many samples of each side, and of how long a warm-up. Where the verdict is not clear after so many, twice as many, and again. */
const PLANS = { quick: { rounds: 15, warmUpMs: 300 }, whole: { rounds: 31, warmUpMs: 1000 } };
const LONGER = [1, 2, 4];
const WARM_UP_ROUNDS = 2;
const PORTION = 2; // even, so that each side is first in half of them
/** A case that takes longer ends, once it has as many samples as an interval needs. */
const BUDGET_MS = 30_000;
const LEAST_SAMPLES = 10;
const CASE_CHILD = new URL('./case_child.mjs', import.meta.url);

export async function runRow(row: Row, options: RunOptions): Promise<RowResult> {
  const count = options.quick ? (row.quickCases ?? 1) : row.cases.length;
  const results: CaseResult[] = [];
  const unavailable: { label: string; reason: string }[] = [];
  for (let index = 0; index < Math.min(count, row.cases.length); index++) {
    const { label, unavailable: reason } = row.cases[index];
    if (reason === undefined) results.push(await runCase(row, index, options));
    else unavailable.push({ label, reason });
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

async function runCase(row: Row, index: number, options: RunOptions): Promise<CaseResult> {
  const item = row.cases[index];
  const samples = await measureElsewhere(row, index, options);
  const ratio = summarise(ratios(samples));
  const target = item.target ?? row.target;
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
async function measureElsewhere(row: Row, index: number, options: RunOptions): Promise<Samples> {
  const child = fork(CASE_CHILD, [row.id, String(index), options.quick ? 'quick' : 'whole'], { execArgv: ['--expose-gc'] });
  let samples: Samples | undefined;
  child.on('message', (report: Report) => {
    if ('samples' in report) samples = report.samples;
    else options.progress(row, row.cases[index], report.round, report.rounds);
  });
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (samples === undefined) throw new Error(`${row.id}, ${row.cases[index].label}: the process ended with ${signal ?? status}`);
  return samples;
}

/** Takes the samples of a case, in this process. */
export async function measure(
  row: Row,
  item: Case,
  plan: keyof typeof PLANS,
  progress: (round: number, rounds: number) => void,
): Promise<Samples> {
  const subject = await item.subject();
  const baseline = await item.baseline();
  const samples: Samples = { subject: [], baseline: [] };
  const { rounds, warmUpMs } = PLANS[plan];
  const started = performance.now();
  // In portions, so that a case whose samples take seconds ends with fewer of them.
  const take = async (upTo: number): Promise<void> => {
    while (samples.subject.length < upTo && !overBudget(started, samples)) {
      progress(samples.subject.length, upTo);
      const warmUp = samples.subject.length === 0 ? { warmUpRounds: WARM_UP_ROUNDS, warmUpMs } : { warmUpRounds: 0 };
      const portion = Math.min(PORTION, upTo - samples.subject.length);
      const { a, b } = await compare(
        () => subject.sample(),
        () => baseline.sample(),
        { rounds: portion, ...warmUp },
      );
      samples.subject.push(...a.samples);
      samples.baseline.push(...b.samples);
    }
  };
  try {
    for (const times of LONGER) {
      await take(times * rounds);
      if (judge(summarise(ratios(samples)), item.target ?? row.target) !== 'noisy') break;
    }
  } finally {
    await subject.close?.();
    await baseline.close?.();
  }
  return samples;
}

function overBudget(started: number, samples: Samples): boolean {
  return performance.now() - started > BUDGET_MS && samples.subject.length >= LEAST_SAMPLES;
}
