// Any arguments at all, in any order of calls: i1-properties.cjs SEED RUNS. No combination may end the process; everything thrown is an
// Error; wrong arguments are refused, and right ones not for being wrong. Prints { seed, calls, wrong, codes }.
const fc = require('fast-check');
const fs = require('node:fs');
const { MemoryObject, Mapping, revokeMappings, isRevokedError, stats } = require('revocable-mmap');

const PAGE = 4096;
const seed = Number(process.argv[2]);
const numRuns = Number(process.argv[3]);
const path = `${process.env.SCRATCH}/file`;

const number = fc.oneof(
  fc.constantFrom(
    0,
    1,
    2,
    4,
    8,
    4095,
    PAGE,
    PAGE + 1,
    2 * PAGE,
    3 * PAGE,
    4 * PAGE,
    2 ** 31,
    2 ** 32,
    2 ** 40,
    2 ** 53,
    -1,
    NaN,
    1.5,
    Infinity,
    -0,
  ),
  fc.integer({ min: -10, max: 5 * PAGE }),
  fc.integer({ min: 0, max: 4 }).map((page) => page * PAGE),
);
const junk = fc.oneof(fc.constantFrom(undefined, null, true, '', 'r', 1n, Symbol.iterator, [], {}), fc.anything(), number);
const mostly = (good) => fc.oneof({ weight: 4, arbitrary: good }, { weight: 1, arbitrary: junk });
const choice = (...values) => mostly(fc.constantFrom(...values));
const record = (shape) => mostly(fc.record(shape, { requiredKeys: [] }));
const range = record({ offset: mostly(number), length: mostly(number) });
const mapOptions = record({
  offset: mostly(number),
  length: mostly(number),
  access: choice('r', 'rw'),
  shared: choice(true, false),
  private: choice(true, false),
  // Not 'signal', whose raw accesses are meant to kill.
  fill: fc.constantFrom('zeros', 'ones', undefined, 'none', 5),
  populate: choice(true, false),
});
const view = mostly(
  fc
    .tuple(fc.constantFrom(Uint8Array, Uint16Array, Float64Array, BigInt64Array), fc.integer({ min: 0, max: 5000 }))
    .map(([Type, n]) => new Type(n)),
);

const COPIES = ['read', 'write', 'readAsync', 'writeAsync'];
const ADVICE = [
  'normal',
  'random',
  'sequential',
  'willneed',
  'dontneed',
  'cold',
  'pageout',
  'hugepage',
  'nohugepage',
  'dontdump',
  'dodump',
  'populate-read',
  'populate-write',
];

const step = fc.oneof(
  fc.tuple(
    fc.constant('create'),
    record({ size: mostly(number.filter((n) => !(n > 2 ** 32))), name: mostly(fc.string()), hugePages: choice(false) }),
  ),
  fc.tuple(
    fc.constant('openFile'),
    choice(path, '/dev/null', '/', ''),
    record({ writable: choice(true, false), onBackingFault: choice('page', 'object') }),
  ),
  fc.tuple(fc.constant('fromFd'), mostly(fc.constantFrom(-1, 2 ** 31)), record({ writable: choice(true) })),
  fc.tuple(fc.constant('map'), mapOptions),
  fc.tuple(fc.constantFrom('read8', 'read16', 'read32', 'read64'), mostly(number)),
  fc.tuple(fc.constantFrom('write8', 'write16', 'write32', 'write64'), mostly(number), fc.oneof(mostly(number), fc.bigInt())),
  fc.tuple(fc.constantFrom(...COPIES), mostly(number), view),
  fc.tuple(fc.constant('copyBetween'), fc.constantFrom(...COPIES), number, number, number),
  fc.tuple(fc.constant('protect'), record({ offset: mostly(number), length: mostly(number), access: choice('none', 'r', 'rw') })),
  fc.tuple(fc.constant('remapPages'), record({ offset: mostly(number), length: mostly(number), objectOffset: mostly(number) })),
  fc.tuple(
    fc.constant('advise'),
    choice(
      'normal',
      'random',
      'willneed',
      'dontneed',
      'cold',
      'pageout',
      'hugepage',
      'dontdump',
      'populate-read',
      'populate-write',
    ),
    range,
  ),
  fc.tuple(fc.constantFrom('sync', 'lock', 'unlock', 'prefetch', 'residency'), range),
  fc.tuple(
    fc.constant('waitSync'),
    mostly(number),
    mostly(number),
    fc.constantFrom({ timeout: 0 }, { timeout: 1 }, { timeout: NaN }, { timeout: -1 }, { timeout: '1' }, null, 5),
  ),
  fc.tuple(fc.constant('wake'), mostly(number), mostly(number)),
  fc.tuple(fc.constant('zap'), range),
  fc.tuple(fc.constant('attach'), mostly(fc.constant('handle'))),
  fc.tuple(fc.constant('raw'), fc.nat(4 * PAGE), fc.boolean()),
  fc.tuple(fc.constant('truncate'), fc.integer({ min: 0, max: 5 * PAGE })),
  fc.tuple(
    fc.constantFrom(
      'check',
      'share',
      'close',
      'inspect',
      'objectClose',
      'revokeSync',
      'revoke',
      'revokeMappings',
      'suspend',
      'resume',
      'isRevokedError',
      'stats',
    ),
  ),
);

