import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { MemoryObject } from 'revocable-mmap';
import { consume, CONTROL, CONTROL_BYTES, RING_BYTES } from './ring.mjs';
import { claim, ended, nextLine, printTable, say, start, startProgress } from './story.mjs';

const UNPLUG_AFTER_MS = 4000;

async function startProcess(role, holder, ring, control) {
  const child = start('holder-process.mjs', [role, holder], { stdio: ['ignore', 'pipe', 'inherit', ring.fd, control.fd] });
  const end = ended(child);
  await nextLine(child);
  return async () => {
    const { status, signal, output } = await end;
    if (status !== 0) return { died: signal ?? `status ${status}` };
    const seen = JSON.parse(output.trim().split('\n').at(-1));
    return { ...seen, at: seen.at === undefined ? undefined : BigInt(seen.at) };
  };
}

async function startWorker(holder, ring, control) {
  const worker = new Worker(new URL('holder-worker.mjs', import.meta.url), {
    workerData: { holder, ring: ring.share(), control: control.share() },
  });
  await once(worker, 'message');
  const end = once(worker, 'message');
  return async () => (await end)[0];
}

/** What the kernel says is mapped at the address now. */
function mappedAt(address) {
  const hex = address.toString(16);
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .find((line) => line.startsWith(`${hex}-`));
}

export async function unplug() {
  const device = MemoryObject.create({ size: RING_BYTES, name: 'ring' });
  const controlObject = MemoryObject.create({ size: CONTROL_BYTES, name: 'control' });
  const control = controlObject.map();
  const shared = device.map({ access: 'r' });
  const mine = device.map({ access: 'r' });
  const raw = device.map({ access: 'r', fill: 'ones' });

  const holders = [
    { name: 'producer', end: await startProcess('producer', 0, device, controlObject) },
    { name: 'consumer', end: await startProcess('consumer', 1, device, controlObject) },
    { name: 'worker 1', end: await startWorker(2, shared, control) },
    { name: 'worker 2', end: await startWorker(3, shared, control) },
  ];
  say.line(`a ring of 1 MiB, written by another process, read by this thread, two workers and a child process`);

  const bar = startProgress('  under load |{bar}| {reads} slots checked', UNPLUG_AFTER_MS, { reads: 0 });
  const main = { count: 0, torn: 0, after: 0 };
  const begin = performance.now();
  while (performance.now() - begin < UNPLUG_AFTER_MS) {
    const seen = consume(mine, control, 4, 20_000);
    for (const key of ['count', 'torn', 'after']) main[key] += seen[key];
    const others = [1, 2, 3].reduce((sum, holder) => sum + control.read32(CONTROL.reads(holder)), 0);
    bar.update(Math.round(performance.now() - begin), { reads: main.count + others });
    await nextTurn();
  }
  bar.stop();

  const called = process.hrtime.bigint();
  const report = device.revokeSync('unplugged');
  const returned = process.hrtime.bigint();
  control.write32(CONTROL.unplugged, 1);
  const tombstone = mappedAt(mine.address);
  // Before any thread touches them here: what the kernel has put in the place of each.
  const now = new Map([mine, shared, raw].map((mapping) => [mapping, mappedAt(mapping.address) ?? '']));
  const last = consume(mine, control, 4);
  Object.assign(main, { after: main.after + last.after, code: last.error?.code, at: last.at, state: mine.state });
  const rawValue = raw.bytes[4096];
  const rawRow = {
    count: '–',
    torn: 0,
    after: rawValue === 0xff ? 0 : 1,
    code: `reads 0x${rawValue.toString(16)}`,
    state: raw.state,
  };

  const rows = [
    { name: 'main thread', ...main, now: now.get(mine) },
    { name: 'raw view', ...rawRow, now: now.get(raw) },
  ];
  for (const { name, end } of holders) rows.push({ name, now: now.get(shared), ...(await end()) });
  print(rows, called);
  say.line(`revokeSync() took ${Number((returned - called) / 1000n)} µs and reports ${JSON.stringify(report.means)}`);
  say.line(`/proc/self/maps now says: ${tombstone.replace(/\s+/g, ' ')}`);
  check(rows, report, tombstone);
  controlObject.close();
  return { device, old: [mine, shared, raw] };
}

/**
 * A process of its own counts its faults. In this one the kernel's list of mappings shows the tombstone, or private
 * memory, the fill, where a thread ran into the truncation before its mapping had been replaced.
 */
function means(row) {
  if (row.faults !== undefined) return row.faults > 0 ? 'truncation' : 'none';
  if (row.now.includes('/memfd:revoked')) return 'tombstone';
  return / r.-p 00000000 00:00 0/.test(row.now) ? 'truncation' : 'none';
}

function print(rows, called) {
  const head = ['holder', '>slots', 'what it saw', '>µs after', 'means', '>stale', '>torn'];
  const cells = rows.map((row) => {
    const after = row.at === undefined ? '–' : (row.at - called) / 1000n;
    return [row.name, row.count, row.died ?? row.code ?? 'nothing', after, means(row), row.after, row.torn];
  });
  printTable(head, cells);
  say.line('slots: read before the unplug. µs after: from the call to the error. truncation: the fault came first.');
}

function check(rows, report, tombstone) {
  const checked = rows.filter((row) => row.name !== 'raw view');
  claim(
    'no process died',
    rows.every((row) => row.died === undefined),
  );
  claim(
    'every checked holder got MappingRevokedError',
    checked.every((row) => row.code === 'ERR_MAPPING_REVOKED'),
  );
  claim('the raw view read the fill, all ones', rows[1].code === 'reads 0xff');
  claim(
    'every reader checked real data before',
    checked.every((row) => row.count > 1000),
  );
  claim(
    'no holder read anything after the unplug had returned',
    rows.every((row) => row.after === 0),
  );
  claim(
    'no holder read a torn value',
    rows.every((row) => row.torn === 0),
  );
  claim(
    'every holder knows that its mapping is revoked',
    rows.every((row) => row.state === 'revoked'),
  );
  claim(
    'every holder was reached by the means in the table',
    rows.every((row) => means(row) !== 'none'),
  );
  claim(
    'all three mappings of this process were replaced by the tombstone',
    report.mappings === 3 && report.means.replaced === 3,
  );
  claim(
    'the kernel shows the tombstone, same address, still read-only',
    tombstone?.includes('/memfd:revoked') && / r--s /.test(tombstone),
  );
}
