/**
 * A worker: touches a page that never comes, and tells when it got its error instead. It has had such an error before: the first one of a
 * thread takes V8 0.3 ms more, to compile what makes it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { isRevokedError, Mapping, MemoryObject, type MappingHandle } from 'revocable-mmap';

const mapping = Mapping.attach(workerData as MappingHandle);
const before = MemoryObject.create({ size: 4096 });
const gone = before.map();
before.revokeSync();
for (let i = 0; i < 10; i++) {
  try {
    gone.read32(0);
  } catch (error) {
    if (!isRevokedError(error)) throw error;
  }
}
parentPort!.postMessage('touching');
try {
  mapping.read32(0);
  throw new Error('the page came');
} catch (error) {
  const end = process.hrtime.bigint();
  if (!isRevokedError(error)) throw error;
  parentPort!.postMessage(end);
}
