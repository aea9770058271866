import { writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Device, MemoryObject } from 'revocable-mmap';
import { serve } from 'revocable-mmap/share';
import * as wire from '../../src/share/wire.js';
import { WriteLog } from '../../src/share/write-log.js';
import { rawClient, type RawClient } from '../support/raw-client.js';
import { rounds } from '../support/rounds.js';
import { temporaryDirectory } from '../support/temporary.js';

const { COMMANDS, FEATURES, FEATURE_FLAGS } = wire;
const { EINVAL, EBUSY, ENOTTY } = constants.errno;
const PAGE = 4096;
const NOTHING = new Uint8Array(0);

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

type Served = Parameters<typeof serve>[0];

interface Card<D extends Served> {
  device: D;
  peer: RawClient;
  memory: MemoryObject;
  /** A feature's reply. */
  feature(feature: number, methods: number, data?: Uint8Array, argsz?: number): Promise<wire.Message>;
  start(): Promise<void>;
  /** The numbers of the pages that are said to be written. */
  written(address: number, pages: number, pageSize?: number): Promise<number[]>;
}

const plain = (): Device => new Device({ name: 'card', regions: [{ size: PAGE }] });

/** A served device to which a client has given 8 pages at 0x10000. */
async function card<D extends Served>(device: D, byMessages = false): Promise<Card<D>> {
  const server = serve(device, { path: join(temporaryDirectory(), 'card.sock') });
  const peer = await rawClient(server.path);
  const memory = MemoryObject.create({ size: 8 * PAGE });
  const map = { offset: 0, address: 0x10000, size: 8 * PAGE, readable: true, writable: true, mmap: false };
  await peer.ask(COMMANDS.dmaMap, wire.encodeDmaMap(map), byMessages ? undefined : Int32Array.of(memory.fd));
  open.push(async () => {
    peer.end();
    await device.unplug();
    await server.closed;
    memory.close();
  });
  const feature = async (
    number: number,
    methods: number,
    data: Uint8Array = NOTHING,
    argsz = 8 + data.byteLength,
  ): Promise<wire.Message> => peer.ask(COMMANDS.deviceFeature, wire.encodeFeature({ argsz, feature: number, methods, data }));
  return {
    device,
    peer,
    memory,
    feature,
    start: async () => {
      const data = wire.encodeLogStart({ pageSize: PAGE, ranges: [] });
      expect((await feature(FEATURES.logStart, FEATURE_FLAGS.set, data)).errno).toBe(0);
    },
    written: async (address, pages, pageSize = PAGE) => {
      const report = { offset: address, size: pages * PAGE, pageSize };
      const room = 32 + wire.bitmapBytes(report);
      const { errno, body } = await feature(FEATURES.logReport, FEATURE_FLAGS.get, wire.encodeLogReport(report), room);
      expect([errno, body.byteLength, wire.viewOf(body).getUint32(0, true)]).toEqual([0, room, room]);
      const bits = body.subarray(32);
      return Array.from({ length: bits.length * 8 }, (_, i) => i).filter((i) => bits[i >> 3] & (1 << (i & 7)));
    },
  };
}

