// Signals that are not the library's: a9-stranger.cjs SCENARIO [ARGUMENT]. What a scenario returns is printed as JSON.
const fs = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const { once } = require('node:events');
const { Worker, parentPort } = require('node:worker_threads');
const koffi = require('koffi');
const { barrier } = require('../support/barrier.cjs');

const SIGBUS = 7;
const SIGSEGV = 11;
const SA_SIGINFO = 4;
const SA_RESETHAND = 0x80000000;
const PAGE = 4096;

const libc = koffi.load(null);
const mmap = libc.func('void *mmap(void *at, size_t bytes, int prot, int flags, int fd, int64 offset)');
const munmap = libc.func('int munmap(void *at, size_t bytes)');
const signal = libc.func('intptr_t signal(int number, intptr_t handler)');
const sigaction = libc.func('int sigaction(int number, uint8_t *action, uint8_t *old)');
const dlsym = libc.func('intptr_t dlsym(intptr_t handle, const char *name)');

/** A handler every process has: _exit(2), which makes the signal's number the exit status. */
const EXIT = () => BigInt(dlsym(0, '_exit'));

/** struct sigaction of glibc: handler, 128 bytes of mask, flags; the same on x86-64 and arm64. */
function setAction(number, handler, flags) {
  const action = Buffer.alloc(160);
  action.writeBigInt64LE(BigInt(handler), 0);
  action.writeUInt32LE(flags >>> 0, 136);
  if (sigaction(number, action, null) !== 0) throw new Error(`sigaction: ${koffi.errno()}`);
}

/** An address of a mapping that is not the library's and whose file is too short. */
function foreignPage() {
  const path = `${process.env.SCRATCH}/foreign`;
  fs.writeFileSync(path, Buffer.alloc(PAGE));
  const fd = fs.openSync(path, 'r+');
  const at = mmap(null, PAGE, 3, 1, fd, 0);
  fs.truncateSync(path, 0);
  return at;
}

const touch = (pointer) => koffi.decode(pointer, 'uint8_t');
function touchHole() {
  const at = mmap(null, PAGE, 3, 0x22, -1, 0);
  munmap(at, PAGE);
  touch(at);
}

const revokedMapping = (lib, options) => {
  const memory = lib.MemoryObject.create({ size: 4 * PAGE });
  const mapping = memory.map(options);
  mapping.bytes.fill(1);
  memory.revokeSync();
  return mapping;
};

/** The library, working: a fault has been handled. */
function library() {
  const lib = require('revocable-mmap');
  const mapping = revokedMapping(lib);
  if (mapping.bytes[100] !== 0) throw new Error('no fill');
  return lib;
}

/** Raw touches of revoked memory, of both kinds of signal. */
function survive(lib) {
  if (revokedMapping(lib, { fill: 'ones' }).bytes[PAGE] !== 0xff) throw new Error('no fill');
  const memory = lib.MemoryObject.create({ size: PAGE });
  const mapping = memory.map({ access: 'r' });
  mapping.bytes[0] = 1; // SIGSEGV
  if (mapping.read8(0) !== 0) throw new Error('the write reached the object');
  memory.close();
}

/** The other thing that happens to the process: a fault of foreign memory, or a signal by kill(2). */
async function happen(what) {
  if (what === 'foreign fault') touch(foreignPage());
  else if (what === 'hole') touchHole();
  else process.kill(process.pid, what);
  await sleep(20_000); // a signal that kills comes within microseconds
  return 'survived';
}

const warnings = [];
process.on('warning', (warning) => warnings.push(warning.code));

