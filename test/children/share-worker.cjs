// A worker attaches, reads and writes, then acts on the object: share-worker.cjs ACTION. Prints what both threads saw.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const { MemoryObject, Mapping } = require('revocable-mmap');
const { say, outcome } = require('./conversation.cjs');

if (isMainThread) main();
else worker();

async function worker() {
  const mapping = Mapping.attach(workerData.handle);
  const seen = mapping.read32(0);
  mapping.write32(4, 4712);
  const acts = {
    revoke: () => mapping.object.revoke(),
    'close object': () => mapping.object.close(),
    'close mapping': () => mapping.close(),
    suspend: () => mapping.object.suspend(),
  };
  parentPort.postMessage(seen);
  await once(parentPort, 'message');
  await acts[workerData.act]();
  parentPort.postMessage(outcome(() => mapping.read32(0)));
}

async function main() {
  const memory = MemoryObject.create({ size: 4096 });
  const mapping = memory.map();
  mapping.write32(0, 4711);
  const thread = new Worker(__filename, { workerData: { handle: mapping.share(), act: process.argv[2] } });
  const [seen] = await once(thread, 'message');
  const written = mapping.read32(4);
  thread.postMessage('act');
  const [ends] = await once(thread, 'message');
  say({ worker: seen, main: written, ends, states: [memory.state, mapping.state] });
  await once(thread, 'exit');
  memory.close();
}
