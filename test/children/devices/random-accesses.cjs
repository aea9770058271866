// Random accesses to registers, of every width and kind, each compared with what the device's trace has of it, one by one, and with the
// value that it must have given: random-accesses.cjs SEED ACCESSES WEBASSEMBLY (JSON: instructions, program in base64). Prints counts, of each
// operation too.
const { Device, RegisterFile } = require('revocable-mmap');

const PAGE = 4096;
const AT = 65536; // in the WebAssembly memory
const SCRATCH = 256;
const MARK = PAGE - 1; // read between copies, to tell their accesses apart
const BATCH = 20_000;

const [seed, total, given] = process.argv.slice(2);
const { instructions, program } = JSON.parse(given);

// --- randomness ---

let state = Number(seed) >>> 0;
function random32() {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return (t ^ (t >>> 14)) >>> 0;
}
const below = (limit) => random32() % limit;
const random64 = () => (BigInt(random32()) << 32n) | BigInt(random32());
const mask = (width) => (1n << BigInt(8 * width)) - 1n;

// --- the device, and what it must hold ---

const model = new RegisterFile(Array.from({ length: PAGE / 8 }, (_, i) => ({ offset: 8 * i, width: 8 })));
const device = new Device({ name: 'random', regions: [{ name: 'bar', size: PAGE, kind: 'registers', model }] });
const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
const plain = device.open().map();
const inMemory = device.open().map({ memory, memoryOffset: AT });
const wasm = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(program, 'base64')), { env: { memory } }).exports;
const scratch = new Uint8Array(memory.buffer, SCRATCH, 16);

const shadow = new Uint8Array(PAGE);
const shadowView = new DataView(shadow.buffer);
const held = (offset, width) => {
  switch (width) {
    case 1:
      return BigInt(shadowView.getUint8(offset));
    case 2:
      return BigInt(shadowView.getUint16(offset, true));
    case 4:
      return BigInt(shadowView.getUint32(offset, true));
    default:
      return shadowView.getBigUint64(offset, true);
  }
};
function hold(offset, width, value) {
  for (let i = 0; i < width; i++) shadow[offset + i] = Number((value >> BigInt(8 * i)) & 0xffn);
}

/** Naturally aligned pieces of at most 8 bytes, in ascending order. */
function pieces(offset, bytes) {
  const found = [];
  for (let done = 0; done < bytes;) {
    let width = 8;
    while ((offset + done) % width !== 0 || width > bytes - done) width /= 2;
    found.push([offset + done, width]);
    done += width;
  }
  return found;
}

const reads = (offset, bytes) =>
  pieces(offset, bytes).map(([at, width]) => ({ write: false, at, width, value: held(at, width) }));
const readsByBytes = (offset, bytes) =>
  Array.from({ length: bytes }, (_, i) => ({ write: false, at: offset + i, width: 1, value: held(offset + i, 1) }));
const flipped = (accesses) => accesses.map((access) => ({ ...access, write: true }));

// --- operations: each says what accesses it must make, and what it must give; a function of its own makes it ---

/**
 * { name, width, align, plan(offset) → { run, ways: accesses[][], result, again } }: it makes the accesses of one of its ways. `again`:
 * those of a plain load of JavaScript, which may be made twice. `warmUp()`, of an operation that is one access only in code that V8 has
 * optimised, lets V8 do so.
 */
const operations = [];
const results = { accesses: 0, records: 0 };

function add(operation) {
  operations.push({ ...operation, seen: { times: 0, whole: 0, doubled: 0 } });
}

const ARRAYS = [
  ['Uint8', 1, 0],
  ['Int8', 1, 1],
  ['Uint8Clamped', 1, 0],
  ['Uint16', 2, 0],
  ['Int16', 2, 1],
  ['Uint32', 4, 0],
  ['Int32', 4, 1],
  ['Float32', 4, 'float'],
  ['Float64', 8, 'float'],
  ['BigInt64', 8, 1],
  ['BigUint64', 8, 0],
];

