/** Cases 25 to 30: what Linux's tools/testing/selftests/mm has of batches (guard-regions.c) and of userfaultfd (uffd-unit-tests.c). */
import { Device, stats, type DeviceOps, type FaultedPage } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { testUnless } from '../support/conditions.js';
import { forkTo, whyNoFork } from '../support/fork.js';
import { kernel } from '../support/kernel-calls.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';

const { PAGE, readablePages } = kernel;
const filled = (page: FaultedPage): Uint8Array => new Uint8Array(PAGE).fill(page.index + 1);

const devices: Device[] = [];
function device(pages: number, ops: DeviceOps): Device {
  const made = new Device({ name: 'uffd', regions: [{ size: pages * PAGE }], ops });
  devices.push(made);
  return made;
}
let toucher: Toucher;
beforeAll(async () => {
  toucher = await Toucher.start();
});
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
afterAll(() => toucher.end());

describe('kernel cases of userfaultfd', () => {
  test('case 25 (guard process_madvise): six ranges are let go in one call, all of them and nothing else', async () => {
    const made = device(20, { fault: filled });
    const file = made.open();
    // As in the original: ranges of one to five pages, in the middle of others.
    const ranges = [
      [0, 1],
      [2, 3],
      [6, 1],
      [8, 5],
      [14, 2],
      [18, 2],
    ];
    const mappings = ranges.map(([first, pages]) => file.map({ offset: first * PAGE, length: pages * PAGE }));
    const whole = file.map();
    const touchAll = async (): Promise<void> => {
      for (const mapping of [...mappings, whole]) await mapping.readAsync(0, new Uint8Array(mapping.length));
    };
    await touchAll();
    const pages = ranges.reduce((sum, [, count]) => sum + count, 0);
    expect(made.opCounts.fault).toBe(pages + 20);
    await touchAll();
    expect(made.opCounts.fault).toBe(pages + 20);
    made.region(0).zap({ offset: 0, length: 8 * PAGE });
    await touchAll();
    expect(made.opCounts.fault).toBe(pages + 20 + (1 + 3 + 1) + 8);
    const report = await made.region(0).object.revoke();
    expect(report).toMatchObject({ mappings: 7, means: { replaced: 7, failed: 0 } });
    for (const mapping of mappings) expect(readablePages(mapping.address, mapping.length)).not.toContain('R');
  });

  test('case 26 (uffd sigbus): each touch fails once a try, and when the page is supplied the try succeeds', async () => {
    let refuse = true;
    const made = device(8, { fault: (page) => (refuse ? 'sigbus' : filled(page)) });
    const mapping = made.open().map();
    let asked = 0;
    let faults = 0;
    for (let index = 0; index < 8; index++) {
      refuse = true;
      for (let attempt = 0; attempt < 3; attempt++) {
        expect(await toucher.touch(mapping, index * PAGE)).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'refused' });
        // "Signal repeated": touching it again asks no op, and is no new fault.
        expect(await toucher.touch(mapping, index * PAGE)).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'refused' });
        expect([made.opCounts.fault, mapping.faults]).toEqual([++asked, ++faults]);
        made.region(0).zap({ offset: index * PAGE, length: PAGE });
      }
      refuse = false;
      expect(await toucher.touch(mapping, index * PAGE)).toEqual({ value: index + 1 });
      expect([made.opCounts.fault, mapping.faults]).toEqual([++asked, faults]);
    }
  });

  testUnless(
    whyNoFork(),
    'case 27 (uffd sigbus, release): after the removal a forked child meets no page, and the device is asked nothing',
    async () => {
      const made = device(4, { fault: filled });
      const mapping = made.open().map();
      await mapping.readAsync(0, new Uint8Array(2 * PAGE));
      await made.unplug();
      const { fault } = made.opCounts;
      const asked = stats().devices.pagesAsked;
      for (let index = 0; index < 4; index++) {
        expect(forkTo('ask-kernel', mapping.address + BigInt(index * PAGE)).finish()).toEqual([14 /* EFAULT */, null]);
      }
      // In this process each try of each page fails, exactly so often.
      let failed = 0;
      for (let index = 0; index < 4; index++)
        failed += Number(thrownBy(() => mapping.read8(index * PAGE)).code === 'ERR_MAPPING_REVOKED');
      await barrier();
      expect([failed, made.opCounts.fault, stats().devices.pagesAsked]).toEqual([4, fault, asked]);
    },
  );

  test('case 28 (uffd poison): even pages fail, odd ones are fine, and the counts are exact', async () => {
    const made = device(64, { fault: (page) => (page.index % 2 === 0 ? 'sigbus' : filled(page)) });
    const mapping = made.open().map();
    let failed = 0;
    for (let index = 0; index < 64; index++) {
      const { code, value } = await toucher.touch(mapping, index * PAGE);
      if (code === 'ERR_BACKING_FAULT') ++failed;
      else expect([index, value]).toEqual([index, index + 1]);
    }
    expect([failed, mapping.faults, made.opCounts.fault]).toEqual([32, 32, 64]);
    for (let index = 0; index < 64; index += 2) expect(mapping.bytes[index * PAGE]).toBe(0);
    expect([mapping.faults, made.opCounts.fault]).toEqual([32, 64]);
  });

  test('case 29 (uffd events): pages that are moved and pages that are removed are asked for as what they are then', async () => {
    const asked: number[] = [];
    const made = device(8, {
      fault: (page) => {
        asked.push(page.index);
        return filled(page);
      },
    });
    const mapping = made.open().map();
    const all = new Uint8Array(8 * PAGE);
    await mapping.readAsync(0, all);
    expect([...asked].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    // Remap: the first two pages of the mapping show the last two of the region.
    mapping.remapPages({ offset: 0, length: 2 * PAGE, objectOffset: 6 * PAGE });
    await mapping.readAsync(0, all);
    expect([0, 1, 2].map((index) => all[index * PAGE])).toEqual([7, 8, 3]);
    expect(asked.slice(8).sort()).toEqual([6, 7]);
    // Remove.
    made.region(0).discard();
    await mapping.readAsync(0, all);
    expect([0, 1, 2, 6].map((index) => all[index * PAGE])).toEqual([7, 8, 3, 7]);
    expect(asked.slice(10).sort()).toEqual([2, 3, 4, 5, 6, 6, 7, 7]);
    expect(made.opCounts.fault).toBe(18);
  });

  test('case 30 (uffd register-ioctls): what a region says it can do it can, and a mode that is not known is refused', async () => {
    for (const pages of ['ask', 'zeros', { constant: 3 }, { image: new Uint8Array(1) }, { model: 'offsets' }] as const) {
      const made = new Device({
        name: 'mode',
        regions: [{ size: PAGE, pages }],
        ops: { fault: filled, pageMkwrite: () => undefined },
      });
      devices.push(made);
      const mapping = made.open().map();
      await mapping.readAsync(0, new Uint8Array(1));
      await mapping.writeAsync(0, new Uint8Array([9]));
      expect([pages, mapping.read8(0), made.opCounts.fault, made.opCounts.pageMkwrite]).toEqual([
        pages,
        9,
        pages === 'ask' ? 1 : 0,
        1,
      ]);
    }
    for (const pages of ['minor', '', 'ZEROS']) {
      expect(thrownBy(() => new Device({ name: 'mode', regions: [{ size: PAGE, pages: pages as never }] }))).toMatchObject({
        code: 'ERR_INVALID_ARG_VALUE',
      });
    }
    expect(
      await rejectionOf(
        device(1, { fault: () => 'minor' as never })
          .open()
          .map()
          .readAsync(0, new Uint8Array(1)),
      ),
    ).toMatchObject({
      cause: 'failed',
    });
  });
});
