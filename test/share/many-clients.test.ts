/** A removal that many processes see at once, each of which reads all the time. */
import { join } from 'node:path';
import { Device } from 'revocable-mmap';
import { serve } from 'revocable-mmap/share';
import { limitOf, rounds } from '../support/rounds.js';
import { sharePeer, type Said, type SharePeer } from '../support/share-peer.js';
import { temporaryDirectory } from '../support/temporary.js';

const CLIENTS = rounds(64);
const SIZE = 16 << 20;
const STARTED_AT_ONCE = 8;

type Witness = Said & { seen: number[]; last: string };

/** A device whose memory is full of this word. */
function deviceOf(canary: number): Device {
  const device = new Device({ name: 'card', regions: [{ name: 'frames', size: SIZE }] });
  new Uint32Array(device.regions[0].memory.buffer as ArrayBuffer).fill(canary);
  return device;
}

async function startClients(path: string): Promise<SharePeer[]> {
  const clients: SharePeer[] = [];
  while (clients.length < CLIENTS) {
    const some = Array.from({ length: Math.min(STARTED_AT_ONCE, CLIENTS - clients.length) }, () => sharePeer());
    await Promise.all(
      some.map(async (client) => {
        await client.do('connect', { path });
        await client.do('mapRegion', { region: 'frames' });
      }),
    );
    clients.push(...some);
  }
  return clients;
}

test(
  `${CLIENTS} processes that read 16 MiB of a device: none reads anything of it once unplug() has resolved`,
  async () => {
    const path = join(temporaryDirectory(), 'card.sock');
    const [first, second] = [0x1111_1111, 0x2222_2222];
    const device = deviceOf(first);
    const server = serve(device, { path });
    const clients = await startClients(path);
    await Promise.all(clients.map((client) => client.begin('witness')));

    const report = await device.unplug();
    const resolved = process.hrtime.bigint();
    expect(report).toMatchObject({ files: CLIENTS, removedByThisCall: true });
    const witnesses = await Promise.all(clients.map((client) => client.outcome<Witness>()));
    expect(witnesses.filter(({ last }) => BigInt(last) >= resolved)).toEqual([]);
    expect(new Set(witnesses.flatMap(({ seen }) => seen))).toEqual(new Set([first]));
    for (const { code, cause } of witnesses) {
      expect([code, cause?.code]).toEqual(['ERR_MAPPING_REVOKED', 'ERR_SHARE_DISCONNECTED']);
    }
    expect(await server.closed).toEqual({ path, clients: CLIENTS, acknowledged: CLIENTS, late: [] });

    // The next device, at the same place: what was mapped of the first one reaches nothing of it.
    const next = deviceOf(second);
    await using _ = serve(next, { path });
    for (const client of clients) expect(await client.do('rawValues')).toEqual([0]);
    await next.unplug();
    for (const client of clients) expect(await client.end()).toEqual({ status: 0, signal: null, stderr: '' });
  },
  limitOf(240_000),
);