const codes = {};
let calls = 0;
let wrong = 0;

// What the documents allow, said once more and independently: whether a call's arguments are right, in the present world.

const isInteger = (value, min, max) => typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isOptions = (value) => value === undefined || isObject(value);
const isOptional = (value, is) => value === undefined || is(value);
const isBoolean = (value) => typeof value === 'boolean';
const isName = (value) => typeof value === 'string' && !value.includes('\0');
const isOneOf =
  (...values) =>
  (value) =>
    values.includes(value);
const isPage = (value) => isInteger(value, 0, Number.MAX_SAFE_INTEGER) && value % PAGE === 0;
const isOpenOptions = (o) =>
  isOptions(o) && isOptional(o?.writable, isBoolean) && isOptional(o?.onBackingFault, isOneOf('page', 'object'));

/** Whole pages of the mapping, or its end. */
function isRange({ length: whole }, range) {
  if (!isObject(range) || !isInteger(range.offset, 0, whole - 1) || range.offset % PAGE !== 0) return false;
  if (!isInteger(range.length, 1, whole - range.offset)) return false;
  return range.length % PAGE === 0 || range.offset + range.length === whole;
}

function isPlace({ length }, offset, width) {
  return isInteger(offset, 0, length - width) && offset % width === 0;
}

function isMapRange({ owned, size }, { offset = 0, length }) {
  if (!isPage(offset)) return false;
  if (length === undefined || owned) return offset < size && isOptional(length, (value) => isInteger(value, 1, size - offset));
  return isInteger(length, 1, Number.MAX_SAFE_INTEGER - offset);
}

function isCopy(mapping, offset, view) {
  return ArrayBuffer.isView(view) && isInteger(offset, 0, mapping.length) && view.byteLength <= mapping.length - offset;
}

function isTimeout(options) {
  return isOptions(options) && isOptional(options?.timeout, (value) => typeof value === 'number' && value >= 0);
}

const isRight = {
  create: (_, o) =>
    isObject(o) &&
    isInteger(o.size, 1, Number.MAX_SAFE_INTEGER) &&
    isOptional(o.hugePages, isBoolean) &&
    (o.hugePages !== true || o.size % 2 ** 21 === 0) &&
    isOptional(o.name, (name) => isName(name) && Buffer.byteLength(name) <= 249),
  openFile: (_, file, o) => ((typeof file === 'string' && isName(file)) || file instanceof URL) && isOpenOptions(o),
  fromFd: (_, fd, o) => isInteger(fd, 0, 2 ** 31 - 1) && isOpenOptions(o) && isOptional(o?.name, isName),
  map: ({ memory }, o) =>
    isOptions(o) &&
    isMapRange(memory, o ?? {}) &&
    isOptional(o?.access, isOneOf('r', 'rw')) &&
    ['shared', 'private', 'populate'].every((name) => isOptional(o?.[name], isBoolean)) &&
    isOptional(o?.fill, isOneOf('zeros', 'ones', 'signal')),
  protect: ({ mapping }, range) => isRange(mapping, range) && isOneOf('none', 'r', 'rw')(range.access),
  remapPages({ mapping }, range) {
    if (!isRange(mapping, range) || !isPage(range.objectOffset)) return false;
    const { owned, size } = mapping.object;
    return !owned || range.objectOffset + range.length <= Math.ceil(size / PAGE) * PAGE;
  },
  advise: ({ mapping }, advice, range) => ADVICE.includes(advice) && isOptional(range, (r) => isRange(mapping, r)),
  waitSync: ({ mapping }, offset, expected, o) =>
    isPlace(mapping, offset, 4) && isInteger(expected, -(2 ** 31), 2 ** 32 - 1) && isTimeout(o),
  wake: ({ mapping }, offset, count) => isPlace(mapping, offset, 4) && isOptional(count, (n) => isInteger(n, 0, 2 ** 31 - 1)),
  zap: (_, range) => isOptional(range, (r) => isObject(r) && isPage(r.offset) && isPage(r.length) && r.length > 0),
  attach: ({ mapping }, handle) => handle === 'handle' && mapping.buffer instanceof SharedArrayBuffer,
  copyBetween: ({ mapping, first }, _name, offset, from, to) => isCopy(mapping, offset, first.bytes.subarray(from, to)),
  share: ({ mapping }) => mapping.buffer instanceof SharedArrayBuffer,
};
for (const name of ['sync', 'lock', 'unlock', 'prefetch', 'residency'])
  isRight[name] = ({ mapping }, range) => isOptional(range, (r) => isRange(mapping, r));
