// Threads that revoke the same object at once, by revoke() or revokeSync(): r8-race.cjs ROUNDS [SEED]
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { MemoryObject, Mapping } = require('revocable-mmap');
const { random, seedFrom, spin } = require('./random.cjs');

const ROUNDS = Number(process.argv[2]);
const THREADS = 3;
const READY = 0;
const GO = 1;

if (isMainThread) main();
else revoker();

async function main() {
  const seed = seedFrom(process.argv[3]);
  console.log(`seed ${seed}`);
  const next = random(seed);
  const sync = new Int32Array(new SharedArrayBuffer(8));
  const workers = Array.from({ length: THREADS }, () => new Worker(__filename, { workerData: { sync }, argv: [ROUNDS] }));
  const sum = { rounds: 0, notExactlyOne: 0, different: 0, byWorker: 0, byMain: 0, live: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const object = MemoryObject.create({ size: 4096 });
    const count = 1 + next(40);
    const mappings = Array.from({ length: count }, () => object.map());
    const answers = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
    Atomics.store(sync, READY, 0);
    Atomics.store(sync, GO, 0);
    for (const worker of workers)
      worker.postMessage({ handle: mappings[0].share(), asynchronous: next(2) === 0, steps: next(3000) });
    while (Atomics.load(sync, READY) < THREADS) await new Promise((resolve) => setImmediate(resolve));
    // The thread that has a processor is first. So that each thread is at some time, one waits for the others now and then.
    const own = round % 10 === 1 ? [object.revokeSync()] : [];
    Atomics.store(sync, GO, 1);
    if (round % 10 === 0) while (mappings[0].state === 'live');
    else spin(next(40_000));
    own.push(...(next(2) === 0 ? [object.revoke(), object.revoke()] : [object.revokeSync(), object.revokeSync()]));
    const ofMain = await Promise.all(own);
    const reports = [...ofMain, ...(await Promise.all(answers))];
    const mine = reports.filter((report) => report.revokedByThisCall).length;
    if (mine !== 1) sum.notExactlyOne++;
    const counts = new Set(
      reports.map(({ mappings: n, means, durationUs, object: name }) => JSON.stringify({ n, means, durationUs, name })),
    );
    if (counts.size !== 1 || reports[0].mappings !== count || reports[0].means.replaced !== count) sum.different++;
    if (ofMain.some((report) => report.revokedByThisCall)) sum.byMain++;
    else sum.byWorker++;
    sum.live += mappings.filter((mapping) => mapping.state !== 'revoked').length;
    sum.rounds++;
    object.close();
  }
  for (const worker of workers) worker.postMessage(null);
  console.log(JSON.stringify(sum));
}

function revoker() {
  const { sync } = workerData;
  parentPort.on('message', async (message) => {
    if (message === null) return parentPort.close();
    const mapping = Mapping.attach(message.handle);
    const { object } = mapping;
    Atomics.add(sync, READY, 1);
    while (Atomics.load(sync, GO) === 0);
    spin(message.steps);
    const report = message.asynchronous ? await object.revoke() : object.revokeSync();
    mapping.close();
    parentPort.postMessage(report);
  });
}
