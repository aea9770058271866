/** How a memory object is mapped: options, their validation, and the addresses. */
import { osConstants } from '../os-constants.js';
import { boolean, integer, multipleOf, oneOf } from '../arguments.js';
import { invalidValue, outOfRange, RawRegistersError } from '../errors.js';
import { FILLS } from '../native/enums.js';
import type { Failure } from '../native/functions.js';
import { native } from '../native/load.js';
import type { Backing } from './backing-provider.js';
import { fixedSharedBuffer, type WasmMemory } from './wasm-memory.js';

/**
 * How to map.
 *
 * @example
 * ```js
 * // Into the memory of a WebAssembly program, which reaches the object with plain loads and stores.
 * const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
 * const mapping = MemoryObject.create({ size: 4096 }).map({ memory, memoryOffset: 65536 });
 * const { exports } = new WebAssembly.Instance(driver, { env: { memory } });
 * ```
 */
export interface MapOptions {
  /** First byte of the object, a multiple of the page size. Default 0. */
  offset?: number;
  /**
   * Bytes. Default: from `offset` to the end of the object. Required where the object is empty, or has no size, such as a character
   * device.
   */
  length?: number;
  /** Default `'rw'` where the object is writable, else `'r'`. */
  access?: 'r' | 'rw';
  /** A SharedArrayBuffer (default), or an ArrayBuffer for APIs that refuse shared memory or misread it, as `fetch` does: `docs/how-to/choose-a-buffer.md`. */
  shared?: boolean;
  /** MAP_PRIVATE: writes stay in this mapping. Default false. */
  private?: boolean;
  /** What raw views read after revocation; `'signal'` leaves SIGBUS deadly. Default `'zeros'`. */
  fill?: 'zeros' | 'ones' | 'signal';
  /**
   * Bring all pages in now: of a mapping that can be written, as writes of them would, so that a file with holes gets its space. With
   * `true` as far as the kernel can, and without an error where it cannot. With `'required'` all of them: where one cannot be had, `map()`
   * throws what `advise('populate-write')` throws, of read-only and private mappings `advise('populate-read')`, and nothing stays mapped.
   * Default false.
   */
  populate?: boolean | 'required';
  /** A shared WebAssembly.Memory, with its maximum as its length: map inside it, instead of in a buffer of the mapping's own. */
  memory?: WasmMemory;
  /** Where in `memory`: a multiple of the page size. What the program had there is gone. Required with `memory`. */
  memoryOffset?: number;
}

export interface PlaceInMemory {
  memory: WasmMemory;
  buffer: SharedArrayBuffer;
  offset: number;
}

/** What is to be mapped, as far as options depend on it. */
export interface Mappable {
  readonly name: string;
  readonly owned: boolean;
  readonly size: number;
  readonly writable: boolean;
  readonly _sized: boolean;
  readonly _pageSize: number;
  readonly _backing: Backing | undefined;
}

export interface Range {
  offset: number;
  length: number;
}

/** Valid options. */
export interface MapRequest extends Range {
  writable: boolean;
  shared: boolean;
  private: boolean;
  /** Index into {@link FILLS}. */
  fill: number;
  populate: boolean | 'required';
  place: PlaceInMemory | undefined;
}

export function checkMapOptions(object: Mappable, given: Partial<MapOptions>, range: Range): MapRequest {
  const writable = oneOf('options.access', given.access, ['r', 'rw'], object.writable ? 'rw' : 'r') === 'rw';
  const shared = boolean('options.shared', given.shared, true);
  const priv = boolean('options.private', given.private, false);
  if (priv && object._backing !== undefined) throw invalidValue('options.private', "must be false for a device's memory", priv);
  const fill = FILLS.indexOf(oneOf('options.fill', given.fill, FILLS, 'zeros'));
  const populate = given.populate === 'required' ? 'required' : populateOption(given.populate);
  const place = placeInMemory(object, given, range.length);
  // Not `...range`: copying two properties that way costs a fifth of mapping a page.
  const { offset, length } = range;
  return { offset, length, writable, shared, private: priv, fill, populate, place };
}

function populateOption(value: unknown): boolean {
  if (typeof value === 'string') throw invalidValue('options.populate', "must be true, false or 'required'", value);
  return boolean('options.populate', value, false);
}

/** Where in the memory of a WebAssembly program it is to be mapped, if in one. */
function placeInMemory(object: Mappable, given: Partial<MapOptions>, length: number): PlaceInMemory | undefined {
  const { memory, memoryOffset } = given;
  if (memory === undefined) {
    if (memoryOffset === undefined) return undefined;
    throw invalidValue('options.memoryOffset', 'must not be given without options.memory', memoryOffset);
  }
  const buffer = fixedSharedBuffer('options.memory', memory);
  if (given.shared === false) throw invalidValue('options.shared', 'must be true with options.memory', false);
  if (object._backing?.registers?.raw === false) throw new RawRegistersError(object.name);
  if (object._pageSize !== native.pageSize)
    throw invalidValue('options.memory', `must not be given for pages of ${object._pageSize} bytes`, memory);
  const offset = integer('options.memoryOffset', memoryOffset, 0, Number.MAX_SAFE_INTEGER);
  multipleOf('options.memoryOffset', offset, native.pageSize);
  const last = buffer.byteLength - roundUp(length, native.pageSize);
  if (last < 0) throw outOfRange('options.length', `at most ${buffer.byteLength}, the length of options.memory`, length);
  if (offset > last) throw outOfRange('options.memoryOffset', `<= ${last}, so that the pages lie in options.memory`, offset);
  return { memory, buffer, offset };
}

/** The bytes to map. Memory the library created ends where it ends; a file may grow, or be shorter than the mapping. */
export function rangeOf(object: Mappable, given: Partial<MapOptions>): { offset: number; length: number } {
  const offset = given.offset === undefined ? 0 : integer('options.offset', given.offset, 0, Number.MAX_SAFE_INTEGER);
  multipleOf('options.offset', offset, object._pageSize);
  const size = given.length === undefined || object.owned ? object.size : Number.MAX_SAFE_INTEGER;
  if (given.length === undefined && size === 0) {
    const why = object._sized ? 'which is empty' : 'which has no size';
    throw invalidValue('options.length', `must be given for ${object.name}, ${why}`, undefined);
  }
  if (offset >= size) throw outOfRange('options.offset', `< ${size}, the size of ${object.name}`, offset);
  const length = given.length === undefined ? size - offset : integer('options.length', given.length, 1, size - offset);
  return { offset, length };
}

export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** How many ranges are tried. */
const MOST_RANGES = 100;

/**
 * Maps over a range from V8. One that is not what V8 made it (`EEXIST`) is passed over, and kept until another one has been found, so that
 * V8 cannot give it again: another part of the program has unmapped addresses that it did not own, or mapped over them.
 */
export function inFreeRange(bytes: number, map: (buffer: SharedArrayBuffer) => Failure | null): SharedArrayBuffer | Failure {
  const tried: SharedArrayBuffer[] = [];
  for (;;) {
    const buffer = allocate(bytes);
    tried.push(buffer);
    const failure = map(buffer);
    if (failure === null) return buffer;
    if (failure.errno !== -osConstants.errno.EEXIST || tried.length === MOST_RANGES) return failure;
  }
}

/** Address space from V8, whole pages, which the object's memory is then mapped over (docs/decisions/001-buffers.md). */
function allocate(bytes: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes, { maxByteLength: bytes });
  } catch {
    throw outOfRange('options.length', 'no more than a SharedArrayBuffer of this version of Node can hold', bytes);
  }
}
