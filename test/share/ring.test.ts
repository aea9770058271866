import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Device, MemoryObject, type Mapping } from 'revocable-mmap';
import { Ring, type RingOptions } from 'revocable-mmap/share';
import { rounds } from '../support/rounds.js';
import { refusal, sharePeer, type SharePeer } from '../support/share-peer.js';
import { syncPeer } from '../support/sync-peer.js';
import { temporaryDirectory } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';

const SIZE = 65536;
const REVOKED = { code: 'ERR_MAPPING_REVOKED' };
const slotsOf = (...values: number[]): Uint8Array => new Uint8Array(values.flatMap((value) => Array<number>(8).fill(value)));

function mapped(size = SIZE): Mapping {
  return MemoryObject.create({ size, name: 'ring' }).map();
}

function ringOf(slots: number): Ring {
  return Ring.create(mapped(), { slotSize: 8, slots });
}

describe('Ring', () => {
  test('slots come out as they went in, also over the end of the ring', () => {
    const ring = ringOf(4);
    const target = new Uint8Array(4 * 8);
    for (let round = 0; round < 20; round++) {
      expect(ring.push(slotsOf(round, round + 1, round + 2))).toBe(3);
      expect(ring.length).toBe(3);
      expect(ring.pull(target)).toBe(3);
      expect([...target.subarray(0, 24)]).toEqual([...slotsOf(round, round + 1, round + 2)]);
    }
    expect(ring.pull(target)).toBe(0);
  });

  test('a full ring takes what it has room for', () => {
    const ring = ringOf(4);
    expect(ring.push(slotsOf(1, 2, 3, 4, 5, 6))).toBe(4);
    expect(ring.push(slotsOf(5))).toBe(0);
    const target = new Uint8Array(8);
    expect(ring.pull(target)).toBe(1);
    expect(target[0]).toBe(1);
    expect(ring.push(slotsOf(5, 6))).toBe(1);
  });

  test('the positions count on beyond 2^32', () => {
    const mapping = mapped();
    const ring = Ring.create(mapping, { slotSize: 8, slots: 4 });
    for (const at of [128, 256]) mapping.write32(at, 0xffff_fffe);
    const target = new Uint8Array(3 * 8);
    for (let round = 0; round < 3; round++) {
      expect(ring.push(slotsOf(1, 2, round))).toBe(3);
      expect(ring.pull(target)).toBe(3);
      expect(target[16]).toBe(round);
    }
    expect(mapping.read32(128)).toBe(7);
  });

  test('slots are filled and read in place', () => {
    const ring = ringOf(4);
    const { mapping } = ring;
    ring.push(slotsOf(1, 2, 3));
    ring.release(2);
    const free = ring.reserve();
    expect(free).toEqual({ offset: 384 + 3 * 8, slots: 1 }); // the next one is at the ring's beginning
    mapping.bytes.fill(9, free.offset, free.offset + 8);
    ring.publish(1);
    expect(ring.reserve()).toEqual({ offset: 384, slots: 2 });
    expect(ring.peek()).toEqual({ offset: 384 + 2 * 8, slots: 2 });
    expect(mapping.bytes[ring.peek().offset + 8]).toBe(9);
    expect(thrownBy(() => ring.publish(3))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    expect(thrownBy(() => ring.release(3))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    ring.publish(0);
    ring.release(2);
    expect(ring.peek().slots).toBe(0);
  });

  test('waits end when there is enough, when the time is up, and by their signal', async () => {
    const ring = ringOf(4);
    expect(await ring.waitForData({ timeout: 0 })).toBe(false);
    expect(ring.waitForDataSync({ timeout: 1 })).toBe(false);
    expect(await ring.waitForRoom({ slots: 4 })).toBe(true);
    let come = false;
    const data = ring.waitForData({ slots: 2 }).then((value) => (come = value));
    const first = ring.waitForData();
    ring.push(slotsOf(1));
    expect(await first).toBe(true);
    expect(come).toBe(false);
    ring.push(slotsOf(2));
    expect(await data).toBe(true);
    const reason = new Error('enough');
    const abort = new AbortController();
    const room = ring.waitForRoom({ slots: 4, signal: abort.signal });
    abort.abort(reason);
    await expect(room).rejects.toBe(reason);
    expect(thrownBy(() => ring.waitForRoomSync({ slots: 4, signal: abort.signal }))).toBe(reason);
  });

  test('a revocation is the error of every method, and of those that wait', async () => {
    const ring = ringOf(4);
    ring.push(slotsOf(1, 2));
    const waits = Promise.allSettled([ring.waitForData({ slots: 3 }), ring.waitForRoom({ slots: 4 })]);
    await ring.mapping.object.revoke('pulled');
    for (const wait of await waits) expect(wait).toMatchObject({ status: 'rejected', reason: REVOKED });
    const calls: (() => unknown)[] = [
      () => ring.push(slotsOf(1)),
      () => ring.pull(new Uint8Array(8)),
      () => ring.reserve(),
      () => ring.peek(),
      () => ring.publish(1),
      () => ring.release(1),
      () => ring.length,
      () => ring.waitForDataSync(),
      () => Ring.open(ring.mapping),
    ];
    for (const call of calls) expect(thrownBy(call)).toMatchObject(REVOKED);
    await expect(ring.waitForRoom()).rejects.toMatchObject(REVOKED);
  });

  test('suspended, it throws, and goes on after', async () => {
    const ring = ringOf(4);
    ring.push(slotsOf(1));
    await ring.mapping.object.suspend();
    expect(thrownBy(() => ring.push(slotsOf(2)))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    await ring.mapping.object.resume();
    expect(ring.push(slotsOf(2))).toBe(1);
    const target = new Uint8Array(32);
    expect(ring.pull(target)).toBe(2);
    expect([...target.subarray(0, 16)]).toEqual([...slotsOf(1, 2)]);
  });

  test('what a peer has written over it is found', () => {
    const mapping = mapped();
    const ring = Ring.create(mapping, { slotSize: 8, slots: 4 });
    mapping.write32(128, 5);
    for (const call of [() => ring.push(slotsOf(1)), () => ring.pull(slotsOf(1)), () => ring.length])
      expect(thrownBy(call)).toMatchObject({ code: 'ERR_SHARED_STATE', object: 'ring', offset: 0 });
    for (const [at, value] of [
      [0, 1],
      [4, 0],
      [4, 0xffff_ffff],
      [8, 3],
      [8, 0x8000_0000],
    ] as const) {
      Ring.create(mapping, { slotSize: 8, slots: 4 });
      mapping.write32(at, value);
      expect(thrownBy(() => Ring.open(mapping))).toMatchObject({ code: 'ERR_SHARED_STATE' });
    }
  });

  const shape = { slotSize: 8, slots: 4 };
  test.each<[string, unknown, string]>([
    ['slotSize', { ...shape, slotSize: 0 }, 'ERR_OUT_OF_RANGE'],
    ['slotSize', { ...shape, slotSize: '8' }, 'ERR_INVALID_ARG_TYPE'],
    ['slots', { ...shape, slots: 3 }, 'ERR_INVALID_ARG_VALUE'],
    ['slots', { ...shape, slots: 2 ** 31 }, 'ERR_OUT_OF_RANGE'],
    ['slots', { ...shape, slots: 1.5 }, 'ERR_OUT_OF_RANGE'],
    ['offset', { ...shape, offset: 64 }, 'ERR_OUT_OF_RANGE'],
    ['offset', { ...shape, offset: SIZE - 128 }, 'ERR_OUT_OF_RANGE'],
    ['mapping.length', { ...shape, slots: 2 ** 20 }, 'ERR_OUT_OF_RANGE'],
    ['options', null, 'ERR_INVALID_ARG_TYPE'],
    ['options', undefined, 'ERR_INVALID_ARG_TYPE'],
  ])('I1 %s of %p', (name, options, code) => {
    const error = thrownBy(() => Ring.create(mapped(), options as RingOptions));
    expect(error).toMatchObject({ code, message: expect.stringContaining(name) });
  });

  test('I1 mappings that can hold no ring, and bytes that are no slots', () => {
    const { object } = mapped();
    const device = new Device({ name: 'card', regions: [{ size: 4096, kind: 'registers' }], ops: { readRegister: () => 0 } });
    const mappings: [unknown, string][] = [
      [{}, 'ERR_INVALID_ARG_TYPE'],
      [object.map({ access: 'r' }), 'ERR_MAPPING_READ_ONLY'],
      [object.map({ fill: 'signal' }), 'ERR_INVALID_ARG_VALUE'],
      [device.open().map(), 'ERR_INVALID_ARG_VALUE'],
    ];
    for (const [mapping, code] of mappings)
      expect(thrownBy(() => Ring.create(mapping as Mapping, shape))).toMatchObject({ code });
    const ring = ringOf(4);
    for (const bytes of [new Uint8Array(0), new Uint8Array(9)]) {
      expect(thrownBy(() => ring.push(bytes))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
      expect(thrownBy(() => ring.pull(bytes))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    }
    expect(thrownBy(() => ring.push('text' as never))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    expect(thrownBy(() => ring.waitForDataSync({ slots: 5 }))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    expect(Ring.sizeOf(shape)).toBe(384 + 32);
    return device.unplug();
  });

  test('one thread to another', async () => {
    const ring = Ring.create(mapped(), { slotSize: 64, slots: 64 });
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { Mapping } = require('revocable-mmap');
      const { Ring } = require('revocable-mmap/share');
      const ring = Ring.open(Mapping.attach(workerData.handle));
      const slots = new Uint32Array(16 * 32);
      let next = 0;
      while (next < workerData.count) {
        const pulled = ring.pull(slots);
        for (let i = 0; i < 16 * pulled; i++) if (slots[i] !== next + (i >> 4)) throw new Error('at ' + next);
        next += pulled;
        if (pulled === 0) ring.waitForDataSync();
      }
      parentPort.postMessage(next);`;
    const count = rounds(100_000);
    const worker = new Worker(code, { eval: true, workerData: { handle: ring.mapping.share(), count } });
    const done = new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    const slots = new Uint32Array(16 * 32);
    for (let next = 0; next < count;) {
      const some = slots.subarray(0, 16 * Math.min(32, count - next));
      for (let i = 0; i < some.length; i++) some[i] = next + (i >> 4);
      const pushed = ring.push(some);
      next += pushed;
      if (pushed === 0) await ring.waitForRoom();
    }
    expect(await done).toBe(count);
  });
});

describe('Ring between processes', () => {
  async function served(): Promise<{ path: string; server: SharePeer }> {
    const path = join(temporaryDirectory(), 'ring.sock');
    const server = sharePeer();
    await server.do('serveMemory', { size: SIZE, options: { path } });
    await server.do('createSync');
    return { path, server };
  }
  const count = rounds(20_000);

  test('from one to the other', async () => {
    const { path, server } = await served();
    const client = sharePeer();
    await client.do('connectMemory', { path });
    await client.do('openSync');
    await Promise.all([server.do('feed', { count }), client.do('drain', { count })]);
  });

  test('to a program in C, and from it', async () => {
    const { path, server } = await served();
    for (const [theirs, ours] of [
      ['drain', 'feed'],
      ['feed', 'drain'],
    ] as const) {
      const peer = syncPeer(path, theirs, count);
      expect(await peer.line()).toBe('ready'); // from now on the server's event loop need not turn
      await server.do(ours, { count });
      expect(await peer.ended).toEqual({ status: 0, signal: null });
    }
  });

  test('a removal ends the waits of all of them', async () => {
    const { path, server } = await served();
    const client = sharePeer();
    await client.do('connectMemory', { path });
    await client.do('openSync');
    await client.do('dataBegin');
    const peer = syncPeer(path, 'wait');
    expect(await peer.line()).toBe('ready');
    await server.do('revoke');
    expect(await client.do('waitEnd')).toMatchObject(REVOKED);
    expect(await refusal(client.do('drain', { count: 1 }))).toMatchObject(REVOKED);
    expect(await peer.line()).toBe('wait 19'); // ENODEV
    expect(await peer.ended).toEqual({ status: 3, signal: null });
  });

  test('kill -9 of the server ends the waits of a client', async () => {
    const { path, server } = await served();
    const client = sharePeer();
    await client.do('connectMemory', { path });
    await client.do('openSync');
    await client.do('dataBegin');
    await server.kill();
    expect(await client.do('waitEnd')).toMatchObject(REVOKED);
    await until('the event', async () => (await client.do<string[]>('events')).includes('revoked'));
  });
});
