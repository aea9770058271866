/** Checked accesses to single words: each throws where it failed. */
import { bigintOf64Bits, integer } from '../arguments.js';
import { branded } from '../brands.js';
import { invalidThis, ReadOnlyMappingError } from '../errors.js';
import { CLOSED_SLOT, STATUS_SPECIAL } from '../native/enums.js';
import type { MappingDescription } from '../native/functions.js';
import { native } from '../native/load.js';
import { status as sharedStatus, status64 as sharedStatus64 } from '../native/shared-state.js';
import { AccessState, requireMapping } from './access-state.js';
import type { RegisterPort } from './backing-provider.js';
import { GATE, WORDS } from './fast-reads.js';
import type { MemoryObject } from './memory-object.js';

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

// Looked up once: V8 does not fold what is read of another module's exports each time.
const status = sharedStatus;
const status64 = sharedStatus64;

/**
 * The word a checked read stores to between its load and its look at the status word: see `read32`.
 * SINK64 is another one of the same thread, by 64 bits.
 */
export const SINK = native.sink;
const SINK64 = native.sink / 2 + 1;

/** True if a processor makes a thread's loads visible in program order, as x86 does and ARM does not. */
export const LOADS_IN_ORDER = process.arch === 'x64';

/** The part of {@link Mapping} that reads and writes words. */
export abstract class CheckedAccess extends AccessState {
  /** @internal The slot where there are typed views, for the fast path; where there are none, CLOSED_SLOT. */
  [GATE] = CLOSED_SLOT;
  #u8 = NO_VIEWS.u8;
  #u16 = NO_VIEWS.u16;
  /** @internal */
  [WORDS] = NO_VIEWS.u32;
  #u64 = NO_VIEWS.u64;
  /** What AccessState has too: its getter would be felt. */
  readonly #writable: boolean;

