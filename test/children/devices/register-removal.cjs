// Threads access registers in tight loops while they are taken away: register-removal.cjs MODEL HOW FILL ROUNDS SEED PROGRAM (base64). MODEL:
// native, here (JavaScript in the main thread), spawned. HOW: unplug, revoke, revokeSync, suspend, close. Every access must give what the
// registers hold, or the fill. Prints what has been seen.
const { once } = require('node:events');
const { join } = require('node:path');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { Device, Mapping, RegisterFile } = require('revocable-mmap');

const AT = 65536;
const VALUE = 0x3ff8_5a5a; // each word of the registers; twice of it is a double that is a number
const [STOP, ACCESSES] = [0, 1];

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
    const start = mapping.bytes.byteOffset;
    const [ints, doubles] = [new Uint32Array(mapping.buffer, start, 64), new Float64Array(mapping.buffer, start, 32)];
    const bits = new Uint32Array(2);
    const double = new Float64Array(bits.buffer);
    const wasm = mapping.memory && new WebAssembly.Instance(module, { env: { memory: mapping.memory } }).exports;
    const at = 8 + which;
    const accesses = [
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
    ];
    if (wasm) {
      accesses.push(
        () => note(wasm['i32.load'](start + 8 * at) >>> 0),
        () => note(wasm['i32.atomic.rmw.and'](start + 8 * at, VALUE) >>> 0),
        () => wasm['f64.store'](start + 8 * at, (bits.fill(VALUE), double[0])),
        () => {
          wasm['v128.load32_splat'](start + 8 * at, 16 * which);
          note(new Uint32Array(mapping.memory.buffer, 16 * which, 1)[0]);
        },
      );
    }
    for (let i = 0; Atomics.load(words, STOP) === 0; i++) {
      accesses[i % accesses.length]();
      Atomics.add(words, ACCESSES + which, 1);
    }
    mapping.close();
    parentPort.postMessage([...seen]);
  });
}

async function main() {
  const [model, how, fill, rounds, seed, program] = process.argv.slice(2);
  let state = Number(seed) >>> 0;
  const random = (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const words = new Uint32Array(new SharedArrayBuffer(64));
  const workers = [0, 1, 2].map((which) => {
    const made = new Worker(__filename, { workerData: { words, which, program: Buffer.from(program, 'base64') } });
    made.on('error', (error) => {
      console.error(error);
      process.exit(1);
    });
    return made;
  });
  const done = () => words.subarray(ACCESSES, ACCESSES + 3).reduce((sum, count) => sum + count, 0);
  // Of each thread the one that it was making, as the device lives on; and those that the device's thread had already taken, whose answers
  // nobody waits for. At most three accesses each, of a loop of load and exchange.
  const mayBeLate = how === 'close' || (model === 'spawned' && how !== 'unplug' && how !== 'revoke');
  const late = mayBeLate ? 3 * 3 : 0;
  const progress = async (count) => {
    const before = done();
    for (const end = Date.now() + 30_000; done() - before < count; await new Promise(setImmediate)) {
      if (Date.now() > end) throw new Error(`no progress: ${[...words]}`);
    }
  };

  const total = {};
  for (let round = 0; round < Number(rounds); round++) {
    words.fill(0);
    const { device, calls } = await makeDevice(model);
    const file = device.open();
    const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
    const mappings = [file.map({ fill }), file.map({ memory, memoryOffset: AT, fill })];
    const answers = workers.map((thread, which) => {
      thread.postMessage(mappings[which === 0 ? 0 : which - 1].share());
      return once(thread, 'message');
    });
    await progress(20 + random(300));
    for (const which of [0, 1, 2]) while (Atomics.load(words, ACCESSES + which) === 0) await progress(1);
    switch (how) {
      case 'unplug':
        await device.unplug();
        break;
      case 'revoke':
        await device.region(0).object.revoke();
        break;
      case 'revokeSync':
        device.region(0).object.revokeSync();
        break;
      case 'close':
        mappings[round % 2].close();
        await progress(100);
        mappings[1 - (round % 2)].close();
        break;
      case 'suspend':
        for (let i = 0; i < 5; i++) {
          await device.region(0).object.suspend();
          const before = calls();
          await progress(random(200));
          if (calls() > before + late) throw new Error(`called while suspended: ${calls()} after ${before}`);
          await device.region(0).object.resume();
          await progress(random(200));
        }
        break;
    }
    if (how !== 'suspend') {
      const before = calls();
      await progress(300);
      if (calls() > before + late) throw new Error(`called after it was gone: ${calls()} after ${before}`);
    }
    Atomics.store(words, STOP, 1);
    for (const [seen] of await Promise.all(answers)) {
      for (const [value, count] of seen) total[value.toString(16)] = (total[value.toString(16)] ?? 0) + count;
    }
    await device.unplug();
  }
  for (const thread of workers) thread.postMessage(null);
  await Promise.all(workers.map((thread) => once(thread, 'exit')));
  console.log(JSON.stringify(total));
}

async function makeDevice(model) {
  const name = 'leaving';
  if (model === 'native') {
    const file = new RegisterFile(Array.from({ length: 64 }, (_, i) => ({ offset: 4 * i, value: VALUE })));
    const device = new Device({ name, regions: [{ size: 4096, kind: 'registers', model: file }] });
    const trace = device.trace({ capacity: 1 });
    return { device, calls: () => trace.lost };
  }
  if (model === 'here') {
    const device = new Device(require('./register-answers.cjs'));
    return { device, calls: () => device.opCounts.readRegister + device.opCounts.writeRegister };
  }
  const device = await Device.spawn(join(__dirname, 'register-answers.cjs'));
  const trace = device.trace({ capacity: 1 });
  return { device, calls: () => trace.lost };
}
