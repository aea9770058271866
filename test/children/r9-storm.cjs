// Readers under a device that goes to sleep and wakes up: r9-storm.cjs CYCLES [SEED]
//
// The number of the cycle, the canary, is written while the memory is suspended, through an object of another descriptor. While
// it is suspended no thread sees anything but the fill; after resume no thread sees an older cycle's number.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { MemoryObject, Mapping, stats } = require('revocable-mmap');
const { random, seedFrom, spin } = require('./random.cjs');

const CYCLES = Number(process.argv[2]);
const READERS = 2;
const READY = 0;
const AWAKE = 1; // the number of the cycle, while resume() has returned and suspend() has not been called
const ASLEEP = 2; // the same while suspend() has returned and resume() has not been called
const END = 3;

if (isMainThread) main();
else reader();

async function main() {
  const seed = seedFrom(process.argv[3]);
  console.log(`seed ${seed}`);
  const next = random(seed);
  const device = MemoryObject.create({ size: 8192 });
  const other = device.map();
  const object = MemoryObject.fromFd(device.fd, { writable: true });
  const mappings = [object.map(), object.map({ offset: 4096 })];
  const sync = new Int32Array(new SharedArrayBuffer(16));
  const workers = Array.from({ length: READERS }, (_, number) => {
    return new Worker(__filename, {
      workerData: { handles: mappings.map((mapping) => mapping.share()), sync, seed: seed + number },
      argv: [CYCLES],
    });
  });
  const reports = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
  while (Atomics.load(sync, READY) < READERS) await new Promise((resolve) => setImmediate(resolve));
  let lateWrites = 0;
  for (let cycle = 1; cycle <= CYCLES; cycle++) {
    await object.suspend();
    Atomics.store(sync, ASLEEP, cycle);
    other.write32(0, cycle);
    other.write32(4096, cycle);
    const before = other.read32(8);
    spin(next(20_000));
    if (other.read32(8) !== before) lateWrites++;
    Atomics.store(sync, ASLEEP, 0);
    await object.resume();
    Atomics.store(sync, AWAKE, cycle);
    spin(next(20_000));
    Atomics.store(sync, AWAKE, 0);
  }
  await object.revoke();
  Atomics.store(sync, END, 1);
  const { suspends, resumes, foreignSignals } = stats();
  console.log(JSON.stringify({ suspends, resumes, foreignSignals, lateWrites, readers: await Promise.all(reports) }));
}

function reader() {
  const { handles, sync, seed } = workerData;
  Error.stackTraceLimit = 0;
  const next = random(seed);
  const mappings = handles.map((handle) => Mapping.attach(handle));
  const words = mappings.map(({ buffer }) => new Uint32Array(buffer, 0, 1024));
  const seen = { values: 0, fills: 0, refused: 0, leaked: 0, old: 0, wrong: 0, backwards: 0, end: undefined, strangeErrors: [] };
  let newest = 0;
  Atomics.add(sync, READY, 1);
  while (Atomics.load(sync, END) === 0) {
    const i = next(2);
    look(() => words[i][0]);
    look(() => mappings[i].read32(0));
    if (i === 0) words[0][2] = next(1000); // never into the memory while it sleeps
  }
  seen.end = mappings.map((mapping) => {
    try {
      return mapping.read32(0);
    } catch (error) {
      return error.code;
    }
  });
  parentPort.postMessage(seen);

  function look(read) {
    const asleep = Atomics.load(sync, ASLEEP);
    const awake = Atomics.load(sync, AWAKE);
    let value;
    try {
      value = read();
    } catch (error) {
      seen.refused++;
      if (error.code === 'ERR_MAPPING_REVOKED' && Atomics.load(sync, AWAKE) === 0) return;
      if (error.code !== 'ERR_MAPPING_SUSPENDED') seen.strangeErrors.push(String(error));
      else if (awake !== 0 && Atomics.load(sync, AWAKE) === awake) seen.wrong++; // refused although it was awake all the time
      return;
    }
    const stillAsleep = asleep !== 0 && Atomics.load(sync, ASLEEP) === asleep;
    const stillAwake = awake !== 0 && Atomics.load(sync, AWAKE) === awake;
    if (value === 0) {
      seen.fills++;
      if (stillAwake) seen.wrong++;
      return;
    }
    seen.values++;
    if (stillAsleep) seen.leaked++;
    if (stillAwake && value !== awake) seen.old++;
    if (value < newest) seen.backwards++;
    newest = Math.max(newest, value);
  }
}
