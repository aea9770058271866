import { MemoryObject } from 'revocable-mmap';
import { runChild } from '../support/child.js';
import { temporaryFile } from '../support/temporary.js';

const ENODEV = expect.objectContaining({ code: 'ENODEV', errno: -19, syscall: 'mmap' });

interface Race {
  mapped: number;
  refused: number;
}

describe('R5 the gate', () => {
  test('R5 map() throws from the first instant of a revoke, before its promise is awaited', async () => {
    const memory = MemoryObject.create({ size: 4096 });
    memory.map();
    const promise = memory.revoke();
    expect(memory.state).toBe('revoked');
    expect(() => memory.map()).toThrow(ENODEV);
    expect(() => memory.map({ shared: false, private: true, access: 'r' })).toThrow(ENODEV);
    await promise;
    expect(() => memory.map()).toThrow(ENODEV);
    memory.close();
  });

  test('R5 map() throws after revokeSync, in the events, and for ever', async () => {
    const memory = MemoryObject.openFile(temporaryFile(4096));
    const mapping = memory.map();
    const inListener = new Promise<unknown>((resolve) =>
      mapping.once('revoked', () => {
        try {
          resolve(memory.map());
        } catch (error) {
          resolve(error);
        }
      }),
    );
    memory.revokeSync('unplugged');
    expect(() => memory.map()).toThrow(ENODEV);
    expect(await inListener).toEqual(ENODEV);
    await expect(memory.resume()).rejects.toMatchObject({ code: 'ENODEV' });
    expect(() => memory.map()).toThrow(ENODEV);
    memory.close();
  });

  test('R5 the error of map() has the revocation and its reason as causes', () => {
    const memory = MemoryObject.create({ size: 4096, name: 'ring' });
    const reason = new Error('link down');
    memory.revokeSync(reason);
    const error = (() => {
      try {
        return memory.map();
      } catch (thrown) {
        return thrown;
      }
    })() as Error & { cause: Error };
    expect(error.cause).toMatchObject({ code: 'ERR_MAPPING_REVOKED', object: 'ring', cause: reason });
    memory.close();
  });

  test('R5 1,000 maps from four threads racing one revoke leave none live', async () => {
    const run = await runChild('r5-race.cjs', { args: [24, 1000], limit: 220_000 });
    console.log(run.stdout.split('\n')[0]);
    expect(run).toMatchObject({ status: 0, signal: null });
    const race = JSON.parse(run.stdout.split('\n')[1]) as Race;
    expect(race).toMatchObject({ live: 0, stale: 0, strangeErrors: [], lines: 0, duringRevoke: 0, foreignSignals: 0 });
    expect(race.mapped + race.refused).toBe(24 * 1000);
    // It was a race: some came before the revoke, some after.
    expect(race.mapped).toBeGreaterThan(24);
    expect(race.refused).toBeGreaterThan(24);
  });
});
