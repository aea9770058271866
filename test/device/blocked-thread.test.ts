import { runChild } from '../support/child.js';

/** Ops get ten minutes there, so a child that waited for one would be killed as hung. */
const HUNG = 30_000;

describe('a worker that is blocked in a page whose op never answers', () => {
  test('L3 does not keep process.exit() waiting', async () => {
    const run = await runChild('devices/blocked.cjs', { args: ['exit'], limit: HUNG });
    expect(run).toMatchObject({ status: 3, signal: null });
  });

  test('L3 does not keep a process that dies of an exception waiting', async () => {
    const run = await runChild('devices/blocked.cjs', { args: ['throw'], limit: HUNG });
    expect(run).toMatchObject({ status: 1, signal: null });
    expect(run.stderr).toContain('Error: uncaught');
  });

  test('is released when its mapping is closed', async () => {
    const run = await runChild('devices/blocked.cjs', { args: ['close'], limit: HUNG });
    expect(run).toMatchObject({ status: 0, signal: null, stdout: 'ERR_MAPPING_CLOSED\n' });
  });

  test('can be terminated when the time of the op is up', async () => {
    const run = await runChild('devices/blocked.cjs', { args: ['terminate', 2000], limit: HUNG });
    expect(run).toMatchObject({ status: 0, signal: null, stdout: '' });
  });
});