  static {
    branded('Mapping', this.prototype, (value) => #writable in value, {
      inline: [8, 16, 32, 64].flatMap((bits) => [`read${bits}`, `write${bits}`]),
    });
  }

  /** @internal */
  constructor(key: symbol, object: MemoryObject, description: MappingDescription, buffer: SharedArrayBuffer | ArrayBuffer) {
    super(key, object, description, buffer);
    this.#writable = description.writable;
    // Registers are no memory, and no checked access may touch what a deadly fill may take the place of: native code does.
    if (this._registers !== undefined || this._deadly) return;
    // At once: a first read that had to make them would cost all others their speed (docs/decisions/005-checked-accessors.md).
    this[WORDS] = new Uint32Array(buffer, this._start, Math.floor(this.length / 4));
    this[GATE] = this._slot;
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
      if (!(#writable in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this[GATE];
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
      if (!(#writable in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this[GATE];
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

  /** {@link read8} of 32 bits: the fastest of them. (This one is for after a failure: see `fast-reads.ts`.) */
  read32(offset: number): number {
    requireMapping(this);
    return this._read32Compared(offset);
  }

  /** @internal The load of a {@link read32} was not of a mapping that is live and never was anything else: its error, or the value after all. */
  _read32AfterLoad(offset: number): number {
    requireMapping(this);
    const refusal = this.#refusalAfterLoad(offset, 4);
    if (refusal !== undefined) throw refusal;
    return this.#readSlow(offset, 4) as number;
  }

  /** @internal {@link read32} after a failure, and of mappings that fail for good reasons (SlowPathMapping). */
  protected _read32Compared(offset: number): number {
    const gate = this[GATE];
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const words = this[WORDS];
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
      if (!(#writable in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this[GATE];
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
      if (!(#writable in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this[GATE];
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
      if (!(#writable in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this[GATE];
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
      if (!(#writable in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    const gate = this[GATE];
    const before = LOADS_IN_ORDER ? status[gate] : Atomics.load(status, gate);
    const index = typeof offset === 'number' ? offset >>> 2 : -1;
    if (
      ((index << 2 === offset && offset >= 0) || index * 4 === offset) &&
      typeof value === 'number' &&
      value === value >>> 0 &&
      this.#writable &&
      index < this[WORDS].length &&
      (before & STATUS_SPECIAL) === 0
    ) {
      this[WORDS][index] = value;
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

  /** @internal No access reaches the memory through it any more. */
  protected override _endAccess(): void {
    super._endAccess();
    this[GATE] = CLOSED_SLOT;
    this.#u8 = NO_VIEWS.u8;
    this.#u16 = NO_VIEWS.u16;
    this[WORDS] = NO_VIEWS.u32;
    this.#u64 = NO_VIEWS.u64;
  }

  /** After a load during which the status word changed: why. Undefined when it should be made again. */
  #refusalAfterLoad(offset: number, width: number): Error | undefined {
    const refusal = this._whyNoLonger(offset) ?? this._selfFaultSince(0, offset) ?? this._refusalOfMarks(offset, width, false);
    return refusal === 'stray' ? undefined : refusal;
  }

  /** Makes the typed view for accesses of `width` on first use; that of 32 bits is there from the start. */
  #makeView(width: number): void {
    const { length } = this;
    if (this.#isUnviewed) return;
    if (width === 1 && this.#u8 === NO_VIEWS.u8) this.#u8 = new Uint8Array(this._buffer, this._start, length);
    else if (width === 2 && this.#u16 === NO_VIEWS.u16)
      this.#u16 = new Uint16Array(this._buffer, this._start, Math.floor(length / 2));
    else if (width === 8 && this.#u64 === NO_VIEWS.u64)
      this.#u64 = new BigUint64Array(this._buffer, this._start, Math.floor(length / 8));
  }

  #readSlow(offset: number, width: number): number | bigint {
    this._throwIfClosed(offset);
    this._checkPlace(offset, width);
    this._throwUnlessLive(offset);
    if (this._registers !== undefined) {
      while (this._wordIfAllowed(offset, width, false) === undefined);
      return this.#readRegister(this._registers, offset, width);
    }
    this.#makeView(width);
    for (let failures = 0; ;) {
      const word = this._wordIfAllowed(offset, width, false);
      if (word === undefined) continue;
      const selfFaults = this._selfFaults();
      const value = this.#load(offset, width, failures);
      this._throwIfSelfFaultedSince(selfFaults, offset);
      if (value === undefined) {
        this.#throwAfterFault(offset, width, false, failures++);
        continue;
      }
      if (this._isSame(word)) return value;
      this._throwUnlessStillLive(offset);
    }
  }

  /** After a store during which the status word changed: throws why, or makes the store again where it may have gone elsewhere. */
  #afterWrite(offset: number, width: number, value: number, before: number): void {
    this._throwUnlessStillLive(offset);
    this._throwIfSelfFaultedSince(0, offset);
    if (this._allowed(offset, width, true) && this._isUnmoved(before)) return;
    this.#writeSlow(offset, width, value);
  }

  #writeSlow(offset: number, width: number, value: number | bigint): void {
    this._throwIfClosed(offset);
    this._checkPlace(offset, width);
    if (width === 8) bigintOf64Bits('value', value);
    else integer('value', value, 0, 2 ** (8 * width) - 1);
    this._throwUnlessLive(offset);
    if (!this.#writable) throw new ReadOnlyMappingError(this._place(offset));
    if (this._registers !== undefined) {
      while (this._wordIfAllowed(offset, width, true) === undefined);
      return this.#writeRegister(this._registers, offset, width, value);
    }
    this.#makeView(width);
    for (let failures = 0; ;) {
      const word = this._wordIfAllowed(offset, width, true);
      if (word === undefined) continue;
      const selfFaults = this._selfFaults();
      const stored = this.#store(offset, width, value, failures);
      this._throwIfSelfFaultedSince(selfFaults, offset);
      if (!stored) this.#throwAfterFault(offset, width, true, failures++);
      else if (this._isSame(word)) return;
      else this._throwUnlessStillLive(offset);
    }
  }

  #readRegister(port: RegisterPort, offset: number, width: number): number | bigint {
    const value = port.read(this.offset + offset, width);
    if (value === undefined) this._throwGone(offset);
    return value;
  }

  #writeRegister(port: RegisterPort, offset: number, width: number, value: number | bigint): void {
    if (!port.write(this.offset + offset, width, value)) this._throwGone(offset);
  }

  /** Accesses go through native code; also where the user has transferred the ArrayBuffer away. */
  get #isUnviewed(): boolean {
    return this[GATE] === CLOSED_SLOT || this._buffer.byteLength === 0;
  }

  #load(offset: number, width: number, failures: number): number | bigint | undefined {
    if (this.#isUnviewed) return native.load(this._id, offset, width, failures);
    switch (width) {
      case 1:
        return this.#u8[offset];
      case 2:
        return this.#u16[offset / 2];
      case 4:
        return this[WORDS][offset / 4];
      default:
        return this.#u64[offset / 8];
    }
  }

  #store(offset: number, width: number, value: number | bigint, failures: number): boolean {
    if (this.#isUnviewed) return native.store(this._id, offset, width, value, failures);
    if (width === 1) this.#u8[offset] = value as number;
    else if (width === 2) this.#u16[offset / 2] = value as number;
    else if (width === 4) this[WORDS][offset / 4] = value as number;
    else this.#u64[offset / 8] = value as bigint;
    return true;
  }

  /** After a guarded access came back with a fault: throws its reason, or returns when the memory is there again. */
  #throwAfterFault(offset: number, width: number, write: boolean, failures: number): void {
    this._throwUnlessStillLive(offset);
    if (this.object._isRevokedByOwner()) throw this.object._revokedError(this._place(offset));
    if ((status[this._slot] & STATUS_SPECIAL) !== 0) this._marksAllow(offset, width, write);
    const error = this._unexplained(failures, { done: 0, mapping: true }, offset);
    if (error !== undefined) throw error;
  }
}
