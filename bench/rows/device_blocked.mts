/** A worker: touches a page that never comes, and tells when it got its error instead. */
import { parentPort, workerData } from 'node:worker_threads';
import { isRevokedError, Mapping, type MappingHandle } from 'revocable-mmap';

const mapping = Mapping.attach(workerData as MappingHandle);
parentPort!.postMessage('touching');
try {
  mapping.read32(0);
  throw new Error('the page came');
} catch (error) {
  const end = process.hrtime.bigint();
  if (!isRevokedError(error)) throw error;
  parentPort!.postMessage(end);
}
