/** npm run bench -- [--only ROW] [--quick] [--json FILE] [--list] */
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { runRow, type CaseResult, type RowResult } from './harness.mjs';
import type { Row, Target } from './row.mjs';
import { ROWS } from './rows.mjs';

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});

function chosen(): Row[] {
  if (flags.only === undefined) return ROWS;
  const found = ROWS.filter((row) => flags.only?.some((part) => row.id.startsWith(part)));
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
  for (const row of results) for (const item of row.cases) table.push(cells(row, item));
  console.log(table.toString());
  for (const { id, growth } of results) {
    if (growth !== undefined)
      console.log(`${id}: cost ~ size^${growth.subject.toFixed(2)}, the baseline's ~ size^${growth.baseline.toFixed(2)}`);
  }
}

if (flags.list) {
  for (const { id, title } of ROWS) console.log(`${id.padEnd(22)} ${title}`);
} else {
  const results: RowResult[] = [];
  for (const row of chosen()) {
    results.push(
      await runRow(row, {
        quick: flags.quick,
        progress: (each, item, round, rounds) => progress(each, item.label, round, rounds),
      }),
    );
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  print(results);
  if (flags.json !== undefined) {
    const machine = {
      cpu: cpus()[0].model,
      cpus: cpus().length,
      kernel: release(),
      node: process.version,
      v8: process.versions.v8,
    };
    writeFileSync(flags.json, JSON.stringify({ machine, date: new Date().toISOString(), quick: flags.quick, results }, null, 2));
  }
}
