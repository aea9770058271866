import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { Mutex, serveMemory, type MutexHold } from 'revocable-mmap/share';
import { rounds } from '../support/rounds.js';
import { refusal, sharePeer, type SharePeer } from '../support/share-peer.js';
import { syncPeer } from '../support/sync-peer.js';
import { temporaryDirectory } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';

const REVOKED = { code: 'ERR_MAPPING_REVOKED' };

function mapped(): Mapping {
  return MemoryObject.create({ size: 4096, name: 'state' }).map();
}

/** A thread that does what `body` says with `mutex` and `mapping`, and then says so. */
function thread(mapping: Mapping, body: string): { worker: Worker; said: Promise<unknown> } {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { Mapping } = require('revocable-mmap');
    const { Mutex } = require('revocable-mmap/share');
    const mapping = Mapping.attach(workerData);
    const mutex = Mutex.open(mapping);
    ${body}
    parentPort.postMessage('done');`;
  const worker = new Worker(code, { eval: true, workerData: mapping.share() });
  return { worker, said: new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)) };
}

describe('Mutex', () => {
  test('one holds it at a time, and counts', async () => {
    const mutex = Mutex.create(mapped());
    const first = (await mutex.lock())!;
    expect(first).toMatchObject({ ownerDied: false, generation: 1 });
    expect(mutex.tryLock()).toBeUndefined();
    expect(await mutex.lock({ timeout: 1 })).toBeUndefined();
    const second = mutex.lock();
    first.release();
    first.release();
    expect(await second).toMatchObject({ ownerDied: false, generation: 2 });
    (await second)![Symbol.dispose]();
    expect(mutex.tryLock()).toMatchObject({ generation: 3 });
  });

  test('a thread that blocks for what it holds itself gets EDEADLK', () => {
    const mutex = Mutex.create(mapped());
    const hold = mutex.lockSync()!;
    expect(thrownBy(() => mutex.lockSync())).toMatchObject({ code: 'EDEADLK', syscall: 'futex' });
    hold.release();
    mutex.lockSync()!.release();
  });

  test('a wait ends by its signal', async () => {
    const mutex = Mutex.create(mapped());
    mutex.tryLock();
    const reason = new Error('enough');
    const abort = new AbortController();
    const waiting = mutex.lock({ signal: abort.signal });
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    expect(thrownBy(() => mutex.lockSync({ signal: abort.signal }))).toBe(reason);
  });

  test('a revocation is the error of every method, wakes waiters, and leaves nothing to release', async () => {
    const mutex = Mutex.create(mapped());
    const hold = mutex.tryLock()!;
    const waiting = rejectionOf(mutex.lock()); // from the start: it rejects before the revocation resolves, or after
    await mutex.mapping.object.revoke('pulled');
    expect(await waiting).toMatchObject(REVOKED);
    expect(thrownBy(() => mutex.tryLock())).toMatchObject(REVOKED);
    expect(thrownBy(() => mutex.lockSync())).toMatchObject(REVOKED);
    hold.release();
  });

  test('suspended, it stays locked', async () => {
    const mutex = Mutex.create(mapped());
    const hold = mutex.tryLock()!;
    await mutex.mapping.object.suspend();
    expect(thrownBy(() => hold.release())).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    await mutex.mapping.object.resume();
    expect(mutex.tryLock()).toBeUndefined();
    hold.release();
    expect(mutex.tryLock()).toMatchObject({ ownerDied: false });
  });

  test('what a peer has written over it is found', () => {
    const mapping = mapped();
    const mutex = Mutex.create(mapping, { offset: 64 });
    const hold = mutex.tryLock()!;
    mapping.write32(64, 0);
    expect(thrownBy(() => hold.release())).toMatchObject({ code: 'ERR_SHARED_STATE', offset: 64 });
    expect(thrownBy(() => Mutex.open(mapping))).toMatchObject({ code: 'ERR_SHARED_STATE', object: 'state', offset: 0 });
  });

  test('I1 arguments', () => {
    const mapping = mapped();
    for (const offset of [1, 32, 4096 - 32, -64])
      expect(thrownBy(() => Mutex.create(mapping, { offset }))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    expect(thrownBy(() => Mutex.create({} as Mapping))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    expect(thrownBy(() => Mutex.create(mapping, null as never))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    const reader = mapping.object.map({ access: 'r' });
    expect(thrownBy(() => Mutex.create(reader))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
    expect(thrownBy(() => Mutex.create(mapping).lockSync({ timeout: -1 }))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
  });

  test('threads count to the same number', async () => {
    const mapping = mapped();
    Mutex.create(mapping);
    const count = rounds(3000);
    const body = `for (let i = 0; i < ${count}; i++) {
      const hold = mutex.lockSync();
      mapping.write32(64, mapping.read32(64) + 1);
      hold.release();
    }`;
    await Promise.all([1, 2, 3].map(() => thread(mapping, body).said));
    expect(mapping.read32(64)).toBe(3 * count);
  });

  test('a thread that is terminated is a dead holder to one that waits, and to one that comes then', async () => {
    const mapping = mapped();
    const mutex = Mutex.create(mapping);
    for (const waits of [true, false]) {
      const { worker, said } = thread(mapping, "mutex.lockSync(); parentPort.on('message', () => {});");
      await said;
      expect(mutex.tryLock()).toBeUndefined();
      const waiting = waits ? mutex.lock() : undefined;
      await worker.terminate();
      const hold: MutexHold | undefined = waits ? await waiting : mutex.tryLock();
      expect(hold).toMatchObject({ ownerDied: true });
      hold!.release();
      const next = mutex.tryLock()!;
      expect(next.ownerDied).toBe(false);
      next.release();
    }
  });
});

describe('Mutex between processes', () => {
  async function served(): Promise<{ path: string; server: SharePeer }> {
    const path = join(temporaryDirectory(), 'state.sock');
    const server = sharePeer();
    await server.do('serveMemory', { size: 65536, options: { path } });
    await server.do('createSync');
    return { path, server };
  }

  async function clientOf(path: string): Promise<SharePeer> {
    const client = sharePeer();
    await client.do('connectMemory', { path });
    await client.do('openSync');
    return client;
  }

  test('all count to the same number, one of them in C', async () => {
    const { path, server } = await served();
    const client = await clientOf(path);
    const count = rounds(2000);
    const peer = syncPeer(path, 'count', count);
    expect(await peer.line()).toBe('ready');
    await Promise.all([server.do('countUp', { rounds: count }), client.do('countUp', { rounds: count })]);
    expect(await peer.ended).toEqual({ status: 0, signal: null });
    expect(await server.do('read32', { offset: 64 })).toBe(3 * count);
  });

  test('kill -9 of a holder: the next one gets it and is notified, once', async () => {
    const { path, server } = await served();
    const client = await clientOf(path);
    expect(await client.do('lock')).toEqual({ ownerDied: false, generation: 1 });
    await server.do('lockBegin');
    await client.kill();
    expect(await server.do('waitEnd')).toEqual({ value: { ownerDied: true } });
    await server.do('release');
    expect(await server.do('lock')).toEqual({ ownerDied: false, generation: 3 });
  });

  test('also of a program in C, and to one', async () => {
    const { path, server } = await served();
    const first = syncPeer(path, 'hold');
    expect([await first.line(), await first.line()]).toEqual(['ready', 'held']);
    const second = syncPeer(path, 'hold');
    expect(await second.line()).toBe('ready');
    await first.kill();
    expect(await second.line()).toBe('held, owner died');
    await server.do('lockBegin');
    await second.kill();
    expect(await server.do('waitEnd')).toEqual({ value: { ownerDied: true } });
  });

  test('a holder that is stopped is not dead', async () => {
    const { path, server } = await served();
    const client = await clientOf(path);
    await client.do('lock');
    process.kill(client.pid, 'SIGSTOP');
    expect(await server.do('lock', { options: { timeout: 120 } })).toBeNull(); // more than two looks
    process.kill(client.pid, 'SIGCONT');
    await client.do('release');
    expect(await server.do('lock')).toMatchObject({ ownerDied: false });
  });

  test('a removal wakes who waits for it', async () => {
    const { path, server } = await served();
    const client = await clientOf(path);
    await server.do('lock');
    await client.do('lockBegin');
    await server.do('revoke');
    expect(await client.do('waitEnd')).toMatchObject(REVOKED);
    expect(await refusal(client.do('lock'))).toMatchObject(REVOKED);
  });

  test('memory that others may only read can be locked by those who may write', async () => {
    const memory = MemoryObject.create({ size: 4096 });
    Mutex.create(memory.map());
    await using reading = serveMemory(memory, { path: join(temporaryDirectory(), 'r.sock'), access: 'r' });
    await using writing = serveMemory(memory, { path: join(temporaryDirectory(), 'rw.sock') });
    const [reader, writer] = [sharePeer(), sharePeer()];
    await reader.do('connectMemory', { path: reading.path }); // changes the mode of the memory
    await writer.do('connectMemory', { path: writing.path });
    expect(await writer.do('openMutex')).toBeNull();
    expect(await writer.do('lock')).toEqual({ ownerDied: false, generation: 1 });
    expect(await refusal(reader.do('openMutex'))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
  });
});
