// Ordinary functions on registers, of many lengths: register-functions.cjs (JSON: names of functions, lengths, places, whether the buffer
// is shared, programs of WebAssembly in base64). Each runs on registers and on a twin of them that is memory; what the device's trace has
// is compared with what the function was asked for, and what the registers hold with the twin. Prints what was seen of each function.
const { Device, RegisterFile, stats } = require('revocable-mmap');
const buffer = require('node:buffer');
const crypto = require('node:crypto');
const zlib = require('node:zlib');
const koffi = require('koffi');

const PAGE = 4096;
const AT = 65536; // in the WebAssembly memory
const MARK = PAGE; // written before each call, to tell their accesses apart
const SCRATCH = 256; // in the WebAssembly memory

const { names, lengths, places, shared, program, instructions, instructionsProgram } = JSON.parse(process.argv[2]);
/** What is asked for fits in behind the third page. */
const SIZE = PAGE * (3 + Math.ceil((Math.max(...lengths) + 64) / PAGE));

const model = new RegisterFile(Array.from({ length: SIZE / 8 }, (_, i) => ({ offset: 8 * i, width: 8 })));
const device = new Device({ name: 'card', regions: [{ name: 'bar', size: SIZE, kind: 'registers', model }] });
const memory = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
const mapping = device.open().map(shared ? { memory, memoryOffset: AT } : { shared: false });
const exportsOf = (base64) =>
  new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(base64, 'base64')), { env: { memory } }).exports;
const wasm = exportsOf(program);
const wasmInstructions = exportsOf(instructionsProgram);

// --- the two places where a function runs -------------------------------------------------------------------------------------

const TWIN = 2 * AT; // in the WebAssembly memory
const OTHER = 3 * AT;

/** What a function is given: registers, or memory that holds the same; other memory; and where the first is in the WebAssembly memory. */
function side(exact, offset) {
  const bytes = shared ? Buffer.from(memory.buffer, offset, SIZE) : Buffer.from(exact, 0, SIZE);
  const other = shared ? Buffer.from(memory.buffer, OTHER, SIZE) : Buffer.alloc(SIZE);
  return { bytes, other, near: offset };
}
const registers = side(mapping.buffer, AT);
const twin = side(new ArrayBuffer(SIZE), TWIN);

const at = (bytes, Type, offset, count) => new Type(bytes.buffer, bytes.byteOffset + offset, count);
/** As many whole elements as fit, from the first that is aligned. */
function elements(bytes, Type, offset, length) {
  const size = Type.BYTES_PER_ELEMENT;
  const first = Math.ceil(offset / size) * size;
  return at(bytes, Type, first, Math.max(0, Math.floor((offset + length - first) / size)));
}
const covered = (Type) => (offset, length) => {
  const view = elements(twin.bytes, Type, offset, length);
  return [view.byteOffset - twin.bytes.byteOffset, view.byteLength];
};
const filling = (Type, value) => ({
  run: ({ bytes }, o, n) => void elements(bytes, Type, o, n).fill(value),
  writes: covered(Type),
});
const all = (o, n) => [o, n];
/** Where the other end of a copy within the registers is. */
const beside = (o, by) => (o >= by ? o - by : o + by);
const hash = (name) => ({
  run: ({ bytes }, o, n) =>
    crypto
      .createHash(name)
      .update(bytes.subarray(o, o + n))
      .digest('hex'),
  reads: all,
});
const text = (encoding) => ({ run: ({ bytes }, o, n) => bytes.toString(encoding, o, o + n), reads: all });
const even = (o, n) => [o, n & ~1];
const written = (encoding, of) => ({
  run: ({ bytes, other }, o, n) => bytes.write(of(other.subarray(0, n)), o, n, encoding),
  writes: all,
});

const INTEGERS = [Int8Array, Uint8Array, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];
const TYPES = [...INTEGERS, Uint8ClampedArray, Float32Array, Float64Array];
const isBig = (Type) => Type === BigInt64Array || Type === BigUint64Array;
const ATOMICS = ['load', 'store', 'add', 'sub', 'and', 'or', 'xor', 'exchange', 'compareExchange'];

