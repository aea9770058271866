import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { Device } from 'revocable-mmap/device';
import { connect, serve } from 'revocable-mmap/share';
import { build, cProgram } from '../baseline.mjs';
import { arranged, inProcess } from '../in_process.mjs';
import type { Case, Row, Side } from '../row.mjs';

const SERVER = fileURLToPath(new URL('./share_server.mjs', import.meta.url));

/** What `use` does with a mapping of a device that another process serves; it is removed afterwards. */
async function ofServed(region: string, units: number, use: (mapping: Mapping) => void): Promise<Side> {
  const folder = mkdtempSync(join(tmpdir(), 'revocable-mmap-bench-'));
  const path = join(folder, 'card.sock');
  const server = spawn(process.execPath, [SERVER, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(server, 'exit');
  await once(server.stdout, 'data');
  const device = await connect(path);
  const mapping = device.open().map({ region });
  const side = inProcess(units, () => use(mapping));
  return {
    ...side,
    async close() {
      server.stdin.end();
      await ended;
      await device.unplug();
      rmSync(folder, { recursive: true });
    },
  };
}

const ACCESSES = 500;
const READS = 200_000;

function readRegister(mapping: Mapping): void {
  for (let i = 0; i < ACCESSES; i++) if (mapping.read32(0) !== 7) throw new Error('a register was wrong');
}

function readMemory(mapping: Mapping): void {
  let sum = 0;
  for (let i = 0; i < READS; i++) sum += mapping.read32((i & 0xfff) * 4);
  if (sum !== 0) throw new Error('the memory was wrong');
}

function ofThisProcess(): Side {
  const object = MemoryObject.create({ size: 65_536, name: 'bench' });
  const mapping = object.map();
  return inProcess(
    READS,
    () => readMemory(mapping),
    () => object.close(),
  );
}

const SHARED_PAGES = 4096;

/** From unplug() until it has resolved, which is when all clients have let go. */
function removalFrom(clients: number): Case {
  return {
    label: `${clients} of them`,
    size: clients,
    subject: () =>
      arranged(
        1,
        async () => {
          const folder = mkdtempSync(join(tmpdir(), 'revocable-mmap-bench-'));
          const device = new Device({ name: 'bench', regions: [{ size: SHARED_PAGES * 4096 }] });
          const server = serve(device, { path: join(folder, 'card.sock') });
          const child = spawn(build('hold_served'), [server.path, String(clients)], { stdio: ['pipe', 'pipe', 'inherit'] });
          const ended = once(child, 'exit');
          await once(child.stdout, 'data');
          return { folder, device, child, ended };
        },
        ({ device }) => device.unplug(),
        async ({ folder, child, ended }) => {
          child.stdin.end();
          const [status] = (await ended) as [number | null];
          if (status !== 0) throw new Error(`the clients ended with ${status}`);
          rmSync(folder, { recursive: true });
        },
      ),
    baseline: () => cProgram('revoke', [1, SHARED_PAGES, 1, clients]),
  };
}

export const rows: Row[] = [
  {
    id: 'register-served',
    title: 'checked read of a register that another process serves',
    unit: 'ns',
    baselineName: 'C, the same messages',
    target: { atMost: 1.5 },
    cases: [
      {
        label: 'model in JavaScript',
        subject: () => ofServed('registers', ACCESSES, readRegister),
        baseline: () => cProgram('socket_ping', []),
      },
    ],
  },
  {
    id: 'read-served',
    title: 'read32 of memory that another process serves',
    unit: 'ns',
    baselineName: 'read32 of memory of this process',
    oneProcessor: true,
    target: { atMost: 1.1 },
    cases: [{ label: '16 KiB', subject: () => ofServed('memory', READS, readMemory), baseline: ofThisProcess }],
  },
  {
    id: 'unplug-served',
    title: 'unplug() of a served device of 16 MiB, as its clients grow',
    unit: 'ns',
    baselineName: 'C, ftruncate and one mapping replaced',
    sizeName: 'client processes',
    cases: [64, 16, 4, 1].map(removalFrom),
  },
];
