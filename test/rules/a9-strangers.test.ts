import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runChild, type ChildResult } from '../support/child.js';
import { converse } from '../support/conversation.js';
import { temporaryDirectory } from '../support/temporary.js';

function stranger(...args: string[]): Promise<ChildResult> {
  return runChild('a9-stranger.cjs', { args, env: { SCRATCH: temporaryDirectory() }, limit: 40_000 });
}

/** What a scenario returned, when it ended well. */
async function answerOf(...args: string[]): Promise<unknown> {
  const { status, signal, stdout, stderr } = await stranger(...args);
  expect({
    status,
    signal,
    stderr: stderr.replace(/^.*REVOCABLE_MMAP_DISPLACED.*\n|^\(Use `node --trace-warnings.*\n/gm, ''),
  }).toEqual({
    status: 0,
    signal: null,
    stderr: '',
  });
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as unknown;
}

const SIGNALS = [
  { what: 'foreign fault', signal: 'SIGBUS' },
  { what: 'hole', signal: 'SIGSEGV' },
  { what: 'SIGBUS', signal: 'SIGBUS' },
  { what: 'SIGSEGV', signal: 'SIGSEGV' },
] as const;

describe('A9 signals that are not ours', () => {
  test.each(SIGNALS)('A9 $what kills with $signal, with the library as without it', async ({ what, signal }) => {
    for (const library of ['without', 'with']) {
      const result = await stranger('plain', library, what);
      expect({ library, status: result.status, signal: result.signal, stdout: result.stdout, stderr: result.stderr }).toEqual({
        library,
        status: null,
        signal,
        stdout: 'before\n',
        stderr: '',
      });
    }
  });

  test('A9 kill -BUS from another process kills', async () => {
    const child = converse('a9-waiting.cjs');
    expect(await child.hear()).toBe('revoked, touched, waiting');
    process.kill(child.pid, 'SIGBUS');
    expect(await child.end()).toEqual({ status: null, signal: 'SIGBUS', stderr: '' });
  });

  // All shapes of previous action; the handler is _exit(2), whose status is then the number of the signal.
  const shapes = ['simple', 'siginfo', 'once'].flatMap((shape) =>
    ['before', 'after'].flatMap((order) => ['foreign fault', 'SIGBUS'].map((what) => ({ shape, order, what }))),
  );
  test.each(shapes)('A9 a $shape handler installed $order the library gets: $what', async ({ shape, order, what }) => {
    const { status, signal, stdout } = await stranger('handler', order, shape, what);
    expect({ status, signal, stdout }).toEqual({ status: 7, signal: null, stdout: 'before\n' });
  });

  test('A9 where SIGBUS was ignored, kill -BUS still is', async () => {
    expect(await answerOf('ignored', 'kill')).toBe('ignored');
  });

  test('A9 where SIGBUS was ignored, a fault still kills', async () => {
    const { status, signal, stdout } = await stranger('ignored', 'foreign fault');
    expect({ status, signal, stdout }).toEqual({ status: null, signal: 'SIGBUS', stdout: 'before\n' });
  });

  test("A9 process.on('SIGBUS') before the library goes on working, without a warning", async () => {
    expect(await answerOf('listenerBefore')).toEqual({ heard: 2, warnings: [], displacements: 0 });
  });

  test("A9 process.on('SIGBUS') and ('SIGSEGV') after it work, revoked memory stays safe at once, one warning", async () => {
    expect(await answerOf('listenerAfter')).toEqual({ heard: { SIGBUS: 2, SIGSEGV: 1 }, warnings: ['REVOCABLE_MMAP_DISPLACED'] });
  });

  test('A9 process.off leaves revoked memory safe', async () => {
    expect(await answerOf('listenerRemoved', 'live')).toEqual(['REVOCABLE_MMAP_DISPLACED']);
  });

  test.each(['SIGBUS', 'foreign fault'])('A9 after process.off %s kills again', async (what) => {
    const { status, signal, stdout } = await stranger('listenerRemoved', what);
    expect({ status, signal, stdout }).toEqual({ status: null, signal: 'SIGBUS', stdout: 'before\n' });
  });

  test('A9 being displaced is repaired while mappings live, however often, and warned about once', async () => {
    expect(await answerOf('displaced', 'live')).toEqual({ warnings: ['REVOCABLE_MMAP_DISPLACED'] });
  });

  test('A9 being displaced is repaired by the next map()', async () => {
    expect(await answerOf('displacedThenMap')).toBe(2);
  });

  test.each(SIGNALS)('A9 after the repair $what kills with $signal', async ({ what, signal }) => {
    const result = await stranger('displaced', what);
    expect({ status: result.status, signal: result.signal, stdout: result.stdout }).toEqual({
      status: null,
      signal,
      stdout: 'before\n',
    });
  });

  test('A9 the warning says what happened, and its code', async () => {
    const { stderr } = await stranger('displaced', 'live');
    expect(stderr).toMatch(/REVOCABLE_MMAP_DISPLACED/);
    expect(stderr).toMatch(/displaced/);
    expect(stderr.match(/REVOCABLE_MMAP_DISPLACED/g)).toHaveLength(1);
  });

  test('A9 WebAssembly out of bounds throws RuntimeError while mappings are revoked', async () => {
    expect(await answerOf('wasm', 'main')).toEqual({ RuntimeError: 2000 });
  });

  test('A9 WebAssembly out of bounds throws RuntimeError in workers too, at the same time', async () => {
    expect(await answerOf('wasm', 'workers')).toEqual([{ RuntimeError: 2000 }, { RuntimeError: 2000 }, { RuntimeError: 2000 }]);
  });

  test('A9 a process that is profiled all the time', async () => {
    const directory = temporaryDirectory();
    const { status, signal, stdout, stderr } = await runChild('a9-stranger.cjs', {
      args: ['profiled'],
      nodeArgs: ['--cpu-prof', `--cpu-prof-dir=${directory}`, '--cpu-prof-interval=100'],
    });
    expect({ status, signal, stdout, stderr }).toEqual({ status: 0, signal: null, stdout: '"survived"\n', stderr: '' });
    const [profile] = readdirSync(directory);
    const { samples } = JSON.parse(readFileSync(join(directory, profile), 'utf8')) as { samples: unknown[] };
    expect(samples.length).toBeGreaterThan(10);
  });
});
