import { openSync, closeSync } from 'node:fs';
import { Mapping, MemoryObject, revokeMappings } from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { openDescriptors } from '../support/descriptors.js';
import { temporaryFile } from '../support/temporary.js';
import { rejectionOf, thrownBy, type Thrown } from '../support/thrown.js';

const PAGE = 4096;
const SIZE = 4 * PAGE;

const TYPE = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
const VALUE = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };
const RANGE = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };

type Call = (value: any) => unknown;
interface Parameter {
  /** As the message has it. */
  parameter: string;
  call: Call;
}

let memory: MemoryObject;
let mapping: Mapping;
let file: MemoryObject;
let path: string;
beforeAll(() => {
  memory = MemoryObject.create({ size: SIZE });
  mapping = memory.map();
  path = temporaryFile(SIZE);
  file = MemoryObject.openFile(path, { writable: true });
});
afterAll(() => {
  memory.close();
  file.close();
});

// --- what every parameter of a kind refuses ------------------------------------------------------------------------------

const NO_NUMBERS = ['0', null, true, {}, [], 1n, Symbol('s'), () => 0];
const NO_INTEGERS = [NaN, 1.5, Infinity, -Infinity, 2 ** 53 + 2];
const NO_OBJECTS = [null, 'text', 5, true, 1n, [], Symbol('s'), () => 0];
const NO_STRINGS = [null, 5, true, {}, [], 1n, Symbol('s')];
const NO_BOOLEANS = [null, 0, 1, 'true', {}, []];

