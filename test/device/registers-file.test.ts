import fc from 'fast-check';
import { Device, RegisterFile, type RegisterFileOptions, type RegisterKind, type RegisterSpec } from 'revocable-mmap';
import { describeTrapped } from '../support/conditions.js';
import { thrownBy } from '../support/thrown.js';

const KINDS: RegisterKind[] = ['rw', 'ro', 'w1c', 'w1s', 'rc', 'counter', 'wo', 'rs', 'wc'];
const TYPE = 'ERR_INVALID_ARG_TYPE';
const RANGE = 'ERR_OUT_OF_RANGE';
const VALUE = 'ERR_INVALID_ARG_VALUE';

describe('I1 arguments of RegisterFile', () => {
  const bad: [unknown, unknown, string, string][] = [
    [undefined, undefined, TYPE, 'The "registers" argument must be an instance of Array. Received undefined'],
    [{}, undefined, TYPE, 'The "registers" argument must be an instance of Array. Received an instance of Object'],
    [[null], undefined, TYPE, 'The "registers[0]" argument must be of type object. Received null'],
    [[{ offset: 0 }, 5], undefined, TYPE, 'The "registers[1]" argument must be of type object. Received type number (5)'],
    [[{}], undefined, TYPE, 'The "registers[0].offset" argument must be of type number. Received undefined'],
    [
      [{ offset: 1.5 }],
      undefined,
      RANGE,
      'The value of "registers[0].offset" is out of range. It must be an integer. Received 1.5',
    ],
    [
      [{ offset: -4 }],
      undefined,
      RANGE,
      'The value of "registers[0].offset" is out of range. It must be >= 0 && <= 9007199254740983. Received -4',
    ],
    [
      [{ offset: 2 }],
      undefined,
      RANGE,
      'The value of "registers[0].offset" is out of range. It must be a multiple of 4. Received 2',
    ],
    [
      [{ offset: 4, width: 8 }],
      undefined,
      RANGE,
      'The value of "registers[0].offset" is out of range. It must be a multiple of 8. Received 4',
    ],
    [[{ offset: 0, width: 3 }], undefined, VALUE, 'The argument "registers[0].width" must be 1, 2, 4 or 8. Received 3'],
    [[{ offset: 0, width: 16 }], undefined, VALUE, 'The argument "registers[0].width" must be 1, 2, 4 or 8. Received 16'],
    [
      [{ offset: 0, width: '4' }],
      undefined,
      TYPE,
      `The "registers[0].width" argument must be of type number. Received type string ('4')`,
    ],
    [
      [{ offset: 0, kind: 'w2c' }],
      undefined,
      VALUE,
      `The argument "registers[0].kind" must be one of: ${KINDS.map((kind) => `'${kind}'`).join(', ')}. Received 'w2c'`,
    ],
    [
      [{ offset: 0, onRead: 5 }],
      undefined,
      TYPE,
      'The "registers[0].onRead" argument must be of type function. Received type number (5)',
    ],
    [
      [{ offset: 0 }, { offset: 4, onWrite: null }],
      undefined,
      TYPE,
      'The "registers[1].onWrite" argument must be of type function. Received null',
    ],
    [
      [{ offset: 0, value: 2 ** 32 }],
      undefined,
      RANGE,
      'The value of "registers[0].value" is out of range. It must be >= 0 && <= 4294967295. Received 4294967296',
    ],
    [
      [{ offset: 0, width: 1, value: -1 }],
      undefined,
      RANGE,
      'The value of "registers[0].value" is out of range. It must be >= 0 && <= 255. Received -1',
    ],
    [
      [{ offset: 0, value: 1n }],
      undefined,
      TYPE,
      'The "registers[0].value" argument must be of type number. Received type bigint (1n)',
    ],
    [
      [{ offset: 0, width: 8, value: 1 }],
      undefined,
      TYPE,
      'The "registers[0].value" argument must be of type bigint. Received type number (1)',
    ],
    [
      [{ offset: 4 }, { offset: 0, width: 8 }],
      undefined,
      VALUE,
      'The argument "registers" must not overlap. Received \'offsets 0 and 4\'',
    ],
    [
      [{ offset: 8 }, { offset: 8, width: 1 }],
      undefined,
      VALUE,
      'The argument "registers" must not overlap. Received \'offsets 8 and 8\'',
    ],
    [[], null, TYPE, 'The "options" argument must be of type object. Received null'],
    [[], { unlisted: 'random' }, VALUE, `The argument "options.unlisted" must be one of: 'zeros', 'ones'. Received 'random'`],
  ];
  test.each(bad)('I1 %j, %j', (registers, options, code, message) => {
    const error = thrownBy(() => new RegisterFile(registers as RegisterSpec[], options as RegisterFileOptions));
    expect({ code: error.code, message: error.message }).toEqual({ code, message });
  });

  test('I1 a bigint out of range', () => {
    for (const value of [-1n, 2n ** 64n]) {
      expect(thrownBy(() => new RegisterFile([{ offset: 0, width: 8, value }]))).toMatchObject({ code: RANGE });
      expect(thrownBy(() => new RegisterFile([{ offset: 0, width: 8 }]).set(0, value))).toMatchObject({ code: RANGE });
    }
  });

  test('I1 get() and set()', () => {
    const file = new RegisterFile([
      { offset: 4, width: 2, value: 7 },
      { offset: 8, width: 8 },
    ]);
    expect([file.get(4), file.get(8)]).toEqual([7, 0n]);
    file.set(4, 0xffff);
    file.set(8, 2n ** 64n - 1n);
    expect([file.get(4), file.get(8)]).toEqual([0xffff, 2n ** 64n - 1n]);
    for (const [offset, code] of [
      ['4', TYPE],
      [undefined, TYPE],
      [-1, RANGE],
      [5, VALUE],
      [0, VALUE],
      [12, VALUE],
    ] as [number, string][]) {
      expect([offset, thrownBy(() => file.get(offset)).code]).toEqual([offset, code]);
      expect([offset, thrownBy(() => file.set(offset, 1)).code]).toEqual([offset, code]);
    }
    expect(thrownBy(() => file.get(5)).message).toBe('The argument "offset" must be that of a register. Received 5');
    expect(thrownBy(() => file.set(4, 0x10000))).toMatchObject({ code: RANGE });
    expect(thrownBy(() => file.set(4, 1n))).toMatchObject({ code: TYPE });
    expect(thrownBy(() => file.set(8, 1))).toMatchObject({ code: TYPE });
    expect(file.get(4)).toBe(0xffff);
  });

  test('I1 the model of a region', async () => {
    const make = (region: object): Device => new Device({ name: 'card', regions: [{ size: 4096, ...region }] });
    const kind = 'registers';
    for (const [model, received] of [
      [{}, 'an instance of Object'],
      [null, 'null'],
      [5, 'type number (5)'],
      [RegisterFile, 'type function ([class RegisterFile])'],
    ]) {
      const error = thrownBy(() => make({ kind, model }));
      expect(error).toMatchObject({ code: TYPE });
      expect(error.message).toBe(
        'The "options.regions[0].model" argument must be an instance of RegisterFile, or a model that an addon has made ' +
          `(revocable-mmap/register-model.h). Received ${String(received)}`,
      );
    }
    const model = new RegisterFile([]);
    expect(thrownBy(() => make({ model }))).toMatchObject({ code: VALUE });
    expect(thrownBy(() => make({ kind: 'memory', model })).message).toMatch(
      /^The argument "options.regions\[0\].model" must be left out but for kind: 'registers'. Received/,
    );
    const made = make({ kind, model });
    expect(made.open().map().read32(0)).toBe(0);
    await made.unplug();
  });

  test('I1 a model is behind one region at a time, and all its registers are within it', async () => {
    const kind = 'registers';
    const model = new RegisterFile([{ offset: 0 }, { offset: 12, width: 4 }]);
    const region = { size: 16, kind, model } as const;
    const twice = thrownBy(() => new Device({ name: 'card', regions: [region, { size: 16 }, region] }));
    expect(twice.code).toBe(VALUE);
    expect(twice.message).toMatch(
      /^The argument "options.regions\[2\].model" must not be that of options.regions\[0\]. Received /,
    );
    const small = thrownBy(() => new Device({ name: 'card', regions: [{ size: 15, kind, model }] }));
    expect(small.code).toBe(VALUE);
    expect(small.message).toBe('The argument "options.regions[0].size" must have room for the model\'s 16 bytes. Received 15');
    const device = new Device({ name: 'card', regions: [region] });
    const second = thrownBy(() => new Device({ name: 'other', regions: [region] }));
    expect(second.code).toBe(VALUE);
    expect(second.message).toMatch(/^The argument "options.regions\[0\].model" must not be behind another region. Received /);
    await device.unplug();
    await new Device({ name: 'other', regions: [region] }).unplug();
  });

  test('a model that outlives its device keeps what it holds, for the next', async () => {
    const model = new RegisterFile([{ offset: 0, value: 3 }]);
    const device = new Device({ name: 'card', regions: [{ size: 4096, kind: 'registers', model }] });
    device.open().map().write32(0, 4);
    await device.unplug();
    expect(model.get(0)).toBe(4);
    const next = new Device({ name: 'card', regions: [{ size: 4096, kind: 'registers', model }] });
    expect(next.open().map().read32(0)).toBe(4);
    await next.unplug();
  });
});

