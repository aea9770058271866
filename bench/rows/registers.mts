import { Device, RegisterFile } from 'revocable-mmap/device';
import { cProgram } from '../baseline.mjs';
import { inProcess } from '../in_process.mjs';
import type { Case, Row, Side } from '../row.mjs';
import { side } from './access.mjs';

const WORDS = 5000;
/** Of the accesses that take a step, of which each takes as long as five others. */
const STEPS = 1000;

function registers(count = 1): Device {
  const regions = Array.from({ length: count }, (_, index) => {
    const model = new RegisterFile([{ offset: 0, width: 8, value: 0x4000_0000_0000_0007n }]);
    return { name: `bank${index}`, size: 4096, kind: 'registers' as const, model };
  });
  return new Device({ name: 'bench', regions });
}

type Buffers = SharedArrayBuffer | ArrayBuffer;
const VIEWS = {
  Uint32Array: (buffer: Buffers) => new Uint32Array(buffer, 0, 64),
  Float64Array: (buffer: Buffers) => new Float64Array(buffer, 0, 64),
};

/**
 * Raw loads of registers whose model is native code, by JavaScript that has been optimised. In turns, as of two plain loads of one word V8
 * may make one.
 */
function rawLoads(view: keyof typeof VIEWS, load: string): Side {
  const device = registers();
  const mapping = device.open().map();
  return side(load, VIEWS[view](mapping.buffer), () => void device.unplug(), WORDS);
}

/** Of one register of each of so many regions, in turns. */
function loadsOfRegions(count: number): Side {
  const device = registers(count);
  const file = device.open();
  const views = Array.from({ length: count }, (_, i) => VIEWS.Uint32Array(file.map({ region: `bank${i}` }).buffer));
  return side(`Atomics.load(from[i % ${count}], 0)`, views, () => void device.unplug(), WORDS);
}

interface Memory {
  grow(pages: number): number;
  readonly buffer: SharedArrayBuffer;
}

interface Namespace {
  Memory: new (limits: { initial: number; maximum: number; shared: boolean }) => Memory;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: unknown };
}
const wasm = (globalThis as unknown as { WebAssembly: Namespace }).WebAssembly;

// (func (export "sum") (param $count i32) (result i32) (local $sum i32) …): $count times, the second lane of
// i16x8.load8x8_s of the address 8 * ($count & 63) is added to $sum. On x86-64 that is vpmovsxbw, which loads and extends. Of one
// address V8 would load once for several rounds.
const WIDENING_LOADS = Uint8Array.from([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f],
  ...[2, 11, 1, 3, 0x65, 0x6e, 0x76, 1, 0x6d, 2, 3, 1, 1], // env.m, shared, of one page
  ...[3, 2, 1, 0],
  ...[7, 7, 1, 3, 0x73, 0x75, 0x6d, 0, 0],
  ...[10, 40, 1, 38, 1, 1, 0x7f],
  ...[0x03, 0x40],
  ...[0x20, 1, 0x20, 0, 0x41, 63, 0x71, 0x41, 3, 0x74, 0xfd, 1, 0, 0, 0xfd, 0x18, 1, 0x6a, 0x21, 1],
  ...[0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0],
  ...[0x0b, 0x20, 1, 0x0b],
]);

/** Loads of half a vector, which extend what they read, so that each is run for one step. */
function wideningLoads(): Side {
  const device = registers();
  const memory = new wasm.Memory({ initial: 1, maximum: 1, shared: true });
  device.open().map({ memory, memoryOffset: 0 });
  const instance = new wasm.Instance(new wasm.Module(WIDENING_LOADS), { env: { m: memory } });
  const { sum } = instance.exports as { sum: (count: number) => number };
  for (let i = 0; i < 20; i++) sum(STEPS); // until it is optimised
  return inProcess(
    STEPS,
    () => sum(STEPS),
    () => void device.unplug(),
  );
}

const emulated = (regions = 1): Side => cProgram('trap', ['emulated', regions]);

/** Neither side has an answer for another processor. */
function ofX64(item: Case): Case {
  return process.arch === 'x64' ? item : { ...item, unavailable: `no raw accesses to registers on ${process.arch}` };
}

export const rows: Row[] = [
  {
    id: 'register-raw',
    title: 'raw load of a register, answered by a model in C++',
    unit: 'ns',
    baselineName: 'C, the same signals and system calls',
    oneProcessor: true,
    target: { atMost: 1.3 },
    quickCases: 3,
    cases: [
      {
        label: 'Uint32Array: one signal',
        subject: () => rawLoads('Uint32Array', 'Atomics.load(from, i & 63)'),
        baseline: () => emulated(),
      },
      { label: 'Float64Array: one signal', subject: () => rawLoads('Float64Array', 'from[i & 63]'), baseline: () => emulated() },
      {
        label: 'WebAssembly i16x8.load8x8_s: two signals',
        subject: wideningLoads,
        baseline: () => cProgram('trap', ['stepped', 1]),
      },
    ].map(ofX64),
  },
  {
    id: 'register-raw-regions',
    title: 'raw load of a register, as regions grow',
    unit: 'ns',
    baselineName: 'C, the same signals',
    sizeName: 'regions of registers, read in turns',
    cases: [1, 10, 100, 1000].map((regions) =>
      ofX64({
        label: `${regions.toLocaleString('en')} of them`,
        size: regions,
        subject: () => loadsOfRegions(regions),
        baseline: () => emulated(regions),
      }),
    ),
  },
];