/** Every access that JavaScript has a spelling for, in 256 bytes. */
function everyAccess({ bytes }, o) {
  const seen = [];
  for (const Type of TYPES) {
    const view = elements(bytes, Type, o, 256);
    const one = isBig(Type) ? 1n : 1;
    for (let i = 0; i < view.length; i++) {
      seen.push(String(view[i]));
      view[i] = (view[i] & one) + one;
      view[i] += one;
      if (view[i] < one) seen.push('small');
    }
    const name = Type.name.replace(/Array$/, '').replace(/^Uint8Clamped$/, 'Uint8');
    const data = new DataView(bytes.buffer, bytes.byteOffset + o, 256);
    for (const little of [true, false]) {
      for (let i = 0; i < 24; i++) {
        seen.push(String(data[`get${name}`](i, little)));
        data[`set${name}`](i + 64, one + one, little);
      }
    }
  }
  for (const Type of INTEGERS) {
    const view = elements(bytes, Type, o, 256);
    for (const how of ATOMICS) {
      const args = [3, 5].slice(0, Atomics[how].length - 2).map((value) => (isBig(Type) ? BigInt(value) : value));
      for (let i = 0; i < view.length; i++) seen.push(String(Atomics[how](view, i, ...args)));
    }
  }
  return seen.join();
}

/** Every instruction of WebAssembly that loads or stores. */
function everyInstruction({ bytes, near }, o) {
  const seen = [];
  const scratch = Buffer.from(memory.buffer, SCRATCH, 16);
  for (const { name, type, kind, how } of instructions) {
    for (let i = 0; i < 128; i += 16) {
      for (let j = 0; j < 16; j++) scratch[j] = i + j;
      const value = type === 'i64' ? 0x0102030405060708n : type === 'v128' ? SCRATCH : 0x01020304;
      const args = kind === 'load' && type !== 'v128' ? [] : how === 'cmpxchg' ? [value, value] : [value];
      seen.push(String(wasmInstructions[name](near + o + i, ...args)), scratch.toString('hex'));
    }
  }
  return `${seen.join()} ${bytes.toString('hex', o, o + 16)}`;
}
const within = (o) => [o, 264];

