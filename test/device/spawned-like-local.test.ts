/** What its user may ask of a device is the same, and means the same, whether its ops run in this thread or in a worker. */
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Device, MappingSuspendedError, POLL, type DeviceBase, type DeviceOps, type DeviceRegion } from 'revocable-mmap';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { untilWithinTurn, within } from '../support/until.js';

const PAGE = 4096;
const BY_SOURCE = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');

/** Pages say how many have been asked for before; a command makes the file ready, another one never answers. */
const SOURCE = `...(() => {
  let asked = 0;
  let ready = 0;
  return {
    fault: () => new Uint8Array(4096).fill(++asked),
    poll: () => ready,
    ioctl(file, command) {
      if (command === 1) ready = 1;
      if (command === 2) for (;;);
      return 5;
    },
    readRegister: (offset) => offset,
    close() {},
    release() {},
  };
})()`;
const opTimeout = 500;

const PLACES: [where: string, make: () => Promise<DeviceBase>][] = [
  [
    'in this thread',
    () => {
      // eslint-disable-next-line @typescript-eslint/no-implied-eval
      const ops = new Function(`return { ${SOURCE} };`)() as DeviceOps;
      const regions = [
        { name: 'ram', size: PAGE },
        { name: 'ram1', size: 2 * PAGE },
        { name: 'regs', size: PAGE, kind: 'registers' as const },
      ];
      return Promise.resolve(new Device({ name: 'odd', regions, ops, opTimeout }));
    },
  ],
  ['in a worker', () => Device.spawn(BY_SOURCE, { data: { ops: SOURCE, opTimeout, memory: 2, pages: 2 } })],
];

