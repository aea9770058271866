import { once } from 'node:events';
import { closeSync, openSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Device,
  MemoryObject,
  stats,
  type DeviceFaultInfo,
  type DeviceOps,
  type FaultAnswer,
  type FaultedPage,
  type FaultInfo,
  type Mapping,
  type PageSupply,
  type Stats,
} from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild } from '../support/child.js';
import { CHECKED_ACCESSORS, CHECKED_READS } from '../support/accessors.js';
import { testUnless } from '../support/conditions.js';
import { temporaryFile } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';
import { until, untilWithinTurn } from '../support/until.js';

const PAGE = 4096;
const MODEL = join(__dirname, '..', 'children', 'devices', 'model.cjs');

/** An opTimeout that is to pass: long enough for this thread to call the op before, whatever else the machine does. */
const TIMES_UP = 1500;

const devices: Device[] = [];
function device(
  pages: number,
  ops: DeviceOps,
  options: { opTimeout?: number; pages?: PageSupply; around?: number } = {},
): Device {
  const { opTimeout = 20_000, ...region } = options;
  const made = new Device({ name: 'tested', opTimeout, regions: [{ size: pages * PAGE, ...region }], ops });
  devices.push(made);
  return made;
}

let touchers: Toucher[];
beforeAll(async () => {
  touchers = await Promise.all([1, 2, 3, 4].map(() => Toucher.start()));
});
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
afterAll(async () => {
  await Promise.all(touchers.map((toucher) => toucher.end()));
});

function whyNoHugeBuffers(): string | undefined {
  try {
    new SharedArrayBuffer(2 ** 40, { maxByteLength: 2 ** 40 });
    return undefined;
  } catch {
    return 'no buffers of 1 TiB in this Node';
  }
}

const contentOf = (index: number): number => (index % 250) + 1;
const filled = (page: FaultedPage): Uint8Array => new Uint8Array(PAGE).fill(contentOf(page.index));

/** How the counts have grown since. */
function counting(): () => Omit<Stats['devices'], 'accessesRefused'> {
  const before = stats().devices;
  return () => {
    const now = stats().devices;
    return {
      pagesSupplied: now.pagesSupplied - before.pagesSupplied,
      pagesAsked: now.pagesAsked - before.pagesAsked,
      selfFaults: now.selfFaults - before.selfFaults,
      answersDiscarded: now.answersDiscarded - before.answersDiscarded,
      accessesRefused: now.accessesRefused - before.accessesRefused,
    };
  };
}

/** All events of faults. */
function listen(made: Device, mapping: Mapping): { mapping: FaultInfo[]; object: FaultInfo[]; device: DeviceFaultInfo[] } {
  const heard = { mapping: [] as FaultInfo[], object: [] as FaultInfo[], device: [] as DeviceFaultInfo[] };
  mapping.on('fault', (info) => heard.mapping.push(info));
  mapping.object.on('fault', (info) => heard.object.push(info));
  made.on('fault', (info) => heard.device.push(info));
  return heard;
}

