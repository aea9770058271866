// SIGTRAP, profilers and tracers while registers are accessed raw by instructions that are stepped: register-strangers.cjs SCENARIO
// [ARGUMENT…]. What a scenario returns is printed as JSON.
const { Session } = require('node:inspector');
const { once } = require('node:events');
const { setTimeout: sleep } = require('node:timers/promises');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const koffi = require('koffi');
const { barrier } = require('../../support/barrier.cjs');

const SIGTRAP = 5;
const THREADS = 3;
const FEW_SAMPLES = 10;
const LIMIT = 40_000; // milliseconds, of waiting for what must come
const libc = koffi.load(null);
const signal = libc.func('intptr_t signal(int number, intptr_t handler)');
const sigaction = libc.func('int sigaction(int number, uint8_t *action, uint8_t *old)');
const dlsym = libc.func('intptr_t dlsym(intptr_t handle, const char *name)');

/** struct sigaction of glibc, x86-64: _exit(2), which makes the signal's number the exit status. */
function exitAtTrap(flags) {
  const action = Buffer.alloc(160);
  action.writeBigInt64LE(BigInt(dlsym(0, '_exit')), 0);
  action.writeUInt32LE(flags >>> 0, 136);
  if (sigaction(SIGTRAP, action, null) !== 0) throw new Error(`sigaction: ${koffi.errno()}`);
}

let made;
function registers() {
  if (made !== undefined) return made;
  const lib = require('revocable-mmap');
  const model = new lib.RegisterFile([
    { offset: 0, kind: 'counter' },
    ...Array.from({ length: 63 }, (_, i) => ({ offset: 8 * (i + 1), width: 8 })),
  ]);
  const device = new lib.Device({ name: 'card', regions: [{ size: 4096, kind: 'registers', model }] });
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  return (made = { lib, model, device, mapping: device.open().map({ memory, memoryOffset: 0 }) });
}

// (func (export "load") (param i32) (result i32) …): the first lane of i16x8.load8x8_s. On x86-64 that is vpmovsxbw, which loads and
// extends, and so is stepped.
const STEPPED_LOAD = Uint8Array.from([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f],
  ...[2, 9, 1, 1, 0x65, 1, 0x6d, 2, 3, 1, 1], // e.m, shared, of one page
  ...[3, 2, 1, 0],
  ...[7, 8, 1, 4, 0x6c, 0x6f, 0x61, 0x64, 0, 0],
  ...[10, 13, 1, 11, 0, 0x20, 0, 0xfd, 1, 0, 0, 0xfd, 0x18, 0, 0x0b],
]);
const programs = new WeakMap();
function steppedLoad(mapping) {
  if (!programs.has(mapping)) {
    const module = new WebAssembly.Module(STEPPED_LOAD);
    programs.set(mapping, new WebAssembly.Instance(module, { e: { m: mapping.memory } }).exports.load);
  }
  return programs.get(mapping);
}

/** Accesses of each kind, some of them stepped; how many were wrong. */
function access(mapping, from, rounds) {
  const [doubles, singles] = [new Float64Array(mapping.buffer, 0, 64), new Float32Array(mapping.buffer, 0, 128)];
  const words = new Uint32Array(mapping.buffer, 0, 128);
  const bytes = new Int8Array(mapping.buffer, 0, 512);
  const load = steppedLoad(mapping);
  let wrong = 0;
  for (let i = 0; i < rounds; i++) {
    const at = from + (i % 8);
    doubles[at] = i / 3;
    if (doubles[at] !== i / 3) wrong++;
    if (load(8 * at) !== Atomics.load(bytes, 8 * at)) wrong++;
    singles[2 * at] = i / 7;
    if (singles[2 * at] !== Math.fround(i / 7)) wrong++;
    words[2 * at] = i;
    if (Atomics.add(words, 2 * at, 1) !== i) wrong++;
    Atomics.load(words, 0);
  }
  mapping.check();
  return wrong;
}

function survive(rounds = 20) {
  const { mapping } = registers();
  if (access(mapping, 1, rounds) !== 0) throw new Error('a wrong value');
}

async function happen(what, library) {
  if (what === 'int3') koffi.load(library).func('void stop_here()')();
  else process.kill(process.pid, 'SIGTRAP');
  await sleep(20_000); // a signal that kills comes within microseconds
  return 'survived';
}

const warnings = [];
process.on('warning', (warning) => warnings.push(warning.code));

async function until(what, condition) {
  for (const end = Date.now() + LIMIT; !condition(); await sleep(1)) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
  }
}

/** A signal that is heard comes after whatever had been sent before: the kernel delivers the lowest number first. */
async function untilSignalsAreHandled() {
  let heard = false;
  process.once('SIGUSR2', () => (heard = true));
  process.kill(process.pid, 'SIGUSR2');
  await until('the later signal is heard', () => heard);
}

async function untilRepaired(lib, displacements) {
  await until(`${displacements} displacements are repaired`, () => lib.stats().handlerDisplacements >= displacements);
}

