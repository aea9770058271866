// Any arguments at all, in any order of calls: i1-properties.cjs SEED RUNS. No combination may end the process; everything thrown is an
// Error. Prints { seed, calls, codes }.
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

async function attempt(world, action) {
  calls++;
  try {
    await perform(world, action);
  } catch (error) {
    const wrong = !(error instanceof Error) ? 'no Error' : typeof error.code !== 'string' ? 'an error without a code' : undefined;
    if (wrong !== undefined) throw new Error(`${action[0]} threw ${wrong}: ${error?.stack ?? String(error)}`, { cause: error });
    codes[error.code] = (codes[error.code] ?? 0) + 1;
  }
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
  () => console.log(JSON.stringify({ seed, calls, codes })),
  (error) => {
    console.error(`seed ${seed}: ${error.message}`);
    process.exitCode = 1;
  },
);
