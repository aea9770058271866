/**
 * The benchmarks, compiled for a test file: `npm test` builds the package only. They are ES modules, which jest cannot load, so what
 * they do is seen in processes of their own.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runNode, type ChildResult } from './child.js';

const ROOT = join(__dirname, '..', '..');
/** Where the benchmarks look for the package, and for the C programs, from. Not build/bench: that may be in use. */
const BUILD = join(ROOT, 'build');

let directory: string | undefined;

/** Compiles them, for as long as the test file runs. Types are checked by `npm run types`. */
export function compileBenchmarks(): void {
  beforeAll(async () => {
    mkdirSync(BUILD, { recursive: true });
    directory = mkdtempSync(join(BUILD, 'test-bench-'));
    const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    const options = ['--noCheck', '--sourceMap', 'false', '--outDir', directory];
    const run = await runNode([compiler, '-p', join(ROOT, 'bench', 'tsconfig.json'), ...options]);
    if (run.status !== 0) throw new Error(`bench/ does not compile:\n${run.stdout}${run.stderr}`);
  });

  afterAll(() => {
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  });
}

/** `npm run bench -- ARGS`, or another of its programs. */
export function runBenchmarks(args: string[], program: 'main' | 'check' = 'main'): Promise<ChildResult> {
  return runNode([join(directory!, `${program}.mjs`), ...args]);
}

/** What a function makes of a module of bench/, which is all that it sees. It is to be JSON. The modules' types are of another project. */
export async function inBenchmarks(name: string, body: (module: any) => unknown): Promise<any> {
  const url = pathToFileURL(join(directory!, `${name}.mjs`)).href;
  const code = `import * as module from ${JSON.stringify(url)};
    console.log(JSON.stringify(await (${body.toString()})(module)));`;
  const { status, stdout, stderr } = await runNode(['--input-type=module', '-e', code]);
  if (status !== 0 || stderr !== '') throw new Error(`${name}: status ${status}\n${stderr}`);
  return JSON.parse(stdout);
}
