/** The C programs that the library is measured against: each waits for a line, does its work once and prints how long it took. */
import { execFileSync, spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { MemoryObject } from 'revocable-mmap';
import type { Side } from './row.mjs';

// This runs as build/bench/baseline.mjs.
const SOURCES = new URL('../../bench/baseline/', import.meta.url);
const INCLUDE = fileURLToPath(new URL('../../include/', import.meta.url));
const PROGRAMS = new URL('./baseline/', import.meta.url);

/** What compiles them. */
export const COMPILER = process.env.CC ?? 'gcc';

/** Compiles a program if its source, or a header, is newer. */
export function build(name: string): string {
  const source = fileURLToPath(new URL(`${name}.c`, SOURCES));
  const program = fileURLToPath(new URL(name, PROGRAMS));
  mkdirSync(PROGRAMS, { recursive: true });
  const headers = ['sample.h', 'hold.h', 'uffd.h'].map((header) => fileURLToPath(new URL(header, SOURCES)));
  if (modified(program) < Math.max(...[source, ...headers].map(modified))) {
    execFileSync(COMPILER, ['-O2', '-Wall', '-Werror', '-pthread', '-I', INCLUDE, '-o', program, source], { stdio: 'inherit' });
  }
  return program;
}

function modified(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** One of bench/baseline/, compiled when that is needed. */
export function cProgram(name: string, args: readonly (string | number)[], scale = 1): Side {
  return program(build(name), args, scale);
}

/** A program that stays for as many samples as are asked for. `scale` turns its nanoseconds into the row's unit. */
export function program(path: string, args: readonly (string | number)[], scale = 1): Side {
  const child: ChildProcessWithoutNullStreams = spawn(path, args.map(String));
  child.stderr.pipe(process.stderr);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async sample() {
      child.stdin.write('\n');
      const line = await lines.next();
      if (line.done === true) throw new Error(`${path} ended: status ${child.exitCode}, ${child.signalCode}`);
      return Number(line.value) * scale;
    },
    async close() {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin.end();
      await ended;
    },
  };
}

/** Other processes, each of which has mapped and touched all of `object`. */
export async function holders(object: MemoryObject, count: number): Promise<{ end(): Promise<void> }> {
  const path = `/proc/${process.pid}/fd/${object.fd}`;
  const child = spawn(build('hold'), [path, String(object.size), String(count)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  await Promise.race([once(child.stdout, 'data'), ended]);
  if (child.exitCode !== null) throw new Error(`the processes that share the memory did not start: status ${child.exitCode}`);
  return {
    async end() {
      child.stdin.end();
      await ended;
    },
  };
}
