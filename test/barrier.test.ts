import { truncateSync } from 'node:fs';
import { MemoryObject } from 'revocable-mmap';
import { Device } from 'revocable-mmap/device';
import { barrier } from './support/barrier.cjs';
import { temporaryFile } from './support/temporary.js';
import { until } from './support/until.js';

const PAGE = 4096;

describe('what the tests of "nothing more comes" wait for', () => {
  test('everything that a fault handler has pushed has been emitted', async () => {
    const path = temporaryFile(1000 * PAGE);
    const mapping = MemoryObject.openFile(path).map();
    let count = 0;
    mapping.on('fault', () => count++);
    truncateSync(path, 0);
    for (let page = 0; page < 1000; page++) expect(mapping.bytes[page * PAGE]).toBe(0);
    expect(count).toBe(0);
    await barrier();
    expect(count).toBe(1000);
    mapping.object.close();
  });

  test('everything that a handler left to the service thread has been done, and its events emitted', async () => {
    for (let round = 0; round < 50; round++) {
      const path = temporaryFile(PAGE);
      const file = MemoryObject.openFile(path, { onBackingFault: 'object' });
      const mappings = Array.from({ length: 20 }, () => file.map());
      let count = 0;
      for (const mapping of mappings) mapping.on('revoked', () => count++);
      truncateSync(path, 0);
      expect(mappings[round % 20].bytes[0]).toBe(0);
      await barrier();
      expect([count, mappings.filter(({ state }) => state === 'revoked').length]).toEqual([20, 20]);
      file.close();
    }
  });

  test('pages that were diverted have been put back', async () => {
    const mapping = MemoryObject.create({ size: PAGE }).map({ access: 'r' });
    for (let round = 0; round < 20; round++) {
      (mapping.bytes as { [at: number]: number })[5] = 7;
      await barrier();
      expect(mapping.bytes[5]).toBe(0);
    }
    mapping.object.close();
  });

  test('it waits for no page that a device has yet to supply', async () => {
    let answer: ((page: Uint8Array) => void) | undefined;
    const device = new Device({
      name: 'd',
      regions: [{ size: PAGE }],
      ops: { fault: () => new Promise<Uint8Array>((resolve) => (answer = resolve)) },
    });
    const target = new Uint8Array(1);
    const read = device.open().map().readAsync(0, target);
    await until('it is asked', () => answer !== undefined);
    for (let i = 0; i < 100; i++) await barrier();
    expect(device.opCounts.fault).toBe(1);
    answer!(new Uint8Array(PAGE).fill(7));
    await read;
    expect(target[0]).toBe(7);
    await device.unplug();
  });
});
