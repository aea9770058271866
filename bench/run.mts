/** What `--json` writes and `--from` reads. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { COMPILER } from './baseline.mjs';
import { installedVersion } from './extras.mjs';
import type { RowResult } from './harness.mjs';
import { java } from './java.mjs';
import { RIVALS } from './rivals.mjs';
import type { Truncation } from './truncation.mjs';

export interface Run {
  machine: {
    cpu: string;
    cpus: number;
    kernel: string;
    node: string;
    v8: string;
    /** Null where there is another libc. */
    glibc: string | null;
    /** Of the C programs: the first line of `gcc --version`. */
    compiler: string | null;
  };
  /** What was measured; `commit` ends in `-dirty` where the checkout had changes, and is null where there is no checkout. */
  package: { version: string; commit: string | null };
  /** Versions of those that are installed. */
  rivals: Record<string, string>;
  date: string;
  quick: boolean;
  results: RowResult[];
  /** Where rivals were among the chosen rows. */
  truncations?: Truncation[];
}

// This runs as build/bench/run.mjs.
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A run that ended now, on this machine. */
export function runHere(results: RowResult[], quick: boolean): Run {
  const machine = {
    cpu: cpus()[0].model,
    cpus: cpus().length,
    kernel: release(),
    node: process.version,
    v8: process.versions.v8,
    glibc: glibc(),
    compiler: firstLine(COMPILER, ['--version']),
  };
  const { version } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as { version: string };
  const measured = { version, commit: commit() };
  return { machine, package: measured, rivals: rivals(), date: new Date().toISOString(), quick, results };
}

function glibc(): string | null {
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime ?? null;
}

function commit(): string | null {
  // Elsewhere git would find the checkout that this directory happens to lie in. No tag matches an empty pattern.
  if (!existsSync(`${ROOT}.git`)) return null;
  return firstLine('git', ['-C', ROOT, 'describe', '--always', '--match=', '--abbrev=40', '--dirty']);
}

function firstLine(command: string, args: string[]): string | null {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout.split('\n')[0] : null;
}

function rivals(): Record<string, string> {
  const packages = RIVALS.flatMap(({ package: name }) => name ?? []);
  const versions = packages.map((name) => [name, installedVersion(name)] as const);
  const jvm = java()?.version;
  const found = [...versions, ['java', jvm === undefined ? undefined : String(jvm)] as const];
  return Object.fromEntries(found.flatMap(([name, version]) => (version === undefined ? [] : [[name, version]])));
}

export function readRun(path: string): Run {
  let run: Partial<Run>;
  try {
    run = JSON.parse(readFileSync(path, 'utf8')) as Partial<Run>;
  } catch (error) {
    if (error instanceof SyntaxError) throw new Error(`${path} was not written by --json`, { cause: error });
    throw error;
  }
  if (run?.machine === undefined || !Array.isArray(run.results)) throw new Error(`${path} was not written by --json`);
  return run as Run;
}

/** In one line, for below a title. */
export function provenance({ machine, date, quick }: Run): string {
  const { cpu, cpus: count, kernel, node } = machine;
  return `${count} × ${cpu}, Linux ${kernel}, Node ${node}, ${date.slice(0, 10)}${quick ? ', a quick run' : ''}`;
}
