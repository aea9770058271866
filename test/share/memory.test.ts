import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryObject } from 'revocable-mmap';
import { connectMemory, list, serveMemory, ShareError } from 'revocable-mmap/share';
import { runInChild } from '../support/child.js';
import { rounds } from '../support/rounds.js';
import { refusal, sharePeer, type SharePeer } from '../support/share-peer.js';
import { temporaryDirectory } from '../support/temporary.js';
import { until, within } from '../support/until.js';

const SIZE = 65536;
const socket = (): string => join(temporaryDirectory(), 'memory.sock');
const QUIET = { status: 0, signal: null, stderr: '' };

async function served(path: string, options: object = {}): Promise<SharePeer> {
  const server = sharePeer();
  await server.do('serveMemory', { size: SIZE, options: { path, ...options } });
  await server.do('write32', { offset: 0, value: 0xcafe });
  return server;
}

async function clientOf(path: string): Promise<SharePeer> {
  const client = sharePeer();
  await client.do('connectMemory', { path });
  return client;
}

describe('serveMemory and connectMemory', () => {
  test('two processes see the same memory', async () => {
    const path = socket();
    const server = await served(path);
    const client = sharePeer();
    expect(await client.do('connectMemory', { path })).toEqual({ size: SIZE, writable: true, name: 'shared', state: 'live' });
    expect(await client.do('read32', { offset: 0 })).toBe(0xcafe);
    await client.do('write32', { offset: SIZE - 4, value: 7 });
    expect(await server.do('read32', { offset: SIZE - 4 })).toBe(7);
    await until('the event', async () => (await server.do<string[]>('events')).includes(`connect ${client.pid}`));
    expect(await client.end()).toEqual(QUIET);
    expect(await server.end()).toEqual(QUIET);
    expect(existsSync(path)).toBe(false);
  });

  test('futexes work across processes, in both directions, many times', async () => {
    const path = socket();
    const server = await served(path);
    const client = await clientOf(path);
    for (let round = 0; round < rounds(50); round++) {
      const [sleeper, waker] = round % 2 === 0 ? [client, server] : [server, client];
      await sleeper.do('waitBegin', { offset: 8, expected: round });
      // The waiter may still be on its way to sleep: a word that has changed ends its wait too.
      await waker.do('write32', { offset: 8, value: round + 1 });
      await waker.do('wake', { offset: 8 });
      expect(['ok', 'not-equal']).toContain((await sleeper.do<{ value: string }>('waitEnd')).value);
    }
  });

  test('a wake of another process reaches a thread that sleeps', async () => {
    const path = socket();
    const server = await served(path);
    const client = await clientOf(path);
    await client.do('waitBegin', { offset: 8, expected: 0 });
    // No word changes: only the wake can end the wait, and it counts whom it has woken.
    await until('the client sleeps', async () => (await server.do<number>('wake', { offset: 8 })) === 1);
    expect(await client.do('waitEnd')).toEqual({ value: 'ok' });
  });

  test('ping-pong across processes, without a wake that is lost', async () => {
    const path = socket();
    const server = await served(path);
    const client = await clientOf(path);
    const count = rounds(20_000); // 100,000 there and back in `npm run soak`
    await client.begin('pingPong', { own: 1, rounds: count });
    await server.begin('pingPong', { own: 0, rounds: count });
    await Promise.all([client.outcome(), server.outcome()]);
    expect(await server.do('read32', { offset: 8 })).toBe(2 * count);
  });

  test('ping-pong survives a removal at any point', async () => {
    const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
    let state = seed;
    const below = (most: number): number => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) % most;
    const players = [sharePeer(), sharePeer()];
    const server = sharePeer();
    for (let round = 0; round < rounds(40); round++) {
      // 200 in `npm run soak`
      const path = socket();
      await server.do('serveMemory', { size: SIZE, options: { path } });
      await server.do('write32', { offset: 8, value: 0 });
      for (const player of players) await player.do('connectMemory', { path });
      for (const [own, player] of players.entries()) await player.begin('pingPong', { own, rounds: 1e9 });
      const { served: ended } = await server.do<{ served: object }>('revokeAfter', { microseconds: below(3000) });
      const errors = await Promise.all(players.map((player) => refusal(player.outcome())));
      const revoked = { code: 'ERR_MAPPING_REVOKED' };
      expect({ seed, round, errors, ended }).toMatchObject({ errors: [revoked, revoked], ended: { clients: 2, late: [] } });
    }
  });

  test('a revocation reaches every client: typed error at the access, waiters wake, the report is exact', async () => {
    const path = socket();
    const server = await served(path);
    const clients = await Promise.all(Array.from({ length: 6 }, () => clientOf(path)));
    await Promise.all(clients.map((client) => client.do('waitBegin', { offset: 8, expected: 0 })));
    const spinner = clients[0];
    await spinner.begin('spin', { offset: 0, limit: 30_000 });
    const { report, served: ended } = await server.do<{ report: object; served: object }>('revoke');
    expect(report).toMatchObject({ revokedByThisCall: true, mappings: 1, means: { truncated: true } });
    expect(ended).toEqual({ path, clients: 6, acknowledged: 6, late: [] });
    const revoked = { code: 'ERR_MAPPING_REVOKED', cause: { code: 'ERR_SHARE_DISCONNECTED' } };
    expect(await refusal(spinner.outcome())).toMatchObject(revoked);
    for (const client of clients) {
      expect(await refusal(client.do('read32', { offset: 0 }))).toMatchObject(revoked);
      expect(await client.do('waitEnd')).toMatchObject(revoked);
      await until('the event', async () => (await client.do<string[]>('events')).includes('revoked'));
      expect(await client.end()).toEqual(QUIET);
    }
    expect(await server.end()).toEqual(QUIET);
  });

  test('kill -9 of the server is a removal, also for a client whose event loop does not turn', async () => {
    const path = socket();
    const server = await served(path);
    const busy = await clientOf(path);
    const idle = await clientOf(path);
    await idle.do('waitBegin', { offset: 8, expected: 0 });
    await busy.begin('spin', { offset: 0, limit: 30_000 });
    expect(await server.kill()).toMatchObject({ status: null, signal: 'SIGKILL' });
    const revoked = { code: 'ERR_MAPPING_REVOKED', cause: { code: 'ERR_SHARE_DISCONNECTED' } };
    expect(await refusal(busy.outcome())).toMatchObject(revoked);
    expect(await idle.do('waitEnd')).toMatchObject(revoked);
    expect(await refusal(idle.do('read32', { offset: 0 }))).toMatchObject(revoked);
    expect(await busy.end()).toEqual(QUIET);
    expect(await idle.end()).toEqual(QUIET);
  });

  test('a client that dies is let go of, once', async () => {
    const path = socket();
    const server = await served(path);
    const before = await server.do('descriptors');
    const client = await clientOf(path);
    const { pid } = client;
    await client.kill();
    await until('the server has noticed', async () => (await server.do('clients')) === 0);
    const events: string[] = [];
    await until('both events', async () => events.push(...(await server.do<string[]>('events'))) >= 2);
    expect(events).toEqual([`connect ${pid}`, `disconnect ${pid}`]);
    expect(await server.do('descriptors')).toBe(before);
    expect(await server.do('read32', { offset: 0 })).toBe(0xcafe);
  });

  test('closing the object ends the connection', async () => {
    const path = socket();
    const memory = MemoryObject.create({ size: SIZE });
    await using server = serveMemory(memory, { path });
    const client = await connectMemory(path);
    expect(server.clients.size).toBe(1);
    client.close();
    await until('the server has noticed', () => server.clients.size === 0);
  });

  test('an object that is collected ends its connection', async () => {
    const memory = MemoryObject.create({ size: SIZE });
    await using server = serveMemory(memory, { path: socket() });
    const client = sharePeer(['--expose-gc']);
    await client.do('connectMemory', { path: server.path });
    expect(server.clients.size).toBe(1);
    await client.do('forget');
    await until('it is collected', async () => {
      await client.do('collect');
      return server.clients.size === 0;
    });
    expect(await client.end()).toEqual(QUIET);
  });

  test('closing the server is notice: clients lose the memory, the object stays', async () => {
    const path = socket();
    const memory = MemoryObject.create({ size: SIZE });
    const server = serveMemory(memory, { path });
    const client = await connectMemory(path);
    const mapping = client.map();
    expect(await server.close()).toEqual({ path, clients: 1, acknowledged: 1, late: [] });
    expect(await server.close()).toEqual({ path, clients: 1, acknowledged: 1, late: [] });
    expect(() => mapping.read8(0)).toThrow(
      expect.objectContaining({ code: 'ERR_MAPPING_REVOKED', cause: expect.any(ShareError) }),
    );
    expect(memory.state).toBe('live');
    expect(existsSync(path)).toBe(false);
    memory.close();
  });

  test('canaries: no generation is read after its revocation', async () => {
    const path = socket();
    for (let generation = 1; generation <= rounds(15); generation++) {
      const memory = MemoryObject.create({ size: SIZE });
      memory.map().write32(0, generation);
      const server = serveMemory(memory, { path });
      const client = await connectMemory(path);
      const mapping = client.map();
      expect(mapping.read32(0)).toBe(generation);
      await memory.revoke();
      expect(() => mapping.read32(0)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
      expect(mapping.bytes[0]).toBe(0);
      expect(await server.closed).toMatchObject({ clients: 1, acknowledged: 1 });
    }
  });

  test("onRemoval: 'orphan' empties the memory and does not truncate it", async () => {
    const memory = MemoryObject.create({ size: SIZE });
    const mapping = memory.map();
    mapping.write32(0, 0xcafe);
    const path = socket();
    const server = serveMemory(memory, { path, onRemoval: 'orphan' });
    // A holder without this library: a plain object of the same descriptor, which is given no notice.
    const holder = MemoryObject.fromFd(memory.fd, { writable: true });
    const held = holder.map();
    expect((await memory.revoke()).means).toMatchObject({ truncated: false, replaced: 1 });
    expect(held.read32(0)).toBe(0);
    held.write32(0, 1); // it lives, and reaches nothing that is used
    await server.closed;
    holder.close();
  });

  test('memory that is sealed against writing cannot be emptied: it is refused where it would have to be', () => {
    const memory = MemoryObject.create({ size: SIZE, seals: ['write'], content: new Uint8Array(4) });
    expect(() => serveMemory(memory, { path: socket(), onRemoval: 'orphan' })).toThrow(
      expect.objectContaining({ code: 'EPERM' }),
    );
    memory.close();
  });

  test('neither a server that is unreferenced nor a connection keeps a process alive', async () => {
    const path = socket();
    const server = await served(path);
    const input = { path };
    const client = await runInChild(
      async (_lib, require, { path: at }) => {
        const share = require('revocable-mmap/share') as typeof import('revocable-mmap/share');
        const memory = await share.connectMemory(at);
        share.serveMemory(memory, { path: `${at}.again` }).unref();
        return memory.size;
      },
      { input, limit: 20_000 },
    );
    expect(client).toMatchObject({ status: 0, signal: null, value: SIZE });
    expect(existsSync(`${path}.again`)).toBe(false);
    expect(await server.end()).toEqual(QUIET);
  });
});