/** `reads` and `writes`: the range that must be accessed; what else is read is counted, and nothing may be written but that or `mayWrite`. */
const FUNCTIONS = {
  'every access': { run: everyAccess, mayWrite: within },
  'every instruction': { run: everyInstruction, mayWrite: within },
  'memory.fill': { run: ({ near }, o, n) => wasm.fill(near + o, 0x5a, n), writes: all },
  'memory.copy, into': { run: ({ near }, o, n) => wasm.copy(near + o, OTHER, n), writes: all },
  'memory.copy, out of': {
    run: ({ near, other }, o, n) => (wasm.copy(OTHER, near + o, n), other.toString('hex', 0, n)),
    reads: all,
  },
  'memory.copy, upwards': {
    run: ({ near }, o, n) => wasm.copy(near + o, near + beside(o, 9), n),
    reads: (o, n) => [beside(o, 9), n],
    writes: all,
  },
  'memory.copy, downwards': {
    run: ({ near }, o, n) => wasm.copy(near + beside(o, 9), near + o, n),
    reads: all,
    writes: (o, n) => [beside(o, 9), n],
  },
  'Buffer.fill, a byte': { run: ({ bytes }, o, n) => void bytes.fill(0xa5, o, o + n), writes: all },
  'Buffer.fill, a text': { run: ({ bytes }, o, n) => void bytes.fill('abcdefg', o, o + n), writes: all },
  'Buffer.copy, into': { run: ({ bytes, other }, o, n) => other.copy(bytes, o, 0, n), writes: all },
  'Buffer.copy, out of': {
    run: ({ bytes, other }, o, n) => (bytes.copy(other, 0, o, o + n), other.toString('hex', 0, n)),
    reads: all,
  },
  'Buffer.copy, within': {
    run: ({ bytes }, o, n) => bytes.copy(bytes, o, beside(o, 5), beside(o, 5) + n),
    reads: (o, n) => [beside(o, 5), n],
    writes: all,
  },
  'Buffer.compare': {
    run: ({ bytes, other }, o, n) => (bytes.copy(other, 0, o, o + n), bytes.compare(other, 0, n, o, o + n)),
    reads: all,
  },
  'Buffer.compare, unequal': {
    run({ bytes, other }, o, n) {
      bytes.copy(other, 0, o, o + n);
      if (n > 0) other[n - 1] ^= 1;
      return bytes.compare(other, 0, n, o, o + n);
    },
    reads: all,
  },
  'Buffer.equals': {
    run: ({ bytes, other }, o, n) => (bytes.copy(other, 0, o, o + n), other.subarray(0, n).equals(bytes.subarray(o, o + n))),
    reads: all,
  },
  'Buffer.indexOf, a byte': { run: ({ bytes }, o, n) => bytes.subarray(o, o + n).indexOf(0x100 - 1), reads: all },
  'Buffer.lastIndexOf, a byte': { run: ({ bytes }, o, n) => bytes.subarray(o, o + n).lastIndexOf(0x100 - 1), reads: all },
  'Buffer.indexOf, bytes': { run: ({ bytes }, o, n) => bytes.subarray(o, o + n).indexOf(Buffer.from([3, 255, 1])) },
  'Buffer.includes, a text': { run: ({ bytes }, o, n) => bytes.subarray(o, o + n).includes('driver') },
  'Buffer.from, Buffer': { run: ({ bytes }, o, n) => Buffer.from(bytes.subarray(o, o + n)).toString('hex'), reads: all },
  'Buffer.concat': { run: ({ bytes }, o, n) => Buffer.concat([bytes.subarray(o, o + n)]).toString('hex'), reads: all },
  'Buffer.toString, latin1': text('latin1'),
  'Buffer.toString, ascii': text('ascii'),
  'Buffer.toString, utf8': text('utf8'),
  'Buffer.toString, utf16le': { ...text('utf16le'), reads: even },
  'Buffer.toString, hex': text('hex'),
  'Buffer.toString, base64': text('base64'),
  'Buffer.toString, base64url': text('base64url'),
  'Buffer.write, latin1': written('latin1', (bytes) => bytes.toString('latin1')),
  'Buffer.write, utf8': written('utf8', (bytes) => Buffer.alloc(bytes.length, 'ab').toString()),
  'Buffer.write, hex': written('hex', (bytes) => bytes.toString('hex')),
  'Buffer.write, base64': written('base64', (bytes) => bytes.toString('base64')),
  'Buffer.write, utf16le': {
    run: ({ bytes }, o, n) => bytes.write('x'.repeat(n >> 1), o, n, 'utf16le'),
    writes: even,
  },
  'Buffer.swap16': { run: ({ bytes }, o, n) => void bytes.subarray(o, o + (n & ~1)).swap16(), reads: even, writes: even },
  'Buffer.swap32': {
    run: ({ bytes }, o, n) => void bytes.subarray(o, o + (n & ~3)).swap32(),
    reads: (o, n) => [o, n & ~3],
    writes: (o, n) => [o, n & ~3],
  },
  'Buffer.swap64': {
    run: ({ bytes }, o, n) => void bytes.subarray(o, o + (n & ~7)).swap64(),
    reads: (o, n) => [o, n & ~7],
    writes: (o, n) => [o, n & ~7],
  },
  'buffer.isUtf8': { run: ({ bytes }, o, n) => buffer.isUtf8(bytes.subarray(o, o + n)) },
  'buffer.isAscii': { run: ({ bytes }, o, n) => buffer.isAscii(bytes.subarray(o, o + n)) },
  TextDecoder: { run: ({ bytes }, o, n) => new TextDecoder().decode(bytes.subarray(o, o + n)), reads: all },
  'TypedArray.set, into': { run: ({ bytes, other }, o, n) => void bytes.set(other.subarray(0, n), o), writes: all },
  'TypedArray.set, out of': {
    run: ({ bytes, other }, o, n) => (other.set(bytes.subarray(o, o + n)), other.toString('hex', 0, n)),
    reads: all,
  },
  'TypedArray.set, another type': {
    run: ({ bytes, other }, o, n) =>
      void elements(bytes, Uint16Array, o, n).set(other.subarray(0, elements(bytes, Uint16Array, o, n).length)),
    writes: covered(Uint16Array),
  },
  'TypedArray.slice': { run: ({ bytes }, o, n) => Buffer.from(at(bytes, Uint8Array, o, n).slice()).toString('hex'), reads: all },
  'TypedArray.copyWithin, upwards': {
    run: ({ bytes }, o, n) => void bytes.copyWithin(o, beside(o, 7), beside(o, 7) + n),
    reads: (o, n) => [beside(o, 7), n],
    writes: all,
  },
  'TypedArray.copyWithin, downwards': {
    run: ({ bytes }, o, n) => void bytes.copyWithin(beside(o, 7), o, o + n),
    reads: all,
    writes: (o, n) => [beside(o, 7), n],
  },
  'Uint8Array.fill': filling(Uint8Array, 0x77),
  'Uint16Array.fill': filling(Uint16Array, 0x1234),
  'Uint32Array.fill': filling(Uint32Array, 0x12345678),
  'BigUint64Array.fill': filling(BigUint64Array, 0x123456789abcdef0n),
  'Float32Array.fill': filling(Float32Array, 1.5),
  'Float64Array.fill': filling(Float64Array, Math.PI),
  'TypedArray.indexOf': { run: ({ bytes }, o, n) => at(bytes, Uint8Array, o, n).indexOf(255), reads: all },
  'TypedArray.includes': { run: ({ bytes }, o, n) => at(bytes, Uint8Array, o, n).includes(255), reads: all },
  'TypedArray.reverse': { run: ({ bytes }, o, n) => void at(bytes, Uint8Array, o, n & ~1).reverse(), reads: even, writes: even },
  'TypedArray.sort': { run: ({ bytes }, o, n) => void at(bytes, Uint8Array, o, n).sort(), mayWrite: all },
  'TypedArray.join': { run: ({ bytes }, o, n) => at(bytes, Uint8Array, o, n).join(), reads: all },
  'crypto.createHash, sha256': hash('sha256'),
  'crypto.createHash, sha512': hash('sha512'),
  'crypto.createHash, md5': hash('md5'),
  'crypto.createCipheriv, aes-256-gcm': {
    run({ bytes }, o, n) {
      const cipher = crypto.createCipheriv('aes-256-gcm', Buffer.alloc(32, 7), Buffer.alloc(12, 9));
      return Buffer.concat([cipher.update(bytes.subarray(o, o + n)), cipher.final(), cipher.getAuthTag()]).toString('hex');
    },
    reads: all,
  },
  'zlib.deflateSync': { run: ({ bytes }, o, n) => zlib.deflateSync(bytes.subarray(o, o + n)).toString('hex'), reads: all },
  'zlib.crc32': { run: ({ bytes }, o, n) => (zlib.crc32 ?? (() => 0))(bytes.subarray(o, o + n)) },
};

