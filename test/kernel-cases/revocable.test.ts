/** Cases 49 and 50: the KUnit and self tests of Linux's `revocable` (drivers/base/revocable_test.c, selftests/drivers/base/revocable). */
import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { Device, isRevokedError, stats, type Mapping } from 'revocable-mmap';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';
import { until } from '../support/until.js';

const PAGE = 4096;

/** What the kernel's macro does: the body runs with the memory, or not at all. */
function tryAccess(mapping: Mapping, body: (word: number) => void): boolean {
  let word: number;
  try {
    word = mapping.read32(0);
  } catch (error) {
    if (isRevokedError(error)) return false;
    throw error;
  }
  body(word);
  return true;
}

describe('kernel cases of revocable', () => {
  test('case 49 (revocable basic, revocation): a consumer has access until the provider revokes, and then none', async () => {
    const provider = new Device({ name: 'provider', regions: [{ size: PAGE }] });
    const consumer = provider.open().map();
    provider.region(0).memory.write32(0, 4711);
    expect(consumer.read32(0)).toBe(4711);
    await provider.unplug();
    expect(thrownBy(() => consumer.read32(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    expect(thrownBy(() => consumer.check())).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
  });

  test('case 49 (revocable try_access_macro): after the revocation the body is not entered', async () => {
    const provider = new Device({ name: 'provider', regions: [{ size: PAGE }] });
    const consumer = provider.open().map();
    provider.region(0).memory.write32(0, 4711);
    const seen: number[] = [];
    expect(tryAccess(consumer, (word) => seen.push(word))).toBe(true);
    await provider.unplug();
    expect(tryAccess(consumer, (word) => seen.push(word))).toBe(false);
    expect(seen).toEqual([4711]);
  });

  test('case 50 (revocable provider_use_after_free): a caller that comes while the provider goes, or after, fails cleanly', async () => {
    for (let round = 0; round < 50; round++) {
      const provider = new Device({
        name: 'provider',
        regions: [{ size: PAGE }],
        ops: { fault: () => undefined, close: () => undefined },
      });
      const file = provider.open();
      const before = file.map();
      const removal = provider.unplug();
      expect(thrownBy(() => file.map())).toMatchObject({ code: 'ENODEV' });
      expect(thrownBy(() => provider.open())).toMatchObject({ code: 'ENODEV' });
      expect(await rejectionOf(before.readAsync(0, new Uint8Array(1)))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      await removal;
      expect(thrownBy(() => provider.region(0).object.map())).toMatchObject({ code: 'ENODEV' });
      expect(provider.opCounts.close).toBe(1);
    }
  });

  test('case 50 (revocable concurrent access): many consumers, each with its own count, and each closed exactly once', async () => {
    const before = stats().mappings.live;
    const closed: number[] = [];
    const provider = new Device({
      name: 'provider',
      regions: [{ size: PAGE }],
      ops: { fault: () => new Uint8Array(PAGE).fill(7), close: ({ mapping }) => void closed.push(mapping) },
    });
    const touchers = await Promise.all([1, 2, 3].map(() => Toucher.start()));
    const mappings = Array.from({ length: 12 }, () => provider.open().map());
    // Several threads hold one handle at once: what the first version of the original got wrong.
    const touches = mappings.flatMap((mapping) => touchers.map((toucher) => toucher.touch(mapping, 0)));
    for (const touch of await Promise.all(touches)) expect(touch).toEqual({ value: 7 });
    for (const mapping of mappings) expect(mapping.state).toBe('live');
    expect([provider.opCounts.fault, closed.length]).toEqual([12, 0]);
    for (const mapping of mappings.slice(0, 4)) mapping.close();
    await until('four are closed', () => closed.length === 4);
    expect(await provider.unplug()).toMatchObject({ mappings: 8, files: 12 });
    for (const mapping of mappings) mapping.close();
    expect([closed.length, new Set(closed).size]).toEqual([12, 12]);
    expect(stats().mappings.live).toBeLessThanOrEqual(before);
    await Promise.all(touchers.map((toucher) => toucher.end()));
  });

  test('case 50 (revocable concurrent access): a consumer in an access when the provider goes ends it, and its thread goes on', async () => {
    const provider = new Device({ name: 'provider', regions: [{ size: PAGE }] });
    provider.region(0).memory.write32(0, 4711);
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const mapping = require('revocable-mmap').Mapping.attach(workerData);
       parentPort.postMessage('begun');
       const seen = new Set();
       for (;;) { try { seen.add(mapping.read32(0)); } catch (error) { parentPort.postMessage([[...seen], error.code]); break; } }`,
      { eval: true, workerData: provider.open().map().share() },
    );
    await once(worker, 'message');
    const ended = once(worker, 'message');
    await provider.unplug();
    const [[seen, code]] = (await ended) as [[number[], string]];
    expect(seen.filter((word) => word !== 4711)).toEqual([]);
    expect(code).toBe('ERR_MAPPING_REVOKED');
    await worker.terminate();
  });
});
