import { join } from 'node:path';
import { Device } from 'revocable-mmap';
import { connect, connectMemory, list, serve, serveMemory } from 'revocable-mmap/share';
import { rounds } from '../support/rounds.js';
import { refusal, sharePeer, type SharePeer } from '../support/share-peer.js';
import { temporaryDirectory } from '../support/temporary.js';
import { until } from '../support/until.js';

const socket = (): string => join(temporaryDirectory(), 'card.sock');
const QUIET = { status: 0, signal: null, stderr: '' };
const REVOKED = { code: 'ERR_MAPPING_REVOKED', cause: { code: 'ERR_SHARE_DISCONNECTED' } };

async function served(path: string, options: object = {}): Promise<SharePeer> {
  const server = sharePeer();
  await server.do('serveDevice', { options: { path, ...options } });
  return server;
}

async function clientOf(path: string, region = 'frames'): Promise<SharePeer> {
  const client = sharePeer();
  await client.do('connect', { path });
  await client.do('mapRegion', { region });
  return client;
}

/** So many events of the server: ops that end a client's use come on turns after the one in which it has gone. */
async function eventsOf(server: SharePeer, count: number): Promise<string[]> {
  const events: string[] = [];
  await until(`${count} events`, async () => events.push(...(await server.do<string[]>('events'))) >= count);
  return events.sort();
}

