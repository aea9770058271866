// Bulk copies while another thread revokes, and, with `touched`, a third one reads the mapping raw: node a4-copy-storm.cjs DIRECTION ROUNDS [touched]
//
// There are as many rounds as asked for, and more until enough copies have been cut in their middle. Every byte of the
// mapping is the round's canary before; what was transferred must be exactly that, and not a byte more.
// Prints JSON: { wrong, partial }, the latter being how many copies were cut.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const fs = require('node:fs');
const { MemoryObject, Mapping } = require('revocable-mmap');

const SIZE = 512 * 1024;
const CUT = 5;
const STARTED = 0;
const DONE = 1;
const UNTOUCHED = 0xee;

if (isMainThread) main();
else if (workerData.role === 'revoker') revoker();
else toucher();

function serve(sync, act) {
  parentPort.on('message', (message) => {
    if (message === 'end') return parentPort.close();
    while (Atomics.load(sync, STARTED) === 0);
    act(message);
    Atomics.add(sync, DONE, 1);
  });
}

function revoker() {
  const sync = new Int32Array(workerData.sync);
  serve(sync, ({ handle, spin }) => {
    const mapping = Mapping.attach(handle);
    for (let i = 0; i < spin; i++) Atomics.load(sync, STARTED);
    mapping.object.revokeSync();
  });
}

function toucher() {
  const sync = new Int32Array(workerData.sync);
  serve(sync, ({ handle }) => {
    const bytes = new Uint8Array(handle.buffer, 0, SIZE);
    while (bytes[SIZE - 1] !== 0);
  });
}

async function main() {
  const [direction, rounds, touched] = [process.argv[2], Number(process.argv[3]), process.argv[4] === 'touched'];
  const sync = new Int32Array(new SharedArrayBuffer(8));
  const roles = touched ? ['revoker', 'toucher'] : ['revoker'];
  const workers = roles.map((role) => new Worker(__filename, { workerData: { role, sync: sync.buffer } }));
  const wrong = [];
  let partial = 0;
  const other = new Uint8Array(SIZE);
  for (let round = 0; round < rounds || partial < CUT; round++) {
    const canary = 1 + (round % 0xd0);
    // Not created by the library, so that what was written is still there to be looked at.
    const memory = direction === 'read' ? MemoryObject.create({ size: SIZE }) : openFile();
    const mapping = memory.map({ populate: true });
    mapping.bytes.fill(direction === 'read' ? canary : UNTOUCHED);
    sync.fill(0);
    const spin = ((round * 2654435761) >>> 0) % 60000;
    const handle = mapping.share();
    for (const worker of workers) worker.postMessage({ handle, spin });
    Atomics.store(sync, STARTED, 1);
    let error;
    for (let i = 0; error === undefined; i++) {
      if (direction === 'read') other.fill(UNTOUCHED);
      else other.fill(1 + ((canary + i) % 0xd0));
      try {
        direction === 'read' ? mapping.read(0, other) : mapping.write(0, other);
      } catch (thrown) {
        error = thrown;
      }
    }
    if (error.code !== 'ERR_MAPPING_REVOKED') wrong.push(`round ${round}: ${error.stack}`);
    const done = error.bytesTransferred;
    if (done > 0 && done < SIZE) partial++;
    while (Atomics.load(sync, DONE) < workers.length);
    if (direction === 'read') {
      const real = other.findIndex((byte) => byte !== canary);
      if ((real === -1 ? SIZE : real) !== done)
        wrong.push(`round ${round}: ${done} reported, ${real} real bytes, then ${other[real]}`);
      if (other.subarray(done).some((byte) => byte !== UNTOUCHED))
        wrong.push(`round ${round}: bytes behind the ${done} reported were written`);
    } else if (done > 0) {
      const landed = fs.readFileSync(`${process.env.SCRATCH}/file`);
      const arrived = landed.findIndex((byte) => byte !== other[0]);
      if ((arrived === -1 ? SIZE : arrived) !== done) wrong.push(`round ${round}: ${done} reported, ${arrived} arrived`);
    }
    memory.close();
  }
  for (const worker of workers) worker.postMessage('end');
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  console.log(JSON.stringify({ wrong: wrong.slice(0, 10), failures: wrong.length, partial }));
}

function openFile() {
  const path = `${process.env.SCRATCH}/file`;
  fs.writeFileSync(path, Buffer.alloc(SIZE, UNTOUCHED));
  return MemoryObject.openFile(path, { writable: true });
}
