/** Pages of a served device that come at their first touch, in the mappings of other processes. */
import { Socket } from 'node:net';
import { join } from 'node:path';
import { decodePageFault, encodePageFault } from '../../src/share/page-fault.js';
import { MessageReader } from '../../src/share/message-reader.js';
import * as wire from '../../src/share/wire.js';
import { rawClient } from '../support/raw-client.js';
import { refusal, sharePeer, type SharePeer } from '../support/share-peer.js';
import { temporaryDirectory } from '../support/temporary.js';
import { until } from '../support/until.js';

const PAGE = 4096;
const socket = (): string => join(temporaryDirectory(), 'card.sock');
/** The word of a page that its op fills. */
const word = (page: number): number => (page + 1) * 0x0101_0101;

async function served(path: string, input: object = {}): Promise<SharePeer> {
  const server = sharePeer();
  await server.do('servePages', { options: { path }, ...input });
  return server;
}

async function clientOf(path: string, options: { uid?: number } = {}): Promise<SharePeer> {
  const client = sharePeer([], options);
  await client.do('connect', { path, options: { timeout: 20_000 } });
  await client.do('mapRegion', { region: 'frames' });
  return client;
}

const read = async (client: SharePeer, page: number): Promise<number> => client.do('read32', { offset: page * PAGE });

async function eventsOf(server: SharePeer, count: number): Promise<string[]> {
  const events: string[] = [];
  const ofOps = async (): Promise<string[]> =>
    (await server.do<string[]>('events')).filter((event) => !event.includes('connect'));
  await until(`${count} events`, async () => events.push(...(await ofOps())) >= count);
  return events;
}

