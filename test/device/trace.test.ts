import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import {
  Device,
  deviceError,
  parseAccess,
  Trace,
  TraceLineError,
  type DeviceAccess,
  type DeviceBase,
  type DeviceOps,
  type Mapping,
  type RegionOptions,
} from 'revocable-mmap';
import { runChild, runNode } from '../support/child.js';
import { withExample } from '../support/examples.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';
import { turns, until } from '../support/until.js';

const PAGE = 4096;
const MODEL = join(__dirname, '..', 'children', 'devices', 'model.cjs');
const REGISTERS: RegionOptions[] = [{ name: 'control', size: PAGE, kind: 'registers' }];

const devices: DeviceBase[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

/** Registers that keep what is written; 0xf00 refuses, 0xf08 breaks. */
function registers(regions = REGISTERS, more: DeviceOps = {}): { device: Device; map: (region?: string) => Mapping } {
  const values = new Map<number, number | bigint>();
  const refuse = (offset: number, op: string): void => {
    if (offset === 0xf00) throw deviceError('EINVAL', op);
    if (offset === 0xf08) throw new Error('broken');
  };
  const ops: DeviceOps = {
    readRegister(offset) {
      refuse(offset, 'readRegister');
      return values.get(offset) ?? 0;
    },
    writeRegister(offset, _, value) {
      refuse(offset, 'writeRegister');
      values.set(offset, value);
    },
    ...more,
  };
  const device = new Device({ name: 'traced', regions, ops });
  devices.push(device);
  const file = device.open();
  return { device, map: (region = 'control') => file.map({ region }) };
}

async function spawn(data: object = {}): Promise<{ device: DeviceBase; regs: Mapping }> {
  const device = await Device.spawn(MODEL, { data });
  device.on('fault', () => undefined);
  devices.push(device);
  return { device, regs: device.open().map({ region: 'regs' }) };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const taken: T[] = [];
  for await (const item of items) taken.push(item);
  return taken;
}

/** What is the same in every run. */
const same = ({ write, width, region, offset, value, failed }: DeviceAccess): unknown[] => [
  write ? 'W' : 'R',
  width,
  region,
  offset,
  value,
  failed,
];

describe('a trace', () => {
  test('has every access between its beginning and its stop, in order, with what the accessor wrote or got', async () => {
    const { device, map } = registers();
    const mapping = map();
    mapping.write32(0, 1);
    const trace = device.trace();
    mapping.write8(1, 0xab);
    mapping.write16(2, 0xabcd);
    mapping.write32(4, 0x89abcdef);
    mapping.write64(8, 0x0123456789abcdefn);
    expect([mapping.read8(1), mapping.read16(2), mapping.read32(4), mapping.read64(8)]).toEqual([
      0xab,
      0xabcd,
      0x89abcdef,
      0x0123456789abcdefn,
    ]);
    expect(mapping.read8(4)).toBe(0xef);
    trace.stop();
    mapping.write32(0, 2);
    const accesses = await all(trace);
    expect(accesses.map(same)).toEqual([
      ['W', 1, 'control', 1, 0xab, false],
      ['W', 2, 'control', 2, 0xabcd, false],
      ['W', 4, 'control', 4, 0x89abcdef, false],
      ['W', 8, 'control', 8, 0x0123456789abcdefn, false],
      ['R', 1, 'control', 1, 0xab, false],
      ['R', 2, 'control', 2, 0xabcd, false],
      ['R', 4, 'control', 4, 0x89abcdef, false],
      ['R', 8, 'control', 8, 0x0123456789abcdefn, false],
      ['R', 1, 'control', 4, 0xef, false],
    ]);
    const own = process.pid; // of the main thread; Jest runs tests there
    expect(new Set(accesses.map(({ thread }) => thread))).toEqual(new Set([own]));
    expect(accesses.every(({ raw }) => !raw)).toBe(true);
    const times = accesses.map(({ time }) => time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(times[0]).toBeGreaterThan(0);
    expect(times.at(-1)).toBeLessThan(60_000);
  });

  test('yields accesses as they are made, to an iteration that waits', async () => {
    const { device, map } = registers();
    const mapping = map();
    const iterator = device.trace()[Symbol.asyncIterator]();
    for (let i = 0; i < 20; i++) {
      const next = iterator.next();
      if (i % 2 === 0) await turns(3);
      mapping.write32(4 * i, i);
      expect((await next).value).toMatchObject({ offset: 4 * i, value: i, write: true });
    }
    expect(await iterator.return!()).toEqual({ done: true, value: undefined });
  });

  test('bulk copies are the accesses that they are made of', async () => {
    const { device, map } = registers();
    const mapping = map();
    const trace = device.trace();
    mapping.write(0x13, Uint8Array.from([1, 2, 3, 4, 5, 6, 7]));
    await mapping.readAsync(0x14, new Uint8Array(5));
    trace.stop();
    expect(await all(trace.lines())).toEqual([
      'W 1 control+0x0013 0x01',
      'W 4 control+0x0014 0x05040302',
      'W 1 control+0x0018 0x06',
      'W 1 control+0x0019 0x07',
      'R 4 control+0x0014 0x05040302',
      'R 1 control+0x0018 0x06',
    ]);
  });

  test('offsets are of the region, whatever part of it is mapped, and memory is not traced', async () => {
    const regions: RegionOptions[] = [
      { name: 'ram', size: PAGE },
      { name: 'bar0', size: PAGE, kind: 'registers' },
      { name: 'bar1', size: 0x20000, kind: 'registers' },
    ];
    const { device } = registers(regions);
    const file = device.open();
    const trace = device.trace();
    file.map({ region: 'ram' }).write32(0, 1);
    file.map({ region: 'bar1', offset: 0x10000, length: PAGE }).write32(0x10, 1);
    file.map({ region: 'bar0' }).write32(0x10, 2);
    trace.stop();
    expect(await all(trace.lines())).toEqual(['W 4 bar1+0x10010 0x00000001', 'W 4 bar0+0x0010 0x00000002']);
  });

  test('an access whose model throws is in it, as failed', async () => {
    const { device, map } = registers();
    const mapping = map();
    const trace = device.trace();
    expect(thrownBy(() => mapping.write32(0xf00, 5))).toMatchObject({ code: 'EINVAL' });
    expect(thrownBy(() => mapping.read32(0xf00))).toMatchObject({ code: 'EINVAL' });
    expect(thrownBy(() => mapping.read64(0xf08))).toMatchObject({ code: 'ERR_DEVICE_OP_FAILED' });
    trace.stop();
    expect((await all(trace)).map(same)).toEqual([
      ['W', 4, 'control', 0xf00, 5, true],
      ['R', 4, 'control', 0xf00, 0, true],
      ['R', 8, 'control', 0xf08, 0n, true],
    ]);
  });

  test('what never reaches the model is not in it', async () => {
    const { device, map } = registers();
    const mapping = map();
    const trace = device.trace();
    expect(thrownBy(() => mapping.read32(PAGE))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    await device.suspend();
    expect(thrownBy(() => mapping.read32(0))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    await device.resume();
    mapping.close();
    expect(thrownBy(() => mapping.read32(0))).toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
    trace.stop();
    expect(await all(trace)).toEqual([]);
  });

  test('counts what found it full, and its text says where', async () => {
    const { device, map } = registers();
    const mapping = map();
    const trace = device.trace({ capacity: 3 });
    expect(trace.lost).toBe(0);
    for (let i = 0; i < 15; i++) mapping.write8(i, i);
    expect(trace.lost).toBe(12);
    const lines = trace.lines();
    const taken = [await lines.next(), await lines.next(), await lines.next(), await lines.next()].map(
      ({ value }) => value as string,
    );
    mapping.write8(0x20, 0);
    taken.push((await lines.next()).value as string);
    trace.stop();
    expect(await lines.next()).toEqual({ done: true, value: undefined });
    expect(taken).toEqual([
      'W 1 control+0x0000 0x00',
      'W 1 control+0x0001 0x01',
      'W 1 control+0x0002 0x02',
      '# 12 accesses lost',
      'W 1 control+0x0020 0x00',
    ]);
    expect(trace.lost).toBe(12);
  });

  test('says where it lost what in the middle, and yields nothing for it', async () => {
    const { device, map } = registers();
    const mapping = map();
    const [a, b] = [device.trace({ capacity: 1 }), device.trace({ capacity: 1 })];
    const [accesses, lines] = [a[Symbol.asyncIterator](), b.lines()];
    mapping.write8(0, 0);
    mapping.write8(1, 1);
    expect((await accesses.next()).value).toMatchObject({ offset: 0 });
    expect((await lines.next()).value).toBe('W 1 control+0x0000 0x00');
    mapping.write8(2, 2);
    expect((await accesses.next()).value).toMatchObject({ offset: 2 });
    expect((await lines.next()).value).toBe('# 1 accesses lost');
    expect((await lines.next()).value).toBe('W 1 control+0x0002 0x02');
    expect([a.lost, b.lost]).toEqual([1, 1]);
  });

  test('stop ends a step that waits, and is idempotent; dispose forgets what has not been read', async () => {
    const { device, map } = registers();
    const mapping = map();
    const trace = device.trace();
    const next = trace[Symbol.asyncIterator]().next();
    await turns(3);
    trace.stop();
    trace.stop();
    expect(await next).toEqual({ done: true, value: undefined });
    const other = device.trace();
    mapping.write8(0, 1);
    other[Symbol.dispose]();
    other[Symbol.dispose]();
    other.stop();
    expect([await all(other), other.lost]).toEqual([[], 0]);
  });

  test('leaving the loop ends it: also before the first step, and while one waits', async () => {
    const { device, map } = registers();
    const mapping = map();
    for (let i = 0; i < 30; i++) {
      const trace = device.trace(); // with none of them ended, the ninth would be refused
      mapping.write8(0, i);
      mapping.write8(1, i);
      if (i % 3 === 0) {
        for await (const { offset } of trace) {
          expect(offset).toBe(0);
          break;
        }
      } else if (i % 3 === 1) {
        expect(await trace.lines().return!()).toEqual({ done: true, value: undefined });
      } else {
        const iterator = trace[Symbol.asyncIterator]();
        await iterator.next();
        await iterator.next();
        const waits = iterator.next();
        expect(await iterator.return!()).toEqual({ done: true, value: undefined });
        expect(await waits).toEqual({ done: true, value: undefined });
      }
      expect(await all(trace)).toEqual([]);
    }
  });

  test('eight of a device record at once, each for itself; a ninth is refused until one has ended', async () => {
    const { device, map } = registers();
    const mapping = map();
    const traces: Trace[] = [];
    for (let i = 0; i < 8; i++) {
      traces.push(device.trace());
      mapping.write8(i, i);
    }
    expect(thrownBy(() => device.trace())).toMatchObject({
      code: 'EMFILE',
      syscall: 'trace',
      message: 'EMFILE: too many open files, trace (traced has eight traces already: stop one, and read it to its end)',
    });
    for (const trace of traces) trace.stop();
    const counts = (await Promise.all(traces.map(all))).map(({ length }) => length);
    expect(counts).toEqual([8, 7, 6, 5, 4, 3, 2, 1]);
    device.trace()[Symbol.dispose]();
    const other = registers();
    const trace = other.device.trace();
    mapping.write8(0, 0); // of another device
    trace.stop();
    expect(await all(trace)).toEqual([]);
  });

  test('is itself shown by inspect', () => {
    const { device } = registers();
    using trace = device.trace();
    expect(trace).toBeInstanceOf(Trace);
    expect(require('node:util').inspect(trace)).toBe('Trace <traced: 0 lost>');
  });
});

describe('other threads', () => {
  test('accesses of three threads are there exactly once, in the order of each, with its id', async () => {
    const { device, map } = registers();
    const mapping = map();
    const trace = device.trace();
    const touchers = await Promise.all([1, 2, 3].map(() => Toucher.start()));
    const rounds = 100;
    await Promise.all(
      touchers.map(async (toucher, which) => {
        for (let i = 0; i < rounds; i++) {
          const how = i % 4 === 3 ? 'read8' : 'write8';
          expect(await toucher.touch(mapping, which, { how, value: i })).toEqual(how === 'read8' ? { value: i - 1 } : {});
        }
      }),
    );
    trace.stop();
    const accesses = await all(trace);
    expect(accesses.length).toBe(3 * rounds);
    for (const [which, { tid }] of touchers.entries()) {
      const own = accesses.filter(({ thread }) => thread === tid);
      expect(own.map(({ write, offset, value }) => [write, offset, value])).toEqual(
        Array.from({ length: rounds }, (_, i) => (i % 4 === 3 ? [false, which, i - 1] : [true, which, i])),
      );
    }
    await Promise.all(touchers.map((toucher) => toucher.end()));
  });

  test('a spawned device is traced from the thread that uses it', async () => {
    const { device, regs } = await spawn();
    const trace = device.trace();
    regs.write32(0, 40);
    expect(regs.read32(8)).toBe(40);
    expect(regs.read64(0)).toBe(0x1122334455667788n);
    expect(thrownBy(() => regs.write64(24, 0xdeadbeefn))).toMatchObject({ code: 'ERR_DEVICE_OP_FAILED' });
    const toucher = await Toucher.start();
    await toucher.touch(regs, 0, { how: 'write8', value: 7 });
    await toucher.end();
    trace.stop();
    expect(await all(trace.lines({ threads: true }))).toEqual([
      'T0 W 4 regs+0x0000 0x00000028',
      'T0 R 4 regs+0x0008 0x00000028',
      'T0 R 8 regs+0x0000 0x1122334455667788',
      'T0 W 8 regs+0x0018 0x00000000deadbeef failed',
      'T1 W 1 regs+0x0000 0x07',
    ]);
  });

  test('a spawned device wakes the iteration that waits for its next access', async () => {
    const { device, regs } = await spawn();
    const iterator = device.trace()[Symbol.asyncIterator]();
    for (let i = 0; i < 10; i++) {
      const next = iterator.next();
      await turns(3);
      regs.write32(0, i);
      expect((await next).value).toMatchObject({ value: i, thread: process.pid });
    }
    await iterator.return!();
  });
});

describe('removal', () => {
  test.each(['here', 'spawned'])('ends traces after all that was accessed before, without an error, ops %s', async (where) => {
    const made = where === 'here' ? registers() : await spawn();
    const { device } = made;
    const mapping = 'regs' in made ? made.regs : made.map();
    const [reading, waiting, later] = [device.trace(), device.trace(), device.trace()];
    const read = all(reading);
    const iterator = waiting[Symbol.asyncIterator]();
    for (let i = 0; i < 300; i++) mapping.write32(4, i);
    for (let i = 0; i < 300; i++) await iterator.next();
    const last = iterator.next();
    mapping.write32(4, 300);
    await device.unplug();
    expect((await read).map(({ value }) => value)).toEqual(Array.from({ length: 301 }, (_, i) => i));
    expect((await last).value).toMatchObject({ value: 300 });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(await all(later)).toHaveLength(301);
    expect(thrownBy(() => device.trace())).toMatchObject({ code: 'ENODEV', syscall: 'trace' });
  });

  test('by an op of its own: the access that did it is the last', async () => {
    const { device, map } = registers(REGISTERS, {
      writeRegister(offset) {
        if (offset === 8) void device.unplug();
      },
    });
    const mapping = map();
    const trace = device.trace();
    mapping.write32(4, 1);
    for (const offset of [8, 4])
      expect(thrownBy(() => mapping.write32(offset, 2))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    expect(await all(trace.lines())).toEqual(['W 4 control+0x0004 0x00000001', 'W 4 control+0x0008 0x00000002']);
  });

  test('by the end of its worker', async () => {
    const { device, regs } = await spawn();
    const trace = device.trace();
    const read = all(trace);
    regs.write32(0, 9);
    await rejectionOf(device.open().ioctl(0xe1)); // process.exit() in the worker
    expect((await read).map(({ value }) => value)).toEqual([9]);
  });
});

describe('text', () => {
  const run = async ({ device, driver, input }: any): Promise<string[]> => {
    const trace = device.trace();
    const edu = new driver.EduDriver(device);
    edu.identify();
    edu.isAlive();
    await edu.factorial(6);
    await edu.dmaRoundTrip(Uint8Array.from([1, 2, 3]));
    edu.close();
    trace.stop();
    const lines = [];
    for await (const line of trace.lines(input ?? undefined)) lines.push(line);
    return lines;
  };

  test('the driver of the edu card does what its specification says, in every run, and wherever the ops run', async () => {
    const [first, second, spawned] = [
      await withExample('edu', run),
      await withExample('edu', run, { data: { delay: 20 } }),
      await withExample('edu', run, { where: 'spawned' }),
    ];
    const dma = (source: string, destination: string, command: string): string[] => [
      `W 8 bar0+0x0080 0x${source}`,
      `W 8 bar0+0x0088 0x${destination}`,
      'W 8 bar0+0x0090 0x0000000000000003',
      `W 8 bar0+0x0098 0x${command}`,
      'R 4 bar0+0x0024 0x00000100',
      'W 4 bar0+0x0064 0x00000100',
    ];
    expect(first).toEqual([
      'R 4 bar0+0x0000 0x010000ed',
      'W 4 bar0+0x0004 0x12345678',
      'R 4 bar0+0x0004 0xedcba987',
      'W 4 bar0+0x0020 0x00000080',
      'W 4 bar0+0x0008 0x00000006',
      'R 4 bar0+0x0024 0x00000001',
      'W 4 bar0+0x0064 0x00000001',
      'R 4 bar0+0x0008 0x000002d0',
      ...dma('0000000000000000', '0000000000040000', '0000000000000005'),
      ...dma('0000000000040000', '0000000000001000', '0000000000000007'),
    ]);
    expect(second).toEqual(first);
    expect(spawned).toEqual(first);
  });

  test('with times and threads no two runs are the same', async () => {
    const input = { time: true, threads: true };
    const [first, second] = [await withExample('edu', run, { input }), await withExample('edu', run, { input })];
    expect(first[0]).toMatch(/^0\.\d{6} T0 R 4 bar0\+0x0000 0x010000ed$/);
    expect(second).not.toEqual(first);
    const withoutTimes = (lines: string[]): string[] => lines.map((line) => line.replace(/^\S+ /, ''));
    expect(withoutTimes(second)).toEqual(withoutTimes(first));
  });

  const width = fc.constantFrom(1, 2, 4, 8);
  const access = fc.record({
    write: fc.boolean(),
    width,
    place: fc.nat(0x7fff),
    bits: fc.bigInt(0n, 2n ** 64n - 1n),
    fails: fc.nat(9),
  });
  const names = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.string({
      unit: fc.constantFrom(' ', '\\', '\n', '+0x10', '#', 'u0020', '\ud800', '\u{e0001}', 'é', '\u2028'),
      maxLength: 8,
    }),
  );
  const usable = names.filter((name) => !name.includes('\0') && Buffer.byteLength(name) < 200);

  test('a line says what the access was, whatever the region is called', async () => {
    await fc.assert(
      fc.asyncProperty(
        usable,
        usable,
        fc.array(access, { maxLength: 20 }),
        fc.record({ time: fc.boolean(), threads: fc.boolean() }),
        async (first, second, accesses, options) => {
          let answer = 0n;
          let fail = false;
          const call = (): bigint => {
            if (fail) throw deviceError('EIO', 'register');
            return answer;
          };
          const regions = [first, second].map((name): RegionOptions => ({ name, size: 0x40000, kind: 'registers' }));
          const device = new Device({ name: 'named', regions, ops: { readRegister: call, writeRegister: () => void call() } });
          const mappings = [0, 1].map((region) => device.open().map({ region }));
          const [trace, text] = [device.trace(), device.trace()];
          for (const { write, width, place, bits, fails } of accesses) {
            answer = BigInt.asUintN(8 * width, bits);
            fail = fails === 0;
            const mapping = mappings[place % 2] as unknown as Record<string, (offset: number, value?: unknown) => void>;
            const value = width === 8 ? answer : Number(answer);
            try {
              mapping[`${write ? 'write' : 'read'}${8 * width}`](place * width, ...(write ? [value] : []));
            } catch (error) {
              expect(error).toMatchObject({ code: 'EIO' });
            }
          }
          await device.unplug();
          const known = await all(trace);
          const lines = await all(text.lines(options));
          expect(known.length).toBe(accesses.length);
          expect(lines.every((line) => /^[^\n\r\u2028\u2029]+$/.test(line))).toBe(true);
          expect(lines.map((line) => Buffer.from(line).toString())).toEqual(lines);
          const parsed = lines.map((line) => parseAccess(line)!);
          expect(parsed.map((line) => same(line as DeviceAccess))).toEqual(known.map(same));
          for (const line of parsed) {
            expect(line.thread).toBe(options.threads ? 0 : undefined);
            expect(line.time === undefined).toBe(!options.time);
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  test('parseAccess reads times, threads, comments', () => {
    const plain = { write: false, width: 4, region: 'a', offset: 0x123456, value: 255, failed: false };
    expect(parseAccess('R 4 a+0x123456 0x000000ff')).toEqual(plain);
    expect(parseAccess('12.000345 R 4 a+0x123456 0x000000ff')).toEqual({ ...plain, time: 12000.345 });
    expect(parseAccess('T12 R 4 a+0x123456 0x000000ff')).toEqual({ ...plain, thread: 12 });
    expect(parseAccess('0.000001 T0 W 8 +0x0000 0x00000000000000ff failed')).toEqual({
      time: 0.001,
      thread: 0,
      write: true,
      width: 8,
      region: '',
      offset: 0,
      value: 255n,
      failed: true,
    });
    expect(parseAccess('R 1 a\\u0020b\\u005c+0x0000 failed')).toMatchObject({ region: 'a b\\', value: 0, failed: true });
    expect(parseAccess('# 12 accesses lost')).toBeUndefined();
    expect(parseAccess('#')).toBeUndefined();
  });

  test.each([
    '',
    ' ',
    'R',
    'R 4 a+0x0000',
    'W 4 a+0x0000 failed',
    'R 4 a+0x0000 0x00000000 failed',
    'R 4 a+0x0000 0x000000ff\n',
    ' R 4 a+0x0000 0x000000ff',
    'r 4 a+0x0000 0x000000ff',
    'R 3 a+0x0000 0x0000ff',
    'R 4 a+0x0000 0xff',
    'R 4 a+0x0000 0x000000FF',
    'R 4 a+0x0000 255',
    'R 4 a+0x00 0x000000ff',
    'R 4 a+0xfffffffffffffff 0x000000ff',
    'R 4 a 0x000000ff',
    'R 4 a b+0x0000 0x000000ff',
    'R 4 a\\b+0x0000 0x000000ff',
    'R 4 a\\u002+0x0000 0x000000ff',
    'R  4 a+0x0000 0x000000ff',
    '1.5 R 4 a+0x0000 0x000000ff',
    'T R 4 a+0x0000 0x000000ff',
    'T0 1.000000 R 4 a+0x0000 0x000000ff',
  ])('parseAccess refuses %j', (line) => {
    const error = thrownBy(() => parseAccess(line));
    expect(error).toBeInstanceOf(TraceLineError);
    expect(error).toMatchObject({ name: 'TraceLineError', code: 'ERR_DEVICE_TRACE_LINE', line });
    expect(error.message).toMatch(/^not a line of a trace: /);
  });
});

describe('writeTo', () => {
  let directory: string;
  beforeAll(() => (directory = mkdtempSync(join(tmpdir(), 'trace-'))));
  afterAll(() => rmSync(directory, { recursive: true }));

  test('writes the lines to a file, by path or URL, while they come and to the end', async () => {
    const { device, map } = registers();
    const mapping = map();
    const [path, url] = [join(directory, 'a'), pathToFileURL(join(directory, 'b'))];
    const [a, b, empty] = [device.trace(), device.trace({ capacity: 5 }), device.trace()];
    const writing = [a.writeTo(path), b.writeTo(url, { threads: true })];
    for (let i = 0; i < 1000; i++) mapping.write8(i % 16, i % 256);
    empty[Symbol.dispose]();
    await until('there is room for one more', () => existsSync(url) && readFileSync(url, 'utf8').includes('995 accesses lost'));
    mapping.write8(0xaa, 0);
    await device.unplug();
    await Promise.all([...writing, empty.writeTo(join(directory, 'empty'))]);
    const lines = Array.from(
      { length: 1000 },
      (_, i) => `W 1 control+0x${(i % 16).toString(16).padStart(4, '0')} 0x${(i % 256).toString(16).padStart(2, '0')}\n`,
    );
    lines.push('W 1 control+0x00aa 0x00\n');
    expect(readFileSync(path, 'utf8')).toBe(lines.join(''));
    const few = lines.slice(0, 5).map((line) => `T0 ${line}`);
    expect(readFileSync(url, 'utf8')).toBe(`${few.join('')}# 995 accesses lost\nT0 ${lines.at(-1)}`);
    expect(readFileSync(join(directory, 'empty'), 'utf8')).toBe('');
  });

  test('rejects when it cannot be written, and the trace has ended', async () => {
    const { device, map } = registers();
    const mapping = map();
    for (let i = 0; i < 10; i++) {
      const trace = device.trace();
      mapping.write8(0, 0);
      expect(await rejectionOf(trace.writeTo(join(directory, 'none', 'a')))).toMatchObject({ code: 'ENOENT' });
      expect(await all(trace)).toEqual([]);
    }
  });
});

describe('I1 arguments of traces', () => {
  test.each([
    [null, 'ERR_INVALID_ARG_TYPE', 'The "options" argument must be of type object. Received null'],
    [
      { capacity: '1' },
      'ERR_INVALID_ARG_TYPE',
      `The "options.capacity" argument must be of type number. Received type string ('1')`,
    ],
    [{ capacity: null }, 'ERR_INVALID_ARG_TYPE', 'The "options.capacity" argument must be of type number. Received null'],
    [
      { capacity: 0 },
      'ERR_OUT_OF_RANGE',
      'The value of "options.capacity" is out of range. It must be >= 1 && <= 1073741824. Received 0',
    ],
    [{ capacity: 2 ** 31 }, 'ERR_OUT_OF_RANGE', expect.stringContaining('"options.capacity"')],
    [
      { capacity: 1.5 },
      'ERR_OUT_OF_RANGE',
      'The value of "options.capacity" is out of range. It must be an integer. Received 1.5',
    ],
  ])('trace(%j)', (options, code, message) => {
    const { device } = registers();
    expect(thrownBy(() => device.trace(options as never))).toMatchObject({ code, message });
  });

  test('lines(), writeTo(), parseAccess()', async () => {
    const { device } = registers();
    using trace = device.trace();
    for (const options of [1, { time: 1 }, { threads: 'yes' }]) {
      expect(await rejectionOf(trace.lines(options as never).next())).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
      expect(await rejectionOf(trace.writeTo('x', options as never))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    }
    expect(await rejectionOf(trace.writeTo(1 as never))).toMatchObject({
      message: 'The "path" argument must be of type string or an instance of URL. Received type number (1)',
    });
    expect(thrownBy(() => parseAccess(undefined as never))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    // None of these has ended it.
    const next = trace.lines().next();
    trace.stop();
    expect((await next).done).toBe(true);
  });
});

describe('L4 a process with traces', () => {
  test.each(['traced', 'traced and read', 'spawned and traced'])('L4 is not kept alive: %s', async (what) => {
    const run = await runChild('devices/idle.cjs', { args: [what], limit: 60_000 });
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '', stdout: `${what}\n` });
  });

  test('L4 waits for the next access to a spawned device, and no longer', async () => {
    const code = `
      const { Device } = require('revocable-mmap/device');
      Device.spawn(${JSON.stringify(MODEL)}).then(async (device) => {
        const lines = device.trace().lines();
        const regs = device.open().map({ region: 'regs' });
        setTimeout(() => regs.write32(0, 1), 300).unref();
        console.log((await lines.next()).value);
      });`;
    expect(await runNode(['-e', code], { limit: 60_000 })).toMatchObject({
      status: 0,
      signal: null,
      stdout: 'W 4 regs+0x0000 0x00000001\n',
    });
  });

  test('forgotten traces are collected, and leave room for others', async () => {
    const code = `
      const { Device } = require('revocable-mmap/device');
      const { setTimeout: sleep } = require('node:timers/promises');
      const device = new Device({ name: 'forgetful', regions: [{ size: 4096, kind: 'registers' }] });
      // A device has room for eight.
      async function openAndForget() {
        for (const end = Date.now() + 60_000;;) {
          const open = [];
          try {
            while (open.length < 8) open.push(device.trace());
            return;
          } catch (error) {
            if (error.code !== 'EMFILE' || Date.now() > end) throw error;
          }
          for (const trace of open) trace[Symbol.dispose]();
          gc();
          await sleep(5);
        }
      }
      (async () => {
        for (let i = 0; i < 5; i++) await openAndForget();
        console.log('collected');
      })();`;
    const run = await runNode(['--expose-gc', '-e', code], { limit: 220_000 });
    expect(run).toMatchObject({ status: 0, stdout: 'collected\n' });
  });
});
