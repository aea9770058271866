import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Device } from 'revocable-mmap/device';
import { serve } from 'revocable-mmap/share';
import { claim, ended, nextLine, printed, printTable, say, start } from './story.mjs';

const LOAD_MS = 1000;
const RAISE = 0xf0;
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PIPES = { stdio: ['ignore', 'pipe', 'inherit'] };

/** Region 0 is registers, of which the first counts its reads and one raises interrupts; region 1 is memory. */
function makeDevice() {
  const written = new Map();
  let reads = 0;
  const device = new Device({
    name: 'card',
    regions: [
      { name: 'control', size: 4096, kind: 'registers' },
      { name: 'frames', size: 16384 },
    ],
    ops: {
      readRegister: (offset) => (offset === 0 ? ++reads : (written.get(offset) ?? 0)),
      writeRegister(offset, width, value) {
        if (offset === RAISE) device.raise(Number(value));
        else written.set(offset, Number(value));
      },
    },
  });
  device.region('frames').memory.write32(0, 0xfeed);
  return device;
}

async function startNode(path, role) {
  const child = start('share-user.mjs', [path, role], PIPES);
  const end = ended(child);
  await nextLine(child);
  return async () => {
    const { status, signal, output } = await end;
    if (status !== 0) return { died: signal ?? `status ${status}` };
    const seen = JSON.parse(output.trim().split('\n').at(-1));
    return { ...seen, at: BigInt(seen.at) };
  };
}

/** The example in C, which needs nothing but the header: it uses memory, registers and an interrupt, and survives the removal. */
async function startC(folder, path) {
  const program = join(folder, 'client');
  execFileSync('cc', ['-std=c11', '-O2', '-I', join(ROOT, 'include'), '-o', program, join(ROOT, 'examples/share/client.c')]);
  const child = spawn('sh', ['-c', 'ulimit -c 0; exec "$0" "$@"', program, path], PIPES);
  const end = ended(child).then((run) => ({ ...run, at: process.hrtime.bigint() }));
  await printed(child, 'waiting');
  return async () => {
    const { status, signal, output, at } = await end;
    if (status !== 0) return { died: signal ?? `status ${status}` };
    return { lines: output.trim().split('\n'), at };
  };
}

export async function share() {
  const folder = mkdtempSync(join(tmpdir(), 'revocable-mmap-'));
  try {
    await removeShared(folder, join(folder, 'card.sock'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function removeShared(folder, path) {
  const device = makeDevice();
  const server = serve(device, { path });
  const users = {
    'Node, memory': await startNode(path, 'memory'),
    'Node, a register': await startNode(path, 'register'),
    C: await startC(folder, path),
  };
  say.line('this process serves it on a socket; two processes of Node and one in C use its memory and registers');
  await sleep(LOAD_MS);

  const called = process.hrtime.bigint();
  const removal = await device.unplug('pulled out');
  const served = await server.closed;
  const seen = {};
  for (const [name, end] of Object.entries(users)) seen[name] = await end();

  const rows = Object.entries(seen).map(([name, { count, died, code, lines, at }]) => [
    name,
    count ?? '–',
    died ?? code ?? lines.at(-1),
    at === undefined ? '–' : (at - called) / 1000n,
  ]);
  printTable(['process', '>reads', 'what ended it', '>µs after'], rows);
  say.line('µs after: from the call of unplug() to the error, of the one in C to its end.');
  check(Object.values(seen), removal, served);
}

function check([memory, register, inC], removal, served) {
  claim(
    'none of the three processes that used the served device died of its removal',
    [memory, register, inC].every(({ died }) => died === undefined),
  );
  claim(
    'both processes of Node read the device until then, and nothing else',
    [memory, register].every(({ count, wrong }) => count > 100 && wrong === 0),
  );
  claim(
    'both got MappingRevokedError at the access, with the lost server as its cause',
    [memory, register].every(({ code, cause }) => code === 'ERR_MAPPING_REVOKED' && cause === 'ERR_SHARE_DISCONNECTED'),
  );
  claim(
    'the program in C had memory, a register and an interrupt, and noticed the removal',
    inC.lines?.join() === 'memory feed,register 77,interrupt 3,waiting,removed',
  );
  claim('the report counts three files and three clients, all of which let go in time', isExact(removal, served));
}

const isExact = (removal, served) =>
  removal.files === 3 && served.clients === 3 && served.acknowledged === 3 && served.late.length === 0;
