// Threads that fault on one revoked page at once, each with a write: r2-lost-writes.cjs ROUNDS
//
// There are as many rounds as asked for, and more until enough faults have met another one at the same page.
//
// The first fault maps the fill and lets its write land there. A second fill by another thread would wipe it.
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { MemoryObject, stats } = require('revocable-mmap');
const { native } = require('../../dist/native/load.js');

const ROUNDS = Number(process.argv[2]);
const BATCH = 500;
const MET = 20;
const THREADS = 4;
const ARRIVED = 0;
const ROUND = 1;
const FINISHED = 3;

if (isMainThread) main();
else write();

async function main() {
  const sync = new Int32Array(new SharedArrayBuffer(16));
  const workers = Array.from(
    { length: THREADS },
    (_, number) => new Worker(__filename, { workerData: { sync, number }, argv: [ROUNDS] }),
  );
  const ends = workers.map((worker) => new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject)));
  let lost = 0;
  let rounds = 0;
  for (; rounds < ROUNDS || native.stats().faultsShared < MET; rounds += BATCH) {
    const mappings = Array.from({ length: BATCH }, (_, i) => {
      const object = MemoryObject.create({ size: i % 4 === 0 ? 4096 : 16384 });
      const mapping = object.map({ fill: i % 2 === 0 ? 'zeros' : 'ones' });
      if (i % 3 !== 0) mapping.write8(0, 1);
      object.revokeSync();
      return mapping;
    });
    Atomics.store(sync, FINISHED, 0);
    for (const worker of workers) worker.postMessage(mappings.map((mapping) => mapping.buffer));
    while (Atomics.load(sync, FINISHED) < THREADS) await new Promise((resolve) => setTimeout(resolve, 1));
    mappings.forEach((mapping, i) => {
      const words = new Uint32Array(mapping.buffer, 0, 1024);
      for (let thread = 0; thread < THREADS; thread++) if (words[place(thread, i)] !== value(thread, i)) lost++;
      mapping.object.close();
    });
  }
  for (const worker of workers) worker.postMessage(null);
  await Promise.all(ends);
  const { fills, foreignSignals } = stats();
  console.log(JSON.stringify({ rounds, lost, fills, foreignSignals, together: native.stats().faultsShared }));
}

function place(thread, round) {
  return (round % 200) * 4 + thread;
}

function value(thread, round) {
  return 0x1000_0000 * (thread + 1) + round + 1;
}

function write() {
  const { sync, number } = workerData;
  require('node:worker_threads').parentPort.on('message', (buffers) => {
    if (buffers === null) {
      require('node:worker_threads').parentPort.close();
      return;
    }
    const views = buffers.map((buffer) => new Uint32Array(buffer, 0, 1024));
    for (let i = 0; i < BATCH; i++) {
      meet(sync);
      views[i][place(number, i)] = value(number, i);
    }
    Atomics.add(sync, FINISHED, 1);
  });
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
