import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Device } from 'revocable-mmap/device';
import { claim, printTable, say } from './story.mjs';

const PAGE = 4096;
const PAGES = 64;
const LOAD_MS = 1500;
const QUIET_MS = 1000;
const OPS = ['open', 'mmap', 'fault', 'readRegister', 'read', 'close', 'release'];

/** Resolves when the op is no longer wanted. */
const abandoned = (signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(0), { once: true }));

function makeDevice(calls) {
  let counter = 0;
  const numbered = (index) => new Uint8Array(new Uint32Array(PAGE / 4).fill(index).buffer);
  const model = {
    open: () => undefined,
    mmap: () => undefined,
    // The last page never comes.
    fault: (page) => (page.index < PAGES ? numbered(page.index) : abandoned(page.signal).then(() => undefined)),
    readRegister: () => ++counter,
    read: (file, target, position, { signal }) => abandoned(signal),
    close: ({ mapping }) => void calls.closed.push(mapping),
    release: ({ id }) => void calls.released.push(id),
  };
  const counted = Object.entries(model).map(([name, op]) => [name, (...given) => (calls.count[name]++, op(...given))]);
  return new Device({
    name: 'card',
    regions: [
      { name: 'memory', size: (PAGES + 1) * PAGE },
      { name: 'registers', size: PAGE, kind: 'registers' },
    ],
    ops: Object.fromEntries(counted),
  });
}

async function startUser(name, role, file) {
  const mapping = file.map({ region: role === 'registers' ? 'registers' : 'memory' });
  const words = new SharedArrayBuffer(4);
  const worker = new Worker(new URL('device-user.mjs', import.meta.url), {
    workerData: { role, handle: mapping.share(), pages: PAGES, words },
  });
  await once(worker, 'message');
  const end = once(worker, 'message').then(([seen]) => seen);
  return { name, uses: () => new Uint32Array(words)[0], end, mapping };
}

/** Reads pages from this thread, which also answers for them, one after the other until there is an error. */
function startAsyncReads(file) {
  const mapping = file.map({ region: 'memory' });
  let count = 0;
  const read = async () => {
    try {
      for (; ; count++) await mapping.readAsync((count % PAGES) * PAGE, new Uint8Array(64));
    } catch (error) {
      return { code: error.code, at: process.hrtime.bigint() };
    }
  };
  return { name: 'this thread, readAsync()', uses: () => count, end: read(), mapping };
}

function startBlockedRead(file, n) {
  const end = file.read(new Uint8Array(16)).then(
    () => ({ code: 'none', at: process.hrtime.bigint() }),
    (error) => ({ code: error.code, at: process.hrtime.bigint() }),
  );
  return { name: `file.read() that waits, ${n}`, uses: () => 0, end };
}

export async function removal() {
  const calls = { count: Object.fromEntries(OPS.map((op) => [op, 0])), closed: [], released: [] };
  const device = makeDevice(calls);
  const files = [device.open(), device.open()];
  const users = [
    await startUser('worker 1, pages', 'pages', files[0]),
    await startUser('worker 2, pages', 'pages', files[1]),
    await startUser('worker 3, a page that never comes', 'blocked', files[0]),
    await startUser('worker 4, polls a register', 'registers', files[1]),
    startAsyncReads(files[0]),
    startBlockedRead(files[0], 1),
    startBlockedRead(files[1], 2),
  ];
  const zapping = setInterval(() => device.region('memory').zap({ offset: 0, length: PAGES * PAGE }), 5);
  await sleep(LOAD_MS);
  clearInterval(zapping);

  const before = { ...calls.count };
  const called = process.hrtime.bigint();
  const report = await device.unplug('pulled out');
  const took = (process.hrtime.bigint() - called) / 1000n;
  const resolved = { ...calls.count };
  const seen = await Promise.all(users.map(async ({ name, uses, end }) => ({ name, ...(await end), uses: uses() })));
  await sleep(QUIET_MS);
  const after = { ...calls.count };

  printUsers(seen, called);
  console.log();
  printOps(before, resolved, after);
  say.line(`unplug() took ${took} µs; ${report.mappings} mappings, ${report.files} files, ${report.abandonedOps} ops abandoned`);
  const mappings = users.filter(({ mapping }) => mapping !== undefined).length;
  check({ seen, before, resolved, after, calls, report, mappings, files: files.length });
}

function printUsers(seen, called) {
  const cells = seen.map(({ name, uses, code, at }) => [name, uses, code, (at - called) / 1000n]);
  printTable(['user', '>uses before', 'what ended it', '>µs after'], cells);
}

function printOps(before, resolved, after) {
  const cells = OPS.map((op) => [op, before[op], resolved[op] - before[op], after[op] - resolved[op]]);
  printTable(['op', '>before unplug()', '>until it resolved', `>${QUIET_MS} ms after`], cells);
}

function check({ seen, before, resolved, after, calls, report, mappings, files }) {
  const distinct = (names, count) => names.length === count && new Set(names).size === count;
  claim(
    'the device was under load: pages, registers and reads',
    before.fault > 200 && before.readRegister > 200 && before.read === files,
  );
  claim(
    'every user of the device, also one that waited, got an error that it is gone',
    seen.every(({ code }) => code === 'ERR_MAPPING_REVOKED' || code === 'ENODEV'),
  );
  claim(
    'from the call of unplug() on no op was called but close and release',
    OPS.every((op) => op === 'close' || op === 'release' || resolved[op] === before[op]),
  );
  claim('close was called once for each mapping', distinct(calls.closed, mappings) && report.mappings === mappings);
  claim('release was called once for each file', distinct(calls.released, files) && report.files === files);
  claim(
    'when unplug() had resolved no op ran any more, nor was one abandoned',
    report.abandonedOps === 0 && OPS.every((op) => after[op] === resolved[op]),
  );
}
