import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { connect as connectSocket, type Socket } from 'node:net';
import { join } from 'node:path';
import { MemoryObject } from 'revocable-mmap';
import { connectMemory, serve, serveMemory, type Server } from 'revocable-mmap/share';
import { Device } from 'revocable-mmap/device';
import { encodeVersion } from '../../src/share/version.js';
import * as wire from '../../src/share/wire.js';
import { openDescriptors, openedSince } from '../support/descriptors.js';
import { temporaryDirectory } from '../support/temporary.js';
import { until, within } from '../support/until.js';

/** The addon itself: Node's own sockets send no descriptors. */
const { native } = require('../../dist/native/load.js') as typeof import('../../src/native/load.js');

const { COMMANDS, encode } = wire;
const version = encode(
  { id: 1, command: COMMANDS.version },
  encodeVersion({ major: 0, minor: 0, maxDescriptors: 1, maxData: 1 << 20, writeMultiple: false, own: undefined }),
);
const socket = (): string => join(temporaryDirectory(), 'memory.sock');

/** What became of connections that were refused, or that broke the protocol later. */
function endings(server: Server): string[] {
  const codes: string[] = [];
  server.on('refused', (error) => codes.push((error as Error & { code: string }).code));
  server.on('disconnect', (_, error) => error !== undefined && codes.push(error.code));
  return codes;
}

/** Sends, and resolves when the server has ended the connection. */
async function sentAndDropped(path: string, ...parts: Uint8Array[]): Promise<void> {
  const peer = connectSocket(path);
  const closed = new Promise((resolve) => peer.on('close', resolve));
  peer.on('error', () => undefined).resume();
  for (const part of parts) peer.write(part);
  await within('the server drops the connection', closed);
}

function announced(command: number, size: number): Uint8Array {
  const bytes = encode({ id: 2, command });
  wire.viewOf(bytes).setUint32(4, size, true);
  return bytes;
}

/** A socket of the addon's, that has been let in or not. */
function rawPeer(path: string): number {
  const id = native.socketConnect(Buffer.from(path));
  if (typeof id !== 'number') throw new Error(`errno ${id.errno}`);
  return id;
}