const SCENARIOS = {
  async plain(withLibrary, what, library) {
    if (withLibrary === 'with') survive();
    console.log('before');
    return happen(what, library);
  },

  async handler(order, flags, what, library) {
    if (order === 'before') exitAtTrap(Number(flags));
    survive();
    if (order === 'after') {
      exitAtTrap(Number(flags));
      await untilRepaired(made.lib, 1);
      survive();
    }
    console.log('before');
    return happen(what, library);
  },

  async ignored(library) {
    signal(SIGTRAP, 1); // SIG_IGN
    survive();
    process.kill(process.pid, 'SIGTRAP');
    await untilSignalsAreHandled();
    survive();
    console.log('before');
    return happen('int3', library); // forced: it kills also where it is ignored
  },

  async listener(order) {
    let heard = 0;
    const listen = () => process.on('SIGTRAP', () => heard++);
    if (order === 'before') listen();
    survive();
    if (order === 'after') listen();
    survive();
    for (const count of [1, 2, 3]) {
      process.kill(process.pid, 'SIGTRAP');
      await until('it is heard', () => heard >= count);
      survive();
    }
    if (order === 'after') process.removeAllListeners('SIGTRAP');
    survive();
    await until('the warning has come', () => order === 'before' || warnings.length > 0);
    await barrier();
    return { heard, warnings };
  },

  async listenerRemoved() {
    survive();
    const listener = () => undefined;
    process.on('SIGTRAP', listener);
    survive();
    process.off('SIGTRAP', listener);
    survive();
    console.log('before');
    return happen('kill');
  },

  async displaced() {
    survive();
    for (let round = 1; round <= 3; round++) {
      signal(SIGTRAP, 0);
      await untilRepaired(made.lib, round);
      survive();
    }
    await until('the warning has come', () => warnings.length > 0);
    await barrier();
    return { warnings };
  },

  // Three threads that access registers all the time, each with a profiler of its own where that is asked for: for at least so long, and
  // until each has made a thousand rounds while the others were at work too.
  async busy(profiled, milliseconds) {
    const { model, mapping } = registers();
    const made = new Uint32Array(new SharedArrayBuffer(4 * (THREADS + 1))); // rounds of each thread; whether the workers may stop
    const workers = [1, 2].map((thread) => {
      const worker = new Worker(__filename, { workerData: { handle: mapping.share(), thread, made, profiled } });
      return Promise.all([once(worker, 'message'), once(worker, 'exit')]);
    });
    await until('the others are at work', () => made[1] > 0 && made[2] > 0);
    const before = made.slice(0, THREADS);
    const end = Date.now() + Number(milliseconds);
    const enough = () => Date.now() >= end && before.every((count, thread) => Atomics.load(made, thread) - count >= 1000);
    const own = await work(mapping, 0, made, enough, profiled);
    Atomics.store(made, THREADS, 1);
    const all = [own, ...(await Promise.all(workers)).map(([[done]]) => done)];
    return {
      wrong: all.reduce((sum, { wrong }) => sum + wrong, 0),
      counted: model.get(0) === made.slice(0, THREADS).reduce((sum, count) => sum + count),
      samples: all.every(({ samples }) => profiled !== 'inspector' || samples > FEW_SAMPLES),
    };
  },
};

/** Accesses of thread number `thread` until there have been enough; their rounds are counted in `made`. */
async function work(mapping, thread, made, enough, profiled) {
  const sum = { wrong: 0, samples: 0 };
  const piece = async () => {
    do {
      sum.wrong += access(mapping, 1 + 8 * thread, 100);
      Atomics.add(made, thread, 100);
      await sleep(0);
    } while (!enough());
  };
  if (profiled !== 'inspector') {
    await piece();
    return sum;
  }
  // Where there is much else to do, a piece may be over before the sampler has had its turns.
  const end = Date.now() + LIMIT;
  do sum.samples += await samplesOf(piece);
  while (sum.samples <= FEW_SAMPLES && Date.now() < end);
  return sum;
}

async function samplesOf(body) {
  const session = new Session();
  session.connect();
  const post = (method, parameters) =>
    new Promise((resolve, reject) =>
      session.post(method, parameters, (error, value) => (error ? reject(error) : resolve(value))),
    );
  await post('Profiler.enable');
  await post('Profiler.setSamplingInterval', { interval: 100 });
  await post('Profiler.start');
  await body();
  const { profile } = await post('Profiler.stop');
  session.disconnect();
  return profile.samples.length;
}

async function worker() {
  const { handle, thread, made, profiled } = workerData;
  const { Mapping } = require('revocable-mmap');
  const mapping = Mapping.attach(handle);
  parentPort.postMessage(await work(mapping, thread, made, () => Atomics.load(made, THREADS) === 1, profiled));
}

if (isMainThread) {
  const [scenario, ...args] = process.argv.slice(2);
  SCENARIOS[scenario](...args).then((value) => value !== undefined && console.log(JSON.stringify(value)));
} else {
  worker();
}
