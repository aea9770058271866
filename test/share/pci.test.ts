import { join } from 'node:path';
import { Device, type DeviceOptions } from 'revocable-mmap';
import { connect, serve } from 'revocable-mmap/share';
import * as wire from '../../src/share/wire.js';
import { rawClient, type RawClient } from '../support/raw-client.js';
import { sharePeer } from '../support/share-peer.js';
import { temporaryDirectory } from '../support/temporary.js';
import { until } from '../support/until.js';

const { COMMANDS, PCI } = wire;
const PAGE = 4096;
const socket = (): string => join(temporaryDirectory(), 'card.sock');
const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** A served device, and a peer that says what it is asked to, byte for byte. */
async function served(
  options: Partial<DeviceOptions>,
  room?: number,
): Promise<{ device: Device; peer: RawClient; path: string }> {
  const registers = new Map<number, number | bigint>();
  const device = new Device({
    name: 'card',
    regions: [{ size: PAGE }],
    ops: {
      readRegister: (offset) => registers.get(offset) ?? 0,
      writeRegister: (offset, _, value) => void registers.set(offset, value),
    },
    ...options,
  });
  const server = serve(device, { path: socket() });
  const peer = await rawClient(server.path, room);
  open.push(async () => (peer.end(), device.unplug().then(() => server.closed)));
  return { device, peer, path: server.path };
}

const config = async (peer: RawClient, offset: number, count: number): Promise<number> => {
  const access = wire.encodeAccess({ region: PCI.config, offset, count, data: new Uint8Array(0) });
  const { data } = wire.decodeRegionData((await peer.ask(COMMANDS.regionRead, access)).body);
  return Buffer.from(data).readUIntLE(0, count);
};
const put = async (peer: RawClient, region: number, offset: number, bytes: number[]): Promise<number> => {
  const access = wire.encodeAccess({ region, offset, count: bytes.length, data: Uint8Array.from(bytes) });
  return (await peer.ask(COMMANDS.regionWrite, access)).errno;
};
const ones = [0xff, 0xff, 0xff, 0xff];
const regionInfo = async (peer: RawClient, index: number, argsz = 32): Promise<Buffer> =>
  Buffer.from((await peer.ask(COMMANDS.regionInfo, wire.encodeRegionInfo({ index, flags: 0, size: 0, offset: 0, argsz }))).body);