describe('peers that do not keep to the protocol', () => {
  let memory: MemoryObject;
  let server: Server;
  let codes: string[];
  beforeEach(() => {
    memory = MemoryObject.create({ size: 4096 });
    server = serveMemory(memory, { path: socket(), timeout: 200 });
    codes = endings(server);
  });
  afterEach(async () => {
    // Whatever the peer did, others are served.
    (await connectMemory(server.path)).close();
    await memory.revoke();
    await server.closed;
  });

  test.each<[string, Uint8Array[]]>([
    ['noise', [Buffer.alloc(64, 0x5a)]],
    ['a message shorter than its header', [announced(COMMANDS.version, 15)]],
    ['a message of 4 GiB', [announced(COMMANDS.version, 0xffff_ffff)]],
    ['a long version', [announced(COMMANDS.version, 100_000)]],
    ['another command first', [encode({ id: 1, command: COMMANDS.deviceInfo }, new Uint8Array(16))]],
    ['a version of another kind', [encode({ id: 1, command: COMMANDS.version }, new Uint8Array([1, 0, 0, 0]))]],
    ['capabilities that are none', [encode({ id: 1, command: COMMANDS.version }, Buffer.from('\0\0\0\0nonsense'))]],
    ['a reply', [encode({ id: 1, command: COMMANDS.version, reply: true })]],
    ['its version twice', [version, version]],
    ['a message that is too long, once let in', [version, announced(COMMANDS.regionWrite, (1 << 20) + 4096)]],
    ['a reply, once let in', [version, encode({ id: 1, command: COMMANDS.deviceInfo, reply: true })]],
  ])('%s ends the connection', async (_, parts) => {
    await sentAndDropped(server.path, ...parts);
    await until('it is said', () => codes.length === 1);
    expect(codes).toEqual(['ERR_SHARE_PROTOCOL']);
  });

  test.each<[string, Uint8Array[]]>([
    ['nothing', []],
    ['half a header', [version.subarray(0, 7)]],
    ['half a version', [version.subarray(0, 30)]],
    [
      'half a message, once let in',
      [version, encode({ id: 2, command: COMMANDS.deviceInfo }, new Uint8Array(16)).subarray(0, 20)],
    ],
  ])('a peer that sends %s and then keeps silent is not waited for', async (_, parts) => {
    await sentAndDropped(server.path, ...parts);
    await until('it is said', () => codes.length === 1);
    expect(codes).toEqual(['ERR_SHARE_TIMEOUT']);
  });

  test('what is asked wrongly is answered with an error, and the connection goes on', async () => {
    const peer = connectSocket(server.path);
    const replies = readReplies(peer);
    peer.write(version);
    const asked: [number, Uint8Array][] = [
      [COMMANDS.deviceInfo, new Uint8Array(3)],
      [COMMANDS.deviceInfo, new Uint8Array(16)],
      [COMMANDS.regionInfo, wire.encodeRegionInfo({ index: 1, flags: 0, size: 0, offset: 0 })],
      [COMMANDS.regionRead, new Uint8Array(16)],
      [COMMANDS.dmaMap, new Uint8Array(32)],
      [14, new Uint8Array(0)],
      [0xffff, new Uint8Array(5)],
      [COMMANDS.deviceInfo, wire.encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })],
    ];
    asked.forEach(([command, body], i) => peer.write(encode({ id: 10 + i, command }, body)));
    await until('all is answered', () => replies.length === asked.length + 1);
    expect(replies.slice(1).map(({ errno }) => errno)).toEqual([22, 22, 22, 95, 95, 95, 95, 0]);
    expect(replies.slice(1).map(({ id }) => id)).toEqual(asked.map((_, i) => 10 + i));
    peer.destroy();
  });

  test('a command that wants no reply gets none', async () => {
    const peer = connectSocket(server.path);
    const replies = readReplies(peer);
    peer.write(version);
    const body = wire.encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 });
    peer.write(encode({ id: 2, command: COMMANDS.deviceInfo, noReply: true }, body));
    peer.write(encode({ id: 3, command: 99, noReply: true }));
    peer.write(encode({ id: 4, command: COMMANDS.deviceInfo }, body));
    await until('the last is answered', () => replies.some(({ id }) => id === 4));
    expect(replies.map(({ id }) => id)).toEqual([1, 4]);
    peer.destroy();
  });

  test('descriptors where none belong, and by the hundred, are closed, and end the connection', async () => {
    const before = openDescriptors();
    const junk = Int32Array.from({ length: 64 }, () => memory.fd);
    const cases: [what: string, send: (peer: number) => void][] = [
      ['with the version', (peer) => native.socketSend(peer, version, junk.subarray(0, 1))],
      ['64 with a part of a header', (peer) => native.socketSend(peer, version.subarray(0, 8), junk)],
      [
        'more than 64 with one message',
        (peer) => {
          for (let at = 0; at < 6; at++) native.socketSend(peer, version.subarray(at, at + 1), junk);
        },
      ],
      [
        'with a command that has none',
        (peer) => {
          native.socketSend(peer, version, junk.subarray(0, 0));
          native.socketSend(peer, encode({ id: 2, command: COMMANDS.deviceInfo }, new Uint8Array(16)), junk);
        },
      ],
    ];
    for (const [what, send] of cases) {
      const peer = rawPeer(server.path);
      send(peer);
      const known = codes.length;
      await until(`${what}: the server drops it`, () => codes.length > known);
      native.socketClose(peer);
    }
    await until('all are closed', () => openedSince(before).length === 0);
    expect(codes.filter((code) => code === 'ERR_SHARE_PROTOCOL').length).toBeGreaterThanOrEqual(3);
  });

  test('a peer that floods, and does not read, is not read from: others are served, memory stays', async () => {
    const peer = connectSocket(server.path).on('error', () => undefined);
    peer.pause();
    peer.write(version);
    const one = encode({ id: 2, command: COMMANDS.deviceInfo }, wire.encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 }));
    const many = Buffer.concat(Array.from({ length: 4000 }, () => one));
    const before = process.memoryUsage().arrayBuffers;
    let blocked = false;
    for (let i = 0; i < 40 && !blocked; i++) {
      blocked = !peer.write(many);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(blocked).toBe(true);
    for (let i = 0; i < 5; i++) (await connectMemory(server.path)).close();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 << 20);
    expect(server.clients.size).toBeGreaterThanOrEqual(1);
    peer.destroy();
    await until('it has gone', () => server.clients.size === 0);
  });

  test('many half-open connections do not outlive their time', async () => {
    const peers = Array.from({ length: 100 }, () => connectSocket(server.path).on('error', () => undefined));
    const closed = peers.map((peer) => new Promise((resolve) => peer.resume().on('close', resolve)));
    await within('all are dropped', Promise.all(closed), 20_000);
    await until('all are said', () => codes.length === 100);
  });
});

