/**
 * I1 for functions that return a promise or an async iterable: they never throw in the call, whatever the reason. The table has every one
 * that the package's types have.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect, types } from 'node:util';
import {
  Bus,
  Device,
  MemoryObject,
  revokeMappings,
  type DeviceDma,
  type DeviceFile,
  type Mapping,
  type Trace,
} from 'revocable-mmap';
import { compare, repeat } from 'revocable-mmap/bench';
import { asynchronousFunctions } from '../support/public-functions.js';
import { temporaryDirectory } from '../support/temporary.js';

const PAGE = 4096;

const TYPE = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
const VALUE = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };
const RANGE = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };
const THIS = { name: 'TypeError', code: 'ERR_INVALID_THIS' };
const CLOSED = { code: 'ERR_MAPPING_CLOSED' };
const REVOKED = { code: 'ERR_MAPPING_REVOKED' };
const SUSPENDED = { code: 'ERR_MAPPING_SUSPENDED' };
const GONE = { code: 'ENODEV', errno: -19 };
const BAD_FILE = { code: 'EBADF', errno: -9 };
const ABORTED = { name: 'AbortError' };
const thrown = new Error('thrown by an accessor of the options');
const THROWING = {
  get signal(): never {
    throw thrown;
  },
  get timeout(): never {
    throw thrown;
  },
  get data(): never {
    throw thrown;
  },
  get surprise(): never {
    throw thrown;
  },
  get time(): never {
    throw thrown;
  },
  get rounds(): never {
    throw thrown;
  },
};

type Arguments = unknown[];
interface Entry {
  /** What the function is a method of, new for each call; nothing for a function of its own. */
  receiver?: () => object | Promise<object>;
  /** Found in a receiver; else a function. */
  function: string | symbol | ((...values: never[]) => unknown);
  /** Arguments that are refused, and how. */
  refuses: [Arguments, object][];
  /** States of the receiver in which good arguments are refused. */
  states?: [state: string, make: () => object | Promise<object>, good: Arguments, object][];
}

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

function memory(): MemoryObject {
  const made = MemoryObject.create({ size: 2 * PAGE });
  cleanUp.push(() => made.close());
  return made;
}
const mapping = (): Mapping => memory().map();
function closedMapping(): Mapping {
  const made = mapping();
  made.close();
  return made;
}
function revokedMapping(): Mapping {
  const made = mapping();
  made.object.revokeSync();
  return made;
}
async function suspendedMapping(): Promise<Mapping> {
  const made = mapping();
  await made.object.suspend();
  return made;
}
function closedMemory(): MemoryObject {
  const made = memory();
  made.close();
  return made;
}
function revokedMemory(): MemoryObject {
  const made = memory();
  made.revokeSync();
  return made;
}

function device(): Device {
  const made = new Device({
    name: 'asked',
    regions: [{ size: PAGE }, { name: 'registers', size: PAGE, kind: 'registers' }],
    ops: { read: () => 0, write: () => 0, ioctl: () => 0, poll: () => 1, readRegister: () => 0, writeRegister: () => undefined },
  });
  cleanUp.push(() => made.unplug());
  return made;
}
async function spawned(): Promise<object> {
  const model = join(temporaryDirectory(), 'model.cjs');
  writeFileSync(model, `module.exports = { name: 'elsewhere', regions: [{ size: ${PAGE} }] };`);
  const made = await Device.spawn(model);
  cleanUp.push(() => made.unplug());
  return made;
}
async function removed(make: () => object | Promise<object>): Promise<object> {
  const made = await make();
  await (made as Device).unplug();
  return made;
}
const live = MemoryObject.create({ size: PAGE });
const dma = (): DeviceDma => device().dma;
async function dmaOfRemoved(): Promise<DeviceDma> {
  const made = device();
  await made.unplug();
  return made.dma;
}
const dmaTransfers = (name: 'read' | 'write'): Entry => ({
  receiver: dma,
  function: name,
  refuses: [
    [[], TYPE],
    [['0', new Uint8Array(1)], TYPE],
    [[-1, new Uint8Array(1)], RANGE],
    [[0, [1]], TYPE],
    [[0, new Uint8Array(1)], { code: 'EFAULT', errno: -14 }],
  ],
  states: [['removed', dmaOfRemoved, [0, new Uint8Array(1)], GONE]],
});
const file = (): DeviceFile => device().open();
function closedFile(): DeviceFile {
  const made = file();
  made.close();
  return made;
}
async function fileOfRemoved(): Promise<DeviceFile> {
  const made = file();
  await made.device.unplug();
  return made;
}
function bus(): Bus {
  const made = new Bus();
  cleanUp.push(() => made.close());
  made.add(device());
  return made;
}
function trace(): Trace {
  const made = device().trace();
  cleanUp.push(() => made[Symbol.dispose]());
  return made;
}

