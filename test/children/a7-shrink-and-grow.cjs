// A file that shrinks and grows again while it is read: a7-shrink-and-grow.cjs PATH MILLISECONDS
// Every checked read gives the file's byte, a zero of a page that has grown back, or BackingFaultError. Prints what was seen.
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const fs = require('node:fs');
const { MemoryObject } = require('revocable-mmap');

const PAGE = 4096;
const PAGES = 64;

const copied = new Uint8Array(100);
/** The first one raw, the others checked; the byte that was read. */
const ACCESSES = [
  (mapping, offset) => mapping.bytes[offset],
  (mapping, offset) => mapping.read8(offset),
  (mapping, offset) => (mapping.read(offset, copied.fill(1)), copied[99]),
  (mapping, offset) => void mapping.write(offset + 1000, copied),
  (mapping, offset) => void mapping.write8(offset + 1000, 1),
];

if (isMainThread) main();
else shrinkAndGrow();

function shrinkAndGrow() {
  const end = Date.now() + workerData.milliseconds;
  while (Date.now() < end || Atomics.load(workerData.rounds, 0) < 10) {
    fs.truncateSync(workerData.path, PAGE);
    fs.truncateSync(workerData.path, PAGES * PAGE);
  }
}

async function main() {
  const [path, milliseconds] = [process.argv[2], Number(process.argv[3])];
  fs.writeFileSync(path, Buffer.alloc(PAGES * PAGE, 0x5a));
  const rounds = new Int32Array(new SharedArrayBuffer(4)); // for so long, and for some rounds at least
  const worker = new Worker(__filename, { workerData: { path, milliseconds, rounds } });
  let over = false;
  const ended = once(worker, 'exit').then(() => (over = true));
  const seen = { bytes: {}, errors: {}, lostStay: true, rounds: 0 };
  while (!over) {
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map({ length: PAGES * PAGE });
    const lost = new Set();
    for (let i = 0; i < 20 * PAGES; i++) {
      const page = (i * 7) % PAGES;
      try {
        const byte = ACCESSES[i % ACCESSES.length](mapping, page * PAGE);
        if (byte !== undefined) seen.bytes[byte] = true;
        if (i % ACCESSES.length !== 0 && lost.has(page)) seen.lostStay = false;
      } catch (error) {
        seen.errors[`${error.code} ${error.cause}`] = true;
        lost.add(page);
      }
    }
    seen.rounds = Atomics.add(rounds, 0, 1) + 1;
    file.close();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await ended;
  console.log(JSON.stringify(seen));
}
