/** I1 for `this`: methods on what is no object of their class, constructors called by hand, arguments that only look right. */
import { types, inspect } from 'node:util';
import {
  Bus,
  Device,
  Mapping,
  MappingRevokedError,
  MemoryObject,
  RegisterFile,
  revokeMappings,
  type MappingHandle,
} from 'revocable-mmap';
import { touch } from 'revocable-mmap/bench';
import {
  classesOf,
  declaredClasses,
  exportedErrors,
  INTERNAL,
  world,
  type Class,
  type World,
} from '../support/public-classes.js';
import { rejectionOf, thrownBy, type Thrown } from '../support/thrown.js';
import { wasm, type Memory } from '../support/wasm.js';

const PAGE = 4096;

let made: World;
let classes: Class[];
beforeAll(async () => {
  made = await world();
  classes = [...new Set(Object.values(made.objects).flatMap(classesOf))];
});
afterAll(() => made.end());

const publicKeys = (kind: Class): PropertyKey[] =>
  Reflect.ownKeys(kind.prototype).filter((key) => key !== 'constructor' && !String(key).startsWith('_'));

/** What looks like an object of `kind` and is none. */
function impostors(kind: Class): [what: string, value: unknown][] {
  const original = Object.values(made.objects).find((object) => classesOf(object).includes(kind))!;
  const Heir = class extends (kind as new () => object) {};
  return [
    ['undefined', undefined],
    ['null', null],
    ['a number', 5],
    ['a string', 'text'],
    ['an object', {}],
    ['a function', () => 0],
    ['the prototype', kind.prototype],
    ['an object with a borrowed prototype', Object.create(kind.prototype)],
    ['an object of a subclass whose constructor did not run', Object.create(Heir.prototype)],
    ['an heir of an object', Object.create(original)],
    ['a proxy', new Proxy(original, {})],
    ['an object of another class', kind === Bus ? made.objects.memory : made.objects.bus],
  ];
}

type Outcome = { thrown: unknown } | { returned: unknown };

/** Of a call: what it throws, rejects with, or fails with at its first step; and what it returns. */
async function outcomeOf(call: () => unknown): Promise<Outcome> {
  try {
    const returned = call();
    if (types.isPromise(returned)) return { returned: await returned };
    if (typeof returned === 'object' && returned !== null && Symbol.asyncIterator in returned) {
      return { returned: await (returned as AsyncIterable<unknown>)[Symbol.asyncIterator]().next() };
    }
    return { returned };
  } catch (thrown) {
    return { thrown };
  }
}

