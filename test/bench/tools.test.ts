import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import {
  clockCost,
  compare,
  median,
  openPerfCounters,
  pinThread,
  repeat,
  summarise,
  threadProcessors,
  threadUsage,
  touch,
  type TouchOptions,
} from 'revocable-mmap/bench';
import { runInChild, runNode } from '../support/child.js';
import { sharedMemoryMayBeHuge } from '../support/conditions.js';
import { inSmallPages } from '../support/small-pages.js';

const PAGE = 4096;
const SEED = Number(process.env.SEED ?? Date.now() % 2 ** 31);

function ones(bytes: number, options: Parameters<MemoryObject['map']>[0] = {}): Mapping {
  const mapping = MemoryObject.create({ size: bytes, name: 'touched' }).map(options);
  mapping.write(0, new Uint8Array(bytes).fill(0xff));
  return mapping;
}

function untouched(pages: number): Mapping {
  return inSmallPages(MemoryObject.create({ size: pages * PAGE }).map());
}

/** Offsets of bytes that are zero. */
function zeroed(mapping: Mapping): number[] {
  return [...mapping.bytes.keys()].filter((offset) => mapping.bytes[offset] === 0);
}

describe('touch', () => {
  test.each([
    ['in order', { order: 'sequential' }],
    [`at random (SEED=${SEED})`, { order: 'random', seed: SEED }],
  ] as const)('stores to each place once and to nothing else, %s', (_, order) => {
    for (const [length, stride, width, offset] of [
      [20_000, 64, 8, 0],
      [4096, 8, 8, 0],
      [4097, 24, 4, 128],
      [1, 1, 1, 5],
      [30_001, 130, 2, 2],
    ] as const) {
      const mapping = ones(65_536);
      const options: TouchOptions = { ...order, offset, length, stride, width, write: true };
      const { accesses } = touch(mapping, options);
      const expected: number[] = [];
      for (let at = offset; at + width <= offset + length; at += stride) for (let i = 0; i < width; i++) expected.push(at + i);
      expect({ options, accesses, zeroed: zeroed(mapping) }).toEqual({
        options,
        accesses: expected.length / width,
        zeroed: expected,
      });
      mapping.object.close();
    }
  });

  test(`a random order visits each of many places once (SEED=${SEED})`, () => {
    // More places than one native call touches, and not a power of two of them. As many accesses as places: none has two.
    const places = 70_001;
    const stride = 8;
    const mapping = ones(places * stride);
    const { accesses } = touch(mapping, { order: 'random', seed: SEED, stride, width: 1, write: true });
    expect(accesses).toBe(places);
    const missed = Array.from({ length: places }, (_, i) => i * stride).filter((offset) => mapping.bytes[offset] !== 0);
    expect(missed).toEqual([]);
    mapping.object.close();
  });

  test('the faults of all the calls that it takes are counted', () => {
    const pages = 2200;
    const mapping = untouched(pages);
    const { accesses, usage } = touch(mapping, { stride: 64, write: true });
    expect(accesses).toBe((pages * PAGE) / 64);
    expect(usage.minorFaults).toBeGreaterThanOrEqual(pages);
    expect(usage.minorFaults).toBeLessThan(pages * 1.5);
    mapping.object.close();
  });

  test('loads change nothing, and the second time nothing faults', () => {
    const mapping = ones(256 * PAGE);
    touch(mapping, { stride: 8 });
    const { usage, totalNs, meanNs, accesses, histogram } = touch(mapping, { stride: 8 });
    expect(zeroed(mapping)).toEqual([]);
    expect(usage.minorFaults).toBeLessThan(64);
    expect(accesses).toBe(256 * 512);
    expect(totalNs).toBeGreaterThan(0);
    expect(meanNs).toBeCloseTo(totalNs / accesses);
    expect(histogram).toBeUndefined();
    mapping.object.close();
  });

  test('the histogram has every access, none quicker than the clock allows', () => {
    const mapping = ones(64 * PAGE);
    const costs = [clockCost()];
    const { histogram, accesses } = touch(mapping, { stride: 64, histogram: true });
    expect(histogram!.count).toBe(accesses);
    for (let i = 0; i < 20; i++) costs.push(clockCost());
    // The clock is dearer while another thread shares its core: so the least of what was seen, and half of that.
    expect(Math.min(...costs)).toBeGreaterThan(0);
    expect(histogram!.min).toBeGreaterThanOrEqual(Math.min(...costs) / 2);
    expect(histogram!.max).toBeGreaterThanOrEqual(histogram!.min);
    mapping.object.close();
  });

  test('a revoked, suspended or closed mapping: the error of every other access', async () => {
    const mapping = ones(PAGE);
    await mapping.object.suspend();
    expect(() => touch(mapping)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_SUSPENDED' }));
    await mapping.object.resume();
    mapping.object.revokeSync();
    expect(() => touch(mapping)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
    mapping.close();
    expect(() => touch(mapping)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_CLOSED' }));
  });

  test('a revocation in the middle of it ends it with that error, and the process lives', async () => {
    const { status, signal, value, stderr } = await runInChild(
      async ({ MemoryObject }, require) => {
        const { once } = require('node:events') as typeof import('node:events');
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const { touch } = require('revocable-mmap/bench') as typeof import('revocable-mmap/bench');
        // Revokes what it is sent as soon as something there has been touched. 1: it looks; 2: it need not look any longer.
        const worker = new Worker(
          `const { parentPort } = require('node:worker_threads');
           const { Mapping } = require('revocable-mmap');
           parentPort.on('message', ({ handle, word, stride }) => {
             const mapping = Mapping.attach(handle);
             const places = Math.min(4096, mapping.length / stride);
             Atomics.store(word, 0, 1);
             Atomics.notify(word, 0);
             for (let i = 0; Atomics.load(word, 0) === 1 && Atomics.load(mapping.bytes, i * stride) !== 0; ) i = (i + 1) % places;
             mapping.object.revokeSync();
             mapping.close();
             parentPort.postMessage('revoked');
           });`,
          { eval: true },
        );
        const size = 1 << 25;
        const ones = new Uint8Array(size).fill(0xff);
        const middle = { sequential: 0, random: 0 };
        const others: unknown[] = [];
        // Where its thread does not get a processor in time the revocation comes too late: then once more.
        for (const end = Date.now() + 40_000; Math.min(middle.sequential, middle.random) < 3 && Date.now() < end;) {
          for (const order of ['sequential', 'random'] as const) {
            const object = MemoryObject.create({ size });
            const mapping = object.map();
            mapping.write(0, ones);
            const word = new Int32Array(new SharedArrayBuffer(4));
            worker.postMessage({ handle: mapping.share(), word, stride: 8 });
            Atomics.wait(word, 0, 0, 40_000);
            try {
              touch(mapping, { stride: 8, write: true, order });
            } catch (error) {
              const { code } = error as { code: string };
              if (code === 'ERR_MAPPING_REVOKED') middle[order]++;
              else others.push(error);
            }
            Atomics.store(word, 0, 2);
            await once(worker, 'message');
            object.close();
          }
        }
        await worker.terminate();
        return { middle, others };
      },
      { limit: 220_000 },
    );
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect(value!.others).toEqual([]);
    expect(value!.middle.sequential).toBeGreaterThan(0);
    expect(value!.middle.random).toBeGreaterThan(0);
  });

  test('what it refuses', () => {
    const mapping = ones(PAGE);
    const readOnly = mapping.object.map({ access: 'r' });
    const deadly = mapping.object.map({ fill: 'signal' });
    const refused: [unknown, string][] = [
      [() => touch({} as Mapping), 'ERR_INVALID_ARG_TYPE'],
      [() => touch(mapping, null as never), 'ERR_INVALID_ARG_TYPE'],
      [() => touch(mapping, { width: 3 as never }), 'ERR_OUT_OF_RANGE'],
      [() => touch(mapping, { offset: PAGE }), 'ERR_OUT_OF_RANGE'],
      [() => touch(mapping, { offset: 4 }), 'ERR_OUT_OF_RANGE'],
      [() => touch(mapping, { offset: 0n as never }), 'ERR_INVALID_ARG_TYPE'],
      [() => touch(mapping, { length: PAGE + 8 }), 'ERR_OUT_OF_RANGE'],
      [() => touch(mapping, { offset: 8, length: PAGE }), 'ERR_OUT_OF_RANGE'],
      [() => touch(mapping, { stride: 0 }), 'ERR_OUT_OF_RANGE'],
      [() => touch(mapping, { stride: 12 }), 'ERR_OUT_OF_RANGE'],
      [() => touch(mapping, { seed: -1 }), 'ERR_OUT_OF_RANGE'],
      [() => touch(mapping, { order: 'sideways' as never }), 'ERR_INVALID_ARG_VALUE'],
      [() => touch(mapping, { write: 1 as never }), 'ERR_INVALID_ARG_TYPE'],
      [() => touch(readOnly, { write: true }), 'ERR_MAPPING_READ_ONLY'],
      [() => touch(deadly), 'ERR_INVALID_ARG_VALUE'],
    ];
    for (const [call, code] of refused) expect(call).toThrow(expect.objectContaining({ code }));
    for (const name of ['offset', 'length', 'stride', 'width', 'order', 'seed', 'write', 'histogram']) {
      expect(() => touch(mapping, { [name]: null })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', message: expect.stringContaining(`"options.${name}"`) }),
      );
    }
    mapping.object.close();
  });
});

describe('counters of the thread', () => {
  test('usage only grows, and sees the faults of this thread', () => {
    const before = threadUsage();
    const mapping = untouched(100);
    const { usage } = touch(mapping, { write: true });
    expect(usage.minorFaults).toBeGreaterThanOrEqual(100);
    const after = threadUsage();
    expect(after.minorFaults - before.minorFaults).toBeGreaterThanOrEqual(100);
    for (const name of Object.keys(before) as (keyof typeof before)[]) expect(after[name]).toBeGreaterThanOrEqual(before[name]);
    mapping.object.close();
  });

  test('perf events are counted, or listed with the reason why not', () => {
    const events = ['page-faults', 'minor-faults', 'task-clock', 'cycles', 'dtlb-load-misses'] as const;
    const counters = openPerfCounters(events);
    const mapping = untouched(100);
    touch(mapping, { write: true });
    const counts = counters.read();
    for (const event of events) {
      const refused = counters.unavailable.get(event);
      if (refused === undefined) expect(counts[event]).toBeGreaterThanOrEqual(event.endsWith('faults') ? 100 : 0);
      else expect(refused).toMatchObject({ syscall: 'perf_event_open', code: expect.stringMatching(/^E[A-Z]+$/) as string });
      expect(counts[event] === undefined).toBe(refused !== undefined);
    }
    for (const event of counters.userOnly) expect(counters.unavailable.has(event)).toBe(false);
    counters.close();
    counters.close();
    expect(counters.read()).toEqual({});
    mapping.object.close();
  });

  test('closing gives the descriptors back', () => {
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    const before = descriptors();
    for (let i = 0; i < 3000; i++) openPerfCounters(['page-faults', 'task-clock']).close();
    expect(descriptors()).toBeLessThanOrEqual(before); // others may be closed meanwhile, of what has been forgotten
  });

  test('an event of another name is refused', () => {
    expect(() => openPerfCounters(['toString' as never])).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(() => openPerfCounters('cycles' as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
  });
});

describe('pinning', () => {
  test('to one processor, and back', () => {
    const all = threadProcessors();
    const last = all[all.length - 1];
    expect(pinThread(last)).toEqual(all);
    expect(threadProcessors()).toEqual([last]);
    expect(pinThread(all)).toEqual([last]);
    expect(threadProcessors()).toEqual(all);
  });

  test('to none that exists', () => {
    expect(() => pinThread(8191)).toThrow(expect.objectContaining({ code: 'EINVAL', errno: -22, syscall: 'sched_setaffinity' }));
    expect(() => pinThread([])).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => pinThread(8192)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    expect(() => pinThread('1' as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
  });
});

describe('repeating', () => {
  test('samples are those after the warm-up, in order', async () => {
    let calls = 0;
    const { samples, median: middle } = await repeat(() => ++calls, { rounds: 5, warmUpRounds: 2 });
    expect(samples).toEqual([3, 4, 5, 6, 7]);
    expect(middle).toBe(5);
  });

  test('two sides take turns, and their ratios are of neighbours', async () => {
    const order: string[] = [];
    const { a, b, ratio } = await compare(
      () => order.push('a'),
      () => Promise.resolve(order.push('b')),
      { rounds: 3, warmUpRounds: 0 },
    );
    expect(order.join('')).toBe('abbaab');
    expect([a.samples, b.samples]).toEqual([
      [1, 4, 5],
      [2, 3, 6],
    ]);
    expect(ratio.samples).toEqual([1 / 2, 4 / 3, 5 / 6]);
    expect(ratio.median).toBe(5 / 6);
  });

  test('what a sample throws comes out', async () => {
    await expect(repeat(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    await expect(repeat(null as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    await expect(repeat(() => 1, { rounds: 0 })).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    await expect(compare(() => 1, undefined as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    for (const name of ['rounds', 'warmUpRounds', 'warmUpMs']) {
      const refused = { code: 'ERR_INVALID_ARG_TYPE', message: expect.stringContaining(`"options.${name}"`) };
      await expect(repeat(() => 1, { [name]: null })).rejects.toMatchObject(refused);
      await expect(
        compare(
          () => 1,
          () => 1,
          { [name]: null },
        ),
      ).rejects.toMatchObject(refused);
    }
  });

  test('medians', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(median([])).toBeNaN();
    expect(summarise([5])).toEqual({ median: 5, low: 5, high: 5 });
  });

  test(`the interval holds the true median at least 98 times in 100, whatever the noise (SEED=${SEED})`, () => {
    let state = SEED;
    const uniform = (): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 32;
    };
    // Skewed, with a tail: its median is 1.
    const noise = (): number => 2 ** Math.tan(Math.PI * (uniform() - 0.5));
    for (const count of [15, 31, 62]) {
      let held = 0;
      const trials = 4000;
      for (let i = 0; i < trials; i++) {
        const { low, high } = summarise(Array.from({ length: count }, noise));
        if (low <= 1 && high >= 1) ++held;
      }
      expect(held / trials).toBeGreaterThan(0.98);
      expect(held / trials).toBeLessThan(1);
    }
  });
});

test('an ES module gets the same tools', async () => {
  const code = `
    import { MemoryObject } from 'revocable-mmap';
    import { touch } from 'revocable-mmap/bench';
    console.log(touch(MemoryObject.create({ size: 8192 }).map()).accesses);`;
  const { status, stdout } = await runNode(['--input-type=module', '-e', code]);
  expect({ status, stdout }).toEqual({ status: 0, stdout: '2\n' });
});

test('the example of the documentation runs', async () => {
  const { status, stdout, stderr } = await runNode([join(__dirname, '..', '..', 'docs', 'examples', 'first-touch.mjs')]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const faults = Number(/^4 KiB pages: \d+ ns a MiB, (\d+) faults for 64 MiB$/m.exec(stdout)?.[1]);
  expect(faults).toBeGreaterThanOrEqual(sharedMemoryMayBeHuge() ? 1 : 16_384);
  expect(faults).toBeLessThan(2 * 16_384);
  expect(stdout).toMatch(/^2 MiB pages: /m);
});