const NO_OBJECTS: unknown[] = [null, 5, 'text', []];
const options = (before: Arguments, names: Record<string, [unknown[], object]>): Entry['refuses'] => [
  ...NO_OBJECTS.map((value): [Arguments, object] => [[...before, value], TYPE]),
  ...Object.entries(names).flatMap(([name, [values, error]]) =>
    values.map((value): [Arguments, object] => [[...before, { [name]: value }], error]),
  ),
  [[...before, THROWING], thrown],
];
const NO_SIGNALS: [unknown[], object] = [[null, 5, {}, { aborted: false }], TYPE];
const aborted = { signal: AbortSignal.abort() };

const copies = (name: string): Entry => ({
  receiver: mapping,
  function: name,
  refuses: [
    [[], TYPE],
    [['0', new Uint8Array(1)], TYPE],
    [[-1, new Uint8Array(1)], RANGE],
    [[0.5, new Uint8Array(1)], RANGE],
    [[0, new Uint8Array(2 * PAGE + 1)], RANGE],
    [[0, new ArrayBuffer(1)], TYPE],
    [[0, 'text'], TYPE],
  ],
  states: [
    ['closed', closedMapping, [0, new Uint8Array(1)], CLOSED],
    ['revoked', revokedMapping, [0, new Uint8Array(1)], REVOKED],
    ['suspended', suspendedMapping, [0, new Uint8Array(1)], SUSPENDED],
    ['read-only', () => memory().map({ access: 'r' }), [0, new Uint8Array(1)], { code: 'ERR_MAPPING_READ_ONLY' }],
  ],
});

const transfers = (name: string): Entry => ({
  receiver: file,
  function: name,
  refuses: [
    [[], TYPE],
    [[new ArrayBuffer(1)], TYPE],
    [[new Uint8Array(1), '0'], TYPE],
    [[new Uint8Array(1), -1], RANGE],
    ...options([new Uint8Array(1), 0], { signal: NO_SIGNALS }),
    [[new Uint8Array(1), 0, aborted], ABORTED],
  ],
  states: [
    ['closed', closedFile, [new Uint8Array(1)], BAD_FILE],
    ['removed', fileOfRemoved, [new Uint8Array(1)], GONE],
  ],
});

function entriesOfDevices(kind: string, make: () => object | Promise<object>): Record<string, Entry> {
  const gone: [string, () => Promise<object>, Arguments, object] = ['removed', () => removed(make), [], GONE];
  return {
    [`${kind}#unplug`]: { receiver: make, function: 'unplug', refuses: [] },
    [`${kind}#remove`]: {
      receiver: make,
      function: 'remove',
      refuses: options([], { timeout: [['1', null], TYPE] }).concat([[[{ timeout: -1 }], RANGE]]),
    },
    [`${kind}#suspend`]: { receiver: make, function: 'suspend', refuses: [], states: [gone] },
    [`${kind}#resume`]: { receiver: make, function: 'resume', refuses: [], states: [gone] },
    [`${kind}#[Symbol.asyncDispose]`]: { receiver: make, function: Symbol.asyncDispose, refuses: [] },
  };
}

const measurement = (function_: Entry['function'], samples: Arguments): Entry => ({
  function: function_,
  refuses: [
    [[], TYPE],
    [[null], TYPE],
    ...options(samples, { rounds: [['1', null], TYPE], warmUpRounds: [['1'], TYPE], warmUpMs: [['1'], TYPE] }),
    [[...samples, { rounds: 0 }], RANGE],
  ],
});

