// Threads access registers in tight loops while they are taken away: register-removal.cjs MODEL HOW FILL ROUNDS SEED PROGRAM (base64). MODEL:
// native, here (JavaScript in the main thread), spawned. HOW: unplug, revoke, revokeSync, suspend, close. Every access must give what the
// registers hold, or the fill. Prints { seen, steps, before, after }: what has been seen; of each round and each thread that makes any how many
// accesses by instructions that are run for one step it had made when the registers went; /proc/self/status before the first and after the last.
const { readFileSync } = require('node:fs');
const { once } = require('node:events');
const { join } = require('node:path');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { Device, Mapping, RegisterFile } = require('revocable-mmap');

const status = () => readFileSync('/proc/self/status', 'utf8');
const ANSWERS = join(__dirname, 'register-answers.cjs');
const AT = 65536;
const VALUE = 0x3ff8_5a5a; // each word of the registers but the first; twice of it is a double that is a number
// In shared memory. Of the last two one a thread.
const [STOP, CALLS, ACCESSES, STEPS] = [0, 1, 2, 5];
const THREADS = [0, 1, 2];
// What only a model in native code has, and what shows that it has been called: one that counts how often it is read, and one a thread that is
// always given something new.
const [COUNTER, LAST] = [0, 8];
const OBSERVED = [COUNTER, ...THREADS.map((which) => LAST + 4 * which)];

if (isMainThread) {
  main().catch((error) => {
    console.error(error);
    process.exit(1);
  });
} else {
  worker();
}

function worker() {
  const { words, program, which } = workerData;
  const module = new WebAssembly.Module(program);
  parentPort.on('message', (handle) => {
    if (handle === null) return parentPort.close();
    const mapping = Mapping.attach(handle);
    const seen = new Map();
    const note = (value) => seen.set(value, (seen.get(value) ?? 0) + 1);
    let last = 0;
    const fresh = () => ++last;
    const accesses = plainAccesses(mapping, which, note, fresh);
    if (mapping.memory) {
      const wasm = new WebAssembly.Instance(module, { env: { memory: mapping.memory } }).exports;
      accesses.push(...wasmAccesses(mapping, which, wasm, note));
      for (const access of steppedAccesses(mapping, which, wasm, note, fresh)) {
        accesses.push(() => {
          access();
          Atomics.add(words, STEPS + which, 1);
        });
      }
    }
    for (let i = 0; Atomics.load(words, STOP) === 0; i++) {
      accesses[i % accesses.length]();
      Atomics.add(words, ACCESSES + which, 1);
    }
    mapping.close();
    parentPort.postMessage([...seen]);
  });
}

function plainAccesses(mapping, which, note, fresh) {
  const start = mapping.bytes.byteOffset;
  const [ints, doubles] = [new Uint32Array(mapping.buffer, start, 64), new Float64Array(mapping.buffer, start, 32)];
  const bits = new Uint32Array(2);
  const double = new Float64Array(bits.buffer);
  const at = 8 + which;
  return [
    () => note(ints[2 * at]),
    () => void (ints[2 * at] = VALUE),
    () => note(Atomics.or(ints, 2 * at, VALUE)),
    () => note(Atomics.exchange(ints, 2 * at, VALUE)),
    () => note(Atomics.load(ints, 2 * at)),
    () => {
      double[0] = doubles[at];
      // The fill is no number, and may be shown as another one that is none.
      if (!Number.isNaN(double[0])) for (const word of bits) note(word);
    },
    () => {
      bits.fill(VALUE);
      doubles[at] = double[0];
    },
    () => void Atomics.load(ints, COUNTER / 4),
    () => void (ints[LAST / 4 + which] = fresh()),
  ];
}

function wasmAccesses(mapping, which, wasm, note) {
  const at = mapping.bytes.byteOffset + 8 * (8 + which);
  const scratch = 16 * which;
  const lanes = new Uint32Array(mapping.memory.buffer, scratch, 4);
  const double = new Float64Array(Uint32Array.of(VALUE, VALUE).buffer)[0];
  return [
    () => note(wasm['i32.load'](at) >>> 0),
    () => note(wasm['i32.atomic.rmw.and'](at, VALUE) >>> 0),
    () => wasm['f64.store'](at, double),
    () => {
      wasm['v128.load32_splat'](at, scratch);
      note(lanes[0]);
    },
  ];
}

/** On x86-64 vpmovsx, vpmovzx and vpextr, which the library neither emulates nor knows as moves: they are run for one step. */
function steppedAccesses(mapping, which, wasm, note, fresh) {
  const start = mapping.bytes.byteOffset;
  const at = start + 8 * (8 + which);
  const scratch = 16 * which;
  const lanes = new Uint32Array(mapping.memory.buffer, scratch, 4);
  const halves = new Uint16Array(mapping.memory.buffer, scratch, 8);
  return [
    () => {
      wasm['v128.load8x8_s'](at, scratch);
      const bytes = Uint8Array.from(halves); // without what the sign was extended to
      for (const word of new Uint32Array(bytes.buffer)) note(word);
    },
    () => {
      lanes.fill(VALUE);
      wasm['v128.store32_lane'](at, scratch);
    },
    () => wasm['v128.load32x2_u'](start + COUNTER, scratch),
    () => {
      lanes.fill(fresh());
      wasm['v128.store32_lane'](start + LAST + 4 * which, scratch);
    },
  ];
}

