import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { runChild } from '../support/child.js';
import { rounds } from '../support/rounds.js';
import { temporaryDirectory } from '../support/temporary.js';

const TERMINATIONS = rounds(40);
const ROOT = join(__dirname, '..', '..');

describe('L3 threads and exits', () => {
  test('L3 workers are terminated in the middle of a storm', async () => {
    const run = await runChild('l3-terminate.cjs', { args: [TERMINATIONS], limit: 220_000 });
    console.log(run.stdout.split('\n')[0]);
    expect(run).toMatchObject({ status: 0, signal: null });
    const result = JSON.parse(run.stdout.split('\n')[1]) as { storms: number };
    expect(result).toMatchObject({
      terminations: TERMINATIONS,
      damaged: 0,
      unfinished: 0,
      notRevoked: 0,
      works: true,
      open: 0,
      foreignSignals: 0,
    });
    expect(result.storms).toBeGreaterThan(10 * TERMINATIONS);
  });

  test.each([
    ['never', null],
    ['last', [9, 0, 'revoked']],
  ])('L3 the package is loaded in workers that end, and in the main thread %s', async (when, later) => {
    const run = await runChild('l3-worker-only.cjs', { args: [when] });
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(JSON.parse(run.stdout)).toEqual({
      seen: [1, 2, 3].map(() => [7, 255, 0]),
      left: [1, 2, 3].map(() => [0, 5]),
      later,
    });
  });

  test.each([
    ['the cache is emptied', 'cache', 'EFAULT'],
    ['the cache is emptied but for the addon', 'javascript', 'ERR_MAPPING_REVOKED'],
  ])('L3 two loads of the module: %s', async (_how, mode, acrossCopies) => {
    const run = await runChild('l3-two-loads.cjs', { args: [mode] });
    expect(run).toMatchObject({ status: 0, signal: null });
    const outcome = JSON.parse(run.stdout) as { events: string[][]; attached: unknown; across: unknown };
    expect(outcome).toMatchObject({ different: true, seen: [0xcafe, 255, true, 0xcafe, 255, true] });
    expect(outcome.events).toEqual([
      ['revoked', 'close'],
      ['revoked', 'close'],
    ]);
    expect(outcome.attached).toEqual([5, 'revoked']);
    expect(outcome.across).toEqual([acrossCopies, 'ERR_INVALID_THIS', 'ERR_INVALID_ARG_TYPE']);
  });

  test('L3 two loads of the module: another copy of the whole package', async () => {
    const copy = join(temporaryDirectory(), 'revocable-mmap');
    for (const part of ['dist', 'package.json', 'build/Release/revocable_mmap.node']) {
      mkdirSync(dirname(join(copy, part)), { recursive: true });
      cpSync(join(ROOT, part), join(copy, part), { recursive: true });
    }
    const run = await runChild('l3-two-loads.cjs', { args: [copy] });
    expect(run).toMatchObject({ status: 0, signal: null });
    const outcome = JSON.parse(run.stdout) as { events: string[][]; across: unknown };
    expect(outcome).toMatchObject({ different: true, seen: [0xcafe, 255, true, 0xcafe, 255, true] });
    expect(outcome.across).toEqual(['EFAULT', 'ERR_INVALID_THIS', 'ERR_INVALID_ARG_TYPE']);
    expect(outcome.events).toEqual([
      ['revoked', 'close'],
      ['revoked', 'close'],
    ]);
  });

  const moments = [
    'while everything is open',
    'in a revoked listener',
    'in an object listener',
    'in a fault listener',
    'in a close listener',
    'with a revoke pending',
    'with a suspend pending',
    'with waits pending',
    'when a wait ends',
    'in an exit listener that revokes and touches',
    'in beforeExit',
    'by an exception in a listener',
    'while threads fault and revoke',
    'in a thread, which ends only itself',
    'while a thread is in waitSync',
  ];
  test.each(moments)('L3 process.exit() %s', async (moment) => {
    const run = await runChild('l3-exit.cjs', { args: [moment], limit: 60_000 });
    expect(run).toMatchObject({ status: 7, signal: null, stderr: '' });
  });
});
