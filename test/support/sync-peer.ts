/** A program in C that uses the ring and the mutex of served memory: `test/children/share/sync-peer.c`. */
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { temporaryDirectory } from './temporary.js';
import { within } from './until.js';

const ROOT = join(__dirname, '..', '..');
let program: string | undefined;

function build(): string {
  const built = join(temporaryDirectory(), 'sync-peer');
  const source = join(ROOT, 'test', 'children', 'share', 'sync-peer.c');
  const options = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror', '-I', join(ROOT, 'include')];
  const { status, stderr } = spawnSync('cc', [...options, '-o', built, source], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return built;
}

export interface SyncPeer {
  /** Its next line. */
  line(): Promise<string>;
  kill(): Promise<void>;
  /** Its status and signal, when it has ended by itself. */
  ended: Promise<{ status: number | null; signal: string | null }>;
}

const living = new Set<SyncPeer>();

export function syncPeer(path: string, action: string, count = 0): SyncPeer {
  program ??= build();
  const child = spawn(program, [path, action, String(count)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = new Promise<{ status: number | null; signal: string | null }>((resolve) =>
    child.on('close', (status, signal) => resolve({ status, signal })),
  );
  const peer: SyncPeer = {
    line: async () => (await within('the program in C says something', lines.next(), 60_000)).value as string,
    kill: async () => {
      living.delete(peer);
      child.kill('SIGKILL');
      await ended;
    },
    ended,
  };
  living.add(peer);
  return peer;
}

afterEach(async () => {
  for (const peer of [...living]) await peer.kill();
});
