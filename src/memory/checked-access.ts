/** Reaching mapped memory so that an access that failed says so: what `Mapping` is built upon. */
import { EventEmitter } from 'node:events';
import { constants as osConstants } from 'node:os';
import { asBytes, bigintOf64Bits, bytesView, integer, multipleOf } from '../arguments.js';
import { branded, requireConstruct } from '../brands.js';
import {
  BackingFaultError,
  invalidThis,
  MappingClosedError,
  MappingRevokedError,
  MappingSuspendedError,
  outOfRange,
  ProtectedPageError,
  RawRegistersError,
  ReadOnlyMappingError,
  RegisterAccessError,
  SelfFaultError,
  shortened,
  systemError,
  type AccessPlace,
  type BackingFaultCause,
  type RegisterAccessCause,
} from '../errors.js';
import { knownMappingOf } from '../thread/identities.js';
import { CAUSES, CLOSED_SLOT, FILLS, STATES, STATUS_MARKED, STATUS_SPECIAL, STATUS_STATE, VERDICTS } from '../native/enums.js';
import type { MappingDescription, PartialCopy } from '../native/functions.js';
import { native } from '../native/load.js';
import { orderCopy, status as sharedStatus, status64 as sharedStatus64 } from '../native/shared-state.js';
import { completionOf, unwrap } from '../thread/wakeups.js';
import type { RegisterPort } from './backing-provider.js';
import type { MappingEvents } from './mapping-events.js';
import type { MemoryObject, MemoryState } from './memory-object.js';
import type { WasmMemory } from './wasm-memory.js';

// Where the typed views do not exist (yet, or never for this mapping), every access takes the slow path.
interface TypedViews {
  u8: Uint8Array;
  u16: Uint16Array;
  u32: Uint32Array;
  u64: BigUint64Array;
}
const NO_VIEWS: TypedViews = {
  u8: new Uint8Array(0),
  u16: new Uint16Array(0),
  u32: new Uint32Array(0),
  u64: new BigUint64Array(0),
};

interface Judgement {
  verdict: (typeof VERDICTS)[number];
  cause: (typeof CAUSES)[number];
  /** The first byte that the verdict is about. */
  at: number;
}
type Copied = number | PartialCopy;
// Looked up once: V8 does not fold what is read of another module's exports each time.
const { readBytes, writeBytes } = native;
const status = sharedStatus;
const status64 = sharedStatus64;
const judged = new Float64Array(3);

/**
 * The word a checked read stores to between its load and its look at the status word: see `read32`.
 * SINK64 is another one of the same thread, by 64 bits.
 */
const SINK = native.sink;
const SINK64 = native.sink / 2 + 1;

/** Has an element for the status word of a mapping that is live and never was anything else, and none for other words. */
const ALWAYS_LIVE = new Uint8Array(new ArrayBuffer(1));

/**
 * Whether all 32-bit reads of this thread have found such mappings, and words within them. V8 compiles the value in, and begins anew when
 * it changes: what the first failure teaches V8 about the accesses above stays out of the code that runs from then on.
 */
const untroubled = { yes: true };

/** Whether a processor makes a thread's loads visible in program order, as x86 does and ARM does not. */
const LOADS_IN_ORDER = process.arch === 'x64';

/** The error of a part of a copy, with what had been copied before that part. */
function movedOn(error: unknown, done: number): unknown {
  const partial = error as { bytesTransferred?: number };
  if (typeof partial.bytesTransferred === 'number') partial.bytesTransferred += done;
  return error;
}

/**
 * Where something in the mapping changes all the time, nobody could say of a copy that takes longer than that that it was real: after
 * so many attempts it is made of pieces, and these of pages.
 */
const WHOLE_ATTEMPTS = 3;
const PIECE = 64 << 10;
const PAGE = native.pageSize;

function pieceOf(bytes: number): number {
  return bytes > PIECE ? PIECE : PAGE;
}

/** So often an access is made that fails, each time for a reason that is over when it is looked for. */
const MOST_FAILURES = 100;

/** Of an error of a copy. */
function bytesTransferredBefore(error: unknown): number {
  return (error as { bytesTransferred?: number }).bytesTransferred ?? 0;
}

