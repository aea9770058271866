import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  Bus,
  Device,
  POLL,
  stats,
  type DeviceBase,
  type DeviceFile,
  type DeviceOps,
  type Mapping,
  type RegionOptions,
  type RemovalReport,
  type SpawnedDevice,
} from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runChild } from '../support/child.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';
import { turns, until, within } from '../support/until.js';

const PAGE = 4096;
const DIRECTORY = join(__dirname, '..', 'children', 'devices');
const MODEL = join(DIRECTORY, 'model.cjs');
const filled = (page: { index: number }): Uint8Array => new Uint8Array(PAGE).fill(page.index + 1);
const never = <T>(): Promise<T> => new Promise(() => undefined);

const devices: DeviceBase[] = [];
function device(ops: DeviceOps, opTimeout = 20_000, regions: RegionOptions[] = [{ size: 8 * PAGE }]): Device {
  const made = new Device({ name: 'tested', opTimeout, regions, ops });
  devices.push(made);
  return made;
}
async function spawn(data: object = {}): Promise<SpawnedDevice> {
  const made = await Device.spawn(MODEL, { data });
  made.on('fault', () => undefined);
  devices.push(made);
  return made;
}

let touchers: Toucher[];
beforeAll(async () => {
  touchers = await Promise.all([1, 2].map(() => Toucher.start()));
});
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
afterAll(async () => {
  await Promise.all(touchers.map((toucher) => toucher.end()));
});

/** Every operation of a file, and of its device, gives ENODEV. */
async function expectGone(made: DeviceBase, file: DeviceFile): Promise<void> {
  const GONE = { code: 'ENODEV', errno: -19 };
  expect([made.state, file.state, made.signal.aborted]).toEqual(['removed', 'gone', true]);
  expect(made.signal.reason).toMatchObject(GONE);
  for (const call of [() => made.open(), () => file.map(), () => file.interruptFd()]) {
    expect(thrownBy(call)).toMatchObject(GONE);
  }
  const calls = [
    file.read(new Uint8Array(1)),
    file.write(new Uint8Array(1)),
    file.ioctl(1),
    file.poll(),
    file.poll({ timeout: 0 }),
    file.interrupts().next(),
    made.suspend(),
    made.resume(),
  ];
  for (const call of calls) expect(await rejectionOf(call)).toMatchObject(GONE);
  made.raise();
  file.close();
  expect(await rejectionOf(file.read(new Uint8Array(1)))).toMatchObject({ code: 'EBADF' });
  expect(await made.unplug()).toMatchObject({ removedByThisCall: false });
}