/** A value of that type and its bits. */
function randomValue(type, width, what) {
  if (what === 'float') {
    const value = width === 4 ? Math.fround((random32() - 2 ** 31) * 1.5e-3) : (random32() - 2 ** 31) * 1e-3 * Math.PI;
    const bytes = new DataView(new ArrayBuffer(8));
    if (width === 4) bytes.setFloat32(0, value, true);
    else bytes.setFloat64(0, value, true);
    return [value, bytes.getBigUint64(0, true) & mask(width)];
  }
  const bits = random64() & mask(width);
  return [valueOf(type, width, what, bits), bits];
}

/** How JavaScript shows these bits. */
function valueOf(type, width, what, bits) {
  if (what === 'float') {
    const bytes = new DataView(new ArrayBuffer(8));
    bytes.setBigUint64(0, bits, true);
    return width === 4 ? bytes.getFloat32(0, true) : bytes.getFloat64(0, true);
  }
  const value = what ? BigInt.asIntN(8 * width, bits) : bits;
  return type.startsWith('Big') ? value : Number(value);
}

function typedArray([type, width, what]) {
  const array = new globalThis[`${type}Array`](plain.buffer, 0, PAGE / width);
  const warm = new globalThis[`${type}Array`](new SharedArrayBuffer(PAGE), 0, PAGE / width);
  const load = new Function('a', 'i', `return a[i]; // ${type}`);
  const store = new Function('a', 'i', 'v', `a[i] = v; // ${type}`);
  for (let i = 0; i < 60_000; i++) {
    store(warm, i % warm.length, randomValue(type, width, what)[0]);
    load(warm, i % warm.length);
  }
  add({
    name: `${type}Array load`,
    width,
    align: width,
    plan: (offset) => ({
      run: () => load(array, offset / width),
      ways: [reads(offset, width)],
      result: valueOf(type, width, what, held(offset, width)),
      again: reads(offset, width),
    }),
  });
  add({
    name: `${type}Array store`,
    width,
    align: width,
    plan(offset) {
      const [value, bits] = randomValue(type, width, what);
      hold(offset, width, bits);
      return { run: () => store(array, offset / width, value), ways: [flipped(reads(offset, width))], result: undefined };
    },
  });
  if (what === 'float' || type === 'Uint8Clamped') return;
  // An assignment that reads: plain, so two accesses.
  const combine = new Function('a', 'i', 'v', `return (a[i] ^= v); // ${type}`);
  for (let i = 0; i < 60_000; i++) combine(warm, i % warm.length, randomValue(type, width, what)[0]);
  add({
    name: `${type}Array ^=`,
    width,
    align: width,
    plan(offset) {
      const [value, bits] = randomValue(type, width, what);
      const read = reads(offset, width);
      const result = held(offset, width) ^ bits;
      hold(offset, width, result);
      return {
        run: () => combine(array, offset / width, value),
        ways: [[...read, ...flipped(reads(offset, width))]],
        // What the operator gives, before the store makes it fit.
        result: type === 'Uint32' ? Number(BigInt.asIntN(32, result)) : valueOf(type, width, what, result),
        again: read,
      };
    },
  });
}

