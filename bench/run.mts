/** What `--json` writes and `--from` reads. */
import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import type { RowResult } from './harness.mjs';
import type { Truncation } from './truncation.mjs';

export interface Run {
  machine: { cpu: string; cpus: number; kernel: string; node: string; v8: string };
  date: string;
  quick: boolean;
  results: RowResult[];
  /** Where rivals were among the chosen rows. */
  truncations?: Truncation[];
}

/** A run that ended now, on this machine. */
export function runHere(results: RowResult[], quick: boolean): Run {
  const machine = {
    cpu: cpus()[0].model,
    cpus: cpus().length,
    kernel: release(),
    node: process.version,
    v8: process.versions.v8,
  };
  return { machine, date: new Date().toISOString(), quick, results };
}

export function readRun(path: string): Run {
  const run = JSON.parse(readFileSync(path, 'utf8')) as Partial<Run>;
  if (run.machine === undefined || !Array.isArray(run.results)) throw new Error(`${path} was not written by --json`);
  return run as Run;
}

/** In one line, for below a title. */
export function provenance({ machine, date, quick }: Run): string {
  const { cpu, cpus: count, kernel, node } = machine;
  return `${count} × ${cpu}, Linux ${kernel}, Node ${node}, ${date.slice(0, 10)}${quick ? ', a quick run' : ''}`;
}
