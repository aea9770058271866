/** Runs rows: subject and baseline take turns, so that whatever else the machine does hits both. */
import type { Case, Row, Side } from './row.mjs';
import { growth, judge, median, summarise, type Summary, type Verdict } from './statistics.mjs';

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
  /** Raw, in the order they were taken. */
  samples: { subject: number[]; baseline: number[] };
}

export interface RowResult {
  id: string;
  title: string;
  unit: string;
  baselineName: string;
  cases: CaseResult[];
  /** The exponents k of cost ~ size^k, where sizes grow. */
  growth?: { subject: number; baseline: number };
}

export interface RunOptions {
  quick: boolean;
  /** Called before each sample. */
  progress(row: Row, item: Case, round: number, rounds: number): void;
}

const ROUNDS = 31;
const QUICK_ROUNDS = 15;
const WARM_UP_ROUNDS = 3;

export async function runRow(row: Row, options: RunOptions): Promise<RowResult> {
  const cases = options.quick ? row.cases.slice(0, row.quickCases ?? 1) : row.cases;
  const results: CaseResult[] = [];
  for (const item of cases) results.push(await runCase(row, item, options));
  const result: RowResult = { id: row.id, title: row.title, unit: row.unit, baselineName: row.baselineName, cases: results };
  const sized = results.filter((each) => each.size !== undefined);
  if (sized.length > 2) {
    const fit = (of: 'subject' | 'baseline'): number => growth(sized.map((each) => [each.size as number, each[of]] as const));
    result.growth = { subject: fit('subject'), baseline: fit('baseline') };
  }
  return result;
}

async function runCase(row: Row, item: Case, options: RunOptions): Promise<CaseResult> {
  const subject = await item.subject();
  const baseline = await item.baseline();
  const samples = { subject: [] as number[], baseline: [] as number[] };
  const rounds = options.quick ? QUICK_ROUNDS : ROUNDS;
  try {
    for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
      options.progress(row, item, Math.max(0, round), rounds);
      const [a, b] = await takeTurns(subject, baseline, round % 2 === 0);
      if (round < 0) continue;
      samples.subject.push(a);
      samples.baseline.push(b);
    }
  } finally {
    await subject.close?.();
    await baseline.close?.();
  }
  const ratio = summarise(samples.subject.map((a, i) => a / samples.baseline[i]));
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

/** A B, then B A: neither is always the one that finds the caches cold. */
async function takeTurns(subject: Side, baseline: Side, subjectFirst: boolean): Promise<[number, number]> {
  if (subjectFirst) {
    const a = await subject.sample();
    return [a, await baseline.sample()];
  }
  const b = await baseline.sample();
  return [await subject.sample(), b];
}