describe('a device with a PCI identity', () => {
  const pci = {
    vendorId: 0x1af4,
    deviceId: 0x1234,
    subsystem: { vendorId: 0x1111, deviceId: 0x2222 },
    classCode: 0x010802,
    revision: 3,
    msi: 4,
    msix: 17,
  };

  test('says in its configuration space what it is, with power management, MSI and MSI-X', async () => {
    const { peer } = await served({ pci });
    expect(await config(peer, 0, 4)).toBe(0x1234_1af4);
    expect(await config(peer, 8, 4)).toBe(0x0108_0203);
    expect(await config(peer, 0x2c, 4)).toBe(0x2222_1111);
    expect(await config(peer, 6, 2)).toBe(0x10);
    expect(await config(peer, 0x3d, 1)).toBe(1);
    const found: Record<number, number> = {};
    for (let at = await config(peer, 0x34, 1); at !== 0; at = await config(peer, at + 1, 1))
      found[await config(peer, at, 1)] = at;
    expect(Object.keys(found).map(Number)).toEqual([0x01, 0x05, 0x11]);
    expect(await config(peer, found[0x05] + 2, 2)).toBe(0x84); // 64 bits, 4 vectors
    expect(await config(peer, found[0x11] + 2, 2)).toBe(16); // 17 vectors
    expect(await config(peer, found[0x11] + 4, 4)).toBe(5); // the table at 0 of BAR 5
    expect(await config(peer, found[0x11] + 8, 4)).toBe(2048 + 5);
  });

  test('keeps what a driver may write, and nothing else, until it is reset', async () => {
    const { peer } = await served({ pci });
    await put(peer, PCI.config, 0, ones);
    expect(await config(peer, 0, 4)).toBe(0x1234_1af4);
    await put(peer, PCI.config, 4, [0xff, 0xff]);
    expect(await config(peer, 4, 2)).toBe(0x0406);
    await put(peer, PCI.config, 0x44, [3, 0]); // D3hot
    expect(await config(peer, 0x44, 2)).toBe(0x000b);
    await put(peer, PCI.config, 0x72, [0xff, 0xff]);
    expect(await config(peer, 0x72, 2)).toBe(0xc010);
    await put(peer, 5, 12, [1, 0, 0, 0]); // the mask of an entry of MSI-X
    expect((await peer.ask(COMMANDS.reset)).errno).toBe(0);
    expect([await config(peer, 4, 2), await config(peer, 0x44, 2), await config(peer, 0x72, 2)]).toEqual([0, 8, 16]);
  });

  test('has BARs of 32 and 64 bits, prefetchable or not, whose sizes are found by writing ones', async () => {
    const { peer } = await served({
      pci: { intx: false },
      regions: [
        { size: 10_000, bar: 0 },
        { size: 8 * 2 ** 30, kind: 'registers', bar: 2, wide: true, prefetchable: true },
      ],
    });
    for (const at of [0x10, 0x14, 0x18, 0x1c]) await put(peer, PCI.config, at, ones);
    expect(await config(peer, 0x10, 4)).toBe(2 ** 32 - 16384);
    expect(await config(peer, 0x14, 4)).toBe(0);
    expect(await config(peer, 0x18, 4)).toBe(0xc);
    expect(await config(peer, 0x1c, 4)).toBe(2 ** 32 - 2);
    expect(await config(peer, 0x3d, 1)).toBe(0);
    expect((await regionInfo(peer, 0)).readBigUInt64LE(16)).toBe(16384n); // whole, as a BAR is
  });

  test('has vectors of each kind, and a request to let go of it', async () => {
    const { device, peer } = await served({ pci });
    const counts = [];
    for (let index = 0; index < 5; index++) {
      const { body } = await peer.ask(COMMANDS.irqInfo, wire.encodeIrqInfo({ index, flags: 0, count: 0 }));
      counts.push([wire.decodeIrqInfo(body).flags, wire.decodeIrqInfo(body).count]);
    }
    expect(counts).toEqual([
      [3, 1],
      [9, 4],
      [9, 17],
      [0, 0],
      [9, 1],
    ]);
    const [request] = await peer.assign(PCI.request, 0, 1);
    void device.remove({ timeout: 20 });
    await until('it is asked to let go', () => peer.taken(request) === 1);
  });

  test.each<[string, Partial<DeviceOptions>]>([
    ['a vendor of 17 bits', { pci: { vendorId: 0x1_0000 } }],
    ['a class of 25 bits', { pci: { classCode: 0x100_0000 } }],
    ['MSI of 3 vectors', { pci: { msi: 3 } }],
    ['too many vectors', { pci: { msix: 257 } }],
    ['BAR 6', { regions: [{ size: 1, bar: 6 }] }],
    ['no number', { regions: [{ size: 1, barOffset: -1 }] }],
    ['what is no object', { pci: 5 as unknown as object }],
    ['a subsystem without a device', { pci: { subsystem: { vendorId: 1 } as { vendorId: number; deviceId: number } } }],
  ])('%s is refused', (_, options) => {
    const make = (): Device => new Device({ name: 'card', regions: [{ size: PAGE }], ...options });
    if (_ === 'a subsystem without a device') return void make().unplug();
    expect(make).toThrow(expect.objectContaining({ code: expect.stringMatching(/^ERR_(OUT_OF_RANGE|INVALID_ARG)/) }));
  });

  test.each<[string, Partial<DeviceOptions>]>([
    ['a wide BAR before one that is taken', { regions: [{ size: 1, wide: true }, { size: 1 }] }],
    ['a wide BAR at the end', { regions: [{ size: 1, bar: 5, wide: true }] }],
    ['no BAR for MSI-X', { pci: { msix: 1 }, regions: Array.from({ length: 6 }, () => ({ size: 1 })) }],
    ['two memories in a BAR', { regions: [{ size: PAGE }, { size: PAGE, bar: 0 }] }],
    ['memory in the middle of a BAR', { regions: [{ size: PAGE, barOffset: PAGE }] }],
    [
      'registers that overlap',
      {
        regions: [
          { size: 16, kind: 'registers' },
          { size: 16, kind: 'registers', bar: 0, barOffset: 8 },
        ],
      },
    ],
    ['a BAR of 32 bits that is too large', { pci: {}, regions: [{ size: 2 ** 32, kind: 'registers' }] }],
  ])('%s cannot be served', async (_, options) => {
    const device = new Device({ name: 'card', regions: [{ size: 1 }], ...options });
    expect(() => serve(device, { path: socket() })).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    await device.unplug();
  });
});

