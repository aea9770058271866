// Several threads write to one page at the moment it has to be filled: node a6-one-page.cjs KIND ROUNDS
//
// KIND: zeros, ones, windows (ones, more than 1 GiB), read-only (the fill starts without write permission), truncated (one lost page).
// Every thread writes its own bytes, all must be there afterwards. At least so many rounds, and until faults of two threads have met often
// enough. Prints JSON: { lost, reads, together }.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const fs = require('node:fs');
const { MemoryObject } = require('revocable-mmap');
const { native } = require('../../dist/native/load.js');

const PAGE = 4096;
const THREADS = 3;
const MAPPINGS = 24; // filled one after the other in a round, so that a round has as many chances
const ENOUGH = 5; // times that two threads must have faulted together
const ARRIVED = 0;
const ROUND = 1;

// Bytes of the page that belong to a thread: spread over it, next to those of the others.
function writeOwn(bytes, thread) {
  for (let i = thread; i < PAGE; i += 64) bytes[i] = 0x10 + thread;
}

// All threads leave at once, or as many as there are processors.
function meet(sync) {
  const round = Atomics.load(sync, ROUND);
  if (Atomics.add(sync, ARRIVED, 1) === THREADS - 1) {
    Atomics.store(sync, ARRIVED, 0);
    Atomics.add(sync, ROUND, 1);
    Atomics.notify(sync, ROUND);
    return;
  }
  for (let i = 0; i < 300; i++) if (Atomics.load(sync, ROUND) !== round) return;
  while (Atomics.load(sync, ROUND) === round) Atomics.wait(sync, ROUND, round);
}

function writeAll(sync, pages, thread) {
  for (const bytes of pages) {
    meet(sync);
    writeOwn(bytes, thread);
  }
}

if (isMainThread) main();
else {
  const sync = new Int32Array(workerData.sync);
  parentPort.on('message', (message) => {
    if (message === 'end') return parentPort.close();
    const pages = message.buffers.map((buffer) => new Uint8Array(buffer, message.offset, PAGE));
    meet(sync);
    writeAll(sync, pages, workerData.thread);
    meet(sync);
  });
}

async function main() {
  const [kind, rounds] = [process.argv[2], Number(process.argv[3])];
  const sync = new Int32Array(new SharedArrayBuffer(8));
  const together = () => native.stats().faultsShared;
  const workers = [];
  for (let thread = 1; thread < THREADS; thread++)
    workers.push(new Worker(__filename, { workerData: { sync: sync.buffer, thread } }));
  const path = `${process.env.SCRATCH}/file`;
  let lost = 0;
  let reads = 0; // kept, so that the compiler does not drop the reads
  const size = kind === 'windows' ? 2 ** 30 + 2 ** 22 : 4 * PAGE;
  const fill = kind === 'ones' || kind === 'windows' ? 'ones' : 'zeros';
  const expected = new Uint8Array(PAGE).fill(fill === 'ones' ? 0xff : 0);
  for (let thread = 0; thread < THREADS; thread++) writeOwn(expected, thread);
  let round = 0;
  for (; round < rounds || (together() < ENOUGH && round < 20 * rounds); round++) {
    let memory;
    if (kind === 'truncated') {
      fs.writeFileSync(path, Buffer.alloc(4 * PAGE, 1));
      memory = MemoryObject.openFile(path, { writable: true });
    } else {
      memory = MemoryObject.create({ size });
    }
    const mappings = Array.from({ length: MAPPINGS }, () => memory.map({ fill, access: kind === 'read-only' ? 'r' : 'rw' }));
    const offset = kind === 'windows' ? 2 ** 30 + PAGE : 2 * PAGE;
    const buffers = mappings.map(({ buffer }) => buffer);
    const pages = buffers.map((buffer) => new Uint8Array(buffer, offset, PAGE));
    for (const worker of workers) worker.postMessage({ buffers, offset });
    if (kind === 'truncated') fs.truncateSync(path, PAGE);
    else memory.revokeSync();
    if (kind === 'read-only' && round % 2 === 0) for (const { bytes } of mappings) reads += bytes[0];
    meet(sync);
    writeAll(sync, pages, 0);
    meet(sync);
    for (const bytes of pages) if (bytes.some((byte, i) => byte !== expected[i])) lost++;
    memory.close();
  }
  for (const worker of workers) worker.postMessage('end');
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  console.log(JSON.stringify({ lost, reads, together: together() >= ENOUGH }));
}