describe('removal of devices', () => {
  describe('unplug() from inside an op', () => {
    const callers: [keyof DeviceOps, (made: Device, file: DeviceFile, mapping: Mapping) => unknown][] = [
      ['open', (made) => made.open()],
      ['release', (_, file) => file.close()],
      ['mmap', (_, file) => file.map()],
      ['close', (_, __, mapping) => mapping.close()],
      ['fault', (_, __, mapping) => touchers[0].touch(mapping, PAGE, { how: 'raw' })],
      ['pageMkwrite', (_, __, mapping) => touchers[0].touch(mapping, PAGE, { how: 'raw write', value: 3 })],
      ['read', (_, file) => file.read(new Uint8Array(1))],
      ['write', (_, file) => file.write(new Uint8Array(1))],
      ['ioctl', (_, file) => file.ioctl(1)],
      ['poll', (_, file) => file.poll()],
      ['readRegister', (_, file) => file.map({ region: 1 }).read32(0)],
      ['writeRegister', (_, file) => file.map({ region: 1 }).write32(0, 1)],
    ];

    describe.each([
      ['and not awaited', false],
      ['and awaited', true],
    ])('%s', (_, awaited) => {
      test.each(callers)('%s', async (name, call) => {
        const reports: Promise<RemovalReport>[] = [];
        const ops: Record<string, (...args: any[]) => unknown> = { fault: filled };
        for (const op of ['open', 'release', 'mmap', 'close', 'pageMkwrite', 'read', 'write', 'ioctl', 'poll'] as const)
          ops[op] = () => undefined;
        ops.read = ops.write = ops.poll = ops.readRegister = () => 1;
        ops.writeRegister = () => undefined;
        const before = ops[name];
        let armed = false;
        ops[name] = (...args: unknown[]) => {
          if (!armed) return before(...args);
          armed = false;
          reports.push(made.unplug());
          if (!awaited || !['fault', 'pageMkwrite', 'read', 'write', 'ioctl'].includes(name)) return before(...args);
          return reports[0].then(() => before(...args));
        };
        const made = device(ops as DeviceOps, 20_000, [{ size: 8 * PAGE }, { size: PAGE, kind: 'registers' }]);
        const file = made.open();
        const other = made.open(); // keeps a file and a mapping open whatever is closed
        const mapping = file.map({ fill: 'ones' });
        const left = other.map();
        if (name === 'release') mapping.close();
        if (name === 'release') await until('close', () => made.opCounts.close === 1);
        armed = true;
        const begin = Date.now();
        try {
          await call(made, file, mapping);
        } catch (error) {
          expect(['ENODEV', 'ERR_MAPPING_REVOKED']).toContain((error as { code: string }).code);
        }
        await until('it is called', () => reports.length === 1);
        expect(await reports[0]).toMatchObject({ removedByThisCall: true, abandonedOps: 0 });
        expect(Date.now() - begin).toBeLessThan(10_000);
        const counts = { ...made.opCounts };
        expect([counts.release, counts.close]).toEqual([counts.open, name.endsWith('Register') ? 3 : 2]);
        expect(left.state).toBe('revoked');
        await barrier();
        expect({ ...made.opCounts }).toEqual(counts);
      });
    });

    test('an op that awaits unplug() while another removal waits for it does not hang it', async () => {
      let entered = 0;
      const made: Device = device({
        ioctl: async (_file, _command, _argument, { signal }) => {
          ++entered;
          if (!signal.aborted) await once(signal, 'abort');
          return made.unplug();
        },
      });
      const file = made.open();
      const calls = [1, 2, 3].map(() => rejectionOf(file.ioctl(1)));
      await until('they run', () => entered === 3);
      const begin = Date.now();
      expect(await made.unplug()).toMatchObject({ removedByThisCall: true, abandonedOps: 0 });
      for (const error of await Promise.all(calls)) expect(error).toMatchObject({ code: 'ENODEV', syscall: 'ioctl' });
      expect(Date.now() - begin).toBeLessThan(10_000);
    });
  });

  test('unplug() from an event handler', async () => {
    const made = device({ fault: () => 'sigbus' });
    const mapping = made.open().map();
    const report = new Promise<RemovalReport>((resolve) => mapping.on('fault', () => resolve(made.unplug())));
    await touchers[0].touch(mapping, 0);
    expect(await report).toMatchObject({ removedByThisCall: true, mappings: 1, files: 1 });
    const second = device({});
    const again = new Promise<RemovalReport>((resolve) => second.on('removed', () => resolve(second.unplug())));
    await second.unplug();
    expect(await again).toMatchObject({ removedByThisCall: false });
  });

  test.each([
    ['a device', async (): Promise<DeviceBase> => device({ fault: filled })],
    ['a spawned device', (): Promise<DeviceBase> => spawn()],
  ])('twice at once: %s: true for exactly one, and the same counts', async (_, make) => {
    const made = await make();
    const files = [made.open(), made.open()];
    const mappings = [files[0].map(), files[1].map(), files[1].map({ length: PAGE })];
    const reported: RemovalReport[] = [];
    made.on('removed', (report) => reported.push(report));
    const reports = await Promise.all([made.unplug('pulled'), made.remove({ timeout: 0 }), made.unplug(), made.unplug()]);
    expect(reports.map((report) => report.removedByThisCall)).toEqual([true, false, false, false]);
    for (const report of reports) {
      expect({ ...report, removedByThisCall: true }).toEqual(reports[0]);
      expect(report).toMatchObject({ device: made.name, mappings: 3, files: 2, abandonedOps: 0 });
    }
    await until('the event has come', () => reported.length > 0);
    await barrier();
    expect(reported).toEqual([reports[0]]);
    for (const mapping of mappings) {
      expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED', cause: 'pulled' });
    }
    await expectGone(made, files[0]);
  });

  test('R5 a thousand maps that race one unplug leave none live', async () => {
    const made = device({ fault: filled, mmap: () => undefined, close: () => undefined });
    const file = made.open();
    const before = stats().mappings.live;
    const mappings: Mapping[] = [];
    const codes = new Map<string, number>();
    const map = async (): Promise<void> => {
      for (let i = 0; i < 1000; i++) {
        try {
          mappings.push(i % 2 === 0 ? file.map() : made.open().map());
        } catch (error) {
          const { code } = error as { code: string };
          codes.set(code, (codes.get(code) ?? 0) + 1);
        }
        if (i % 10 === 9) await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const mapping = map();
    while (mappings.length <= 200) await turns(1); // in turn with the loop that maps, so that the removal comes in the middle of it
    const report = await made.unplug();
    await mapping;
    expect([...codes.keys()]).toEqual(['ENODEV']);
    expect(report.mappings).toBe(mappings.length);
    expect(mappings.filter(({ state }) => state !== 'revoked')).toEqual([]);
    expect([made.opCounts.close, made.opCounts.release]).toEqual([mappings.length, made.opCounts.open]);
    expect(stats().mappings.live).toBeLessThanOrEqual(before);
  });

  test('R5 maps of another thread that race an unplug leave none live', async () => {
    let raced = 0;
    // As often as it takes until the removal has come between two maps.
    for (let round = 0; round < 20 || raced === 0; round++) {
      const made = device({ fault: filled, close: () => undefined });
      const handle = made.open().map().share();
      const worker = new Worker(
        `const { parentPort, workerData } = require('node:worker_threads');
         const { object } = require('revocable-mmap').Mapping.attach(workerData);
         const mappings = [];
         let code;
         parentPort.postMessage('begun');
         for (let i = 0; i < 20_000 && code === undefined; i++) {
           try { mappings.push(object.map()); } catch (error) { code = error.code; }
         }
         parentPort.once('message', () => parentPort.postMessage([code, mappings.length, mappings.filter(({ state }) => state === 'live').length]));`,
        { eval: true, workerData: handle },
      );
      await once(worker, 'message');
      if (round % 2 === 1) await sleep((round % 20) / 4);
      await made.unplug();
      worker.postMessage('removed');
      const [[code, count, live]] = (await once(worker, 'message')) as [[string | undefined, number, number]];
      expect([undefined, 'ENODEV']).toContain(code);
      expect(live).toBe(0);
      expect(made.opCounts.close).toBe(count + 1);
      raced += Number(code === 'ENODEV' && count > 0);
      await worker.terminate();
    }
  });

  test('R11 a fault that is pending is woken: raw views read ones, never zeros nor old data, 200 of 200 times', async () => {
    let wrong = 0;
    for (let round = 0; round < 200; round++) {
      const answers: (() => void)[] = [];
      let asked = 0;
      // Old data is in the region, and the op would say so if it were waited for.
      const made = device({
        fault: (page) => {
          ++asked;
          return new Promise((resolve) => {
            answers.push(() => resolve(filled(page)));
            page.signal.addEventListener('abort', () => setTimeout(() => resolve(filled(page)), round % 3));
          });
        },
      });
      const mapping = made.open().map({ fill: 'ones' });
      const raw = touchers[0].touch(mapping, 0, { how: 'raw' });
      const checked = touchers[1].touch(mapping, PAGE + 4);
      if (round % 2 === 0) await until('both wait', () => asked === 2);
      else if (round % 4 === 1) await sleep(0);
      const removal = made.unplug();
      const askedBefore = asked;
      await removal;
      wrong += asked - askedBefore;
      const [{ value }, { code }] = await within('both are woken', Promise.all([raw, checked]));
      // A toucher may come after the removal: attaching is fine then, and there is nothing there.
      wrong += Number(value !== 0xff) + Number(code !== 'ERR_MAPPING_REVOKED');
    }
    expect(wrong).toBe(0);
  });

  test('late answers are discarded, and reach no caller', async () => {
    let answer: (content: Uint8Array) => void = () => undefined;
    const made = device({ fault: () => new Promise((resolve) => (answer = resolve)) }, 2000);
    const mapping = made.open().map({ fill: 'ones' });
    const discarded = stats().devices.answersDiscarded;
    const touch = touchers[0].touch(mapping, 0, { how: 'raw' });
    await until('it is asked', () => made.opCounts.fault === 1);
    expect(await made.unplug()).toMatchObject({ abandonedOps: 1 });
    expect(await touch).toEqual({ value: 0xff });
    answer(new Uint8Array(PAGE).fill(5));
    await until('it is discarded', () => stats().devices.answersDiscarded === discarded + 1);
    expect(mapping.bytes[0]).toBe(0xff);
  });

  test('a worker that touches in a loop is terminated while its device is removed', async () => {
    for (let round = 0; round < 20; round++) {
      const made = device({ fault: filled, close: () => undefined });
      const mapping = made.open().map();
      const worker = new Worker(
        `const { parentPort, workerData } = require('node:worker_threads');
         const mapping = require('revocable-mmap').Mapping.attach(workerData);
         parentPort.postMessage('begun');
         for (let i = 0;; i = (i + 1) % 8) { try { mapping.read8(i * 4096); } catch {} }`,
        { eval: true, workerData: mapping.share() },
      );
      await once(worker, 'message');
      const zapping = setInterval(() => made.state === 'live' && made.zap(), 1);
      await sleep(round % 5);
      const [report] = await Promise.all(
        round % 2 === 0 ? [made.unplug(), worker.terminate()] : [sleep(0).then(() => made.unplug()), worker.terminate()],
      );
      clearInterval(zapping);
      expect(report).toMatchObject({ removedByThisCall: true, abandonedOps: 0 });
      expect([made.opCounts.close, mapping.state]).toEqual([1, 'revoked']);
    }
  });

  test('R6 what waits ends with the device, and no op is called after', async () => {
    const called: string[] = [];
    const made = device(
      { read: () => never(), ioctl: () => never(), poll: () => (called.push('poll'), 0), write: () => never() },
      100,
    );
    const file = made.open();
    const interrupts = file.interrupts().next();
    const waiting = [file.read(new Uint8Array(1)), file.write(new Uint8Array(1)), file.ioctl(1), file.poll(), interrupts];
    const errors = waiting.map((promise) => rejectionOf(promise));
    await until('poll is asked', () => called.length === 1);
    const removal = made.unplug();
    for (const error of await Promise.all(errors)) expect(error).toMatchObject({ code: 'ENODEV' });
    expect(await removal).toMatchObject({ abandonedOps: 3 });
    made.notify();
    await barrier();
    expect(called).toEqual(['poll']);
    await expectGone(made, file);
  });

  test('await using unplugs', async () => {
    const made = device({});
    await made[Symbol.asyncDispose]();
    expect(made.state).toBe('removed');
  });

  describe('remove()', () => {
    test.each([
      ['a device', 'one after the other', async (): Promise<DeviceBase> => device({})],
      ['a device', 'in one turn', async (): Promise<DeviceBase> => device({})],
      ['a spawned device', 'one after the other', (): Promise<DeviceBase> => spawn()],
      ['a spawned device', 'in one turn', (): Promise<DeviceBase> => spawn()],
    ])('%s: waits for holders that let go %s', async (_, when, make) => {
      const made = await make();
      const file = made.open();
      const mapping = file.map();
      const heard: string[] = [];
      made.on('remove-requested', () => heard.push('device'));
      file.on('remove-requested', () => {
        heard.push('file');
        setTimeout(() => {
          mapping.close();
          if (when === 'in one turn') file.close();
          else setTimeout(() => file.close(), 10);
        }, 20);
      });
      const begin = Date.now();
      expect(await made.remove({ timeout: 20_000 })).toMatchObject({
        removedByThisCall: true,
        mappings: 0,
        files: 0,
        abandonedOps: 0,
      });
      expect(Date.now() - begin).toBeLessThan(10_000);
      expect(heard.sort()).toEqual(['device', 'file']);
      expect(mapping.state).toBe('closed');
    });

    test.each([
      ['a device', async (): Promise<DeviceBase> => device({})],
      ['a spawned device', (): Promise<DeviceBase> => spawn()],
    ])('%s: goes on without those who do not', async (_, make) => {
      const made = await make();
      const file = made.open();
      const mapping = file.map();
      const begin = Date.now();
      expect(await made.remove({ timeout: 100 })).toMatchObject({ removedByThisCall: true, abandonedOps: 0 });
      expect(Date.now() - begin).toBeGreaterThanOrEqual(95);
      expect(mapping.state).toBe('revoked');
      await expectGone(made, file);
    });
  });

  describe('suspend() and resume()', () => {
    test('under load: the same views go on with what the device has written meanwhile', async () => {
      const made = device({ fault: () => undefined });
      const mapping = made.open().map();
      made.region(0).bytes.fill(1);
      let stop = false;
      const seen: Record<string, number> = {};
      const load = touchers.map(async (toucher) => {
        for (let i = 0; !stop; i = (i + 1) % 8) {
          const { code, value } = await toucher
            .touch(mapping, i * PAGE)
            .catch((error) => error as { code: string; value?: number });
          const what = code ?? String(value);
          seen[what] = (seen[what] ?? 0) + 1;
          if (code !== undefined) await sleep(1);
        }
      });
      for (let round = 2; round < 20; round++) {
        await made.suspend();
        expect(made.state).toBe('suspended');
        expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
        await until('touches are refused', () => (seen.ERR_MAPPING_SUSPENDED ?? 0) >= round);
        made.region(0).bytes.fill(round);
        await made.resume();
        await until('touches see it', () => seen[round] > 0);
        const bytes = new Uint8Array(8 * PAGE);
        await mapping.readAsync(0, bytes);
        expect(bytes).toEqual(new Uint8Array(8 * PAGE).fill(round));
      }
      stop = true;
      await Promise.all(load);
      for (const what of Object.keys(seen)) {
        expect([what, what === 'ERR_MAPPING_SUSPENDED' || (Number(what) >= 1 && Number(what) < 20)]).toEqual([what, true]);
      }
    });

    test("the device's own view can be had for the first time while it is suspended", async () => {
      const made = device({ fault: () => undefined });
      const mapping = made.open().map();
      await made.suspend();
      made.region(0).memory.write32(PAGE, 0x12345678);
      expect(made.region(0).memory.state).toBe('live');
      await made.resume();
      const word = new Uint32Array(1);
      await mapping.readAsync(PAGE, word);
      expect(word[0]).toBe(0x12345678);
      await made.unplug();
      expect(made.region(0).memory.state).toBe('revoked');
    });

    test('what is discarded meanwhile is asked for anew', async () => {
      let content = 1;
      const present: boolean[] = [];
      const made = device({
        fault: (page) => {
          present.push(page.present);
          return new Uint8Array(PAGE).fill(content);
        },
      });
      const mapping = made.open().map();
      const bytes = new Uint8Array(2 * PAGE);
      await mapping.readAsync(0, bytes);
      content = 2;
      await made.suspend();
      made.region(0).discard({ offset: 0, length: PAGE });
      await made.resume();
      await mapping.readAsync(0, bytes);
      expect([bytes[0], bytes[PAGE]]).toEqual([2, 1]);
      made.region(0).discard();
      await mapping.readAsync(0, bytes);
      expect([bytes[0], bytes[PAGE]]).toEqual([2, 2]);
      expect(present).toEqual([false, false, false, true, false, false]);
    });

    test('a suspended device can be removed', async () => {
      const made = device({ fault: filled, close: () => undefined });
      const mapping = made.open().map({ fill: 'ones' });
      await made.suspend();
      await made.unplug();
      expect([mapping.state, mapping.bytes[0], made.opCounts.close]).toEqual(['revoked', 0xff, 1]);
    });
  });

  test('a device that comes back on a bus is another one: old files and mappings stay dead', async () => {
    const bus = new Bus();
    const first = device({ fault: filled });
    const [file, mapping] = [first.open(), first.open().map()];
    expect(bus.add(first).generation).toBe(1);
    await bus.remove('tested', { surprise: true });
    const second = device({ fault: filled });
    expect(bus.add(second).generation).toBe(2);
    const fresh = second.open().map();
    await fresh.readAsync(0, new Uint8Array(1));
    await expectGone(first, file);
    expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    expect([mapping.bytes[0], fresh.read8(0), second.state]).toEqual([0, 1, 'live']);
    bus.close();
  });

  describe('a spawned device', () => {
    const ends: [string, (made: SpawnedDevice, file: DeviceFile) => unknown][] = [
      ['unplug()', (made) => made.unplug()],
      ['unplug() in its worker', (_, file) => file.ioctl(0xe0)],
      ['process.exit() in its worker', (_, file) => file.ioctl(0xe1)],
      ['an exception in its worker', (_, file) => file.ioctl(0xe2)],
      ['an unhandled rejection in its worker', (_, file) => file.ioctl(0xe3)],
    ];
    test.each(ends)('ends by %s: everything gives ENODEV, who waits is woken, and the worker is gone', async (_, end) => {
      const words = new Int32Array(new SharedArrayBuffer(4)); // the ops end when it is set
      const made = await spawn({ words, opTimeout: 60_000 });
      const [file, other] = [made.open(), made.open()];
      const mapping = file.map({ fill: 'ones' });
      const reported: unknown[] = [];
      made.on('removed', (report) => reported.push(report));
      const asked = stats().devices.pagesAsked;
      const raw = touchers[0].touch(mapping, 0, { how: 'raw' });
      const checked = touchers[1].touch(mapping, PAGE);
      const waiting = [
        other.read(new Uint8Array(1)),
        other.poll({ events: POLL.IN }),
        other.interrupts().next(),
        other.ioctl(0xe4),
      ].map((promise) => rejectionOf(promise));
      await until('both wait', () => stats().devices.pagesAsked >= asked + 2);
      const ended = Promise.resolve(end(made, file)).catch(() => undefined);
      for (const error of await within('calls end', Promise.all(waiting))) expect(error).toMatchObject({ code: 'ENODEV' });
      expect(await within('it is woken', raw)).toEqual({ value: 0xff });
      expect(await within('it is woken', checked)).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      Atomics.store(words, 0, 1);
      await within('the device is gone', ended, 30_000);
      await until('the event has come', () => reported.length > 0);
      await barrier();
      expect(reported.length).toBe(1);
      await expectGone(made, file);
    });

    test('that is going gives raw accesses to registers the fill, and check() says so before the mapping is revoked', async () => {
      const made = await spawn();
      const mapping = made.open().map({ region: 'regs', fill: 'ones' });
      const registers = new Uint32Array(mapping.buffer, 0, mapping.length / 4);
      expect(registers[0]).toBe(0xdeadbeef);
      mapping.check();
      expect(registers[24 / 4]).toBe(0xffff_ffff);
      // The mapping may be live for a moment yet.
      expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      expect(thrownBy(() => mapping.read32(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      await made.unplug();
      expect([registers[0], mapping.state]).toEqual([0xffff_ffff, 'revoked']);
    });

    test('whose worker hangs in a register op: the caller gets ERR_DEVICE_OP_TIMEOUT, and unplug() ends in bounded time', async () => {
      const made = await spawn({ opTimeout: 2000 });
      const file = made.open();
      const registers = file.map({ region: 'regs' });
      const begin = Date.now();
      expect(thrownBy(() => registers.read32(16))).toMatchObject({ code: 'ERR_DEVICE_OP_TIMEOUT', op: 'readRegister' });
      expect(Date.now() - begin).toBeGreaterThanOrEqual(1990);
      expect(await made.unplug()).toMatchObject({ removedByThisCall: true, mappings: 1 });
      expect(Date.now() - begin).toBeLessThan(15_000);
      expect(thrownBy(() => registers.read32(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      await expectGone(made, file);
    });
  });

  test.each(['live', 'mapped', 'spawned', 'spawned and mapped', 'removed', 'spawned and ended', 'bus'])(
    'L4 nothing keeps an idle process alive: %s',
    async (what) => {
      const run = await runChild('devices/idle.cjs', { args: [what], limit: 60_000 });
      expect(run).toMatchObject({ status: 0, signal: null, stderr: '', stdout: `${what}\n` });
    },
  );
});