describe('RegisterFile: a counter', () => {
  test('counts one up at each access that reads any of its bytes, and not at one that reads none', async () => {
    const model = new RegisterFile([
      { offset: 0, kind: 'counter', value: 100 },
      { offset: 4, kind: 'counter', value: 200 },
      { offset: 8, width: 8, kind: 'counter', value: 300n },
      { offset: 16 },
    ]);
    const device = new Device({ name: 'card', regions: [{ size: 64, kind: 'registers', model }] });
    const mapping = device.open().map();
    const values = (): (number | bigint)[] => [0, 4, 8].map((offset) => model.get(offset));
    mapping.read32(16);
    expect(values()).toEqual([100, 200, 300n]);
    // Its lowest byte, its highest, half of it, all of it.
    for (const read of [() => mapping.read8(0), () => mapping.read8(3), () => mapping.read16(2), () => mapping.read32(0)]) read();
    expect(values()).toEqual([104, 200, 300n]);
    expect([mapping.read8(0), mapping.read8(1)]).toEqual([104, 0]);
    expect(mapping.read64(0)).toBe((200n << 32n) | 106n); // of two at once: each
    expect(values()).toEqual([107, 201, 300n]);
    for (const offset of [8, 12]) mapping.read32(offset); // both halves of one: twice
    expect(values()).toEqual([107, 201, 302n]);
    mapping.read(0, new Uint8Array(16)); // four accesses of four bytes
    expect(values()).toEqual([108, 202, 304n]);
    mapping.read(1, new Uint8Array(2)); // two of one byte
    expect(values()).toEqual([110, 202, 304n]);
    mapping.write8(0, 7); // sets that byte, counts nothing
    expect(values()).toEqual([7, 202, 304n]);
    await device.unplug();
  });

  test.each([1, 2, 4, 8] as const)('of %i bytes goes on at 0', (width) => {
    const most = 2n ** BigInt(8 * width) - 1n;
    const model = new RegisterFile([{ offset: 0, width, kind: 'counter', value: width === 8 ? most : Number(most) }]);
    const device = new Device({ name: 'card', regions: [{ size: 8, kind: 'registers', model }] });
    const mapping = device.open().map();
    expect(BigInt(width === 8 ? mapping.read64(0) : mapping.read32(0))).toBe(most);
    expect(BigInt(model.get(0))).toBe(0n);
    expect(BigInt(width === 8 ? mapping.read64(0) : mapping.read32(0))).toBe(0n);
    expect(BigInt(model.get(0))).toBe(1n);
    return device.unplug();
  });
});