async function failureOf(copy: Promise<unknown>): Promise<Error | undefined> {
  try {
    await copy;
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

function faultError(bytesTransferred: number, place: AccessPlace | object = {}): Error {
  const error = systemError({ errno: -osConstants.errno.EFAULT, syscall: 'copy' });
  return Object.assign(error, place, { bytesTransferred });
}

function bufferOf(bytes: number): Uint8Array {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw Object.assign(systemError({ errno: -osConstants.errno.ENOMEM, syscall: 'copy' }, { cause }), { bytesTransferred: 0 });
  }
}

function throwIfShortened(target: Uint8Array, bytes: number): void {
  if (target.byteLength !== bytes) throw shortened('target', bytes, target.byteLength, 0);
}

/** The parts of a copy that lie within one `size` of the mapping each. */
function* pieces(offset: number, whole: Uint8Array, size: number): Generator<{ done: number; at: number; part: Uint8Array }> {
  const { byteLength } = whole;
  for (let done = 0; done < byteLength;) {
    throwIfShortened(whole, byteLength);
    const at = offset + done;
    const bytes = Math.min(byteLength - done, size - (at % size));
    yield { done, at, part: whole.subarray(done, done + bytes) };
    done += bytes;
  }
}

/** The part of {@link Mapping} that accesses memory, and says why it could not. */
export abstract class CheckedAccess extends EventEmitter<MappingEvents> {
  /** What is mapped. */
  readonly object: MemoryObject;
  /** First byte of the object. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Where it is mapped in this process; the same in every thread. */
  readonly address: bigint;
  /** What accesses are allowed. */
  readonly access: 'r' | 'rw';
  abstract readonly memory: WasmMemory | undefined;
  readonly #buffer: SharedArrayBuffer | ArrayBuffer;
  /** Where accesses go instead of to memory: to the model of a device's registers. */
  readonly #registers: RegisterPort | undefined;
  /** This thread would have to supply the pages that it touches. */
  readonly #servedHere: boolean;
  #selfFaultsTold = 0;
  #rawFailuresTold = 0;

  /** Of the status table; CLOSED_SLOT once closed. */
  #slot: number;
  /** The slot where there are typed views, for the fast path; where there are none, CLOSED_SLOT. */
  #gate = CLOSED_SLOT;
  #u8 = NO_VIEWS.u8;
  #u16 = NO_VIEWS.u16;
  #u32 = NO_VIEWS.u32;
  #u64 = NO_VIEWS.u64;
  readonly #fill: (typeof FILLS)[number];
  readonly #id: number;
  /** Where in `buffer` it begins. */
  readonly #start: number;
  readonly #writable: boolean;

  static readonly #isOne = branded('Mapping', this.prototype, (value) => #gate in value, {
    inline: ['buffer', 'state', 'read', 'write', ...[8, 16, 32, 64].flatMap((bits) => [`read${bits}`, `write${bits}`])],
  });

  /** @internal Whether it is a mapping of this copy of the library. Its fastest methods do the same, at no cost, by themselves. */
  static _is(value: unknown): value is CheckedAccess {
    return CheckedAccess.#isOne(value);
  }

  /** @internal */
  constructor(key: symbol, object: MemoryObject, description: MappingDescription, buffer: SharedArrayBuffer | ArrayBuffer) {
    super();
    requireConstruct(key);
    this.object = object;
    this.offset = description.offset;
    this.length = description.length;
    this.address = description.address;
    this.access = description.writable ? 'rw' : 'r';
    this.#buffer = buffer;
    this.#registers = object._backing?.registers;
    this.#servedHere = object._backing?.servedHere === true;
    this.#slot = description.slot;
    this.#id = description.id;
    this.#writable = description.writable;
    this.#fill = FILLS[description.fill];
    this.#start = description.start;
    // Registers are no memory, and no checked access may touch what a deadly fill may take the place of: native code does.
    if (this.#registers !== undefined || this.#fill === 'signal') return;
    // At once: a first read that had to make them would cost all others their speed (docs/decisions/005-checked-accessors.md).
    this.#u32 = new Uint32Array(buffer, this.#start, Math.floor(this.length / 4));
    this.#gate = this.#slot;
  }

  /**
   * The memory as a JavaScript buffer. The mapping may begin inside it, with 2 MiB pages and in a WebAssembly memory, whose own
   * buffer this is: see `bytes.byteOffset`. Give typed arrays over it a length: without one they are slower, and `set` over itself is
   * wrong (`docs/buffers.md`). Of a device's registers each access through it goes to the model: `docs/devices.md` says
   * which views do, and how often.
   *
   * @throws RawRegistersError `ERR_DEVICE_REGISTERS` for a device's registers where raw accesses do not reach its model
   *   (`docs/devices.md`).
   */
  get buffer(): SharedArrayBuffer | ArrayBuffer {
    requireMapping(this);
    if (this.#registers !== undefined && !this.#registers.raw) throw new RawRegistersError(this.object.name);
    return this.#buffer;
  }

  /** @internal Also of registers. */
  get _buffer(): SharedArrayBuffer | ArrayBuffer {
    return this.#buffer;
  }

  /** @internal Whether byte `at` of `buffer` is its memory: several mappings may lie in one WebAssembly memory. */
  _has(buffer: ArrayBufferLike, at: number): boolean {
    if (at < this.#start || at >= this.#start + this.#span) return false;
    return buffer === this.#buffer || buffer === this.memory?.buffer;
  }

  /** Bytes of its pages. */
  get #span(): number {
    return Math.ceil(this.length / native.pageSize) * native.pageSize;
  }

  /** @internal Names the mapping to native code. */
  get _id(): number {
    return this.#id;
  }

  /** @internal Its memory, once revoked, kills whoever touches it raw. */
  get _deadly(): boolean {
    return this.#fill === 'signal';
  }

  protected get _slot(): number {
    return this.#slot;
  }

  protected get _start(): number {
    return this.#start;
  }

  protected get _writable(): boolean {
    return this.#writable;
  }

  /** Live; suspended; revoked for ever; closed. Also after the fill has made the raw views readable again. */
  get state(): MemoryState {
    requireMapping(this);
    // Asking the object lets the words of its mappings follow its gate, which may have been shut a moment ago.
    if ((status[this.#slot] & STATUS_STATE) === 0) void this.object.state;
    return STATES[status[this.#slot] & STATUS_STATE];
  }

  /**
   * Reads a byte, checked.
   *
   * `read16`, `read32` and `read64` read little-endian words of naturally aligned offsets. Each is one access of exactly that width.
   *
   * @throws MappingRevokedError, MappingSuspendedError, MappingClosedError, BackingFaultError, ProtectedPageError at the access that
   *   failed; RangeError `ERR_OUT_OF_RANGE` for an offset outside or not aligned; TypeError `ERR_INVALID_ARG_TYPE`; `ENOMEM` where a
   *   forbidden raw access was diverted to this page and the kernel has no mapping to give to put it back.
   */
  read8(offset: number): number {
    try {
      if (!(#gate in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this.#gate;
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const index = typeof offset === 'number' ? offset >>> 0 : -1;
    if (index === offset && (before & STATUS_SPECIAL) === 0) {
      const value = this.#u8[index];
      if (value !== undefined) {
        status[SINK] = value;
        if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
        if (status[gate] === before) return value;
        const refusal = this.#refusalAfterLoad(offset, 1);
        if (refusal !== undefined) throw refusal;
      }
    }
    return this.#readSlow(offset, 1) as number;
  }

  /** {@link read8} of 16 bits. */
  read16(offset: number): number {
    try {
      if (!(#gate in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this.#gate;
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const index = typeof offset === 'number' ? offset >>> 1 : -1;
    if (((index << 1 === offset && offset >= 0) || index * 2 === offset) && (before & STATUS_SPECIAL) === 0) {
      const value = this.#u16[index];
      if (value !== undefined) {
        status[SINK] = value;
        if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
        if (status[gate] === before) return value;
        const refusal = this.#refusalAfterLoad(offset, 2);
        if (refusal !== undefined) throw refusal;
      }
    }
    return this.#readSlow(offset, 2) as number;
  }

  /** {@link read8} of 32 bits: the fastest of them. */
  read32(offset: number): number {
    try {
      if (!(#gate in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    // Nothing but array accesses, whose bounds are the checks: V8 then leaves the compiled code where one fails, and a loop around it
    // has no branch and no call that would keep it from doing once what is the same each time. Comparisons would (the next method
    // has them) at three times the price. An offset that is no multiple of 4, or no number, has no element either.
    if (untroubled.yes) {
      const gate = this.#gate;
      if (ALWAYS_LIVE[status[gate]] !== undefined) {
        // The order of the next lines is the product: the handler sets the status word before it lets a faulting load complete,
        // so a word that is the same after the load says that the load was real. The store to SINK keeps compilers from answering
        // with the word they loaded above (Maglev in Node 26 does): it depends on the value and may, for all they know, be to that
        // very word. Atomics.add orders the two loads on processors that do not (docs/decisions/005-checked-accessors.md).
        const value = this.#u32[typeof offset === 'number' ? offset / 4 : -1];
        // (Of numbers that are not whole, those that a quarter of is 0 have one.)
        if (value !== undefined && ALWAYS_LIVE[offset % 1] !== undefined) {
          status[SINK] = value;
          if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
          if (ALWAYS_LIVE[status[gate]] !== undefined) return value;
          untroubled.yes = false;
          return this.#read32AfterLoad(offset);
        }
      }
      untroubled.yes = false; // the other way says why, or reads it after all
    }
    return this._read32Compared(offset);
  }

  /** The load of a {@link read32} was not of a mapping that is live and never was anything else: its error, or the value after all. */
  #read32AfterLoad(offset: number): number {
    const refusal = this.#refusalAfterLoad(offset, 4);
    if (refusal !== undefined) throw refusal;
    return this.#readSlow(offset, 4) as number;
  }

  /** {@link read32} after a failure, and of mappings that stay out of `untroubled` (`mappingOf`). */
  protected _read32Compared(offset: number): number {
    const gate = this.#gate;
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const words = this.#u32;
    const index = typeof offset === 'number' ? offset >>> 2 : words.length;
    // (The first comparison is of integers, at half the price; the second is for offsets from 2 GiB on.)
    const aligned = (index << 2 === offset && offset >= 0) || index * 4 === offset;
    if (aligned && index < words.length && (before & STATUS_SPECIAL) === 0) {
      const value = words[index];
      status[SINK] = value;
      if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
      if (status[gate] === before) return value;
      const refusal = this.#refusalAfterLoad(offset, 4);
      if (refusal !== undefined) throw refusal;
    }
    return this.#readSlow(offset, 4) as number;
  }

  /** {@link read8} of 64 bits, as a bigint. */
  read64(offset: number): bigint {
    try {
      if (!(#gate in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this.#gate;
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const index = typeof offset === 'number' ? offset >>> 3 : -1;
    if (((index << 3 === offset && offset >= 0) || index * 8 === offset) && (before & STATUS_SPECIAL) === 0) {
      const value = this.#u64[index];
      if (value !== undefined) {
        status64[SINK64] = value;
        if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
        if (status[gate] === before) return value;
        const refusal = this.#refusalAfterLoad(offset, 8);
        if (refusal !== undefined) throw refusal;
      }
    }
    return this.#readSlow(offset, 8) as bigint;
  }

  /**
   * Writes a byte, checked.
   *
   * `write16`, `write32` and `write64` write little-endian words. Each is one access of exactly that width. A write that throws
   * may have landed before the memory went.
   *
   * @throws what {@link read8} throws, and ReadOnlyMappingError; RangeError for a value that does not fit.
   */
  write8(offset: number, value: number): void {
    try {
      if (!(#gate in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this.#gate;
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const index = typeof offset === 'number' ? offset >>> 0 : -1;
    if (
      index === offset &&
      typeof value === 'number' &&
      value === (value & 0xff) &&
      this.#writable &&
      index < this.#u8.length &&
      (before & STATUS_SPECIAL) === 0
    ) {
      this.#u8[index] = value;
      if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
      if (status[gate] === before) return;
      return this.#afterWrite(offset, 1, value, before);
    }
    this.#writeSlow(offset, 1, value);
  }

  /** {@link write8} of 16 bits. */
  write16(offset: number, value: number): void {
    try {
      if (!(#gate in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this.#gate;
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const index = typeof offset === 'number' ? offset >>> 1 : -1;
    if (
      ((index << 1 === offset && offset >= 0) || index * 2 === offset) &&
      typeof value === 'number' &&
      value === (value & 0xffff) &&
      this.#writable &&
      index < this.#u16.length &&
      (before & STATUS_SPECIAL) === 0
    ) {
      this.#u16[index] = value;
      if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
      if (status[gate] === before) return;
      return this.#afterWrite(offset, 2, value, before);
    }
    this.#writeSlow(offset, 2, value);
  }

  /** {@link write8} of 32 bits. */
  write32(offset: number, value: number): void {
    try {
      if (!(#gate in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this.#gate;
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const index = typeof offset === 'number' ? offset >>> 2 : -1;
    if (
      ((index << 2 === offset && offset >= 0) || index * 4 === offset) &&
      typeof value === 'number' &&
      value === value >>> 0 &&
      this.#writable &&
      index < this.#u32.length &&
      (before & STATUS_SPECIAL) === 0
    ) {
      this.#u32[index] = value;
      if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
      if (status[gate] === before) return;
      return this.#afterWrite(offset, 4, value, before);
    }
    this.#writeSlow(offset, 4, value);
  }

  /** {@link write8} of 64 bits, a bigint. */
  write64(offset: number, value: bigint): void {
    requireMapping(this);
    this.#writeSlow(offset, 8, value);
  }

  /**
   * Copies bytes out, checked: from `offset` on, as many as `target` has room for. Blocks for as long as the copy takes.
   *
   * `target` may show a part of the same memory: it then holds afterwards what the mapping held before, as after memmove(3). Such a copy
   * goes by way of memory of its own, of as many bytes. Overlap is of addresses: two mappings of the same pages of an object do not
   * overlap, and a copy between them is made in ascending order.
   *
   * @returns how many bytes: `target.byteLength`.
   * @throws what {@link read8} throws, with `bytesTransferred`: exactly so many bytes have been copied, the first ones, also where the two
   *   sides overlap; `ENOMEM` where there is no memory for such a copy.
   */
  read(offset: number, target: NodeJS.ArrayBufferView): number {
    requireMapping(this);
    return this.#copy(offset, bytesView('target', target), false);
  }

  /** Copies bytes in, checked. See {@link read}. */
  write(offset: number, source: NodeJS.ArrayBufferView): number {
    requireMapping(this);
    return this.#copy(offset, bytesView('source', source), true);
  }

  /** No access reaches the memory through it any more. */
  protected _endAccess(): void {
    this.#slot = this.#gate = CLOSED_SLOT;
    this.#u8 = NO_VIEWS.u8;
    this.#u16 = NO_VIEWS.u16;
    this.#u32 = NO_VIEWS.u32;
    this.#u64 = NO_VIEWS.u64;
  }

  protected _place(offset: number | undefined, bytesTransferred?: number): AccessPlace {
    const object = this.object.name;
    if (offset === undefined) return { object, bytesTransferred };
    // Pages may have been mapped elsewhere since. An offset that is no place in the mapping is an argument nothing was done with.
    const isPlace = this.#slot !== CLOSED_SLOT && offset >= 0 && offset < this.length;
    const objectOffset = isPlace ? native.objectOffset(this.#id, offset) : this.offset + offset;
    return { object, offset, objectOffset, address: this.address + BigInt(offset), bytesTransferred };
  }

  /** @internal */
  _throwUnlessLive(offset: number | undefined, bytesTransferred?: number): void {
    const error = this.#whyNotLive(offset, bytesTransferred);
    if (error !== undefined) throw error;
  }

  // The errors are made by functions that return them. V8 counts how often a function returns, to compile it when it is worth that:
  // one that always throws is interpreted for ever, which took half as long again as the fault itself.
  #whyNotLive(offset: number | undefined, bytesTransferred?: number): Error | undefined {
    if ((status[this.#slot] & STATUS_STATE) === 0) return undefined;
    switch (this.state) {
      case 'live': // resumed since
        return undefined;
      case 'revoked':
        return this.object._revokedError(this._place(offset, bytesTransferred));
      case 'suspended':
        return new MappingSuspendedError(this._place(offset, bytesTransferred));
      case 'closed':
        return new MappingClosedError(this._place(offset, bytesTransferred));
    }
  }

  /**
   * {@link #whyNotLive}, after an access that began while the mapping was live: it may have met the very fault that revoked the object,
   * and then that is its error.
   */
  #whyNoLonger(offset: number, bytesTransferred?: number): Error | undefined {
    const error = this.#whyNotLive(offset, bytesTransferred);
    if (!(error instanceof MappingRevokedError) || (status[this.#slot] & STATUS_MARKED) === 0) return error;
    const { verdict, cause } = this._judge(offset, 1, false);
    return verdict === 'lost' ? new BackingFaultError(this._place(offset, bytesTransferred), cause as BackingFaultCause) : error;
  }

  #throwUnlessStillLive(offset: number, bytesTransferred?: number): void {
    const error = this.#whyNoLonger(offset, bytesTransferred);
    if (error !== undefined) throw error;
  }

  protected _judge(offset: number, width: number, write: boolean): Judgement {
    native.judge(this.#id, offset, width, write, judged);
    return { verdict: VERDICTS[judged[0]], cause: CAUSES[judged[1]], at: judged[2] };
  }

  /** What the marks of the pages say. `'stray'` when a diverted page had to be put back: what was read there was not real. */
  protected _refusalOfMarks(offset: number, width: number, write: boolean): Error | 'stray' | undefined {
    const { verdict, cause, at } = this._judge(offset, width, write);
    switch (verdict) {
      case 'fine':
        return undefined;
      case 'stray':
        return 'stray';
      case 'lost':
        return new BackingFaultError(this._place(Math.max(at, offset)), cause as BackingFaultCause);
      case 'protected':
        return new ProtectedPageError(this._place(at));
      case 'read-only':
        return new ReadOnlyMappingError(this._place(at));
      case 'unsettled':
        return this._unsettledError(this._place(at));
    }
  }

  /** A page to which a forbidden raw access was diverted shows that access, not the object. */
  protected _unsettledError(place: AccessPlace): Error {
    const failure = { errno: -osConstants.errno.ENOMEM, syscall: 'mmap' };
    const hint = 'a page to which a forbidden access was diverted cannot be put back';
    return Object.assign(systemError(failure, { hint }), place);
  }

  /** After a load during which the status word changed: why. Undefined when it should be made again. */
  #refusalAfterLoad(offset: number, width: number): Error | undefined {
    const refusal = this.#whyNoLonger(offset) ?? this.#selfFaultSince(0, offset) ?? this._refusalOfMarks(offset, width, false);
    return refusal === 'stray' ? undefined : refusal;
  }

  /** Throws what the marks of the pages say. False for `'stray'`. */
  #marksAllow(offset: number, width: number, write: boolean): boolean {
    const refusal = this._refusalOfMarks(offset, width, write);
    if (refusal instanceof Error) throw refusal;
    return refusal === undefined;
  }

  protected _checkPlace(offset: number, width: number): void {
    integer('offset', offset, 0, this.length < width ? Number.MAX_SAFE_INTEGER : this.length - width);
    if (width > this.length) throw outOfRange('offset', `in a mapping of at least ${width} bytes, not ${this.length}`, offset);
    if (width > 1) multipleOf('offset', offset, width);
  }

  /** Makes the typed view for accesses of `width` on first use; that of 32 bits is there from the start. */
  #makeView(width: number): void {
    const { length } = this;
    if (this.#isUnviewed) return;
    if (width === 1 && this.#u8 === NO_VIEWS.u8) this.#u8 = new Uint8Array(this.#buffer, this.#start, length);
    else if (width === 2 && this.#u16 === NO_VIEWS.u16)
      this.#u16 = new Uint16Array(this.#buffer, this.#start, Math.floor(length / 2));
    else if (width === 8 && this.#u64 === NO_VIEWS.u64)
      this.#u64 = new BigUint64Array(this.#buffer, this.#start, Math.floor(length / 8));
  }

  #readSlow(offset: number, width: number): number | bigint {
    this._throwIfClosed(offset);
    this._checkPlace(offset, width);
    this._throwUnlessLive(offset);
    if (this.#registers !== undefined) {
      while (this.#wordIfAllowed(offset, width, false) === undefined);
      return this.#readRegister(this.#registers, offset, width);
    }
    this.#makeView(width);
    for (let failures = 0; ;) {
      const word = this.#wordIfAllowed(offset, width, false);
      if (word === undefined) continue;
      const selfFaults = this.#selfFaults();
      const value = this.#load(offset, width, failures);
      this.#throwIfSelfFaulted(selfFaults, offset);
      if (value === undefined) {
        this.#throwAfterFault(offset, width, false, failures++);
        continue;
      }
      if (this.#isSame(word)) return value;
      this.#throwUnlessStillLive(offset);
    }
  }

  /**
   * Throws what forbids the access; else the status word. The same word after an access says that it was to the object's own page.
   * Undefined when a diverted page has just been put back.
   */
  #wordIfAllowed(offset: number, width: number, write: boolean): number | undefined {
    const word = Atomics.load(status, this.#slot);
    if ((word & STATUS_SPECIAL) === 0) return word;
    return this.#allowed(offset, width, write) ? word : undefined;
  }

  /** Whether the status word is, after an access, what it was before. */
  #isSame(word: number): boolean {
    if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
    return Atomics.load(status, this.#slot) === word;
  }

  #allowed(offset: number, width: number, write: boolean): boolean {
    this._throwUnlessLive(offset);
    return this.#marksAllow(offset, width, write);
  }

  /** After a store during which the status word changed: throws why, or makes the store again where it may have gone elsewhere. */
  #afterWrite(offset: number, width: number, value: number, before: number): void {
    this.#throwUnlessStillLive(offset);
    this.#throwIfSelfFaulted(0, offset);
    if (this.#allowed(offset, width, true) && this.#isUnmoved(before)) return;
    this.#writeSlow(offset, width, value);
  }

  /** Whether nothing has happened since, but that pages may have been marked: of those that were accessed, the marks say so. */
  #isUnmoved(word: number): boolean {
    return ((Atomics.load(status, this.#slot) ^ word) & ~STATUS_MARKED) === 0;
  }

  #writeSlow(offset: number, width: number, value: number | bigint): void {
    this._throwIfClosed(offset);
    this._checkPlace(offset, width);
    if (width === 8) bigintOf64Bits('value', value);
    else integer('value', value, 0, 2 ** (8 * width) - 1);
    this._throwUnlessLive(offset);
    if (!this.#writable) throw new ReadOnlyMappingError(this._place(offset));
    if (this.#registers !== undefined) {
      while (this.#wordIfAllowed(offset, width, true) === undefined);
      return this.#writeRegister(this.#registers, offset, width, value);
    }
    this.#makeView(width);
    for (let failures = 0; ;) {
      const word = this.#wordIfAllowed(offset, width, true);
      if (word === undefined) continue;
      const selfFaults = this.#selfFaults();
      const stored = this.#store(offset, width, value, failures);
      this.#throwIfSelfFaulted(selfFaults, offset);
      if (!stored) this.#throwAfterFault(offset, width, true, failures++);
      else if (this.#isSame(word)) return;
      else this.#throwUnlessStillLive(offset);
    }
  }

  #readRegister(port: RegisterPort, offset: number, width: number): number | bigint {
    const value = port.read(this.offset + offset, width);
    if (value === undefined) this.#throwGone(offset);
    return value;
  }

  #writeRegister(port: RegisterPort, offset: number, width: number, value: number | bigint): void {
    if (!port.write(this.offset + offset, width, value)) this.#throwGone(offset);
  }

  /** The registers went while their model was being asked: before the mapping does, and perhaps they are back by now. */
  #throwGone(offset: number | undefined, bytesTransferred?: number): never {
    this._throwUnlessLive(offset, bytesTransferred);
    const place = this._place(offset, bytesTransferred);
    const { state } = this.object;
    if (state === 'closed') throw new MappingClosedError(place);
    if (state === 'revoked' || this.#registers?.gone() === true) throw this.object._revokedError(place);
    throw new MappingSuspendedError(place);
  }

  /** Only this thread's own touches count there, where it supplies the pages: the difference is the last access's. */
  #selfFaults(): number {
    return this.#servedHere ? native.selfFaults(this.#id) : 0;
  }

  #selfFaultSince(before: number, offset: number | undefined, bytesTransferred?: number): SelfFaultError | undefined {
    if (!this.#servedHere) return undefined;
    const now = native.selfFaults(this.#id);
    if (now === before) return undefined;
    this.#selfFaultsTold = now;
    return new SelfFaultError(this._place(offset, bytesTransferred));
  }

  #throwIfSelfFaulted(before: number, offset: number | undefined, bytesTransferred?: number): void {
    const error = this.#selfFaultSince(before, offset, bytesTransferred);
    if (error !== undefined) throw error;
  }

  /** Raw accesses have, since this was last asked or a checked one has. */
  protected _throwIfSelfFaulted(): void {
    if (this.#servedHere && this.#slot !== CLOSED_SLOT) this.#throwIfSelfFaulted(this.#selfFaultsTold, undefined);
  }

  /** Raw accesses to registers have not reached the model, since this was last asked. */
  protected _throwIfRawFailed(): void {
    if (this.#registers === undefined || this.#slot === CLOSED_SLOT) return;
    const failures = native.rawFailures(this.#id, judged);
    if (failures === -1) this.#throwGone(undefined);
    if (failures === this.#rawFailuresTold) return;
    this.#rawFailuresTold = failures;
    const [cause, offset] = judged;
    if (CAUSES[cause] === 'none') this.#throwGone(offset);
    throw new RegisterAccessError(this._place(offset), CAUSES[cause] as RegisterAccessCause);
  }

  /** Accesses go through native code; also where the user has transferred the ArrayBuffer away. */
  get #isUnviewed(): boolean {
    return this.#gate === CLOSED_SLOT || this.#buffer.byteLength === 0;
  }

  #load(offset: number, width: number, failures: number): number | bigint | undefined {
    if (this.#isUnviewed) return native.load(this.#id, offset, width, failures);
    switch (width) {
      case 1:
        return this.#u8[offset];
      case 2:
        return this.#u16[offset / 2];
      case 4:
        return this.#u32[offset / 4];
      default:
        return this.#u64[offset / 8];
    }
  }

  #store(offset: number, width: number, value: number | bigint, failures: number): boolean {
    if (this.#isUnviewed) return native.store(this.#id, offset, width, value, failures);
    if (width === 1) this.#u8[offset] = value as number;
    else if (width === 2) this.#u16[offset / 2] = value as number;
    else if (width === 4) this.#u32[offset / 4] = value as number;
    else this.#u64[offset / 8] = value as bigint;
    return true;
  }

  /** After a guarded access came back with a fault: throws its reason, or returns when the memory is there again. */
  #throwAfterFault(offset: number, width: number, write: boolean, failures: number): void {
    this.#throwUnlessStillLive(offset);
    if (this.object._isRevokedByOwner()) throw this.object._revokedError(this._place(offset));
    if ((status[this.#slot] & STATUS_SPECIAL) !== 0) this.#marksAllow(offset, width, write);
    const error = this.#unexplained(failures, { done: 0, mapping: true }, offset);
    if (error !== undefined) throw error;
  }

  protected _throwIfClosed(offset: number): void {
    if (this.#slot === CLOSED_SLOT || this.state === 'closed') {
      throw new MappingClosedError(this._place(typeof offset === 'number' && Number.isInteger(offset) ? offset : undefined));
    }
  }

  /**
   * {@link read}, on another thread: a copy that has to wait for pages holds up nothing here. So the ops of a device in this thread can
   * supply them. `target` is written to at the end, with as many bytes as have been copied.
   *
   * @throws (rejects) what {@link read} throws; RangeError `ERR_OUT_OF_RANGE` where the target has been detached or shortened meanwhile.
   */
  async readAsync(offset: number, target: NodeJS.ArrayBufferView): Promise<number> {
    const bytes = bytesView('target', target).byteLength;
    this.#checkCopy(offset, bytes, false);
    if (bytes === 0) return 0;
    if (this.#registers !== undefined) return this.#copyRegisters(this.#registers, offset, target, false);
    if (!native.overlaps(this.#id, offset, target)) return this.#copyAsync(offset, asBytes(target), false);
    const taken = bufferOf(bytes);
    const failure = await failureOf(this.#copyAsync(offset, taken, false));
    const part = asBytes(target);
    throwIfShortened(part, bytes);
    const done = failure === undefined ? bytes : bytesTransferredBefore(failure);
    if (done > 0) this.#put(taken.subarray(0, done), part, offset);
    if (failure !== undefined) throw failure;
    return bytes;
  }

  /** {@link write}, on another thread. What `source` holds now is written. */
  async writeAsync(offset: number, source: NodeJS.ArrayBufferView): Promise<number> {
    const bytes = bytesView('source', source).byteLength;
    this.#checkCopy(offset, bytes, true);
    if (bytes === 0) return 0;
    if (this.#registers !== undefined) return this.#copyRegisters(this.#registers, offset, source, true);
    const { taken, error } = this.#take(asBytes(source), offset);
    if (taken.byteLength > 0) await this.#copyAsync(offset, taken, true);
    if (error !== undefined) throw error;
    return bytes;
  }

  /** What `source` holds, up to where it cannot be read; and why it cannot. */
  #take(source: Uint8Array, offset: number): { taken: Uint8Array; error?: Error } {
    if (native.overlaps(this.#id, offset, source)) {
      const at = this.#placeOf(source);
      if (at !== undefined) return this.#takeChecked(at, source.byteLength);
    }
    const taken = bufferOf(source.byteLength);
    for (let failures = 0; ; failures++) {
      const partial = native.takeBytes(source, taken, failures);
      if (partial === undefined) return { taken };
      const error = this.#otherSideError(source, partial.done, false) ?? this.#unexplained(failures, partial, offset);
      if (error !== undefined) return { taken: taken.subarray(0, partial.done), error };
    }
  }

  /**
   * A copy whose two sides are the same memory in part: by way of memory of its own. Both sides are checked, as far as they are the
   * mapping's.
   */
  #copyOverlapping(offset: number, other: NodeJS.ArrayBufferView, write: boolean): number {
    const part = asBytes(other);
    this.#checkCopy(offset, part.byteLength, write);
    const { taken, error } = write ? this.#take(part, offset) : this.#takeChecked(offset, part.byteLength);
    if (taken.byteLength > 0 && write) this.#copy(offset, taken, true);
    else if (taken.byteLength > 0) this.#put(taken, part, offset);
    if (error !== undefined) throw error;
    return part.byteLength;
  }

  /** What the mapping holds, up to where it cannot be read; and why it cannot. */
  #takeChecked(offset: number, bytes: number): { taken: Uint8Array; error?: Error } {
    const taken = bufferOf(bytes);
    try {
      this.#copy(offset, taken, false);
      return { taken };
    } catch (error) {
      return { taken: taken.subarray(0, bytesTransferredBefore(error)), error: error as Error };
    }
  }

  /** Where in the mapping the view lies, which overlaps it: undefined when a part of it is outside. */
  #placeOf(view: Uint8Array): number | undefined {
    const at = view.byteOffset - this.#start; // whatever buffer it is of, that begins at the same address
    return at >= 0 && at + view.byteLength <= this.length ? at : undefined;
  }

  /** Copies to a view of the mapping's memory, from memory that is not. */
  #put(taken: Uint8Array, target: Uint8Array, offset: number): void {
    const part = target.subarray(0, taken.byteLength);
    const at = this.#placeOf(part);
    if (at !== undefined) {
      this.#copy(at, taken, true);
      return;
    }
    for (let failures = 0; ; failures++) {
      const partial = native.takeBytes(taken, part, failures);
      if (partial === undefined) return;
      const error = this.#otherSideError(part, partial.done, true) ?? this.#unexplained(failures, partial, offset);
      if (error !== undefined) throw error;
    }
  }

  async #copyAsync(offset: number, part: Uint8Array, write: boolean): Promise<number> {
    const bytes = part.byteLength;
    let failures = 0;
    for (let attempt = 1; attempt <= WHOLE_ATTEMPTS || bytes <= PAGE; attempt++) {
      const copied = await this.#transferAsync(offset, part, write, failures);
      if (copied === bytes) return bytes;
      this.#throwForPartial(copied, offset, part, write);
      failures = this.#countFailure(failures, copied, offset);
    }
    for (const { done, at, part: piece } of pieces(offset, part, pieceOf(bytes))) {
      try {
        await this.#copyAsync(at, piece, write);
      } catch (error) {
        throw movedOn(error, done);
      }
    }
    return bytes;
  }

  async #transferAsync(offset: number, part: Uint8Array, write: boolean, failures: number): Promise<Copied> {
    const bytes = part.byteLength;
    const token = unwrap(native.copyAsync(this.#id, offset, bytes, write ? part : undefined, failures));
    await completionOf(token);
    const isHere = part.byteLength === bytes;
    const copied = native.copyEnd(token, write || !isHere ? undefined : part) ?? bytes;
    if (!write) throwIfShortened(part, bytes);
    return copied;
  }

  #copyRegisters(port: RegisterPort, offset: number, other: NodeJS.ArrayBufferView, write: boolean): number {
    const part = asBytes(other);
    const bytes = part.byteLength;
    const view = new DataView(part.buffer, part.byteOffset, bytes);
    // The model may shorten it.
    const throwIfShorter = (done: number): void => {
      if (part.byteLength !== bytes) throw shortened(write ? 'source' : 'target', bytes, part.byteLength, done);
    };
    for (let done = 0; done < bytes;) {
      const at = offset + done;
      const width = at % 4 === 0 && bytes - done >= 4 ? 4 : 1;
      this._throwUnlessLive(at, done);
      this.#registersAllow(at, width, write, done);
      if (write) {
        throwIfShorter(done);
        const value = width === 4 ? view.getUint32(done, true) : view.getUint8(done);
        if (!port.write(this.offset + at, width, value)) this.#throwGone(at, done);
      } else {
        const value = Number(port.read(this.offset + at, width) ?? this.#throwGone(at, done));
        throwIfShorter(done);
        if (width === 4) view.setUint32(done, value, true);
        else view.setUint8(done, value);
      }
      done += width;
    }
    return bytes;
  }

  /** Throws what the protection of their page says. */
  #registersAllow(offset: number, width: number, write: boolean, bytesTransferred: number): void {
    try {
      while (this.#wordIfAllowed(offset, width, write) === undefined);
    } catch (error) {
      throw Object.assign(error as Error, { bytesTransferred });
    }
  }

  #copy(offset: number, other: NodeJS.ArrayBufferView, write: boolean): number {
    const bytes = other.byteLength;
    if (this.#servedHere || this.#registers !== undefined) return this.#copyFromDevice(offset, other, write);
    // Nothing marked, nothing gone, and nothing has been meanwhile: what was copied is the memory's.
    const word = status[this.#slot];
    if (
      typeof offset === 'number' &&
      offset >>> 0 === offset &&
      bytes <= this.length - offset &&
      (word & STATUS_SPECIAL) === 0 &&
      bytes > 0 &&
      (this.#writable || !write)
    ) {
      const copied = this.#transfer(offset, other, bytes, write);
      if (copied === bytes && status[this.#slot] === word) return bytes;
      if (copied === undefined) return this.#copyOverlapping(offset, other, write);
      if (this.#isWhole(copied, offset, other, bytes, write, word)) return bytes;
    }
    return this.#copySlow(offset, other, bytes, write);
  }

  #copyFromDevice(offset: number, other: NodeJS.ArrayBufferView, write: boolean): number {
    const bytes = other.byteLength;
    this.#checkCopy(offset, bytes, write);
    if (this.#registers !== undefined) return this.#copyRegisters(this.#registers, offset, other, write);
    // Page by page: a page that this thread would have to supply is where the copy ends.
    if (bytes === 0) return 0;
    if (native.overlaps(this.#id, offset, other)) return this.#copyOverlapping(offset, other, write);
    for (const { done, at, part } of pieces(offset, asBytes(other), native.pageSize)) {
      try {
        this.#copySlow(at, part, part.byteLength, write, this.#selfFaults());
      } catch (error) {
        throw movedOn(error, done);
      }
    }
    return bytes;
  }

  #copySlow(offset: number, other: NodeJS.ArrayBufferView, bytes: number, write: boolean, selfFaults?: number): number {
    this.#checkCopy(offset, bytes, write);
    if (bytes === 0) return 0;
    if (native.overlaps(this.#id, offset, other)) return this.#copyOverlapping(offset, other, write);
    // A view may follow its buffer's length: it is this long for the copy.
    return this.#copyChecked(offset, asBytes(other).subarray(0, bytes), write, selfFaults);
  }

  #checkCopy(offset: number, bytes: number, write: boolean): void {
    this._throwIfClosed(offset);
    integer('offset', offset, 0, this.length);
    integer(write ? 'source.byteLength' : 'target.byteLength', bytes, 0, Number.MAX_SAFE_INTEGER);
    if (bytes > this.length - offset) {
      throw outOfRange(
        write ? 'source' : 'target',
        `at most ${this.length - offset} bytes long, what the mapping has from ${offset} on`,
        bytes,
      );
    }
    this._throwUnlessLive(offset, 0);
    if (write && !this.#writable) throw new ReadOnlyMappingError(this._place(offset, 0));
  }

  #copyChecked(offset: number, part: Uint8Array, write: boolean, selfFaults?: number): number {
    const bytes = part.byteLength;
    let failures = 0;
    for (let attempt = 1; attempt <= WHOLE_ATTEMPTS || bytes <= PAGE; attempt++) {
      // Lost and protected pages are where the copy ends, as if they faulted.
      const { limit, word } = this.#bytesAllowed(offset, bytes, write);
      const copied = limit === 0 ? 0 : this.#transfer(offset, part, limit, write, failures)!; // its callers know no overlap
      if (selfFaults !== undefined) this.#throwIfSelfFaulted(selfFaults, offset, 0);
      if (this.#isWhole(copied, offset, part, bytes, write, word)) return bytes;
      failures = this.#countFailure(failures, copied, offset);
    }
    for (const { done, at, part: piece } of pieces(offset, part, pieceOf(bytes))) {
      try {
        this.#copyChecked(at, piece, write);
      } catch (error) {
        throw movedOn(error, done);
      }
    }
    return bytes;
  }

  /** Whether all that was copied was the memory's; throws why not, unless it is to be copied again. */
  #isWhole(copied: Copied, offset: number, other: NodeJS.ArrayBufferView, bytes: number, write: boolean, word: number): boolean {
    const after = this.#bytesAllowed(offset, bytes, write);
    if (copied === bytes && after.limit === bytes && this.#isUnmoved(word)) return true;
    this.#throwForPartial(copied, offset, other, write);
    return false;
  }

  /** Throws why not all was copied, or not all of it was real; returns where there is no reason any more. */
  #throwForPartial(copied: Copied, offset: number, other: NodeJS.ArrayBufferView, write: boolean): void {
    if (typeof copied === 'number' || copied.mapping) {
      return this.#throwForCopy(offset, typeof copied === 'number' ? copied : copied.done, other.byteLength, write);
    }
    const error = this.#otherSideError(other, copied.done, !write);
    if (error !== undefined) throw error;
  }

  #countFailure(failures: number, copied: Copied, offset: number): number {
    if (typeof copied === 'number') return failures;
    const error = this.#unexplained(failures, copied, offset);
    if (error !== undefined) throw error;
    return failures + 1;
  }

  /** Of a fault that goes on and is nobody's the library knows: the page was taken away by other means. */
  #unexplained(failures: number, copied: { done: number; mapping: boolean }, offset: number): Error | undefined {
    return failures < MOST_FAILURES
      ? undefined
      : faultError(copied.done, copied.mapping ? this._place(offset + copied.done) : {});
  }

  /** Undefined, and nothing copied, when the two sides overlap. */
  #transfer(offset: number, other: NodeJS.ArrayBufferView, bytes: number, write: boolean, failures = 0): Copied | undefined {
    orderCopy(this.#id, offset, bytes, failures);
    const copied = write ? writeBytes(other) : readBytes(other);
    if (copied === undefined) return bytes;
    if (copied === false) throw outOfRange(write ? 'source' : 'target', 'as long as its byteLength says', bytes);
    return copied ?? undefined;
  }

  /** How many bytes from `offset` on may be copied, and the status word that says so: the same after the copy, and all was real. */
  #bytesAllowed(offset: number, bytes: number, write: boolean): { limit: number; word: number } {
    for (;;) {
      const word = Atomics.load(status, this.#slot);
      if ((word & STATUS_SPECIAL) === 0) return { limit: bytes, word };
      if ((word & STATUS_STATE) !== 0) return { limit: 0, word };
      const { verdict, at } = this._judge(offset, bytes, write);
      if (verdict === 'stray') continue;
      return { limit: verdict === 'fine' ? bytes : at - offset, word };
    }
  }

  /** Throws why a copy that moved `done` bytes cannot be counted as whole; returns when it can, or should be made again. */
  #throwForCopy(offset: number, done: number, bytes: number, write: boolean): void {
    const at = offset + Math.min(done, bytes - 1);
    this.#throwUnlessStillLive(at, done);
    if (done < bytes && this.object._isRevokedByOwner()) throw this.object._revokedError(this._place(at, done));
    if ((status[this.#slot] & STATUS_MARKED) === 0) return;
    const { verdict, cause, at: bad } = this._judge(offset, bytes, write);
    const place = this._place(bad, Math.min(done, bad - offset));
    if (verdict === 'lost') throw new BackingFaultError(place, cause as BackingFaultCause);
    if (verdict === 'protected') throw new ProtectedPageError(place);
    if (verdict === 'read-only') throw new ReadOnlyMappingError(place);
    if (verdict === 'unsettled') throw this._unsettledError(place);
  }

  /** The copy's other buffer faulted: it is a view of a mapping, or of memory that is not ours. Undefined when it no longer would. */
  #otherSideError(other: NodeJS.ArrayBufferView, done: number, write: boolean): Error | undefined {
    const mapping = knownMappingOf(other.buffer, other.byteOffset + done);
    return mapping === undefined ? faultError(done) : mapping._viewError(other, done, write);
  }

  /** @internal Why a copy failed whose other buffer is a view of this mapping, which another copy of the library may have made. */
  _viewError(view: NodeJS.ArrayBufferView, done: number, write: boolean): Error | undefined {
    // A system call fails so on registers too.
    if (this.#registers !== undefined) return faultError(done);
    // The view may begin before the mapping and end behind it, where that lies in a WebAssembly memory.
    const before = Math.max(0, this.#start - view.byteOffset);
    const offset = view.byteOffset + before - this.#start;
    const bytes = Math.min(view.byteLength - before, this.#span - offset);
    try {
      this.#throwForCopy(offset, done - before, bytes, write);
    } catch (error) {
      return movedOn(error, before) as Error;
    }
    return write && !this.#writable ? new ReadOnlyMappingError(this._place(offset + done - before, done)) : undefined;
  }
}

/** For methods that a call more would slow. */
export function requireMapping(value: unknown): void {
  if (!CheckedAccess._is(value)) throw invalidThis('Mapping');
}