function dataView([type, width, what], littleEndian) {
  if (type === 'Uint8Clamped') return;
  const view = new DataView(plain.buffer, 0, PAGE);
  const warm = new DataView(new SharedArrayBuffer(PAGE), 0, PAGE);
  const load = new Function('v', 'at', `return v.get${type}(at, ${littleEndian});`);
  const store = new Function('v', 'at', 'value', `v.set${type}(at, value, ${littleEndian});`);
  const warmUp = () => {
    for (let i = 0; i < 60_000; i++) {
      store(warm, i % (PAGE - 8), randomValue(type, width, what)[0]);
      load(warm, i % (PAGE - 8));
    }
  };
  warmUp();
  // For bigints Node 20 and 22 always call a builtin, which goes byte by byte.
  const optimised = width > 1 && !type.startsWith('Big') ? { warmUp } : {};
  const turn = (bits) => {
    if (littleEndian) return bits;
    let turned = 0n;
    for (let i = 0; i < width; i++) turned = (turned << 8n) | ((bits >> BigInt(8 * i)) & 0xffn);
    return turned;
  };
  const heldUnaligned = (offset) => {
    let bits = 0n;
    for (let i = width - 1; i >= 0; i--) bits = (bits << 8n) | BigInt(shadow[offset + i]);
    return turn(bits);
  };
  const order = littleEndian ? 'little' : 'big';
  add({
    ...optimised,
    name: `DataView.get${type} ${order}`,
    width,
    align: 1,
    plan: (offset) => ({
      run: () => load(view, offset),
      // One instruction of optimised code; the interpreter's builtin goes byte by byte.
      ways: [reads(offset, width), readsByBytes(offset, width)],
      result: valueOf(type, width, what, heldUnaligned(offset)),
      again: reads(offset, width),
    }),
  });
  add({
    ...optimised,
    name: `DataView.set${type} ${order}`,
    width,
    align: 1,
    plan(offset) {
      const [value, bits] = randomValue(type, width, what);
      hold(offset, width, turn(bits));
      return {
        run: () => store(view, offset, value),
        ways: [flipped(reads(offset, width)), flipped(readsByBytes(offset, width))],
        result: undefined,
      };
    },
  });
}

const COMBINED = {
  add: (old, value) => old + value,
  sub: (old, value) => old - value,
  and: (old, value) => old & value,
  or: (old, value) => old | value,
  xor: (old, value) => old ^ value,
  exchange: (old, value) => value,
  xchg: (old, value) => value,
};

/**
 * A read-modify-write of the processor: a read and a write. `and`, `or` and `xor` are a load and then a comparison with exchange: two
 * reads and a write. `add` and `sub` may be either, as the compiler that was at work likes. A store in the order of all is an exchange.
 */
function modify(how, offset, width, bits) {
  const before = reads(offset, width);
  hold(offset, width, COMBINED[how](held(offset, width), bits) & mask(width));
  const instruction = [...before, ...flipped(reads(offset, width))];
  if (how === 'exchange' || how === 'xchg') return [instruction];
  const loop = [...before, ...instruction];
  return how === 'add' || how === 'sub' ? [loop, instruction] : [loop];
}

/** What to expect: half of the time what is there. */
const guess = (offset, width) => (below(2) === 0 ? held(offset, width) : random64() & mask(width));

function compareExchange(offset, width, expected, bits) {
  const before = reads(offset, width);
  if (held(offset, width) !== expected) return before;
  hold(offset, width, bits);
  return [...before, ...flipped(reads(offset, width))];
}

function atomics([type, width, what]) {
  if (what === 'float' || type === 'Uint8Clamped') return;
  const array = new globalThis[`${type}Array`](plain.buffer, 0, PAGE / width);
  const warm = new globalThis[`${type}Array`](new SharedArrayBuffer(PAGE), 0, PAGE / width);
  const show = (bits) => valueOf(type, width, what, bits);
  for (const how of ['load', 'store', 'add', 'sub', 'and', 'or', 'xor', 'exchange', 'compareExchange']) {
    const call = new Function(
      'a',
      'i',
      'v',
      'w',
      `return Atomics.${how}(a, i${{ load: '', compareExchange: ', v, w' }[how] ?? ', v'}); // ${type}`,
    );
    for (let i = 0; i < 60_000; i++) {
      call(warm, i % warm.length, randomValue(type, width, what)[0], randomValue(type, width, what)[0]);
    }
    add({
      name: `Atomics.${how} ${type}`,
      width,
      align: width,
      plan(offset) {
        const [value, bits] = randomValue(type, width, what);
        const old = held(offset, width);
        if (how === 'load') return { run: () => call(array, offset / width), ways: [reads(offset, width)], result: show(old) };
        if (how === 'compareExchange') {
          const expected = guess(offset, width);
          const shown = show(expected);
          const ways = [compareExchange(offset, width, expected, bits)];
          return { run: () => call(array, offset / width, shown, value), ways, result: show(old) };
        }
        const ways = modify(how === 'store' ? 'exchange' : how, offset, width, bits);
        return { run: () => call(array, offset / width, value), ways, result: how === 'store' ? value : show(old) };
      },
    });
  }
}

