// What a thread is given as the state of memory never goes back: state-storm.cjs HOW ROUNDS [SEED]
//
// The main thread takes memory away, HOW: `revokeSync`, `revoke`, `close`, `truncate` (a file that is lost as a whole), `owner` (the
// reader has the memory from a descriptor, as another process would) or `unplug` (it is a region of a device). A reader asks for the state in
// every way there is, in random order: an answer that says less than an earlier one is printed. Each object has many mappings, so that its
// revocation takes a while.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const fs = require('node:fs');
const { Device, MemoryObject, Mapping } = require('revocable-mmap');
const { native } = require('../../dist/native/load.js');
const { random, seedFrom, spin } = require('./random.cjs');

const PAGE = 4096;
const READY = 0; // rounds the reader has begun
const GONE = 1; // rounds that are over

if (isMainThread) main();
else reader();

async function main() {
  const [how, rounds] = [process.argv[2], Number(process.argv[3])];
  const seed = seedFrom(process.argv[4]);
  const next = random(seed);
  const sync = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(__filename, { workerData: { how, seed, sync } });
  const path = `${process.env.SCRATCH}/file`;
  for (let round = 1; round <= rounds; round++) {
    const device = how === 'unplug' ? new Device({ name: 'd', regions: [{ size: PAGE }, { size: 2 * PAGE }] }) : undefined;
    const memory = device?.region(1).object ?? (how === 'truncate' ? openFile(path) : MemoryObject.create({ size: 2 * PAGE }));
    const others = Array.from({ length: 1 + next(200) }, () => memory.map());
    const mappings = [memory.map(), memory.map()];
    const handles = how === 'owner' ? [] : mappings.map((mapping) => mapping.share());
    worker.postMessage({ round, handles, fd: memory.fd, device: device?._id });
    while (Atomics.load(sync, READY) < round);
    spin(next(20_000));
    if (how === 'truncate') fs.truncateSync(path, 0);
    else if (how === 'close') memory.close();
    else if (how === 'unplug') await device.unplug();
    else if (how === 'revoke') await memory.revoke();
    else memory.revokeSync();
    Atomics.store(sync, GONE, round);
    await once(worker, 'message');
    memory.close();
    others.length = 0;
  }
  worker.postMessage('end');
  const [seen] = await once(worker, 'message');
  console.log(JSON.stringify({ seed, ...seen }));
}

function openFile(path) {
  fs.writeFileSync(path, Buffer.alloc(2 * PAGE, 1));
  return MemoryObject.openFile(path, { writable: true, onBackingFault: 'object' });
}

const RANK = { live: 0, revoked: 1, closed: 2 };

/** 0: goes. 1: revoked. 2: closed. */
function rankOf(call, touches = true) {
  try {
    call();
    return 0;
  } catch (error) {
    if (error.code === 'ERR_MAPPING_REVOKED' || error.code === 'ENODEV') return 1;
    // The very access that a lost page ends: its object is revoked from then on. check() touches nothing: it says that the next would be.
    if (error.code === 'ERR_BACKING_FAULT') return touches ? 1 : 0;
    if (error.code === 'ERR_MAPPING_CLOSED') return 2;
    throw error;
  }
}

function reader() {
  const { how, seed, sync } = workerData;
  const next = random(seed + 1);
  const wrong = [];
  let asked = 0;
  let changes = 0;
  parentPort.on('message', (message) => {
    if (message === 'end') {
      parentPort.postMessage({ wrong: wrong.slice(0, 10), asked, changes });
      return parentPort.close();
    }
    const { round, handles, fd, device } = message;
    const object = how === 'owner' ? MemoryObject.fromFd(fd, { writable: true }) : undefined;
    const [first, second] = object === undefined ? handles.map((handle) => Mapping.attach(handle)) : [object.map(), object.map()];
    const memory = object ?? first.object;
    const WAYS = {
      'mapping.state': () => RANK[first.state],
      'object.state': () => RANK[memory.state],
      'the other mapping.state': () => RANK[second.state],
      'check()': () => rankOf(() => first.check(), false),
      'check() of the other': () => rankOf(() => second.check(), false),
      'read32()': () => rankOf(() => first.read32(0)),
      'read8()': () => rankOf(() => first.read8(PAGE)),
      'write32()': () => rankOf(() => first.write32(4, 1)),
      'read()': () => rankOf(() => first.read(8, new Uint8Array(64))),
      ...(device === undefined ? {} : { 'device.state': () => (native.deviceState(device) === 0 ? 0 : 1) }),
      'map()': () => rankOf(() => memory.map().close()),
    };
    const ways = Object.keys(WAYS);
    let most = 0;
    let by = '';
    Atomics.store(sync, READY, round);
    for (let after = 0; after < 40;) {
      const way = ways[next(ways.length)];
      if (how === 'truncate' && way === 'map()') continue; // a file that has been cut can be mapped: it is the touch that fails
      const rank = WAYS[way]();
      asked++;
      if (rank < most) wrong.push(`round ${round}: ${way} said ${rank} after ${by} had said ${most}`);
      if (rank > most) {
        most = rank;
        by = way;
        changes++;
      }
      if (most > 0 && Atomics.load(sync, GONE) === round) after++;
    }
    object?.close();
    parentPort.postMessage('done');
  });
}
