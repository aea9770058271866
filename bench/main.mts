/** npm run bench -- [--only ROW] [--quick] [--json FILE] [--from FILE] [--plots DIRECTORY] [--rivals] [--list] */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { runRow, type CaseResult, type RowResult } from './harness.mjs';
import { canDraw, drawPlots } from './plots.mjs';
import type { Row, Target } from './row.mjs';
import { ROWS } from './rows.mjs';
import { readRun, runHere, type Run } from './run.mjs';
import { whatATruncationDoes, type Truncation } from './truncation.mjs';

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    from: { type: 'string' },
    plots: { type: 'string' },
    rivals: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});

function isChosen(id: string): boolean {
  return flags.only?.some((part) => id.startsWith(part)) ?? true;
}

function chosen(): Row[] {
  // Alone, --rivals asks for the table of truncations only.
  if (flags.only === undefined) return flags.rivals ? [] : ROWS.filter((row) => row.byDefault?.(flags.quick) ?? true);
  const found = ROWS.filter(({ id }) => isChosen(id));
  if (found.length > 0) return found;
  console.error(`no row begins with ${flags.only.join(' or ')}; there are: ${ROWS.map(({ id }) => id).join(', ')}`);
  process.exit(2);
}

function progress(row: Row, label: string, round: number, rounds: number): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${row.id}: ${label}, ${round + 1} of ${rounds}`);
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
    style: { head: [] },
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
  const table = new Table({ head: ['another process truncates the file', 'and the next read'], style: { head: [] } });
  for (const { rival, loads, outcome } of truncations) table.push([rival, loads === 'yes' ? outcome : loads]);
  console.log(table.toString());
}

async function measureChosen(): Promise<Run> {
  const results: RowResult[] = [];
  const rows = chosen();
  for (const row of rows) {
    results.push(
      await runRow(row, {
        quick: flags.quick,
        progress: (each, item, round, rounds) => progress(each, item.label, round, rounds),
      }),
    );
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  const run = runHere(results, flags.quick);
  const hasRivals = flags.rivals || rows.some(({ id }) => id.startsWith('rivals'));
  return hasRivals ? { ...run, truncations: await whatATruncationDoes() } : run;
}

/** An earlier run, or those of its rows that are chosen. */
function earlier(path: string): Run {
  try {
    const run = readRun(path);
    return { ...run, results: run.results.filter(({ id }) => isChosen(id)) };
  } catch (error) {
    console.error((error as Error).message);
    process.exit(2);
  }
}

async function draw(run: Run, directory: string): Promise<void> {
  const { files, missing } = await drawPlots(run, directory);
  for (const file of files) console.log(`drawn: ${file}`);
  for (const reason of missing) console.log(`not drawn: ${reason}`);
}

if (flags.list) {
  for (const { id, title } of ROWS) console.log(`${id.padEnd(22)} ${title}`);
} else {
  // Told before measuring: that takes minutes.
  if (flags.plots !== undefined && !canDraw()) {
    console.error('plots need "npm run bench:setup" first');
    process.exit(2);
  }
  const run = flags.from === undefined ? await measureChosen() : earlier(flags.from);
  if (run.results.length > 0) print(run.results);
  if (run.truncations !== undefined) printTruncations(run.truncations);
  if (flags.json !== undefined) writeFileSync(flags.json, JSON.stringify(run, null, 2));
  if (flags.plots !== undefined) await draw(run, flags.plots);
}