// --- WebAssembly ---

const WHAT = { i32: ['Int', 4, 1], i64: ['BigInt', 8, 1], f32: ['Float', 4, 'float'], f64: ['Float', 8, 'float'] };

function heldBytes(offset, bytes) {
  let bits = 0n;
  for (let i = bytes - 1; i >= 0; i--) bits = (bits << 8n) | BigInt(shadow[offset + i]);
  return bits;
}

function webAssembly(instruction) {
  const { name, kind, type, width, signed, atomic, how } = instruction;
  const call = wasm[name];
  if (type === 'v128') return vector(instruction);
  const [shown, bytes, what] = WHAT[type];
  const show = (bits) => {
    const extended = signed ? BigInt.asUintN(8 * bytes, BigInt.asIntN(8 * width, bits)) : bits;
    return valueOf(shown, bytes, what, extended);
  };
  add({
    name,
    width,
    align: atomic ? width : 1,
    plan(offset) {
      const old = heldBytes(offset, width);
      const at = AT + offset;
      if (kind === 'load') return { run: () => call(at), ways: [reads(offset, width)], result: show(old) };
      const [value, bits] = randomValue(shown, bytes, what);
      if (kind === 'add') {
        return { run: () => call(at, value), ways: [reads(offset, width)], result: show((old + bits) & mask(width)) };
      }
      if (kind === 'equal') {
        const expected = below(2) === 0 ? old : bits;
        const other = show(expected);
        return { run: () => call(at, other), ways: [reads(offset, width)], result: old === expected ? 1 : 0 };
      }
      if (kind === 'multiply') {
        const product = show(old) * value;
        return { run: () => call(at, value), ways: [reads(offset, width)], result: width === 4 ? Math.fround(product) : product };
      }
      if (kind === 'store') {
        if (atomic)
          return { run: () => call(at, value), ways: modify('xchg', offset, width, bits & mask(width)), result: undefined };
        hold(offset, width, bits & mask(width));
        return { run: () => call(at, value), ways: [flipped(reads(offset, width))], result: undefined };
      }
      if (how === 'cmpxchg') {
        const expected = guess(offset, width);
        const ways = [compareExchange(offset, width, expected, bits & mask(width))];
        const other = show(expected);
        return { run: () => call(at, other, value), ways, result: show(old) };
      }
      return { run: () => call(at, value), ways: modify(how, offset, width, bits & mask(width)), result: show(old) };
    },
  });
}

function vectorOf(bits, { shape, width, lane, signed }, before) {
  switch (shape) {
    case 'splat': {
      let all = 0n;
      for (let i = 0; i < 16; i += width) all = (all << BigInt(8 * width)) | bits;
      return all;
    }
    case 'extend': {
      let all = 0n;
      for (let i = 8 / lane - 1; i >= 0; i--) {
        const part = (bits >> BigInt(8 * lane * i)) & mask(lane);
        const extended = signed ? BigInt.asUintN(16 * lane, BigInt.asIntN(8 * lane, part)) : part;
        all = (all << BigInt(16 * lane)) | extended;
      }
      return all;
    }
    case 'lane':
      return (before & mask(16 - width)) | (bits << BigInt(8 * (16 - width)));
    default:
      return bits;
  }
}