describe('I1 receivers', () => {
  test('I1 every class that the package exports is walked here, or is internal', () => {
    const known = new Set([...classes.map(({ name }) => name), ...INTERNAL]);
    const declared = declaredClasses();
    expect(declared.length).toBeGreaterThan(30);
    expect(declared.filter((name) => !known.has(name))).toEqual([]);
  });

  test('I1 every public method and accessor refuses what is no object of its class, with a code', async () => {
    const wrong: string[] = [];
    let looked = 0;
    for (const kind of classes) {
      for (const key of publicKeys(kind)) {
        const { get, value: method } = Object.getOwnPropertyDescriptor(kind.prototype, key)!;
        for (const [what, value] of impostors(kind)) {
          looked++;
          const outcome = await outcomeOf(() => ((get ?? method) as () => unknown).call(value));
          const where = `${kind.name}.${String(key)} on ${what}: ${inspect(outcome)}`;
          if (key === inspect.custom || key === Symbol.toStringTag) {
            if (!('returned' in outcome) || typeof outcome.returned !== 'string') wrong.push(where);
            continue;
          }
          const error = 'thrown' in outcome ? (outcome.thrown as Thrown) : undefined;
          const is = error?.code === 'ERR_INVALID_THIS' && error.name === 'TypeError' && error instanceof Error;
          if (!is || !/^Value of "this" must be of type \w+$/.test(error.message)) wrong.push(where);
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(looked).toBeGreaterThan(1200);
  });

  test('I1 a proxy, an heir and a borrowed prototype can be inspected', () => {
    for (const [name, object] of Object.entries(made.objects)) {
      for (const value of [
        new Proxy(object, {}),
        Object.create(object),
        Object.create(Object.getPrototypeOf(object) as object),
      ]) {
        expect([name, typeof inspect(value)]).toEqual([name, 'string']);
        expect([name, typeof inspect({ nested: [value] }, { depth: 5, showProxy: true })]).toEqual([name, 'string']);
      }
    }
  });

  test('I1 a method that has lost its object', () => {
    const { read32 } = made.objects.mapping as Mapping;
    const error = thrownBy(() => read32(0));
    expect(error.stack).toMatch(/^TypeError \[ERR_INVALID_THIS\]: Value of "this" must be of type Mapping\n/);
  });

  test('I1 an object goes on after its methods have been called on others', () => {
    const mapping = made.objects.mapping as Mapping;
    for (const [, value] of impostors(Mapping))
      expect(thrownBy(() => mapping.read32.call(value as never, 0)).code).toBe('ERR_INVALID_THIS');
    mapping.write32(0, 7);
    expect([mapping.read32(0), mapping.bytes[0]]).toEqual([7, 7]);
  });

  test('I1 wrapped methods look as they are written', () => {
    expect([MemoryObject.prototype.map.name, MemoryObject.prototype.map.length]).toEqual(['map', 1]);
    expect([Mapping.prototype.wait.name, Mapping.prototype.wait.length]).toEqual(['wait', 3]);
    for (const kind of classes) {
      for (const key of Reflect.ownKeys(kind.prototype)) {
        expect([key, Object.getOwnPropertyDescriptor(kind.prototype, key)!.enumerable]).toEqual([key, false]);
      }
    }
  });
});

describe('I1 constructors', () => {
  /** Those that users call. */
  const OPEN = ['Device', 'Bus', 'RegisterFile'];

  test('I1 classes whose objects only the library makes say so', () => {
    for (const kind of classes.filter(({ name }) => !OPEN.includes(name))) {
      const Kind = kind as unknown as new (...args: unknown[]) => object;
      for (const args of [[], [Symbol('construct')], [null, null, null], [{}, {}, {}, {}, {}]]) {
        const error = thrownBy(() => new Kind(...args));
        expect([kind.name, error.name, error.code, error.message]).toEqual([
          kind.name,
          'TypeError',
          'ERR_ILLEGAL_CONSTRUCTOR',
          'Illegal constructor',
        ]);
        expect(thrownBy(() => new (class extends Kind {})(...args)).code).toBe('ERR_ILLEGAL_CONSTRUCTOR');
        expect(thrownBy(() => Reflect.construct(Kind, args, Object) as unknown).code).toBe('ERR_ILLEGAL_CONSTRUCTOR');
      }
    }
  });

  test('I1 the others, and errors, refuse what they cannot use, with a code', () => {
    expect(thrownBy(() => new Device(undefined as never)).code).toBe('ERR_INVALID_ARG_TYPE');
    expect(thrownBy(() => new RegisterFile(undefined as never)).code).toBe('ERR_INVALID_ARG_TYPE');
    const errors = exportedErrors();
    expect(errors.length).toBeGreaterThan(10);
    for (const kind of errors) {
      const Kind = kind as unknown as new (...args: unknown[]) => Error;
      for (const args of [[], [undefined, undefined, undefined], [5, 5], [{ object: 'x' }]]) {
        let error: Thrown;
        try {
          error = new Kind(...args);
        } catch (thrown) {
          error = thrown as Thrown;
          expect([kind.name, error.code]).toEqual([kind.name, expect.stringMatching(/^ERR_INVALID_ARG_(TYPE|VALUE)$/)]);
        }
        expect(typeof inspect(error)).toBe('string');
      }
      expect(typeof (Object.getOwnPropertyDescriptor(kind.prototype, 'name')?.get ?? (() => '')).call(undefined)).toBe('string');
    }
    expect(new MappingRevokedError({ object: 'x', offset: 8 }).message).toBe('x: the mapping has been revoked at offset 8');
  });
});

describe('I1 arguments that only look like an object of the library', () => {
  const lookAlikes = (object: object): unknown[] => [
    Object.create(Object.getPrototypeOf(object) as object),
    Object.create(object),
    new Proxy(object, {}),
    { ...object },
  ];

  test('I1 are refused as any other value of a wrong type', async () => {
    const { memory, mapping, device, 'register file': model } = made.objects as Record<string, never>;
    const bus = new Bus();
    bus.add(device);
    const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
    for (const value of lookAlikes(memory)) expect(await rejectionOf(revokeMappings(value as never))).toMatchObject(type);
    for (const value of lookAlikes(mapping)) expect(thrownBy(() => touch(value as never))).toMatchObject(type);
    for (const value of lookAlikes(device)) {
      expect(thrownBy(() => new Bus().add(value as never))).toMatchObject(type);
      expect(thrownBy(() => bus.change(value as never))).toMatchObject(type);
      expect(await rejectionOf(bus.remove(value as never))).toMatchObject(type);
    }
    for (const value of lookAlikes(model)) {
      const regions = [{ size: PAGE, kind: 'registers' as const, model: value as never }];
      expect(thrownBy(() => new Device({ name: 'x', regions }))).toMatchObject(type);
    }
    bus.close();
  });
});

describe('I1 views that say something else than they are', () => {
  const LIES: [what: string, properties: PropertyDescriptorMap][] = [
    ['longer', { byteLength: { value: 1000 } }],
    ['shorter', { byteLength: { value: 2 } }],
    ['no length', { byteLength: { value: NaN } }],
    ['another buffer', { buffer: { value: new ArrayBuffer(2) } }],
    ['no buffer', { buffer: { value: {} } }],
    ['elsewhere in their buffer', { byteOffset: { value: 1e6 } }],
  ];

  test.each(LIES)('I1 %s: copies them as they are, or refuses them with a code', async (_what, properties) => {
    const device = new Device({
      name: 'lied to',
      regions: [{ size: PAGE }, { name: 'registers', size: PAGE, kind: 'registers' }],
      ops: {
        read: (_file, target) => target.byteLength,
        write: (_file, source) => source.byteLength,
        readRegister: () => 0x55555555,
        writeRegister: () => undefined,
      },
    });
    const file = device.open();
    const protectedPage = MemoryObject.create({ size: 2 * PAGE }).map();
    protectedPage.protect({ offset: PAGE, length: PAGE, access: 'none' }); // copies take the slow way
    const views = [new Uint8Array(8), new DataView(new ArrayBuffer(8)), new Float64Array(1)];
    for (const view of views.map((view) => Object.defineProperties(view, properties))) {
      const calls: (() => unknown)[] = [
        ...[made.objects.mapping as Mapping, protectedPage, file.map({ region: 'registers' })].flatMap((mapping) => [
          () => mapping.read(0, view),
          () => mapping.write(0, view),
          () => mapping.readAsync(0, view),
          () => mapping.writeAsync(0, view),
        ]),
        () => file.read(view),
        () => file.write(view),
        () => new Device({ name: 'image', regions: [{ size: PAGE, pages: { image: view as Uint8Array } }] }).unplug(),
      ];
      for (const call of calls) {
        const outcome = await outcomeOf(call);
        if ('returned' in outcome) continue;
        expect([String(call), outcome.thrown]).toEqual([String(call), expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' })]);
      }
    }
    await device.unplug();
    protectedPage.object.close();
  });
});

describe('I1 forged handles', () => {
  let handle: MappingHandle;
  let mapping: Mapping;
  beforeAll(() => {
    mapping = MemoryObject.create({ size: 2 * PAGE }).map();
    mapping.write32(0, 0x1234);
    handle = mapping.share();
  });
  afterAll(() => mapping.object.close());

  const memoryOf = (pages: number): Memory => new wasm.Memory({ initial: pages, maximum: pages, shared: true });

  test('I1 what is not the memory of the mapping is refused', () => {
    const other = MemoryObject.create({ size: 2 * PAGE }).map();
    const inMemory = other.object.map({ memory: memoryOf(1), memoryOffset: PAGE });
    const forged = [
      { ...handle, id: handle.id + 1 },
      { ...handle, id: 0 },
      { ...handle, id: Number.MAX_SAFE_INTEGER },
      { ...handle, buffer: other.buffer },
      { ...handle, buffer: new SharedArrayBuffer(0) },
      { ...handle, buffer: new SharedArrayBuffer(2 * PAGE) },
      { ...handle, memory: memoryOf(1) },
      { ...inMemory.share(), memory: memoryOf(1) },
    ];
    for (const value of forged) {
      expect(thrownBy(() => Mapping.attach(value as never))).toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
    }
    const wrong = [new Proxy(memoryOf(1), {}), Object.create(wasm.Memory.prototype as object), new wasm.Memory({ initial: 1 })];
    for (const memory of wrong) {
      expect(thrownBy(() => Mapping.attach({ ...handle, memory }))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    }
    other.object.close();
  });

  test('I1 an accessor that says something else each time it is asked is asked once', () => {
    const buffers = [handle.buffer, new SharedArrayBuffer(4), {}];
    const changing = {
      type: handle.type,
      id: handle.id,
      get buffer() {
        return buffers.shift() as SharedArrayBuffer;
      },
    };
    const attached = Mapping.attach(changing);
    expect([attached.buffer === handle.buffer, attached.read32(0), attached.bytes.length]).toEqual([true, 0x1234, 2 * PAGE]);
    attached.close();
    expect(mapping.read32(0)).toBe(0x1234);
  });
});
