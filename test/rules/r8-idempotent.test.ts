import { MemoryObject, revokeMappings } from 'revocable-mmap';
import { runChild } from '../support/child.js';

describe('R8 revocation is idempotent', () => {
  test('R8 the report says what was revoked, by which means and for how long', () => {
    const memory = MemoryObject.create({ size: 8192, name: 'ring' });
    memory.map();
    memory.map({ private: true });
    memory.map({ access: 'r', offset: 4096 }).close();
    memory.map({ shared: false });
    const report = memory.revokeSync();
    expect(report).toEqual({
      object: 'ring',
      revokedByThisCall: true,
      mappings: 3,
      durationUs: expect.any(Number),
      means: { truncated: true, replaced: 3, protected: 0, failed: 0 },
    });
    expect(report.durationUs).toBeGreaterThan(0);
    memory.close();
  });

  test('R8 twice is fine: the same counts, and revokedByThisCall is true only for the first', async () => {
    const memory = MemoryObject.create({ size: 4096 });
    for (let i = 0; i < 5; i++) memory.map();
    const first = memory.revokeSync();
    const others = [memory.revokeSync(), await memory.revoke(), await revokeMappings(memory), memory.revokeSync()];
    expect(first.revokedByThisCall).toBe(true);
    for (const other of others) expect(other).toEqual({ ...first, revokedByThisCall: false });
    memory.close();
  });

  test('R8 promises that race each other and a synchronous call get the same counts', async () => {
    const memory = MemoryObject.create({ size: 4096 });
    for (let i = 0; i < 200; i++) memory.map();
    const promises = [memory.revoke(), memory.revoke(), revokeMappings(memory)];
    const synchronous = memory.revokeSync();
    const reports = await Promise.all(promises);
    expect([...reports, synchronous].map((report) => report.revokedByThisCall)).toEqual([true, false, false, false]);
    for (const report of [...reports, synchronous])
      expect(report).toEqual({ ...reports[0], revokedByThisCall: report.revokedByThisCall });
    expect(reports[0].mappings).toBe(200);
    memory.close();
  });

  test('R8 the reason is that of the call that revoked', () => {
    const memory = MemoryObject.create({ size: 4096 });
    const mapping = memory.map();
    memory.revokeSync('first');
    memory.revokeSync('second');
    expect(() => mapping.read8(0)).toThrow(expect.objectContaining({ cause: 'first' }));
    memory.close();
  });

  test('R8 an object without mappings, or closed, has a report too', async () => {
    const nothing = { truncated: false, replaced: 0, protected: 0, failed: 0 };
    const empty = MemoryObject.create({ size: 4096 });
    expect(empty.revokeSync()).toMatchObject({ revokedByThisCall: true, mappings: 0, means: { ...nothing, truncated: true } });
    empty.close();
    const closed = MemoryObject.create({ size: 4096 });
    closed.map();
    closed.close();
    expect(closed.revokeSync()).toMatchObject({ revokedByThisCall: false, mappings: 0, means: nothing });
    expect(await closed.revoke()).toMatchObject({ revokedByThisCall: false, mappings: 0, means: nothing });
    expect(closed.state).toBe('closed');
  });

  test('R8 a report after close is that of the revocation', () => {
    const memory = MemoryObject.create({ size: 4096 });
    memory.map();
    const report = memory.revokeSync();
    memory.close();
    expect(memory.revokeSync()).toEqual({ ...report, revokedByThisCall: false });
  });

  test('R8 of four threads that revoke at once exactly one has revokedByThisCall, and all get the same counts', async () => {
    const run = await runChild('r8-race.cjs', { args: [150], limit: 220_000 });
    console.log(run.stdout.split('\n')[0]);
    expect(run).toMatchObject({ status: 0, signal: null });
    const race = JSON.parse(run.stdout.split('\n')[1]) as { byMain: number; byWorker: number };
    expect(race).toMatchObject({ rounds: 150, notExactlyOne: 0, different: 0, live: 0 });
    expect(race.byMain).toBeGreaterThan(0);
    expect(race.byWorker).toBeGreaterThan(0);
  });
});