const putScratch = (low, high) => {
  const words = new DataView(memory.buffer, SCRATCH, 16);
  words.setBigUint64(0, low, true);
  words.setBigUint64(8, high, true);
};
const takeScratch = () => {
  let bits = 0n;
  for (let i = 15; i >= 0; i--) bits = (bits << 8n) | BigInt(scratch[i]);
  return bits;
};

function vector(instruction) {
  const { name, kind, width, shape } = instruction;
  const call = wasm[name];
  add({
    name,
    width,
    align: 1,
    plan(offset) {
      const low = random64();
      const high = random64();
      const before = (high << 64n) | low;
      const at = AT + offset;
      if (kind === 'load') {
        const run = () => {
          putScratch(low, high);
          call(at, SCRATCH);
          return takeScratch();
        };
        return { run, ways: [reads(offset, width)], result: vectorOf(heldBytes(offset, width), instruction, before) };
      }
      const bits = shape === 'lane' ? before >> BigInt(8 * (16 - width)) : before;
      hold(offset, width, bits);
      const run = () => {
        putScratch(low, high);
        call(at, SCRATCH);
      };
      return { run, ways: [flipped(reads(offset, width))], result: undefined };
    },
  });
}

// --- copies: how many accesses they make of which width is the C library's to choose; each byte must be among them ---

const COPIES = [
  ['TypedArray.set to', (offset, bytes) => plain.bytes.set(bytes, offset), true],
  ['TypedArray.set from', (offset, bytes) => bytes.set(plain.bytes.subarray(offset, offset + bytes.length)), false],
  ['slice', (offset, bytes) => bytes.set(plain.bytes.slice(offset, offset + bytes.length)), false],
  ['Buffer.copy to', (offset, bytes) => Buffer.from(bytes).copy(plain.bytes, offset), true],
  ['Buffer.from', (offset, bytes) => bytes.set(Buffer.from(plain.bytes.subarray(offset, offset + bytes.length))), false],
  ['fill', (offset, bytes) => plain.bytes.fill(bytes.fill(bytes[0])[0], offset, offset + bytes.length), true],
  [
    'latin1',
    (offset, bytes) => bytes.set(Buffer.from(Buffer.from(plain.buffer, offset, bytes.length).toString('latin1'), 'latin1')),
    false,
  ],
];

// --- running ---

const same = ({ write, at, width, value }, seen) =>
  seen !== undefined && seen.write === write && seen.offset === at && seen.width === width && BigInt(seen.value) === value;

const matches = (way, trace, from) => way.every((access, i) => same(access, trace[from + i]));

const show = ({ write, at, offset = at, width, value }) => `${write ? 'W' : 'R'}${width}@${offset}=${value.toString(16)}`;

async function recorded(body) {
  const trace = device.trace({ capacity: 2 ** 20 });
  body();
  trace.stop();
  const seen = [];
  for await (const access of trace) if (access.thread === process.pid) seen.push(access);
  if (trace.lost !== 0) throw new Error(`${trace.lost} accesses are not in the trace`);
  if (seen.some(({ raw, failed }) => !raw || failed)) throw new Error('an access is not raw, or failed');
  return seen;
}