describe('access and refusal', () => {
  test('the socket has its mode whatever the umask', async () => {
    const memory = MemoryObject.create({ size: SIZE });
    const path = socket();
    const umask = process.umask(0o077);
    try {
      await using one = serveMemory(memory, { path });
      expect(statSync(one.path).mode & 0o777).toBe(0o600);
      await using two = serveMemory(memory, { path: `${path}2`, mode: 0o666 });
      expect(statSync(two.path).mode & 0o777).toBe(0o666);
    } finally {
      process.umask(umask);
    }
  });

  test.each(['access', 'authorize'])(
    'a client that may only read, by %s, can neither write, truncate, seal nor open it anew',
    async (how) => {
      const memory = MemoryObject.create({ size: SIZE });
      const path = socket();
      const options = how === 'access' ? ({ access: 'r' } as const) : { authorize: () => 'r' as const };
      await using server = serveMemory(memory, { path, ...options });
      const client = sharePeer();
      expect(await client.do('connectMemory', { path: server.path })).toMatchObject({ writable: false });
      expect(await client.do('attack')).toMatchObject({
        map: expect.stringMatching(/EACCES|ERR_INVALID_ARG_VALUE/),
        open: 'EACCES',
        truncate: 'EINVAL',
        write: 'EBADF',
        raw: 'done', // A8: it does not crash, and reaches nothing
      });
      expect(memory.map().read8(0)).toBe(0);
    },
  );

  test('authorize is asked with the credentials of the peer, and what it refuses is refused', async () => {
    const memory = MemoryObject.create({ size: SIZE });
    const asked: object[] = [];
    const refused: string[] = [];
    let answer: () => unknown = () => false;
    await using server = serveMemory(memory, { path: socket(), authorize: (peer) => (asked.push(peer), answer() as boolean) });
    server.on('refused', (error) => refused.push((error as Error & { code?: string }).code ?? error.message));
    const me = { pid: process.pid, uid: process.getuid!(), gid: process.getgid!() };
    for (const no of [
      () => false,
      async () => Promise.resolve(false),
      () => 'maybe',
      () => {
        throw new Error('no');
      },
    ]) {
      answer = no;
      await expect(connectMemory(server.path)).rejects.toMatchObject({ code: 'ERR_SHARE_REFUSED' });
    }
    expect(asked).toEqual([me, me, me, me]);
    await until('the events', () => refused.length === 4);
    expect(refused).toEqual(['ERR_SHARE_REFUSED', 'ERR_SHARE_REFUSED', 'ERR_SHARE_REFUSED', 'no']);
    answer = async () => Promise.resolve(true);
    (await connectMemory(server.path)).close();
  });

  test('authorize that does not answer is not waited for', async () => {
    const memory = MemoryObject.create({ size: SIZE });
    const never = new Promise<boolean>(() => undefined);
    await using server = serveMemory(memory, { path: socket(), timeout: 50, authorize: () => never });
    const refused = new Promise((resolve) => server.once('refused', resolve));
    await expect(connectMemory(server.path)).rejects.toMatchObject({ code: 'ERR_SHARE_REFUSED' });
    expect(await refused).toMatchObject({ code: 'ERR_SHARE_TIMEOUT' });
  });

  test('more clients than maxClients are refused', async () => {
    const memory = MemoryObject.create({ size: SIZE });
    await using server = serveMemory(memory, { path: socket(), maxClients: 1 });
    const first = await connectMemory(server.path);
    await expect(connectMemory(server.path)).rejects.toMatchObject({ code: 'ERR_SHARE_REFUSED' });
    first.close();
    await until('the first has gone', () => server.clients.size === 0);
    (await connectMemory(server.path)).close();
  });

  test('a path that is in use is refused, and a socket whose server has died is replaced', async () => {
    const path = socket();
    const memory = MemoryObject.create({ size: SIZE });
    const dead = await served(path);
    expect(() => serveMemory(memory, { path })).toThrow(expect.objectContaining({ code: 'EADDRINUSE', path }));
    await dead.kill();
    expect(existsSync(path)).toBe(true);
    await using server = serveMemory(memory, { path });
    (await connectMemory(server.path)).close();
  });

  test.each<[string, (path: string) => void]>([
    ['a file', (path) => writeFileSync(path, 'precious')],
    ['a folder', (path) => mkdirSync(path)],
    ['a dangling symbolic link', (path) => symlinkSync('/nowhere/at/all', path)],
    ['a symbolic link to a file', (path) => (writeFileSync(`${path}.target`, 'precious'), symlinkSync(`${path}.target`, path))],
  ])('%s at the path is left alone', (_, make) => {
    const path = socket();
    make(path);
    const memory = MemoryObject.create({ size: SIZE });
    expect(() => serveMemory(memory, { path })).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
    memory.close();
  });

  test('of servers that race for the socket of a dead one, one gets it', async () => {
    const path = socket();
    const dead = await served(path);
    await dead.kill();
    const racers = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const racer = sharePeer();
        await racer.do('events'); // it has started
        return racer;
      }),
    );
    const outcomes = await Promise.all(
      racers.map(async (racer) =>
        racer.do('serveMemory', { size: SIZE, options: { path } }).then(
          () => 'served',
          (error: Error) => error.message.slice(0, 10),
        ),
      ),
    );
    expect(outcomes.sort()).toEqual(['EADDRINUSE', 'EADDRINUSE', 'EADDRINUSE', 'served']);
    (await connectMemory(path)).close();
  });

  test('a path may be longer than a socket address', async () => {
    const folder = join(temporaryDirectory(), 'x'.repeat(120));
    mkdirSync(folder);
    const memory = MemoryObject.create({ size: SIZE });
    await using server = serveMemory(memory, { path: join(folder, 'memory.sock') });
    (await connectMemory(server.path)).close();
  });

  test('list finds the servers of a folder, opens nothing, and passes over what is none', async () => {
    const folder = temporaryDirectory();
    const memory = MemoryObject.create({ size: SIZE, name: 'ring' });
    await using server = serveMemory(memory, { path: join(folder, 'b.sock') });
    const dead = await served(join(folder, 'dead.sock'));
    await dead.kill();
    writeFileSync(join(folder, 'file'), '');
    expect(await list(folder)).toEqual([{ path: join(folder, 'b.sock'), kind: 'memory', name: 'ring' }]);
    expect(server.clients.size).toBe(0);
  });

  test('a connection attempt ends with its signal', async () => {
    const memory = MemoryObject.create({ size: SIZE });
    const never = new Promise<boolean>(() => undefined);
    await using server = serveMemory(memory, { path: socket(), authorize: () => never });
    const controller = new AbortController();
    const attempt = connectMemory(server.path, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await within('it ends', expect(attempt).rejects.toThrow('enough'));
    await expect(connectMemory(server.path, { timeout: 30 })).rejects.toMatchObject({ code: 'ERR_SHARE_TIMEOUT' });
  });

  test.each<[string, () => unknown, object]>([
    [
      'an object that is none',
      () => serveMemory({} as MemoryObject, { path: 'x' }),
      { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' },
    ],
    ['no options', () => serveMemory(MemoryObject.create({ size: 1 }), undefined as never), { code: 'ERR_INVALID_ARG_TYPE' }],
    ['no path', () => serveMemory(MemoryObject.create({ size: 1 }), {} as never), { code: 'ERR_INVALID_ARG_TYPE' }],
    ['an empty path', () => serveMemory(MemoryObject.create({ size: 1 }), { path: '' }), { code: 'ERR_INVALID_ARG_VALUE' }],
    ['a mode', () => serveMemory(MemoryObject.create({ size: 1 }), { path: 'x', mode: 0o1777 }), { code: 'ERR_OUT_OF_RANGE' }],
    [
      'an access',
      () => serveMemory(MemoryObject.create({ size: 1 }), { path: 'x', access: 'w' as 'r' }),
      { code: 'ERR_INVALID_ARG_VALUE' },
    ],
    [
      'onRemoval',
      () => serveMemory(MemoryObject.create({ size: 1 }), { path: 'x', onRemoval: 'x' as 'orphan' }),
      { code: 'ERR_INVALID_ARG_VALUE' },
    ],
    [
      'authorize',
      () => serveMemory(MemoryObject.create({ size: 1 }), { path: 'x', authorize: 1 as never }),
      { code: 'ERR_INVALID_ARG_TYPE' },
    ],
    ['timeout', () => serveMemory(MemoryObject.create({ size: 1 }), { path: 'x', timeout: 0 }), { code: 'ERR_OUT_OF_RANGE' }],
    [
      'a folder that is not there',
      () => serveMemory(MemoryObject.create({ size: 1 }), { path: '/nowhere/x' }),
      { code: 'ENOENT', path: '/nowhere/x' },
    ],
  ])('%s that cannot be is refused', (_, call, error) => {
    expect(call).toThrow(expect.objectContaining(error));
  });

  test.each<[string, () => Promise<unknown>, object]>([
    ['no path', () => connectMemory(undefined as never), { code: 'ERR_INVALID_ARG_TYPE' }],
    ['a path where nothing is', () => connectMemory('/nowhere/x'), { code: 'ENOENT', path: '/nowhere/x' }],
    ['a file', () => connectMemory(__filename), { code: 'ECONNREFUSED' }],
    ['a signal', () => connectMemory('x', { signal: 1 as never }), { code: 'ERR_INVALID_ARG_TYPE' }],
    ['a folder', () => list('/nowhere'), { code: 'ENOENT' }],
  ])('%s rejects, and never throws in the call', async (_, call, error) => {
    await expect(call()).rejects.toMatchObject(error);
  });
});
