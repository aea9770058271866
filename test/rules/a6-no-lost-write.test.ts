import { runChild } from '../support/child.js';
import { temporaryDirectory } from '../support/temporary.js';

describe('A6 no write is lost when several threads fault on one page at once', () => {
  test.each([
    { kind: 'zeros', rounds: 100 },
    { kind: 'ones', rounds: 100 },
    { kind: 'windows', rounds: 60 },
    { kind: 'read-only', rounds: 100 },
    { kind: 'truncated', rounds: 100 },
  ])('A6 three threads write to one page as it is filled, $rounds times: $kind', async ({ kind, rounds }) => {
    const { status, signal, stdout, stderr } = await runChild('a6-one-page.cjs', {
      args: [kind, rounds],
      env: { SCRATCH: temporaryDirectory() },
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({ lost: 0, reads: 0, together: true });
  });
});
