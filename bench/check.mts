/**
 * npm run bench:check [-- --record] [--only ROW] [--recorded FILE]: fails when a ratio to the C baseline, taken in this run, is worse than
 * the recorded one by more than noise explains, and when there is no record of it. The last line is `N passed, N failed`. With --record
 * the ratios of this run become the recorded ones of this version of Node.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { chosenOf, parsed, refuse } from './command.mjs';
import { checked, earlierOf, isFailure, type Checked, type Recorded } from './gate.mjs';
import { casesOf, PLANS, runCase, type Plan } from './harness.mjs';
import { progressOf } from './progress.mjs';
import type { Case, Row, Target } from './row.mjs';
import { ROWS } from './rows.mjs';

// This runs as build/bench/check.mjs.
const RECORD = fileURLToPath(new URL('../../bench/recorded.json', import.meta.url));
/** Rows that are quick, and whose baseline is C, or what C would be. */
const CHECKED = ['checked-read-failed', 'copy', 'revoke', 'fault', 'map-close', 'fault-op-native', 'register-raw', 'first-touch'];
const USAGE = 'npm run bench:check [-- [--record] [--only ROW] [--recorded FILE]]';

const flags = parsed(USAGE, {
  record: { type: 'boolean', default: false },
  only: { type: 'string', multiple: true },
  recorded: { type: 'string', default: RECORD },
});
const major = process.versions.node.split('.')[0];
const rows = chosenOf(
  ROWS.filter(({ id }) => CHECKED.includes(id)),
  flags.only,
);

function readRecord(): Recorded {
  try {
    return JSON.parse(readFileSync(flags.recorded, 'utf8')) as Recorded;
  } catch (error) {
    refuse(`${flags.recorded} cannot be read: ${(error as Error).message}`);
  }
}

function casesOfAll(plan: Plan): { name: string; row: Row; item: Case }[] {
  return rows.flatMap((row) => casesOf(row, plan).map((item) => ({ name: `${row.id}: ${item.label}`, row, item })));
}

function print(outcomes: Checked[]): void {
  const table = new Table({ head: ['ratio to C', 'recorded', 'now', '99 % interval', ''], style: { head: [], border: [] } });
  for (const { name, earlier, now, finding, reason } of outcomes) {
    const before = earlier === undefined ? '' : `${earlier.ratio}${earlier.node === major ? '' : ` (Node ${earlier.node})`}`;
    const figures = now === undefined ? ['', ''] : [now.median.toPrecision(3), interval(now)];
    table.push([name, before, ...figures, finding === 'slower' ? 'SLOWER' : (reason ?? finding)]);
  }
  console.log(table.toString());
}

function interval({ low, high }: { low: number; high: number }): string {
  return `${low.toPrecision(3)} … ${high.toPrecision(3)}`;
}

async function record(all: Recorded): Promise<void> {
  const cases = casesOfAll(PLANS.quick);
  const progress = progressOf(cases.length);
  const ratios: Record<string, number> = {};
  for (const { name, row, item } of cases) {
    const found = await runCase(row, item, { plan: PLANS.quick, ...progress });
    if ('ratio' in found) ratios[name] = Number(found.ratio.median.toPrecision(3));
  }
  progress.end();
  // Of all rows, they take the place of what there was, so that no name stays that no case has any more.
  const kept = flags.only === undefined ? {} : all[major];
  writeFileSync(flags.recorded, `${JSON.stringify({ ...all, [major]: { ...kept, ...ratios } }, null, 2)}\n`);
  for (const [name, ratio] of Object.entries(ratios)) console.log(`${name}: ${all[major]?.[name] ?? 'not recorded'} → ${ratio}`);
  console.log(`${Object.keys(ratios).length} ratios of Node ${major} written to ${flags.recorded}`);
}

async function check(all: Recorded): Promise<void> {
  const cases = casesOfAll(PLANS.gate).map((each) => ({ ...each, earlier: earlierOf(all, each.name, major) }));
  const progress = progressOf(cases.filter(({ earlier }) => earlier !== undefined).length);
  const outcomes: Checked[] = [];
  for (const { name, row, item, earlier } of cases) {
    const look = (bound: Target): ReturnType<typeof runCase> => runCase(row, item, { plan: PLANS.gate, bound, ...progress });
    outcomes.push(await checked(name, earlier, look));
  }
  progress.end();
  print(outcomes);
  const unknown = outcomes.filter(({ finding }) => finding === 'not recorded').map(({ name }) => name);
  if (unknown.length > 0) {
    console.log(
      `no ratio is recorded of ${unknown.map((name) => `"${name}"`).join(', ')}, so nothing says whether it has become slower:`,
    );
    console.log('run "npm run bench:check -- --record" on an idle machine, and commit what it writes to bench/recorded.json');
  }
  const failed = outcomes.filter(isFailure).length;
  const passed = outcomes.filter((outcome) => outcome.now !== undefined && !isFailure(outcome)).length;
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0 || passed === 0) process.exitCode = 1;
}

const recorded = readRecord();
await (flags.record ? record(recorded) : check(recorded));