const SCENARIOS = {
  // With the library loaded or not: the same end.
  async plain(withLibrary, what) {
    if (withLibrary === 'with') library();
    console.log('before');
    return happen(what);
  },

  // A handler of another's, there before the library or after it.
  async handler(order, shape, what) {
    const [number, flags] = { simple: [SIGBUS, 0], siginfo: [SIGBUS, SA_SIGINFO], once: [SIGBUS, SA_RESETHAND] }[shape];
    if (order === 'before') setAction(number, EXIT(), flags);
    const lib = library();
    if (order === 'after') {
      setAction(number, EXIT(), flags);
      await untilRepaired(lib, 1);
    }
    survive(lib);
    console.log('before');
    return happen(what);
  },

  async ignored(what) {
    signal(SIGBUS, 1); // SIG_IGN
    const lib = library();
    survive(lib);
    if (what === 'kill') {
      process.kill(process.pid, 'SIGBUS');
      await untilSignalsAreHandled();
      survive(lib);
      return 'ignored';
    }
    console.log('before');
    return happen(what);
  },

  async listenerBefore() {
    let heard = 0;
    process.on('SIGBUS', () => heard++);
    const lib = library();
    survive(lib);
    process.kill(process.pid, 'SIGBUS');
    await until('it is heard', () => heard >= 1);
    survive(lib);
    process.kill(process.pid, 'SIGBUS');
    await until('it is heard', () => heard >= 2);
    return { heard, warnings, displacements: lib.stats().handlerDisplacements };
  },

  async listenerAfter() {
    const lib = library();
    const heard = { SIGBUS: 0, SIGSEGV: 0 };
    for (const name of ['SIGBUS', 'SIGSEGV']) process.on(name, () => heard[name]++);
    survive(lib); // at once: hooked, not only watched
    for (const name of ['SIGBUS', 'SIGSEGV', 'SIGBUS']) {
      const before = heard[name];
      process.kill(process.pid, name);
      await until(`${name} is heard`, () => heard[name] > before);
      survive(lib);
    }
    process.removeAllListeners('SIGBUS');
    process.on('SIGBUS', () => heard.SIGBUS++);
    survive(lib);
    await untilWarned();
    return { heard, warnings };
  },

  async listenerRemoved(what) {
    const lib = library();
    const listener = () => undefined;
    process.on('SIGBUS', listener);
    survive(lib);
    process.off('SIGBUS', listener);
    survive(lib);
    if (what === 'live') {
      await barrier(); // the watchdog has looked meanwhile, and had nothing to repair
      survive(lib);
      await untilWarned();
      return warnings;
    }
    console.log('before');
    return happen(what);
  },

  // Another addon, which calls sigaction(2) by itself: only the watchdog can notice, while there are mappings.
  async displaced(what) {
    const lib = library();
    globalThis.held = lib.MemoryObject.create({ size: PAGE }).map(); // or it may be collected, and nothing is watched any more
    for (let round = 1; round <= 3; round++) {
      signal(SIGBUS, 0);
      await untilRepaired(lib, 2 * round - 1);
      signal(SIGSEGV, 0);
      await untilRepaired(lib, 2 * round);
      survive(lib);
    }
    await untilWarned();
    if (what === 'live') return { warnings };
    console.log('before');
    return happen(what);
  },

  async displacedThenMap() {
    const lib = library();
    const before = lib.stats().handlerDisplacements;
    signal(SIGBUS, 0);
    signal(SIGSEGV, 0);
    survive(lib); // map() looks
    return lib.stats().handlerDisplacements - before;
  },

  async wasm(where) {
    if (where === 'main') return traps(library());
    if (where === 'worker') return parentPort.postMessage(traps(library()));
    library();
    // Listened to from the start: a worker may be done before this thread's own turn is.
    const answers = [0, 1].map(() => {
      const worker = new Worker(__filename, { argv: ['wasm', 'worker'] });
      return Promise.all([once(worker, 'message'), once(worker, 'exit')]);
    });
    const own = traps(require('revocable-mmap'));
    return [own, ...(await Promise.all(answers)).map(([[seen], [code]]) => (code === 0 ? seen : `exit ${code}`))];
  },

  async profiled() {
    const lib = require('revocable-mmap');
    const end = Date.now() + 1500;
    let rounds = 0;
    while (Date.now() < end || rounds < 500) {
      for (let i = 0; i < 50; i++) {
        const memory = lib.MemoryObject.create({ size: 4 * PAGE });
        const mapping = memory.map();
        mapping.write32(0, i);
        if (mapping.read32(0) !== i) throw new Error('wrong value');
        memory.revokeSync();
        if (mapping.bytes[PAGE] !== 0) throw new Error('no fill');
        memory.close();
        rounds++;
      }
      survive(lib);
      await sleep(0);
    }
    return 'survived';
  },
};

/** 2,000 out-of-bounds accesses of WebAssembly, with faults of revoked memory in between; what they threw. */
function traps(lib) {
  // (module (memory 1) (func (export "peek") (param i32) (result i32) (i32.load (local.get 0)))
  //         (func (export "poke") (param i32) (i32.store (local.get 0) (i32.const 7))))
  const bytes = Uint8Array.from([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 10, 2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 0, 3, 3, 2, 0, 1, 5, 3, 1, 0, 1, 7, 15, 2,
    4, 0x70, 0x65, 0x65, 0x6b, 0, 0, 4, 0x70, 0x6f, 0x6b, 0x65, 0, 1, 10, 19, 2, 7, 0, 0x20, 0, 0x28, 2, 0, 0x0b, 9, 0, 0x20, 0,
    0x41, 7, 0x36, 2, 0, 0x0b,
  ]);
  const { peek, poke } = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
  const seen = {};
  for (let i = 0; i < 1000; i++) {
    for (const access of [() => peek(0x10000 + i * PAGE), () => poke(0x7fff0000 - i)]) {
      let name;
      try {
        name = `returned ${access()}`;
      } catch (error) {
        name = error instanceof WebAssembly.RuntimeError ? 'RuntimeError' : String(error);
      }
      seen[name] = (seen[name] ?? 0) + 1;
    }
    if (i % 10 === 0) survive(lib);
    if (peek(64) !== 0) throw new Error('wrong value');
  }
  return seen;
}

async function until(what, condition) {
  for (const end = Date.now() + 20_000; !condition(); await sleep(1)) {
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

async function untilWarned() {
  await until('the warning has come', () => warnings.length > 0);
  await barrier();
}

const [scenario, ...args] = process.argv.slice(2);
SCENARIOS[scenario](...args).then((value) => value !== undefined && console.log(JSON.stringify(value)));
