// Workers that are terminated in the middle of everything: l3-terminate.cjs TERMINATIONS [SEED]
//
// Each worker maps, faults, revokes, suspends, waits and closes as fast as it can, on objects of its own and on one that the main
// thread gave it. After its end the main thread's own mappings are what they were, the worker's are gone, and what the worker
// left half done keeps no thread waiting.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { setTimeout: sleep } = require('node:timers/promises');
const { MemoryObject, Mapping, stats } = require('revocable-mmap');
const { random, seedFrom } = require('./random.cjs');

if (isMainThread) main();
else storm();

async function main() {
  const seed = seedFrom(process.argv[3]);
  console.log(`seed ${seed}`);
  const next = random(seed);
  const own = MemoryObject.create({ size: 8192 });
  const mapping = own.map();
  const result = { terminations: 0, damaged: 0, unfinished: 0, notRevoked: 0, storms: 0 };
  for (let i = 0; i < Number(process.argv[2]); i++) {
    mapping.write32(0, i);
    const given = Array.from({ length: 20 }, () => MemoryObject.create({ size: 4096 }));
    const handles = given.map((object) => object.map().share());
    const progress = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(__filename, { workerData: { handles, shared: mapping.share(), seed: seed + i, progress } });
    while (Atomics.load(progress, 0) < 10 + next(100)) await sleep(1);
    if (next(2) === 0) await sleep(next(8));
    await worker.terminate();
    result.storms += Atomics.load(progress, 0);
    result.terminations++;
    if (mapping.read32(0) !== i || mapping.state !== 'live') result.damaged++;
    // Whatever the worker had begun with these, no thread waits for it for ever.
    for (const object of given) {
      const report = await Promise.race([object.revoke(), sleep(30_000, 'unfinished', { ref: false })]);
      if (report === 'unfinished') result.unfinished++;
      else if ([...object.mappings].some((one) => one.state !== 'revoked' || one.bytes[0] !== 0)) result.notRevoked++;
      if (report !== 'unfinished') object.close();
    }
  }
  mapping.write32(4, 0xcafe);
  const works = mapping.read32(4) === 0xcafe && own.revokeSync().mappings === 1 && mapping.bytes[4] === 0;
  own.close();
  const { live, suspended, revoked } = stats().mappings;
  console.log(JSON.stringify({ ...result, works, open: live + suspended + revoked, foreignSignals: stats().foreignSignals }));
}

function storm() {
  const { handles, shared, seed, progress } = workerData;
  const next = random(seed);
  const attached = handles.map((handle) => Mapping.attach(handle));
  const sharedMapping = Mapping.attach(shared);
  const kept = [];
  const one = [
    () => kept.push(MemoryObject.create({ size: 8192 }).map({ fill: next(2) === 0 ? 'zeros' : 'ones' })),
    () => kept.push(MemoryObject.create({ size: 8192 }).map({ shared: false })),
    () => pick()?.object.revokeSync(),
    () => void pick()?.object.revoke(),
    () =>
      void pick()
        ?.object.suspend()
        .catch(() => undefined),
    () =>
      void pick()
        ?.object.resume()
        .catch(() => undefined),
    () => void pick()?.bytes[next(8192)],
    () => pick()?.close(),
    () => kept.shift()?.object.close(),
    () => attached[next(20)].object.revokeSync(),
    () => void attached[next(20)].object.revoke(),
    () => void attached[next(20)].bytes[0],
    () => sharedMapping.bytes[4096 + next(100)]++,
    () => pick()?.waitSync(0, 0, { timeout: 1 }),
    () =>
      void pick()
        ?.wait(4, 0)
        .catch(() => undefined),
    () => pick()?.protect({ offset: 4096, length: 4096, access: 'none' }),
  ];
  function pick() {
    return kept[next(kept.length || 1)];
  }
  parentPort.on('message', () => undefined);
  const turn = () => {
    for (let i = 0; i < 50; i++) {
      try {
        one[next(one.length)]();
      } catch (error) {
        if (error.code === undefined) throw error;
      }
      while (kept.length > 200) kept.shift().object.close();
    }
    Atomics.add(progress, 0, 1);
    setImmediate(turn);
  };
  turn();
}
