/** What a device does with all of its regions it does with all or with none; a constructor that fails gives back what it took. */
import { join } from 'node:path';
import { Device, MappingSuspendedError, type DeviceBase, type RegionOptions } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild, type ChildResult } from '../support/child.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';

const PAGE = 4096;
const MODEL = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');
const REGIONS: RegionOptions[] = [
  { name: 'ram', size: 2 * PAGE },
  { name: 'more', size: PAGE },
  { name: 'regs', size: PAGE, kind: 'registers' },
];

const devices: DeviceBase[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
function device(): Device {
  const made = new Device({ name: 'tested', regions: REGIONS, ops: { readRegister: () => 5 } });
  devices.push(made);
  return made;
}
async function spawned(): Promise<DeviceBase> {
  const made = await Device.spawn(MODEL, { data: { ops: 'readRegister: () => 5' } });
  devices.push(made);
  return made;
}

const PLACES: [where: string, make: () => Promise<DeviceBase>][] = [
  ['a device of this thread', () => Promise.resolve(device())],
  ['a spawned device', spawned],
];
const ENDS: [how: string, end: (made: DeviceBase, region: string) => unknown, code: string][] = [
  ['revoked', (made, region) => made.region(region).object.revoke(), 'ERR_MAPPING_REVOKED'],
  ['closed', (made, region) => made.region(region).object.close(), 'ERR_MAPPING_CLOSED'],
];

describe.each(PLACES)('R9 suspend() and resume() of %s', (_where, make) => {
  describe.each(ENDS)('leave out a region that has been %s by itself', (_how, end, code) => {
    test.each(['ram', 'regs'])('%s', async (gone) => {
      const made = await make();
      const file = made.open();
      const mappings = made.regions.map(({ name }) => file.map({ region: name }));
      const states = (): string[] => mappings.map((mapping, i) => (made.regions[i].name === gone ? 'gone' : mapping.state));
      const events: string[] = [];
      made
        .on('suspended', () => events.push(`suspended ${made.state}`))
        .on('resumed', () => events.push(`resumed ${made.state}`));
      await end(made, gone);
      for (let round = 0; round < 2; round++) {
        await made.suspend();
        expect(made.state).toBe('suspended');
        expect(new Set(states())).toEqual(new Set(['gone', 'suspended']));
        await made.suspend();
        await made.resume();
        expect(made.state).toBe('live');
        expect(new Set(states())).toEqual(new Set(['gone', 'live']));
      }
      await barrier();
      expect(events.map((event) => event.split(' ')[0])).toEqual([
        'suspended',
        'suspended',
        'resumed',
        'suspended',
        'suspended',
        'resumed',
      ]);
      const lost = mappings[made.regions.findIndex(({ name }) => name === gone)];
      expect(thrownBy(() => lost.read8(0))).toMatchObject({ code });
      expect(await made.unplug()).toMatchObject({ removedByThisCall: true, abandonedOps: 0 });
    });
  });

  test('also if all have been revoked by themselves', async () => {
    const made = await make();
    for (const { object } of made.regions) await object.revoke();
    await made.suspend();
    await made.resume();
    expect(made.state).toBe('live');
  });

  test('while a region is revoked: both resolve, whichever comes first', async () => {
    for (let round = 0; round < 20; round++) {
      const made = round === 0 ? await make() : device();
      const mapping = made.open().map({ region: 1 });
      const revocation = round % 2 === 0 ? made.region(0).object.revoke() : undefined;
      const changes = [made.suspend(), made.resume()];
      await (revocation ?? made.region(0).object.revoke());
      await Promise.all(changes);
      await made.resume();
      expect([round, made.state, mapping.state, made.region(0).object.state]).toEqual([round, 'live', 'live', 'revoked']);
    }
  });

  test('while the device is removed: ENODEV, or it was in time', async () => {
    for (let round = 0; round < 10; round++) {
      const made = round === 0 ? await make() : device();
      const suspension = made.suspend().then(
        () => 'in time',
        ({ code }: { code: string }) => code,
      );
      await made.unplug();
      expect(['in time', 'ENODEV']).toContain(await suspension);
      expect(await rejectionOf(made.suspend())).toMatchObject({ code: 'ENODEV', syscall: 'suspend' });
      expect(await rejectionOf(made.resume())).toMatchObject({ code: 'ENODEV', syscall: 'resume' });
    }
  });
});

describe('R9 calls that are not waited for', () => {
  test('happen in their order', async () => {
    const made = device();
    const mapping = made.open().map();
    const events: string[] = [];
    made.on('suspended', () => events.push('suspended')).on('resumed', () => events.push('resumed'));
    const calls = [made.suspend(), made.resume(), made.suspend(), made.resume(), made.suspend()];
    await Promise.all(calls);
    expect([made.state, mapping.state]).toEqual(['suspended', 'suspended']);
    await barrier();
    expect(events).toEqual(['suspended', 'resumed', 'suspended', 'resumed', 'suspended']);
  });
});

describe('R9 a region that cannot be given back', () => {
  test('keeps all others suspended; those that had not been stay live', async () => {
    // Its descriptor is closed behind the back of the library: mmap(2) fails for this region only.
    const { status, signal, stderr, value } = await runInChild(async ({ Device }, require) => {
      const { closeSync } = require('node:fs') as typeof import('node:fs');
      const made = new Device({ name: 'tested', regions: [{ size: 4096 }, { size: 4096 }, { size: 4096 }] });
      const file = made.open();
      const mappings = [0, 1, 2].map((region) => file.map({ region }));
      const states = (): string[] => [made.state, ...mappings.map(({ state }) => state)];
      const events: string[] = [];
      made.on('resumed', () => events.push('resumed'));
      await made.suspend();
      await made.region(2).object.resume();
      closeSync(made.region(1).object.fd);
      const code = await made.resume().catch((error: { code: string }) => error.code);
      const seen = [code, ...states()];
      const { regions } = await made.unplug();
      return [...seen, ...states(), regions.length, ...events];
    });
    const seen = ['EBADF', 'live', 'suspended', 'suspended', 'live']; // a device is suspended when all its regions are
    expect([status, signal, stderr, value]).toEqual([0, null, '', [...seen, 'removed', 'revoked', 'revoked', 'revoked', 3]]);
  });
});

describe('zap() of a device', () => {
  /** How many pages of the mapping the kernel has mapped: a page that is zapped is none of them. */
  test.each(ENDS)('leaves out a region that has been %s by itself', async (_how, end) => {
    const made = device();
    const mapping = made.open().map({ region: 'more' });
    mapping.write8(0, 7);
    await end(made, 'ram');
    made.zap();
    expect(mapping.read8(0)).toBe(7);
    await made.unplug();
    expect(thrownBy(() => made.zap())).toMatchObject({ code: 'ENODEV', syscall: 'zap' });
  });

  test('is refused while a region is suspended, before any page has gone', async () => {
    const asked: number[] = [];
    const made = new Device({
      name: 'tested',
      regions: [{ size: PAGE }, { size: PAGE }],
      ops: {
        fault: ({ region }) => {
          asked.push(region);
          return new Uint8Array(PAGE);
        },
      },
    });
    devices.push(made);
    const mapping = made.open().map({ region: 0 });
    await mapping.readAsync(0, new Uint8Array(1));
    await made.region(1).object.suspend();
    expect(thrownBy(() => made.zap())).toBeInstanceOf(MappingSuspendedError);
    await mapping.readAsync(0, new Uint8Array(1));
    expect(asked).toEqual([0]);
    await made.region(1).object.resume();
    made.zap();
    await mapping.readAsync(0, new Uint8Array(1));
    expect(asked).toEqual([0, 0]);
  });
});

/** In a child: as many descriptors as are free are taken, but for `left`. */
interface Starving {
  left: number;
  /** Source of an expression of device options; `model` is a RegisterFile. */
  options: string;
  /** What the process has made before. */
  before: string;
}

function constructStarving(input: Starving): Promise<ChildResult & { value: unknown[] | undefined }> {
  return runInChild(
    async ({ Device, RegisterFile }, require, { left, options, before }: Starving) => {
      const { openSync, closeSync, readdirSync } = require('node:fs') as typeof import('node:fs');
      const koffi = require('koffi') as { load(name: null): { func(text: string): (...args: unknown[]) => number } };
      const setrlimit = koffi.load(null).func('int setrlimit(int what, uint64_t *limit)');
      const model = new RegisterFile([{ offset: 0, kind: 'counter', value: 1 }]);
      // eslint-disable-next-line @typescript-eslint/no-implied-eval
      const evaluate = (source: string): any => new Function('Device', 'model', `return (${source})`)(Device, model);
      await evaluate(before);
      const open = (): string => readdirSync('/proc/self/fd').sort().join();
      const error = (): unknown => {
        try {
          return new Device(evaluate(options)).name;
        } catch ({ code, syscall }: any) {
          return `${code} ${syscall}`;
        }
      };
      const begin = open();
      if (setrlimit(7, [60n, 4096n]) !== 0) throw new Error('setrlimit'); // RLIMIT_NOFILE
      const taken: number[] = [];
      try {
        for (;;) taken.push(openSync('/dev/null', 'r'));
      } catch {
        for (const fd of taken.splice(taken.length - left, left)) closeSync(fd);
      }
      const failures = [error(), error(), error()];
      setrlimit(7, [4096n, 4096n]);
      for (const fd of taken) closeSync(fd);
      const leaked = open() === begin ? 'none' : `${begin} -> ${open()}`;
      const made = new Device(evaluate(options));
      const read = model.get(0);
      const report = await made.unplug();
      return [...failures, leaked, read, report.regions.length];
    },
    { input },
  );
}

describe('a constructor that fails halfway', () => {
  const memory = '{ size: 4096 }';
  const pages = "{ size: 4096, pages: 'zeros' }";
  const registers = "{ size: 4096, kind: 'registers', model }";
  const options = (...regions: string[]): string => `{ name: 'x', regions: [${regions.join()}] }`;
  const before = (...regions: string[]): string => `new Device(${options(...regions)}).unplug()`;
  test.each<[what: string, starving: Starving, code: string]>([
    [
      'memory behind registers',
      { left: 1, before: before(registers), options: options(registers, memory) },
      'EMFILE memfd_create',
    ],
    ['memory behind memory', { left: 1, before: before(registers), options: options(memory, memory) }, 'EMFILE memfd_create'],
    [
      'memory behind supplied pages',
      { left: 1, before: before(registers, pages), options: options(pages, memory) },
      'EMFILE memfd_create',
    ],
    [
      'the first registers of a thread',
      { left: 2, before: before(memory), options: options(memory, registers) },
      'EMFILE eventfd',
    ],
    ['the first supplied pages', { left: 1, before: before(memory), options: options(pages) }, 'EMFILE eventfd'],
    ['the first supplied pages, alone', { left: 0, before: before(memory), options: options(pages) }, 'EMFILE userfaultfd'],
  ])('gives back what it took: %s', async (_, starving, code) => {
    const { status, signal, stderr, value } = await constructStarving(starving);
    const regions = (starving.options.match(/size/g) ?? []).length;
    expect([status, signal, stderr, value]).toEqual([0, null, '', [code, code, code, 'none', 1, regions]]);
  });

  test('in attach: its models may go to the next device at once, and its descriptors are given back', async () => {
    const { status, signal, stderr, value } = await runInChild(async ({ Device, RegisterFile }, require) => {
      const { readdirSync } = require('node:fs') as typeof import('node:fs');
      const model = new RegisterFile([{ offset: 0, value: 6 }]);
      const regions = [{ size: 4096 }, { size: 4096, kind: 'registers' as const, model }];
      const open = (): number => readdirSync('/proc/self/fd').length;
      await new Device({ name: 'warm', regions }).unplug();
      const kept: unknown[] = [];
      const attach = (made: unknown): never => {
        kept.push(made); // not collected
        throw new Error('no such card');
      };
      const before = open();
      for (let i = 0; i < 100; i++) {
        try {
          new Device({ name: 'broken', regions, ops: { attach } });
        } catch (error) {
          if ((error as Error).message !== 'no such card') throw error;
        }
      }
      const made = new Device({ name: 'whole', regions });
      const seen = made.open().map({ region: 1 }).read32(0);
      const end = Date.now() + 20_000;
      while (open() > before + 2 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
      return [seen, open() - before, kept.length];
    });
    expect([status, signal, stderr, value]).toEqual([0, null, '', [6, 2, 100]]);
  });
});

test('R6 revoke() of one region of a spawned device does not wait for ops that were asked about another', async () => {
  const source = `
    fault() { return new Promise((resolve) => (this.answer = () => resolve(new Uint8Array(4096).fill(9)))); },
    ioctl(file, command) { return command === 1 ? this.answer() : this.answer !== undefined; }`;
  const made = await Device.spawn(MODEL, { data: { ops: source, memory: 2 } });
  devices.push(made);
  const file = made.open();
  const content = new Uint8Array(1);
  const other = file.map({ region: 1 }).readAsync(0, content);
  await until('it is asked', async () => (await file.ioctl(0)) === true);
  await made.region(0).object.revoke();
  await file.ioctl(1);
  await other;
  expect(content[0]).toBe(9);
  expect(await made.unplug()).toMatchObject({ abandonedOps: 0 });
});
