import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import {
  Device,
  RegisterFile,
  stats,
  type DeviceAccess,
  type DeviceBase,
  type DeviceFaultInfo,
  type DeviceMapOptions,
  type DeviceOps,
  type FaultInfo,
  type Mapping,
  type RegisterSpec,
} from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { describeTrapped } from '../support/conditions.js';
import { startCrew, type CrewMember } from '../support/crew.js';
import { temporaryDirectory, temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';
import { accessesOf, fixedMemory } from '../support/wasm.js';

const PAGE = 4096;
const MODEL = join(__dirname, '..', 'children', 'devices', 'register-model.cjs');

const devices: DeviceBase[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

interface Card {
  device: Device;
  model: RegisterFile;
  map: (options?: DeviceMapOptions) => Mapping;
}

/** A device of registers in native code. */
function card(registers: RegisterSpec[], size = PAGE): Card {
  const model = new RegisterFile(registers);
  const device = new Device({ name: 'card', regions: [{ name: 'bar', size, kind: 'registers', model }] });
  devices.push(device);
  const file = device.open();
  return { device, model, map: (options) => file.map(options) };
}

/** A device of registers in JavaScript, in this thread. */
function here(ops: DeviceOps, opTimeout = 20_000): { device: Device; map: Card['map'] } {
  const device = new Device({ name: 'card', opTimeout, regions: [{ name: 'bar', size: PAGE, kind: 'registers' }], ops });
  devices.push(device);
  const file = device.open();
  return { device, map: (options) => file.map(options) };
}

/** An instruction that is not understood: it accesses more than 64 bytes at once. */
function saving(): (at: bigint) => void {
  const made = library('void save(void* at) { __asm__ volatile("fxsave (%0)" :: "r"(at) : "memory"); }');
  return koffi.load(made).func('void save(uint64 at)') as (at: bigint) => void;
}

/** A library made of C. */
function library(source: string): string {
  const directory = temporaryDirectory();
  const path = join(directory, 'access.c');
  writeFileSync(path, `${source}\n`);
  execFileSync('cc', ['-shared', '-fPIC', '-o', join(directory, 'access.so'), path]);
  return join(directory, 'access.so');
}

interface Asked {
  write: boolean;
  offset: number;
  width: number;
  value: number | bigint;
}

/** A device of registers in JavaScript, in a thread of its own, and what its ops have been called for since this was last asked. */
async function elsewhere(data: object = {}): Promise<{
  device: DeviceBase;
  map: Card['map'];
  log: () => Promise<Asked[]>;
  ioctl: (command: number) => Promise<any>;
}> {
  const device = await Device.spawn(MODEL, { data });
  devices.push(device);
  const file = device.open();
  const ioctl = (command: number): Promise<any> => file.ioctl(command, undefined);
  return { device, map: (options) => file.map(options), log: async () => ((await ioctl(0)) as { log: Asked[] }).log, ioctl };
}

const words = (mapping: Mapping): Uint32Array => new Uint32Array(mapping.buffer as ArrayBuffer, 0, mapping.length >> 2);

function heardOf(mapping: Mapping): FaultInfo[] {
  const heard: FaultInfo[] = [];
  mapping.on('fault', (info) => heard.push(info));
  return heard;
}

/** How often the model has been reached, and what for. */
function recording(device: DeviceBase): () => Promise<string[]> {
  const trace = device.trace();
  return async () => {
    trace.stop();
    const lines: string[] = [];
    for await (const line of trace.lines()) lines.push(line);
    return lines;
  };
}

const refused = (): number => stats().devices.accessesRefused;

describeTrapped('raw views of registers', () => {
  test('loads and stores of every kind reach the model, and checked accesses see the same', async () => {
    const { device, model, map } = card([{ offset: 0, width: 8 }, { offset: 8 }]);
    const mapping = map();
    const lines = recording(device);
    mapping.view.setUint32(0, 0x11223344, true);
    mapping.bytes[3] = 0xff;
    expect(mapping.read32(0)).toBe(0xff223344);
    mapping.write32(4, 1);
    expect(model.get(0)).toBe(0x00000001_ff223344n);
    expect(Atomics.add(words(mapping), 2, 5)).toBe(0);
    expect(mapping.read32(8)).toBe(5);
    new Float64Array(mapping.buffer, 0, 1)[0] = 1.5;
    expect(new BigUint64Array(mapping.buffer, 0, 1)[0]).toBe(0x3ff80000_00000000n);
    expect(mapping.read64(0)).toBe(0x3ff80000_00000000n);
    mapping.check();
    expect((await lines()).filter((line) => line.startsWith('W'))).toContain('W 8 bar+0x0000 0x3ff8000000000000');
  });

  test('differ from checked ones in a trace by `raw`', async () => {
    const { device, map } = card([{ offset: 0 }]);
    const mapping = map();
    const trace = device.trace();
    mapping.read32(0);
    Atomics.load(words(mapping), 0);
    trace.stop();
    const seen: DeviceAccess[] = [];
    for await (const access of trace) seen.push(access);
    expect(seen.map(({ raw, thread }) => [raw, thread])).toEqual([
      [false, process.pid],
      [true, process.pid],
    ]);
  });

  test('have side effects once: counters count, and what is cleared by reading is read once', () => {
    const { model, map } = card([
      { offset: 0, kind: 'counter' },
      { offset: 4, kind: 'rc', value: 7 },
      { offset: 8, kind: 'w1c', value: 0xff },
      { offset: 12, kind: 'w1s', value: 0x0f },
      { offset: 16, kind: 'ro', value: 0x1ed },
    ]);
    const registers = words(map());
    for (let i = 0; i < 1000; i++) expect(Atomics.load(registers, 0)).toBe(i);
    expect([Atomics.load(registers, 1), Atomics.load(registers, 1)]).toEqual([7, 0]);
    registers[2] = 0x0f;
    registers[3] = 0xf0;
    registers[4] = 1;
    expect([8, 12, 16].map((offset) => model.get(offset))).toEqual([0xf0, 0xff, 0x1ed]);
  });

  test('two mappings of the same registers, and a mapping of a later part of them, reach one model', async () => {
    const { device, model, map } = card(
      Array.from({ length: 3 }, (_, i) => ({ offset: i * PAGE + 8 })),
      3 * PAGE,
    );
    const [one, two, later] = [map(), map(), map({ offset: 2 * PAGE, length: PAGE })];
    const lines = recording(device);
    words(one)[2] = 1;
    words(two)[2] |= 2;
    words(later)[2] = 4;
    later.view.setFloat32(8, 1, true);
    expect(words(one)[(2 * PAGE + 8) >> 2]).toBe(0x3f800000);
    expect([model.get(8), model.get(2 * PAGE + 8)]).toEqual([3, 0x3f800000]);
    for (const line of (await lines()).slice(3)) expect(line).toMatch(/^[RW] . bar\+0x200[89ab]/);
    one.close();
    words(two)[2] = 5;
    expect(model.get(8)).toBe(5);
  });

  test('a copy whose other buffer is a raw view of registers is EFAULT, as a system call’s, and the registers stay', async () => {
    const run = await runInChild(async ({ Device, MemoryObject, RegisterFile }) => {
      const model = new RegisterFile([{ offset: 4, value: 0x1234 }]);
      const device = new Device({ name: 'card', regions: [{ size: 4096, kind: 'registers', model }] });
      const registers = device.open().map();
      const mapping = MemoryObject.create({ size: 4096 }).map();
      const outcomes = [];
      for (const method of ['read', 'write', 'readAsync', 'writeAsync'] as const) {
        try {
          outcomes.push(await mapping[method](0, registers.bytes.subarray(4, 300)));
        } catch (error) {
          const { code, bytesTransferred } = error as { code: string; bytesTransferred: number };
          outcomes.push([code, bytesTransferred]);
        }
      }
      return { outcomes, state: registers.state, value: registers.read32(4) };
    });
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
    expect(run.value).toEqual({ outcomes: Array(4).fill(['EFAULT', 0]), state: 'live', value: 0x1234 });
  });

  test('two pages: an access that spans them is delivered, one that leaves the registers is refused', async () => {
    const { model, map } = card(
      [
        { offset: PAGE - 8, width: 8 },
        { offset: PAGE, width: 8 },
      ],
      2 * PAGE,
    );
    const mapping = map({ fill: 'ones' });
    const heard = heardOf(mapping);
    // One instruction where the code is optimised.
    const write = (view: DataView, at: number, value: number): void => view.setUint32(at, value, true);
    const warm = new DataView(new SharedArrayBuffer(PAGE));
    for (let i = 0; i < 50_000; i++) write(warm, i % 4000, i + 0x8000_0000);
    write(mapping.view, PAGE - 2, 0x11223344);
    expect([model.get(PAGE - 8), model.get(PAGE)]).toEqual([0x33440000_00000000n, 0x1122n]);
    expect(heard).toEqual([]);
    mapping.check();
  });

  test('fills of every few bytes reach ops in another thread, each byte of them and no other', async () => {
    const { map, log } = await elsewhere();
    const memory = fixedMemory();
    const mapping = map({ memory, memoryOffset: 65_536 });
    const { fill } = accessesOf(memory);
    for (let bytes = 0; bytes <= 70; bytes++) {
      fill(65_536 + 64 + (bytes % 9), 0x5a, bytes);
      const asked = await log();
      const touched = new Set<number>();
      for (const { write, offset, width, value } of asked) {
        expect([write, offset % width, BigInt(value)]).toEqual([true, 0, 0x5a5a5a5a_5a5a5a5an >> BigInt(64 - 8 * width)]);
        for (let i = 0; i < width; i++) touched.add(offset + i);
      }
      expect([...touched].sort((x, y) => x - y)).toEqual(Array.from({ length: bytes }, (_, i) => 64 + (bytes % 9) + i));
    }
    mapping.check();
  });

  test('an access that begins before the registers, or ends behind them, is refused, and reported where it is theirs', async () => {
    const { map } = card([{ offset: 0 }, { offset: PAGE - 4 }]);
    const memory = fixedMemory();
    const mapping = map({ memory, memoryOffset: 65_536, fill: 'ones' });
    const heard = heardOf(mapping);
    const { load64, store64 } = accessesOf(memory);
    const ends = [
      { address: 65_536 - 4, offset: 0 },
      { address: 65_536 + PAGE - 4, offset: PAGE - 4 },
    ];
    for (const { address, offset } of ends) {
      store64(address, 1n);
      expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_DEVICE_REGISTER_ACCESS', cause: 'refused', offset });
      expect(load64(address)).toBe(-1n);
      expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_DEVICE_REGISTER_ACCESS', cause: 'refused', offset });
    }
    await until('the events have come', () => heard.length === 4);
    expect(heard.map(({ write, offset }) => ({ write, offset }))).toEqual(
      ends.flatMap(({ offset }) => [true, false].map((write) => ({ write, offset }))),
    );
    mapping.check();
  });

  test('a region that is no multiple of the page: behind its end accesses are refused, and read the fill', async () => {
    const { device, map } = card([{ offset: 96 }, { offset: 100 }], 104);
    const memory = fixedMemory();
    const mapping = map({ memory, memoryOffset: 65_536, fill: 'ones' });
    const heard = heardOf(mapping);
    const lines = recording(device);
    const before = refused();
    const { load8, load32, store32, add32, load64 } = accessesOf(memory);
    store32(65_536 + 100, 7);
    expect([load32(65_536 + 100), load8(65_536 + 103)]).toEqual([7, 0]);
    expect([load8(65_536 + 104), load32(65_536 + 4000), load32(65_536 + 101)]).toEqual([-1 & 0xff, -1, -1]);
    expect(load64(65_536 + 97)).toBe(-1n);
    store32(65_536 + 104, 1);
    store32(65_536 + 102, 1); // in part
    expect(add32(65_536 + 200, 1)).toBe(-1);
    expect(new Float64Array(memory.buffer, 65_536 + 112, 1)[0]).toBeNaN();
    expect(refused() - before).toBe(8);
    expect(thrownBy(() => mapping.check())).toMatchObject({
      code: 'ERR_DEVICE_REGISTER_ACCESS',
      cause: 'refused',
      offset: 112,
    });
    mapping.check(); // check() has reported it
    expect(load32(65_536 + 100)).toBe(7);
    await until('the events have come', () => heard.length === 8);
    expect(heard[0]).toEqual({ kind: 'refused', cause: 'refused', write: false, offset: 104 });
    expect(heard[4]).toEqual({ kind: 'refused', cause: 'refused', write: true, offset: 104 });
    expect(await lines()).toEqual([
      'W 4 bar+0x0064 0x00000007',
      'R 4 bar+0x0064 0x00000007',
      'R 1 bar+0x0067 0x00',
      'R 4 bar+0x0064 0x00000007',
    ]);
    expect(mapping.state).toBe('live');
  });

  test('an instruction that cannot be delivered reads the fill, and the accesses after it are delivered again', async () => {
    const save = saving();
    const { model, map } = card([{ offset: 0, value: 5 }]);
    const mapping = map({ fill: 'ones' });
    const heard = heardOf(mapping);
    const before = refused();
    save(BigInt(mapping.address));
    // More than once where this thread was kept from repeating it until the page was back.
    expect(refused() - before).toBeGreaterThan(0);
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_DEVICE_REGISTER_ACCESS', cause: 'refused' });
    // From here on: what check() has reported is over.
    expect([mapping.read32(0), model.get(0)]).toEqual([5, 5]);
    expect(Atomics.load(words(mapping), 0)).toBe(5);
    words(mapping)[0] = 6;
    expect(model.get(0)).toBe(6);
    mapping.check();
    await until('the event has come', () => heard.length > 0);
    for (const event of heard) expect(event).toMatchObject({ kind: 'refused', write: true });
  });

  test('a fill that is read because of it is never followed by a check() that says all was real', () => {
    const save = saving();
    const { map } = card([{ offset: 1024, value: 5 }]);
    const mapping = map({ fill: 'ones' });
    const registers = words(mapping);
    let fills = 0;
    for (let round = 0; round < 200; ++round) {
      save(BigInt(mapping.address));
      const value = Atomics.load(registers, 256);
      expect(thrownBy(() => mapping.check())).toMatchObject({ cause: 'refused' });
      if (value === 0xffff_ffff) ++fills;
      else expect(value).toBe(5);
      // And once it has been reported, nothing but the truth is read.
      expect(Atomics.load(registers, 256)).toBe(5);
      mapping.check();
    }
    expect(fills).toBeGreaterThan(0);
  });

  test('given to a system call they are EFAULT, and nothing is read', async () => {
    const { device, map } = card([{ offset: 0, kind: 'rc', value: 5 }]);
    const mapping = map();
    const lines = recording(device);
    const fd = openSync(temporaryFile(0), 'r+');
    expect(thrownBy(() => writeSync(fd, mapping.bytes))).toMatchObject({ code: 'EFAULT', syscall: 'write' });
    closeSync(fd);
    const zeros = openSync('/dev/zero', 'r');
    expect(thrownBy(() => readSync(zeros, mapping.bytes, 0, 4, null))).toMatchObject({ code: 'EFAULT', syscall: 'read' });
    closeSync(zeros);
    expect(await lines()).toEqual([]);
    expect(Atomics.load(words(mapping), 0)).toBe(5);
    mapping.check();
  });
});

describeTrapped('raw views of registers that are protected', () => {
  test("mapped 'r': a write does not reach the model, and is an event", async () => {
    const { device, model, map } = card([
      { offset: 0, value: 1 },
      { offset: 8, width: 8 },
    ]);
    const mapping = map({ access: 'r', fill: 'ones' });
    const heard = heardOf(mapping);
    const lines = recording(device);
    words(mapping)[0] = 9;
    new Float64Array(mapping.buffer, 8, 1)[0] = 9;
    expect(Atomics.add(words(mapping), 0, 1)).toBe(1); // the read is delivered
    expect(Atomics.compareExchange(words(mapping), 0, 1, 5)).toBe(1);
    Atomics.store(mapping.bytes, 1, 9);
    expect([model.get(0), model.get(8)]).toEqual([1, 0n]);
    expect(new Set(await lines())).toEqual(new Set(['R 4 bar+0x0000 0x00000001', 'R 1 bar+0x0001 0x00']));
    await until('the events have come', () => heard.length === 5);
    expect(heard).toEqual([0, 8, 0, 0, 1].map((offset) => ({ kind: 'protection', cause: 'none', write: true, offset })));
    mapping.check();
    expect([words(mapping)[0], mapping.read32(0)]).toEqual([1, 1]);
    expect(thrownBy(() => mapping.write32(0, 2))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
  });

  test("protect(): 'none' and 'r' are for raw and for checked accesses, and can be taken back", async () => {
    const { device, model, map } = card(
      [0, PAGE, 2 * PAGE].map((offset) => ({ offset, value: 1 })),
      3 * PAGE,
    );
    const mapping = map({ fill: 'ones' });
    const other = map();
    const heard = heardOf(mapping);
    mapping.protect({ offset: PAGE, length: PAGE, access: 'none' });
    mapping.protect({ offset: 2 * PAGE, length: PAGE, access: 'r' });
    const lines = recording(device);
    const at = (page: number): number => (page * PAGE) >> 2;
    expect([0, 1, 2].map((page) => words(mapping)[at(page)])).toEqual([1, 0xffffffff, 1]);
    for (const page of [0, 1, 2]) words(mapping)[at(page)] = 7;
    expect([0, 1, 2].map((page) => model.get(page * PAGE))).toEqual([7, 1, 1]);
    expect([0, 1, 2].map((page) => words(other)[at(page)])).toEqual([7, 1, 1]);
    await until('the events have come', () => heard.length === 3);
    expect(heard.map(({ kind, write, offset }) => [kind, write, offset])).toEqual([
      ['protection', false, PAGE],
      ['protection', true, PAGE],
      ['protection', true, 2 * PAGE],
    ]);
    expect(thrownBy(() => mapping.read32(PAGE))).toMatchObject({ code: 'ERR_MAPPING_PROTECTED', offset: PAGE });
    expect(thrownBy(() => mapping.write32(PAGE, 1))).toMatchObject({ code: 'ERR_MAPPING_PROTECTED', offset: PAGE });
    expect(mapping.read32(2 * PAGE)).toBe(1);
    expect(thrownBy(() => mapping.write32(2 * PAGE, 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
    expect(thrownBy(() => mapping.read(PAGE - 4, new Uint8Array(8)))).toMatchObject({
      code: 'ERR_MAPPING_PROTECTED',
      bytesTransferred: 4,
    });
    mapping.protect({ offset: 0, length: 3 * PAGE, access: 'rw' });
    for (const page of [0, 1, 2]) words(mapping)[at(page)] = 8;
    expect([0, 1, 2].map((page) => mapping.read32(page * PAGE))).toEqual([8, 8, 8]);
    expect((await lines()).filter((line) => line.startsWith('W'))).toHaveLength(4);
  });

  test.each([
    ['read', 'byte'],
    ['written', 'byte'],
    ['read', 'float'],
    ['written', 'float'],
  ])("fill: 'signal': revoked registers that are %s kill (%s)", async (access, what) => {
    const { signal, status, stdout } = await runInChild(
      async (lib, _require, { access, what }) => {
        const model = new lib.RegisterFile([{ offset: 0, width: 8 }]);
        const device = new lib.Device({ name: 'card', regions: [{ size: 4096, kind: 'registers', model }] });
        const mapping = device.open().map({ fill: 'signal' });
        const array = what === 'byte' ? mapping.bytes : new Float64Array(mapping.buffer, 0, 1);
        array[0] = 1;
        console.log(array[0]);
        await device.unplug();
        if (access === 'read') console.log(array[0]);
        else array[0] = 1;
        console.log('went on');
      },
      { input: { access, what } },
    );
    expect({ status, stdout }).toEqual({ status: null, stdout: '1\n' });
    expect(['SIGBUS', 'SIGSEGV']).toContain(signal);
  });

  test("fill: 'signal': an access behind the end, and one that is not permitted, kill", async () => {
    for (const what of ['behind', 'read only']) {
      const { signal, status, stdout } = await runInChild(
        (lib, _require, what) => {
          const model = new lib.RegisterFile([{ offset: 0 }]);
          const device = new lib.Device({ name: 'card', regions: [{ size: 100, kind: 'registers', model }] });
          const access = what === 'behind' ? 'rw' : 'r';
          const memory = new (globalThis as any).WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
          device.open().map({ fill: 'signal', access, memory, memoryOffset: 65_536 });
          const bytes = new Uint8Array(memory.buffer, 65_536, 4096);
          console.log(bytes[0]);
          bytes[what === 'behind' ? 100 : 0] = 1;
          console.log('went on');
        },
        { input: what },
      );
      expect({ what, status, stdout }).toEqual({ what, status: null, stdout: '0\n' });
      expect(['SIGBUS', 'SIGSEGV']).toContain(signal);
    }
  });
});

describeTrapped('raw accesses that a model in JavaScript answers', () => {
  let crew: CrewMember[];
  beforeAll(async () => {
    crew = await startCrew(3);
  });
  afterAll(async () => {
    await Promise.all(crew.map((member) => member.end()));
  });

  test('from the main thread: each calls the op once, with its offset, width and value', async () => {
    const { map, log } = await elsewhere();
    const mapping = map();
    mapping.bytes[1] = 0xab;
    new Uint16Array(mapping.buffer, 2, 1)[0] = 0xabcd;
    words(mapping)[1] = 0x89abcdef;
    new BigUint64Array(mapping.buffer, 8, 1)[0] = 0x0123456789abcdefn;
    new Float64Array(mapping.buffer, 16, 1)[0] = -2.5;
    expect(Atomics.load(words(mapping), 1)).toBe(0x89abcdef);
    expect(new Float64Array(mapping.buffer, 16, 1)[0]).toBe(-2.5);
    expect(Atomics.exchange(words(mapping), 1, 5)).toBe(0x89abcdef);
    expect(Atomics.compareExchange(words(mapping), 1, 6, 7)).toBe(5);
    const asked = (await log()).map(({ write, offset, width, value }) => [write ? 'W' : 'R', offset, width, value]);
    expect(asked).toEqual([
      ['W', 1, 1, 0xab],
      ['W', 2, 2, 0xabcd],
      ['W', 4, 4, 0x89abcdef],
      ['W', 8, 8, 0x0123456789abcdefn],
      ['W', 16, 8, 0xc0040000_00000000n],
      ['R', 4, 4, 0x89abcdef],
      ['R', 16, 8, 0xc0040000_00000000n],
      ['R', 4, 4, 0x89abcdef],
      ['W', 4, 4, 5],
      ['R', 4, 4, 5],
    ]);
    mapping.check();
  });

  test('from four threads: each once, in the order of its thread, and a read-modify-write is indivisible', async () => {
    const { device, map, log } = await elsewhere();
    const mapping = map();
    const trace = device.trace();
    const rounds = 300;
    const work = (mapping: Mapping, { own, rounds }: { own: number; rounds: number }): boolean => {
      const registers = new Uint32Array(mapping.buffer as ArrayBuffer, 0, 1024);
      const floats = new Float64Array(mapping.buffer as ArrayBuffer, 0, 512);
      // Each access is spelled so that it is one: V8 may make a plain load twice, or not at all.
      const wide = new BigUint64Array(mapping.buffer as ArrayBuffer, 0, 512);
      const bits = new BigUint64Array(1);
      const float = new Float64Array(bits.buffer);
      let right = true;
      for (let i = 1; i <= rounds; i++) {
        Atomics.add(registers, 0, 1);
        registers[own / 4] = i;
        right = Atomics.load(registers, own / 4) === i && right;
        floats[own / 8 + 1] = float[0] = i + 0.5;
        right = Atomics.load(wide, own / 8 + 1) === bits[0] && right;
        Atomics.sub(registers, 1, 3);
      }
      mapping.check();
      return right;
    };
    const others = crew.map((member, i) => member.run(mapping, work, { own: 64 * (i + 2), rounds }));
    await until('the others are at work', () => Atomics.load(words(mapping), 0) > 0);
    expect(work(mapping, { own: 64, rounds })).toBe(true);
    expect(await Promise.all(others)).toEqual([true, true, true]);
    expect([mapping.read32(0), mapping.read32(4)]).toEqual([4 * rounds, 2 ** 32 - 12 * rounds]);
    trace.stop();
    const seen: DeviceAccess[] = [];
    for await (const access of trace) seen.push(access);
    const asked = await log();
    expect(asked.map(({ write, offset, value }) => ({ write, offset, value }))).toEqual(
      seen.map(({ write, offset, value }) => ({ write, offset, value })),
    );
    for (const [i, tid] of [process.pid, ...crew.map((member) => member.tid)].entries()) {
      const own = seen.filter(({ thread, offset }) => thread === tid && offset >= 64 * (i + 1) && offset < 64 * (i + 2));
      const expected = [];
      for (let k = 1; k <= rounds; k++) expected.push(`W${k}`, `R${k}`, `W${k + 0.5}`, `R${k + 0.5}`);
      const bits = (value: bigint): number => new Float64Array(new BigUint64Array([value]).buffer)[0];
      expect(own.map(({ write, value }) => `${write ? 'W' : 'R'}${typeof value === 'bigint' ? bits(value) : value}`)).toEqual(
        expected,
      );
    }
    // Every write of a shared register comes right after the read that it is made of.
    for (const [i, access] of seen.entries()) {
      if (!access.write || access.offset >= 8) continue;
      const { thread, offset, value } = seen[i - 1];
      expect([thread, offset, (Number(value) + (offset === 0 ? 1 : -3)) >>> 0]).toEqual([access.thread, offset, access.value]);
    }
  });

  test.each(['is removed', 'is too slow'])('a read-modify-write whose device %s at its read is not written', async (how) => {
    const written: number[] = [];
    const over = new Int32Array(new SharedArrayBuffer(4));
    const { device, map } = here(
      {
        readRegister: () => {
          if (how === 'is removed') void device.unplug();
          else for (const end = Date.now() + 60_000; Atomics.load(over, 0) === 0 && Date.now() < end;);
          return 5;
        },
        writeRegister: (offset) => void written.push(offset),
      },
      how === 'is removed' ? 20_000 : 300,
    );
    const mapping = map({ fill: 'ones' });
    const exchange = (mapping: Mapping, over: Int32Array): number => {
      const old = Atomics.exchange(new Uint32Array(mapping.buffer as ArrayBuffer, 0, 1), 0, 1);
      Atomics.store(over, 0, 1);
      return old;
    };
    expect(await crew[0].run(mapping, exchange, over)).toBe(0xffff_ffff);
    await device.unplug();
    expect({ written, reads: device.opCounts.readRegister }).toEqual({ written: [], reads: 1 });
  });

  test.each([
    [0xe00, 'broken'],
    [0xe08, 'EINVAL'],
  ])('an op that throws (%i): the fill, an event, and check() says why', async (offset, message) => {
    for (const how of ['spawned', 'other thread'] as const) {
      const thrown = (): never => {
        throw message === 'broken' ? new Error('broken') : Object.assign(new Error(message), { code: message, errno: -22 });
      };
      const { device, map } = how === 'spawned' ? await elsewhere() : here({ readRegister: thrown, writeRegister: thrown });
      const mapping = map({ fill: 'ones' });
      const heard = heardOf(mapping);
      const faults: DeviceFaultInfo[] = [];
      device.on('fault', (info) => faults.push(info));
      const touch = (mapping: Mapping, offset: number): [number, number] => {
        const registers = new Uint32Array(mapping.buffer as ArrayBuffer, 0, 1024);
        const read = Atomics.load(registers, offset / 4);
        registers[offset / 4] = 1;
        return [read, new Float32Array(mapping.buffer as ArrayBuffer, offset, 1)[0]];
      };
      expect(await crew[0].run(mapping, touch, offset)).toEqual([0xffffffff, NaN]);
      await until('the events have come', () => heard.length === 3 && faults.length === 3);
      expect(heard.map(({ kind, cause, write, offset }) => [kind, cause, write, offset])).toEqual(
        [false, true, false].map((write) => ['backing', 'failed', write, offset]),
      );
      expect(faults.map(({ op, cause, region }) => [op, cause, region])).toEqual(
        ['readRegister', 'writeRegister', 'readRegister'].map((op) => [op, 'failed', 0]),
      );
      expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_DEVICE_REGISTER_ACCESS', cause: 'failed', offset });
      mapping.check();
      expect([mapping.state, mapping.faults]).toEqual(['live', 3]);
    }
  });

  test.each([
    ['throws', 20_000, 'failed'],
    ['is too slow', 50, 'no-answer'],
  ])('a write op that %s, of a register that can be read: a loop of load and exchange ends', async (how, opTimeout, cause) => {
    const { device, map } = here(
      {
        readRegister: () => 5,
        writeRegister() {
          if (how === 'throws') throw new Error('broken');
          for (const end = Date.now() + 4 * opTimeout; Date.now() < end;);
        },
      },
      opTimeout,
    );
    device.on('fault', () => undefined);
    const mapping = map({ fill: 'ones' });
    for (const name of ['or', 'add', 'and', 'xor', 'sub'] as const) {
      const modify = (mapping: Mapping, name: 'or' | 'add' | 'and' | 'xor' | 'sub'): number =>
        Atomics[name](new Uint32Array(mapping.buffer as ArrayBuffer, 0, 1024), 4, 8);
      // What it read, by the instruction that loads; or the fill, where there is one instruction only.
      expect([5, 0xffffffff]).toContain(await crew[0].run(mapping, modify, name));
      await until('the failure is known', () => {
        try {
          mapping.check();
          return false;
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_DEVICE_REGISTER_ACCESS', cause, offset: 16 });
          return true;
        }
      });
    }
  });

  test("an op that is too slow: the fill after opTimeout, and 'no-answer'", async () => {
    // Long enough for every other access, by whichever thread of a machine that has much else to do.
    const opTimeout = 2000;
    const released = new Int32Array(new SharedArrayBuffer(4));
    const { map, device } = await elsewhere({ opTimeout, released });
    device.on('fault', () => undefined);
    const mapping = map({ fill: 'ones' });
    const heard = heardOf(mapping);
    mapping.bytes[0xe11] = 0xba; // what the op will answer, too late
    words(mapping)[0x40 / 4] = 77;
    mapping.check();
    const begun = performance.now();
    expect(Atomics.load(words(mapping), 0xe10 / 4)).toBe(0xffffffff);
    expect(performance.now() - begun).toBeGreaterThanOrEqual(opTimeout - 1);
    expect(thrownBy(() => mapping.check())).toMatchObject({ cause: 'no-answer', offset: 0xe10 });
    await until('the event has come', () => heard.length > 0);
    expect(heard).toEqual([{ kind: 'backing', cause: 'no-answer', write: false, offset: 0xe10 }]);
    // Its late answer is discarded, and the next access has its own.
    Atomics.store(released, 0, 1);
    Atomics.notify(released, 0);
    expect(Atomics.load(words(mapping), 0x40 / 4)).toBe(77);
    words(mapping)[0x40 / 4] = 78;
    expect(Atomics.load(words(mapping), 0x40 / 4)).toBe(78);
    mapping.check();
  });

  test('by the very thread that would answer: the fill at once, an event, and check() throws SelfFaultError', async () => {
    const { device, map } = here({ readRegister: () => 5, writeRegister: () => undefined });
    const mapping = map({ fill: 'ones' });
    const heard = heardOf(mapping);
    const before = stats().devices.selfFaults;
    expect(Atomics.load(words(mapping), 4)).toBe(0xffffffff);
    words(mapping)[1] = 1;
    expect(new Float64Array(mapping.buffer, 8, 1)[0]).toBeNaN();
    expect([stats().devices.selfFaults - before, device.opCounts.readRegister, device.opCounts.writeRegister]).toEqual([3, 0, 0]);
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_DEVICE_SELF_FAULT' });
    mapping.check();
    expect(mapping.read32(16)).toBe(5);
    await until('the events have come', () => heard.length === 3);
    expect(heard.map(({ kind, cause, write, offset }) => [kind, cause, write, offset])).toEqual([
      ['self', 'none', false, 16],
      ['self', 'none', true, 4],
      ['self', 'none', false, 8],
    ]);
    // Others are answered.
    const others = crew[0].run(mapping, (mapping) => mapping.view.getUint8(0));
    expect(await others).toBe(5);
    mapping.check();
  });

  test('an op that touches registers of its own device raw gets the fill, and answers', async () => {
    const { map, ioctl } = await elsewhere();
    expect(await ioctl(1)).toBeUndefined();
    expect(Atomics.load(words(map()), 0xe20 / 4)).toBe(0);
    expect(await ioctl(2)).toBe('ERR_DEVICE_SELF_FAULT');
  });

  test('from a WebAssembly program in another thread', async () => {
    const { map, log } = await elsewhere();
    const memory = fixedMemory();
    const mapping = map({ memory, memoryOffset: 65_536 });
    const { store32, load64, add32 } = accessesOf(memory);
    store32(65_536 + 8, 0x55);
    expect([load64(65_536 + 8), add32(65_536 + 8, 1)]).toEqual([0x55n, 0x55]);
    expect((await log()).map(({ write, width }) => `${write ? 'W' : 'R'}${width}`)).toEqual(['W4', 'R8', 'R4', 'W4']);
    mapping.check();
  });
});

describe('where raw accesses to registers cannot be delivered', () => {
  test('raw views throw, a WebAssembly memory is refused, and checked accesses go on', async () => {
    const { status, stderr, value } = await runInChild(
      (lib, require) => {
        const { RegisterFile, Device } = lib;
        const model = new RegisterFile([{ offset: 0, value: 5 }]);
        const errors = [];
        for (const region of [{ model }, {}]) {
          const device = new Device({
            name: 'card',
            regions: [{ name: 'bar', size: 4096, kind: 'registers', ...region }],
            ops: { readRegister: () => 5, writeRegister: () => undefined },
          });
          const mapping = device.open().map();
          const memory = new (globalThis as any).WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
          for (const body of [
            () => mapping.bytes,
            () => mapping.view,
            () => mapping.buffer,
            () => device.open().map({ memory, memoryOffset: 0 }),
          ]) {
            try {
              body();
              errors.push('nothing');
            } catch (error) {
              const { name, code, message } = error as Error & { code: string };
              errors.push([name, code, message].join(' '));
            }
          }
          mapping.write32(4, 1);
          errors.push(mapping.read32(0));
          mapping.check();
          void device.unplug();
        }
        void require;
        return errors;
      },
      { env: { REVOCABLE_MMAP_WITHOUT: 'register-traps' } },
    );
    const error =
      'RawRegistersError ERR_DEVICE_REGISTERS bar: registers have no raw views on this processor or in this process, ' +
      'use read8 … write64';
    const each = [error, error, error, error, 5];
    expect({ status, stderr, value }).toEqual({ status: 0, stderr: '', value: [...each, ...each] });
  });
});

describeTrapped('where no instruction can be run by itself', () => {
  test('accesses that need it are refused, and all others delivered', async () => {
    const input = library(
      'void widen(void* at) { __asm__ volatile("pmovsxbw (%0), %%xmm0" :: "r"(at) : "xmm0"); }\n' +
        'void move(void* at) { __asm__ volatile("movdqu (%0), %%xmm0" :: "r"(at) : "xmm0"); }',
    );
    const answers = async (environment: Record<string, string>): Promise<unknown> => {
      const { status, stderr, value } = await runInChild(
        (lib, require, path) => {
          const loaded = require('koffi').load(path);
          const model = new lib.RegisterFile([{ offset: 0, kind: 'counter' }]);
          const device = new lib.Device({ name: 'card', regions: [{ name: 'bar', size: 4096, kind: 'registers', model }] });
          const mapping = device.open().map();
          const seen = [];
          for (const name of ['move', 'widen', 'move', 'widen']) {
            loaded.func(`void ${name}(uint64 at)`)(mapping.address);
            try {
              mapping.check();
              seen.push(model.get(0));
            } catch (error) {
              seen.push(`${(error as Error & { code: string }).code} ${(error as Error).cause}`);
            }
          }
          seen.push(Atomics.load(new Uint32Array(mapping.buffer, 0, 1), 0), lib.stats().devices.accessesRefused);
          return seen;
        },
        { input, env: environment },
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      return value;
    };
    expect(await answers({})).toEqual([1, 2, 3, 4, 4, 0]);
    const refused = 'ERR_DEVICE_REGISTER_ACCESS refused';
    expect(await answers({ REVOCABLE_MMAP_WITHOUT: 'single-step' })).toEqual([1, refused, 2, refused, 2, 2]);
  });
});
