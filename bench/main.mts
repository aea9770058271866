/** npm run bench: measures rows, or shows those of an earlier run; USAGE below. */
import { writeFileSync } from 'node:fs';
import Table from 'cli-table3';
import { chosenOf, parsed, refuse } from './command.mjs';
import { casesOf, PLANS, runRow, type CaseResult, type RowResult } from './harness.mjs';
import { canDraw, drawPlots } from './plots.mjs';
import { progressOf } from './progress.mjs';
import type { Row, Target } from './row.mjs';
import { ROWS } from './rows.mjs';
import { readRun, runHere, type Run } from './run.mjs';
import { whatATruncationDoes, type Truncation } from './truncation.mjs';

const USAGE = 'npm run bench -- [--only ROW] [--quick] [--json FILE] [--from FILE] [--plots DIRECTORY] [--rivals] [--list]';

const flags = parsed(USAGE, {
  only: { type: 'string', multiple: true },
  quick: { type: 'boolean', default: false },
  json: { type: 'string' },
  from: { type: 'string' },
  plots: { type: 'string' },
  rivals: { type: 'boolean', default: false },
  list: { type: 'boolean', default: false },
});

function chosen(): Row[] {
  if (flags.only !== undefined) return chosenOf(ROWS, flags.only);
  // Alone, --rivals asks for the table of truncations only.
  return flags.rivals ? [] : ROWS.filter((row) => row.byDefault?.(flags.quick) ?? true);
}

/** Three digits that mean something. */
function figure(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
}

function bound(target: Target | undefined): string {
  if (target === undefined) return '';
  return 'atMost' in target ? `≤ ${figure(target.atMost)}` : `≥ ${figure(target.atLeast)}`;
}

function cells(row: RowResult, item: CaseResult): string[] {
  return [
    `${row.title}\n  ${item.label}`,
    `${figure(item.subject)} ${row.unit}`,
    `${figure(item.baseline)} ${row.unit}\n${row.baselineName}`,
    `${figure(item.ratio.median)}\n${figure(item.ratio.low)} … ${figure(item.ratio.high)}`,
    bound(item.target),
    item.verdict === 'noisy' ? 'noisy: run it on a\nquieter machine' : item.verdict === 'no target' ? '' : item.verdict,
  ];
}

function print(results: RowResult[]): void {
  const table = new Table({
    head: ['what', 'subject', 'baseline', 'ratio\n99 % interval', 'target', 'verdict'],
    style: { head: [], border: [] },
  });
  for (const row of results) {
    for (const item of row.cases) table.push(cells(row, item));
    for (const { label, reason } of row.unavailable ?? [])
      table.push([`${row.title}\n  ${label}`, { colSpan: 5, content: reason }]);
  }
  console.log(table.toString());
  for (const { id, growth } of results) {
    if (growth !== undefined)
      console.log(`${id}: cost ~ size^${growth.subject.toFixed(2)}, the baseline's ~ size^${growth.baseline.toFixed(2)}`);
  }
}

function printTruncations(truncations: Truncation[]): void {
  const table = new Table({ head: ['another process truncates the file', 'and the next read'], style: { head: [], border: [] } });
  for (const { rival, loads, outcome } of truncations) table.push([rival, loads === 'yes' ? outcome : loads]);
  console.log(table.toString());
}

async function measureChosen(): Promise<Run> {
  const results: RowResult[] = [];
  const rows = chosen();
  const plan = flags.quick ? PLANS.quick : PLANS.whole;
  const progress = progressOf(rows.flatMap((row) => casesOf(row, plan)).length);
  for (const row of rows) results.push(await runRow(row, { plan, ...progress }));
  progress.end();
  const run = runHere(results, flags.quick);
  const hasRivals = flags.rivals || rows.some(({ id }) => id.startsWith('rivals'));
  return hasRivals ? { ...run, truncations: await whatATruncationDoes() } : run;
}

/** An earlier run, or those of its rows that are chosen. */
function earlier(path: string): Run {
  let run: Run;
  try {
    run = readRun(path);
  } catch (error) {
    refuse((error as Error).message);
  }
  return { ...run, results: chosenOf(run.results, flags.only) };
}

async function draw(run: Run, directory: string): Promise<void> {
  const { files, missing } = await drawPlots(run, directory);
  for (const file of files) console.log(`drawn: ${file}`);
  for (const reason of missing) console.log(`not drawn: ${reason}`);
}

if (flags.list) {
  for (const { id, title } of ROWS) console.log(`${id.padEnd(22)} ${title}`);
} else {
  // Reported before measuring: that takes minutes.
  if (flags.plots !== undefined && !canDraw()) refuse('plots need "npm run bench:setup" first');
  const run = flags.from === undefined ? await measureChosen() : earlier(flags.from);
  if (run.results.length > 0) print(run.results);
  if (run.truncations !== undefined) printTruncations(run.truncations);
  if (flags.json !== undefined) writeFileSync(flags.json, JSON.stringify(run, null, 2));
  if (flags.plots !== undefined) await draw(run, flags.plots);
}
