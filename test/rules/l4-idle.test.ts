import { runChild, runNode } from '../support/child.js';

interface State {
  SigBlk: string;
  SigIgn: string;
  SigCgt: string;
  handles: number;
  threads: number;
  fds: number;
  listeners: string[];
}

describe('L4 nothing keeps an idle process alive', () => {
  test('L4 a program that only imports exits by itself, with no signal handler, handle, thread or listener more', async () => {
    const run = await runChild('l4-idle.cjs', { args: ['import'], limit: 60_000 });
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
    const { before, after } = JSON.parse(run.stdout) as { before: State; after: State };
    expect({ ...after, fds: before.fds }).toEqual(before);
    expect(after.fds - before.fds).toBeLessThanOrEqual(1); // /proc/self/maps or nothing: no memory, no file of ours
  });

  test('L4 an ES module that only imports exits by itself', async () => {
    const run = await runNode(
      ['--input-type=module', '-e', "import { MemoryObject } from 'revocable-mmap'; console.log(typeof MemoryObject.create)"],
      { limit: 60_000 },
    );
    expect(run).toMatchObject({ status: 0, signal: null, stdout: 'function\n', stderr: '' });
  });

  test.each([
    ['open', ''],
    ['revoked', 'object revoked\nrevoked\n'],
    ['revoke-pending', 'object revoked\nrevoked\n'],
    ['suspended', 'object suspended\n'],
    ['faulted', 'fault\nobject fault\n'],
    ['shared', ''],
    ['worker', ''],
    ['waited', 'timed-out\n'],
    ['aborted', 'AbortError\n'],
  ])('L4 a program that left everything open exits by itself, and has emitted all events: %s', async (what, said) => {
    const run = await runChild('l4-idle.cjs', { args: [what], limit: 60_000 });
    expect(run).toMatchObject({ status: 0, signal: null, stdout: said, stderr: '' });
  });

  test('L4 a pending wait keeps its process alive, until it ends', async () => {
    const code = `const { MemoryObject } = require('revocable-mmap');
      const mapping = MemoryObject.create({ size: 4096 }).map();
      mapping.wait(0, 0, { timeout: 300 }).then(console.log);`;
    expect(await runNode(['-e', code], { limit: 60_000 })).toMatchObject({ status: 0, signal: null, stdout: 'timed-out\n' });
  });
});