describe('what a device has written to memory of a client', () => {
  test('is said once, from the start of the log to its stop', async () => {
    const { device, feature, start, written } = await card(plain());
    device.dma.writeSync(0x10000, new Uint8Array(1)); // before
    await start();
    expect(await written(0x10000, 8)).toEqual([]);
    device.dma.writeSync(0x12fff, new Uint8Array(2));
    await device.dma.write(0x17000, new Uint8Array(PAGE));
    device.dma.readSync(0x10000, new Uint8Array(PAGE));
    expect(await written(0x10000, 8)).toEqual([2, 3, 7]);
    expect(await written(0x10000, 8)).toEqual([]);
    device.dma.writeSync(0x11000, new Uint8Array(2 * PAGE));
    expect(await written(0x10000, 2)).toEqual([1]);
    expect(await written(0x12000, 6)).toEqual([0]);
    device.dma.writeSync(0x13000, new Uint8Array(1));
    expect((await feature(FEATURES.logStop, FEATURE_FLAGS.set)).errno).toBe(0);
    await start();
    expect(await written(0x10000, 8)).toEqual([]);
  });

  test('is said in the pages that the client asks for', async () => {
    const { device, start, written } = await card(plain());
    await start();
    device.dma.writeSync(0x15000, new Uint8Array(1));
    expect(await written(0x10000, 8, 4 * PAGE)).toEqual([1]);
    device.dma.writeSync(0x11000, new Uint8Array(1));
    expect(await written(0x10000, 8, 1024)).toEqual([4, 5, 6, 7]);
    device.dma.writeSync(0x12000, new Uint8Array(1));
    expect(await written(0x10000, 2, 2 ** 21)).toEqual([]);
    expect(await written(0x12000, 1, 2 ** 21)).toEqual([0]);
  });

  test('is said of memory that has been taken away since', async () => {
    const { device, peer, start, written } = await card(plain());
    await start();
    device.dma.writeSync(0x14000, new Uint8Array(1));
    await peer.ask(COMMANDS.dmaUnmap, wire.encodeDmaUnmap({ address: 0x10000, size: 8 * PAGE, all: false }));
    expect(await written(0x10000, 8)).toEqual([4]);
  });

  test.each([
    ['while it is mapped', false],
    ['at the time it is unmapped', true],
  ])('is all of a range that the model maps itself, %s', async (_, unmapped) => {
    const { device, peer, start, written } = await card(plain());
    const mapping = device.dma.ranges[0].object!.map({ offset: 5 * PAGE, length: PAGE });
    await start();
    mapping.write8(0, 1);
    if (unmapped) await peer.ask(COMMANDS.dmaUnmap, wire.encodeDmaUnmap({ address: 0, size: 0, all: true }));
    expect(await written(0x10000, 8)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(await written(0x10000, 8)).toEqual(unmapped ? [] : [0, 1, 2, 3, 4, 5, 6, 7]);
    mapping.close();
  });

  test('is all of a range of a model in a worker', async () => {
    const path = join(temporaryDirectory(), 'model.cjs');
    writeFileSync(path, `module.exports = { name: 'worker', regions: [{ size: 4096 }] };`);
    const { start, written } = await card(await Device.spawn(path));
    await start();
    expect(await written(0x10000, 8)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test('is the own business of a client that is sent messages', async () => {
    const { start, written } = await card(plain(), true);
    await start();
    expect(await written(0x10000, 8)).toEqual([]);
  });

  test('is no more than the memory of others, or of nothing', async () => {
    const { device, start, written } = await card(plain());
    const other = MemoryObject.create({ size: PAGE });
    const range = await device.dma.map(other, { address: 0x20000 });
    await start();
    device.dma.writeSync(0x20000, new Uint8Array(1));
    expect(await written(0x20000, 1)).toEqual([]);
    expect(await written(0x900000, 1)).toEqual([]);
    await range.unmap();
  });
});

describe('features of a served device', () => {
  test.each([
    ['migration', 1],
    ['the state of migration', 2],
    ['a feature of no number', 0],
    ['one that no specification has', 0xffff],
  ])('%s is refused as the kernel does', async (_, number) => {
    const { feature } = await card(plain());
    for (const methods of [FEATURE_FLAGS.get, FEATURE_FLAGS.set, FEATURE_FLAGS.probe, FEATURE_FLAGS.probe | FEATURE_FLAGS.get])
      expect((await feature(number, methods, new Uint8Array(8))).errno).toBe(ENOTTY);
  });

  test('are probed with what can be done with them', async () => {
    const { feature } = await card(plain());
    const { probe, get, set } = FEATURE_FLAGS;
    const errno = async (number: number, methods: number): Promise<number> => (await feature(number, probe | methods)).errno;
    for (const number of [FEATURES.logStart, FEATURES.logStop]) {
      expect([await errno(number, 0), await errno(number, set)]).toEqual([0, 0]);
      expect([await errno(number, get), await errno(number, get | set)]).toEqual([EINVAL, EINVAL]);
    }
    expect([await errno(FEATURES.logReport, get), await errno(FEATURES.logReport, set)]).toEqual([0, EINVAL]);
    const { body } = await feature(FEATURES.logStart, probe | set);
    expect(wire.decodeFeature(body)).toMatchObject({ feature: FEATURES.logStart, methods: probe | set, data: NOTHING });
  });

  test('the start of a log answers the size of page that it is kept in, and a second start is refused', async () => {
    const { feature } = await card(plain());
    const data = wire.encodeLogStart({ pageSize: 2 ** 21, ranges: [{ offset: 0x10000, size: PAGE }] });
    const { body, errno } = await feature(FEATURES.logStart, FEATURE_FLAGS.set, data);
    expect(errno).toBe(0);
    expect(wire.decodeLogStart(wire.decodeFeature(body).data)).toEqual({
      pageSize: PAGE,
      ranges: [{ offset: 0x10000, size: PAGE }],
    });
    expect((await feature(FEATURES.logStart, FEATURE_FLAGS.set, data)).errno).toBe(EBUSY);
  });

  test('what is no such request is refused, and the connection goes on', async () => {
    const { peer, feature, start } = await card(plain());
    const { get, set, probe } = FEATURE_FLAGS;
    const report = (offset: number, size: number, pageSize: number): Uint8Array =>
      wire.encodeLogReport({ offset, size, pageSize });
    const log = FEATURES.logReport;
    expect((await feature(log, get, report(0, PAGE, PAGE), 40)).errno).toBe(EINVAL); // not started
    await start();
    expect((await peer.ask(COMMANDS.deviceFeature, new Uint8Array(7))).errno).toBe(EINVAL);
    const refused: [number, number, Uint8Array, number][] = [
      [log, 0, report(0, PAGE, PAGE), 40],
      [log, get | set, report(0, PAGE, PAGE), 40],
      [log, probe << 1, report(0, PAGE, PAGE), 40],
      [log, get, report(0, PAGE, PAGE), 39],
      [log, get, report(0, PAGE, PAGE).subarray(1), 40],
      [log, get, report(0, 0, PAGE), 40],
      [log, get, report(0, PAGE, 0), 40],
      [log, get, report(0, PAGE, 3 * PAGE), 40],
      [log, get, report(2 ** 53 - PAGE, PAGE, PAGE), 40],
      [log, get, report(0, 2 ** 40, PAGE), 2 ** 31], // a bitmap of more than one message
      [log, set, report(0, PAGE, PAGE), 40],
      [FEATURES.logStart, set, wire.encodeLogStart({ pageSize: 0, ranges: [] }), 24],
      [FEATURES.logStart, set, wire.encodeLogStart({ pageSize: PAGE, ranges: [{ offset: 0, size: 0 }] }), 40],
      [FEATURES.logStart, set, Uint8Array.from([0, 16, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]), 24],
    ];
    for (const [number, methods, data, argsz] of refused)
      expect([number, methods, data, (await feature(number, methods, data, argsz)).errno]).toEqual([
        number,
        methods,
        data,
        EINVAL,
      ]);
    expect((await feature(log, get, report(0x10000, PAGE, PAGE), 40)).errno).toBe(0);
  });
});

describe('a log of writes', () => {
  test('says of each page what a list of all pages would', () => {
    const seed = Number(process.env.TEST_SEED ?? (Math.random() * 0x7fffffff) | 0);
    const place = fc.record({ offset: fc.nat(64 * 16), size: fc.integer({ min: 1, max: 300 }) });
    const step = fc.record({ take: fc.boolean(), place, bits: fc.integer({ min: 2, max: 8 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const log = new WriteLog(16);
        const bytes = new Set<number>(); // each of them
        for (const { take, place: area, bits } of steps) {
          const { offset, size } = area;
          if (!take) {
            log.add(area);
            for (let at = offset - (offset % 16); at < Math.ceil((offset + size) / 16) * 16; at++) bytes.add(at);
            continue;
          }
          const pageSize = 2 ** bits;
          const expected = new Uint8Array(Math.ceil(size / pageSize / 64) * 8);
          for (let at = offset; at < offset + size; at++) {
            const bit = Math.floor((at - offset) / pageSize);
            if (bytes.delete(at)) expected[bit >> 3] |= 1 << (bit & 7);
          }
          expect(log.take({ ...area, pageSize })).toEqual(expected);
        }
      }),
      { seed, numRuns: rounds(500) },
    );
  });

  test('of more pieces than it keeps is of all that is between them', () => {
    const log = new WriteLog(16);
    for (let i = 0; i <= 65_536; i++) log.add({ offset: i * 64, size: 1 });
    const bitmap = log.take({ offset: 0, size: 65_537 * 64, pageSize: 64 });
    expect(bitmap.subarray(0, 8192).every((byte) => byte === 0xff)).toBe(true);
    expect(log.take({ offset: 0, size: 65_537 * 64, pageSize: 64 }).every((byte) => byte === 0)).toBe(true);
  });
});