describe('first touches of another process', () => {
  test("reach the op once a page, checked and raw, in the client's own main thread", async () => {
    const path = socket();
    const server = await served(path);
    const client = await clientOf(path);
    for (const page of [0, 3, 0, 3]) expect(await read(client, page)).toBe(word(page));
    for (const page of [4, 4]) expect(await client.do('raw32', { offset: page * PAGE })).toBe(word(page));
    expect(await client.do('read32', { offset: 255 * PAGE + 4092 })).toBe(0); // 256 is 0 in a byte
    expect(await eventsOf(server, 5)).toEqual(['open', 'fault 0', 'fault 3', 'fault 4', 'fault 255']);
  });

  test('reach it for each client, and the second finds the page present', async () => {
    const path = socket();
    const server = await served(path);
    const [a, b] = [await clientOf(path), await clientOf(path)];
    expect(await read(a, 1)).toBe(word(1));
    await a.do('write32', { offset: PAGE, value: 77 });
    expect(await read(b, 1)).toBe(77);
    expect(await eventsOf(server, 5)).toEqual(['open', 'open', 'fault 1', 'write 1', 'fault 1 present']);
  });

  test('ask before the first write, and one that is refused leaves the page to be read', async () => {
    const path = socket();
    const server = await served(path, { of: { 2: 'read-only', 3: 'read-only' } });
    const client = await clientOf(path);
    await client.do('write32', { offset: PAGE, value: 5 });
    await client.do('write32', { offset: PAGE + 4, value: 6 });
    expect(await read(client, 2)).toBe(word(2));
    for (const page of [2, 3])
      expect(await refusal(client.do('write32', { offset: page * PAGE, value: 1 }))).toMatchObject({
        code: 'ERR_MAPPING_READ_ONLY',
      });
    for (const page of [2, 3]) expect(await read(client, page)).toBe(word(page));
    const events = await eventsOf(server, 9);
    expect(events.slice(0, 5)).toEqual(['open', 'fault 1 write', 'write 1', 'fault 2', 'write 2']);
    expect(events.slice(5)).toEqual(['refused', 'fault 3 write', 'write 3', 'refused']);
  });

  test('are not asked about before a write where the device has no op for that', async () => {
    const path = socket();
    const server = await served(path, { asksBeforeWrite: false });
    const client = await clientOf(path);
    await client.do('write32', { offset: 0, value: 5 });
    expect(await read(client, 0)).toBe(5);
    await read(client, 1);
    await client.do('write32', { offset: PAGE, value: 6 });
    expect(await eventsOf(server, 3)).toEqual(['open', 'fault 0 write', 'fault 1']);
  });

  test('end with the error of their op, and its page stays lost', async () => {
    const path = socket();
    await served(path, { of: { 1: 'refused', 2: 'failed', 3: 'never' }, opTimeout: 200 });
    const client = await clientOf(path);
    for (let round = 0; round < 2; round++) {
      for (const [page, what] of [
        [1, 'the device answered the page fault with SIGBUS'],
        [2, "the device's fault op failed"],
        [3, "the device's fault op did not answer in time"],
      ] as const) {
        const message = `frames: ${what} at offset ${page * PAGE}`;
        expect(await refusal(read(client, page))).toMatchObject({ code: 'ERR_BACKING_FAULT', message });
      }
    }
    expect(await read(client, 4)).toBe(word(4));
  });

  test('have a limit of their own where the server does not answer', async () => {
    const path = socket();
    const server = await served(path, { of: { 1: 'held' } });
    const client = sharePeer();
    await client.do('connect', { path, options: { timeout: 300 } });
    await client.do('mapRegion', { region: 'frames' });
    expect(await refusal(read(client, 1))).toMatchObject({
      code: 'ERR_BACKING_FAULT',
      message: expect.stringContaining('in time'),
    });
    await server.do('letGo');
    expect(await read(client, 2)).toBe(word(2));
  });

  test('are many at once, and one that waits holds up no other', async () => {
    const path = socket();
    const server = await served(path, { of: { 1: 'held' } });
    const [waiting, other] = [await clientOf(path), await clientOf(path)];
    await waiting.begin('touch', { offset: PAGE });
    await until('the op is asked', async () => (await server.do<string[]>('events')).includes('fault 1'));
    for (let page = 2; page < 60; page++) expect(await read(other, page)).toBe(word(page));
    await server.do('letGo');
    expect(await waiting.outcome()).toBe(0); // as it is: zeros
  });

  test('come again after their page was discarded', async () => {
    const path = socket();
    const server = await served(path);
    const client = await clientOf(path);
    expect(await read(client, 1)).toBe(word(1));
    await client.do('write32', { offset: PAGE, value: 5 });
    await server.do('discard', { offset: PAGE, length: PAGE });
    expect(await read(client, 1)).toBe(word(1));
    expect(await eventsOf(server, 4)).toEqual(['open', 'fault 1', 'write 1', 'fault 1']);
  });
});