async function main() {
  const [model, how, fill, rounds, seed, program] = process.argv.slice(2);
  let state = Number(seed) >>> 0;
  const random = (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const words = new Uint32Array(new SharedArrayBuffer(64));
  const workers = THREADS.map((which) => {
    const made = new Worker(__filename, { workerData: { words, which, program: Buffer.from(program, 'base64') } });
    made.on('error', (error) => {
      console.error(error);
      process.exit(1);
    });
    return made;
  });
  const [seen, steps] = [{}, []];
  const before = status();
  for (let round = 0; round < Number(rounds); round++) {
    const values = await storm({ model, how, fill, round, random, words, workers, steps });
    for (const [value, count] of values) seen[value.toString(16)] = (seen[value.toString(16)] ?? 0) + count;
  }
  for (const thread of workers) thread.postMessage(null);
  await Promise.all(workers.map((thread) => once(thread, 'exit')));
  console.log(JSON.stringify({ seen, steps, before, after: status() }));
}

/** One device, which is taken away and removed. What the threads have read, and how often. */
async function storm({ model, how, fill, round, random, words, workers, steps }) {
  words.fill(0);
  const { device, observed } = await makeDevice(model, words);
  const file = device.open();
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
  const mappings = [file.map({ fill }), file.map({ memory, memoryOffset: AT, fill })];
  const answers = workers.map((thread, which) => {
    thread.postMessage(mappings[which === 0 ? 0 : 1].share());
    return once(thread, 'message');
  });
  const eachMakes = async (count) => {
    const wanted = THREADS.map((which) => Atomics.load(words, ACCESSES + which) + count);
    const made = () => wanted.every((least, which) => Atomics.load(words, ACCESSES + which) >= least);
    for (const end = Date.now() + 60_000; !made(); await new Promise(setImmediate)) {
      if (Date.now() > end) throw new Error(`no progress: ${[...words]}`);
    }
  };
  const makeSome = () => eachMakes(20 + random(60)); // at least one of each kind
  // The access that each thread was making ends as it began where the device lives on; and what the thread of a spawned one was answering when
  // the registers went, that it still does, though no thread waits for it. Then no more.
  const settle = async () => {
    if (how === 'close') await eachMakes(1);
    if (model === 'spawned' && ['close', 'suspend', 'revokeSync'].includes(how)) await file.ioctl(0);
  };
  // Of a spawned device that has been unplugged the thread has ended: there this says that it did not go on after unplug() had returned.
  const noThreadCalls = async (what) => {
    await settle();
    const last = observed();
    await makeSome();
    if (observed() !== last) throw new Error(`called ${what}: ${observed()} after ${last}`);
  };
  await makeSome();
  steps.push(words[STEPS + 1], words[STEPS + 2]);
  await takeAway(how, { device, mappings, round, observed, makeSome, noThreadCalls });
  await noThreadCalls('after it was gone');
  Atomics.store(words, STOP, 1);
  const values = (await Promise.all(answers)).flatMap(([seen]) => seen);
  await device.unplug();
  return values;
}

async function takeAway(how, { device, mappings, round, observed, makeSome, noThreadCalls }) {
  const { object } = device.region(0);
  switch (how) {
    case 'unplug':
      return device.unplug();
    case 'revoke':
      return object.revoke();
    case 'revokeSync':
      return object.revokeSync();
    case 'close':
      mappings[round % 2].close();
      await makeSome();
      return mappings[1 - (round % 2)].close();
    case 'suspend':
      for (let i = 0; i < 5; i++) {
        await object.suspend();
        await noThreadCalls('while suspended');
        const suspended = observed();
        await object.resume();
        await makeSome();
        if (observed() === suspended) throw new Error('not called after it was resumed');
      }
      return object.suspend();
  }
}

/** `observed()` is another value whenever the model has been called. */
async function makeDevice(model, words) {
  if (model === 'native') {
    const file = new RegisterFile([
      { offset: COUNTER, kind: 'counter' },
      ...Array.from({ length: 63 }, (_, i) => ({ offset: 4 * (i + 1), value: VALUE })),
    ]);
    const device = new Device({ name: 'leaving', regions: [{ size: 4096, kind: 'registers', model: file }] });
    return { device, observed: () => OBSERVED.map((offset) => file.get(offset)).join(' ') };
  }
  const data = { words, calls: CALLS };
  const device = model === 'here' ? new Device(require(ANSWERS)(data)) : await Device.spawn(ANSWERS, { data });
  return { device, observed: () => Atomics.load(words, CALLS) };
}