const TABLE: Record<string, Entry> = {
  revokeMappings: {
    function: revokeMappings,
    refuses: [[], [null], [undefined], [{}], ['memory'], [Object.create(MemoryObject.prototype)]].map((values) => [values, TYPE]),
  },
  // Never rejects, but for what is no object to revoke.
  'MemoryObject#revoke': { receiver: memory, function: 'revoke', refuses: [] },
  'MemoryObject#suspend': {
    receiver: memory,
    function: 'suspend',
    refuses: [],
    states: [
      ['closed', closedMemory, [], CLOSED],
      ['revoked', revokedMemory, [], GONE],
      ['mapped privately', () => memory().map({ private: true }).object, [], { code: 'EBUSY' }],
    ],
  },
  'MemoryObject#resume': {
    receiver: memory,
    function: 'resume',
    refuses: [],
    states: [
      ['closed', closedMemory, [], CLOSED],
      ['revoked', revokedMemory, [], GONE],
    ],
  },
  'Mapping#readAsync': { ...copies('readAsync'), states: copies('readAsync').states!.slice(0, 3) },
  'Mapping#writeAsync': copies('writeAsync'),
  'Mapping#wait': {
    receiver: mapping,
    function: 'wait',
    refuses: [
      [[], TYPE],
      [['0', 0], TYPE],
      [[1, 0], RANGE],
      [[-4, 0], RANGE],
      [[2 * PAGE, 0], RANGE],
      [[0, '0'], TYPE],
      [[0, 2 ** 32], RANGE],
      ...options([0, 0], { timeout: [['1', null], TYPE], signal: NO_SIGNALS }),
      [[0, 0, { timeout: -1 }], RANGE],
      [[0, 0, aborted], ABORTED],
    ],
    states: [
      ['closed', closedMapping, [0, 0], CLOSED],
      ['revoked', revokedMapping, [0, 0], REVOKED],
      ['suspended', suspendedMapping, [0, 0], SUSPENDED],
      ['of two bytes', () => memory().map({ length: 2 }), [0, 0], RANGE],
      ['of registers', () => file().map({ region: 'registers' }), [0, 0], { code: 'EFAULT' }],
    ],
  },
  'Device.spawn': {
    function: Device.spawn.bind(Device),
    refuses: [
      ...[undefined, null, 5, {}, Symbol('s')].map((value): [Arguments, object] => [[value], TYPE]),
      ...options(['model.cjs'], {}),
      [['model.cjs', { data: () => 0 }], VALUE],
    ],
  },
  ...entriesOfDevices('Device', device),
  ...entriesOfDevices('DeviceBase', device),
  ...entriesOfDevices('SpawnedDevice', spawned),
  'DeviceDma#map': {
    receiver: dma,
    function: 'map',
    refuses: [
      [[], TYPE],
      [[{}, { address: 0 }], TYPE],
      ...NO_OBJECTS.map((value): [Arguments, object] => [[live, value], TYPE]),
      [[live, {}], TYPE],
      [[live, { address: 1 }], RANGE],
      [[live, { address: 0, length: 1 }], RANGE],
      [[live, { address: 0, access: 'x' }], VALUE],
      [[live, { address: 0, byMessages: 1 }], TYPE],
    ],
    states: [['removed', dmaOfRemoved, [live, { address: 0 }], GONE]],
  },
  'DeviceDma#read': dmaTransfers('read'),
  'DeviceDma#write': dmaTransfers('write'),
  'DmaRange#unmap': { receiver: async () => dma().map(live, { address: 0 }), function: 'unmap', refuses: [] },
  'DeviceFile#read': transfers('read'),
  'DeviceFile#write': transfers('write'),
  'DeviceFile#ioctl': {
    receiver: file,
    function: 'ioctl',
    refuses: [
      [[], TYPE],
      [['1'], TYPE],
      [[-1], RANGE],
      [[2 ** 32], RANGE],
      ...options([1, 0], { signal: NO_SIGNALS }),
      [[1, 0, aborted], ABORTED],
    ],
    states: [
      ['closed', closedFile, [1], BAD_FILE],
      ['removed', fileOfRemoved, [1], GONE],
    ],
  },
  'DeviceFile#poll': {
    receiver: file,
    function: 'poll',
    refuses: [
      ...options([], { events: [['1', null], TYPE], timeout: [['1', null], TYPE], signal: NO_SIGNALS }),
      [[{ events: -1 }], RANGE],
      [[{ timeout: NaN }], RANGE],
      [[aborted], ABORTED],
    ],
    states: [
      ['closed', closedFile, [], BAD_FILE],
      ['removed', fileOfRemoved, [], GONE],
    ],
  },
  'DeviceFile#interrupts': {
    receiver: file,
    function: 'interrupts',
    refuses: [...options([], { signal: NO_SIGNALS }), [[aborted], ABORTED]],
    states: [
      ['closed', closedFile, [], BAD_FILE],
      ['removed', fileOfRemoved, [], GONE],
    ],
  },
  'Bus#remove': {
    receiver: bus,
    function: 'remove',
    refuses: [
      [[], TYPE],
      [[{}], TYPE],
      [[Object.create(Device.prototype)], TYPE],
      [['nothing'], VALUE],
      ...options(['asked'], { surprise: [['yes', null], TYPE], timeout: [['1', null], TYPE] }),
      [['asked', { timeout: -1 }], RANGE],
    ],
  },
  'Bus#events': { receiver: bus, function: 'events', refuses: [...options([], { signal: NO_SIGNALS }), [[aborted], ABORTED]] },
  'Bus#[Symbol.asyncIterator]': { receiver: bus, function: Symbol.asyncIterator, refuses: [] },
  'Trace#lines': {
    receiver: trace,
    function: 'lines',
    refuses: options([], { time: [[1, null], TYPE], threads: [[1, null], TYPE] }),
  },
  'Trace#writeTo': {
    receiver: trace,
    function: 'writeTo',
    refuses: [
      [[], TYPE],
      [[5], TYPE],
      [['/no/such/directory'], { code: 'ENOENT' }],
      ...options(['/dev/null'], { time: [[1], TYPE] }),
    ],
  },
  'Trace#[Symbol.asyncIterator]': { receiver: trace, function: Symbol.asyncIterator, refuses: [] },
  repeat: measurement(repeat, [() => 0]),
  compare: measurement(compare, [() => 0, () => 0]),
};