for (const name of COPIES) isRight[name] = ({ mapping }, offset, view) => isCopy(mapping, offset, view);
for (const width of [1, 2, 4, 8]) {
  const isValue = (value) =>
    width === 8 ? typeof value === 'bigint' && value >= 0n && value < 2n ** 64n : isInteger(value, 0, 2 ** (8 * width) - 1);
  isRight[`read${8 * width}`] = ({ mapping }, offset) => isPlace(mapping, offset, width);
  isRight[`write${8 * width}`] = ({ mapping }, offset, value) => isPlace(mapping, offset, width) && isValue(value);
}

/** Right, but more than a buffer of this version of Node may hold, which is said by the same code. */
const isHuge = (name, [options]) => name === 'map' && options?.length > 2 ** 32;
const REFUSALS = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE'];

/** A refusal must not demand a range that no value is in. */
function isImpossible(message) {
  const [, low, high] = /must be >= (\S+) && <= (\d\S*|-\d\S*)\. /.exec(message) ?? [];
  if (low !== undefined) return Number(low) > Number(high);
  const [, most] = /must be (?:<=|at most) (-?\d+)/.exec(message) ?? [];
  const [, end] = /must be < (-?\d+)/.exec(message) ?? [];
  return Number(most) < 0 || Number(end) <= 0;
}

function perform(world, [name, ...args]) {
  const { memory, mapping } = world;
  switch (name) {
    case 'create':
    case 'openFile':
    case 'fromFd': {
      const made = MemoryObject[name](...args);
      world.objects.push(made);
      world.memory = made;
      return;
    }
    case 'map':
      return void (world.mapping = memory.map(...args));
    case 'zap':
      return memory.zap(...args);
    case 'attach':
      return void (world.mapping = Mapping.attach(args[0] === 'handle' ? mapping.share() : args[0]));
    case 'copyBetween':
      return mapping[args[0]](args[1], world.first.bytes.subarray(args[2], args[3]));
    case 'raw':
      if (args[0] >= mapping.length) return;
      if (args[1]) mapping.bytes[args[0]] = 7;
      else if (!(mapping.bytes[args[0]] >= 0)) throw new Error('no byte');
      return;
    case 'truncate':
      return fs.truncateSync(path, args[0]);
    case 'inspect':
      return require('node:util').inspect([memory, mapping]);
    case 'objectClose':
      return memory.close();
    case 'revokeSync':
      return memory.revokeSync();
    case 'revoke':
    case 'suspend':
    case 'resume':
      return memory[name]();
    case 'revokeMappings':
      return revokeMappings(memory);
    case 'isRevokedError':
      return isRevokedError(memory);
    case 'stats':
      return stats();
    default:
      return mapping[name](...args);
  }
}

/** The world as it was before the call: what of it a judgement needs cannot be had of a closed object. */
function judge(world, [name, ...args]) {
  const { memory, mapping } = world;
  const gone = name === 'map' ? memory.state !== 'live' : mapping.state === 'closed';
  if (gone || isRight[name] === undefined) return 'either';
  return isRight[name](world, ...args) ? 'right' : 'wrong';
}

async function attempt(world, action) {
  calls++;
  const verdict = judge(world, action);
  if (verdict === 'wrong') wrong++;
  const [name, ...args] = action;
  let code;
  try {
    await perform(world, action);
  } catch (error) {
    const bad = !(error instanceof Error) ? 'no Error' : typeof error.code !== 'string' ? 'an error without a code' : undefined;
    if (bad !== undefined) throw new Error(`${name} threw ${bad}: ${error?.stack ?? String(error)}`, { cause: error });
    if (isImpossible(error.message)) throw new Error(`${name} asks for what cannot be: ${error.message}`, { cause: error });
    code = error.code;
    codes[code] = (codes[code] ?? 0) + 1;
  }
  const said = () => require('node:util').inspect(args, { depth: 3, maxArrayLength: 5 });
  if (verdict === 'wrong' && code === undefined) throw new Error(`${name} took wrong arguments: ${said()}`);
  if (verdict === 'right' && REFUSALS.includes(code) && !isHuge(name, args))
    throw new Error(`${name} refused right arguments: ${code}: ${said()}`);
}

const property = fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25, size: 'max' }), async (steps) => {
  fs.writeFileSync(path, Buffer.alloc(4 * PAGE, 1));
  const memory = MemoryObject.create({ size: 4 * PAGE });
  const world = { memory, objects: [memory], mapping: memory.map() };
  world.first = world.mapping;
  // Written down before, so that a crash can be traced.
  fs.writeFileSync(`${process.env.SCRATCH}/last`, require('node:util').inspect(steps, { depth: 5, maxArrayLength: 30 }));
  for (const action of steps) await attempt(world, action);
  for (const object of world.objects) object.close();
});

fc.assert(property, { seed, numRuns, endOnFailure: true }).then(
  () => console.log(JSON.stringify({ seed, calls, wrong, codes })),
  (error) => {
    console.error(`seed ${seed}: ${error.message}`);
    process.exitCode = 1;
  },
);