test('a client that does not acknowledge the end is reported, and not waited for any longer', async () => {
  const memory = MemoryObject.create({ size: 4096 });
  const server = serveMemory(memory, { path: socket(), timeout: 100 });
  const peer = connectSocket({ path: server.path, allowHalfOpen: true }).on('error', () => undefined);
  const replies = readReplies(peer);
  peer.write(version);
  peer.write(encode({ id: 2, command: COMMANDS.deviceInfo }, wire.encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })));
  await until('it is let in', () => replies.length === 2);
  const other = await connectMemory(server.path);
  await memory.revoke();
  const me = { pid: process.pid, uid: process.getuid!(), gid: process.getgid!() };
  expect(await within('the report', server.closed)).toEqual({ path: server.path, clients: 2, acknowledged: 1, late: [me] });
  expect(other.state).toBe('revoked');
  peer.destroy();
});

describe('clients of a device that do not keep to the protocol', () => {
  test('are answered with an error, byte for byte of a command of each kind', async () => {
    const device = new Device({
      name: 'card',
      regions: [{ size: 4096, kind: 'registers' }, { size: 4096 }],
      ops: { readRegister: () => 5, writeRegister: () => undefined },
    });
    const server = serve(device, { path: socket(), vectors: 2 });
    const peer = connectSocket(server.path);
    const replies = readReplies(peer);
    peer.write(version);
    const access = (region: number, offset: number, count: number, data = new Uint8Array(0)): Uint8Array =>
      wire.encodeAccess({ region, offset, count, data });
    const set = (index: number, start: number, count: number, data: 'none' | 'eventfd'): Uint8Array =>
      wire.encodeIrqSet({ index, start, count, data, action: 'trigger', chosen: new Uint8Array(0) });
    const dma = (map: Partial<wire.DmaMap>): Uint8Array =>
      wire.encodeDmaMap({ offset: 0, address: 0, size: 4096, readable: true, writable: true, mmap: false, ...map });
    const asked: [command: number, body: Uint8Array, errno: number][] = [
      [COMMANDS.regionRead, access(0, 4, 4), 0],
      [COMMANDS.regionRead, access(0, 4, 3), 22],
      [COMMANDS.regionRead, access(0, 2, 4), 22],
      [COMMANDS.regionRead, access(0, 4096, 4), 22],
      [COMMANDS.regionRead, access(5, 0, 4), 22],
      [COMMANDS.regionRead, access(8, 0, 4), 22],
      [COMMANDS.regionRead, access(1, 0, 4096), 0],
      [COMMANDS.regionRead, access(1, 1, 4096), 22],
      [COMMANDS.regionRead, access(7, 0, 256), 0],
      [COMMANDS.regionRead, access(7, 1, 256), 22],
      [COMMANDS.regionWrite, access(1, 0, 4, new Uint8Array(4)), 0],
      [COMMANDS.regionWrite, access(1, 0, 4, new Uint8Array(3)), 22],
      [COMMANDS.regionWriteMulti, wire.encodeWrites([{ region: 1, offset: 8, count: 2, data: new Uint8Array([1, 2]) }]), 0],
      [COMMANDS.regionWriteMulti, new Uint8Array(8), 22],
      [COMMANDS.irqInfo, wire.encodeIrqInfo({ index: 2, flags: 0, count: 0 }), 0],
      [COMMANDS.irqInfo, wire.encodeIrqInfo({ index: 5, flags: 0, count: 0 }), 22],
      [COMMANDS.setIrqs, set(2, 0, 2, 'eventfd'), 0],
      [COMMANDS.setIrqs, set(2, 1, 2, 'eventfd'), 22],
      [COMMANDS.setIrqs, set(2, 0xffff_ffff, 1, 'none'), 22],
      [COMMANDS.setIrqs, set(1, 0, 1, 'none'), 22],
      [COMMANDS.setIrqs, set(2, 0, 0, 'none'), 0],
      [COMMANDS.reset, new Uint8Array(0), 0],
      [COMMANDS.dmaMap, dma({}), 0], // without a descriptor
      [COMMANDS.dmaMap, dma({}), 17],
      [COMMANDS.dmaMap, dma({ address: 8192, size: 100 }), 22],
      [COMMANDS.dmaMap, dma({ address: 8193 }), 22],
      [COMMANDS.dmaMap, dma({ address: 8192, mmap: true }), 22],
      [COMMANDS.dmaMap, dma({ address: 8192, readable: false, writable: false }), 22],
      [COMMANDS.dmaMap, dma({ address: 8192 }).subarray(0, 31), 22],
      [COMMANDS.dmaMap, dma({ address: 8192 }).fill(0xff, 4, 8), 22],
      [COMMANDS.dmaMap, dma({ address: 8192 }).fill(0xff, 16, 24), 22],
      [COMMANDS.dmaUnmap, wire.encodeDmaUnmap({ address: 0, size: 8192, all: false }), 2],
      [COMMANDS.dmaUnmap, wire.encodeDmaUnmap({ address: 4096, size: 4096, all: true }), 22],
      [COMMANDS.dmaUnmap, wire.encodeDmaUnmap({ address: 0, size: 4096, all: false }), 0],
      [COMMANDS.dmaUnmap, wire.encodeDmaUnmap({ address: 0, size: 4096, all: false }), 2],
      [COMMANDS.dmaUnmap, wire.encodeDmaUnmap({ address: 0, size: 0, all: true }), 0],
      [COMMANDS.dmaUnmap, wire.encodeDmaUnmap({ address: 0, size: 0, all: false }).fill(1, 4, 5), 95],
    ];
    asked.forEach(([command, body], i) => peer.write(encode({ id: 10 + i, command }, body)));
    await until('all is answered', () => replies.length === asked.length + 1);
    expect(replies.slice(1).map(({ errno }, i) => [i, errno])).toEqual(asked.map(([, , errno], i) => [i, errno]));
    expect(device.regions[1].memory.read16(8)).toBe(0x0201);
    peer.destroy();
    await device.unplug();
    await server.closed;
  });

  test('an interrupt descriptor that is no eventfd is refused, and closed', async () => {
    const device = new Device({ name: 'card', regions: [{ size: 4096 }] });
    const server = serve(device, { path: socket() });
    const before = openDescriptors();
    const peer = rawPeer(server.path);
    native.socketSend(peer, version, new Int32Array(0));
    const set = wire.encodeIrqSet({
      index: 2,
      start: 0,
      count: 1,
      data: 'eventfd',
      action: 'trigger',
      chosen: new Uint8Array(0),
    });
    native.socketSend(peer, encode({ id: 2, command: COMMANDS.setIrqs }, set), Int32Array.of(device.regions[0].object.fd));
    await until('it is let in', () => server.clients.size === 1);
    device.raise(0);
    native.socketClose(peer);
    await until('all are closed', () => openedSince(before).length === 0);
    await device.unplug();
    await server.closed;
  });
});