describe('page faults of devices', () => {
  test('several threads that touch one page at once ask for it once a mapping', async () => {
    const pages: FaultedPage[] = [];
    const made = device(50, {
      fault: (page) => {
        pages.push(page);
        return filled(page);
      },
    });
    const grown = counting();
    const mappings = [made.open().map(), made.open().map()];
    for (let index = 0; index < 50; index++) {
      for (const mapping of mappings) {
        const barrier = { words: new SharedArrayBuffer(4), count: touchers.length };
        const touches = touchers.map((toucher) => toucher.touch(mapping, index * PAGE, { barrier }));
        for (const touch of await Promise.all(touches)) expect(touch).toEqual({ value: contentOf(index) });
      }
    }
    expect(made.opCounts.fault).toBe(100);
    expect(new Set(pages.map((page) => `${page.mapping} ${page.index}`)).size).toBe(100);
    const tids = touchers.map((toucher) => toucher.tid);
    for (const page of pages) expect(tids).toContain(page.thread);
    await until('all are counted', () => grown().pagesSupplied === 100);
    expect(grown()).toEqual({ pagesSupplied: 100, pagesAsked: 100, selfFaults: 0, answersDiscarded: 0, accessesRefused: 0 });
  });

  const failing: [string, () => FaultAnswer | Promise<FaultAnswer>, string][] = [
    [
      'throws',
      () => {
        throw new Error('broken');
      },
      'failed',
    ],
    ['rejects', () => Promise.reject(new Error('broken')), 'failed'],
    ['answers nonsense', () => 17 as never, 'failed'],
    ["answers 'sigbus'", () => 'sigbus', 'refused'],
    ["answers 'sigbus' later", () => sleep(5).then(() => 'sigbus' as const), 'refused'],
    ['never answers', () => new Promise(() => undefined), 'no-answer'],
  ];
  test.each(failing)(
    'a fault op that %s: the toucher gets a BackingFaultError, and each of mapping, object and device one event',
    async (_, answer, cause) => {
      const made = device(2, { fault: answer }, { opTimeout: cause === 'no-answer' ? TIMES_UP : 20_000 });
      const mapping = made.open().map({ fill: 'ones' });
      const heard = listen(made, mapping);
      expect(await touchers[0].touch(mapping, PAGE + 8)).toEqual({ code: 'ERR_BACKING_FAULT', cause, offset: PAGE + 8 });
      expect(thrownBy(() => mapping.read8(PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause, offset: PAGE });
      expect(mapping.bytes[PAGE]).toBe(0xff);
      await until('the events have come', () => heard.device.length > 0 && heard.mapping.length > 0);
      await barrier();
      expect(heard.mapping).toEqual(
        [{ kind: 'backing', cause, write: false, offset: PAGE }].map((info) => expect.objectContaining(info)),
      );
      expect(heard.object).toEqual(heard.mapping);
      expect(heard.device).toEqual([
        expect.objectContaining({ op: 'fault', cause, region: 0, index: 1, thread: touchers[0].tid }),
      ]);
      expect([made.opCounts.fault, mapping.faults, mapping.state]).toEqual([1, 1, 'live']);
      // After a zap it is asked for again.
      made.zap();
      expect(await touchers[1].touch(mapping, PAGE)).toMatchObject({ code: 'ERR_BACKING_FAULT', cause });
      expect(made.opCounts.fault).toBe(2);
    },
  );

  test('the signal of an op is aborted when its time is up, and what it answers then is discarded', async () => {
    let answer: (content: Uint8Array) => void = () => undefined;
    let signal: AbortSignal | undefined;
    const made = device(
      1,
      {
        fault: (page) => {
          signal = page.signal;
          return new Promise((resolve) => (answer = resolve));
        },
      },
      { opTimeout: TIMES_UP },
    );
    made.on('fault', () => undefined);
    const mapping = made.open().map({ fill: 'ones' });
    const grown = counting();
    expect(await touchers[0].touch(mapping, 0)).toMatchObject({ cause: 'no-answer' });
    await until('the signal of the op is aborted', () => signal?.aborted === true);
    expect(signal!.reason).toMatchObject({ code: 'ERR_DEVICE_OP_TIMEOUT', device: 'tested', op: 'fault' });
    answer(new Uint8Array(PAGE).fill(9));
    await until('the answer is discarded', () => grown().answersDiscarded === 1);
    expect([mapping.bytes[0], (await touchers[0].touch(mapping, 0)).code]).toEqual([0xff, 'ERR_BACKING_FAULT']);
    expect(grown()).toEqual({ pagesSupplied: 0, pagesAsked: 1, selfFaults: 0, answersDiscarded: 1, accessesRefused: 0 });
  });

  test.each(['an error', 'a string', 'a number', 'an object', 'null', 'undefined'].map((what, index) => ({ what, index })))(
    'an op that throws $what, and there is no listener: a warning says so',
    async ({ index }) => {
      const run = await runInChild(
        async (lib, _require, input) => {
          const thrown = [new Error('broken'), 'broken', 5, {}, null, undefined][input];
          const warned = new Promise<any>((resolve) => process.on('warning', resolve));
          const device = new lib.Device({
            name: 'tested',
            regions: [{ size: 4096 }],
            ops: { fault: () => Promise.reject(thrown) },
          });
          const code = await device
            .open()
            .map()
            .readAsync(0, new Uint8Array(1))
            .catch((error) => error.code);
          const { code: warning, message } = await warned;
          return [code, warning, message.startsWith('tested: fault: ')];
        },
        { input: index },
      );
      expect(run).toMatchObject({ status: 0, value: ['ERR_BACKING_FAULT', 'REVOCABLE_MMAP_DEVICE_OP', true] });
    },
  );

  describe('the thread whose ops would have to supply the page', () => {
    const SELF = { code: 'ERR_DEVICE_SELF_FAULT' };

    test.each(CHECKED_ACCESSORS)('$name throws SelfFaultError, and others get the page', async ({ name, access }) => {
      const made = device(2, { fault: filled });
      const mapping = made.open().map();
      const grown = counting();
      const bulk = name === 'read' || name === 'write' ? { bytesTransferred: 0 } : {};
      expect(thrownBy(() => access(mapping, PAGE + 64))).toMatchObject({
        ...SELF,
        offset: PAGE + 64,
        object: 'tested/0',
        ...bulk,
      });
      expect(made.opCounts.fault).toBe(0);
      expect(grown().selfFaults).toBeGreaterThanOrEqual(1); // a signal in between makes the kernel tell of the touch again
      expect(await touchers[0].touch(mapping, PAGE + 64)).toEqual({ value: contentOf(1) });
      expect(made.opCounts.fault).toBe(1);
      // Now it is there for this thread too.
      access(mapping, PAGE + 64);
      expect(mapping.read8(PAGE + 200)).toBe(contentOf(1));
    });

    test.each([0, 1, 7, 63, 64, 1000, PAGE - 1, PAGE])(
      'bulk copies stop %i bytes after their begin, where the first page that is not there begins',
      async (distance) => {
        const made = device(3, { fault: filled });
        const mapping = made.open().map();
        await mapping.readAsync(0, new Uint8Array(1));
        const target = new Uint8Array(PAGE + distance);
        const at = PAGE - distance;
        expect(thrownBy(() => mapping.read(at, target))).toMatchObject({ ...SELF, bytesTransferred: distance, offset: PAGE });
        expect(target).toEqual(new Uint8Array(PAGE + distance).fill(contentOf(0), 0, distance));
        const source = new Uint8Array(PAGE + distance).fill(0x77);
        expect(thrownBy(() => mapping.write(at, source))).toMatchObject({ ...SELF, bytesTransferred: distance, offset: PAGE });
        const after = new Uint8Array(2 * PAGE);
        await mapping.readAsync(0, after);
        expect(after).toEqual(new Uint8Array(2 * PAGE).fill(contentOf(0), 0, at).fill(0x77, at, PAGE).fill(contentOf(1), PAGE));
      },
    );

    test('raw views get the fill, a fault event of kind self follows, and others get the page', async () => {
      const made = device(2, { fault: filled });
      const mapping = made.open().map({ fill: 'ones' });
      const heard = listen(made, mapping);
      expect(mapping.bytes[PAGE]).toBe(0xff);
      await until('the event has come', () => heard.mapping.length > 0);
      await barrier();
      // One, or more where this thread was stopped before its load got through, and the page was put back under it.
      expect(heard.mapping.length).toBeLessThan(100);
      for (const info of heard.mapping) expect(info).toEqual({ kind: 'self', cause: 'none', write: false, offset: PAGE });
      expect([heard.object, heard.device]).toEqual([heard.mapping, []]);
      expect(await touchers[0].touch(mapping, PAGE)).toEqual({ value: contentOf(1) });
      expect([mapping.bytes[PAGE], mapping.read8(PAGE), made.opCounts.fault]).toEqual([contentOf(1), contentOf(1), 1]);
    });

    test('an op that touches another page of its own device gets SelfFaultError, and the page can be had later', async () => {
      const errors: unknown[] = [];
      const made: Device = device(2, {
        fault: (page) => {
          if (page.index === 0) errors.push(thrownBy(() => mapping.read32(PAGE)));
          return filled(page);
        },
      });
      const mapping = made.open().map();
      expect(await touchers[0].touch(mapping, 0)).toEqual({ value: contentOf(0) });
      expect(errors).toEqual([expect.objectContaining(SELF)]);
      expect(await touchers[0].touch(mapping, PAGE)).toEqual({ value: contentOf(1) });
    });

    test.each(CHECKED_READS)('$name does not wait where native code supplies the pages', ({ access }) => {
      const mapping = device(2, {}, { pages: { constant: 0x11 } })
        .open()
        .map();
      access(mapping, PAGE);
      expect(mapping.read8(0)).toBe(0x11);
    });
  });

  describe('an op that touches, raw, the page that it is asked for', () => {
    const failed = ['ERR_BACKING_FAULT', 'failed', 'answered with a page that it would have to supply itself'];
    const cases: [string, unknown[]][] = [
      ['and answers it', failed],
      ['and answers it after another look', failed],
      ['and answers a copy of it: the fill', [0]],
      ['and answers something else', [7]],
      ['and answers nothing in time', ['ERR_BACKING_FAULT', 'no-answer']],
    ];
    test.each(cases.map(([what, outcome], index) => ({ what, outcome, index })))('$what: it is called once', async (row) => {
      const run = await runInChild(
        async (lib, require, which) => {
          const { barrier } = require('./test/support/barrier.cjs') as typeof import('../support/barrier.cjs');
          const PAGE = 4096;
          const own = (): Uint8Array => mapping.bytes.subarray(0, PAGE);
          const ops: (() => FaultAnswer | Promise<FaultAnswer>)[] = [
            () => own(),
            () => (own()[5], own()),
            () => new Uint8Array(own()),
            () => (own()[5], new Uint8Array(PAGE).fill(7)),
            () => (own()[5], new Promise(() => undefined)),
          ];
          const device = new lib.Device({
            name: 'd',
            opTimeout: 1500,
            regions: [{ size: 2 * PAGE }],
            ops: { fault: ops[which] },
          });
          const faults: unknown[] = [];
          device.on('fault', (info) => faults.push(info));
          const mapping = device.open().map();
          const target = new Uint8Array(1);
          const copied = await mapping.readAsync(0, target).then(
            () => [target[0]],
            ({ code, cause }) => [code, cause],
          );
          const selfFaulted = await Promise.resolve()
            .then(() => mapping.check())
            .catch((error) => error);
          await barrier();
          const [message] = faults.map((info) => (info as { error?: Error }).error?.message);
          return { copied, events: faults.length, message, count: device.opCounts.fault, self: selfFaulted?.code };
        },
        { input: row.index, limit: 20_000 },
      );
      expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
      const [code, cause, message] = row.outcome;
      const refused = code === 'ERR_BACKING_FAULT';
      expect(run.value).toMatchObject({ copied: refused ? [code, cause] : [code], events: refused ? 1 : 0, count: 1 });
      if (cause === 'failed') expect(run.value).toMatchObject({ message: `d: fault: ${message as string}` });
      // A page that is lost is what check() tells of.
      if (!refused) expect(run.value).toMatchObject({ self: 'ERR_DEVICE_SELF_FAULT' });
    });

    test('and that it is asked about before a first write: pageMkwrite is called once', async () => {
      const run = await runInChild(
        async (lib) => {
          const device = new lib.Device({
            name: 'd',
            opTimeout: 1500,
            regions: [{ size: 4096, pages: 'zeros' }],
            ops: { pageMkwrite: () => void (mapping.bytes[1] = 1) },
          });
          const mapping = device.open().map();
          mapping.read8(0);
          await mapping.writeAsync(0, new Uint8Array([5]));
          return [device.opCounts.pageMkwrite, mapping.read8(0), mapping.read8(1)];
        },
        { limit: 20_000 },
      );
      expect(run).toMatchObject({ status: 0, signal: null, stderr: '', value: [1, 5, 0] });
    });
  });

  describe('answers', () => {
    test.each(['lost', 'protected otherwise', 'touched by its own thread'])(
      'content for several pages ends where the next one is %s',
      async (how) => {
        const run = await runInChild(
          async (lib, _require, what) => {
            const PAGE = 4096;
            const device = new lib.Device({
              name: 'd',
              regions: [{ size: 2 * PAGE }],
              ops: {
                fault: ({ index }) => {
                  if (index === 1) return 'sigbus';
                  if (what.startsWith('touched')) void mapping.bytes[PAGE];
                  return new Uint8Array(2 * PAGE).fill(7);
                },
              },
            });
            device.on('fault', () => undefined);
            const mapping = device.open().map();
            if (what === 'lost') await mapping.readAsync(PAGE, new Uint8Array(1)).catch(() => undefined);
            if (what.startsWith('protected')) mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
            const target = new Uint8Array(1);
            await mapping.readAsync(0, target);
            return target[0];
          },
          { input: how, limit: 20_000 },
        );
        expect(run).toMatchObject({ status: 0, signal: null, stderr: '', value: 7 });
      },
    );

    testUnless(whyNoHugeBuffers(), 'content of 1 TiB is taken as far as the region goes', async () => {
      const run = await runInChild(
        async (lib) => {
          const huge = new Uint8Array(new SharedArrayBuffer(2 ** 40, { maxByteLength: 2 ** 40 }));
          huge[4097] = 9;
          const device = new lib.Device({ name: 'd', regions: [{ size: 5000 }], ops: { fault: () => huge } });
          const mapping = device.open().map();
          const target = new Uint8Array(5000);
          await mapping.readAsync(0, target);
          const image = new lib.Device({ name: 'i', regions: [{ size: 5000, pages: { image: huge } }] });
          return [target[4097], device.opCounts.fault, image.open().map().read8(4097)];
        },
        { limit: 20_000 },
      );
      expect(run).toMatchObject({ status: 0, signal: null, stderr: '', value: [9, 1, 9] });
    });

    test('bytes that cannot be read are no answer, and no image', async () => {
      const path = temporaryFile(2 * PAGE);
      const file = MemoryObject.openFile(path).map({ length: 2 * PAGE });
      truncateSync(path, PAGE);
      const heard: DeviceFaultInfo[] = [];
      const made = device(1, { fault: () => file.bytes.subarray(PAGE) });
      made.on('fault', (info) => heard.push(info));
      const error = await rejectionOf(made.open().map().readAsync(0, new Uint8Array(1)));
      expect(error).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'failed' });
      await until('the event has come', () => heard.length === 1);
      expect(heard[0]).toMatchObject({ op: 'fault', cause: 'failed', error: { cause: { code: 'EFAULT', syscall: 'copy' } } });
      truncateSync(path, 2 * PAGE);
      file.object.close();
      const again = MemoryObject.openFile(path).map({ length: 2 * PAGE });
      truncateSync(path, PAGE);
      const image = { name: 'i', regions: [{ size: 2 * PAGE, pages: { image: again.bytes } }] };
      expect(thrownBy(() => new Device(image))).toMatchObject({ code: 'EFAULT', syscall: 'copy' });
      again.object.close();
    });

    test('content for several pages supplies those behind, as far as they are untouched', async () => {
      const asked: number[] = [];
      const made = device(16, {
        fault: ({ index }) => {
          asked.push(index);
          if (index === 6) return new Uint8Array(PAGE).fill(99);
          const content = new Uint8Array(4 * PAGE);
          for (let i = 0; i < 4; i++) content.fill(contentOf(index + i), i * PAGE, (i + 1) * PAGE);
          return content;
        },
      });
      const mapping = made.open().map();
      const grown = counting();
      for (const index of [6, 4, 5, 6, 7, 8, 11, 12, 14]) {
        expect([index, (await touchers[0].touch(mapping, index * PAGE)).value]).toEqual([
          index,
          index === 6 ? 99 : contentOf(index),
        ]);
      }
      expect(asked).toEqual([6, 4, 7, 11]);
      await until('all are counted', () => grown().pagesSupplied === 1 + 2 + 4 + 4);
      // What was brought for the first mapping is present for the second.
      const second = made.open().map();
      expect((await touchers[0].touch(second, 5 * PAGE)).value).toBe(contentOf(5));
    });

    test('less than a page is followed by zeros; nothing at all is zeros; what the device wrote itself stays', async () => {
      const present: boolean[] = [];
      const made = device(4, {
        fault: (page) => {
          present.push(page.present);
          return page.index === 0 ? new Uint8Array([1, 2, 3]) : undefined;
        },
      });
      made.region(0).bytes[2 * PAGE] = 42;
      const mapping = made.open().map();
      const bytes = new Uint8Array(3 * PAGE).fill(255);
      await mapping.readAsync(0, bytes);
      const expected = new Uint8Array(3 * PAGE);
      expected.set([1, 2, 3]);
      expected[2 * PAGE] = 42;
      expect(bytes).toEqual(expected);
      expect(present).toEqual([false, false, true]);
    });

    test('a view of other than bytes is its bytes', async () => {
      const made = device(1, { fault: () => new Uint16Array(PAGE / 2).fill(0x0201) as never });
      expect((await touchers[0].touch(made.open().map(), 1)).value).toBe(2);
    });
  });

  describe('pages supplied by native code', () => {
    const image = new Uint8Array(2 * PAGE + 100).fill(7);
    const supplies: [string, PageSupply, (offset: number) => number | undefined][] = [
      ['zeros', 'zeros', () => 0],
      ['a constant', { constant: 0x42 }, () => 0x42],
      ['an image, and zeros behind its end', { image }, (offset) => (offset < image.length ? 7 : 0)],
      ['offsets', { model: 'offsets' }, (offset) => (offset >> 8) & 0xff],
      ['noise', { model: 'random', seed: 5 }, () => undefined],
    ];
    test.each(supplies.flatMap((row) => [1, 8].map((around) => [...row, around] as const)))(
      'supplies %s',
      (_, pages, expected, around) => {
        const made = device(20, {}, { pages, around });
        const mapping = made.open().map();
        const second = made.open().map();
        const grown = counting();
        for (let index = 0; index < 20; index++) {
          const offset = index * PAGE + 1;
          const value = mapping.read8(offset);
          if (expected(offset) !== undefined) expect([index, value]).toEqual([index, expected(offset)]);
          expect(second.read8(offset)).toBe(value);
        }
        expect([made.opCounts.fault, grown().pagesAsked, mapping.faults]).toEqual([0, 0, 0]);
      },
      30_000,
    );

    test('the same seed gives the same noise, another seed another', () => {
      const words = [5, 5, 6].map((seed) =>
        device(1, {}, { pages: { model: 'random', seed } })
          .open()
          .map()
          .read64(64),
      );
      expect(words[0]).toBe(words[1]);
      expect(words[0]).not.toBe(words[2]);
    });
  });

  describe('pageMkwrite', () => {
    test('is asked once a page and mapping before the first write, and not for reads', async () => {
      const written: FaultedPage[] = [];
      const made = device(4, { fault: filled, pageMkwrite: (page) => void written.push(page) });
      const mapping = made.open().map();
      for (let round = 0; round < 3; round++) {
        for (let index = 0; index < 4; index++) {
          expect(await touchers[round].touch(mapping, index * PAGE)).toEqual({ value: contentOf(index) });
        }
      }
      expect([made.opCounts.fault, made.opCounts.pageMkwrite]).toEqual([4, 0]);
      for (let round = 0; round < 3; round++) {
        expect(await touchers[round].touch(mapping, 2 * PAGE + 1, { how: 'write8', value: 200 + round })).toEqual({});
      }
      expect(written.map(({ index, write, thread }) => [index, write, thread])).toEqual([[2, true, touchers[0].tid]]);
      expect(mapping.read8(2 * PAGE + 1)).toBe(202);
      made.zap();
      await mapping.writeAsync(2 * PAGE + 1, new Uint8Array([77]));
      expect([made.opCounts.fault, made.opCounts.pageMkwrite]).toEqual([5, 2]);
    });

    test.each([
      ["answers 'sigbus'", () => 'sigbus' as const, 20_000],
      ['throws', () => Promise.reject(new Error('no')), 20_000],
      ['does not answer', () => new Promise<undefined>(() => undefined), TIMES_UP],
    ])('that %s: the writer gets ReadOnlyMappingError, nothing is written, and readers go on', async (_, answer, opTimeout) => {
      const made = device(2, { fault: filled, pageMkwrite: answer }, { opTimeout });
      const faults: DeviceFaultInfo[] = [];
      made.on('fault', (info) => faults.push(info));
      const mapping = made.open().map();
      const other = made.open().map();
      expect(await touchers[0].touch(mapping, 5, { how: 'write8', value: 250 })).toEqual({
        code: 'ERR_MAPPING_READ_ONLY',
        offset: 5,
      });
      expect(await touchers[1].touch(mapping, 5)).toEqual({ value: contentOf(0) });
      expect(await touchers[1].touch(other, 5)).toEqual({ value: contentOf(0) });
      expect([made.opCounts.pageMkwrite, made.region(0).bytes[5]]).toEqual([1, contentOf(0)]);
      await until('the device tells of it', () => faults.length === 1);
      expect(faults[0]).toMatchObject({ op: 'pageMkwrite', index: 0 });
      expect((await rejectionOf(mapping.writeAsync(5, new Uint8Array(1)))).code).toBe('ERR_MAPPING_READ_ONLY');
      expect(made.opCounts.pageMkwrite).toBe(1);
    });
  });

  describe('copies and system calls', () => {
    test('fs.writeSync of a view whose page is not there fails with EFAULT, and with the bytes once it is', async () => {
      const mapping = device(2, { fault: filled }).open().map();
      const fd = openSync(temporaryFile(0), 'w');
      expect(thrownBy(() => writeSync(fd, mapping.bytes, 0, 16))).toMatchObject({ code: 'EFAULT', syscall: 'write' });
      await mapping.readAsync(0, new Uint8Array(1));
      expect(writeSync(fd, mapping.bytes, 0, 16)).toBe(16);
      closeSync(fd);
    });

    test.each([0, 1, 63, 64, 65, 4000, PAGE])(
      'readAsync and writeAsync that run into a refused page say so after exactly %i bytes',
      async (distance) => {
        const made = device(2, { fault: (page) => (page.index === 1 ? 'sigbus' : filled(page)) });
        const mapping = made.open().map();
        const target = new Uint8Array(PAGE + distance);
        const expected = { code: 'ERR_BACKING_FAULT', cause: 'refused', bytesTransferred: distance, offset: PAGE };
        expect(await rejectionOf(mapping.readAsync(PAGE - distance, target))).toMatchObject(expected);
        expect(target.subarray(0, distance)).toEqual(new Uint8Array(distance).fill(contentOf(0)));
        expect(await rejectionOf(mapping.writeAsync(PAGE - distance, target.fill(3)))).toMatchObject(expected);
        expect(await touchers[0].touch(mapping, PAGE - distance, { how: 'read', length: PAGE + distance })).toMatchObject(
          expected,
        );
        expect(made.opCounts.fault).toBe(distance === 0 ? 1 : 2);
        if (distance > 0) expect(mapping.read8(PAGE - 1)).toBe(3);
      },
    );

    test('a model in a worker serves 20,000 pages to a thread that waits for each', async () => {
      const spawned = await Device.spawn(MODEL, { data: { pages: 20_000 } });
      const mapping = spawned.open().map();
      const grown = counting();
      let wrong = 0;
      for (let index = 0; index < 20_000; index++) wrong += Number(mapping.read8(index * PAGE) !== ((index + 1) & 0xff));
      expect([wrong, mapping.faults, grown().pagesAsked]).toEqual([0, 0, 20_000]);
      await spawned.unplug();
    });
  });

  describe('waiting for a word of a page that is not there yet', () => {
    const supplied = (): Mapping =>
      device(2, {}, { pages: { constant: 5 } })
        .open()
        .map();
    const WORD = 0x05050505;

    test('native code supplies it, and the wait goes on', async () => {
      const mapping = supplied();
      expect(await mapping.wait(0, WORD, { timeout: 20 })).toBe('timed-out');
      expect(mapping.waitSync(PAGE, WORD, { timeout: 20 })).toBe('timed-out');
      expect([await supplied().wait(0, 1), supplied().waitSync(0, 1)]).toEqual(['not-equal', 'not-equal']);
    });

    test('it can be woken, also after the page was let go', async () => {
      const made = device(1, {}, { pages: 'zeros' });
      const mapping = made.open().map();
      const wait = mapping.wait(0, 0);
      await until('it waits', () => mapping.residency()[0] === 1);
      made.zap();
      await until('it is woken', () => mapping.wake(0) === 1);
      expect(await wait).toBe('ok');
    });

    test("this thread's own op supplies it to wait(), and waitSync() throws SelfFaultError", async () => {
      const made = device(2, { fault: filled });
      const mapping = made.open().map();
      expect(thrownBy(() => mapping.waitSync(PAGE, 0))).toMatchObject({ code: 'ERR_DEVICE_SELF_FAULT', offset: PAGE });
      const word = contentOf(0) * 0x01010101;
      expect(await mapping.wait(0, word, { timeout: 20 })).toBe('timed-out');
      expect([await mapping.wait(0, 0), made.opCounts.fault]).toEqual(['not-equal', 1]);
    });

    test('a page that is refused, and one that comes too late', async () => {
      const refusing = device(1, { fault: () => 'sigbus' });
      refusing.on('fault', () => undefined);
      const refused = await rejectionOf(refusing.open().map().wait(0, 0));
      expect(refused).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'refused', offset: 0 });
      let answer: (content: undefined) => void = () => undefined;
      const slow = device(1, { fault: () => new Promise((resolve) => (answer = resolve)) });
      const mapping = slow.open().map();
      expect(await mapping.wait(0, 0, { timeout: 20 })).toBe('timed-out');
      const aborted = AbortSignal.timeout(20);
      expect(await rejectionOf(mapping.wait(0, 0, { signal: aborted }))).toBe(aborted.reason);
      const revoked = rejectionOf(mapping.wait(0, 0));
      await until('the op runs', () => slow.opCounts.fault === 1);
      mapping.object.revokeSync();
      expect(await revoked).toMatchObject({ code: 'ERR_MAPPING_REVOKED', offset: 0 });
      answer(undefined);
    });

    test('a device in a worker supplies it', async () => {
      const spawned = await Device.spawn(MODEL);
      const mapping = spawned.open().map({ region: 'ram' });
      expect(await mapping.wait(0, 0x01010101, { timeout: 20 })).toBe('timed-out');
      expect(mapping.waitSync(PAGE, 0x02020202, { timeout: 20 })).toBe('timed-out');
      expect([await mapping.wait(2 * PAGE, 0), mapping.waitSync(3 * PAGE, 0)]).toEqual(['not-equal', 'not-equal']);
      await spawned.unplug();
    });
  });

  describe.each(['populate-read', 'populate-write'] as const)("advise('%s')", (advice) => {
    test('waits for the pages of the range, and for no others', async () => {
      const mapping = device(4, {}, { pages: { constant: 5 } })
        .open()
        .map();
      const grown = counting();
      mapping.advise(advice, { offset: PAGE, length: 2 * PAGE });
      await until('they are counted', () => grown().pagesSupplied === 2);
      expect([...mapping.residency(), mapping.bytes[PAGE]]).toEqual([0, 1, 1, 0, 5]);
      const spawned = await Device.spawn(MODEL);
      const other = spawned.open().map({ region: 'ram' });
      other.advise(advice, { offset: 0, length: 2 * PAGE });
      expect([grown().pagesAsked, other.bytes[PAGE]]).toEqual([2, 2]);
      await spawned.unplug();
    });

    test('throws SelfFaultError in the thread that would have to supply them', () => {
      const mapping = device(2, { fault: filled }).open().map();
      const error = thrownBy(() => mapping.advise(advice, { offset: PAGE, length: PAGE }));
      expect(error).toMatchObject({ code: 'ERR_DEVICE_SELF_FAULT', offset: PAGE });
    });

    test('throws what says why a page cannot be had', async () => {
      const made = device(2, { fault: ({ index }) => (index === 1 ? 'sigbus' : undefined) });
      made.on('fault', () => undefined);
      const mapping = made.open().map();
      await mapping.readAsync(0, new Uint8Array(2 * PAGE)).catch(() => undefined);
      const error = thrownBy(() => mapping.advise(advice));
      expect(error).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'refused', offset: PAGE });
    });
  });

  test("advise('populate-write') is EFAULT, with the place, where the device wants to be asked before a write", () => {
    const made = device(2, { pageMkwrite: () => undefined });
    const mapping = made.open().map();
    const error = { code: 'EFAULT', errno: -14, syscall: 'madvise', object: 'tested/0', offset: PAGE, objectOffset: PAGE };
    expect(thrownBy(() => mapping.advise('populate-write', { offset: PAGE, length: PAGE }))).toMatchObject(error);
    expect(made.opCounts.pageMkwrite).toBe(0);
    mapping.advise('populate-read');
  });

  describe('R6 no op runs after', () => {
    test('await object.revoke(): an asynchronous fault op has settled by then, and no other begins', async () => {
      const order: string[] = [];
      let release: () => void = () => undefined;
      const made = device(2, {
        fault: async (page) => {
          order.push('asked');
          await new Promise<void>((resolve) => (release = resolve));
          order.push('settled');
          return filled(page);
        },
        close: () => void order.push('close'),
      });
      const mapping = made.open().map({ fill: 'ones' });
      const touch = touchers[0].touch(mapping, 0, { how: 'raw' });
      await until('the op runs', () => order.length === 1);
      const revoked = made.region(0).object.revoke();
      // The toucher does not wait for the op.
      expect(await touch).toEqual({ value: 0xff });
      expect(order).not.toContain('settled');
      release();
      await revoked;
      expect([...order].sort()).toEqual(['asked', 'close', 'settled']);
      expect(mapping.bytes[0]).toBe(0xff);
      await rejectionOf(mapping.readAsync(PAGE, new Uint8Array(1)));
      await barrier();
      expect([order.length, made.opCounts.fault, made.opCounts.close]).toEqual([3, 1, 1]);
    });

    test('await object.revoke() is not held up by an op that heeds its signal', async () => {
      const made = device(1, { fault: (page) => once(page.signal, 'abort').then(() => undefined) });
      const mapping = made.open().map();
      const touch = touchers[0].touch(mapping, 0);
      await until('the op runs', () => made.opCounts.fault === 1);
      const begin = Date.now();
      await made.region(0).object.revoke();
      expect(Date.now() - begin).toBeLessThan(10_000);
      expect((await touch).code).toBe('ERR_MAPPING_REVOKED');
    });

    test('revokeSync(): only close may still run', async () => {
      const made = device(64, { fault: filled, close: () => undefined });
      const mapping = made.open().map({ fill: 'ones' });
      const grown = counting();
      const touches = touchers.map((toucher, i) => toucher.touch(mapping, i * PAGE, { how: 'raw' }));
      untilWithinTurn('all have asked', () => grown().pagesAsked === touchers.length);
      made.region(0).object.revokeSync();
      const asked = made.opCounts.fault;
      for (const touch of await Promise.all(touches)) expect(touch).toEqual({ value: 0xff });
      await until('close', () => made.opCounts.close === 1);
      expect([asked, made.opCounts.fault]).toEqual([0, 0]);
    });

    test('an op that revokes its own region: what was asked at the same time is not', async () => {
      const made: Device = device(8, {
        fault: (page) => {
          made.region(0).object.revokeSync();
          return filled(page);
        },
      });
      const mapping = made.open().map({ fill: 'ones' });
      const grown = counting();
      const touches = touchers.map((toucher, i) => toucher.touch(mapping, i * PAGE, { how: 'raw' }));
      untilWithinTurn('all have asked', () => grown().pagesAsked === touchers.length);
      for (const touch of await Promise.all(touches)) expect(touch).toEqual({ value: 0xff });
      expect(made.opCounts.fault).toBe(1);
    });

    test('two ops that each await the revocation of their region do not wait for each other', async () => {
      const made: Device = device(2, {
        fault: async (page) => {
          await made.region(0).object.revoke();
          return filled(page);
        },
      });
      const mapping = made.open().map({ fill: 'ones' });
      const begin = Date.now();
      const touches = [0, 1].map((i) => touchers[i].touch(mapping, i * PAGE, { how: 'raw' }));
      await Promise.all(touches);
      await made.region(0).object.revoke();
      expect(Date.now() - begin).toBeLessThan(10_000);
    });
  });
});
