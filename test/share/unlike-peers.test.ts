/** Peers that differ: other users, and other versions of Node. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { otherNode, testUnless, whyNoProgramOfOthers } from '../support/conditions.js';
import { refusal, sharePeer, type SharePeer } from '../support/share-peer.js';
import { temporaryDirectory } from '../support/temporary.js';

const SIZE = 65_536;
const QUIET = { status: 0, signal: null, stderr: '' };
const [OWNER, READER, STRANGER] = [65_534, 65_533, 65_532];

async function servedBy(uid: number, input: object): Promise<{ server: SharePeer; path: string }> {
  const directory = temporaryDirectory();
  chmodSync(directory, 0o777);
  const path = join(directory, 'memory.sock');
  const server = sharePeer([], { uid });
  await server.do('serveMemory', { size: SIZE, ...input, options: { path, ...(input as { options?: object }).options } });
  await server.do('write32', { offset: 0, value: 0xcafe });
  return { server, path };
}

const clientAs = (uid: number): SharePeer => sharePeer([], { uid });

describe('users without privileges', () => {
  const reason = whyNoProgramOfOthers();

  testUnless(reason, 'by default the same user is let in, another one is not: the socket has the mode 0600', async () => {
    const { server, path } = await servedBy(OWNER, {});
    const [same, other] = [clientAs(OWNER), clientAs(READER)];
    expect(await same.do('connectMemory', { path })).toMatchObject({ writable: true });
    expect(await refusal(other.do('connectMemory', { path }))).toMatchObject({ code: 'EACCES' });
    for (const peer of [same, other, server]) expect(await peer.end()).toEqual(QUIET);
  });

  testUnless(reason, 'with the mode 0666 each user has what authorize gives: all, reading, nothing', async () => {
    const { server, path } = await servedBy(OWNER, { users: { [OWNER]: 'rw', [READER]: 'r' }, options: { mode: 0o666 } });
    const [owner, reader, stranger] = [clientAs(OWNER), clientAs(READER), clientAs(STRANGER)];
    expect(await owner.do('connectMemory', { path })).toMatchObject({ writable: true });
    expect(await reader.do('connectMemory', { path })).toMatchObject({ writable: false });
    expect(await refusal(stranger.do('connectMemory', { path }))).toMatchObject({ code: 'ERR_SHARE_REFUSED' });

    await owner.do('write32', { offset: 4, value: 7 });
    expect(await reader.do('read32', { offset: 4 })).toBe(7);
    expect(await reader.do('attack')).toMatchObject({ open: 'EACCES', truncate: 'EINVAL', write: 'EBADF', raw: 'done' });
    expect(await server.do('read32', { offset: 0 })).toBe(0xcafe);

    expect(await server.do('revoke')).toMatchObject({ served: { clients: 2, acknowledged: 2, late: [] } });
    for (const peer of [owner, reader])
      expect(await refusal(peer.do('read32', { offset: 0 }))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    for (const peer of [owner, reader, stranger, server]) expect(await peer.end()).toEqual(QUIET);
  });
});

describe('another version of Node', () => {
  const version = Number(process.versions.node.split('.')[0]) === 20 ? 26 : 20;
  const node = otherNode(version);
  const reason = node === undefined ? `Node ${version} is not there: npm run test:matrix installs it` : undefined;

  testUnless(reason, `with Node ${version}, as server and as client: memory, futexes, registers, removal`, async () => {
    for (const [ofServer, ofClient] of [
      [node, undefined],
      [undefined, node],
    ]) {
      const path = join(temporaryDirectory(), 'card.sock');
      const [server, client] = [sharePeer([], { node: ofServer }), sharePeer([], { node: ofClient })];
      await server.do('serveDevice', { options: { path } });
      await client.do('connect', { path });
      await client.do('mapRegion', { region: 'control' });
      await client.do('write32', { offset: 8, value: 77 });
      expect(await client.do('read32', { offset: 8 })).toBe(77);
      await client.do('mapRegion', { region: 'frames' });
      expect(await client.do('read32', { offset: 0 })).toBe(0xfeed);
      await client.do('waitBegin', { offset: 4, expected: 0 });
      expect(await server.do('unplug')).toMatchObject({ served: { clients: 1, acknowledged: 1, late: [] } });
      expect(await client.do('waitEnd')).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      for (const peer of [client, server]) expect(await peer.end()).toEqual(QUIET);
    }
  });
});
