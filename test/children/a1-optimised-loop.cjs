// Hot loops over checked accessors while the memory goes away: node --allow-natives-syntax a1-optimised-loop.cjs ACCESSOR REVOKER ROUNDS
//
// The word at OFFSET holds an ever larger generation, written by a second thread until it revokes. REVOKER is `worker` (another thread
// calls revokeSync), `service` (another thread calls revoke(), and the library's thread does it) or `truncate` (another thread
// truncates the file).
// Prints JSON: what the loops returned that they should not have, and in which tier they ran.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const fs = require('node:fs');
const { MemoryObject, Mapping } = require('revocable-mmap');

const OFFSET = 4096 + 64;
const SIZE = 3 * 4096;
const STARTED = 0; // the loop runs
const GONE = 1; // the revocation has returned
const LAST = 2; // the last generation written before it
const GENERATION_LIMIT = 0x70; // fits every width; one byte repeated, so that torn words are seen too

if (isMainThread) main();
else device();

function device() {
  const sync = new Int32Array(workerData.sync);
  parentPort.on('message', (message) => {
    if (message === 'end') return parentPort.close();
    const { handle, file, revoker, spin } = message;
    const mapping = Mapping.attach(handle);
    const words = new Uint8Array(handle.buffer, OFFSET, 8);
    while (Atomics.load(sync, STARTED) === 0);
    let generation = 1;
    for (let i = 0; i < spin; i++) {
      if (generation < GENERATION_LIMIT && i % 16 === 0) words.fill(++generation);
    }
    Atomics.store(sync, LAST, generation);
    if (revoker === 'worker') mapping.object.revokeSync();
    else if (revoker === 'service') return void mapping.object.revoke().then(() => Atomics.store(sync, GONE, 1));
    else fs.truncateSync(file, 0);
    Atomics.store(sync, GONE, 1);
  });
}

function loops(accessor) {
  // One function object per run of this program, so that it has the feedback of one accessor and is compiled for it.
  const body = accessor.startsWith('read')
    ? `const value = mapping.${accessor}(offset); seen++;
       if (Number(BigInt.asUintN(8, BigInt(value))) === 0) { wrong.push('a fill'); return; }
       if (gone !== 0) { wrong.push('a value after the revocation had returned'); return; }
       last = value;`
    : `mapping.${accessor}(offset, ${accessor === 'write64' ? '0x0101010101010101n' : '1'}); seen++;
       if (gone !== 0) { wrong.push('a write after the revocation had returned'); return; }`;
  const checked = `
    let last = 0, seen = 0;
    try { for (;;) { const gone = Atomics.load(sync, ${GONE}); ${body} if (seen === 64) Atomics.store(sync, ${STARTED}, 1); if (seen >= limit) break; } }
    catch (error) { result.error = error; }
    result.last = last; result.seen = seen;`;
  // Nothing but the access: whatever the compiler could move out of the loop, it can here.
  const tight = accessor.startsWith('read')
    ? `let seen = 0, zero = ${accessor === 'read64' ? '0n' : '0'};
       try { Atomics.store(sync, ${STARTED}, 1); for (; seen < limit; seen++) if (mapping.${accessor}(offset) === zero) { wrong.push('a fill, in the tight loop'); break; } }
       catch (error) { result.error = error; }
       result.seen = seen;`
    : `let seen = 0;
       try { Atomics.store(sync, ${STARTED}, 1); for (; seen < limit; seen++) mapping.${accessor}(offset, ${accessor === 'write64' ? '1n' : '1'}); }
       catch (error) { result.error = error; }
       result.seen = seen;`;
  const make = (source) => new Function('mapping', 'offset', 'sync', 'wrong', 'result', 'limit', source);
  return { checked: make(checked), tight: make(tight) };
}

async function main() {
  const [accessor, revoker, rounds] = [process.argv[2], process.argv[3], Number(process.argv[4])];
  const isTurboFan = new Function('f', 'return %ActiveTierIsTurbofan(f)');
  const optimize = new Function('f', '%PrepareFunctionForOptimization(f); return () => %OptimizeFunctionOnNextCall(f);');
  const sync = new Int32Array(new SharedArrayBuffer(16));
  const worker = new Worker(__filename, { workerData: { sync: sync.buffer } });
  const ended = once(worker, 'exit');
  const { checked, tight } = loops(accessor);
  const expected = revoker === 'truncate' ? 'ERR_BACKING_FAULT' : 'ERR_MAPPING_REVOKED';
  const wrong = [];
  const requests = new Map();
  const path = `${process.env.SCRATCH}/file`;
  let optimised = 0;
  let reads = 0;

  // Warm: enough turns of both loops on memory that stays, then compiled.
  for (const loop of [checked, tight]) {
    const request = optimize(loop);
    requests.set(loop, request);
    const memory = MemoryObject.create({ size: SIZE });
    const mapping = memory.map();
    mapping.bytes.fill(1);
    for (let i = 0; i < 3; i++) loop(mapping, OFFSET, new Int32Array(4), wrong, {}, 20000);
    request();
    loop(mapping, OFFSET, new Int32Array(4), wrong, {}, 20000);
    memory.close();
  }

  for (let round = 0; round < rounds; round++) {
    const loop = round % 2 === 0 ? checked : tight;
    sync.fill(0);
    let memory;
    if (revoker === 'truncate') {
      fs.writeFileSync(path, Buffer.alloc(SIZE, 1));
      memory = MemoryObject.openFile(path, { writable: true });
    } else {
      memory = MemoryObject.create({ size: SIZE, name: `round ${round}` });
    }
    const mapping = memory.map();
    mapping.bytes.fill(1);
    if (round % 4 >= 2) {
      await memory.suspend(); // its status word is another one than a new mapping's from now on
      await memory.resume();
    }
    requests.get(loop)(); // an error that was thrown out of it may have cost the loop its code
    const result = {};
    // Random by its state only: the seed is the round.
    const spin = ((round * 2654435761) >>> 0) % 200000;
    worker.postMessage({ handle: mapping.share(), file: path, revoker, spin });
    loop(mapping, OFFSET, sync, wrong, result, 2 ** 31);
    if (isTurboFan(loop)) optimised++;
    reads += result.seen;
    if (result.error === undefined) wrong.push(`round ${round}: no error`);
    else if (result.error.code !== expected) wrong.push(`round ${round}: ${result.error.stack}`);
    else if (result.error.offset !== OFFSET) wrong.push(`round ${round}: offset ${result.error.offset}`);
    while (Atomics.load(sync, GONE) === 0);
    const last = Number(BigInt.asUintN(8, BigInt(result.last ?? 0)));
    if (last > Atomics.load(sync, LAST))
      wrong.push(`round ${round}: ${last} was returned, ${Atomics.load(sync, LAST)} was the last`);
    memory.close();
  }
  worker.postMessage('end');
  await ended;
  console.log(JSON.stringify({ wrong: wrong.slice(0, 10), optimised, rounds, reads }));
}