/** The promise that the call returns, or the first step of its iteration; throws what the call throws, as it should never. */
function stepOf(call: () => unknown): Promise<unknown> {
  let returned: unknown;
  try {
    returned = call();
  } catch (error) {
    throw new Error('thrown in the call', { cause: error });
  }
  const isIterable = typeof returned === 'object' && returned !== null && Symbol.asyncIterator in returned;
  const step = isIterable ? (returned as AsyncIterable<unknown>)[Symbol.asyncIterator]().next() : returned;
  if (!types.isPromise(step)) throw new Error(`returned ${inspect(returned)}, neither a promise nor an async iterable`);
  return step;
}

function methodOf(entry: Entry, made: object | undefined): (...values: unknown[]) => unknown {
  if (typeof entry.function === 'function') return entry.function as never;
  return (made as Record<string | symbol, (...values: unknown[]) => unknown>)[entry.function];
}

async function expectFailure(about: string, call: () => unknown, expected: object): Promise<void> {
  const failure = await stepOf(call).then(
    (value) => ({ resolved: value }),
    (error: unknown) => error,
  );
  expect([about, failure]).toEqual([about, expected === thrown ? thrown : expect.objectContaining(expected)]);
}

const NO_RECEIVERS = [undefined, null, 5, {}];
// No file can be written to this path.
const JUNK = [
  undefined,
  null,
  5,
  NaN,
  -1,
  '/',
  1n,
  Symbol('s'),
  {},
  [],
  THROWING,
  () => 0,
  new Uint8Array(1),
  Object.create(null),
];

describe('I1 what returns a promise or an async iterable never throws in the call', () => {
  test('I1 the table has every such function of the types, and no other', () => {
    expect(Object.keys(TABLE).sort()).toEqual([...asynchronousFunctions().keys()].sort());
  });

  test.each(Object.keys(TABLE))('I1 %s: bad arguments, bad states, bad receivers', async (name) => {
    const entry = TABLE[name];
    for (const [values, expected] of entry.refuses) {
      const made = await entry.receiver?.();
      await expectFailure(`${name} ${inspect(values)}`, () => methodOf(entry, made).apply(made, values), expected);
    }
    for (const [state, make, good, expected] of entry.states ?? []) {
      const made = await make();
      await expectFailure(`${name}, ${state}`, () => methodOf(entry, made).apply(made, good), expected);
    }
    if (entry.receiver === undefined) return;
    const made = await entry.receiver();
    for (const receiver of [...NO_RECEIVERS, Object.create(Object.getPrototypeOf(made) as object), new Proxy(made, {})]) {
      await expectFailure(`${name} of a wrong receiver`, () => methodOf(entry, made).call(receiver), THIS);
    }
  });

  test.each(Object.keys(TABLE).filter((name) => !/spawn|Spawned/.test(name)))('I1 %s: anything at all', async (name) => {
    const entry = TABLE[name];
    for (const values of JUNK.flatMap((first) => JUNK.map((second) => [first, second]))) {
      const made = await entry.receiver?.();
      // However it ends, it does not in the call. What waits goes on until its receiver is closed.
      stepOf(() => methodOf(entry, made).apply(made, values)).catch(() => undefined);
    }
  });
});