async function batch(count, among = operations) {
  const plans = [];
  for (let i = 0; i < count; i++) {
    const operation = among[below(among.length)];
    const places = Math.floor((MARK - operation.width) / operation.align);
    plans.push({ operation, name: operation.name, ...operation.plan(below(places) * operation.align) });
  }
  const given = new Array(count);
  const trace = await recorded(() => {
    for (let i = 0; i < count; i++) given[i] = plans[i].run();
  });
  results.records += trace.length;
  let at = 0;
  /** Optimised code that was abandoned right after a plain load makes it again. */
  const skipDoubled = (plan) => {
    if (plan?.again === undefined || !matches(plan.again, trace, at)) return false;
    at += plan.again.length;
    plan.operation.seen.doubled++;
    console.error(`doubled: ${plan.name}`);
    return true;
  };
  for (const [i, plan] of plans.entries()) {
    const { operation, name, ways, result } = plan;
    const before = plans[i - 1];
    if (!Object.is(given[i], result)) throw new Error(`${name} gave ${String(given[i])}, not ${String(result)}`);
    const find = () => ways.find((accesses) => matches(accesses, trace, at));
    const from = at;
    const way = find() ?? (skipDoubled(before) ? find() : undefined) ?? (skipDoubled(plan) ? find() : undefined);
    if (way === undefined) {
      throw new Error(
        `${name} (${i}, after ${before?.name}) should be ${ways[0].map(show).join(' ')}, ` +
          `but the trace has ${trace
            .slice(from, from + 12)
            .map(show)
            .join(' ')}`,
      );
    }
    operation.seen.times++;
    if (way === ways[0]) operation.seen.whole++;
    at += way.length;
  }
  skipDoubled(plans.at(-1));
  if (at !== trace.length) throw new Error(`${trace.length - at} accesses have no operation: ${show(trace[at])}`);
  results.accesses += count;
}

/** Once more those of which V8 has abandoned the optimised code before it was used, until it has been. */
async function untilWhole() {
  for (let attempt = 0; attempt < 20; attempt++) {
    const missing = operations.filter(({ warmUp, seen }) => warmUp !== undefined && seen.whole === 0);
    if (missing.length === 0) return;
    for (const { warmUp } of missing) warmUp();
    await batch(100 * missing.length, missing);
  }
}

async function copies(count) {
  const plans = Array.from({ length: count }, () => {
    const [name, run, write] = COPIES[below(COPIES.length)];
    const length = 1 + below(600);
    const bytes = Uint8Array.from({ length }, () => random32());
    return { name, run, write, offset: below(MARK - length), bytes };
  });
  const trace = await recorded(() => {
    for (const { run, offset, bytes } of plans) {
      run(offset, bytes);
      Atomics.load(plain.bytes, MARK);
    }
  });
  let at = 0;
  for (const { name, write, offset, bytes } of plans) {
    if (write) shadow.set(bytes, offset);
    const touched = new Uint8Array(bytes.length);
    for (; trace[at].offset !== MARK; at++) {
      const { offset: from, width } = trace[at];
      const value = heldBytes(from, width);
      if (!same({ write, at: from, width, value }, trace[at]) || from < offset || from + width > offset + bytes.length) {
        throw new Error(`${name} of ${bytes.length} bytes at ${offset} made ${show(trace[at])}`);
      }
      touched.fill(1, from - offset, from - offset + width);
    }
    at++;
    if (touched.includes(0)) throw new Error(`${name} of ${bytes.length} bytes at ${offset}: not at ${touched.indexOf(0)}`);
    if (!write && Buffer.compare(bytes, shadow.subarray(offset, offset + bytes.length)) !== 0) {
      throw new Error(`${name} of ${bytes.length} bytes at ${offset} gave others`);
    }
  }
  results.accesses += count;
  results.records += trace.length;
}

async function main() {
  console.log(`seed ${seed}`);
  for (const array of ARRAYS) {
    typedArray(array);
    dataView(array, true);
    dataView(array, false);
    atomics(array);
  }
  for (const instruction of instructions) webAssembly(instruction);
  await copies(Math.min(2000, Number(total) / 100));
  while (results.accesses < Number(total)) await batch(Math.min(BATCH, Number(total) - results.accesses));
  await untilWhole();
  const words = Array.from({ length: PAGE / 8 }, (_, i) => model.get(8 * i));
  words.forEach((word, i) => {
    if (word !== held(8 * i, 8)) throw new Error(`the register at ${8 * i} holds ${word}`);
  });
  for (const mapping of [plain, inMemory]) mapping.check();
  await device.unplug();
  const seen = operations.map(({ name, warmUp, seen }) => ({ name, optimised: warmUp !== undefined, ...seen }));
  console.log(JSON.stringify({ ...results, operations: seen }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
