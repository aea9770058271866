import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Device, MemoryObject, type DeviceOps, type DeviceOptions, type DmaRange } from 'revocable-mmap';
import { connect, serve, type ConnectedDevice, type Server } from 'revocable-mmap/share';
import * as wire from '../../src/share/wire.js';
import { openDescriptors, openedSince } from '../support/descriptors.js';
import { sharePeer } from '../support/share-peer.js';
import { temporaryDirectory } from '../support/temporary.js';
import { until, within } from '../support/until.js';

const PAGE = 4096;
const socket = (): string => join(temporaryDirectory(), 'card.sock');
const bytes = (length: number, first = 1): Uint8Array => Uint8Array.from({ length }, (_, i) => first + i);

/** A device, and a client of it in the same process: each has its own object of the client's memory. */
async function pair(): Promise<{ device: Device; server: Server; client: ConnectedDevice; end: () => Promise<void> }> {
  const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
  const server = serve(device, { path: socket() });
  const client = await connect(server.path);
  const end = async (): Promise<void> => {
    await device.unplug();
    await server.closed;
  };
  return { device, server, client, end };
}

async function code(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => undefined,
    (error: unknown) => (error as { code: unknown }).code,
  );
}

describe('memory that is given to a device of this process', () => {
  test('is read and written at its address, until it is taken away', async () => {
    const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
    const memory = MemoryObject.create({ size: 3 * PAGE });
    const mine = memory.map();
    const range = await device.dma.map(memory, { address: 0x10000, offset: PAGE, length: PAGE });
    device.dma.writeSync(0x10010, bytes(4));
    expect([...mine.bytes.subarray(PAGE + 0x10, PAGE + 0x14)]).toEqual([1, 2, 3, 4]);
    const back = new Uint8Array(4);
    await device.dma.read(0x10010, back);
    expect([...back]).toEqual([1, 2, 3, 4]);
    const direct = range.object!.map({ offset: range.offset, length: range.length });
    expect(direct.read8(0x10)).toBe(1);
    await range.unmap();
    expect(() => direct.read8(0x10)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
    expect(() => device.dma.readSync(0x10010, back)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(mine.read8(PAGE + 0x10)).toBe(1); // the giver's own stays
    expect([range.mapped, device.dma.ranges.length, memory.state]).toEqual([false, 0, 'live']);
    await device.unplug();
  });

  test('adjoins other memory: one access may cross from one range to the next, and none moves a byte where one is missing', async () => {
    const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
    const [one, two] = [MemoryObject.create({ size: PAGE }), MemoryObject.create({ size: PAGE })];
    await device.dma.map(two, { address: 2 * PAGE });
    await device.dma.map(one, { address: PAGE });
    device.dma.writeSync(2 * PAGE - 2, bytes(4));
    expect([one.map().read16(PAGE - 2), two.map().read16(0)]).toEqual([0x0201, 0x0403]);
    expect(() => device.dma.writeSync(PAGE, new Uint8Array(2 * PAGE + 1).fill(7))).toThrow('EFAULT');
    expect(one.map().read8(0)).toBe(0);
    await device.unplug();
    expect(() => device.dma.writeSync(PAGE, bytes(1))).toThrow(expect.objectContaining({ code: 'ENODEV' }));
  });

  test('ends when its giver revokes or closes it', async () => {
    const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
    const [one, two] = [MemoryObject.create({ size: PAGE }), MemoryObject.create({ size: PAGE })];
    const ranges = [await device.dma.map(one, { address: 0 }), await device.dma.map(two, { address: PAGE })];
    await one.revoke();
    two.close();
    await until('both are unmapped', () => ranges.every(({ mapped }) => !mapped));
    await device.unplug();
  });

  test.each<[string, object, string]>([
    ['an address between pages', { address: 1 }, 'ERR_OUT_OF_RANGE'],
    ['no address', {}, 'ERR_INVALID_ARG_TYPE'],
    ['an address that is not exact', { address: 2 ** 53 }, 'ERR_OUT_OF_RANGE'],
    ['more than there is', { address: 0, length: 3 * PAGE }, 'ERR_OUT_OF_RANGE'],
    ['a part of a page', { address: 0, length: 100 }, 'ERR_OUT_OF_RANGE'],
    ['an offset between pages', { address: 0, offset: 8 }, 'ERR_OUT_OF_RANGE'],
    ['another access', { address: 0, access: 'x' }, 'ERR_INVALID_ARG_VALUE'],
    ['a part of what is there', { address: 0x101000 }, 'EEXIST'],
    ['what ends in what is there', { address: 0xff000 }, 'EEXIST'],
  ])('%s is refused, and leaves nothing behind', async (_, options, expected) => {
    const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
    const memory = MemoryObject.create({ size: 2 * PAGE });
    await device.dma.map(memory, { address: 0x100000 });
    const before = openDescriptors();
    expect(await code(device.dma.map(memory, options as { address: number }))).toBe(expected);
    expect(device.dma.ranges).toHaveLength(1);
    await until('all are closed', () => openedSince(before).length === 0);
    await device.unplug();
  });

  test('that may only be read cannot be written, and the other way round', async () => {
    const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
    const memory = MemoryObject.create({ size: 2 * PAGE });
    await device.dma.map(memory, { address: 0, length: PAGE, access: 'r' });
    await device.dma.map(memory, { address: PAGE, offset: PAGE, access: 'w' });
    expect(await code(device.dma.write(0, bytes(1)))).toBe('EACCES');
    expect(await code(device.dma.read(PAGE, bytes(1)))).toBe('EACCES');
    await device.dma.write(PAGE, bytes(1));
    expect(await code(device.dma.map(memory, { address: -1 }))).toBe('ERR_OUT_OF_RANGE');
    expect(await code(device.dma.map({} as MemoryObject, { address: 0 }))).toBe('ERR_INVALID_ARG_TYPE');
    expect(await code(device.dma.read(-1, bytes(1)))).toBe('ERR_OUT_OF_RANGE');
    await device.unplug();
  });

  test('reaches a model in a worker', async () => {
    const path = join(temporaryDirectory(), 'model.cjs');
    writeFileSync(
      path,
      `let device;
       module.exports = { name: 'worker', regions: [{ size: 4096 }], ops: {
         attach: (made) => void (device = made),
         ioctl: async (_, command, { address, text }) => {
           if (command === 1) return device.dma.write(address, Buffer.from(text));
           const target = new Uint8Array(5);
           await device.dma.read(address, target);
           return Buffer.from(target).toString();
         } } };`,
    );
    const device = await Device.spawn(path);
    const file = device.open();
    const memory = MemoryObject.create({ size: PAGE });
    const range = await device.dma.map(memory, { address: 0x2000 });
    await file.ioctl(1, { address: 0x2000, text: 'hello' });
    expect(Buffer.from(memory.map().bytes.subarray(0, 5)).toString()).toBe('hello');
    expect(await file.ioctl(2, { address: 0x2000 })).toBe('hello');
    await range.unmap();
    await expect(file.ioctl(2, { address: 0x2000 })).rejects.toMatchObject({ code: 'EFAULT' });
    await device.unplug();
  });
});

describe('memory that a client gives to a served device', () => {
  test.each([false, true])(
    'is reached by its descriptor, or by messages (%s), until the client takes it away',
    async (byMessages) => {
      const { device, client, end } = await pair();
      const memory = MemoryObject.create({ size: 4 * PAGE });
      const range = await client.dma.map(memory, { address: 0x4000, byMessages });
      const [theirs] = device.dma.ranges;
      expect([theirs.address, theirs.length, theirs.access, theirs.object !== undefined]).toEqual([
        0x4000,
        4 * PAGE,
        'rw',
        !byMessages,
      ]);
      await device.dma.write(0x4000 + 5, bytes(200));
      expect([...memory.map().bytes.subarray(5, 205)]).toEqual([...bytes(200)]);
      const back = new Uint8Array(200);
      await device.dma.read(0x4000 + 5, back);
      expect(back).toEqual(bytes(200));
      const direct = theirs.object?.map();
      await range.unmap();
      expect(device.dma.ranges).toEqual([]);
      expect(await code(device.dma.read(0x4000, back))).toBe('EFAULT');
      if (direct !== undefined) expect(() => direct.read8(0)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
      await end();
    },
  );

  test('by messages, it cannot be reached without waiting', async () => {
    const { device, client, end } = await pair();
    await client.dma.map(MemoryObject.create({ size: PAGE }), { address: 0, byMessages: true });
    expect(() => device.dma.readSync(0, bytes(1))).toThrow(expect.objectContaining({ code: 'ENOTSUP' }));
    await end();
  });

  test('is cut into messages of the longest that the client takes', async () => {
    const { device, client, end } = await pair();
    const memory = MemoryObject.create({ size: 768 * PAGE }); // 3 MiB, of 1 MiB each
    await client.dma.map(memory, { address: 0, byMessages: true });
    const data = Uint8Array.from({ length: 768 * PAGE }, (_, i) => i * 7 + (i >> 12));
    await device.dma.write(0, data);
    expect(Buffer.compare(memory.map().bytes, data)).toBe(0);
    const back = new Uint8Array(data.byteLength);
    await device.dma.read(0, back);
    expect(Buffer.compare(back, data)).toBe(0);
    await end();
  });

  test('takes as many accesses at once as the model makes: they wait for each other', async () => {
    const { device, server, client, end } = await pair();
    const memory = MemoryObject.create({ size: 256 * PAGE });
    await client.dma.map(memory, { address: 0, byMessages: true });
    const written = Array.from({ length: 12 }, (_, i) => device.dma.write(0, new Uint8Array(256 * PAGE).fill(i + 1)));
    await Promise.all(written);
    expect(memory.map().bytes.every((byte) => byte === 12)).toBe(true);
    const read = Array.from({ length: 12 }, () => new Uint8Array(256 * PAGE));
    await Promise.all(read.map((target) => device.dma.read(0, target)));
    expect(read.every((target) => target.every((byte) => byte === 12))).toBe(true);
    expect(server.clients.size).toBe(1);
    await end();
  });

  test('is revoked with the connection, and when the device is removed', async () => {
    const { device, server, client, end } = await pair();
    const memory = MemoryObject.create({ size: PAGE });
    const range = await client.dma.map(memory, { address: 0 });
    const direct = device.dma.ranges[0].object!.map();
    await client.unplug();
    await until('the server has noticed', () => server.clients.size === 0);
    expect(() => direct.read8(0)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
    expect([device.dma.ranges.length, range.mapped, memory.state]).toEqual([0, false, 'live']);
    const again = await connect(server.path);
    await again.dma.map(memory, { address: 0 });
    const second = device.dma.ranges[0].object!.map();
    const removed = device.unplug();
    expect(() => second.read8(0)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
    await removed;
    await end();
  });

  test.each([false, true])('is revoked when the client is killed, by descriptor or by messages (%s)', async (byMessages) => {
    const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
    const server = serve(device, { path: socket() });
    const before = openDescriptors();
    const client = sharePeer();
    await client.do('connect', { path: server.path });
    await client.do('giveMemory', { size: 2 * PAGE, options: { address: 0, byMessages } });
    await device.dma.write(PAGE, bytes(4));
    expect(await client.do('read32', { offset: PAGE })).toBe(0x04030201);
    const direct = device.dma.ranges[0].object?.map();
    process.kill(client.pid, 'SIGSTOP');
    const pending = byMessages ? code(device.dma.read(0, bytes(4))) : undefined;
    await client.kill();
    await until('the server has noticed', () => server.clients.size === 0);
    if (direct !== undefined) expect(() => direct.read8(0)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
    if (pending !== undefined) expect(await within('what waited has ended', pending)).toBe('EFAULT');
    expect(await code(device.dma.read(0, bytes(4)))).toBe('EFAULT');
    expect(device.dma.ranges).toEqual([]);
    direct?.close(); // the last that uses the memory
    await until('all are closed', () => openedSince(before).length === 0);
    await device.unplug();
    await server.closed;
  });

  test.each(['here', 'in a worker'])(
    'is reached by messages also with its descriptor, where the model %s asks so',
    async (where) => {
      const path = join(temporaryDirectory(), 'model.cjs');
      writeFileSync(
        path,
        `const ops = { attach: (made) => void (ops.device = made), ioctl: async (_, write, byMessages) => {
         const data = Uint8Array.of(1, 2, 3, 4);
         await ops.device.dma[write ? 'write' : 'read'](0, data, { byMessages });
       } };
       module.exports = { name: 'model', regions: [{ size: 4096 }], ops };`,
      );
      const model = require(path) as DeviceOptions & { ops: DeviceOps & { device?: Device } };
      const device = where === 'here' ? new Device(model) : await Device.spawn(path);
      if (where === 'here') model.ops.device = device as Device;
      const server = serve(device, { path: socket() });
      const file = device.open();
      const client = sharePeer();
      await client.do('connect', { path: server.path });
      await client.do('giveMemory', { size: PAGE, options: { address: 0 } });
      await file.ioctl(1, true);
      expect(await client.do('read32', { offset: 0 })).toBe(0x04030201);
      process.kill(client.pid, 'SIGSTOP');
      const asked = code(file.ioctl(0, true));
      await file.ioctl(0, false); // needs no client
      await client.kill();
      expect(await within('what waited has ended', asked)).toBe('EFAULT');
      expect(await code(device.dma.read(0, bytes(1), 1 as unknown as object))).toBe('ERR_INVALID_ARG_TYPE');
      expect(await code(device.dma.read(0, bytes(1), { byMessages: 1 as unknown as boolean }))).toBe('ERR_INVALID_ARG_TYPE');
      await device.unplug();
      await server.closed;
    },
  );

  test('that is truncated by its giver is an error, not a crash', async () => {
    const { device, client, end } = await pair();
    const memory = MemoryObject.create({ size: PAGE });
    await client.dma.map(memory, { address: 0 });
    memory.revokeSync(); // the range is taken away a turn later
    expect(await code(device.dma.read(0, bytes(4)))).toMatch(/^(ERR_BACKING_FAULT|ERR_MAPPING_REVOKED|EFAULT|ENODEV)$/);
    await until('it is taken away', () => device.dma.ranges.length === 0);
    await end();
  });

  test('is out of reach while bus mastering is off, once a driver has written the command register', async () => {
    const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
    const server = serve(device, { path: socket() });
    const client = sharePeer();
    await client.do('connect', { path: server.path });
    await client.do('giveMemory', { size: PAGE, options: { address: 0 } });
    await device.dma.write(0, bytes(1)); // a program without a PCI driver
    await client.do('mapRegion', { region: 'config' });
    await client.do('write32', { offset: 4, value: 0x2 });
    expect(await code(device.dma.write(0, bytes(1)))).toBe('EACCES');
    expect(() => device.dma.writeSync(0, bytes(1))).toThrow(expect.objectContaining({ code: 'EACCES' }));
    await client.do('write32', { offset: 4, value: 0x6 });
    await device.dma.write(0, bytes(1));
    expect(await client.end()).toEqual({ status: 0, signal: null, stderr: '' });
    await device.unplug();
    await server.closed;
  });

  test('of two clients does not overlap, and is each its own to take away', async () => {
    const { device, server, client, end } = await pair();
    const other = await connect(server.path);
    const memory = MemoryObject.create({ size: PAGE });
    const range = await client.dma.map(memory, { address: 0 });
    expect(await code(other.dma.map(memory, { address: 0 }))).toBe('EEXIST');
    const second: DmaRange = await other.dma.map(memory, { address: PAGE });
    await range.unmap();
    expect(device.dma.ranges.map(({ address }) => address)).toEqual([PAGE]);
    await second.unmap();
    await end();
  });

  test('of a reader is refused', async () => {
    const device = new Device({ name: 'card', regions: [{ size: PAGE }] });
    const server = serve(device, { path: socket(), access: 'r' });
    const client = await connect(server.path);
    expect(await code(client.dma.map(MemoryObject.create({ size: PAGE }), { address: 0 }))).toBe('EACCES');
    await device.unplug();
    await server.closed;
  });

  test('has the layout of the specification', () => {
    const map = wire.encodeDmaMap({
      offset: 0x1000,
      address: 0x1_0000_2000,
      size: 0x3000,
      readable: true,
      writable: true,
      mmap: false,
    });
    const words = (body: Uint8Array): number[] => [...new Uint32Array(body.slice().buffer)];
    expect(words(map)).toEqual([32, 3, 0x1000, 0, 0x2000, 1, 0x3000, 0]);
    expect(words(wire.encodeDmaUnmap({ address: 0x2000, size: 0x3000, all: false }))).toEqual([24, 0, 0x2000, 0, 0x3000, 0]);
    expect(words(wire.encodeDmaUnmap({ address: 0, size: 0, all: true }))).toEqual([24, 2, 0, 0, 0, 0]);
    expect(words(wire.encodeDmaTransfer({ address: 0x2000, count: 4, data: bytes(4) }))).toEqual([0x2000, 0, 4, 0, 0x04030201]);
  });
});
