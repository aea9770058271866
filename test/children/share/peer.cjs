// A process that shares memory or a device, or uses what is shared: it does what it hears, a JSON line each, and says what came of it.
const { closeSync, constants, ftruncateSync, openSync, readdirSync, readlinkSync, writeSync } = require('node:fs');
const { Device, MemoryObject } = require('revocable-mmap');
const share = require('revocable-mmap/share');
const { say, hear } = require('../conversation.cjs');

let object, mapping, device, file, server, pending, ring, mutex, hold, letGo;
const events = [];
const registers = new Uint32Array(64);

/** What an error says of itself, and of its causes. */
const said = (error) => ({ code: error.code ?? error.name, message: error.message, cause: error.cause && said(error.cause) });

const attempt = (call) => {
  try {
    return call() ?? 'done';
  } catch (error) {
    return error.code ?? String(error);
  }
};

const ACTIONS = {
  // --- the one that shares ---
  /** `users`: what each user, by number, may do. */
  serveMemory({ size, name = 'shared', users, options }) {
    object = MemoryObject.create({ size, name });
    mapping = object.map();
    const authorize = users === undefined ? undefined : ({ uid }) => users[uid] ?? false;
    server = watched(share.serveMemory(object, { ...options, authorize }));
  },
  serveDevice({ options, memory = 16384 }) {
    device = new Device({
      name: 'card0',
      regions: [
        { name: 'control', size: 4096, kind: 'registers' },
        { name: 'frames', size: memory },
      ],
      ops: {
        open: () => events.push('open'),
        release: () => events.push('release'),
        mmap: (_, { region, access }) => void events.push(`mmap ${region} ${access}`),
        close: ({ region }) => events.push(`close ${region}`),
        readRegister: (offset) => registers[(offset >> 2) % 64],
        writeRegister(offset, width, value) {
          if (offset === 0xf0) device.raise(Number(value));
          else registers[(offset >> 2) % 64] = Number(value);
        },
      },
    });
    device.regions[1].memory.write32(0, 0xfeed);
    server = watched(share.serve(device, options));
  },
  serveMixed({ options }) {
    device = new Device({
      name: 'card0',
      pci: {},
      regions: [
        { name: 'frames', size: 8 * 4096 },
        { name: 'control', size: 64, kind: 'registers', bar: 0 },
      ],
      ops: {
        readRegister: () => 0,
        writeRegister(_, width, at) {
          const { memory } = device.regions[0];
          memory.write32(at, memory.read32(at) + 1);
        },
      },
    });
    server = watched(share.serve(device, options));
  },
  /** Pages come at their first touch; `of`: what the op answers for which page, else its number plus one. */
  servePages({ options, of = {}, opTimeout, asksBeforeWrite = true }) {
    const held = new Promise((resolve) => (letGo = resolve));
    const answers = {
      refused: () => 'sigbus',
      failed: () => Promise.reject(new Error('no')),
      held: () => held,
      never: () => new Promise(() => undefined),
    };
    device = new Device({
      name: 'card0',
      opTimeout,
      regions: [
        { name: 'frames', size: 256 * 4096 },
        { name: 'control', size: 4096, kind: 'registers' },
      ],
      ops: {
        open: () => events.push('open'),
        close: ({ region }) => events.push(`close ${region}`),
        release: () => events.push('release'),
        fault({ index, write, present }) {
          events.push(`fault ${index}${write ? ' write' : ''}${present ? ' present' : ''}`);
          return answers[of[index]]?.() ?? new Uint8Array(4096).fill(index + 1);
        },
        ...(asksBeforeWrite && {
          pageMkwrite({ index }) {
            events.push(`write ${index}`);
            return of[index] === 'read-only' ? 'sigbus' : undefined;
          },
        }),
        readRegister: () => 7,
      },
    });
    device.on('fault', ({ cause }) => events.push(cause));
    server = watched(share.serve(device, options));
  },
  letGo: () => letGo(),
  discard: ({ offset, length }) => device.regions[0].discard({ offset, length }),
  revoke: async () => ({ report: await object.revoke('pulled'), served: await server.closed }),
  unplug: async () => ({ report: await device.unplug(), served: await server.closed }),
  closeServer: async () => server.close(),
  raise: ({ vector }) => device.raise(vector),
  events: () => events.splice(0),
  clients: () => server.clients.size,

  // --- the one that uses it ---
  async connectMemory({ path, options }) {
    object = await share.connectMemory(path, options);
    object.on('revoked', () => events.push('revoked'));
    mapping = object.map();
    return { size: object.size, writable: object.writable, name: object.name, state: object.state };
  },
  async connect({ path, options }) {
    device = await share.connect(path, options);
    device.on('removed', () => events.push('removed'));
    file = device.open();
    return { name: device.name, regions: device.regions.map(({ name, kind, size }) => ({ name, kind, size })) };
  },
  mapRegion({ region }) {
    mapping = file.map({ region });
    object = mapping.object;
    return mapping.access;
  },
  async interrupts({ count }) {
    const vectors = [];
    const waiting = file.interrupts();
    say('ready');
    for await (const vector of waiting) if (vectors.push(vector) === count) return vectors;
  },
  async giveMemory({ size, options }) {
    object = MemoryObject.create({ size });
    mapping = object.map();
    await device.dma.map(object, options);
  },
  reset: () => device.reset(),
  unplugHere: async () => (await device.unplug()).removedByThisCall,
  disconnect: () => object.close(),
  state: () => ({ object: object?.state, device: device?.state }),
  list: ({ directory }) => share.list(directory),

  // --- both ---
  read32: ({ offset }) => mapping.read32(offset),
  write32: ({ offset, value }) => mapping.write32(offset, value),
  wake: ({ offset }) => mapping.wake(offset),
  wait: ({ offset, expected }) => mapping.wait(offset, expected),
  waitBegin({ offset, expected }) {
    pending = mapping.wait(offset, expected).then((value) => ({ value }), said);
  },
  waitEnd: () => pending,
  /** A read that may wait for its page. */
  touch({ offset }) {
    say('touching');
    return mapping.read32(offset);
  },
  raw32: ({ offset }) => new Uint32Array(mapping.buffer)[offset / 4],
  /** Reads without letting the event loop turn, until it fails. */
  spin({ offset, limit }) {
    const end = Date.now() + limit;
    say('spinning');
    const seen = new Set();
    while (Date.now() < end) seen.add(mapping.read32(offset));
    return { never: [...seen] };
  },
  /** Reads all over the mapping until it is refused. `last`: when the last read that gave a value began. */
  witness() {
    say('reading');
    const seen = new Set();
    let last;
    try {
      for (let at = 0; ; at = (at + 36 * 4096 + 4) % mapping.length) {
        const began = process.hrtime.bigint();
        seen.add(mapping.read32(at));
        last = began;
      }
    } catch (error) {
      return { seen: [...seen], last: String(last), ...said(error) };
    }
  },
  /** What raw reads of a word in each page give. */
  rawValues() {
    const words = new Uint32Array(mapping.buffer);
    const seen = new Set();
    for (let at = 1; at < words.length; at += 1024) seen.add(words[at]);
    return [...seen];
  },
  /** What the descriptor of the object can be made to do. */
  attack() {
    const { fd } = object;
    const own = `/proc/self/fd/${fd}`;
    return {
      map: attempt(() => object.map({ access: 'rw' })),
      open: process.getuid() === 0 ? 'EACCES' : attempt(() => openSync(own, constants.O_RDWR)), // root may anything
      truncate: attempt(() => ftruncateSync(fd, 0)),
      write: attempt(() => writeSync(fd, Buffer.from('x'), 0, 1, 0)),
      raw: attempt(() => void (mapping.bytes[0] = 1)),
      link: readlinkSync(own),
    };
  },
  /** Ping-pong by the word at 8: this one waits for `own` numbers, even or odd, and answers each with the next. */
  pingPong({ own, rounds }) {
    say('playing');
    for (let round = 0; round < rounds; round++) {
      const turn = 2 * round + own;
      for (let word = mapping.read32(8); word !== turn; word = mapping.read32(8)) mapping.waitSync(8, word);
      mapping.write32(8, turn + 1);
      mapping.wake(8);
    }
  },
  /** Revokes within so many microseconds, between two turns of the game or within one. */
  revokeAfter: async ({ microseconds }) => {
    const end = performance.now() + microseconds / 1000;
    while (performance.now() < end);
    return { report: await object.revoke('pulled'), served: await server.closed };
  },

  // --- a mutex at 0, what it protects at 64, a ring at 128 ---
  createSync() {
    mutex = share.Mutex.create(mapping);
    ring = share.Ring.create(mapping, { offset: 128, slotSize: 64, slots: 256 });
  },
  openSync() {
    mutex = share.Mutex.open(mapping);
    ring = share.Ring.open(mapping, { offset: 128 });
  },
  openMutex: () => void (mutex = share.Mutex.open(mapping)),
  feed({ count }) {
    for (let next = 0; next < count;) {
      const slots = new Uint32Array(16 * Math.min(1 + (next % 64), count - next)).map((_, i) => next + (i >> 4));
      const pushed = ring.push(slots);
      next += pushed;
      if (pushed === 0) ring.waitForRoomSync();
    }
  },
  drain({ count }) {
    const slots = new Uint32Array(16 * 64);
    for (let next = 0; next < count;) {
      const pulled = ring.pull(slots.subarray(0, 16 * (1 + (next % 64))));
      for (let i = 0; i < 16 * pulled; i++)
        if (slots[i] !== next + (i >> 4)) throw new Error(`${slots[i]} for ${next + (i >> 4)}`);
      next += pulled;
      if (pulled === 0) ring.waitForDataSync();
    }
  },
  dataBegin() {
    pending = ring.waitForData().then((value) => ({ value }), said);
  },
  roomBegin() {
    pending = ring.waitForRoom().then((value) => ({ value }), said);
  },
  async lock({ options }) {
    hold = await mutex.lock(options);
    return hold === undefined ? null : { ownerDied: hold.ownerDied, generation: hold.generation };
  },
  lockBegin() {
    pending = mutex.lock().then((value) => ((hold = value), { value: { ownerDied: hold.ownerDied } }), said);
  },
  release: () => hold.release(),
  countUp({ rounds }) {
    for (let i = 0; i < rounds; i++) {
      const held = mutex.lockSync();
      mapping.write32(64, mapping.read32(64) + 1);
      held.release();
    }
  },

  descriptors: () => readdirSync('/proc/self/fd').length,
  forget() {
    object = mapping = undefined;
  },
  collect() {
    globalThis.gc?.();
  },
  closeFd: ({ fd }) => closeSync(fd),
};

function watched(made) {
  made.on('connect', ({ pid }) => events.push(`connect ${pid}`));
  made.on('disconnect', ({ pid }, error) => events.push(`disconnect ${pid}${error ? ` ${error.code}` : ''}`));
  made.on('refused', (error) => events.push(`refused ${error.code}`));
  return made;
}

(async () => {
  for (let line = await hear(); line !== undefined; line = await hear()) {
    const { action, ...input } = JSON.parse(line);
    try {
      say({ value: (await ACTIONS[action](input)) ?? null });
    } catch (error) {
      say({ error: said(error) });
    }
  }
  if (server !== undefined) await server.close();
})();
