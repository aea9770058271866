// Several threads write to one page at the moment it has to be filled: node a6-one-page.cjs KIND ROUNDS
//
// KIND: zeros, ones, windows (ones, more than 1 GiB), read-only (the fill starts without write permission), truncated (one lost page).
// Every thread writes its own bytes, all must be there afterwards. Prints JSON: { lost, rounds, reads }.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const fs = require('node:fs');
const { MemoryObject } = require('revocable-mmap');

const PAGE = 4096;
const THREADS = 3;
const MAPPINGS = 24; // filled one after the other in a round, so that a round has as many chances
const READY = 0;
const GO = 1;
const DONE = 2;

// Bytes of the page that belong to a thread: spread over it, next to those of the others.
function writeOwn(bytes, thread) {
  for (let i = thread; i < PAGE; i += 64) bytes[i] = 0x10 + thread;
}

function count(sync, word) {
  Atomics.add(sync, word, 1);
  Atomics.notify(sync, word);
}

// Sleeps: only the start is spun for, so that more threads than processors still start together.
function awaitCount(sync, word, wanted) {
  for (let now; (now = Atomics.load(sync, word)) < wanted;) Atomics.wait(sync, word, now);
}

if (isMainThread) main();
else {
  const sync = new Int32Array(workerData.sync);
  parentPort.on('message', (message) => {
    if (message === 'end') return parentPort.close();
    const pages = message.buffers.map((buffer) => new Uint8Array(buffer, message.offset, PAGE));
    count(sync, READY);
    while (Atomics.load(sync, GO) === 0);
    for (const bytes of pages) writeOwn(bytes, workerData.thread);
    count(sync, DONE);
  });
}

async function main() {
  const [kind, rounds] = [process.argv[2], Number(process.argv[3])];
  const sync = new Int32Array(new SharedArrayBuffer(12));
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
  for (let round = 0; round < rounds; round++) {
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
    sync.fill(0);
    for (const worker of workers) worker.postMessage({ buffers, offset });
    awaitCount(sync, READY, THREADS - 1);
    if (kind === 'truncated') fs.truncateSync(path, PAGE);
    else memory.revokeSync();
    if (kind === 'read-only' && round % 2 === 0) for (const { bytes } of mappings) reads += bytes[0];
    Atomics.store(sync, GO, 1);
    for (const bytes of pages) writeOwn(bytes, 0);
    awaitCount(sync, DONE, THREADS - 1);
    for (const bytes of pages) if (bytes.some((byte, i) => byte !== expected[i])) lost++;
    memory.close();
  }
  for (const worker of workers) worker.postMessage('end');
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  console.log(JSON.stringify({ lost, rounds, reads }));
}
