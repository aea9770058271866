/** Every WebAssembly instruction that loads or stores, each as a function of its own. */
import { get, I32, I64, program, type WasmFunction } from './wasm.js';

export type ValueType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';

/**
 * `NAME(address, value)`. Of v128, `NAME(address, scratch)`: what is loaded, and what is stored, is in 16 bytes of the memory at
 * `scratch`; a `lane` replaces, or stores, the last lane of it.
 */
export interface Instruction {
  name: string;
  kind: 'load' | 'store' | 'rmw' | 'add' | 'equal' | 'multiply';
  type: ValueType;
  /** Bytes of memory. */
  width: number;
  signed: boolean;
  atomic: boolean;
  /** Of rmw: what it does to memory. */
  how?: (typeof RMW)[number];
  /** Of v128: how the bytes in memory and those in the vector correspond. */
  shape?: 'whole' | 'extend' | 'splat' | 'zero' | 'lane';
  /** Of shape 'extend': bytes of a lane in memory. */
  lane?: number;
}

const RMW = ['add', 'sub', 'and', 'or', 'xor', 'xchg', 'cmpxchg'] as const;

const TYPES = { i32: I32, i64: I64, f32: 0x7d, f64: 0x7c, v128: 0x7b };
const log2 = (width: number): number => 31 - Math.clz32(width);

const instructions: Instruction[] = [];
const functions: WasmFunction[] = [];

function add(
  instruction: Omit<Instruction, 'signed' | 'atomic'> & { signed?: boolean; atomic?: boolean },
  takes: number[],
  gives: number[],
  code: number[],
): void {
  instructions.push({ signed: false, atomic: false, ...instruction });
  functions.push({ name: instruction.name, takes, gives, code });
}

// --- plain ---

const LOADS: [ValueType, number, boolean?][] = [
  ...(['i32', 'i64', 'f32', 'f64'] as const).map((type): [ValueType, number] => [type, type.endsWith('32') ? 4 : 8]),
  ...[1, 2].flatMap((width) => [true, false].map((signed): [ValueType, number, boolean] => ['i32', width, signed])),
  ...[1, 2, 4].flatMap((width) => [true, false].map((signed): [ValueType, number, boolean] => ['i64', width, signed])),
];
for (const [i, [type, width, signed]] of LOADS.entries()) {
  const name = `${type}.load${signed === undefined ? '' : `${8 * width}_${signed ? 's' : 'u'}`}`;
  add({ name, kind: 'load', type, width, signed }, [I32], [TYPES[type]], [...get(0), 0x28 + i, 0, 0]);
}

const STORES: [ValueType, number][] = [
  ...(['i32', 'i64', 'f32', 'f64'] as const).map((type): [ValueType, number] => [type, type.endsWith('32') ? 4 : 8]),
  ...[1, 2].map((width): [ValueType, number] => ['i32', width]),
  ...[1, 2, 4].map((width): [ValueType, number] => ['i64', width]),
];
for (const [i, [type, width]] of STORES.entries()) {
  const name = `${type}.store${i < 4 ? '' : 8 * width}`;
  add({ name, kind: 'store', type, width }, [I32, TYPES[type]], [], [...get(0), ...get(1), 0x36 + i, 0, 0]);
}

// What compilers make one instruction of, with the operand in memory.
for (const [type, width, kind, load, operation] of [
  ['i32', 4, 'add', 0x28, 0x6a],
  ['i64', 8, 'add', 0x29, 0x7c],
  ['i32', 4, 'equal', 0x28, 0x46],
  ['i64', 8, 'equal', 0x29, 0x51],
  ['f32', 4, 'multiply', 0x2a, 0x94],
  ['f64', 8, 'multiply', 0x2b, 0xa2],
] as const) {
  const gives = kind === 'equal' ? I32 : TYPES[type];
  const code = [...get(1), ...get(0), load, 0, 0, operation];
  add({ name: `${type}.${kind} of a load`, kind, type, width }, [I32, TYPES[type]], [gives], code);
}

// --- atomic ---

const ATOMIC: [ValueType, number][] = [
  ['i32', 4],
  ['i64', 8],
  ['i32', 1],
  ['i32', 2],
  ['i64', 1],
  ['i64', 2],
  ['i64', 4],
];
for (const [i, [type, width]] of ATOMIC.entries()) {
  const value = TYPES[type];
  const narrow = i < 2 ? '' : String(8 * width);
  const immediate = [log2(width), 0];
  const common = { type, width, atomic: true };
  const code = [...get(0), 0xfe, 0x10 + i, ...immediate];
  add({ ...common, name: `${type}.atomic.load${narrow}`, kind: 'load' }, [I32], [value], code);
  const stored = [...get(0), ...get(1), 0xfe, 0x17 + i, ...immediate];
  add({ ...common, name: `${type}.atomic.store${narrow}`, kind: 'store' }, [I32, value], [], stored);
  for (const [k, how] of RMW.entries()) {
    const operands = how === 'cmpxchg' ? [...get(1), ...get(2)] : get(1);
    const takes = how === 'cmpxchg' ? [I32, value, value] : [I32, value];
    const modified = [...get(0), ...operands, 0xfe, 0x1e + 7 * k + i, ...immediate];
    add({ ...common, name: `${type}.atomic.rmw${narrow}.${how}`, kind: 'rmw', how }, takes, [value], modified);
  }
}

// --- vectors ---

const SCRATCH = get(1);
const loadScratch = [...SCRATCH, 0xfd, 0, 0, 0];
const keep = [0xfd, 11, 0, 0];
function vectorLoad(
  name: string,
  opcode: number,
  width: number,
  shape: Instruction['shape'],
  more: Partial<Instruction> = {},
): void {
  const operands = shape === 'lane' ? [...get(0), ...loadScratch] : get(0);
  const lane = shape === 'lane' ? [16 / width - 1] : [];
  const code = [...SCRATCH, ...operands, 0xfd, opcode, 0, 0, ...lane, ...keep];
  add({ name: `v128.load${name}`, kind: 'load', type: 'v128', width, shape, ...more }, [I32, I32], [], code);
}
vectorLoad('', 0, 16, 'whole');
for (const [i, lane] of [1, 2, 4].entries()) {
  for (const signed of [true, false]) {
    const name = `${8 * lane}x${8 / lane}_${signed ? 's' : 'u'}`;
    vectorLoad(name, 1 + 2 * i + (signed ? 0 : 1), 8, 'extend', { lane, signed });
  }
}
for (const [i, width] of [1, 2, 4, 8].entries()) {
  vectorLoad(`${8 * width}_splat`, 7 + i, width, 'splat');
  vectorLoad(`${8 * width}_lane`, 0x54 + i, width, 'lane');
  const code = [...get(0), ...loadScratch, 0xfd, 0x58 + i, 0, 0, 16 / width - 1];
  add({ name: `v128.store${8 * width}_lane`, kind: 'store', type: 'v128', width, shape: 'lane' }, [I32, I32], [], code);
}
vectorLoad('32_zero', 0x5c, 4, 'zero');
vectorLoad('64_zero', 0x5d, 8, 'zero');
add(
  { name: 'v128.store', kind: 'store', type: 'v128', width: 16, shape: 'whole' },
  [I32, I32],
  [],
  [...get(0), ...loadScratch, ...keep],
);

export const INSTRUCTIONS: readonly Instruction[] = instructions;

/** The program that exports them all, and imports its memory as `env.memory`. */
export const INSTRUCTIONS_PROGRAM = program(functions);
