// As program.cjs, for bundlers of ES modules.
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { MemoryObject, Mapping, isRevokedError } from 'revocable-mmap';

if (isMainThread) {
  const memory = MemoryObject.create({ size: 4096 });
  const mapping = memory.map();
  const worker = new Worker(process.argv[1], { workerData: mapping.share() });
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