const devices: DeviceBase[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
async function spawned(): Promise<DeviceBase> {
  const made = await PLACES[1][1]();
  devices.push(made);
  return made;
}

const byte = new Uint8Array(1);

describe.each(PLACES)('a device whose ops run %s', (_where, make) => {
  let device: DeviceBase;
  beforeEach(async () => {
    device = await make();
    devices.push(device);
  });
  async function first(page: number, mapping = device.open().map({ region: 'ram1' })): Promise<number> {
    await mapping.readAsync(page * PAGE, byte);
    return byte[0];
  }

  test('opCounts is what has been called so far, also after the removal', async () => {
    const { opCounts } = device;
    expect({ ...opCounts }).toEqual({
      attach: 0,
      open: 0,
      release: 0,
      mmap: 0,
      close: 0,
      fault: 0,
      pageMkwrite: 0,
      read: 0,
      write: 0,
      ioctl: 0,
      poll: 0,
      readRegister: 0,
      writeRegister: 0,
    });
    const file = device.open();
    await first(0, file.map({ region: 'ram1' }));
    const registers = file.map({ region: 'regs' });
    for (let i = 0; i < 100; i++) registers.read32(4);
    expect(await file.ioctl(7)).toBe(5);
    expect(await rejectionOf(file.read(byte))).toMatchObject({ code: 'EINVAL' }); // there is no such op
    expect([opCounts.fault, opCounts.readRegister, opCounts.ioctl, opCounts.read]).toEqual([1, 100, 1, 0]);
    await device.unplug();
    expect([opCounts.close, opCounts.release, device.opCounts.release]).toEqual([2, 1, 1]);
  });

  test('opCounts can be looked at, cloned and not changed', () => {
    const { opCounts } = device;
    expect(structuredClone(opCounts)).toEqual({ ...opCounts });
    expect(inspect(opCounts)).toBe(inspect({ ...opCounts }));
    expect(() => Object.assign(opCounts, { fault: 5 })).toThrow(TypeError);
    expect(opCounts.fault).toBe(0);
  });

  test('zap() of the device and of a region: the next touch asks the op again; the content stays', async () => {
    const mapping = device.open().map({ region: 'ram1' });
    expect([await first(0, mapping), await first(1, mapping)]).toEqual([1, 2]);
    device.zap();
    expect([await first(0, mapping), await first(1, mapping)]).toEqual([1, 2]);
    expect(device.opCounts.fault).toBe(4);
    device.region('ram1').zap({ offset: PAGE, length: PAGE });
    expect([await first(0, mapping), await first(1, mapping)]).toEqual([1, 2]);
    expect(device.opCounts.fault).toBe(5);
  });

  test('discard() of a region: the next touch brings a new page', async () => {
    const mapping = device.open().map({ region: 'ram1' });
    expect([await first(0, mapping), await first(1, mapping)]).toEqual([1, 2]);
    device.region('ram1').discard({ offset: PAGE, length: PAGE });
    expect([await first(0, mapping), await first(1, mapping)]).toEqual([1, 3]);
    device.region('ram1').discard();
    expect([await first(0, mapping), await first(1, mapping)]).toEqual([4, 5]);
  });

  test('the memory of a region asks no op, and is what the mappings show', async () => {
    const region = device.region('ram1');
    region.memory.write8(0, 9);
    expect(device.opCounts.fault).toBe(0);
    expect([await first(0), device.opCounts.fault]).toEqual([9, 1]); // the page was there: the op decides, and supplies nothing
    expect(region.bytes[0]).toBe(9);
    expect(thrownBy(() => device.region('regs').memory)).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  test('zap() is refused while a region is suspended', async () => {
    await device.region(1).object.suspend();
    expect(thrownBy(() => device.zap())).toBeInstanceOf(MappingSuspendedError);
    expect(thrownBy(() => device.region(1).zap())).toBeInstanceOf(MappingSuspendedError);
  });

  test('I1 zap() and discard() of a region', () => {
    const region = device.region(1);
    for (const call of ['zap', 'discard'] as const) {
      const code = (range: unknown): string | undefined => thrownBy(() => region[call](range as never)).code;
      expect([null, 5, 'x'].map(code)).toEqual(Array(3).fill('ERR_INVALID_ARG_TYPE'));
      const [offset, length] = [0, PAGE];
      const ranges = [1, -1, 2 * PAGE, NaN].map((bad) => ({ offset: bad, length })).concat({ offset, length: 3 * PAGE });
      expect(ranges.map(code)).toEqual(Array(5).fill('ERR_OUT_OF_RANGE'));
    }
  });

  test('notify(): those who poll ask the op again', async () => {
    const file = device.open();
    const polled = file.poll({ events: POLL.IN, timeout: 60_000 });
    await file.ioctl(1); // asked for after the first call of the op
    expect(device.opCounts.poll).toBe(1);
    device.notify();
    expect(await within('the call of poll() ends', polled)).toBe(POLL.IN);
    expect(device.opCounts.poll).toBe(2);
  });

  test('once it is removed, zap() and discard() give ENODEV, notify() does nothing', async () => {
    const regions: readonly DeviceRegion[] = device.regions;
    await device.unplug();
    expect(thrownBy(() => device.zap())).toMatchObject({ code: 'ENODEV', syscall: 'zap' });
    for (const call of ['zap', 'discard'] as const) {
      expect(regions.map((region) => thrownBy(() => region[call]()).code)).toEqual(['ENODEV', 'ENODEV', 'ENODEV']);
    }
    device.notify();
  });

  test('I1 receivers', () => {
    const none = Object.create(Object.getPrototypeOf(device) as object) as DeviceBase;
    for (const call of [() => none.zap(), () => none.notify(), () => none.opCounts]) {
      expect(thrownBy(call)).toMatchObject({ code: 'ERR_INVALID_THIS' });
    }
  });
});

describe('a device in a worker that is busy for ever', () => {
  test('counts, zaps, discards and is notified all the same', async () => {
    const device = await spawned();
    const mapping = device.open().map({ region: 'ram1' });
    mapping.read8(0);
    const hung = device.open().ioctl(2);
    untilWithinTurn('the op runs', () => device.opCounts.ioctl === 1);
    device.zap();
    device.region(1).discard();
    device.notify();
    expect(device.region(1).memory.read8(0)).toBe(0);
    const [report, error] = await Promise.all([device.unplug(), rejectionOf(hung)]);
    expect([report.abandonedOps, error.code]).toEqual([1, 'ENODEV']);
    device.notify();
    expect(device.opCounts.ioctl).toBe(1);
  });

  test('a loop that waits for a count ends', async () => {
    const device = await spawned();
    const file = device.open();
    const { opCounts } = device;
    for (let round = 1; round <= 20; round++) {
      const answers = Array.from({ length: 100 }, () => file.ioctl(7));
      while (opCounts.ioctl < 100 * round);
      expect(await Promise.all(answers)).toEqual(Array(100).fill(5));
    }
    expect(opCounts.ioctl).toBe(2000);
  });
});
