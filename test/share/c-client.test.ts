import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { sharePeer, type SharePeer } from '../support/share-peer.js';
import { temporaryDirectory } from '../support/temporary.js';
import { within } from '../support/until.js';

const ROOT = join(__dirname, '..', '..');
const LINES = ['memory feed', 'register 77', 'interrupt 3', 'waiting'];
let program: string;

beforeAll(() => {
  program = join(temporaryDirectory(), 'client');
  const options = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror', '-I', join(ROOT, 'include')];
  const built = spawnSync('cc', [...options, '-o', program, join(ROOT, 'examples', 'share', 'client.c')], { encoding: 'utf8' });
  expect({ status: built.status, stderr: built.stderr }).toEqual({ status: 0, stderr: '' });
});

async function served(path: string, options: object = {}): Promise<SharePeer> {
  const server = sharePeer();
  await server.do('serveDevice', { options: { path, ...options } });
  return server;
}

/** Runs the program; `onWaiting` when it has what it uses. */
async function run(
  args: string[],
  onWaiting: () => Promise<unknown>,
): Promise<{ status: number | null; signal: string | null; lines: string[] }> {
  const child = spawn('sh', ['-c', 'ulimit -c 0; exec "$0" "$@"', program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<{ status: number | null; signal: string | null }>((resolve) =>
    child.on('close', (status, signal) => resolve({ status, signal })),
  );
  const lines: string[] = [];
  const done = (async () => {
    for await (const line of createInterface({ input: child.stdout })) {
      lines.push(line);
      if (line === 'waiting') await onWaiting();
    }
    return ended;
  })();
  try {
    return { ...(await within('the program ends', done, 30_000)), lines };
  } finally {
    child.kill('SIGKILL');
  }
}

describe('the client in C', () => {
  test.each([
    ['with the guard of the header', []],
    ['with a handler of its own', ['own']],
  ])('uses a device, and survives its removal, %s', async (_, more) => {
    const path = join(temporaryDirectory(), 'card.sock');
    const server = await served(path);
    let unplugged: unknown;
    const ran = await run([path, ...more], async () => (unplugged = await server.do('unplug')));
    expect(ran).toEqual({ status: 0, signal: null, lines: [...LINES, 'removed'] });
    expect(unplugged).toMatchObject({ report: { files: 1 }, served: { clients: 1, acknowledged: 1, late: [] } });
    expect(await server.end()).toEqual({ status: 0, signal: null, stderr: '' });
  });

  test('notices that the server is killed', async () => {
    const path = join(temporaryDirectory(), 'card.sock');
    const server = await served(path);
    const ran = await run([path], () => server.kill());
    expect(ran).toEqual({ status: 0, signal: null, lines: [...LINES, 'removed'] });
  });

  test('may only read where the server says so', async () => {
    const path = join(temporaryDirectory(), 'card.sock');
    await served(path, { access: 'r' });
    const ran = await run([path], () => Promise.resolve());
    expect(ran).toEqual({ status: 1, signal: null, lines: ['memory feed'] });
  });
});
