/** Cases 51 to 57: Fuchsia's zircon/system/utest/pager/pager.cc. A pager is a device, a VMO a region; detaching is revoking. */
import { once } from 'node:events';
import { join } from 'node:path';
import { Device, MemoryObject, revokeMappings, stats, type DeviceOps, type FaultAnswer, type FaultedPage } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild } from '../support/child.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';
import { until } from '../support/until.js';

const PAGE = 4096;
const MODEL = join(__dirname, '..', 'children', 'devices', 'model.cjs');
const REVOKED = { code: 'ERR_MAPPING_REVOKED' };
const filled = (page: FaultedPage): Uint8Array => new Uint8Array(PAGE).fill(page.index + 1);

const devices: Device[] = [];
function device(ops: DeviceOps, pages = 4, opTimeout = 20_000): Device {
  const made = new Device({ name: 'pager', opTimeout, regions: [{ size: pages * PAGE }], ops });
  devices.push(made);
  return made;
}
/** A page that is supplied when the test says so. */
function held(): { fault: (page: FaultedPage) => Promise<FaultAnswer>; pages: FaultedPage[]; release: () => void } {
  const waiting: (() => void)[] = [];
  const pages: FaultedPage[] = [];
  return {
    pages,
    fault: (page) =>
      new Promise((resolve) => {
        pages.push(page);
        waiting.push(() => resolve(filled(page)));
      }),
    release: () => waiting.splice(0).forEach((go) => go()),
  };
}

let touchers: Toucher[];
beforeAll(async () => {
  touchers = await Promise.all([1, 2].map(() => Toucher.start()));
});
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
afterAll(() => Promise.all(touchers.map((toucher) => toucher.end())));

