// A worker that uses a device until it is gone, and tells what ended it.
import { parentPort, workerData } from 'node:worker_threads';
import { Mapping } from 'revocable-mmap';

const { role, handle, pages, words } = workerData;
const mapping = Mapping.attach(handle);
const counts = new Uint32Array(words);

const uses = {
  /** Page after page; the device is asked again whenever they have been zapped. */
  pages(n) {
    const page = n % pages;
    if (mapping.read32(page * 4096) !== page) throw new Error(`page ${page} is wrong`);
  },
  /** A page that never comes. */
  blocked() {
    mapping.read32(pages * 4096);
  },
  registers(n) {
    if (mapping.read32(0) <= n - 1) throw new Error('the counter went back');
  },
};

parentPort.postMessage('ready');
let error;
for (let n = 0; error === undefined; n++) {
  try {
    uses[role](n);
    Atomics.add(counts, 0, 1);
  } catch (caught) {
    error = caught;
  }
}
parentPort.postMessage({ code: error.code ?? error.message, at: process.hrtime.bigint() });
