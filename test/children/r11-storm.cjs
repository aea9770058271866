// Threads that are about to wait, or wait, when the memory goes: r11-storm.cjs ROUNDS [SEED]. The first that is not woken ends it.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { MemoryObject, Mapping } = require('revocable-mmap');
const { random, seedFrom, spin } = require('./random.cjs');

const ROUNDS = Number(process.argv[2]);
const THREADS = 2;
const LIMIT = 10_000; // milliseconds

if (isMainThread) main();
else waiter();

async function main() {
  const seed = seedFrom(process.argv[3]);
  console.log(`seed ${seed}`);
  const next = random(seed);
  const sync = new Int32Array(new SharedArrayBuffer(4));
  const workers = Array.from({ length: THREADS }, () => new Worker(__filename, { workerData: { sync }, argv: [ROUNDS] }));
  const outcomes = {};
  for (let round = 0; round < ROUNDS; round++) {
    const object = MemoryObject.create({ size: 4096 });
    const mapping = object.map();
    Atomics.store(sync, 0, 0);
    const ends = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
    for (const worker of workers) worker.postMessage(mapping.share());
    const mine = mapping.wait(0, 0).catch((error) => error.code);
    while (Atomics.load(sync, 0) < THREADS) await new Promise((resolve) => setImmediate(resolve));
    spin(next(60_000));
    if (round % 2 === 0) object.revokeSync();
    else await object.revoke();
    const alarm = setTimeout(() => {
      console.error(`round ${round}: a thread has not been woken`);
      process.exit(1);
    }, LIMIT);
    for (const outcome of [await mine, ...(await Promise.all(ends))]) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    clearTimeout(alarm);
    object.close();
  }
  for (const worker of workers) worker.postMessage(null);
  console.log(JSON.stringify(outcomes));
}

function waiter() {
  const { sync } = workerData;
  parentPort.on('message', (handle) => {
    if (handle === null) return parentPort.close();
    const mapping = Mapping.attach(handle);
    Atomics.add(sync, 0, 1);
    let outcome;
    try {
      outcome = mapping.waitSync(0, 0);
    } catch (error) {
      outcome = error.code;
    }
    mapping.close();
    parentPort.postMessage(outcome);
  });
}