// --- against a reference ---

/** The same in other words: byte by byte. */
class Reference {
  readonly #registers: { offset: number; width: number; kind: RegisterKind; value: bigint }[];
  constructor(
    specs: RegisterSpec[],
    readonly unlisted: number,
  ) {
    this.#registers = specs.map(({ offset, width = 4, kind = 'rw', value = 0 }) => ({
      offset,
      width,
      kind,
      value: BigInt(value),
    }));
  }

  access(offset: number, width: number, written: bigint | undefined): bigint {
    let result = 0n;
    const counted = new Set<object>();
    const before = new Map(this.#registers.map((register) => [register, register.value]));
    for (let i = 0; i < width; i++) {
      const register = this.#registers.find((one) => offset + i >= one.offset && offset + i < one.offset + one.width);
      let byte = BigInt(this.unlisted);
      if (register !== undefined) {
        const shift = BigInt(8 * (offset + i - register.offset));
        if (register.kind !== 'wo') byte = (before.get(register)! >> shift) & 0xffn;
        const put = written === undefined ? 0n : ((written >> BigInt(8 * i)) & 0xffn) << shift;
        const mask = 0xffn << shift;
        if (written === undefined) {
          if (register.kind === 'rc') register.value &= ~mask;
          if (register.kind === 'rs') register.value |= mask;
          if (register.kind === 'counter') counted.add(register);
        } else if (register.kind === 'wc') register.value &= ~mask;
        else if (['rw', 'wo', 'counter'].includes(register.kind)) register.value = (register.value & ~mask) | put;
        else if (register.kind === 'w1c') register.value &= ~put;
        else if (register.kind === 'w1s') register.value |= put;
      }
      result |= byte << BigInt(8 * i);
    }
    for (const register of this.#registers)
      if (counted.has(register)) register.value = BigInt.asUintN(8 * register.width, register.value + 1n);
    return result;
  }

  values(): bigint[] {
    return this.#registers.map(({ value }) => value);
  }
}

interface Step {
  offset: number;
  width: number;
  written: bigint | undefined;
}

const SIZE = 64;

const filesOfRegisters = fc
  .array(
    fc.record({
      width: fc.constantFrom(1, 2, 4, 8),
      gap: fc.nat(3),
      kind: fc.constantFrom(...KINDS),
      bits: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    }),
    { maxLength: 10 },
  )
  .map((parts) => {
    const specs: RegisterSpec[] = [];
    let at = 0;
    for (const { width, gap, kind, bits } of parts) {
      const offset = Math.ceil(at / width) * width + gap * width;
      if (offset + width > SIZE) break;
      const value = BigInt.asUintN(8 * width, bits);
      specs.push({ offset, width: width, kind, value: width === 8 ? value : Number(value) });
      at = offset + width;
    }
    return specs.reverse(); // in any order
  });

const accesses = fc.array(
  fc
    .record({
      width: fc.constantFrom(1, 2, 4, 8),
      at: fc.nat(SIZE - 1),
      written: fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { nil: undefined }),
    })
    .map(({ width, at, written }): Step => {
      const value = written === undefined ? undefined : BigInt.asUintN(8 * width, written);
      return { width, offset: at - (at % width), written: value };
    }),
  { maxLength: 30 },
);

