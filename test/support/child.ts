/** Running what may die, or hang, in a process of its own. */
import { spawn, type SpawnOptions } from 'node:child_process';
import { join } from 'node:path';
import { limitOf } from './rounds.js';

export interface ChildResult {
  /** Exit status, null when a signal killed it. */
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface ChildOptions {
  args?: (string | number)[];
  env?: Record<string, string>;
  nodeArgs?: string[];
  /** Milliseconds until it counts as hung and is killed; more where storms have more rounds. */
  limit?: number;
  stdio?: SpawnOptions['stdio'];
}

const CHILDREN = join(__dirname, '..', 'children');
const ROOT = join(__dirname, '..', '..');

/** Runs `node CODE…` to its end, without core dumps. Rejects when it hangs. */
export function runNode(argv: string[], options: ChildOptions = {}): Promise<ChildResult> {
  const limit = limitOf(options.limit ?? 220_000);
  const command = 'ulimit -c 0; exec "$0" "$@"';
  const child = spawn('sh', ['-c', command, process.execPath, ...(options.nodeArgs ?? []), ...argv], {
    cwd: ROOT,
    env: { ...process.env, ...options.env },
    stdio: options.stdio ?? ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`hung for ${limit} ms: node ${argv.join(' ').slice(0, 400)}\n${stdout}\n${stderr}`));
    }, limit);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, stdout, stderr });
    });
  });
}

/**
 * Flags of Node for a child under a limit of memory. It needs nothing itself while the limit holds: no compiler, whose code needs
 * pages, and all the memory for young objects from the start.
 */
export const ROOMY = [
  '--no-opt',
  '--no-maglev',
  '--no-sparkplug',
  '--single-threaded',
  '--min-semi-space-size=16',
  '--max-semi-space-size=16',
  '--expose-gc',
];

/** Runs a program of `test/children/`. */
export function runChild(name: string, options: ChildOptions = {}): Promise<ChildResult> {
  return runNode([join(CHILDREN, name), ...(options.args ?? []).map(String)], options);
}

/**
 * Runs the body of a function in a process of its own. It sees nothing of its surroundings: only `lib`, which is the package, `require`,
 * and the JSON-able `input`. What it returns, or its promise, is printed as the last line and comes back as `value`.
 */
export async function runInChild<I, T>(
  body: (lib: typeof import('revocable-mmap'), require: NodeJS.Require, input: I) => T | Promise<T>,
  options: ChildOptions & { input?: I } = {},
): Promise<ChildResult & { value: T | undefined }> {
  const code = `
    const lib = require('revocable-mmap');
    Promise.resolve((${body.toString()})(lib, require, ${JSON.stringify(options.input ?? null)})).then(
      (value) => console.log('\\nVALUE ' + JSON.stringify(value === undefined ? null : value, (k, v) => typeof v === 'bigint' ? String(v) : v)),
      (error) => { console.error(error); process.exitCode = 70; });`;
  const result = await runNode(['-e', code], options);
  const line = result.stdout.split('\n').findLast((text) => text.startsWith('VALUE '));
  return { ...result, value: line === undefined ? undefined : (JSON.parse(line.slice(6)) as T) };
}
