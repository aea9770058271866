// Threads that go on reading and writing while the main thread revokes. Memory that is not the library's own, so that only the
// replacement of the mappings keeps the threads from it. Prints how often the old memory was reached after revoke had returned.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { MemoryObject, Mapping } = require('revocable-mmap');

const THREADS = 3;
const READY = 0;
const GONE = 1;
const CANARY = 0x600dcafe;

if (isMainThread) main();
else access();

async function main() {
  const device = MemoryObject.create({ size: 8192 });
  const witness = device.map();
  const object = MemoryObject.fromFd(device.fd, { writable: true });
  const mapping = object.map();
  mapping.write32(0, CANARY);
  const sync = new Int32Array(new SharedArrayBuffer(16));
  const workers = Array.from({ length: THREADS }, (_, thread) => {
    return new Worker(__filename, { workerData: { handle: mapping.share(), sync, thread } });
  });
  const reports = workers.map(
    (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)),
  );
  while (Atomics.load(sync, READY) < THREADS) await new Promise((resolve) => setImmediate(resolve));
  const report = object.revokeSync();
  const before = Array.from({ length: THREADS }, (_, thread) => witness.read32(4096 + 64 * thread));
  Atomics.store(sync, GONE, 1);
  const seen = await Promise.all(reports);
  const after = Array.from({ length: THREADS }, (_, thread) => witness.read32(4096 + 64 * thread));
  console.log(
    JSON.stringify({
      replaced: report.means.replaced,
      truncated: report.means.truncated,
      seen,
      before,
      after,
      canary: witness.read32(0),
    }),
  );
}

function access() {
  const { handle, sync, thread } = workerData;
  const mapping = Mapping.attach(handle);
  const words = new Uint32Array(handle.buffer, 0, 2048);
  const seen = { stale: 0, checkedStale: 0, codes: {}, live: 0 };
  let writes = 0;
  Atomics.add(sync, READY, 1);
  for (let rounds = 0; rounds < 5000;) {
    const gone = Atomics.load(sync, GONE);
    const word = words[0];
    words[1024 + 16 * thread] = ++writes;
    if (gone === 0) {
      if (word === CANARY) seen.live++;
      continue;
    }
    rounds++;
    if (word !== 0) seen.stale++;
    try {
      mapping.read32(0);
      seen.checkedStale++;
    } catch (error) {
      seen.codes[error.code] = (seen.codes[error.code] ?? 0) + 1;
    }
  }
  parentPort.postMessage(seen);
}