describeTrapped('RegisterFile', () => {
  test.each(['checked', 'raw'])(
    'does what a simple model does: every kind, unlisted, partial and spanning accesses, %s',
    async (how) => {
      const property = fc.asyncProperty(
        filesOfRegisters,
        fc.constantFrom('zeros', 'ones'),
        accesses,
        async (specs, unlisted, steps) => {
          const model = new RegisterFile(specs, { unlisted: unlisted as 'zeros' });
          const reference = new Reference(specs, unlisted === 'ones' ? 0xff : 0);
          const device = new Device({ name: 'card', regions: [{ size: SIZE, kind: 'registers', model }] });
          const mapping = device.open().map();
          const buffer = how === 'raw' ? (mapping.buffer as ArrayBuffer) : new ArrayBuffer(SIZE);
          const arrays: Record<number, any> = {
            1: new Uint8Array(buffer, 0, SIZE),
            2: new Uint16Array(buffer, 0, SIZE / 2),
            4: new Uint32Array(buffer, 0, SIZE / 4),
            8: new BigUint64Array(buffer, 0, SIZE / 8),
          };
          const perform = ({ offset, width, written }: Step): bigint | undefined => {
            const value = width === 8 ? written : Number(written);
            const bits = String(8 * width);
            const checked = mapping as unknown as Record<string, (offset: number, value?: unknown) => number | bigint>;
            if (written === undefined) {
              // A plain load may be made twice, where optimised code is abandoned.
              return BigInt(how === 'raw' ? Atomics.load(arrays[width], offset / width) : checked[`read${bits}`](offset));
            }
            if (how === 'raw') arrays[width][offset / width] = value;
            else checked[`write${bits}`](offset, value);
            return undefined;
          };
          for (const step of steps) {
            const expected = reference.access(step.offset, step.width, step.written);
            const seen = perform(step);
            if (step.written === undefined) expect(seen).toBe(expected);
            expect(specs.map(({ offset }) => BigInt(model.get(offset)))).toEqual(reference.values());
          }
          mapping.check();
          await device.unplug();
        },
      );
      await fc.assert(property, { numRuns: 400 }); // it says its seed when it fails
    },
  );
});
