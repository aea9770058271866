import { closeSync } from 'node:fs';
import { MemoryObject } from 'revocable-mmap';
import { testUnless } from '../support/conditions.js';
import { kernel, survivingChild, whyNoPerfEvent } from '../support/kernel-calls.js';
import { mapsAt } from '../support/maps.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';

const PAGE = 4096;

/**
 * A descriptor whose driver decides within mmap(2): a perf ring can be mapped from its beginning, as one page and a power of two more,
 * and in no other way. mmap(MAP_FIXED) unmaps the range before that driver is asked.
 */
function perfRing(): MemoryObject {
  const fd = kernel.perfEvent();
  const ring = MemoryObject.fromFd(fd, { writable: true });
  closeSync(fd);
  return ring;
}

/** Every page of the range is mapped. */
function expectNoHole(address: bigint, bytes: number): void {
  let at = address;
  for (const line of mapsAt(address, bytes)) {
    expect(line.start <= at).toBe(true);
    at = line.end;
  }
  expect(at >= address + BigInt(bytes)).toBe(true);
}

describe('mmap(2) that a driver refuses', () => {
  const reason = whyNoPerfEvent();

  testUnless(reason, 'a map() that is refused takes no memory from another thread, for which a hole would do', async () => {
    const seen = await survivingChild(
      async ({ MemoryObject }, kernel) => {
        // Maps pages all the time, where the kernel finds room, and looks whether they stay its own.
        const code = `
          const kernel = require('./test/children/kernel-calls.cjs');
          const { workerData } = require('node:worker_threads');
          const sync = new Int32Array(workerData);
          const canary = Buffer.alloc(kernel.PAGE, 0xaa);
          Atomics.store(sync, 0, 1);
          while (Atomics.load(sync, 1) === 0) {
            const at = BigInt(kernel.mmap(0n, 4 * kernel.PAGE, kernel.PROT.READ | kernel.PROT.WRITE, kernel.MAP.PRIVATE | kernel.MAP.ANONYMOUS));
            kernel.poke(at, canary);
            for (let i = 0; i < 2; i++) if (!canary.equals(kernel.peek(at, kernel.PAGE))) { Atomics.add(sync, 2, 1); break; }
            kernel.munmap(at, 4 * kernel.PAGE);
            Atomics.add(sync, 3, 1);
          }`;
        const { Worker } = process.getBuiltinModule('node:worker_threads');
        const sync = new Int32Array(new SharedArrayBuffer(16));
        const worker = new Worker(code, { eval: true, workerData: sync.buffer });
        const ended = new Promise((resolve) => worker.once('exit', resolve));
        while (Atomics.load(sync, 0) === 0) await new Promise((resolve) => setImmediate(resolve));
        const ring = MemoryObject.fromFd(kernel.perfEvent(), { writable: true });
        for (let round = 0; round < 10_000; round++) {
          try {
            ring.map({ length: 4 * kernel.PAGE });
          } catch (error) {
            if ((error as { code: string }).code !== 'EINVAL') throw error;
          }
        }
        Atomics.store(sync, 1, 1);
        await ended;
        return { taken: sync[2], probed: sync[3] > 100 };
      },
      { leave: 'exit' },
    );
    expect(seen).toEqual({ taken: 0, probed: true });
  });

  testUnless(reason, 'resume() that is refused leaves the mapping suspended, with no hole, and can be tried again', async () => {
    const ring = perfRing();
    const mapping = ring.map({ length: 3 * PAGE });
    const before = mapping.read32(0);
    await ring.suspend();
    const second = ring.map.bind(ring, { length: 3 * PAGE });
    expect(thrownBy(second)).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    // The event has another buffer now, which only has room for itself: the driver refuses ours.
    const other = kernel.mmap(0n, 2 * PAGE, kernel.PROT.READ | kernel.PROT.WRITE, kernel.MAP.SHARED, ring.fd);
    expect(other).toBeGreaterThan(0);
    expect(await rejectionOf(ring.resume())).toMatchObject({ code: 'EINVAL', syscall: 'mmap' });
    expect([ring.state, mapping.state]).toEqual(['suspended', 'suspended']);
    expectNoHole(mapping.address, 3 * PAGE);
    expect(thrownBy(() => mapping.read32(0))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    expect(kernel.munmap(BigInt(other), 2 * PAGE)).toBe(0);
    await ring.resume();
    expect([ring.state, mapping.state]).toEqual(['live', 'live']);
    expect(mapping.read32(0)).toBe(before);
    ring.close();
  });

  test.each([{ shared: true }, { shared: false }])(
    'a range that another part of the program has unmapped under an open mapping is passed over: %o',
    async (options) => {
      const seen = await survivingChild(
        ({ MemoryObject }, kernel, input: { shared: boolean }) => {
          const SIZE = 1 << 20;
          const memory = MemoryObject.create({ size: SIZE });
          let overlapping = 0;
          let shortened = 0;
          const kept = [];
          for (let round = 0; round < 20; round++) {
            const mapping = memory.map(input);
            kernel.munmap(mapping.address, SIZE); // a stranger's mistake
            const next = memory.map(input); // V8 and the kernel may offer those addresses again
            if (next.address < mapping.address + BigInt(SIZE) && mapping.address < next.address + BigInt(SIZE)) overlapping++;
            next.write32(0, round + 1);
            if (next.read32(0) !== round + 1) shortened++;
            kept.push(mapping, next);
          }
          return { overlapping, shortened, open: memory.mappings.size };
        },
        { input: options, leave: 'exit' },
      );
      expect(seen).toEqual({ overlapping: 0, shortened: 0, open: 40 });
    },
  );
});
