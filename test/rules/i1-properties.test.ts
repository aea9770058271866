import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runChild } from '../support/child.js';
import { temporaryDirectory } from '../support/temporary.js';

describe('I1 no combination of arguments ends the process', () => {
  const seed = Number(process.env.SEED ?? (Math.random() * 0x7fffffff) | 0);

  test(`I1 random calls with random arguments throw only errors that have a code, and all of the wrong ones (SEED=${seed})`, async () => {
    const directory = temporaryDirectory();
    const { status, signal, stdout, stderr } = await runChild('i1-properties.cjs', {
      args: [seed, 1000],
      env: { SCRATCH: directory },
      limit: 90_000,
    });
    const last = join(directory, 'last');
    const trace =
      status === 0
        ? ''
        : `SEED=${seed}\n${stderr.slice(0, 4000)}\n${existsSync(last) ? readFileSync(last, 'utf8').slice(0, 4000) : ''}`;
    expect({ status, signal, trace }).toEqual({ status: 0, signal: null, trace: '' });
    const { calls, wrong, codes } = JSON.parse(stdout) as { calls: number; wrong: number; codes: Record<string, number> };
    expect(calls).toBeGreaterThan(8_000);
    expect(wrong).toBeGreaterThan(calls / 10);
    for (const code of [
      'ERR_INVALID_ARG_TYPE',
      'ERR_INVALID_ARG_VALUE',
      'ERR_OUT_OF_RANGE',
      'ERR_MAPPING_REVOKED',
      'ERR_MAPPING_CLOSED',
      'ENODEV',
    ]) {
      expect([code, codes[code] > 0]).toEqual([code, true]);
    }
  });
});
