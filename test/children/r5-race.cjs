// Maps that race one revoke: r5-race.cjs ROUNDS MAPS [SEED]
//
// In every round three threads and the main one map the same object, MAPS times in all, while the main thread revokes it. The
// object is not the library's own, so that a mapping that slipped through would show its bytes.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { readFileSync } = require('node:fs');
const { MemoryObject, Mapping, stats } = require('revocable-mmap');
const { random, seedFrom, spin } = require('./random.cjs');

const [ROUNDS, MAPS] = process.argv.slice(2, 4).map(Number);
const THREADS = 3;
const CANARY = 0x600dcafe;
const GO = 0;
const READY = 1;

if (isMainThread) main();
else mapper();

async function main() {
  const seed = seedFrom(process.argv[4]);
  console.log(`seed ${seed}`);
  const next = random(seed);
  const sync = new Int32Array(new SharedArrayBuffer(8));
  const workers = Array.from({ length: THREADS }, () => new Worker(__filename, { workerData: { sync }, argv: [ROUNDS, MAPS] }));
  const sum = { mapped: 0, refused: 0, live: 0, stale: 0, strangeErrors: [], lines: 0, duringRevoke: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const device = MemoryObject.create({ size: 4096, name: 'raced' });
    const witness = device.map();
    witness.write32(0, CANARY);
    const object = MemoryObject.fromFd(device.fd, { writable: true, name: 'raced' });
    const handle = object.map().share();
    Atomics.store(sync, GO, 0);
    Atomics.store(sync, READY, 0);
    const answers = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
    for (const worker of workers) worker.postMessage(handle);
    while (Atomics.load(sync, READY) < THREADS) await new Promise((resolve) => setImmediate(resolve));
    Atomics.store(sync, GO, 1);
    const share = Math.ceil(MAPS / (THREADS + 1));
    const early = tryMaps(object, next(share));
    spin(next(200_000));
    const promise = round % 2 === 0 ? object.revoke() : Promise.resolve(object.revokeSync());
    const late = tryMaps(object, share - (early.mapped.length + early.refused));
    sum.duringRevoke += late.mapped.length; // the gate is shut from the first instant
    await promise;
    const found = [look(early), look(late), ...(await Promise.all(answers))];
    // The witness is the one mapping of it that may be left.
    sum.lines +=
      readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line.includes('memfd:raced')).length - 1;
    if (witness.read32(0) !== CANARY) sum.strangeErrors.push('the witness has changed');
    for (const { mapped, refused, live, stale, strangeErrors } of found) {
      sum.mapped += mapped;
      sum.refused += refused;
      sum.live += live;
      sum.stale += stale;
      sum.strangeErrors.push(...strangeErrors);
    }
    for (const worker of workers) worker.postMessage('close');
    for (const mapping of [...early.mapped, ...late.mapped]) mapping.close();
    object.close();
    device.close();
  }
  for (const worker of workers) worker.postMessage('end');
  console.log(JSON.stringify({ ...sum, foreignSignals: stats().foreignSignals }));
}

function tryMaps(object, count) {
  const result = { mapped: [], refused: 0, strangeErrors: [] };
  for (let i = 0; i < count; i++) {
    try {
      result.mapped.push(object.map());
    } catch (error) {
      result.refused++;
      if (error.code !== 'ENODEV' || error.errno !== -19 || error.syscall !== 'mmap') result.strangeErrors.push(String(error));
    }
  }
  return result;
}

function look({ mapped, refused, strangeErrors }) {
  let live = 0;
  let stale = 0;
  for (const mapping of mapped) {
    if (mapping.state !== 'revoked') live++;
    try {
      mapping.read32(0);
      stale++;
    } catch (error) {
      if (error.code !== 'ERR_MAPPING_REVOKED') strangeErrors.push(String(error));
    }
    if (mapping.view.getUint32(0, true) !== 0) stale++;
  }
  return { mapped: mapped.length, refused, live, stale, strangeErrors };
}

function mapper() {
  const { sync } = workerData;
  let result;
  parentPort.on('message', (message) => {
    if (message === 'end') return parentPort.close();
    if (message === 'close') {
      for (const mapping of result.mapped) mapping.close();
      return;
    }
    const mapping = Mapping.attach(message);
    Atomics.add(sync, READY, 1);
    while (Atomics.load(sync, GO) === 0);
    result = tryMaps(mapping.object, Math.ceil(MAPS / (THREADS + 1)));
    while (mapping.object.state === 'live' || !isDone(mapping)); // until revoke is through with all of them
    parentPort.postMessage(look(result));
    mapping.close();
  });
}

// The second revoke() returns when the first is through.
function isDone(mapping) {
  mapping.object.revokeSync();
  return true;
}