describe('clients that give memory to a device', () => {
  let device: Device;
  let server: Server;
  beforeEach(() => {
    device = new Device({ name: 'card', regions: [{ size: 4096 }] });
    server = serve(device, { path: socket(), timeout: 300 });
  });
  afterEach(async () => {
    await device.unplug();
    await server.closed;
  });
  const map = (change: Partial<wire.DmaMap> = {}): Uint8Array => {
    const whole = { offset: 0, address: 0, size: 4096, readable: true, writable: true, mmap: false };
    return encode({ id: 2, command: COMMANDS.dmaMap }, wire.encodeDmaMap({ ...whole, ...change }));
  };

  test('what cannot be mapped is refused, and closed; what is read only is not written', async () => {
    const [read, write] = pipe();
    const reader = openSync('/proc/self/exe', 'r');
    const before = openDescriptors();
    const peer = rawPeer(server.path);
    native.socketSend(peer, version, new Int32Array(0));
    native.socketSend(peer, map(), Int32Array.of(read));
    native.socketSend(peer, map({ address: 4096 }), Int32Array.of(reader)); // may not be written
    native.socketSend(peer, map({ address: 8192 }), Int32Array.of(reader, reader));
    native.socketSend(peer, map({ address: 12288, writable: false }), Int32Array.of(reader));
    await until('the last is mapped', () => device.dma.ranges.length > 0);
    expect(device.dma.ranges.map(({ address, access }) => [address, access])).toEqual([[12288, 'r']]);
    const magic = new Uint8Array(4);
    device.dma.readSync(12288, magic);
    expect(Buffer.from(magic).toString('latin1')).toBe('\x7fELF');
    expect(() => device.dma.writeSync(12288, magic)).toThrow(expect.objectContaining({ code: 'EACCES' }));
    native.socketClose(peer);
    await until('all are closed', () => openedSince(before).length === 0);
    [read, write, reader].forEach((fd) => closeSync(fd));
  });

  test('who gives more than 512 ranges is refused the rest', async () => {
    const peer = connectSocket(server.path);
    const replies = readReplies(peer);
    peer.write(version);
    for (let i = 0; i < 514; i++) peer.write(map({ address: i * 4096 }));
    await until('all is answered', () => replies.length === 515);
    expect(replies.filter(({ errno }) => errno === 28)).toHaveLength(2);
    expect(device.dma.ranges).toHaveLength(512);
    peer.destroy();
    await until('all are gone', () => device.dma.ranges.length === 0);
  });

  test.each<[string, (message: wire.Header, bytes: Buffer) => Uint8Array | undefined, string]>([
    ['does not answer', () => undefined, 'ERR_SHARE_TIMEOUT'],
    ['answers with an error', ({ id, command }) => encode({ id, command, reply: true, errno: 5 }), 'EIO'],
    ['answers with too little', ({ id, command }) => encode({ id, command, reply: true }), 'ERR_SHARE_PROTOCOL'],
    [
      'answers for another place',
      ({ id, command }) =>
        encode({ id, command, reply: true }, wire.encodeDmaTransfer({ address: 8, count: 4, data: new Uint8Array(4) })),
      'ERR_SHARE_PROTOCOL',
    ],
    ['answers another command', ({ id }) => encode({ id, command: COMMANDS.dmaWrite, reply: true }), 'EFAULT'],
    ['answers twice', ({ id, command }) => Buffer.concat([ok(id, command), ok(id, command)]), '|EFAULT'],
  ])('a client that %s when it is asked for its memory fails that access, and no more', async (_, answer, code) => {
    const peer = connectSocket(server.path).on('error', () => undefined);
    peer.write(version);
    peer.write(map());
    let bytes = Buffer.alloc(0);
    peer.on('data', (more) => {
      for (bytes = Buffer.concat([bytes, more]); bytes.byteLength >= 16 && bytes.byteLength >= bytes.readUInt32LE(4);) {
        const message = wire.decodeHeader(bytes.subarray(0, 16));
        const answered = message.command === COMMANDS.dmaRead ? answer(message, bytes) : undefined;
        if (answered !== undefined) peer.write(answered);
        bytes = bytes.subarray(bytes.readUInt32LE(4));
      }
    });
    await until('it is mapped', () => device.dma.ranges.length === 1);
    const target = new Uint8Array(4);
    const failed = await within(
      'the access ends',
      device.dma.read(0, target).then(
        () => '',
        (error: unknown) => (error as { code: string }).code,
      ),
    );
    expect(code.split('|')).toContain(failed);
    peer.destroy();
    await until('it is gone', () => server.clients.size === 0);
  });
});

const ok = (id: number, command: number): Uint8Array =>
  encode({ id, command, reply: true }, wire.encodeDmaTransfer({ address: 0, count: 4, data: new Uint8Array(4) }));

/** Both ends of a pipe, which cannot be mapped. */
function pipe(): [number, number] {
  const path = join(temporaryDirectory(), 'pipe');
  execFileSync('mkfifo', [path]);
  const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return [read, openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)];
}

function readReplies(peer: Socket): wire.Header[] {
  const replies: wire.Header[] = [];
  let bytes = Buffer.alloc(0);
  peer
    .on('error', () => undefined)
    .on('data', (more) => {
      bytes = Buffer.concat([bytes, more]);
      while (bytes.byteLength >= wire.HEADER_BYTES && bytes.byteLength >= bytes.readUInt32LE(4)) {
        replies.push(wire.decodeHeader(bytes.subarray(0, wire.HEADER_BYTES)));
        bytes = bytes.subarray(bytes.readUInt32LE(4));
      }
    });
  return replies;
}