// --- running, and what the model saw ------------------------------------------------------------------------------------------

const shadow = Buffer.alloc(SIZE);
const word = Buffer.alloc(8);
const failures = [];

function fail(name, offset, length, what) {
  if (failures.length < 20) failures.push(`${name}(${offset}, ${length}): ${what}`);
}

/** Bytes of a direction that a call has accessed: how many there are, and by which call each was last. */
const touched = { R: { count: 0, by: new Uint32Array(SIZE) }, W: { count: 0, by: new Uint32Array(SIZE) } };
let number = 0;

function touch(direction, byte) {
  if (direction.by[byte] === number) return;
  direction.by[byte] = number;
  direction.count++;
}

/** How many bytes of a range have not been touched, and how many others have. */
function beyond({ count, by }, [offset, length]) {
  let inside = 0;
  for (let byte = offset; byte < offset + length; byte++) inside += by[byte] === number ? 1 : 0;
  return { missing: length - inside, other: count - inside };
}

function check(name, call, accesses, seen) {
  const { writes, mayWrite, reads } = FUNCTIONS[name];
  number++;
  touched.R.count = touched.W.count = 0;
  for (const { offset, width, write, value, failed } of accesses) {
    if (failed) fail(name, call.offset, call.length, 'the model failed');
    if (offset % width !== 0 || width > 8) fail(name, call.offset, call.length, `${width} bytes at ${offset}`);
    word.writeBigUInt64LE(BigInt(value));
    for (let i = 0; i < width; i++) {
      touch(touched[write ? 'W' : 'R'], offset + i);
      if (write) shadow[offset + i] = word[i];
      else if (shadow[offset + i] !== word[i])
        fail(name, call.offset, call.length, `read ${word[i]} at ${offset + i}, which is ${shadow[offset + i]}`);
    }
    seen[write ? 'writes' : 'reads']++;
  }
  const empty = [call.offset, 0];
  const stored = beyond(touched.W, (writes ?? mayWrite)?.(call.offset, call.length) ?? empty);
  if (writes && stored.missing > 0) fail(name, call.offset, call.length, `${stored.missing} bytes were not written`);
  if (stored.other > 0) fail(name, call.offset, call.length, `${stored.other} bytes too many were written`);
  const loaded = beyond(touched.R, reads?.(call.offset, call.length) ?? empty);
  if (loaded.missing > 0) fail(name, call.offset, call.length, `${loaded.missing} bytes were not read`);
  if (reads) seen.beyond = Math.max(seen.beyond, loaded.other);
  if (!shadow.equals(call.after)) fail(name, call.offset, call.length, 'the registers hold something else than the twin');
}