const INTEGERS: (Parameter & { below?: unknown[]; above?: unknown[]; misaligned?: unknown[]; optional?: boolean })[] = [
  { parameter: 'options.size', call: (size) => MemoryObject.create({ size }), below: [0, -1], above: [2 ** 53] },
  { parameter: 'fd', call: (fd) => MemoryObject.fromFd(fd), below: [-1], above: [2 ** 31, 2 ** 53] },
  {
    parameter: 'options.offset',
    call: (offset) => memory.map({ offset }),
    optional: true,
    below: [-1, -PAGE],
    above: [SIZE, 2 ** 53],
    misaligned: [1, PAGE - 1, PAGE + 8],
  },
  {
    parameter: 'options.offset',
    call: (offset) => file.map({ offset, length: PAGE }),
    optional: true,
    below: [-1],
    above: [2 ** 53],
    misaligned: [1, 100],
  },
  {
    parameter: 'options.length',
    call: (length) => memory.map({ length }),
    optional: true,
    below: [0, -1],
    above: [SIZE + 1, 2 ** 53],
  },
  {
    parameter: 'options.length',
    call: (length) => memory.map({ offset: PAGE, length }),
    optional: true,
    below: [0],
    above: [SIZE - PAGE + 1, Number.MAX_SAFE_INTEGER],
  },
  {
    parameter: 'options.length',
    call: (length) => file.map({ offset: PAGE, length }),
    optional: true,
    below: [0, -1],
    above: [Number.MAX_SAFE_INTEGER, 2 ** 53],
  },
  {
    parameter: 'range.offset',
    call: (offset) => memory.zap({ offset, length: PAGE }),
    below: [-1, -PAGE],
    above: [2 ** 53],
    misaligned: [1, PAGE + 1],
  },
  {
    parameter: 'range.length',
    call: (length) => memory.zap({ offset: 0, length }),
    below: [0, -1],
    above: [2 ** 53],
    misaligned: [1, PAGE - 1],
  },
  { parameter: 'offset', call: (offset) => mapping.read8(offset), below: [-1], above: [SIZE, 2 ** 32, 2 ** 53] },
  {
    parameter: 'offset',
    call: (offset) => mapping.read16(offset),
    below: [-1, -2],
    above: [SIZE - 1, SIZE, 2 ** 32],
    misaligned: [1, 3],
  },
  {
    parameter: 'offset',
    call: (offset) => mapping.read32(offset),
    below: [-1, -4],
    above: [SIZE - 3, SIZE, 2 ** 32, 2 ** 34],
    misaligned: [1, 2, 3, 6],
  },
  {
    parameter: 'offset',
    call: (offset) => mapping.read64(offset),
    below: [-1, -8],
    above: [SIZE - 7, SIZE, 2 ** 32, 2 ** 35],
    misaligned: [1, 4, 12],
  },
  { parameter: 'offset', call: (offset) => mapping.write8(offset, 0), below: [-1], above: [SIZE, 2 ** 32, 2 ** 53] },
  {
    parameter: 'offset',
    call: (offset) => mapping.write16(offset, 0),
    below: [-1],
    above: [SIZE, 2 ** 32, 2 ** 33],
    misaligned: [1],
  },
  {
    parameter: 'offset',
    call: (offset) => mapping.write32(offset, 0),
    below: [-1],
    above: [SIZE, 2 ** 32, 2 ** 34],
    misaligned: [1, 2],
  },
  { parameter: 'offset', call: (offset) => mapping.write64(offset, 0n), below: [-1], above: [SIZE, 2 ** 32], misaligned: [1, 4] },
  { parameter: 'value', call: (value) => mapping.write8(0, value), below: [-1, -128], above: [256, 2 ** 53] },
  { parameter: 'value', call: (value) => mapping.write16(0, value), below: [-1], above: [65536, 2 ** 32] },
  { parameter: 'value', call: (value) => mapping.write32(0, value), below: [-1, -(2 ** 31)], above: [2 ** 32, 2 ** 53] },
  { parameter: 'offset', call: (offset) => mapping.read(offset, new Uint8Array(1)), below: [-1], above: [SIZE + 1, 2 ** 53] },
  { parameter: 'offset', call: (offset) => mapping.write(offset, new Uint8Array(1)), below: [-1], above: [SIZE + 1, 2 ** 53] },
  {
    parameter: 'range.offset',
    call: (offset) => mapping.protect({ offset, length: PAGE, access: 'rw' }),
    below: [-1],
    above: [SIZE, 2 ** 53],
    misaligned: [1],
  },
  {
    parameter: 'range.length',
    call: (length) => mapping.protect({ offset: 0, length, access: 'rw' }),
    below: [0, -1],
    above: [SIZE + 1, 2 ** 53],
    misaligned: [1, PAGE + 1],
  },
  {
    parameter: 'range.length',
    call: (length) => mapping.protect({ offset: 2 * PAGE, length, access: 'rw' }),
    below: [0],
    above: [3 * PAGE, Number.MAX_SAFE_INTEGER],
  },
  {
    parameter: 'range.offset',
    call: (offset) => mapping.remapPages({ offset, length: PAGE, objectOffset: 0 }),
    below: [-1],
    above: [SIZE, 2 ** 53],
    misaligned: [1],
  },
  {
    parameter: 'range.length',
    call: (length) => mapping.remapPages({ offset: 0, length, objectOffset: 0 }),
    below: [0, -1],
    above: [SIZE + 1, 2 ** 53],
    misaligned: [1],
  },
  {
    parameter: 'range.objectOffset',
    call: (objectOffset) => mapping.remapPages({ offset: 0, length: PAGE, objectOffset }),
    below: [-1],
    above: [SIZE, SIZE + PAGE, 2 ** 53],
    misaligned: [1, 100],
  },
  ...(['sync', 'lock', 'unlock', 'prefetch', 'residency', 'check'] as const).flatMap((name) => [
    {
      parameter: 'range.offset',
      call: ((offset) => mapping[name]({ offset, length: PAGE })) as Call,
      below: [-1],
      above: [SIZE, 2 ** 53],
      misaligned: [1],
    },
    {
      parameter: 'range.length',
      call: ((length) => mapping[name]({ offset: PAGE, length })) as Call,
      below: [0, -1],
      above: [SIZE, 2 ** 53],
      misaligned: [1],
    },
  ]),
  {
    parameter: 'range.offset',
    call: (offset) => mapping.advise('normal', { offset, length: PAGE }),
    below: [-1],
    above: [SIZE, 2 ** 53],
    misaligned: [1],
  },
  {
    parameter: 'range.length',
    call: (length) => mapping.advise('normal', { offset: 0, length }),
    below: [0],
    above: [SIZE + 1],
    misaligned: [1],
  },
  { parameter: 'offset', call: (offset) => mapping.wake(offset), below: [-1], above: [SIZE, 2 ** 53], misaligned: [1, 2] },
  { parameter: 'count', call: (count) => mapping.wake(0, count), optional: true, below: [-1], above: [2 ** 31, 2 ** 53] },
  { parameter: 'offset', call: (offset) => mapping.waitSync(offset, 1), below: [-1], above: [SIZE, 2 ** 53], misaligned: [1, 2] },
  {
    parameter: 'expected',
    call: (expected) => mapping.waitSync(0, expected),
    below: [-(2 ** 31) - 1],
    above: [2 ** 32, 2 ** 53],
  },
  { parameter: 'handle.id', call: (id) => Mapping.attach({ ...mapping.share(), id }), below: [-1], above: [2 ** 53] },
];

