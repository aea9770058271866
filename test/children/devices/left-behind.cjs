// What is left of devices that came and went: node --expose-gc left-behind.cjs HOW COUNT
//
// Makes COUNT devices, uses and unplugs them, as HOW says, several times over. Prints what there is after the second time and at the
// end, and how many devices came and went in between: each figure the least of many looks, as V8 and malloc keep for a while what they
// have just used.
const { readFileSync, readdirSync } = require('node:fs');
const { join } = require('node:path');
const { queryObjects } = require('node:v8');
const { Worker } = require('node:worker_threads');
const koffi = require('koffi');
const { Bus, Device, DeviceFile, Mapping, MemoryObject, RegisterFile, Trace, stats } = require('revocable-mmap');
const addon = require(join(__dirname, '..', '..', '..', 'build', 'Release', 'revocable_mmap.node'));

const [how, count] = [process.argv[2], Number(process.argv[3])];
const [WARM, ROUNDS] = [2, 2];
const MODEL = join(__dirname, 'by-source.cjs');

const long = new AbortController(); // a signal that outlives all devices
const bus = new Bus();
const { signal } = long;

const ops = {
  read: (file, target) => target.fill(1).length,
  write: (file, source) => source.length,
  ioctl: (file, command, argument) => argument,
  poll: () => 1,
  readRegister: () => 1,
  writeRegister: () => undefined,
};

const once = {
  async pages() {
    const fault = (page) => new Uint8Array(4096).fill(page.index);
    const device = new Device({ name: 'one', regions: [{ size: 65536 }], ops: { fault } });
    const mapping = device.open().map();
    await mapping.readAsync(4096, new Uint8Array(1));
    await mapping.wait(4096, 0, { signal });
    await device.unplug();
  },
  async registers() {
    const kind = 'registers';
    const model = new RegisterFile([{ offset: 0 }, { offset: 4, kind: 'counter' }]);
    const device = new Device({
      name: 'one',
      regions: [
        { size: 4096, kind },
        { size: 4096, kind, model },
      ],
      ops,
    });
    const file = device.open();
    const trace = device.trace({ capacity: 16 });
    for (const region of [0, 1]) {
      const mapping = file.map({ region });
      mapping.write32(0, mapping.read32(4));
    }
    const accesses = trace[Symbol.asyncIterator]();
    await accesses.next();
    await device.unplug();
  },
  async files() {
    const device = new Device({ name: 'one', regions: [{ size: 4096 }], ops });
    const file = device.open();
    const interrupts = file.interrupts({ signal });
    file.interruptFd();
    device.raise(1);
    await interrupts.next();
    await file.read(new Uint8Array(8), 0, { signal });
    await file.write(new Uint8Array(8), 0, { signal });
    await file.ioctl(1, {}, { signal });
    await file.poll({ signal });
    const waiting = file.poll({ events: 4, signal }).catch(() => undefined);
    await device.suspend();
    await device.resume();
    await device.remove({ timeout: 0 });
    await waiting;
  },
  async bus() {
    const device = new Device({ name: 'one', regions: [{ size: 4096 }] });
    const other = new Bus();
    const events = other.events({ signal });
    other.add(device);
    bus.add(device);
    await events.next();
    other.close();
    await device.unplug();
  },
  async spawned() {
    const device = await Device.spawn(MODEL, { data: { ops: 'read: () => 1, poll: () => 0, readRegister: () => 1' } });
    bus.add(device);
    const file = device.open();
    const registers = file.map({ region: 'regs' });
    registers.read32(0);
    const interrupts = file.interrupts({ signal });
    device.raise(1);
    await interrupts.next();
    await file.read(new Uint8Array(8), 0, { signal });
    await file.poll({ timeout: 0, signal });
    await device.unplug();
  },
};

koffi.struct(
  'mallinfo2',
  Object.fromEntries(
    ['arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks', 'uordblks', 'fordblks', 'keepcost'].map((name) => [
      name,
      'size_t',
    ]),
  ),
);
const mallinfo2 = koffi.load(null).func('mallinfo2 mallinfo2()');

function look() {
  const { live, suspended, revoked } = stats().mappings;
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return {
    mallocBytes: Number(mallinfo2().uordblks),
    heapBytes: process.memoryUsage().heapUsed,
    externalBytes: process.memoryUsage().external,
    residentBytes: 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]),
    descriptors: readdirSync('/proc/self/fd').length,
    mapsOfMemory: maps.filter((line) => line.includes('memfd:')).length,
    mappings: live + suspended + revoked,
    listeners: require('node:events').getEventListeners(signal, 'abort').length,
    ...Object.fromEntries([...addon.shared.registries].map(([name, registry]) => [`registry ${name}`, registry.size])),
  };
}

const KINDS = [
  Device,
  DeviceFile,
  MemoryObject,
  Mapping,
  Trace,
  RegisterFile,
  Bus,
  AbortSignal,
  WeakRef,
  SharedArrayBuffer,
  Worker,
];

/** Each looks through the heap. */
function lookForObjects() {
  return Object.fromEntries(KINDS.map((kind) => [`objects ${kind.name}`, queryObjects(kind)]));
}

async function least(times, figures) {
  const seen = {};
  for (let i = 0; i < times; i++) {
    globalThis.gc();
    for (let j = 0; j < 10; j++) await new Promise((resolve) => setImmediate(resolve));
    for (const [name, value] of Object.entries(figures())) seen[name] = Math.min(seen[name] ?? Infinity, value);
  }
  return seen;
}

async function settle() {
  return { ...(await least(8, look)), ...(await least(1, lookForObjects)) };
}

async function main() {
  const times = async (rounds) => {
    for (let i = 0; i < rounds * count; i++) {
      await once[how]();
      if (i % count === count - 1) await least(8, look);
    }
  };
  await settle(); // what looking itself needs is there from now on
  await times(WARM);
  const before = await settle();
  await times(ROUNDS);
  const after = await settle();
  bus.close();
  console.log(JSON.stringify({ before, after, devices: ROUNDS * count }));
}

main();
