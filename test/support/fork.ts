/** A forked process that accesses this one's memory, for what fork(2) hands on. */
import { execFileSync } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { kernel } from './kernel-calls.js';
import { temporaryDirectory } from './temporary.js';

const OPERATIONS = { read: 0, write: 1, 'ask-kernel': 2, unmap: 3 } as const;

export interface Forked {
  /** Lets the child perform its operation, and waits for its end: `[exit status or null, signal number or null]`. */
  finish(): [number | null, number | null];
}

type Fork = (at: bigint, operation: number, gate: number) => number;
let native: Fork | undefined;

function compiled(): Fork {
  if (native !== undefined) return native;
  const library = join(temporaryDirectory(), 'kernel-fork.so');
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, join(__dirname, '..', 'children', 'kernel-fork.c')]);
  native = koffi.load(library).func('int kernel_case_fork(uint64 at, int operation, int gate)') as Fork;
  return native;
}

/** Why nothing can be compiled to run in a forked process; undefined when it can. */
export function whyNoFork(): string | undefined {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'needs a C compiler: what runs in a forked process cannot be JavaScript';
  }
}

/** Forks a child that will do one thing at an address: see `test/children/kernel-fork.c` for what its status says. */
export function forkTo(operation: keyof typeof OPERATIONS, at: bigint): Forked {
  const [reader, writer] = kernel.pipe();
  const child = compiled()(at, OPERATIONS[operation], reader);
  closeSync(reader);
  if (child < 0) throw new Error('fork failed');
  return {
    finish() {
      writeSync(writer, 'x');
      closeSync(writer);
      return kernel.waitpid(child);
    },
  };
}
