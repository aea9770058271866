import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import { constants as osConstants } from 'node:os';
import { bigintOf64Bits, bytesView, integer, isSharedBuffer, multipleOf, oneOf, requiredObject } from '../arguments.js';
import { publish } from '../diagnostics.js';
import {
  BackingFaultError,
  invalidType,
  invalidValue,
  MappingClosedError,
  MappingRevokedError,
  MappingSuspendedError,
  outOfRange,
  ProtectedPageError,
  ReadOnlyMappingError,
  systemError,
  type AccessPlace,
  type BackingFaultCause,
} from '../errors.js';
import { forgetMapping, rememberMapping } from '../known.js';
import { prepare, unwrap } from '../loop.js';
import {
  ACCESS,
  CAUSES,
  CLOSED_SLOT,
  FILLS,
  native,
  STATES,
  status,
  status64,
  STATUS_MARKED,
  STATUS_STATE,
  VERDICTS,
  type Failure,
  type MappingDescription,
} from '../native.js';
import { later } from '../turns.js';
import { holdBuffer, letGo, markShared, type Hold } from './holds.js';
import { MemoryObject, type MemoryState } from './memory-object.js';
import { validateWait, waitAsync, waitSync, type WaitOptions, type WaitResult } from './waits.js';

/** What a `'fault'` event tells. */
export interface FaultInfo {
  /**
   * `'backing'`: a page of a live mapping could not be had. `'protection'`: a raw access that the page's protection forbids was
   * diverted. `'revoked'`: the first raw access to a revoked or suspended mapping got the fill (published on the channel only).
   */
  kind: 'backing' | 'protection' | 'revoked';
  /** Why the backing is gone; `'none'` where the fault is not one of the backing. */
  cause: BackingFaultCause | 'none';
  /** A write, or a read. */
  write: boolean;
  /** The faulting byte, from the start of the mapping. */
  offset: number;
}

interface MappingEvents {
  /** The memory has been revoked. At most once. */
  revoked: [error: MappingRevokedError];
  /** An access faulted while the mapping was live, and completed without reaching the memory. */
  fault: [info: FaultInfo];
  /** Closed. At most once, and nothing after. */
  close: [];
}

/** Whole pages of a mapping; the last one may be cut off by the mapping's end. */
export interface PageRange {
  /** First byte, a multiple of the page size. */
  offset: number;
  /** Bytes. */
  length: number;
}

/** What `share()` gives for `postMessage`, and `attach()` takes. */
export interface MappingHandle {
  readonly type: 'revocable-mmap.MappingHandle';
  readonly id: number;
  readonly buffer: SharedArrayBuffer;
}

/** Advice to madvise(2), by its own names. */
export type Advice =
  | 'normal'
  | 'random'
  | 'sequential'
  | 'willneed'
  | 'dontneed'
  | 'cold'
  | 'pageout'
  | 'hugepage'
  | 'nohugepage'
  | 'dontdump'
  | 'dodump'
  | 'populate-read'
  | 'populate-write';

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
  /** How many pages of the mapping had been diverted when it was asked. */
  strays: number;
}
const judged = new Float64Array(4);

/**
 * The word a checked read stores to between its load and its look at the status word: see `read32`.
 * SINK64 is another one of the same thread, by 64 bits.
 */
const SINK = native.sink;
const SINK64 = native.sink / 2 + 1;

/** Whether a processor makes a thread's loads visible in program order, as x86 does and ARM does not. */
const LOADS_IN_ORDER = process.arch === 'x64';

const byBuffer = new WeakMap<ArrayBufferLike, WeakRef<Mapping>>();

/**
 * Memory of a {@link MemoryObject}, mapped into this process.
 *
 * Two ways to reach it. The raw views `buffer`, `bytes` and `view` are ordinary JavaScript buffers at full speed; once the memory
 * is revoked they read the fill. The checked accessors `read8` … `write64`, `read` and `write` cost a few nanoseconds more and
 * throw at the very access that failed.
 *
 * It is an EventEmitter: `'revoked'`, `'fault'`, `'close'`. No event is emitted within the call that caused it.
 *
 * @example
 * ```js
 * using mapping = memory.map({ offset: 0, length: 4096 });
 * try {
 *   console.log(mapping.read32(0x10));
 * } catch (error) {
 *   if (!isRevokedError(error)) throw error;
 *   console.log('the device is gone');
 * }
 * ```
 */