const STRINGS: (Parameter & { wrong: string[] })[] = [
  {
    parameter: 'options.name',
    call: (name) => MemoryObject.create({ size: PAGE, name }),
    wrong: ['a\0b', 'x'.repeat(250), 'ä'.repeat(125)],
  },
  { parameter: 'options.name', call: (name) => MemoryObject.fromFd(file.fd, { name }), wrong: ['a\0b'] },
  {
    parameter: 'options.onBackingFault',
    call: (onBackingFault) => MemoryObject.openFile(path, { onBackingFault }),
    wrong: ['', 'pages', 'Page', 'page\0'],
  },
  {
    parameter: 'options.onBackingFault',
    call: (onBackingFault) => MemoryObject.fromFd(file.fd, { onBackingFault }),
    wrong: ['both'],
  },
  {
    parameter: 'options.access',
    call: (access) => memory.map({ access }),
    wrong: ['', 'w', 'none', 'R', 'rwx', 'constructor', '__proto__'],
  },
  { parameter: 'options.fill', call: (fill) => memory.map({ fill }), wrong: ['', 'zero', 'toString', '0'] },
  {
    parameter: 'range.access',
    call: (access) => mapping.protect({ offset: 0, length: PAGE, access }),
    wrong: ['', 'w', 'x', 'base'],
  },
  { parameter: 'advice', call: (advice) => mapping.advise(advice), wrong: ['', 'free', 'toString', '__proto__', 'WILLNEED'] },
];

const BOOLEANS: Parameter[] = [
  { parameter: 'options.hugePages', call: (hugePages) => MemoryObject.create({ size: 2 ** 21, hugePages }) },
  { parameter: 'options.writable', call: (writable) => MemoryObject.openFile(path, { writable }) },
  { parameter: 'options.writable', call: (writable) => MemoryObject.fromFd(file.fd, { writable }) },
  { parameter: 'options.shared', call: (shared) => memory.map({ shared }) },
  { parameter: 'options.private', call: (value) => memory.map({ private: value }) },
];

const OPTIONS: (Parameter & { required?: boolean })[] = [
  { parameter: 'options', call: (options) => MemoryObject.create(options), required: true },
  { parameter: 'options', call: (options) => MemoryObject.openFile(path, options).close() },
  { parameter: 'options', call: (options) => MemoryObject.fromFd(file.fd, options).close() },
  { parameter: 'options', call: (options) => memory.map(options).close() },
  { parameter: 'range', call: (range) => memory.zap(range) },
  { parameter: 'range', call: (range) => mapping.protect(range), required: true },
  { parameter: 'range', call: (range) => mapping.remapPages(range), required: true },
  { parameter: 'range', call: (range) => mapping.advise('normal', range) },
  { parameter: 'range', call: (range) => mapping.sync(range) },
  { parameter: 'range', call: (range) => mapping.lock(range) },
  { parameter: 'range', call: (range) => mapping.unlock(range) },
  { parameter: 'range', call: (range) => mapping.prefetch(range) },
  { parameter: 'range', call: (range) => mapping.residency(range) },
  { parameter: 'range', call: (range) => mapping.check(range) },
  { parameter: 'options', call: (options) => mapping.waitSync(0, 1, options) },
  { parameter: 'handle', call: (handle) => Mapping.attach(handle), required: true },
];

