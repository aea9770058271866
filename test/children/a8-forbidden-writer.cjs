// One thread writes raw to a read-only mapping all the time, another one reads it checked: a8-forbidden-writer.cjs MILLISECONDS
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const { MemoryObject } = require('revocable-mmap');

if (isMainThread) main();
else {
  const { buffer, stop } = workerData;
  const bytes = new Uint8Array(buffer, 0, 8192);
  const flag = new Int32Array(stop);
  parentPort.postMessage('writing');
  while (Atomics.load(flag, 0) === 0) {
    bytes[100] = 0xee;
    bytes[5000] = 0xee;
  }
}

async function main() {
  const memory = MemoryObject.create({ size: 8192 });
  const witness = memory.map();
  witness.bytes.fill(0x5a);
  const mapping = memory.map({ access: 'r' });
  const stop = new SharedArrayBuffer(4);
  const worker = new Worker(__filename, { workerData: { buffer: mapping.buffer, stop } });
  await once(worker, 'message');
  const ended = once(worker, 'exit');
  const wrong = new Set();
  const target = new Uint8Array(8192);
  let reads = 0;
  const end = Date.now() + Number(process.argv[2]);
  // For so long, and until the writer has had a page put back under it, and written to it again.
  while (Date.now() < end || mapping.faults < 2) {
    for (let i = 0; i < 100; i++) {
      for (const byte of [mapping.read8(100), mapping.read8(5000), mapping.read32(100) & 0xff])
        if (byte !== 0x5a) wrong.add(byte);
      reads++;
    }
    mapping.read(0, target);
    for (const byte of target) if (byte !== 0x5a) wrong.add(byte);
    await new Promise((resolve) => setImmediate(resolve));
  }
  Atomics.store(new Int32Array(stop), 0, 1);
  await ended;
  console.log(JSON.stringify({ wrong: [...wrong], reads, faults: mapping.faults, object: [...new Set(witness.bytes)] }));
}