export class Mapping extends EventEmitter<MappingEvents> implements Disposable {
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
  /** The memory as a JavaScript buffer; with 2 MiB pages the mapping may begin inside it: see `bytes.byteOffset`. */
  readonly buffer: SharedArrayBuffer | ArrayBuffer;

  #slot: number;
  /** The slot once the typed views exist, for the fast path; until then, and for ever where there is none, CLOSED_SLOT. */
  #gate = CLOSED_SLOT;
  #u8 = NO_VIEWS.u8;
  #u16 = NO_VIEWS.u16;
  #u32 = NO_VIEWS.u32;
  #u64 = NO_VIEWS.u64;
  #bytes: Uint8Array | undefined;
  #view: DataView | undefined;
  readonly #id: number;
  readonly #writable: boolean;
  readonly #private: boolean;
  readonly #fill: (typeof FILLS)[number];
  readonly #start: number;
  readonly #creator: boolean;
  readonly #hold: Hold;
  readonly #self: WeakRef<Mapping>;
  #revokedTold = false;
  #closeTold = false;
  #faultsAtClose = 0;

  /** @internal Mappings are made by {@link MemoryObject.map} and {@link Mapping.attach}. */
  constructor(object: MemoryObject, description: MappingDescription, buffer: SharedArrayBuffer | ArrayBuffer, creator: boolean) {
    super();
    this.object = object;
    this.offset = description.offset;
    this.length = description.length;
    this.address = description.address;
    this.access = description.writable ? 'rw' : 'r';
    this.buffer = buffer;
    this.#slot = description.slot;
    this.#id = description.id;
    this.#writable = description.writable;
    this.#private = description.private;
    this.#fill = FILLS[description.fill];
    this.#creator = creator;
    this.#start = description.start;
    this.#hold = holdBuffer(this.#id, buffer);
    this.#self = new WeakRef(this);
    byBuffer.set(buffer, this.#self);
    object._remember(this, this.#self);
    rememberMapping(this.#id, this);
  }

  /**
   * A mapping another thread shares, in this thread. It is the same memory at the same address.
   *
   * @throws MappingClosedError when it has been closed meanwhile; TypeError for what is not a handle.
   *
   * @example
   * ```js
   * // main: worker.postMessage(mapping.share())
   * parentPort.once('message', (handle) => { const mapping = Mapping.attach(handle); });
   * ```
   */
  static attach(handle: MappingHandle): Mapping {
    requiredObject('handle', handle);
    if (handle.type !== 'revocable-mmap.MappingHandle')
      throw invalidType('handle', 'a MappingHandle from mapping.share()', handle);
    const id = integer('handle.id', handle.id, 0, Number.MAX_SAFE_INTEGER);
    if (!isSharedBuffer(handle.buffer)) throw invalidType('handle.buffer', 'a SharedArrayBuffer', handle.buffer);
    prepare();
    const description = unwrap(native.attach(id, new Uint8Array(handle.buffer, 0, handle.buffer.byteLength)));
    if (description === null) throw new MappingClosedError({ object: 'shared mapping' });
    return new Mapping(MemoryObject._attach(description.objectId), description, handle.buffer, false);
  }

  /** Live; suspended; revoked for ever; closed. Also after the fill has made the raw views readable again. */
  get state(): MemoryState {
    return STATES[status[this.#slot] & STATUS_STATE];
  }

  /** How many faults on it the library has handled, in all threads. */
  get faults(): number {
    return this.#slot === CLOSED_SLOT ? this.#faultsAtClose : native.faults(this.#id);
  }

  /** The mapping's bytes, raw: at full speed, and the fill once it is revoked. */
  get bytes(): Uint8Array {
    return (this.#bytes ??= new Uint8Array(this.buffer, this.#start, this.length));
  }

  /** The same as a DataView. */
  get view(): DataView {
    return (this.#view ??= new DataView(this.buffer, this.#start, this.length));
  }

  /**
   * Reads a byte, checked.
   *
   * `read16`, `read32` and `read64` read little-endian words of naturally aligned offsets. Each is one access of exactly that width.
   *
   * @throws MappingRevokedError, MappingSuspendedError, MappingClosedError, BackingFaultError, ProtectedPageError at the access that
   *   failed; RangeError `ERR_OUT_OF_RANGE` for an offset outside or not aligned; TypeError `ERR_INVALID_ARG_TYPE`.
   */
  read8(offset: number): number {
    const gate = this.#gate;
    const index = typeof offset === 'number' ? offset >>> 0 : -1;
    if (index === offset && status[gate] === 0) {
      const value = this.#u8[index];
      if (value !== undefined) {
        status[SINK] = value;
        if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
        if (status[gate] === 0) return value;
        return this.#reconsider(offset, 1) as number;
      }
    }
    return this.#readSlow(offset, 1) as number;
  }

  /** {@link read8} of 16 bits. */
  read16(offset: number): number {
    const gate = this.#gate;
    const index = typeof offset === 'number' ? offset >>> 1 : -1;
    if (index * 2 === offset && status[gate] === 0) {
      const value = this.#u16[index];
      if (value !== undefined) {
        status[SINK] = value;
        if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
        if (status[gate] === 0) return value;
        return this.#reconsider(offset, 2) as number;
      }
    }
    return this.#readSlow(offset, 2) as number;
  }

  /** {@link read8} of 32 bits. */
  read32(offset: number): number {
    const gate = this.#gate;
    const index = typeof offset === 'number' ? offset >>> 2 : -1;
    if (index * 4 === offset && status[gate] === 0) {
      // The order of the next lines is the product: the handler sets the status word before it lets a faulting load complete,
      // so a word that is 0 after the load says that the load was real. The store to SINK keeps compilers from answering with
      // the word they loaded above (Maglev in Node 26 does): it depends on the value and may, for all they know, be to that very
      // word. Atomics.add orders the two loads on processors that do not (docs/decisions/005-checked-accessors.md).
      const value = this.#u32[index];
      if (value !== undefined) {
        status[SINK] = value;
        if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
        if (status[gate] === 0) return value;
        return this.#reconsider(offset, 4) as number;
      }
    }
    return this.#readSlow(offset, 4) as number;
  }

  /** {@link read8} of 64 bits, as a bigint. */
  read64(offset: number): bigint {
    const gate = this.#gate;
    const index = typeof offset === 'number' ? offset >>> 3 : -1;
    if (index * 8 === offset && status[gate] === 0) {
      const value = this.#u64[index];
      if (value !== undefined) {
        status64[SINK64] = value;
        if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
        if (status[gate] === 0) return value;
        return this.#reconsider(offset, 8) as bigint;
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
    const gate = this.#gate;
    const index = typeof offset === 'number' ? offset >>> 0 : -1;
    if (
      index === offset &&
      typeof value === 'number' &&
      value === (value & 0xff) &&
      this.#writable &&
      index < this.#u8.length &&
      status[gate] === 0
    ) {
      this.#u8[index] = value;
      if (status[gate] === 0) return;
      return this.#afterWrite(offset, 1);
    }
    this.#writeSlow(offset, 1, value);
  }

  /** {@link write8} of 16 bits. */
  write16(offset: number, value: number): void {
    const gate = this.#gate;
    const index = typeof offset === 'number' ? offset >>> 1 : -1;
    if (
      index * 2 === offset &&
      typeof value === 'number' &&
      value === (value & 0xffff) &&
      this.#writable &&
      index < this.#u16.length &&
      status[gate] === 0
    ) {
      this.#u16[index] = value;
      if (status[gate] === 0) return;
      return this.#afterWrite(offset, 2);
    }
    this.#writeSlow(offset, 2, value);
  }

  /** {@link write8} of 32 bits. */
  write32(offset: number, value: number): void {
    const gate = this.#gate;
    const index = typeof offset === 'number' ? offset >>> 2 : -1;
    if (
      index * 4 === offset &&
      typeof value === 'number' &&
      value === value >>> 0 &&
      this.#writable &&
      index < this.#u32.length &&
      status[gate] === 0
    ) {
      this.#u32[index] = value;
      if (status[gate] === 0) return;
      return this.#afterWrite(offset, 4);
    }
    this.#writeSlow(offset, 4, value);
  }

  /** {@link write8} of 64 bits, a bigint. */
  write64(offset: number, value: bigint): void {
    this.#writeSlow(offset, 8, value);
  }

  /**
   * Copies bytes out, checked: from `offset` on, as many as `target` has room for. Blocks for as long as the copy takes.
   *
   * @returns how many bytes: `target.byteLength`.
   * @throws what {@link read8} throws, with `bytesTransferred`: exactly so many bytes have been copied, in ascending order.
   */
  read(offset: number, target: NodeJS.ArrayBufferView): number {
    return this.#copy(offset, bytesView('target', target), false);
  }

  /** Copies bytes in, checked. See {@link read}. */
  write(offset: number, source: NodeJS.ArrayBufferView): number {
    return this.#copy(offset, bytesView('source', source), true);
  }

  /**
   * Throws what a checked access would throw now: for code that has used the raw views, or given them to a system call, and wants
   * to know whether all of it was real. A page counts that was lost since the mapping was made, and one that is past the end of its
   * file now. Reads nothing of the memory.
   *
   * @param range what to look at; default the whole mapping.
   */
  check(range?: PageRange): void {
    const { offset, length } = this.#pages(range);
    this.#throwUnlessLive(undefined);
    if (!this.object.owned && native.objectRevokedByOwner(this.object._id)) throw this.object._revokedError();
    this.#throwIfLost(offset, offset + length);
    const end = this.object._end;
    const past = end === Infinity ? -1 : native.firstBytePast(this.#id, offset, length, end);
    if (past >= 0) throw new BackingFaultError(this.#place(past), 'past-end');
  }

  #throwIfLost(from: number, to: number): void {
    while ((status[this.#slot] & STATUS_MARKED) !== 0 && from < to) {
      const { verdict, cause, at } = this.#judge(from, to - from, false);
      if (verdict === 'fine') return;
      if (verdict === 'lost') throw new BackingFaultError(this.#place(at), cause as BackingFaultCause);
      from = Math.floor(at / this.#pageSize + 1) * this.#pageSize;
    }
  }

  /**
   * Changes what accesses are allowed to whole pages. Checked accesses that are not allowed throw; raw ones complete without
   * reaching the memory.
   *
   * @throws `EACCES` for `'rw'` on a read-only mapping; RangeError for a range that is not whole pages; MappingRevokedError, ….
   */
  protect(range: PageRange & { access: 'none' | 'r' | 'rw' }): void {
    requiredObject('range', range);
    const access = oneOf('range.access', range.access, ['none', 'r', 'rw']);
    const { offset, length } = this.#pages(range);
    this.#throwUnlessLive(undefined);
    if (access === 'rw' && !this.#writable) throw systemError({ errno: -osConstants.errno.EACCES, syscall: 'mprotect' });
    this.#explain(native.protect(this.#id, offset / this.#pageSize, Math.ceil(length / this.#pageSize), ACCESS.indexOf(access)));
  }

  /**
   * Lets whole pages of the mapping show other pages of the object: a non-linear mapping, as remap_file_pages(2) made.
   *
   * @throws RangeError for a range or `objectOffset` that is not whole pages or outside; the error of mmap(2).
   */
  remapPages(range: PageRange & { objectOffset: number }): void {
    requiredObject('range', range);
    const { offset, length } = this.#pages(range);
    const objectOffset = integer('range.objectOffset', range.objectOffset, 0, Number.MAX_SAFE_INTEGER - length);
    multipleOf('range.objectOffset', objectOffset, this.#pageSize);
    const whole = Math.ceil(this.object.size / this.#pageSize) * this.#pageSize;
    if (this.object.owned && objectOffset + length > whole) {
      throw outOfRange('range.objectOffset', `<= ${whole - length}, so that the range lies in ${this.object.name}`, objectOffset);
    }
    this.#throwUnlessLive(undefined);
    const pages = Math.ceil(length / this.#pageSize);
    this.#explain(native.remapPages(this.#id, offset / this.#pageSize, pages, objectOffset));
  }

  /** madvise(2). @throws its error: `EINVAL` where the kernel does not know the advice, … */
  advise(advice: Advice, range?: PageRange): void {
    const name = oneOf('advice', advice, Object.keys(native.advice) as Advice[]);
    const { offset, length } = this.#pages(range);
    this.#throwUnlessLive(undefined);
    this.#explain(native.advise(this.#id, offset, length, native.advice[name]));
  }

  /** Writes what was changed through the mapping to its file and waits for it: msync(2) with MS_SYNC. @throws `EIO`, … */
  sync(range?: PageRange): void {
    this.#call('sync', range);
  }

  /** Keeps pages in memory: mlock(2). @throws `ENOMEM` or `EPERM` beyond RLIMIT_MEMLOCK. */
  lock(range?: PageRange): void {
    this.#call('lock', range);
  }

  /** Undoes {@link lock}: munlock(2). */
  unlock(range?: PageRange): void {
    this.#call('unlock', range);
  }

  /** Brings pages in, without waiting for a touch; reads a file's pages from disk. @throws BackingFaultError where one is gone. */
  prefetch(range?: PageRange): void {
    this.#call('prefetch', range);
  }

  /** Which pages are in memory, by mincore(2): one byte a page, 1 or 0. */
  residency(range?: PageRange): Uint8Array {
    const { offset, length } = this.#pages(range);
    this.#throwUnlessLive(undefined);
    const pages = new Uint8Array(Math.ceil(length / native.pageSize));
    this.#explain(native.residency(this.#id, offset, length, pages));
    return pages;
  }

  /**
   * Waits until somebody wakes the 32-bit word at `offset`, in any thread or process: futex(2). `'not-equal'` when the word is not
   * `expected` to begin with. Occupies no thread of libuv's pool; keeps this thread's event loop alive.
   *
   * @throws (rejects) MappingRevokedError, MappingSuspendedError, MappingClosedError when the mapping goes while it waits; the
   *   signal's reason.
   */
  wait(offset: number, expected: number, options?: WaitOptions): Promise<WaitResult> {
    const word = validateWait(this, offset, expected, options);
    this.#throwUnlessLive(offset);
    return waitAsync(this.#id, word, (why) => this.#throwGone(offset, why));
  }

  /** {@link wait}, blocking this thread. A worker that waits can be terminated. */
  waitSync(offset: number, expected: number, options?: WaitOptions): WaitResult {
    const word = validateWait(this, offset, expected, options);
    this.#throwUnlessLive(offset);
    return waitSync(this.#id, word, (why) => this.#throwGone(offset, why));
  }

  /**
   * Wakes up to `count` (default: all) who wait for the word at `offset`. Change the word first, as futex users do: a waiter that
   * is on its way to sleep in another process sees the change, not the wake.
   *
   * @returns how many.
   */
  wake(offset: number, count: number = 0x7fff_ffff): number {
    this.#checkPlace(offset, 4);
    integer('count', count, 0, 0x7fff_ffff);
    this.#throwUnlessLive(offset);
    return count === 0 ? 0 : native.wake(this.#id, offset, count);
  }

  /**
   * A handle for another thread of this process, to be sent by `postMessage` and attached there. Posting `buffer` alone would not keep the
   * mapping live. The mapping then lasts until this thread closes it or ends, or, once a thread has attached, until nobody has it.
   *
   * @throws TypeError `ERR_INVALID_ARG_VALUE` for a mapping with `shared: false`; MappingClosedError, MappingRevokedError, ….
   */
  share(): MappingHandle {
    this.#throwUnlessLive(undefined);
    if (!isSharedBuffer(this.buffer))
      throw invalidValue('shared', 'must be true for a mapping that is shared between threads', false);
    markShared(this.#hold);
    return { type: 'revocable-mmap.MappingHandle', id: this.#id, buffer: this.buffer };
  }

  /**
   * Ends the mapping, for every thread; in a thread that attached, ends that thread's handle only. Idempotent. Views go on reading
   * zeros that are their own, and never another mapping's bytes.
   */
  close(): void {
    if (this.#slot === CLOSED_SLOT) return;
    this.#closeHere(true);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    const sharing = this.#private ? 'private' : 'shared';
    return `Mapping <${this.object.name} +${this.offset} ${this.length} B ${this.access} ${sharing} ${this.state}>`;
  }

  get [Symbol.toStringTag](): string {
    return 'Mapping';
  }

  /** @internal */
  get _id(): number {
    return this.#id;
  }

  /** @internal Emits what has changed since it was last looked at. */
  _synchronize(): void {
    const state = this.state;
    if (state === 'revoked' && !this.#revokedTold) {
      this.#revokedTold = true;
      const error = this.object._revokedError();
      later(() => {
        if (!this.#closeEmitted) this.emit('revoked', error);
      });
    }
    if (state === 'closed') this.#closeHere(false);
  }

  /** @internal A fault that the handler has settled. */
  _faulted(info: FaultInfo): void {
    publish('fault', () => ({ mapping: this, ...info }));
    if (info.kind === 'revoked' || this.#closeTold) return;
    later(() => {
      if (this.#closeEmitted) return;
      this.emit('fault', info);
      this.object.emit('fault', info, this);
    });
  }

  #closeEmitted = false;

  get #pageSize(): number {
    return this.object._pageSize;
  }

  #closeHere(explicit: boolean): void {
    if (this.#closeTold) return;
    this.#closeTold = true;
    this.#faultsAtClose = native.faults(this.#id);
    this.#slot = this.#gate = CLOSED_SLOT;
    this.#u8 = NO_VIEWS.u8;
    this.#u16 = NO_VIEWS.u16;
    this.#u32 = NO_VIEWS.u32;
    this.#u64 = NO_VIEWS.u64;
    letGo(this.#hold, explicit && this.#creator);
    this.object._forget(this.#self);
    forgetMapping(this.#id, this);
    publish('close', () => ({ mapping: this, object: this.object }));
    later(() => {
      this.#closeEmitted = true;
      this.emit('close');
    });
  }

  #place(offset: number | undefined, bytesTransferred?: number): AccessPlace {
    const place: AccessPlace = { object: this.object.name };
    if (bytesTransferred !== undefined) place.bytesTransferred = bytesTransferred;
    if (offset === undefined) return place;
    return { ...place, offset, objectOffset: this.offset + offset, address: this.address + BigInt(offset) };
  }

  #throwUnlessLive(offset: number | undefined, bytesTransferred?: number): void {
    switch (this.state) {
      case 'live':
        return;
      case 'revoked':
        throw this.#revocationError(offset, bytesTransferred);
      case 'suspended':
        throw new MappingSuspendedError(this.#place(offset, bytesTransferred));
      case 'closed':
        throw new MappingClosedError(this.#place(offset, bytesTransferred));
    }
  }

  /** Of a page whose loss made the library revoke the whole object: that loss. Elsewhere: the revocation. */
  #revocationError(offset: number | undefined, bytesTransferred?: number): Error {
    const place = this.#place(offset, bytesTransferred);
    if (offset !== undefined && (status[this.#slot] & STATUS_MARKED) !== 0) {
      const { verdict, cause } = this.#judge(offset, 1, false);
      if (verdict === 'lost') return new BackingFaultError(place, cause as BackingFaultCause);
    }
    return this.object._revokedError(place);
  }

  #judge(offset: number, width: number, write: boolean): Judgement {
    native.judge(this.#id, offset, width, write, judged);
    return { verdict: VERDICTS[judged[0]], cause: CAUSES[judged[1]], at: judged[2], strays: judged[3] };
  }

  /** Throws what the marks of the pages say. False when a diverted page had to be put back: what was read there was not real. */
  #marksAllow(offset: number, width: number, write: boolean): boolean {
    const { verdict, cause, at } = this.#judge(offset, width, write);
    switch (verdict) {
      case 'fine':
        return true;
      case 'stray':
        return false;
      case 'lost':
        throw new BackingFaultError(this.#place(Math.max(at, offset)), cause as BackingFaultCause);
      case 'protected':
        throw new ProtectedPageError(this.#place(at));
      case 'read-only':
        throw new ReadOnlyMappingError(this.#place(at));
    }
  }

  #checkPlace(offset: number, width: number): void {
    integer('offset', offset, 0, Math.max(0, this.length - width));
    if (width > this.length) throw outOfRange('offset', `in a mapping of at least ${width} bytes, not ${this.length}`, offset);
    if (width > 1) multipleOf('offset', offset, width);
  }

  /**
   * Makes the typed views on first use. Never for a deadly fill, whose raw memory no checked access may touch, and not when the user
   * has transferred the ArrayBuffer away: accesses then go through native code.
   */
  #makeViews(): void {
    if (this.#u8 !== NO_VIEWS.u8 || this.#fill === 'signal' || this.buffer.byteLength === 0) return;
    this.#u8 = new Uint8Array(this.buffer, this.#start, this.length);
    this.#u16 = new Uint16Array(this.buffer, this.#start, Math.floor(this.length / 2));
    this.#u32 = new Uint32Array(this.buffer, this.#start, Math.floor(this.length / 4));
    this.#u64 = new BigUint64Array(this.buffer, this.#start, Math.floor(this.length / 8));
    this.#gate = this.#slot;
  }

  #readSlow(offset: number, width: number): number | bigint {
    this.#throwIfClosed(offset);
    this.#checkPlace(offset, width);
    this.#throwUnlessLive(offset);
    this.#makeViews();
    for (;;) {
      const strays = this.#straysIfAllowed(offset, width);
      if (strays === undefined) continue;
      const value = this.#load(offset, width);
      if (value === undefined) {
        this.#throwAfterFault(offset, width, false);
        continue;
      }
      if (strays === this.#straysIfAllowed(offset, width)) return value;
    }
  }

  /**
   * Throws what forbids the access; else how many pages have been diverted so far. The same number before and after a load says that
   * the load was of the object's own page. Undefined when a diverted page has just been put back.
   */
  #straysIfAllowed(offset: number, width: number): number | undefined {
    if (Atomics.load(status, this.#slot) === 0) return 0;
    return this.#allowed(offset, width, false) ? judged[3] : undefined;
  }

  /** After a load during which the status word changed: throws why, or makes the load again. */
  #reconsider(offset: number, width: number): number | bigint {
    this.#throwUnlessLive(offset);
    return this.#readSlow(offset, width);
  }

  #allowed(offset: number, width: number, write: boolean): boolean {
    this.#throwUnlessLive(offset);
    return this.#marksAllow(offset, width, write);
  }

  #afterWrite(offset: number, width: number): void {
    this.#allowed(offset, width, true);
  }

  #writeSlow(offset: number, width: number, value: number | bigint): void {
    this.#throwIfClosed(offset);
    this.#checkPlace(offset, width);
    if (width === 8) bigintOf64Bits('value', value);
    else integer('value', value, 0, 2 ** (8 * width) - 1);
    this.#throwUnlessLive(offset);
    if (!this.#writable) throw new ReadOnlyMappingError(this.#place(offset));
    this.#makeViews();
    while (status[this.#slot] !== 0 && !this.#allowed(offset, width, true));
    while (!this.#store(offset, width, value)) this.#throwAfterFault(offset, width, true);
    if (status[this.#slot] !== 0) this.#afterWrite(offset, width);
  }

  #load(offset: number, width: number): number | bigint | undefined {
    if (this.#u8.length === 0) return native.load(this.#id, offset, width);
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

  #store(offset: number, width: number, value: number | bigint): boolean {
    if (this.#u8.length === 0) return native.store(this.#id, offset, width, value);
    if (width === 1) this.#u8[offset] = value as number;
    else if (width === 2) this.#u16[offset / 2] = value as number;
    else if (width === 4) this.#u32[offset / 4] = value as number;
    else this.#u64[offset / 8] = value as bigint;
    return true;
  }

  /** After a guarded access came back with a fault: throws its reason, or returns when the memory is there again. */
  #throwAfterFault(offset: number, width: number, write: boolean): void {
    this.#throwUnlessLive(offset);
    if (!this.object.owned && native.objectRevokedByOwner(this.object._id)) throw this.object._revokedError(this.#place(offset));
    if (status[this.#slot] !== 0) this.#marksAllow(offset, width, write);
  }

  #throwIfClosed(offset: number): void {
    if (this.#slot === CLOSED_SLOT || this.state === 'closed') {
      throw new MappingClosedError(this.#place(typeof offset === 'number' && Number.isInteger(offset) ? offset : undefined));
    }
  }

  #copy(offset: number, other: NodeJS.ArrayBufferView, write: boolean): number {
    this.#throwIfClosed(offset);
    const bytes = other.byteLength;
    integer('offset', offset, 0, this.length);
    if (bytes > this.length - offset) {
      throw outOfRange(
        write ? 'source' : 'target',
        `at most ${this.length - offset} bytes long, what the mapping has from ${offset} on`,
        bytes,
      );
    }
    this.#throwUnlessLive(offset, 0);
    if (write && !this.#writable) throw new ReadOnlyMappingError(this.#place(offset, 0));
    return bytes === 0 ? 0 : this.#copyChecked(offset, other, bytes, write);
  }

  #copyChecked(offset: number, other: NodeJS.ArrayBufferView, bytes: number, write: boolean): number {
    for (;;) {
      // Lost and protected pages are where the copy ends, as if they faulted.
      const { limit, strays } = this.#bytesAllowed(offset, bytes, write);
      const copied = limit === 0 ? 0 : this.#transfer(offset, other, limit, write);
      const done = typeof copied === 'number' ? copied : copied.done;
      if (typeof copied !== 'number' && !copied.mapping) throw this.#otherSideError(other, done, !write);
      const after = this.#bytesAllowed(offset, bytes, write);
      if (done === bytes && after.limit === bytes && after.strays === strays) return bytes;
      this.#throwForCopy(offset, done, bytes, write);
    }
  }

  #transfer(offset: number, other: NodeJS.ArrayBufferView, bytes: number, write: boolean): ReturnType<typeof native.readBytes> {
    return write ? native.writeBytes(this.#id, offset, other, bytes) : native.readBytes(this.#id, offset, other, bytes);
  }

  /** How many bytes from `offset` on may be copied, and how many pages had been diverted when it was asked. */
  #bytesAllowed(offset: number, bytes: number, write: boolean): { limit: number; strays: number } {
    for (;;) {
      const word = Atomics.load(status, this.#slot);
      if (word === 0) return { limit: bytes, strays: 0 };
      if ((word & STATUS_STATE) !== 0) return { limit: 0, strays: -1 };
      const { verdict, at, strays } = this.#judge(offset, bytes, write);
      if (verdict === 'stray') continue;
      return { limit: verdict === 'fine' ? bytes : at - offset, strays };
    }
  }

  /** Throws why a copy that moved `done` bytes cannot be counted as whole; returns when it can, or should be made again. */
  #throwForCopy(offset: number, done: number, bytes: number, write: boolean): void {
    const at = offset + Math.min(done, bytes - 1);
    this.#throwUnlessLive(at, done);
    if (!this.object.owned && done < bytes && native.objectRevokedByOwner(this.object._id)) {
      throw this.object._revokedError(this.#place(at, done));
    }
    if ((status[this.#slot] & STATUS_MARKED) === 0) return;
    const { verdict, cause, at: bad } = this.#judge(offset, bytes, write);
    const place = this.#place(bad, Math.min(done, bad - offset));
    if (verdict === 'lost') throw new BackingFaultError(place, cause as BackingFaultCause);
    if (verdict === 'protected') throw new ProtectedPageError(place);
    if (verdict === 'read-only') throw new ReadOnlyMappingError(place);
  }

  /** The copy's other buffer faulted: it is a view of another mapping, or of memory that is not ours. */
  #otherSideError(other: NodeJS.ArrayBufferView, done: number, write: boolean): Error {
    const mapping = byBuffer.get(other.buffer)?.deref();
    if (mapping === undefined)
      return Object.assign(systemError({ errno: -osConstants.errno.EFAULT, syscall: 'copy' }), { bytesTransferred: done });
    const offset = other.byteOffset - mapping.#start;
    try {
      mapping.#throwForCopy(offset, done, other.byteLength, write);
    } catch (error) {
      return error as Error;
    }
    const place = mapping.#place(offset + done, done);
    if (write && !mapping.#writable) return new ReadOnlyMappingError(place);
    return Object.assign(systemError({ errno: -osConstants.errno.EFAULT, syscall: 'copy' }), { bytesTransferred: done });
  }

  /** Whole pages, or the mapping's last ones. Without a range: all of it. */
  #pages(range: PageRange | undefined): { offset: number; length: number } {
    this.#throwIfClosed(0);
    if (range === undefined) return { offset: 0, length: this.length };
    requiredObject('range', range);
    const offset = multipleOf('range.offset', integer('range.offset', range.offset, 0, this.length - 1), this.#pageSize);
    const length = integer('range.length', range.length, 1, this.length - offset);
    if (offset + length !== this.length) multipleOf('range.length', length, this.#pageSize);
    return { offset, length };
  }

  #call(name: 'sync' | 'lock' | 'unlock' | 'prefetch', range: PageRange | undefined): void {
    const { offset, length } = this.#pages(range);
    this.#throwUnlessLive(undefined);
    this.#explain(native[name](this.#id, offset, length));
  }

  /** A failed system call's error, or the better one: that the mapping has gone meanwhile, or that a page of it is gone. */
  #explain(failure: Failure | null): void {
    if (failure === null) return;
    this.#throwUnlessLive(undefined);
    if (failure.errno === -osConstants.errno.EFAULT) {
      if (!this.object.owned && native.objectRevokedByOwner(this.object._id)) throw this.object._revokedError();
      throw new BackingFaultError(this.#place(undefined), this.object.size < this.offset + this.length ? 'past-end' : 'unknown');
    }
    throw systemError(failure);
  }

  /** A wait ended because the mapping went. */
  #throwGone(offset: number, why: 'gone' | 'faulted'): never {
    this.#throwUnlessLive(offset);
    if (why === 'faulted') this.read32(offset); // throws why the word cannot be read
    // The waiter saw the object's gate, or its truncation, before this mapping's turn came.
    const gate = this.object.state;
    if (gate === 'revoked') throw this.#revocationError(offset);
    if (gate === 'closed') throw new MappingClosedError(this.#place(offset));
    throw new MappingSuspendedError(this.#place(offset)); // perhaps resumed since
  }
}