/** Runs the function in all places of a length, and looks at what the model saw of it. */
async function observe(name, seen) {
  const { run } = FUNCTIONS[name];
  const trace = device.trace();
  const calls = [];
  for (const length of lengths) {
    for (const place of places) {
      const offset = place === 'end' ? SIZE - length : place === 'start' ? 0 : 2 * PAGE + place;
      mapping.write64(MARK, 0n); // what the twin holds, too
      const results = [registers, twin].map((where) => {
        for (let i = 0; i < length; i++) where.other[i] = (i * 31 + length) % 251;
        return JSON.stringify(run(where, offset, length));
      });
      if (results[0] !== results[1]) fail(name, offset, length, `gave ${results[0]} and not ${results[1]}`);
      calls.push({ offset, length, after: Buffer.from(twin.bytes) });
    }
  }
  trace.stop();
  let last = -1;
  let accesses = [];
  for await (const access of trace) {
    if (access.raw) {
      accesses.push(access);
      continue;
    }
    if (last >= 0) check(name, calls[last], accesses, seen);
    last++;
    accesses = [];
  }
  check(name, calls[last], accesses, seen);
  if (last !== calls.length - 1 || trace.lost > 0) fail(name, 0, 0, 'calls are missing in the trace');
  seen.calls += calls.length;
}

/** Which of the C library's variants this process uses: their distances from a function that has but one. */
function variants() {
  const dlsym = koffi.load('libc.so.6').func('uintptr_t dlsym(uintptr_t handle, const char* name)');
  const base = BigInt(dlsym(0, 'getpid'));
  return ['memset', 'memmove', 'memcmp', 'memchr'].map((name) => String(BigInt(dlsym(0, name)) - base));
}

async function main() {
  for (let i = 0; i < SIZE; i += 8) {
    const word = BigInt.asUintN(64, BigInt(i) * 0x0102040810204081n + 0x1122334455667788n) & 0x7f7f7f7f7f7f7f7fn;
    mapping.write64(i, i === MARK ? 0n : word);
  }
  mapping.read(0, shadow);
  twin.bytes.set(shadow);
  const functions = {};
  const able = Object.keys(FUNCTIONS).filter((name) => !name.startsWith('every ') && (shared || !name.startsWith('memory.')));
  for (const name of names ?? able) {
    const seen = { calls: 0, reads: 0, writes: 0, beyond: 0, refused: 0, ms: 0 };
    const refused = stats().devices.accessesRefused;
    const begun = performance.now();
    try {
      await observe(name, seen);
    } catch (error) {
      fail(name, 0, 0, String(error));
    }
    try {
      mapping.check();
    } catch (error) {
      fail(name, 0, 0, error.message);
    }
    seen.refused = stats().devices.accessesRefused - refused;
    seen.ms = Math.round(performance.now() - begun);
    functions[name] = seen;
    if (seen.refused > 0) (mapping.read(0, shadow), twin.bytes.set(shadow));
  }
  return { functions, failures, variants: variants() };
}

main().then(
  async (result) => {
    await device.unplug();
    console.log(JSON.stringify(result));
  },
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