describe('a client that waits for a page', () => {
  test('gets the removal as its error', async () => {
    const path = socket();
    const server = await served(path, { of: { 1: 'held' } });
    const client = await clientOf(path);
    await client.begin('touch', { offset: PAGE });
    await until('the op is asked', async () => (await server.do<string[]>('events')).includes('fault 1'));
    const unplugged = server.do('unplug'); // which waits for its op
    expect(await refusal(client.outcome(4000))).toMatchObject({
      code: 'ERR_MAPPING_REVOKED',
      cause: { code: 'ERR_SHARE_DISCONNECTED' },
    });
    expect(await refusal(read(client, 2))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    await unplugged;
  });

  test('gets the death of the server as its error', async () => {
    const path = socket();
    const server = await served(path, { of: { 1: 'held' } });
    const client = await clientOf(path);
    await client.begin('touch', { offset: PAGE });
    await until('the op is asked', async () => (await server.do<string[]>('events')).includes('fault 1'));
    await server.kill();
    expect(await refusal(client.outcome(10_000))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
  });

  test('may die: its op ends, and others go on', async () => {
    const path = socket();
    const server = await served(path, { of: { 1: 'held' } });
    const [client, other] = [await clientOf(path), await clientOf(path)];
    await client.begin('touch', { offset: PAGE });
    await until('the op is asked', async () => (await server.do<string[]>('events')).includes('fault 1'));
    await client.kill();
    expect((await eventsOf(server, 2)).sort()).toEqual(['close 0', 'release']);
    await server.do('letGo');
    expect(await read(other, 3)).toBe(word(3));
    expect(await server.do('clients')).toBe(1);
  });
});

describe('clients that cannot ask for pages', () => {
  test('access the region by messages where they may only read', async () => {
    const path = socket();
    const server = sharePeer();
    await server.do('servePages', { options: { path, access: 'r' }, of: { 2: 'refused' } });
    const client = sharePeer();
    expect(await client.do('connect', { path })).toMatchObject({ regions: [{ name: 'frames', kind: 'registers' }, {}, {}] });
    await client.do('mapRegion', { region: 'frames' });
    expect(await read(client, 1)).toBe(word(1));
    expect(await refusal(client.do('write32', { offset: PAGE, value: 1 }))).toMatchObject({ code: 'EACCES' });
    expect(await refusal(read(client, 2))).toMatchObject({ code: 'EIO' });
    expect(await eventsOf(server, 4)).toEqual(['open', 'fault 1', 'fault 2', 'refused']);
  });

  test('get neither the memory nor a socket, and the op is asked by their messages', async () => {
    const path = socket();
    const server = await served(path);
    const client = await rawClient(path);
    const info = wire.encodeRegionInfo({ index: 0, flags: 0, size: 0, offset: 0 });
    const { flags } = wire.decodeRegionInfo((await client.ask(wire.COMMANDS.regionInfo, info)).body);
    expect(flags & wire.REGION_FLAGS.mmap).toBe(0);
    expect(client.descriptors()).toBe(0);
    const access = { region: 0, offset: 2 * PAGE, count: 4, data: new Uint8Array(0) };
    const { data } = wire.decodeRegionData((await client.ask(wire.COMMANDS.regionRead, wire.encodeAccess(access))).body);
    expect([...data]).toEqual([3, 3, 3, 3]);
    const write = { ...access, offset: 3 * PAGE, data: Uint8Array.of(9, 9, 9, 9) };
    expect((await client.ask(wire.COMMANDS.regionWrite, wire.encodeAccess(write))).errno).toBe(0);
    const multiple = wire.encodeWrites([write, { ...write, offset: 4 * PAGE }]);
    expect((await client.ask(wire.COMMANDS.regionWriteMulti, multiple)).errno).toBe(0);
    const again = wire.encodeAccess({ ...access, offset: 4 * PAGE });
    expect([...wire.decodeRegionData((await client.ask(wire.COMMANDS.regionRead, again)).body).data]).toEqual([9, 9, 9, 9]);
    client.end();
    expect((await eventsOf(server, 7)).slice(0, 6)).toEqual([
      'open',
      'fault 2',
      'fault 3 write',
      'write 3',
      'fault 4 write',
      'write 4',
    ]);
  });

  test('fail at once in the thread that serves', async () => {
    const path = socket();
    const server = await served(path);
    await server.do('connect', { path });
    await server.do('mapRegion', { region: 'frames' });
    expect(await refusal(read(server, 1))).toMatchObject({ code: 'ERR_DEVICE_SELF_FAULT' });
  });
});

describe('the socket for pages', () => {
  interface Asker {
    send(bytes: Uint8Array): void;
    reply(): Promise<wire.Message | undefined>;
    end(): void;
  }

  /** The client's end, driven by the test. */
  async function asker(path: string): Promise<Asker> {
    const client = await rawClient(path, 1 << 20, { thread: 'elsewhere', survives: true, asksForPages: true });
    client.keep();
    await client.ask(wire.COMMANDS.regionInfo, wire.encodeRegionInfo({ index: 0, flags: 0, size: 0, offset: 0 }));
    expect(client.kept).toHaveLength(2);
    const socketOfPages = new Socket({ fd: client.kept.pop()! });
    const reader = new MessageReader(1 << 16);
    const replies: wire.Message[] = [];
    let ended = false;
    socketOfPages.on('data', (bytes) => {
      for (let at = 0; at < bytes.byteLength;) {
        const room = Math.min(40 - reader.have, bytes.byteLength - at);
        reader.buffer.set(bytes.subarray(at, at + room), reader.have);
        at += room;
        const message = reader.filled(room, []);
        if (message !== undefined) replies.push({ ...message, body: message.body.slice() });
      }
    });
    socketOfPages.on('close', () => (ended = true)).on('error', () => undefined);
    return {
      send: (bytes) => void socketOfPages.write(bytes),
      async reply() {
        await until('an answer, or the end', () => replies.length > 0 || ended);
        return replies.shift();
      },
      end() {
        socketOfPages.destroy();
        client.end();
      },
    };
  }

  const fault = (offset: number, token = 5n): Uint8Array =>
    wire.encode({ id: 0, command: wire.COMMANDS.pageFault }, encodePageFault({ token, offset, write: false, firstWrite: false }));

  test('answers each request with its token, and says EINVAL of what is not in the region', async () => {
    const path = socket();
    const server = await served(path);
    const pages = await asker(path);
    pages.send(fault(PAGE, 2n ** 64n - 1n));
    const { errno, body, command } = (await pages.reply())!;
    expect({ errno, command, token: decodePageFault(body).token }).toEqual({
      errno: 0,
      command: wire.COMMANDS.pageFault,
      token: 2n ** 64n - 1n,
    });
    for (const offset of [256 * PAGE, 2 ** 52]) {
      pages.send(fault(offset));
      expect((await pages.reply())!.errno).toBe(22);
    }
    pages.end();
    expect(await server.do('events')).toContain('fault 1');
  });

  test.each([
    ['another command', wire.encode({ id: 0, command: wire.COMMANDS.reset })],
    ['a reply', wire.encode({ id: 0, command: wire.COMMANDS.pageFault, reply: true }, new Uint8Array(24))],
    ['a request that is too short', wire.encode({ id: 0, command: wire.COMMANDS.pageFault }, new Uint8Array(23))],
    ['flags that there are not', wire.encode({ id: 0, command: wire.COMMANDS.pageFault }, new Uint8Array(24).fill(1))],
    ['no message', new Uint8Array(64).fill(255)],
  ])('ends at %s, and the connection does not', async (_, bytes) => {
    const path = socket();
    const server = await served(path);
    const pages = await asker(path);
    pages.send(bytes);
    expect(await pages.reply()).toBeUndefined();
    expect(await server.do('clients')).toBe(1);
    const client = await clientOf(path);
    expect(await read(client, 1)).toBe(word(1));
    pages.end();
  });

  test('is one a region: each that is asked for ends the one before', async () => {
    const path = socket();
    const server = await served(path);
    const before = await server.do<number>('descriptors');
    const client = await rawClient(path, 1 << 20, { thread: 'elsewhere', survives: true, asksForPages: true });
    const info = wire.encodeRegionInfo({ index: 0, flags: 0, size: 0, offset: 0 });
    for (let i = 0; i < 100; i++) await client.ask(wire.COMMANDS.regionInfo, info);
    expect((await server.do<number>('descriptors')) - before).toBeLessThan(10);
    client.end();
    await until('all are closed', async () => (await server.do<number>('descriptors')) === before);
  });

  test('takes more requests at once than it brings pages', async () => {
    const path = socket();
    const server = await served(path, { of: { 1: 'held' } });
    const pages = await asker(path);
    const tokens = Array.from({ length: 300 }, (_, i) => BigInt(i));
    for (const token of tokens) pages.send(fault(PAGE, token));
    await until('the op is asked', async () => (await server.do<string[]>('events')).includes('fault 1'));
    await server.do('letGo');
    const answered: bigint[] = [];
    for (const _ of tokens) answered.push(decodePageFault((await pages.reply())!.body).token);
    expect(answered.sort((a, b) => Number(a - b))).toEqual(tokens);
    pages.end();
  });
});