describe('a BAR of memory and registers', () => {
  const mixed: Partial<DeviceOptions> = {
    pci: {},
    regions: [
      { name: 'frames', size: 8 * PAGE },
      { name: 'control', size: 64, kind: 'registers', bar: 0 },
      { name: 'doorbells', size: 16, kind: 'registers', bar: 0, barOffset: 3 * PAGE + 8 },
    ],
  };

  test('says which parts can be mapped, once there is room for that', async () => {
    const { peer } = await served(mixed);
    const small = await regionInfo(peer, 0, 32);
    expect([small.byteLength, small.readUInt32LE(0), small.readUInt32LE(4), small.readUInt32LE(12)]).toEqual([32, 80, 15, 32]);
    expect(peer.descriptors()).toBe(0);
    const whole = await regionInfo(peer, 0, 80);
    expect(peer.descriptors()).toBe(1);
    const words = Array.from({ length: 20 }, (_, i) => whole.readUInt32LE(i * 4));
    const area = (offset: number, size: number): number[] => [offset, 0, size, 0];
    expect(words).toEqual([
      80,
      15,
      0,
      32,
      8 * PAGE,
      0,
      0,
      0,
      0x0001_0001,
      0,
      2,
      0,
      ...area(PAGE, 2 * PAGE),
      ...area(4 * PAGE, 4 * PAGE),
    ]);
  });

  test('is accessed by messages at every place: registers hide what is below them', async () => {
    const { device, peer } = await served(mixed);
    expect(await put(peer, 0, 8, [1, 2, 3, 4])).toBe(0);
    expect(await put(peer, 0, 3 * PAGE + 8, [5, 6, 7, 8])).toBe(0);
    expect(await put(peer, 0, PAGE, [9, 9, 9, 9])).toBe(0);
    expect(await put(peer, 0, 62, [1, 1, 1, 1])).toBe(22); // from one part into the next
    expect(await put(peer, 0, 8 * PAGE - 2, [1, 1, 1, 1])).toBe(22);
    expect([0, 8, PAGE].map((offset) => device.regions[0].memory.read32(offset))).toEqual([0, 0, 0x09090909]);
    const file = device.open();
    expect(file.map({ region: 'control' }).read32(8)).toBe(0x04030201);
    expect(file.map({ region: 'doorbells' }).read32(0)).toBe(0x08070605);
  });

  test('reads ones where it has nothing, and takes what is written there', async () => {
    const { peer } = await served({ pci: {}, regions: [{ size: 24, kind: 'registers' }] });
    expect(await put(peer, 0, 28, [1, 1, 1, 1])).toBe(0);
    const access = wire.encodeAccess({ region: 0, offset: 24, count: 4, data: new Uint8Array(0) });
    expect([...wire.decodeRegionData((await peer.ask(COMMANDS.regionRead, access)).body).data]).toEqual(ones);
  });

  test('is the regions of its device for a client of this library', async () => {
    const path = socket();
    const server = sharePeer();
    await server.do('serveMixed', { options: { path } });
    const client = await connect(path);
    expect(client.regions.map(({ name, kind, size }) => [name, kind, size])).toEqual([
      ['frames', 'memory', 8 * PAGE],
      ['control', 'registers', 64],
      ['config', 'registers', 256],
    ]);
    const file = client.open();
    const frames = file.map({ region: 'frames' });
    frames.write32(PAGE, 77);
    file.map({ region: 'control' }).write32(4, PAGE); // the model adds 1 to the word there
    expect(frames.read32(PAGE)).toBe(78);
    await client.unplug();
    expect(await server.end()).toEqual({ status: 0, signal: null, stderr: '' });
  });
});

