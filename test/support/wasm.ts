/** A small WebAssembly program that does nothing but access its memory, and how to make its memory. */

export interface Memory {
  readonly buffer: SharedArrayBuffer;
  grow(pages: number): number;
}

interface Namespace {
  Memory: new (limits: { initial: number; maximum?: number; shared?: boolean }) => Memory;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: unknown };
  RuntimeError: new (message: string) => Error;
}
export const wasm = (globalThis as unknown as { WebAssembly: Namespace }).WebAssembly;

/** Each is one instruction, except `poll`, which loads the word at `address` until it is not `value`, and returns it. */
export interface Accesses {
  load8(address: number): number;
  load32(address: number): number;
  load64(address: number): bigint;
  store8(address: number, value: number): void;
  store32(address: number, value: number): void;
  store64(address: number, value: bigint): void;
  add32(address: number, value: number): number;
  fill(address: number, value: number, bytes: number): void;
  copy(to: number, from: number, bytes: number): void;
  poll(address: number, value: number): number;
}

/** A function of a program: its types are those of the binary format, its code goes without the end. */
export interface WasmFunction {
  name: string;
  takes: number[];
  gives: number[];
  code: number[];
  locals?: number[];
}

export const [I32, I64] = [0x7f, 0x7e];
export const get = (local: number): number[] => [0x20, local];

const FUNCTIONS: (WasmFunction & { name: keyof Accesses })[] = [
  { name: 'load8', takes: [I32], gives: [I32], code: [...get(0), 0x2d, 0, 0] },
  { name: 'load32', takes: [I32], gives: [I32], code: [...get(0), 0x28, 2, 0] },
  { name: 'load64', takes: [I32], gives: [I64], code: [...get(0), 0x29, 3, 0] },
  { name: 'store8', takes: [I32, I32], gives: [], code: [...get(0), ...get(1), 0x3a, 0, 0] },
  { name: 'store32', takes: [I32, I32], gives: [], code: [...get(0), ...get(1), 0x36, 2, 0] },
  { name: 'store64', takes: [I32, I64], gives: [], code: [...get(0), ...get(1), 0x37, 3, 0] },
  { name: 'add32', takes: [I32, I32], gives: [I32], code: [...get(0), ...get(1), 0xfe, 0x1e, 2, 0] },
  { name: 'fill', takes: [I32, I32, I32], gives: [], code: [...get(0), ...get(1), ...get(2), 0xfc, 11, 0] },
  { name: 'copy', takes: [I32, I32, I32], gives: [], code: [...get(0), ...get(1), ...get(2), 0xfc, 10, 0, 0] },
  {
    name: 'poll',
    takes: [I32, I32],
    gives: [I32],
    locals: [1, 1, I32],
    code: [0x03, 0x40, ...get(0), 0x28, 2, 0, 0x22, 2, ...get(1), 0x46, 0x0d, 0, 0x0b, ...get(2)],
  },
];

const leb128 = (value: number): number[] => (value < 128 ? [value] : [128 | (value % 128), ...leb128(Math.floor(value / 128))]);
const vector = (items: number[][]): number[] => [...leb128(items.length), ...items.flat()];
const sized = (bytes: number[]): number[] => [...leb128(bytes.length), ...bytes];
const text = (characters: string): number[] => sized([...Buffer.from(characters)]);

/** A program of these functions, which it exports by their names: it imports a shared memory as `env.memory`. */
export function program(functions: WasmFunction[]): Uint8Array {
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...[1, ...sized(vector(functions.map(({ takes, gives }) => [0x60, ...sized(takes), ...sized(gives)])))],
    ...[2, ...sized(vector([[...text('env'), ...text('memory'), 2, 3, 0, ...leb128(65_536)]]))],
    ...[3, ...sized(vector(functions.map((_, type) => leb128(type))))],
    ...[7, ...sized(vector(functions.map(({ name }, index) => [...text(name), 0, ...leb128(index)])))],
    ...[10, ...sized(vector(functions.map(({ locals, code }) => sized([...(locals ?? [0]), ...code, 0x0b]))))],
  ]);
}

export const ACCESSES = program(FUNCTIONS);

export function accessesOf(memory: object): Accesses {
  return new wasm.Instance(new wasm.Module(ACCESSES), { env: { memory } }).exports as Accesses;
}

/** Shared, and as long as it may become: pages of 64 KiB. */
export function fixedMemory(pages = 4): Memory {
  return new wasm.Memory({ initial: pages, maximum: pages, shared: true });
}