describe('serve and connect', () => {
  test('a client has the regions by name, memory by its descriptor, registers by messages', async () => {
    const path = socket();
    const server = await served(path);
    const client = sharePeer();
    expect(await client.do('connect', { path })).toEqual({
      name: 'card0',
      regions: [
        { name: 'control', kind: 'registers', size: 4096 },
        { name: 'frames', kind: 'memory', size: 16384 },
        { name: 'config', kind: 'registers', size: 256 },
      ],
    });
    expect(await client.do('mapRegion', { region: 'frames' })).toBe('rw');
    expect(await client.do('read32', { offset: 0 })).toBe(0xfeed);
    await client.do('mapRegion', { region: 'control' });
    await client.do('write32', { offset: 8, value: 77 });
    expect(await client.do('read32', { offset: 8 })).toBe(77);
    await client.do('mapRegion', { region: 'config' });
    expect(await client.do('read32', { offset: 0 })).toBe(0x1de7_1234);
    expect(await eventsOf(server, 4)).toEqual([`connect ${client.pid}`, 'mmap 0 rw', 'mmap 1 rw', 'open']);
    expect(await client.end()).toEqual(QUIET);
    await until('the server has noticed', async () => (await server.do('clients')) === 0);
    expect(await eventsOf(server, 4)).toEqual(['close 0', 'close 1', `disconnect ${client.pid}`, 'release']);
    expect(await server.end()).toEqual(QUIET);
  });

  test('a BAR says its size as PCI has it: ones written, the size read', async () => {
    const path = socket();
    const server = await served(path);
    const client = await clientOf(path, 'config');
    await client.do('write32', { offset: 0x14, value: 0xffff_ffff });
    expect(await client.do('read32', { offset: 0x14 })).toBe(-16384 >>> 0);
    await client.do('write32', { offset: 0, value: 0 });
    expect(await client.do('read32', { offset: 0 })).toBe(0x1de7_1234);
    await server.end();
  });

  test('interrupts come to every client, in number and by vector', async () => {
    const path = socket();
    const server = await served(path, { vectors: 70 });
    const clients = await Promise.all([clientOf(path), clientOf(path)]);
    for (const client of clients) await client.begin('interrupts', { count: 3 });
    await server.do('raise', { vector: 0 });
    await server.do('raise', { vector: 69 });
    await server.do('raise', { vector: 70 }); // no client has it
    await server.do('raise', { vector: 3 });
    for (const client of clients) expect((await client.outcome<number[]>()).sort()).toEqual([0, 3, 69]);
  });

  test('a register write that raises an interrupt does so across processes', async () => {
    const path = socket();
    await served(path);
    const client = sharePeer();
    await client.do('connect', { path });
    await client.do('mapRegion', { region: 'control' });
    await client.begin('interrupts', { count: 1 });
    const other = await clientOf(path, 'control');
    await other.do('write32', { offset: 0xf0, value: 5 });
    expect(await client.outcome()).toEqual([5]);
  });

  test('unplug reaches every client: typed errors, close and release once each, an exact report', async () => {
    const path = socket();
    const server = await served(path);
    const clients = await Promise.all(Array.from({ length: 4 }, () => clientOf(path)));
    await clients[0].begin('spin', { offset: 0, limit: 30_000 });
    await server.do('events');
    const { report, served: ended } = await server.do<{ report: object; served: object }>('unplug');
    expect(report).toMatchObject({ removedByThisCall: true, files: 4, abandonedOps: 0 });
    expect(ended).toEqual({ path, clients: 4, acknowledged: 4, late: [] });
    expect(await refusal(clients[0].outcome())).toMatchObject(REVOKED);
    for (const client of clients) {
      expect(await refusal(client.do('read32', { offset: 0 }))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      await until('it is removed', async () => (await client.do<{ device: string }>('state')).device === 'removed');
      expect(await client.end()).toEqual(QUIET);
    }
    const events = await server.do<string[]>('events');
    expect(events.filter((event) => event === 'release')).toHaveLength(4);
    expect(events.filter((event) => event === 'close 1')).toHaveLength(4);
    expect(await server.end()).toEqual(QUIET);
  });

  test('kill -9 of the server: registers and memory throw the typed error, promptly, also in a busy thread', async () => {
    const path = socket();
    const server = await served(path);
    const memory = await clientOf(path);
    const registers = await clientOf(path, 'control');
    await memory.begin('spin', { offset: 0, limit: 30_000 });
    await registers.begin('spin', { offset: 8, limit: 30_000 });
    await server.kill();
    expect(await refusal(memory.outcome())).toMatchObject(REVOKED);
    expect(await refusal(registers.outcome())).toMatchObject(REVOKED);
    for (const client of [memory, registers]) {
      await until('it is removed', async () => (await client.do<{ device: string }>('state')).device === 'removed');
      expect(await client.end()).toEqual(QUIET);
    }
  });

  test('kill -9 of a client releases what it held, once', async () => {
    const path = socket();
    const server = await served(path);
    const before = await server.do('descriptors');
    const client = await clientOf(path);
    expect(await eventsOf(server, 3)).toEqual([`connect ${client.pid}`, 'mmap 1 rw', 'open']);
    await client.kill();
    await until('the server has noticed', async () => (await server.do('clients')) === 0);
    expect(await eventsOf(server, 3)).toEqual(['close 1', `disconnect ${client.pid}`, 'release']);
    expect(await server.do('descriptors')).toBe(before);
  });

  test('a client that unplugs leaves the served device as it is', async () => {
    const path = socket();
    const server = await served(path);
    const client = await clientOf(path);
    expect(await client.do('unplugHere')).toBe(true);
    await until('the server has noticed', async () => (await server.do('clients')) === 0);
    const again = await clientOf(path);
    expect(await again.do('read32', { offset: 0 })).toBe(0xfeed);
  });

  test('reset suspends and resumes the device, and a client that may only read cannot', async () => {
    const path = socket();
    const server = await served(path);
    const client = await clientOf(path);
    await client.do('reset');
    expect(await client.do('read32', { offset: 0 })).toBe(0xfeed);
    await server.end();
    const readers = socket();
    await served(readers, { access: 'r' });
    const reader = sharePeer();
    await reader.do('connect', { path: readers });
    expect(await refusal(reader.do('reset'))).toMatchObject({ code: 'EACCES' });
    await reader.do('mapRegion', { region: 'control' });
    expect(await refusal(reader.do('write32', { offset: 0, value: 1 }))).toMatchObject({ code: 'EACCES' });
    expect(await reader.do('read32', { offset: 0 })).toBe(0);
    expect(await refusal(reader.do('mapRegion', { region: 'frames' }))).toMatchObject({
      code: expect.stringMatching(/EACCES|ERR_/),
    });
  });

  test('canaries: no generation of a device is read after its removal', async () => {
    const path = socket();
    for (let generation = 1; generation <= rounds(10); generation++) {
      const device = new Device({ name: 'ram', regions: [{ size: 4096 }] });
      device.regions[0].memory.write32(0, generation);
      const server = serve(device, { path });
      const client = await connect(path);
      const mapping = client.open().map();
      expect(mapping.read32(0)).toBe(generation);
      await device.unplug();
      expect(() => mapping.read32(0)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
      expect(await server.closed).toMatchObject({ clients: 1, acknowledged: 1 });
    }
  });

  test('a register of a device that this thread serves is an error, not a deadlock', async () => {
    const device = new Device({
      name: 'card',
      regions: [{ size: 4096, kind: 'registers' }],
      ops: { readRegister: () => 1, writeRegister: () => undefined },
    });
    const server = serve(device, { path: socket() });
    const client = await connect(server.path);
    const mapping = client.open().map();
    expect(() => mapping.read32(0)).toThrow(expect.objectContaining({ code: 'EDEADLK' }));
    await device.unplug();
    await server.closed;
  });

  test('what an op throws is answered by its errno', async () => {
    const path = socket();
    await served(path);
    const client = await clientOf(path, 'control');
    expect(await refusal(client.do('read32', { offset: 2 }))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
  });

  test('connect and connectMemory say which of them it is', async () => {
    const folder = temporaryDirectory();
    const device = new Device({ name: 'ram', regions: [{ size: 4096 }] });
    const one = serve(device, { path: join(folder, 'device.sock') });
    await using two = serveMemory(device.regions[0].object, { path: join(folder, 'memory.sock') });
    await expect(connectMemory(one.path)).rejects.toMatchObject({ code: 'ERR_SHARE_REFUSED' });
    await expect(connect(two.path)).rejects.toMatchObject({ code: 'ERR_SHARE_REFUSED' });
    expect(await list(folder)).toEqual([
      { path: one.path, kind: 'device', name: 'ram' },
      { path: two.path, kind: 'memory', name: 'ram/0' },
    ]);
    await device.unplug();
    await one.closed;
  });

  test.each<[string, () => unknown, object]>([
    ['a device that is none', () => serve({} as Device, { path: 'x' }), { code: 'ERR_INVALID_ARG_TYPE' }],
    [
      'a device with seven regions',
      () => serve(new Device({ name: 'p', regions: Array.from({ length: 7 }, () => ({ size: 1 })) }), { path: 'x' }),
      { code: 'ERR_INVALID_ARG_VALUE' },
    ],
    [
      'vectors',
      () => serve(new Device({ name: 'p', regions: [{ size: 1 }] }), { path: 'x', vectors: 257 }),
      { code: 'ERR_OUT_OF_RANGE' },
    ],
  ])('%s that cannot be served is refused', (_, call, error) => {
    expect(call).toThrow(expect.objectContaining(error));
  });

  test('a device that is being removed is refused with ENODEV', async () => {
    const device = new Device({ name: 'p', regions: [{ size: 1 }] });
    await device.unplug();
    expect(() => serve(device, { path: socket() })).toThrow(expect.objectContaining({ code: 'ENODEV' }));
  });
});
