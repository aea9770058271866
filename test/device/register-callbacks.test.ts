/** Registers of a RegisterFile that call JavaScript: a status that is computed when it is read, a doorbell whose write runs code. */
import fc from 'fast-check';
import { join } from 'node:path';
import {
  Device,
  DeviceOpError,
  RegisterFile,
  type DeviceAccess,
  type DeviceFaultInfo,
  type Mapping,
  type RegisterKind,
  type RegisterSpec,
} from 'revocable-mmap';
import { describeTrapped } from '../support/conditions.js';
import { startCrew, type CrewMember } from '../support/crew.js';
import { thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';

const CARD = join(__dirname, '..', 'children', 'devices', 'callback-card.cjs');

let crew: CrewMember[];
beforeAll(async () => {
  crew = await startCrew(1);
});
afterAll(() => Promise.all(crew.map((member) => member.end())));

const devices: { unplug(): Promise<unknown> }[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
function card(registers: RegisterSpec[], opTimeout = 5000): { device: Device; model: RegisterFile; mapping: Mapping } {
  const model = new RegisterFile(registers, { unlisted: 'ones' });
  const device = new Device({ name: 'card', regions: [{ name: 'bar', size: 4096, kind: 'registers', model }], opTimeout });
  devices.push(device);
  return { device, model, mapping: device.open().map({ fill: 'ones' }) };
}

type Access = [how: 'checked' | 'raw', offset: number, width: number, value?: string];
/** Makes accesses, and answers what they read, or the code of what they threw. */
function accesses(mapping: Mapping, list: Access[]): string[] {
  const named = mapping as unknown as Record<string, (offset: number, value?: unknown) => unknown>;
  const arrays: Record<number, any> = {};
  const array = (width: number): any => {
    const { buffer, byteOffset } = mapping.bytes;
    const Kind = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array }[width] as any;
    return (arrays[width] ??= new Kind(buffer, byteOffset, mapping.length / width));
  };
  return list.map(([how, offset, width, written]) => {
    const value = written === undefined ? undefined : width === 8 ? BigInt(written) : Number(written);
    try {
      if (how === 'raw') {
        if (value === undefined) return String(Atomics.load(array(width), offset / width));
        array(width)[offset / width] = value;
        mapping.check();
        return '';
      }
      const done = value === undefined ? named[`read${8 * width}`](offset) : named[`write${8 * width}`](offset, value);
      return String(done ?? '');
    } catch (error) {
      return (error as { code: string }).code;
    }
  });
}
const byAnother = (mapping: Mapping, list: Access[]): Promise<string[]> => crew[0].run(mapping, accesses, list);

describe('a callback', () => {
  test('onRead gives what the register holds from then on; nothing, and it stays', () => {
    let next: number | undefined = 5;
    const seen: unknown[] = [];
    const { model, mapping } = card([
      {
        offset: 0,
        value: 3,
        onRead(value) {
          seen.push(value, this.offset);
          return next;
        },
      },
    ]);
    expect([mapping.read32(0), model.get(0)]).toEqual([5, 5]);
    next = undefined;
    expect([mapping.read32(0), model.get(0)]).toEqual([5, 5]);
    next = 2 ** 32 + 6; // its low bytes, as of readRegister
    expect([mapping.read32(0), model.get(0)]).toEqual([6, 6]);
    expect(seen).toEqual([3, 0, 5, 0, 5, 0]);
  });

  test('is called before a read and after a write, has the effects of its kind in between, and may set others', () => {
    const calls: unknown[][] = [];
    const { model, mapping } = card([
      { offset: 0, kind: 'rc', value: 1, onRead: (value) => void calls.push(['rc', value]) },
      { offset: 4, kind: 'w1c', value: 0b111, onWrite: (value, written) => void calls.push(['w1c', value, written]) },
      { offset: 8, kind: 'wo', onWrite: (value, written) => void calls.push(['wo', value, written]) },
      { offset: 12, kind: 'ro', value: 9, onWrite: (value, written) => void calls.push(['ro', value, written]) },
      { offset: 16, kind: 'counter', onRead: () => 70 },
      { offset: 24, width: 8, onWrite: (value, written) => void calls.push(['wide', value, written, model.set(0, 99)]) },
      { offset: 32, kind: 'wo', onRead: () => 5 },
    ]);
    expect([mapping.read32(0), model.get(0)]).toEqual([1, 0]);
    mapping.write32(4, 0b010);
    mapping.write32(8, 6);
    mapping.write32(12, 8);
    expect([mapping.read32(16), model.get(16), mapping.read32(16)]).toEqual([70, 71, 70]);
    mapping.write64(24, 2n ** 63n);
    expect([mapping.read32(32), model.get(32)]).toEqual([0xffff_ffff, 5]);
    expect(calls).toEqual([
      ['rc', 1],
      ['w1c', 0b101, 0b010],
      ['wo', 6, 6],
      ['ro', 9, 8],
      ['wide', 2n ** 63n, 2n ** 63n, undefined],
    ]);
    expect(model.get(0)).toBe(99);
  });

  test('get() and set() call nothing', () => {
    const fail = (): never => {
      throw new Error('called');
    };
    const { model } = card([{ offset: 0, onRead: fail, onWrite: fail }]);
    model.set(0, 5);
    expect(model.get(0)).toBe(5);
  });

  test('of a register of which a part is accessed, and of several at once: each once, in order', () => {
    const calls: unknown[][] = [];
    const listed = (offset: number, width: 2 | 4 | 8): RegisterSpec => ({
      offset,
      width,
      value: width === 8 ? 0x1122334455667788n : 0x1111 * (offset + 1),
      onRead: (value) => void calls.push([offset, value]),
      onWrite: (value, written) => void calls.push([offset, value, written]),
    });
    const { mapping } = card([listed(0, 2), listed(2, 2), { offset: 4, value: 0xaaaa }, listed(8, 8)]);
    const took = (): unknown[][] => calls.splice(0);
    expect(mapping.read64(0)).toBe(0xaaaa33331111n);
    expect(took()).toEqual([
      [0, 0x1111],
      [2, 0x3333],
    ]);
    mapping.write32(0, 0x5566_7788);
    expect(took()).toEqual([
      [0, 0x7788, 0x7788],
      [2, 0x5566, 0x5566],
    ]);
    mapping.write8(3, 0xee);
    expect(took()).toEqual([[2, 0xee66, 0xee00]]);
    mapping.write16(12, 0xffff);
    expect(took()).toEqual([[8, 0x1122ffff55667788n, 0xffff00000000n]]);
    expect(mapping.read8(15)).toBe(0x11);
    expect(took()).toEqual([[8, 0x1122ffff55667788n]]);
    expect(mapping.read32(4)).toBe(0xaaaa);
    mapping.write32(4, 1);
    expect(took()).toEqual([]);
    mapping.read(0, new Uint8Array(16)); // four accesses of four bytes
    expect(took().map(([offset]) => offset)).toEqual([0, 2, 8, 8]);
  });
});

const KINDS: RegisterKind[] = ['rw', 'ro', 'w1c', 'w1s', 'rc', 'counter', 'wo', 'rs', 'wc'];

describe('what an access does', () => {
  const registers = fc.array(
    fc.record({
      kind: fc.constantFrom(...KINDS),
      width: fc.constantFrom(1, 2, 4, 8),
      bits: fc.bigInt(0n, 2n ** 64n - 1n),
      calls: fc.nat(3),
    }),
    { minLength: 1, maxLength: 8 },
  );
  const steps = fc.array(
    fc.record({ width: fc.constantFrom(1, 2, 4, 8), at: fc.nat(63), written: fc.option(fc.bigInt(0n, 2n ** 64n - 1n)) }),
    { minLength: 1, maxLength: 40 },
  );
  const ways = process.arch === 'x64' ? (['checked', 'raw'] as const) : (['checked'] as const);

  test.each(
    ways
      .flatMap((how) => ['here', 'elsewhere'].map((where) => [how, where] as const))
      .filter(([how, where]) => how === 'checked' || where === 'elsewhere'),
  )('is the same with a callback that does nothing, and each is called as often as it is touched: %s, %s', async (how, where) => {
    const property = fc.asyncProperty(registers, steps, async (parts, made) => {
      const called: string[] = [];
      const specs = (calling: boolean): RegisterSpec[] => {
        let at = 0;
        return parts.map(({ kind, width, bits, calls }) => {
          const offset = Math.ceil(at / width) * width;
          at = offset + width;
          const held = BigInt.asUintN(8 * width, bits);
          return {
            offset,
            width: width as 4,
            kind,
            value: width === 8 ? held : Number(held),
            ...(calling && (calls & 1) !== 0 ? { onRead: () => void called.push(`R ${offset}`) } : {}),
            ...(calling && (calls & 2) !== 0 ? { onWrite: () => void called.push(`W ${offset}`) } : {}),
          };
        });
      };
      const list = made.map(({ width, at, written }): Access => {
        const offset = at - (at % width);
        return written === null ? [how, offset, width] : [how, offset, width, String(BigInt.asUintN(8 * width, written))];
      });
      const [silent, calling] = [card(specs(false)), card(specs(true))];
      const run = (mapping: Mapping): string[] | Promise<string[]> =>
        where === 'here' ? accesses(mapping, list) : byAnother(mapping, list);
      expect(await run(calling.mapping)).toEqual(await run(silent.mapping));
      const all = specs(true);
      for (const { offset } of all) expect([offset, calling.model.get(offset)]).toEqual([offset, silent.model.get(offset)]);
      const expected = list.flatMap(([, offset, width, written]) =>
        all
          .filter((one) => one.offset < offset + width && offset < one.offset + one.width!)
          .filter(({ onRead, onWrite }) => (written === undefined ? onRead : onWrite) !== undefined)
          .map((one) => `${written === undefined ? 'R' : 'W'} ${one.offset}`),
      );
      expect(called).toEqual(expected);
      await Promise.all(devices.splice(0).map((one) => one.unplug()));
    });
    await fc.assert(property, { numRuns: where === 'here' ? 200 : 60 }); // it says its seed when it fails
  });
});

describe('another thread', () => {
  test('waits for the callback, and sees what it has done', async () => {
    const { model, mapping } = card([
      { offset: 0, kind: 'wo', onWrite: (value) => model.set(4, Number(value) * 2) },
      { offset: 4, kind: 'ro' },
      { offset: 8, kind: 'ro', onRead: (value) => Number(value) + 1 },
    ]);
    const list: Access[] = [];
    for (let i = 1; i <= 20; i++) list.push(['checked', 0, 4, String(i)], ['checked', 4, 4], ['checked', 8, 4]);
    const results = await byAnother(mapping, list);
    expect(results.filter((_, i) => i % 3 === 1)).toEqual(Array.from({ length: 20 }, (_, i) => String(2 * (i + 1))));
    expect(results.filter((_, i) => i % 3 === 2)).toEqual(Array.from({ length: 20 }, (_, i) => String(i + 1)));
  });

  test("does not wait for the device's thread where the register has no callback", async () => {
    const { model, mapping } = card([
      { offset: 0 },
      { offset: 4, onWrite: () => undefined, value: 8 },
      { offset: 8, onRead: () => 1 },
    ]);
    const done = new Int32Array(new SharedArrayBuffer(4), 0, 1);
    const answer = crew[0].run(
      mapping,
      (there, flag: Int32Array) => {
        there.write32(0, 7);
        there.write32(8, 9); // a write: only its reads call
        const read = [there.read32(0), there.read32(4)];
        Atomics.store(flag, 0, 1);
        Atomics.notify(flag, 0);
        return read;
      },
      done,
    );
    // This thread does nothing else meanwhile.
    expect(Atomics.wait(done, 0, 0, 60_000)).not.toBe('timed-out');
    expect([model.get(0), model.get(8)]).toEqual([7, 9]);
    expect(await answer).toEqual([7, 8]);
  });

  test('gets its errors; the effects of a write stand', async () => {
    const { model, mapping } = card([
      {
        offset: 0,
        onRead() {
          throw new Error('broken');
        },
        onWrite() {
          throw Object.assign(new Error('busy'), { errno: -16, code: 'EBUSY', syscall: 'ring' });
        },
      },
      {
        offset: 4,
        kind: 'rc',
        value: 3,
        onRead: () => Promise.resolve(1) as never,
        onWrite: () => Promise.reject(new Error('no')) as never,
      },
      { offset: 8, onRead: () => 'five' as never },
    ]);
    const list: Access[] = [
      ['checked', 0, 4],
      ['checked', 0, 4, '5'],
      ['checked', 4, 4],
      ['checked', 4, 4, '1'],
      ['checked', 8, 4],
    ];
    const codes = ['ERR_DEVICE_OP_FAILED', 'EBUSY', 'ERR_DEVICE_OP_FAILED', 'ERR_DEVICE_OP_FAILED', 'ERR_DEVICE_OP_FAILED'];
    expect(accesses(mapping, list)).toEqual(codes);
    expect(await byAnother(mapping, list)).toEqual(codes);
    expect([model.get(0), model.get(4)]).toEqual([5, 3]);
    const messages = [0, 4, 8].map((offset) => thrownBy(() => mapping.read32(offset)).message);
    expect(messages).toEqual([
      'card: readRegister: broken',
      'card: readRegister: must not be asynchronous',
      "card: readRegister: answered 'five', not an integer or a bigint",
    ]);
    expect(thrownBy(() => mapping.read32(0))).toBeInstanceOf(DeviceOpError);
  });

  test('waits for at most opTimeout', async () => {
    const busy = (): void => {
      for (
        const end = performance.now() + 2000; // the other thread's time is up long before, also where it gets few turns
        performance.now() < end;
      );
    };
    const { mapping } = card([{ offset: 0, onRead: busy }], 300);
    expect(await byAnother(mapping, [['checked', 0, 4]])).toEqual(['ERR_DEVICE_OP_TIMEOUT']);
  });

  test('of a device in a worker of its own: the user of a spawned device', async () => {
    const device = await Device.spawn(CARD);
    devices.push(device);
    const mapping = device.open().map();
    mapping.write32(0, 21);
    expect([mapping.read32(4), mapping.read32(8), mapping.read32(8)]).toEqual([42, 1, 2]);
    if (process.arch !== 'x64') return;
    const words = new Uint32Array(mapping.buffer as ArrayBuffer, 0, 1024);
    words[0] = 4;
    expect([Atomics.load(words, 1), Atomics.load(words, 2)]).toEqual([8, 3]);
    mapping.check();
  });

  test.each([
    ['unplug', 'ERR_MAPPING_REVOKED'],
    ['suspend', 'ERR_MAPPING_SUSPENDED'],
  ] as const)('has an error where the callback calls %s()', async (how, code) => {
    let called: Promise<unknown> | undefined;
    const made = card([{ offset: 0, onWrite: () => void (called = made.device[how]()) }]);
    const [written] = await byAnother(made.mapping, [['checked', 0, 4, '1']]);
    expect(how === 'unplug' ? [code] : ['', code]).toContain(written); // a suspension takes its time
    await called;
    expect(thrownBy(() => made.mapping.read32(0)).code).toBe(code);
    expect(thrownBy(() => made.mapping.write32(0, 1)).code).toBe(code);
    expect(made.model.get(0)).toBe(1);
  });
});

describe('a trace', () => {
  test('has the accesses in the order in which they were answered, those within a callback before it', async () => {
    const made = card([
      { offset: 0, value: 1, onRead: () => 5 },
      {
        offset: 4,
        onWrite(value) {
          made.mapping.write32(8, 2);
          if (value === 3) throw new Error('no');
        },
      },
      { offset: 8 },
    ]);
    const { device, mapping } = made;
    const trace = device.trace();
    mapping.read32(0);
    mapping.write32(4, 1);
    mapping.read32(8);
    expect(thrownBy(() => mapping.write32(4, 3)).code).toBe('ERR_DEVICE_OP_FAILED');
    await byAnother(mapping, [['checked', 0, 4]]);
    trace.stop();
    const lines: string[] = [];
    for await (const line of trace.lines()) lines.push(line);
    expect(lines).toEqual([
      'R 4 bar+0x0000 0x00000005',
      'W 4 bar+0x0008 0x00000002',
      'W 4 bar+0x0004 0x00000001',
      'R 4 bar+0x0008 0x00000002',
      'W 4 bar+0x0008 0x00000002',
      'W 4 bar+0x0004 0x00000003 failed',
      'R 4 bar+0x0000 0x00000005',
    ]);
  });
});

describeTrapped('a raw access', () => {
  test('of another thread waits for the callback; a read-modify-write is one turn', async () => {
    const calls: string[] = [];
    const { device, model, mapping } = card([
      {
        offset: 0,
        value: 10,
        onRead: (value) => void calls.push(`R ${String(value)}`),
        onWrite: (value) => void calls.push(`W ${String(value)}`),
      },
      { offset: 4, value: 20, onWrite: (value) => void calls.push(`W ${String(value)}`) },
      { offset: 8, value: 30 },
    ]);
    const trace = device.trace();
    const result = await crew[0].run(mapping, (there) => {
      const words = new Uint32Array(there.buffer as ArrayBuffer, there.bytes.byteOffset, 1024);
      const old = [Atomics.exchange(words, 0, 11), Atomics.exchange(words, 1, 21), Atomics.exchange(words, 2, 31)];
      there.check();
      return old;
    });
    expect(result).toEqual([10, 20, 30]);
    expect([model.get(0), model.get(4), model.get(8)]).toEqual([11, 21, 31]);
    expect(calls).toEqual(['R 10', 'W 11', 'W 21']);
    trace.stop();
    const seen: DeviceAccess[] = [];
    for await (const access of trace) seen.push(access);
    expect(seen.map(({ write, offset, raw, thread }) => [write, offset, raw, thread])).toEqual(
      [0, 4, 8].flatMap((offset) => [false, true].map((write) => [write, offset, true, crew[0].tid])),
    );
  });

  test('of vectors, pair by pair', async () => {
    const calls: string[] = [];
    const { mapping } = card([
      { offset: 0, width: 8, value: 1n },
      {
        offset: 8,
        width: 8,
        value: 2n,
        onRead: () => (calls.push('R'), 9n),
        onWrite: (value) => void calls.push(`W ${String(value)}`),
      },
    ]);
    const bytes = await crew[0].run(mapping, (there) => {
      const vector = new Float64Array(there.buffer as ArrayBuffer, there.bytes.byteOffset, 2);
      const read = [...new Uint8Array(vector.slice(0, 2).buffer)];
      vector.set(Float64Array.of(1, 2));
      there.check();
      return read;
    });
    expect([bytes[0], bytes[8]]).toEqual([1, 9]);
    expect(calls[0]).toBe('R');
    expect(calls.at(-1)).toBe(`W ${new BigUint64Array(Float64Array.of(2).buffer)[0]}`);
  });

  test('whose callback throws gets the fill; check() and an event say so', async () => {
    const { device, mapping } = card([
      {
        offset: 0,
        onRead() {
          throw new Error('broken');
        },
      },
    ]);
    const faults: DeviceFaultInfo[] = [];
    device.on('fault', (info) => faults.push(info));
    expect(await byAnother(mapping, [['raw', 0, 4]])).toEqual(['4294967295']);
    await until('the event is emitted', () => faults.length === 1);
    expect(faults).toMatchObject([{ op: 'readRegister', cause: 'failed', region: 0 }]);
    expect((faults[0].error as Error).message).toBe('card: readRegister: broken');
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_DEVICE_REGISTER_ACCESS', cause: 'failed' });
  });

  test("of the device's own thread cannot wait for itself: only that of a register with a callback", async () => {
    const { mapping } = card([
      { offset: 0, onRead: () => 5 },
      { offset: 4, value: 6 },
      { offset: 8, value: 7, onWrite: () => undefined },
    ]);
    const words = new Uint32Array(mapping.buffer as ArrayBuffer, 0, 1024);
    expect([Atomics.load(words, 1), Atomics.load(words, 2)]).toEqual([6, 7]);
    mapping.check();
    expect(Atomics.load(words, 0)).toBe(0xffff_ffff);
    expect(thrownBy(() => mapping.check()).code).toBe('ERR_DEVICE_SELF_FAULT');
    expect(mapping.read32(0)).toBe(5);
    mapping.check();
  });
});