describe('interrupts, in every form of DEVICE_SET_IRQS', () => {
  const set = (change: Partial<wire.IrqSet>): Uint8Array =>
    wire.encodeIrqSet({
      index: PCI.msix,
      start: 0,
      count: 1,
      data: 'none',
      action: 'trigger',
      chosen: new Uint8Array(0),
      ...change,
    });

  test('are raised, masked and unmasked, one by one or by a list, and taken away', async () => {
    const { device, peer } = await served({ pci: { msix: 4, msi: 2 } });
    const fds = await peer.assign(PCI.msix, 0, 4);
    const counts = (): number[] => fds.map((fd) => peer.taken(fd));
    const ask = async (change: Partial<wire.IrqSet>): Promise<number> => (await peer.ask(COMMANDS.setIrqs, set(change))).errno;
    for (const vector of [0, 1, 1, 3, 9]) device.raise(vector);
    expect(counts()).toEqual([1, 2, 0, 1]);
    expect(await ask({ start: 1, count: 2 })).toBe(0);
    expect(await ask({ count: 4, data: 'bool', chosen: Uint8Array.of(1, 0, 0, 7) })).toBe(0);
    expect(counts()).toEqual([1, 1, 1, 1]);
    expect(await ask({ action: 'mask', count: 4, data: 'bool', chosen: Uint8Array.of(0, 1, 1, 0) })).toBe(0);
    for (const vector of [0, 1, 1, 2, 3]) device.raise(vector);
    expect(counts()).toEqual([1, 0, 0, 1]);
    expect(await ask({ action: 'unmask', start: 1, count: 1 })).toBe(0);
    expect(counts()).toEqual([0, 1, 0, 0]); // once, however often it was raised
    expect(await ask({ action: 'unmask', data: 'eventfd' })).toBe(95);
    expect(await ask({ count: 2, data: 'eventfd' })).toBe(0); // none came with it: they are taken away
    device.raise(0);
    device.raise(2);
    expect(counts()).toEqual([0, 0, 0, 0]); // 2 is masked
    expect(await ask({ count: 0 })).toBe(0);
    device.raise(3);
    expect(counts()).toEqual([0, 0, 0, 0]);
  });

  test('are pending in the bits of MSI-X while they are masked, which nothing can be written to', async () => {
    const { device, peer } = await served({ pci: { msix: 12 } });
    await peer.assign(PCI.msix, 0, 12);
    const bits = async (offset = 0, count = 8): Promise<number[]> => {
      const access = wire.encodeAccess({ region: 5, offset: 2048 + offset, count, data: new Uint8Array(0) });
      return [...wire.decodeRegionData((await peer.ask(COMMANDS.regionRead, access)).body).data];
    };
    await peer.ask(COMMANDS.setIrqs, set({ action: 'mask', start: 2, count: 9 }));
    for (const vector of [0, 2, 7, 7, 10, 11]) device.raise(vector);
    expect(await bits()).toEqual([0x84, 0x04, 0, 0, 0, 0, 0, 0]);
    expect(await bits(1, 1)).toEqual([0x04]);
    expect(await put(peer, 5, 2044, [1, 2, 3, 4, 255, 255, 255, 255])).toBe(0);
    expect(await bits(-4)).toEqual([1, 2, 3, 4, 0x84, 0x04, 0, 0]);
    await peer.ask(COMMANDS.setIrqs, set({ action: 'unmask', start: 7, count: 4 }));
    expect(await bits()).toEqual([0x04, 0, 0, 0, 0, 0, 0, 0]);
    await peer.ask(COMMANDS.reset);
    expect(await bits()).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });

  test('by the pin stop when the driver turns it off in the command register', async () => {
    const { device, peer } = await served({ pci: {} });
    const [fd] = await peer.assign(PCI.intx, 0, 1);
    device.raise(0);
    await put(peer, PCI.config, 4, [0x02, 0x04]);
    device.raise(0);
    expect(peer.taken(fd)).toBe(1);
    await put(peer, PCI.config, 4, [0x02, 0x00]);
    device.raise(0);
    expect(peer.taken(fd)).toBe(1);
  });
});
