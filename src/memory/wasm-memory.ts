/** The memory of a WebAssembly program, as far as a mapping inside it needs to know. */
import { isSharedBuffer } from '../arguments.js';
import { invalidType, invalidValue } from '../errors.js';

/** A `WebAssembly.Memory`, for programs whose types do not include those of the web. */
export interface WasmMemory {
  readonly buffer: ArrayBufferLike;
  grow(pages: number): number;
}

interface WebAssemblyNamespace {
  Memory: { prototype: WasmMemory };
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => object;
}

const PAGE = 65_536;

/** Memories known to have their maximum as their length. */
const fixed = new WeakSet<WasmMemory>();

/**
 * The buffer of a memory that can have a mapping: shared, and unable to grow. V8 grows a memory by making all of it readable and
 * writable, from its first byte on (docs/explanation/unsafe.md, "WebAssembly memory that grows").
 */
export function fixedSharedBuffer(name: string, memory: unknown): SharedArrayBuffer {
  const buffer = bufferOfMemory(memory);
  if (buffer === undefined) throw invalidType(name, 'an instance of WebAssembly.Memory', memory);
  if (!isSharedBuffer(buffer)) {
    throw invalidValue(name, 'must be made with shared: true, as V8 may free the buffer of any other while it is mapped', memory);
  }
  if ((buffer as { growable?: boolean }).growable === true) {
    throw invalidValue(
      name,
      'must have a buffer of fixed length, as V8 cannot share any other: call its toFixedLengthBuffer()',
      memory,
    );
  }
  if (!isFixed(memory as WasmMemory, buffer.byteLength / PAGE)) {
    throw invalidValue(name, 'must have its maximum as its length, as growing would undo the protection of pages', memory);
  }
  return buffer;
}

/** Undefined for what is no memory; those of other realms are. */
export function bufferOfMemory(memory: unknown): ArrayBufferLike | undefined {
  try {
    return Reflect.get(webAssembly()!.Memory.prototype, 'buffer', memory);
  } catch {
    return undefined;
  }
}

function isFixed(memory: WasmMemory, pages: number): boolean {
  if (fixed.has(memory)) return true;
  if (!canBeImported(memory, LIMITS_32, pages) && !canBeImported(memory, LIMITS_64, pages)) return false;
  fixed.add(memory);
  return true;
}

/** With a maximum, shared; and the same with addresses of 64 bits. */
const LIMITS_32 = 3;
const LIMITS_64 = 7;

/**
 * True if a module that imports a memory of at most so many pages takes this one. JavaScript cannot read a memory's maximum, but
 * linking compares it: https://webassembly.github.io/spec/core/valid/matching.html#memories.
 */
function canBeImported(memory: WasmMemory, limits: number, pages: number): boolean {
  const { Module, Instance } = webAssembly()!;
  const imported = [1, 0, 0, 2, limits, 0, ...leb128(pages)]; // one, of module '' and name '', a memory, at least 0
  try {
    new Instance(new Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 2, imported.length, ...imported)), {
      '': { '': memory },
    });
    return true;
  } catch {
    return false;
  }
}

function leb128(value: number): number[] {
  return value < 128 ? [value] : [128 | (value % 128), ...leb128(Math.floor(value / 128))];
}

/** Undefined under `--jitless`. */
function webAssembly(): WebAssemblyNamespace | undefined {
  return (globalThis as { WebAssembly?: WebAssemblyNamespace }).WebAssembly;
}
