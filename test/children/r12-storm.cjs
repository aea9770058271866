// Stale views in threads, of mappings that are closed, or collected, while new ones take their place: r12-storm.cjs ROUNDS HOW [SEED]
//
// HOW: `close`, `collect` (run with --expose-gc) or `revoke`. Every mapping's words hold its number. A stale view may show its own
// number, until the mapping ends, or a fill, and what this thread wrote to it; never another number.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { MemoryObject, stats } = require('revocable-mmap');
const { random, seedFrom } = require('./random.cjs');

const ROUNDS = Number(process.argv[2]);
const HOW = process.argv[3];
const BATCH = 100;
const READERS = 2;
const WORDS = 1024;
const OLD = 2000; // views a reader keeps

if (isMainThread) main();
else reader();

async function main() {
  const seed = seedFrom(process.argv[4]);
  console.log(`seed ${seed}`);
  const workers = Array.from(
    { length: READERS },
    (_, i) => new Worker(__filename, { workerData: { seed: seed + i }, argv: process.argv.slice(2) }),
  );
  let damaged = 0;
  let kept = [];
  let own = [];
  for (let round = 0; round < ROUNDS; round++) {
    const batch = Array.from({ length: BATCH }, (_, i) => {
      const object = MemoryObject.create({ size: 4 * WORDS });
      const number = round * BATCH + i + 1;
      const mapping = object.map({ fill: i % 2 === 0 ? 'zeros' : 'ones' });
      new Uint32Array(mapping.buffer, 0, WORDS).fill(number);
      return { object, mapping, number };
    });
    const answers = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
    for (const worker of workers)
      worker.postMessage({ first: batch[0].number, buffers: batch.map(({ mapping }) => mapping.buffer) });
    // The mappings of the round before end while the readers look at them; stale writes must not reach the new ones.
    for (const { object, mapping } of kept) {
      if (HOW === 'close') mapping.close();
      if (HOW === 'revoke') object.revokeSync();
      if (HOW !== 'collect') object.close();
    }
    kept = batch;
    if (HOW === 'collect' && round % 5 === 4) {
      kept = [];
      await new Promise((resolve) => setImmediate(resolve));
      globalThis.gc();
    }
    await Promise.all(answers);
    own.push(batch[round % BATCH]);
    if (own.length > 20) own = own.slice(1);
    for (const { mapping, number } of own) {
      if (mapping.state === 'live' && (mapping.read32(0) !== number || mapping.read32(4000) !== number)) damaged++;
    }
  }
  const reports = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
  for (const worker of workers) worker.postMessage(null);
  const { mappings, foreignSignals } = stats();
  console.log(JSON.stringify({ damaged, foreignSignals, closed: mappings.closed, readers: await Promise.all(reports) }));
}

function reader() {
  const next = random(workerData.seed);
  const seen = { looks: 0, fills: 0, own: 0, aliased: 0 };
  const old = [];
  parentPort.on('message', (message) => {
    if (message === null) {
      parentPort.postMessage(seen);
      parentPort.close();
      return;
    }
    for (let i = 0; i < 3000 && old.length > 0; i++) {
      const { words, number } = old[next(old.length)];
      const value = words[250 * next(4)];
      seen.looks++;
      if (value === 0 || value === 0xffffffff) seen.fills++;
      else if (value === number) seen.own++;
      else seen.aliased++;
      words[513] = number; // a write through a stale view
    }
    message.buffers.forEach((buffer, i) => old.push({ words: new Uint32Array(buffer, 0, WORDS), number: message.first + i }));
    while (old.length > OLD) old.splice(0, BATCH);
    parentPort.postMessage('done');
  });
}
