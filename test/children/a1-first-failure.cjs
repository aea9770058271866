// A failure of a thread's 32-bit reads, while a compiled loop makes them: node --allow-natives-syntax a1-first-failure.cjs REVOKER ROUNDS COMPILER EARLIER
//
// Each round is a new thread, in which so many reads have failed before (EARLIER), each followed by a new mapping: where none has, to its
// compiler nothing has ever failed. The word at OFFSET holds an ever larger generation, written by
// the main thread until it revokes. REVOKER is `revoke`, `suspend` (and resumes at once) or `truncate`.
// COMPILER is `turbofan` or `maglev`, which then has to be the only one there is. Prints JSON: what the loops returned that they should not have, how many loops were compiled, and how they ended.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const fs = require('node:fs');
const { MemoryObject, Mapping } = require('revocable-mmap');

const OFFSET = 4096 + 64;
const SIZE = 3 * 4096;
const STARTED = 0; // the loop runs

if (isMainThread) main();
else reader();

// Two loops: of one word, from which a compiler may move out whatever it can, and over all words of a page.
function loopOf(round) {
  const body =
    round % 2 === 0
      ? `for (; seen < limit; seen++) { last = mapping.read32(offset); if (last === 0) break; }`
      : `for (; seen < limit; seen++) { for (let i = offset - 64; i < offset + 4032; i += 4) { last = mapping.read32(i); if (last === 0) break; } if (last === 0) break; }`;
  return new Function(
    'mapping',
    'offset',
    'sync',
    'limit',
    `let last = 0, seen = 0, error;
     if (sync !== undefined) Atomics.store(sync, ${STARTED}, 1);
     try { ${body} } catch (caught) { error = caught; }
     return { last, seen, error };`,
  );
}

function reader() {
  const { shared, handle, round, compiler, earlier } = workerData;
  const sync = new Int32Array(shared);
  const isOptimised = new Function('f', `return %ActiveTierIs${compiler === 'maglev' ? 'Maglev' : 'Turbofan'}(f)`);
  const request = compiler === 'maglev' ? 'OptimizeMaglevOnNextCall' : 'OptimizeFunctionOnNextCall';
  const optimise = new Function('f', `%PrepareFunctionForOptimization(f); return () => %${request}(f);`);
  const loop = loopOf(round);
  for (let i = 0; i < earlier; i++) failOnce(loop);
  const mapping = Mapping.attach(handle);
  const compile = optimise(loop);
  for (let i = 0; i < 3; i++) loop(mapping, OFFSET, undefined, 3000);
  compile();
  loop(mapping, OFFSET, undefined, 10);
  const optimised = isOptimised(loop);
  const { last, error } = loop(mapping, OFFSET, sync, 2 ** 31);
  const wrong = error === undefined ? [`${last} and no error`] : []; // the loop goes on until it reads a fill
  if (error?.code !== 'ERR_MAPPING_SUSPENDED') {
    try {
      wrong.push(`after the error: ${mapping.read32(OFFSET)}`);
    } catch (second) {
      if (second.code !== error?.code) wrong.push(`after the error: ${second.stack}`);
    }
  }
  const other = MemoryObject.create({ size: 4096 });
  const fresh = other.map();
  fresh.write32(8, 0xfedcba98);
  if (fresh.read32(8) !== 0xfedcba98) wrong.push('other memory');
  other.close();
  parentPort.postMessage({ wrong, optimised, code: error?.code, offset: error?.offset });
}

function failOnce(loop) {
  const memory = MemoryObject.create({ size: SIZE });
  const mapping = memory.map();
  mapping.bytes.fill(1);
  loop(mapping, OFFSET, undefined, 300);
  memory.revokeSync();
  if (loop(mapping, OFFSET, undefined, 300).error?.code !== 'ERR_MAPPING_REVOKED') throw new Error('it did not fail');
}

async function main() {
  const [revoker, rounds, compiler, earlier] = [
    process.argv[2],
    Number(process.argv[3]),
    process.argv[4],
    Number(process.argv[5]),
  ];
  const path = `${process.env.SCRATCH}/file`;
  const result = { wrong: [], optimised: 0, ends: {} };
  for (let round = 0; round < rounds; round++) {
    const sync = new Int32Array(new SharedArrayBuffer(16));
    if (revoker === 'truncate') fs.writeFileSync(path, Buffer.alloc(SIZE, 1));
    const memory =
      revoker === 'truncate'
        ? MemoryObject.openFile(path, { writable: true })
        : MemoryObject.create({ size: SIZE, name: `round ${round}` });
    const mapping = memory.map();
    mapping.bytes.fill(1);
    const worker = new Worker(__filename, {
      workerData: { shared: sync.buffer, handle: mapping.share(), round, compiler, earlier },
    });
    const outcome = once(worker, 'message');
    const ended = once(worker, 'exit');
    while (Atomics.load(sync, STARTED) === 0) await new Promise(setImmediate);
    const word = new Uint32Array(mapping.buffer, OFFSET, 1);
    // Random by its state only: the seed is the round.
    const spin = ((round * 2654435761) >>> 0) % 20000;
    let generation = 0x01010101;
    for (let i = 0; i < spin; i++) if (i % 16 === 0) word[0] = ++generation;
    if (revoker === 'revoke') memory.revokeSync();
    else if (revoker === 'truncate') fs.truncateSync(path, 0);
    else await suspendUntil(memory, outcome);
    const [{ wrong, optimised, code, offset }] = await outcome;
    await ended;
    result.wrong.push(...wrong.map((what) => `round ${round}: ${what}`));
    if (round % 2 === 0 && offset !== OFFSET) result.wrong.push(`round ${round}: offset ${offset}`);
    result.optimised += optimised;
    result.ends[code] = (result.ends[code] ?? 0) + 1;
    memory.close();
  }
  console.log(JSON.stringify({ ...result, wrong: result.wrong.slice(0, 10) }));
}

/** Until a read meets a suspension: most begin and end between two turns of the reader. */
async function suspendUntil(memory, outcome) {
  let done = false;
  void outcome.then(() => (done = true));
  while (!done) {
    await memory.suspend();
    await memory.resume();
    await new Promise(setImmediate);
  }
}