/** Refused, with this error, naming the parameter; nothing opened, nothing mapped. */
function expectRefused(call: Call, value: unknown, expected: { name: string; code: string }, parameter: string): void {
  const error: Thrown = thrownBy(() => call(value));
  expect({ value: String(value), name: error.name, code: error.code }).toEqual({ value: String(value), ...expected });
  expect(error.message).toContain(`"${parameter}"`);
}

const titled = <T extends Parameter>(parameters: T[]) =>
  parameters.map((item) => ({ ...item, title: `${item.parameter} in ${String(item.call).replace(/\s+/g, ' ')}` }));

describe('I1 every argument is validated', () => {
  let open: string[];
  let mappings: number;
  beforeEach(() => {
    open = openDescriptors();
    mappings = memory.mappings.size;
  });
  afterEach(() => {
    expect(openDescriptors().filter((line) => !open.includes(line))).toEqual([]);
    expect(memory.mappings.size).toBe(mappings);
  });

  test.each(titled(INTEGERS))('I1 $title', ({ parameter, call, below = [], above = [], misaligned = [], optional }) => {
    for (const value of NO_NUMBERS) expectRefused(call, value, TYPE, parameter);
    if (optional !== true) expectRefused(call, undefined, TYPE, parameter);
    for (const value of [...NO_INTEGERS, ...below, ...above, ...misaligned]) expectRefused(call, value, RANGE, parameter);
  });

  test('I1 value in mapping.write64: a bigint of 64 bits', () => {
    for (const value of [0, '0', null, undefined, true, {}, []])
      expectRefused((v) => mapping.write64(0, v), value, TYPE, 'value');
    for (const value of [-1n, 2n ** 64n]) expectRefused((v) => mapping.write64(0, v), value, RANGE, 'value');
    mapping.write64(0, 2n ** 64n - 1n);
    expect(mapping.read64(0)).toBe(2n ** 64n - 1n);
  });

  test.each(titled(STRINGS))('I1 $title', ({ parameter, call, wrong }) => {
    for (const value of NO_STRINGS) expectRefused(call, value, TYPE, parameter);
    for (const value of wrong) expectRefused(call, value, VALUE, parameter);
  });

  test.each(titled(BOOLEANS))('I1 $title', ({ parameter, call }) => {
    for (const value of NO_BOOLEANS) expectRefused(call, value, TYPE, parameter);
  });

  test("I1 options.populate in memory.map({ populate }): true, false or 'required'", () => {
    for (const value of NO_BOOLEANS) {
      expectRefused((populate) => memory.map({ populate }), value, typeof value === 'string' ? VALUE : TYPE, 'options.populate');
    }
  });

  test.each(titled(OPTIONS))('I1 $title', ({ parameter, call, required }) => {
    for (const value of NO_OBJECTS) expectRefused(call, value, TYPE, parameter);
    if (required === true) expectRefused(call, undefined, TYPE, parameter);
    else expect(() => call(undefined)).not.toThrow();
  });

  test('I1 hugePages needs a size of whole huge pages', () => {
    for (const size of [PAGE, 2 ** 21 + PAGE, 2 ** 21 - 1]) {
      expectRefused((value) => MemoryObject.create({ size: value, hugePages: true }), size, RANGE, 'options.size');
    }
  });

  test('I1 path: a string or a file URL', () => {
    for (const value of [null, undefined, 5, {}, [], Buffer.from('/tmp')])
      expectRefused((p) => MemoryObject.openFile(p), value, TYPE, 'path');
    expectRefused((p) => MemoryObject.openFile(p), '/tmp/a\0b', VALUE, 'path');
    expect(thrownBy(() => MemoryObject.openFile(new URL('http://localhost/x')))).toMatchObject({
      code: 'ERR_INVALID_URL_SCHEME',
    });
    const opened = MemoryObject.openFile(new URL(`file://${path}`));
    expect([opened.size, opened.name]).toEqual([SIZE, path]);
    opened.close();
  });

  test.each(['read', 'write'] as const)('I1 the buffer of mapping.%s: any view, none that is too long', (name) => {
    const parameter = name === 'read' ? 'target' : 'source';
    for (const value of [null, undefined, 'text', 5, {}, [1, 2], new ArrayBuffer(8), new SharedArrayBuffer(8)]) {
      expectRefused((buffer) => mapping[name](0, buffer), value, TYPE, parameter);
    }
    for (const [offset, bytes] of [
      [0, SIZE + 1],
      [SIZE, 1],
      [SIZE - 8, 9],
    ] as const) {
      expectRefused((buffer) => mapping[name](offset, buffer), new Uint8Array(bytes), RANGE, parameter);
    }
    expect(mapping[name](SIZE, new Uint8Array(0))).toBe(0);
  });

  test('I1 wait: its promise rejects with what waitSync throws', async () => {
    const cases: [unknown[], object][] = [
      [['0', 0], TYPE],
      [[1, 0], RANGE],
      [[SIZE, 0], RANGE],
      [[0, NaN], RANGE],
      [[0, 0, null], TYPE],
      [[0, 0, { timeout: '5' }], TYPE],
      [[0, 0, { timeout: null }], TYPE],
      [[0, 0, { timeout: NaN }], RANGE],
      [[0, 0, { timeout: -1 }], RANGE],
      [[0, 0, { signal: {} }], TYPE],
      [[0, 0, { signal: null }], TYPE],
      [[0, 0, { signal: 'now' }], TYPE],
    ];
    for (const [args, expected] of cases) {
      expect(thrownBy(() => (mapping.waitSync as (...args: unknown[]) => unknown)(...args))).toMatchObject(expected);
      expect(await rejectionOf((mapping.wait as (...args: unknown[]) => Promise<unknown>)(...args))).toMatchObject(expected);
    }
  });

  test('I1 attach: only what share() gave', () => {
    const handle = mapping.share();
    for (const value of [
      {},
      { ...handle, type: 'other' },
      { type: handle.type, id: handle.id },
      { ...handle, buffer: new ArrayBuffer(8) },
      { ...handle, buffer: null },
    ]) {
      expect(thrownBy(() => Mapping.attach(value as never))).toMatchObject(TYPE);
    }
    // A handle that was tampered with is as good as one of a mapping that is gone.
    for (const value of [
      { ...handle, id: handle.id + 1 },
      { ...handle, id: 2 ** 53 - 1 },
      { ...handle, id: 0 },
      { ...handle, buffer: new SharedArrayBuffer(SIZE) },
      { ...handle, buffer: new SharedArrayBuffer(0) },
    ]) {
      expect(thrownBy(() => Mapping.attach(value))).toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
    }
  });

  test('I1 share() of a mapping with shared: false', () => {
    const buffered = memory.map({ shared: false });
    expect(thrownBy(() => buffered.share())).toMatchObject(VALUE);
    buffered.close();
  });

  test('I1 revokeMappings: a MemoryObject', async () => {
    for (const value of [null, undefined, {}, mapping, 'memory']) {
      expect(await rejectionOf(revokeMappings(value as never))).toMatchObject(TYPE);
    }
    expect(memory.state).toBe('live');
  });

  test('I1 the classes cannot be constructed', () => {
    expect(() => new (MemoryObject as any)()).toThrow(TypeError);
    expect(() => new (MemoryObject as any)(Symbol('construct'), 1)).toThrow(TypeError);
    expect(() => new (Mapping as any)()).toThrow(TypeError);
  });

  test('I1 methods called on something else', () => {
    const strangers: [string, () => unknown][] = [
      ['read32', () => Mapping.prototype.read32.call({} as never, 0)],
      ['state', () => Reflect.get(Mapping.prototype, 'state', {})],
      ['map', () => MemoryObject.prototype.map.call({} as never)],
      ['close', () => Mapping.prototype.close.call(null as never)],
    ];
    for (const [, call] of strangers) expect(call).toThrow(TypeError);
  });

  test('I1 a getter that changes the arguments between looks changes nothing', () => {
    let looks = 0;
    const range = {
      get offset() {
        return looks++ === 0 ? 0 : 2 ** 40;
      },
      get length() {
        return looks > 2 ? 2 ** 40 : PAGE;
      },
    };
    mapping.write8(0, 7);
    mapping.sync(range); // what was looked at is what is used
    expect(looks).toBe(1);
    expect(mapping.read8(0)).toBe(7);
  });

  test('I1 a view that says it is longer than it is', async () => {
    const run = await runInChild(async ({ MemoryObject }) => {
      const mapping = MemoryObject.create({ size: 1 << 26 }).map();
      const outcomes: Record<string, unknown> = {};
      for (const method of ['read', 'write'] as const) {
        for (const byteLength of [1 << 26, 64, NaN, -5, 'x']) {
          const buffer = new Uint8Array(64);
          const view = Object.defineProperty(new Uint8Array(buffer.buffer, 0, 8), 'byteLength', { value: byteLength });
          try {
            outcomes[`${method} ${byteLength}`] = mapping[method](0, view);
          } catch (error) {
            outcomes[`${method} ${byteLength}`] = (error as { code?: string }).code;
          }
        }
      }
      return outcomes;
    });
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
    const range = 'ERR_OUT_OF_RANGE';
    expect(run.value).toEqual({
      ...{ [`read ${1 << 26}`]: range, 'read 64': range, 'read NaN': range, 'read -5': range, 'read x': range },
      ...{ [`write ${1 << 26}`]: range, 'write 64': range, 'write NaN': range, 'write -5': range, 'write x': range },
    });
  });

  test('I1 a signal whose methods close the mapping that is waited on', async () => {
    const run = await runInChild(async ({ MemoryObject }) => {
      const outcomes = [];
      for (const method of ['wait', 'waitSync'] as const) {
        const mapping = MemoryObject.create({ size: 4096 }).map();
        const { signal } = new AbortController();
        signal.throwIfAborted = () => mapping.close();
        try {
          outcomes.push(await mapping[method](0, 0, { signal, timeout: 5000 }));
        } catch (error) {
          outcomes.push((error as { code?: string }).code);
        }
      }
      return outcomes;
    });
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '', value: ['ERR_MAPPING_CLOSED', 'ERR_MAPPING_CLOSED'] });
  });

  test('I1 what is no signal, though it has some of one', async () => {
    for (const signal of [{ aborted: false }, { aborted: false, throwIfAborted() {} }, { aborted: 'no' }]) {
      const options = { signal: signal as never };
      expect(thrownBy(() => mapping.waitSync(0, 0, options))).toMatchObject(TYPE);
      expect(await rejectionOf(mapping.wait(0, 0, options))).toMatchObject(TYPE);
    }
  });

  test('I1 a URL with a null byte', () => {
    expect(thrownBy(() => MemoryObject.openFile(new URL('file:///tmp/a%00.txt')))).toMatchObject(VALUE);
  });

  test('I1 a buffer that has been detached', () => {
    const target = new Uint8Array(16);
    structuredClone(target.buffer, { transfer: [target.buffer] });
    expect(mapping.read(0, target)).toBe(0);
    expect(mapping.write(0, target)).toBe(0);
  });
});

describe('I1 what is given is what is used', () => {
  test('I1 a descriptor is duplicated and stays the caller’s', () => {
    const fd = openSync(path, 'r');
    const opened = MemoryObject.fromFd(fd);
    expect(opened.fd).not.toBe(fd);
    expect(opened.name).toBe(`fd ${fd}`);
    closeSync(fd);
    expect(opened.map().read8(0)).toBe(0x5a);
    opened.close();
  });

  test('I1 an error’s stack begins with its name and code, as Node’s own', () => {
    const error = thrownBy(() => mapping.read8(-1));
    expect(error.stack).toMatch(
      /^RangeError \[ERR_OUT_OF_RANGE\]: The value of "offset" is out of range\. It must be >= 0 && <= 16383\. Received -1\n/,
    );
    expect(error.name).toBe('RangeError');
    const type = thrownBy(() => memory.map({ access: 5 as never }));
    expect(type.message).toBe('The "options.access" argument must be of type string. Received type number (5)');
  });
});
