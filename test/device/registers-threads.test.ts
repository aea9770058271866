import { Device, RegisterFile, type DeviceAccess, type Mapping } from 'revocable-mmap';
import { describeTrapped } from '../support/conditions.js';
import { startCrew, type CrewMember } from '../support/crew.js';
import { catches } from '../support/signals.js';
import { INSTRUCTIONS_PROGRAM } from '../support/wasm-instructions.js';
import { fixedMemory } from '../support/wasm.js';

const PAGE = 4096;
const ROUNDS = 4000;
const [SUM, WIDE, BITS, COUNTER, TAKEN] = [0x00, 0x08, 0x10, 0x18, 0x20];

interface Work {
  /** Where its own registers are. */
  own: number;
  /** And those that it accesses only by instructions that are run for one step. */
  stepped: number;
  seed: number;
  rounds: number;
  program: Uint8Array;
}

interface Done {
  counted: number[];
  taken: number[];
  wrong: string[];
  /** The stepped accesses, as they must be in the trace. */
  steps: string[];
}

/** In each of the threads: shared registers by Atomics, its own by everything. */
function work(mapping: Mapping, { own, stepped, seed, rounds, program }: Work): Done {
  const { WebAssembly } = globalThis as any;
  const start = mapping.bytes.byteOffset;
  const buffer = mapping.buffer as ArrayBuffer;
  const shared = new Uint32Array(buffer, start, 16);
  const wide = new BigInt64Array(buffer, start, 8);
  const view = new DataView(buffer, start + own, 256);
  const [bytes, floats] = [new Uint8Array(buffer, start + own, 256), new Float64Array(buffer, start + own, 32)];
  const [words, singles] = [new Uint32Array(buffer, start + own, 64), new Float32Array(buffer, start + own, 64)];
  const { memory } = mapping as unknown as { memory?: object };
  const wasm =
    memory === undefined ? undefined : new WebAssembly.Instance(new WebAssembly.Module(program), { env: { memory } }).exports;
  const scratch = own / 4; // 64 bytes of the memory, which two threads have
  const shadow = new DataView(new ArrayBuffer(256));
  const done: Done = { counted: [], taken: [], wrong: [], steps: [] };
  const expect = (what: string, seen: unknown, right: unknown): void => {
    if (!Object.is(seen, right) && done.wrong.length < 5) done.wrong.push(`${what}: ${String(seen)}, not ${String(right)}`);
  };
  let state = seed;
  const random = (limit: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const kinds: ((i: number, value: number) => void)[] = [
    (i, value) => {
      bytes[i] = value;
      shadow.setUint8(i, value);
    },
    (i) => expect('byte', bytes[i], shadow.getUint8(i)),
    (i, value) => {
      floats[i >> 3] = value / 3;
      shadow.setFloat64(i & ~7, value / 3, true);
    },
    (i) => expect('double', floats[i >> 3], shadow.getFloat64(i & ~7, true)),
    (i, value) => {
      singles[i >> 2] = value / 3;
      shadow.setFloat32(i & ~3, value / 3, true);
    },
    (i) => expect('float', singles[i >> 2], shadow.getFloat32(i & ~3, true)),
    (i, value) => {
      expect('xor', Atomics.xor(words, i >> 2, value), shadow.getUint32(i & ~3, true));
      shadow.setUint32(i & ~3, shadow.getUint32(i & ~3, true) ^ value, true);
    },
    (i, value) => {
      const at = Math.min(i, 252);
      view.setInt32(at, value);
      shadow.setInt32(at, value);
    },
    (i, value) => {
      if (wasm === undefined) return;
      const at = Math.min(i, 240);
      wasm['f64.store'](start + own + at, value / 7);
      shadow.setFloat64(at, value / 7, true);
      wasm['v128.load'](start + own + at, scratch);
      const copy = new DataView((memory as { buffer: ArrayBuffer }).buffer, scratch, 16);
      for (let k = 0; k < 16; k += 4) expect('vector', copy.getInt32(k), shadow.getInt32(at + k));
    },
  ];
  // On x86-64 vpmovsxbw, which reads 8 bytes and extends each, and vpextrd.
  const vector = memory && new DataView((memory as { buffer: ArrayBuffer }).buffer, scratch, 16);
  const held = new DataView(new ArrayBuffer(256));
  const step = (i: number, value: number): void => {
    if (wasm === undefined || vector === undefined) return;
    if (value % 2 === 0) {
      const at = i & ~3;
      vector.setUint32(12, value, true);
      held.setUint32(at, value, true);
      wasm['v128.store32_lane'](start + stepped + at, scratch);
      done.steps.push(`W4 ${stepped + at} ${value}`);
    } else {
      const at = i & ~7;
      wasm['v128.load8x8_s'](start + stepped + at, scratch);
      for (let k = 0; k < 8; k++) expect('extended', vector.getInt16(2 * k, true), held.getInt8(at + k));
      done.steps.push(`R8 ${stepped + at} ${held.getBigUint64(at, true)}`);
    }
  };
  for (let round = 0; round < rounds; round++) {
    Atomics.add(shared, 0, 1);
    Atomics.sub(wide, 1, 3n);
    Atomics.xor(shared, 4, 1 << (own >> 8));
    done.counted.push(Atomics.load(shared, 6));
    const taken = Atomics.load(shared, 8);
    if (taken !== 0) done.taken.push(taken);
    kinds[random(kinds.length)](random(256), random(2 ** 31));
    step(random(256), random(2 ** 31));
  }
  mapping.check();
  return done;
}

describeTrapped('threads that access registers raw at the same time', () => {
  let crew: CrewMember[];
  beforeAll(async () => {
    crew = await startCrew(4);
  });
  afterAll(async () => {
    await Promise.all(crew.map((member) => member.end()));
  });

  test('no access of five is lost or doubled: sums, the numbers of a counter, what is cleared by reading, their own', async () => {
    const seed = Date.now() >>> 0;
    console.log(`seed ${seed}`);
    const [own, stepped] = [0x100, 0x500].map((first) => Array.from({ length: 4 }, (_, i) => first + 0x100 * i));
    const model = new RegisterFile([
      { offset: SUM },
      { offset: WIDE, width: 8 },
      { offset: BITS },
      { offset: COUNTER, kind: 'counter' },
      { offset: TAKEN, kind: 'rc' },
      ...[...own, ...stepped].flatMap((start) =>
        Array.from({ length: 32 }, (_, i) => ({ offset: start + 8 * i, width: 8 as const })),
      ),
    ]);
    const device = new Device({ name: 'busy', regions: [{ name: 'bar', size: PAGE, kind: 'registers', model }] });
    const file = device.open();
    const memory = fixedMemory();
    const [plain, inMemory] = [file.map(), file.map({ memory, memoryOffset: 65_536 })];
    const trace = device.trace({ capacity: 2 ** 20 });
    let busy = true;
    const works = Promise.all(
      crew.map((member, i) =>
        member.run(i >= 2 ? inMemory : plain, work, {
          own: own[i],
          stepped: stepped[i],
          seed: seed + i,
          rounds: ROUNDS,
          program: INSTRUCTIONS_PROGRAM,
        }),
      ),
    ).finally(() => (busy = false));
    let given = 0;
    while (busy) {
      if (model.get(TAKEN) === 0) model.set(TAKEN, ++given);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const dones = await works;
    expect(dones.flatMap(({ wrong }) => wrong)).toEqual([]);
    expect(model.get(SUM)).toBe(4 * ROUNDS);
    expect(model.get(WIDE)).toBe(BigInt.asUintN(64, BigInt(-3 * 4 * ROUNDS)));
    expect(model.get(BITS)).toBe(0);
    const counted = dones.flatMap((done) => done.counted).sort((a, b) => a - b);
    expect(counted.every((value, i) => value === i)).toBe(true);
    expect([counted.length, model.get(COUNTER)]).toEqual([4 * ROUNDS, 4 * ROUNDS]);
    for (const done of dones) expect(done.counted).toEqual([...done.counted].sort((a, b) => a - b));
    const taken = dones.flatMap((done) => done.taken).sort((a, b) => a - b);
    if (model.get(TAKEN) !== 0) taken.push(given);
    expect(taken).toEqual(Array.from({ length: given }, (_, i) => i + 1));
    expect(given).toBeGreaterThan(10);

    // The trace: in the order of the model, which is that of the counter.
    trace.stop();
    expect(trace.lost).toBe(0);
    let next = 0;
    const writes = new Map<number, number>();
    const steps = new Map<number, string[]>(crew.map(({ tid }) => [tid, []]));
    for await (const access of trace as AsyncIterable<DeviceAccess>) {
      if (access.offset === COUNTER) expect(access.value).toBe(next++);
      if (access.offset === SUM && access.write) writes.set(access.thread, (writes.get(access.thread) ?? 0) + 1);
      const { offset, thread, write, width, value } = access;
      if (offset >= stepped[0]) steps.get(thread)!.push(`${write ? 'W' : 'R'}${width} ${offset} ${value}`);
    }
    expect(crew.map(({ tid }) => steps.get(tid))).toEqual(dones.map((done) => done.steps));
    expect(dones.map((done) => done.steps.length)).toEqual([0, 0, ROUNDS, ROUNDS]);
    expect(catches('SIGTRAP')).toBe(true); // else none was made for a step
    expect(next).toBe(4 * ROUNDS);
    expect([...writes].sort(([a], [b]) => a - b)).toEqual(
      crew.map(({ tid }) => [tid, ROUNDS] as [number, number]).sort(([a], [b]) => a - b),
    );
    await device.unplug();
  });
});
