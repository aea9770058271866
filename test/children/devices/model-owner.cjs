// model-owner.cjs ADDON ROUNDS: a worker's device has a model that ends with the worker, whose thread is terminated while this one
// accesses the registers all the time. Prints how many models have ended under accesses, and how many calls came too late.
const { once } = require('node:events');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { Device, Mapping, MemoryObject } = require('revocable-mmap');

async function round(file, addon) {
  const worker = new Worker(__filename, { workerData: file });
  const [handle] = await once(worker, 'message');
  const mapping = Mapping.attach(handle);
  const words = new Uint32Array(mapping.buffer, 0, 4);
  if (Atomics.load(words, 0) !== 1) throw new Error('the model does not answer');
  const ended = worker.terminate();
  let gone = false;
  void ended.then(() => (gone = true));
  while (!gone) {
    for (let i = 0; i < 20; i++) Atomics.load(words, 0);
    addon.tick();
    await new Promise(setImmediate);
  }
  if (mapping.state === 'live') throw new Error('the mapping outlives its thread');
  if (Atomics.load(words, 0) !== 0) throw new Error('no fill');
}

async function main() {
  const [file, rounds] = process.argv.slice(2);
  const addon = require(file);
  for (let i = 0; i < Number(rounds); i++) await round(file, addon);
  console.log(`${addon.ends()} ended, ${addon.lateCalls()} late calls`);
}

if (isMainThread) {
  main();
} else {
  // What begins last is torn down first. The library begins with its first use, and this addon after it: so the model would end while the
  // library still lets others reach it.
  MemoryObject.create({ size: 4096 }).close();
  const model = require(workerData).makeMortal();
  const device = new Device({ name: 'mortal', regions: [{ size: 4096, kind: 'registers', model }] });
  parentPort.postMessage(device.open().map().share());
  setInterval(() => undefined, 1000);
}
