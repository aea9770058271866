/**
 * npm run bench:check [-- --record]: fails when a ratio to the C baseline, taken in this run, is worse than the recorded one by more than
 * noise explains. The last line is `N passed, N failed`. With --record the ratios of this run become the recorded ones.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { runRow, type CaseResult, type RowResult } from './harness.mjs';
import type { Row } from './row.mjs';
import { ROWS } from './rows.mjs';

// This runs as build/bench/check.mjs.
const RECORD = new URL('../../bench/recorded.json', import.meta.url);
const CHECKED = ['copy', 'revoke', 'fault', 'map-close', 'first-touch'];

/** How much worse than recorded a ratio may be: another processor has other caches and another price of a system call. */
const MARGIN = 1.3;
/** A regression is there each time one looks; a busy neighbour is not. */
const LOOKS = 3;

/** Ratios by the major version of Node, then by row and case. */
type Recorded = Record<string, Record<string, number>>;

interface Outcome {
  name: string;
  recorded: number | undefined;
  measured: CaseResult;
  slower: boolean;
}

const { values: flags } = parseArgs({ options: { record: { type: 'boolean', default: false } } });
const major = process.versions.node.split('.')[0];

function nameOf(row: RowResult | Row, item: { label: string }): string {
  return `${row.id}: ${item.label}`;
}

/** What was recorded on this version of Node; on one that has no record, the worst of those on others. */
function recordedRatio(all: Recorded, name: string): number | undefined {
  const here = all[major]?.[name];
  if (here !== undefined) return here;
  const elsewhere = Object.values(all).flatMap((ratios) => ratios[name] ?? []);
  return elsewhere.length === 0 ? undefined : Math.max(...elsewhere);
}

/** Slower only when the whole interval is beyond the margin. */
function isSlower(item: CaseResult, recorded: number | undefined): boolean {
  return recorded !== undefined && item.ratio.low > recorded * MARGIN;
}

async function measureRow(row: Row): Promise<RowResult> {
  return runRow(row, { quick: true, progress: () => undefined });
}

async function checkRow(row: Row, all: Recorded): Promise<Outcome[]> {
  const outcomes = new Map<string, Outcome>();
  for (let look = 0; look < LOOKS; look++) {
    for (const measured of (await measureRow(row)).cases) {
      const name = nameOf(row, measured);
      const recorded = recordedRatio(all, name);
      const slower = isSlower(measured, recorded);
      if (outcomes.get(name)?.slower !== false) outcomes.set(name, { name, recorded, measured, slower });
    }
    if (![...outcomes.values()].some(({ slower }) => slower)) break;
  }
  return [...outcomes.values()];
}

function print(outcomes: Outcome[]): void {
  const table = new Table({ head: ['ratio to C', 'recorded', 'now', '99 % interval', ''], style: { head: [], border: [] } });
  for (const { name, recorded, measured, slower } of outcomes) {
    const { median, low, high } = measured.ratio;
    const verdict = slower
      ? 'SLOWER'
      : recorded === undefined
        ? 'not recorded'
        : high < recorded / MARGIN
          ? 'faster'
          : 'as recorded';
    const figures = [recorded?.toPrecision(3) ?? '', median.toPrecision(3), `${low.toPrecision(3)} … ${high.toPrecision(3)}`];
    table.push([name, ...figures, verdict]);
  }
  console.log(table.toString());
}

async function record(all: Recorded): Promise<void> {
  const ratios: Record<string, number> = {};
  for (const row of ROWS.filter(({ id }) => CHECKED.includes(id))) {
    for (const item of (await measureRow(row)).cases) ratios[nameOf(row, item)] = Number(item.ratio.median.toPrecision(3));
  }
  writeFileSync(RECORD, `${JSON.stringify({ ...all, [major]: ratios }, null, 2)}\n`);
}

const recorded = JSON.parse(readFileSync(RECORD, 'utf8')) as Recorded;
if (flags.record) {
  await record(recorded);
} else {
  const outcomes: Outcome[] = [];
  for (const row of ROWS.filter(({ id }) => CHECKED.includes(id))) outcomes.push(...(await checkRow(row, recorded)));
  print(outcomes);
  // What is not recorded has not been checked.
  const failed = outcomes.filter(({ slower, recorded: before }) => slower || before === undefined).length;
  console.log(`${outcomes.length - failed} passed, ${failed} failed`);
  if (failed > 0 || outcomes.length === 0) process.exitCode = 1;
}
