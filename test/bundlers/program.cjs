// A worker and the main thread share memory, which is then revoked under the worker. Prints one line.
const sea = require('node:sea');
const { dirname, join } = require('node:path');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
// An executable by itself has no files: its addon lies beside it.
if (sea.isSea()) process.env.REVOCABLE_MMAP_ADDON = join(dirname(process.execPath), 'revocable-mmap.node');
const { MemoryObject, Mapping, isRevokedError } = require('revocable-mmap');

if (isMainThread) {
  const memory = MemoryObject.create({ size: 4096 });
  const mapping = memory.map();
  const options = { workerData: mapping.share() };
  const worker = sea.isSea()
    ? new Worker(sea.getAsset('program', 'utf8'), { eval: true, ...options })
    : new Worker(__filename, options);
  worker.on('message', (message) => {
    if (message === 'written') memory.revokeSync();
    else console.log(mapping.state, message);
  });
} else {
  const mapping = Mapping.attach(workerData);
  mapping.write32(0, 42);
  parentPort.postMessage('written');
  try {
    for (;;) mapping.read32(0);
  } catch (error) {
    parentPort.postMessage(isRevokedError(error) ? error.code : String(error));
  }
}