describe("kernel cases of Fuchsia's pager", () => {
  const interruptions: [string, string, string, (made: Device, end: { mapping: () => void }) => unknown][] = [
    ['ReadDetachInterrupt', REVOKED.code, 'its region is revoked', (made) => made.region(0).object.revokeSync()],
    ['ReadCloseInterrupt', REVOKED.code, 'its device is removed', (made) => void made.unplug()],
    ['ReadCloseInterrupt', 'ERR_MAPPING_CLOSED', 'its mapping is closed', (_, { mapping }) => mapping()],
  ];
  test.each(interruptions)(
    'case 51 (%sLate): a thread that waits for a page is released with %s when %s',
    async (_, code, __, end) => {
      const page = held();
      const made = device(page);
      const mapping = made.open().map();
      const touch = touchers[0].touch(mapping, 0);
      await until('it is asked', () => page.pages.length === 1);
      end(made, { mapping: () => mapping.close() });
      expect((await touch).code).toBe(code);
      await until('the signal of the op is aborted', () => page.pages[0].signal.aborted);
      expect(page.pages[0].signal.reason).toMatchObject({ code: 'ENODEV' });
      page.release();
    },
  );

  test.each(interruptions)(
    'case 51 (%sEarly): %s also when the owner has not looked at what the thread asks for, when %s',
    async (_, code, __, end) => {
      const made = device({ fault: filled });
      const mapping = made.open().map();
      const asked = stats().devices.pagesAsked;
      const touch = touchers[0].touch(mapping, 0);
      // This thread takes no work meanwhile.
      const limit = Date.now() + 20_000;
      while (stats().devices.pagesAsked === asked) if (Date.now() > limit) throw new Error('the page was not asked for in 20 s');
      end(made, { mapping: () => mapping.close() });
      expect((await touch).code).toBe(code);
      expect(made.opCounts.fault).toBe(0);
    },
  );

  test('case 52 (DetachPageComplete, ClosePageComplete): exactly one final event, whatever comes together', async () => {
    const log: string[] = [];
    const made = device({ fault: filled, close: () => void log.push('close op') });
    const mapping = made.open().map();
    mapping.on('revoked', () => log.push('mapping'));
    mapping.object.on('revoked', () => log.push('object'));
    made.on('removed', () => log.push('device'));
    await Promise.all([made.region(0).object.revoke(), made.unplug(), made.region(0).object.revoke(), made.unplug()]);
    made.region(0).object.revokeSync();
    await until('all events have come', () => log.length >= 4);
    await barrier();
    expect([...log].sort()).toEqual(['close op', 'device', 'mapping', 'object']);
  });

  test('case 53 (ClosePager, ClosePort): the death of the manager is a revocation; pages that were there are gone too', async () => {
    const made = await Device.spawn(MODEL);
    made.on('fault', () => undefined);
    const file = made.open();
    const mapping = file.map({ fill: 'ones' });
    expect(mapping.read8(0)).toBe(1);
    const removed = once(made, 'removed');
    await rejectionOf(file.ioctl(0xe1)); // process.exit() in its worker
    await removed;
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(REVOKED);
    expect([mapping.bytes[0], mapping.bytes[PAGE], made.state]).toEqual([0xff, 0xff, 'removed']);
  });

  test('case 53 (DetachClosePager): taking away twice, in either order, is safe', async () => {
    for (const order of ['revoke first', 'unplug first']) {
      const made = device({ fault: filled, close: () => undefined });
      const mapping = made.open().map();
      await mapping.readAsync(0, new Uint8Array(1));
      if (order === 'revoke first') expect(await made.region(0).object.revoke()).toMatchObject({ revokedByThisCall: true });
      expect(await made.unplug()).toMatchObject({ removedByThisCall: true, mappings: order === 'revoke first' ? 0 : 1 });
      expect(await made.region(0).object.revoke()).toMatchObject({ revokedByThisCall: false });
      expect([made.opCounts.close, thrownBy(() => mapping.read8(0)).code]).toEqual([1, REVOKED.code]);
    }
  });

  test('case 54 (ReadResize): who waits for a page that is discarded meanwhile goes on, with what the answer brings', async () => {
    const page = held();
    const made = device(page);
    const mapping = made.open().map();
    const touch = touchers[0].touch(mapping, PAGE);
    await until('it is asked', () => page.pages.length === 1);
    made.region(0).discard();
    await barrier();
    page.release();
    expect(await touch).toEqual({ value: 2 });
    expect(made.opCounts.fault).toBe(1);
  });

  test('case 54 (ReadResize): a region cannot be shrunk under a waiter but to nothing, and that is a revocation', async () => {
    const page = held();
    const made = device(page, 4, 200);
    made.on('fault', () => undefined);
    const mapping = made.open().map();
    const touch = touchers[0].touch(mapping, PAGE);
    await until('it is asked', () => page.pages.length === 1);
    await made.region(0).object.revoke();
    expect((await touch).code).toBe(REVOKED.code);
  });

  test('case 55 (CloneDetach): all mappings of a region go with it, and a copy made before stays', async () => {
    const made = device({ fault: filled });
    const [whole, part] = [made.open().map(), made.open().map({ offset: PAGE, length: PAGE, access: 'r' })];
    const copy = new Uint8Array(PAGE);
    await part.readAsync(0, copy);
    await whole.writeAsync(PAGE, new Uint8Array([99]));
    await made.region(0).object.revoke();
    expect([thrownBy(() => whole.read8(0)).code, thrownBy(() => part.read8(0)).code]).toEqual([REVOKED.code, REVOKED.code]);
    expect(copy).toEqual(new Uint8Array(PAGE).fill(2));
    expect(thrownBy(() => made.open().map())).toMatchObject({ code: 'ENODEV' });
  });

  test('case 55 (CloneDetach): a private copy of a region is refused, as it would outlive it', () => {
    const made = device({ fault: filled });
    expect(thrownBy(() => made.region(0).object.map({ private: true }))).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  test('case 55 (CloneShrinkGrowParent): what was discarded is not seen again, in any mapping', async () => {
    let content = 1;
    const made = device({ fault: () => new Uint8Array(PAGE).fill(content) });
    const mappings = [made.open().map(), made.open().map()];
    const byte = new Uint8Array(1);
    for (content = 1; content < 10; content++) {
      for (const mapping of mappings) {
        await mapping.readAsync(2 * PAGE, byte);
        expect(byte[0]).toBe(content);
      }
      made.region(0).discard({ offset: 2 * PAGE, length: PAGE });
    }
  });

  test('case 56 (InvalidPagerDetachVmo): no object, the wrong kind, another device’s, and one that is gone are four errors', async () => {
    expect(await rejectionOf(revokeMappings(undefined as never))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    expect(await rejectionOf(revokeMappings(device({}) as never))).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      message: expect.stringContaining('an instance of MemoryObject'),
    });
    const made = device({});
    expect(thrownBy(() => made.region('of another'))).toMatchObject({ name: 'RangeError' });
    const foreign = MemoryObject.create({ size: PAGE });
    const ours = made.open().map();
    await foreign.revoke();
    expect(ours.read8(0)).toBe(0); // not theirs to take
    await made.unplug();
    expect(thrownBy(() => made.open())).toMatchObject({ code: 'ENODEV' });
    foreign.close();
    expect(thrownBy(() => foreign.map())).toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
  });

  test('case 57 (SuspendRead): a thread that waits while its device sleeps gets an error, and its next try gets the page', async () => {
    const page = held();
    const made = device(page);
    const mapping = made.open().map();
    const touch = touchers[0].touch(mapping, 0);
    await until('it is asked', () => page.pages.length === 1);
    await made.suspend();
    expect((await touch).code).toBe('ERR_MAPPING_SUSPENDED');
    const discarded = stats().devices.answersDiscarded;
    page.release(); // too late: no thread waits
    await until('it is discarded', () => stats().devices.answersDiscarded === discarded + 1);
    await made.resume();
    const again = touchers[0].touch(mapping, 0);
    await until('it is asked again', () => page.pages.length === 2);
    page.release();
    expect(await again).toEqual({ value: 1 });
  });

  test('case 57 (SuspendRead): signals that interrupt threads that wait for pages do not end their waits', async () => {
    const run = await runInChild(
      async (lib, require, input) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const { setTimeout: sleep } = require('node:timers/promises') as typeof import('node:timers/promises');
        let heard = 0;
        process.on('SIGUSR2', () => ++heard);
        let release = (): void => undefined;
        const gate = new Promise<void>((resolve) => (release = resolve));
        const device = new lib.Device({
          name: 'pager',
          regions: [{ size: 4096 }],
          opTimeout: 20_000,
          ops: { fault: () => gate.then(() => new Uint8Array(4096).fill(7)) },
        });
        const mapping = device.open().map();
        const answer = new Promise((resolve) => {
          const toucher = new Worker(input);
          toucher.on('message', (message) => {
            if ('tid' in message) return toucher.postMessage({ id: 1, handle: mapping.share(), offset: 0, how: 'read8' });
            resolve(message);
            toucher.unref();
          });
        });
        while (device.opCounts.fault === 0) await sleep(1);
        for (let i = 1; i <= 20; i++) {
          process.kill(process.pid, 'SIGUSR2');
          while (heard < i) await sleep(1);
        }
        release();
        return [await answer, device.opCounts.fault];
      },
      { input: join(__dirname, '..', 'children', 'devices', 'toucher.cjs'), limit: 60_000 },
    );
    expect(run).toMatchObject({ status: 0, signal: null, value: [{ id: 1, value: 7 }, 1] });
  });
});
