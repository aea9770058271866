// What the library promises in every runtime, as lines that are the same in each. Argument: the package's folder.
const { mkdtempSync, rmSync, writeFileSync, truncateSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { Worker } = require('node:worker_threads');
const root = process.argv[2];
const lib = require(root);
const PAGE = 4096;

const parts = {
  'checked and raw accesses, a synchronous revocation'() {
    const object = lib.MemoryObject.create({ size: 2 * PAGE, name: 'portable' });
    const mappings = Array.from({ length: 20 }, (_, i) => object.map({ fill: i % 2 === 0 ? 'zeros' : 'ones' }));
    const before = mappings.map((mapping) => (mapping.write32(8, 0xcafe), mapping.read32(8)));
    const { bytes } = mappings[1];
    const hot = () => {
      let sum = 0;
      for (let i = 0; i < 100_000; i++) sum += bytes[i & 1023];
      return sum;
    };
    const warm = hot();
    const report = object.revokeSync();
    return [
      new Set(before).size,
      warm > 0,
      report.mappings,
      hot() === 100_000 * 0xff,
      mappings[0].bytes[8],
      code(() => mappings[0].read32(8)),
    ];
  },

  async 'an asynchronous revocation, its event and its signal'() {
    const object = lib.MemoryObject.create({ size: PAGE });
    const mapping = object.map();
    const event = once(object, 'revoked');
    const report = await object.revoke();
    await event;
    return [report.mappings, object.signal.aborted, mapping.state];
  },

  'a file that is cut: a lost page, a hole that reads as the fill'() {
    const folder = mkdtempSync(join(tmpdir(), 'portable-'));
    const path = join(folder, 'file');
    writeFileSync(path, new Uint8Array(4 * PAGE).fill(5));
    const object = lib.MemoryObject.openFile(path, { writable: true });
    const mapping = object.map({ fill: 'ones' });
    const whole = mapping.read8(3 * PAGE);
    truncateSync(path, PAGE);
    const result = [
      whole,
      mapping.read8(0),
      code(() => mapping.read8(3 * PAGE)),
      mapping.bytes[3 * PAGE],
      code(() => mapping.check()),
    ];
    rmSync(folder, { recursive: true });
    return result;
  },

  async 'futexes: a limit, a wake by another thread, a revocation that wakes'() {
    const object = lib.MemoryObject.create({ size: PAGE });
    const mapping = object.map();
    const timed = await mapping.wait(0, 0, { timeout: 10 });
    const thread = await worker(
      `take((handle) => { const m = Mapping.attach(handle); m.write32(0, 1); m.wake(0); return m.read32(0); })`,
    );
    const waiting = mapping.wait(0, 0, { timeout: 10_000 });
    const theirs = await thread.ask(mapping.share());
    const woken = await waiting;
    await thread.end();
    const revoked = mapping.wait(0, 1, { timeout: 10_000 }).catch((error) => error.code);
    await object.revoke();
    return [timed, theirs, woken, await revoked];
  },

  async 'every thread loses a revoked mapping'() {
    const object = lib.MemoryObject.create({ size: PAGE });
    const mapping = object.map();
    mapping.write32(0, 77);
    const threads = await Promise.all(
      [1, 2].map(() =>
        worker(`
      let mapping;
      take((handle) => {
        mapping ??= Mapping.attach(handle);
        try { return mapping.read32(0); } catch (error) { return error.code + ' ' + mapping.bytes[0]; }
      })`),
      ),
    );
    const live = await Promise.all(threads.map((thread) => thread.ask(mapping.share())));
    object.revokeSync();
    const dead = await Promise.all(threads.map((thread) => thread.ask(null)));
    await Promise.all(threads.map((thread) => thread.end()));
    return [live, dead];
  },

  async 'a thread that reads in a loop when the revocation comes'() {
    const object = lib.MemoryObject.create({ size: PAGE });
    const mapping = object.map();
    const thread = await worker(`take((handle) => {
      const m = Mapping.attach(handle);
      for (let reads = 0; ; reads++) {
        try { m.write32(4, reads); m.read32(4); } catch (error) { return [error.code, reads > 0]; }
      }
    })`);
    const answer = thread.ask(mapping.share());
    while (mapping.read32(4) < 1000) await turn();
    await object.revoke();
    const result = await answer;
    await thread.end();
    return result;
  },

  async 'suspend, resume, close'() {
    const object = lib.MemoryObject.create({ size: PAGE });
    const mapping = object.map();
    mapping.write8(0, 9);
    await object.suspend();
    const suspended = [mapping.state, code(() => mapping.read8(0))];
    await object.resume();
    const resumed = mapping.read8(0);
    mapping.close();
    return [suspended, resumed, code(() => mapping.read8(0))];
  },

  async 'copies off the thread'() {
    const object = lib.MemoryObject.create({ size: 1 << 20 });
    const mapping = object.map();
    const source = new Uint8Array(1 << 20).map((_, i) => i);
    await mapping.writeAsync(0, source);
    const back = new Uint8Array(1 << 20);
    await mapping.readAsync(0, back);
    return [Buffer.compare(back, source)];
  },

  'memory that is no SharedArrayBuffer'() {
    const object = lib.MemoryObject.create({ size: PAGE });
    const mapping = object.map({ shared: false, fill: 'ones' });
    mapping.write8(0, 3);
    const before = [mapping.buffer instanceof ArrayBuffer, mapping.bytes[0]];
    object.revokeSync();
    return [before, mapping.bytes[0], code(() => mapping.read8(0))];
  },

  'memory inside that of a WebAssembly program'() {
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
    const object = lib.MemoryObject.create({ size: PAGE });
    const mapping = object.map({ memory, memoryOffset: 65536 });
    mapping.write8(0, 4);
    const before = new Uint8Array(memory.buffer)[65536];
    object.revokeSync();
    return [before, new Uint8Array(memory.buffer)[65536], code(() => mapping.read8(0))];
  },

  async 'a device in this thread: pages, registers, interrupts'() {
    const seen = [];
    const device = new lib.Device({
      name: 'local',
      regions: [
        { name: 'ram', size: 4 * PAGE },
        { name: 'regs', size: PAGE, kind: 'registers' },
      ],
      ops: {
        fault: (page) => new Uint8Array(PAGE).fill(page.index + 1),
        readRegister: (offset) => offset * 2,
        writeRegister: (offset, width, value) => void seen.push([offset, width, Number(value)]),
      },
    });
    const file = device.open();
    const ram = file.map({ region: 'ram' });
    const regs = file.map({ region: 'regs' });
    const page = new Uint8Array(4);
    await ram.readAsync(2 * PAGE, page);
    regs.write32(8, 5);
    const value = regs.read32(16);
    const thread = await worker(`take((handle) => { const m = Mapping.attach(handle); m.write32(12, 6); return m.read32(24); })`);
    const theirs = await thread.ask(regs.share());
    await thread.end();
    const report = await device.unplug();
    return [[...page], value, theirs, seen, report.mappings, code(() => regs.read32(16)), ram.bytes[0]];
  },

  async 'a device in a thread of its own'() {
    const device = await lib.Device.spawn(join(__dirname, 'model.cjs'));
    const file = device.open();
    const ram = file.map({ region: 'ram' });
    const regs = file.map({ region: 'regs' });
    const values = [ram.read8(3 * PAGE), ram.bytes[PAGE], regs.read32(20)];
    const irq = file.interrupts()[Symbol.asyncIterator]().next();
    regs.write32(0, 1);
    const { value: vector } = await irq;
    const report = await device.unplug();
    return [values, vector, report.mappings, code(() => ram.read8(0)), ram.bytes[0]];
  },
};

main();

async function main() {
  for (const [name, part] of Object.entries(parts)) console.log(`${name}: ${JSON.stringify(await part())}`);
}

function code(act) {
  try {
    return act();
  } catch (error) {
    return error.code;
  }
}

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, resolve));
}

function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A thread that answers each message with what `code` makes of it; messages are asked one after the other. */
async function worker(body) {
  const thread = new Worker(
    `const { parentPort } = require('node:worker_threads');
     const { Mapping } = require(${JSON.stringify(root)});
     const take = (answer) => parentPort.on('message', (question) => {
       if (question === 'end') return process.exit(0);
       parentPort.postMessage(answer(question));
     });
     ${body};
     parentPort.postMessage('ready');`,
    { eval: true },
  );
  const failed = new Promise((_, reject) => thread.once('error', reject));
  const next = () => Promise.race([new Promise((resolve) => thread.once('message', resolve)), failed]);
  await next();
  return {
    ask(question) {
      const answer = next();
      thread.postMessage(question);
      return answer;
    },
    end() {
      const ended = new Promise((resolve) => thread.once('exit', resolve));
      thread.postMessage('end');
      return ended;
    },
  };
}
