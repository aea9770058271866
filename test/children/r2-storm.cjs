// Readers that never see a hole: r2-storm.cjs GENERATIONS [SEED]
//
// Every generation is an object of its own whose words all hold the generation's number, the canary. Threads read and write
// whatever generation is about to be revoked while the main thread revokes one after the other. Half of the objects are not the
// library's own: of those only the mappings go, and a write after revoke has returned would be found in the memory.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { MemoryObject, Mapping, stats } = require('revocable-mmap');
const { mincore } = require('./libc.cjs');
const { random, seedFrom, spin } = require('./random.cjs');

const GENERATIONS = Number(process.argv[2]);
const BATCH = 250;
const READERS = 2;
const WORDS = 2048; // two pages
const ATTACHED = 0;
const CURRENT = 1;
const FLAGS = 4; // from here on: generation i of the batch has been revoked, and the call has returned
const WRITTEN_AT = 512; // first of the words that readers write to

if (isMainThread) main();
else reader();

async function main() {
  const seed = seedFrom(process.argv[3]);
  console.log(`seed ${seed}`);
  const next = random(seed);
  const sync = new Int32Array(new SharedArrayBuffer(4 * (FLAGS + BATCH)));
  const workers = Array.from({ length: READERS }, (_, number) => new Worker(__filename, { workerData: { sync, number, seed } }));
  for (const worker of workers) worker.on('error', (error) => console.error(error));
  let lateWrites = 0;
  for (let first = 1; first <= GENERATIONS; first += BATCH) {
    const batch = Array.from({ length: BATCH }, (_, i) => generation(first + i, i));
    sync.fill(0);
    const done = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
    for (const worker of workers) worker.postMessage({ first, handles: batch.map(({ mapping }) => mapping.share()) });
    while (Atomics.load(sync, ATTACHED) < READERS) await new Promise((resolve) => setImmediate(resolve));
    for (let i = 0; i < BATCH; i++) {
      Atomics.store(sync, CURRENT, i);
      spin(next(4000));
      if (i % 5 === 4) await batch[i].object.revoke();
      else batch[i].object.revokeSync();
      const witness = batch[i].witness;
      batch[i].atReturn = witness && [witness.read32(4 * WRITTEN_AT), witness.read32(4 * WRITTEN_AT + 4)].join();
      Atomics.store(sync, FLAGS + i, 1);
    }
    Atomics.store(sync, CURRENT, BATCH);
    await Promise.all(done);
    for (const { witness, atReturn, object, device } of batch) {
      if (witness && [witness.read32(4 * WRITTEN_AT), witness.read32(4 * WRITTEN_AT + 4)].join() !== atReturn) lateWrites++;
      object.close();
      device?.close();
    }
  }
  const seen = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
  for (const worker of workers) worker.postMessage('report');
  const { revokes, foreignSignals } = stats();
  console.log(JSON.stringify({ seed, revokes, foreignSignals, lateWrites, readers: await Promise.all(seen) }));
}

function generation(canary, i) {
  const device = i % 2 === 0 ? undefined : MemoryObject.create({ size: 4 * WORDS });
  const object =
    device === undefined ? MemoryObject.create({ size: 4 * WORDS }) : MemoryObject.fromFd(device.fd, { writable: true });
  const mapping = object.map({ fill: i % 3 === 0 ? 'ones' : 'zeros' });
  new Uint32Array(mapping.buffer, 0, WORDS).fill(canary);
  return { object, device, mapping, witness: device?.map(), atReturn: undefined };
}

function reader() {
  const { sync, number, seed } = workerData;
  Error.stackTraceLimit = 0; // half a million errors
  const next = random(seed + number + 1);
  const old = []; // views of earlier generations, whose mappings have been closed since
  const pages = Buffer.alloc(2);
  const seen = {
    reads: 0,
    holes: 0,
    live: 0,
    transitions: 0,
    refused: 0,
    stale: 0,
    checkedStale: 0,
    wrong: 0,
    resurrected: 0,
    aliased: 0,
    strangeErrors: [],
  };
  parentPort.on('message', (message) => {
    if (message === 'report') {
      parentPort.postMessage(seen);
      parentPort.close();
      return;
    }
    const mappings = message.handles.map((handle) => Mapping.attach(handle));
    const addresses = mappings.map(({ address }) => Number(address));
    const views = message.handles.map((handle) => new Uint32Array(handle.buffer, 0, WORDS));
    const last = { rawGone: new Uint8Array(BATCH), rawLive: new Uint8Array(BATCH), refused: new Uint8Array(BATCH) };
    const bulk = new Uint32Array(16);
    Atomics.add(sync, ATTACHED, 1);
    for (let current; (current = Atomics.load(sync, CURRENT)) < BATCH;) {
      const i = Math.max(0, Math.min(BATCH - 1, current + next(4) - 1));
      look(i, message.first + i, i % 3 === 0 ? 0xffffffff : 0, views[i], mappings[i], addresses, last, bulk);
      if (old.length > 0) lookBack(old[next(old.length)]);
    }
    for (let i = 0; i < BATCH; i++)
      look(i, message.first + i, i % 3 === 0 ? 0xffffffff : 0, views[i], mappings[i], addresses, last, bulk);
    old.push(views[next(BATCH)]);
    if (old.length > 50) old.shift();
    parentPort.postMessage('done');
  });

  function look(i, canary, fill, view, mapping, addresses, last, bulk) {
    const word = 512 * next(4);
    const gone = Atomics.load(sync, FLAGS + i) === 1;
    const value = view[word === WRITTEN_AT ? 0 : word];
    seen.reads++;
    if (value === canary) {
      seen.live++;
      if (gone) seen.stale++;
      if (last.rawGone[i] === 1) seen.resurrected++;
      last.rawLive[i] = 1;
    } else if (value === fill) {
      if (last.rawLive[i] === 1 && last.rawGone[i] === 0) seen.transitions++;
      last.rawGone[i] = 1;
    } else {
      seen.wrong++;
    }
    view[WRITTEN_AT + number] = seen.reads; // never SIGSEGV, and never into the memory once it is gone
    if (next(4) !== 0) return;
    // The kernel's word for it: a hole that a reader does not fall into would be one all the same.
    if (mincore(addresses[i], 4 * WORDS, pages) !== 0) seen.holes++;
    const goneNow = Atomics.load(sync, FLAGS + i) === 1;
    try {
      let checked;
      if (next(8) === 0) {
        mapping.read(4 * 600, bulk);
        checked = bulk[next(16)];
      } else {
        checked = mapping.read32(4 * 1024);
      }
      if (checked !== canary) seen.wrong++;
      else if (goneNow) seen.checkedStale++;
      // Between the refusal of checked accesses and the end of the revocation a raw one may still see old memory, never the reverse.
      else if (last.refused[i] === 1 || last.rawGone[i] === 1) seen.resurrected++;
    } catch (error) {
      seen.refused++;
      last.refused[i] = 1;
      if (error.code !== 'ERR_MAPPING_REVOKED') seen.strangeErrors.push(String(error));
    }
  }

  function lookBack(view) {
    const value = view[1];
    if (value !== 0 && value !== 0xffffffff) seen.aliased++;
  }
}
