// model-owner.cjs ADDON ROUNDS: a worker's device has a model that ends with the worker, whose thread is terminated while this one
// accesses the registers all the time.
const { once } = require('node:events');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { Device, Mapping } = require('revocable-mmap');

async function round(addon) {
  const worker = new Worker(__filename, { workerData: addon });
  const [handle] = await once(worker, 'message');
  const mapping = Mapping.attach(handle);
  const words = new Uint32Array(mapping.buffer, 0, 4);
  const ended = worker.terminate();
  let gone = false;
  void ended.then(() => (gone = true));
  while (!gone) {
    for (let i = 0; i < 200; i++) Atomics.load(words, 0);
    await new Promise(setImmediate);
  }
  if (mapping.state === 'live') throw new Error('the mapping outlives its thread');
  if (Atomics.load(words, 0) !== 0) throw new Error('no fill');
}

async function main() {
  const [addon, rounds] = process.argv.slice(2);
  for (let i = 0; i < Number(rounds); i++) await round(addon);
  console.log('survived');
}

if (isMainThread) {
  main();
} else {
  const model = require(workerData).makeMortal();
  const device = new Device({ name: 'mortal', regions: [{ size: 4096, kind: 'registers', model }] });
  parentPort.postMessage(device.open().map().share());
  setInterval(() => undefined, 1000);
}
