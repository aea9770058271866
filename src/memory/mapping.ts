import { inspect } from 'node:util';
import { osConstants } from '../os-constants.js';
import { integer, isSharedBuffer, multipleOf, oneOf, requiredObject } from '../arguments.js';
import { branded, CONSTRUCT } from '../brands.js';
import { publish } from '../diagnostics.js';
import {
  BackingFaultError,
  invalidThis,
  invalidType,
  invalidValue,
  MappingClosedError,
  MappingSuspendedError,
  type MappingRevokedError,
  outOfRange,
  ReadOnlyMappingError,
  systemError,
  type BackingFaultCause,
} from '../errors.js';
import { forgetMapping, rememberMapping } from '../thread/identities.js';
import type { MappingEntry } from '../thread/mapping-list.js';
import { prepare, unwrap } from '../thread/wakeups.js';
import { ACCESS, CAUSES, CLOSED_SLOT, FILLS, STATUS_MARKED } from '../native/enums.js';
import type { Failure, MappingDescription } from '../native/functions.js';
import { native } from '../native/load.js';
import { status, takeDescription } from '../native/shared-state.js';
import { later } from '../thread/emit-later.js';
import { holdBuffer, letGo, markShared, type Hold } from './keep-alive.js';
import { AccessState, requireMapping } from './access-state.js';
import { CheckedAccess, LOADS_IN_ORDER, SINK } from './checked-access.js';
import { CheckedCopies } from './checked-copies.js';
import { FastReads } from './fast-reads.js';
import type { FaultInfo } from './mapping-events.js';
import { MemoryObject } from './memory-object.js';
import { bufferOfMemory, type WasmMemory } from './wasm-memory.js';
import { validateWait, waitAsync, waitSync, type WaitOptions, type WaitResult } from './futex-waits.js';

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
  /** The memory that the mapping is inside, where it is in that of a WebAssembly program. */
  readonly memory?: WasmMemory;
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

const fastReads = new FastReads(CheckedCopies.prototype, SINK, LOADS_IN_ORDER, CheckedAccess.prototype);

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
export class Mapping extends CheckedCopies implements Disposable {
  /** The WebAssembly.Memory that it is mapped inside, if in one; also in a thread that has attached. */
  readonly memory: WasmMemory | undefined;
  #bytes: Uint8Array | undefined;
  #view: DataView | undefined;
  readonly #private: boolean;
  readonly #creator: boolean;
  readonly #hold: Hold;
  readonly #entry: MappingEntry<Mapping>;
  #revokedEmitted = false;
  #closing = false;
  #faultsAtClose = 0;

  static {
    branded('Mapping', this.prototype, (value) => AccessState._is(value), { inline: ['bytes', 'view', 'faults'] });
  }

  /** Mappings are made by {@link MemoryObject.map} and {@link Mapping.attach}. */
  private constructor(
    key: symbol,
    object: MemoryObject,
    description: MappingDescription,
    buffer: SharedArrayBuffer | ArrayBuffer,
    creator: boolean,
    memory: WasmMemory | undefined,
  ) {
    super(key, object, description, buffer);
    this.memory = memory;
    this.#private = description.private;
    this.#creator = creator;
    this.#entry = rememberMapping(this._id, this, object._mappings);
    this.#hold = holdBuffer(this.#entry, buffer, memory);
  }

  /**
   * A separate class for mappings whose checked accesses often fail, or never touch memory by themselves: registers, pages that this thread
   * itself supplies, the fill `'signal'`. Its read32 is a method of its own, so that its failures do not deoptimise that of other mappings.
   */
  static readonly #SlowPathMapping = class SlowPathMapping extends Mapping {
    override read32(offset: number): number {
      requireMapping(this);
      return this._read32Compared(offset);
    }
  };

  /** @internal A Mapping of the kind that its memory needs. */
  static _of(
    object: MemoryObject,
    description: MappingDescription,
    buffer: SharedArrayBuffer | ArrayBuffer,
    creator: boolean,
    memory: WasmMemory | undefined,
  ): Mapping {
    const backing = object._backing;
    const slow = backing?.registers !== undefined || backing?.servedHere === true || FILLS[description.fill] === 'signal';
    fastReads.restore();
    const Made = slow ? Mapping.#SlowPathMapping : Mapping;
    return new Made(CONSTRUCT, object, description, buffer, creator, memory);
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
    // Read once each: an accessor could give another value the second time.
    const { type, id, buffer, memory } = requiredObject('handle', handle);
    if (type !== 'revocable-mmap.MappingHandle') throw invalidType('handle', 'a MappingHandle from mapping.share()', handle);
    integer('handle.id', id, 0, Number.MAX_SAFE_INTEGER);
    if (!isSharedBuffer(buffer)) throw invalidType('handle.buffer', 'a SharedArrayBuffer', buffer);
    const memoryBuffer = memory === undefined ? buffer : bufferOfMemory(memory);
    if (!isSharedBuffer(memoryBuffer)) throw invalidType('handle.memory', 'an instance of WebAssembly.Memory', memory);
    prepare();
    // Native code looks whether it is the mapping's memory; where there are two buffers, they are of the same.
    const found = unwrap(native.attach(id, wholeOf(buffer), wholeOf(memoryBuffer)));
    if (!found) throw new MappingClosedError({ object: 'shared mapping' });
    const description = takeDescription();
    return Mapping._of(MemoryObject._attach(description.objectId), description, buffer, false, memory);
  }

  /** How many faults on it the library has handled, in all threads. */
  get faults(): number {
    requireMapping(this);
    return this._slot === CLOSED_SLOT ? this.#faultsAtClose : native.faults(this._id);
  }

  /** The mapping's bytes, raw: at full speed, and the fill once it is revoked. */
  get bytes(): Uint8Array {
    try {
      if (!(#bytes in this)) throw invalidThis('Mapping');
    } catch {
      throw invalidThis('Mapping');
    }
    return (this.#bytes ??= new Uint8Array(...this.#viewed()));
  }

  /** The same as a DataView. */
  get view(): DataView {
    requireMapping(this);
    return (this.#view ??= new DataView(...this.#viewed()));
  }

  /** What views are made of: nothing where the user has transferred the ArrayBuffer away, as its typed arrays are empty then. */
  #viewed(): [buffer: SharedArrayBuffer | ArrayBuffer, byteOffset: number, byteLength: number] {
    const { buffer } = this;
    return buffer.byteLength === 0 ? [new ArrayBuffer(0), 0, 0] : [buffer, this._start, this.length];
  }

  /**
   * Throws what a checked access would throw now: for code that has used the raw views, or given them to a system call, and wants
   * to know whether all of it was valid. A page counts that was lost since the mapping was made, and one that is past the end of its
   * file now; bytes within the file's last page count that the file had when the mapping was made, or at an earlier `check()`, and has
   * no more. And, once, that this thread touched pages raw that only it could have supplied (SelfFaultError), or that raw accesses to
   * registers did not reach the device's model (RegisterAccessError). Reads nothing of the memory.
   *
   * @param range what to look at; default the whole mapping.
   */
  check(range?: PageRange): void {
    const { offset, length } = this.#pages(range);
    if (this.state !== 'live') this._throwUnlessLive(undefined);
    if (this.object._isRevokedByOwner()) throw this.object._revokedError();
    this._throwIfSelfFaulted();
    this._throwIfRawFailed();
    this.#throwIfLost(offset, offset + length);
    const size = this.object._sizeOfFile;
    const past = size === undefined ? -1 : native.firstBytePastEnd(this._id, offset, length, size);
    if (past >= 0) throw new BackingFaultError(this._place(past), 'past-end');
  }

  #throwIfLost(from: number, to: number): void {
    while ((status[this._slot] & STATUS_MARKED) !== 0 && from < to) {
      const judgement = this._judge(from, to - from, false);
      const { verdict, at } = judgement;
      if (verdict === 'fine') return;
      if (verdict === 'lost' || verdict === 'unsettled') throw this._errorOf(judgement)!;
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
    this._throwUnlessLive(undefined);
    if (access === 'rw' && !this._writable) throw systemError({ errno: -osConstants.errno.EACCES, syscall: 'mprotect' });
    const pages = Math.ceil(length / this.#pageSize);
    this.#explain(native.protect(this._id, offset / this.#pageSize, pages, ACCESS.indexOf(access)), offset);
  }

  /**
   * Lets whole pages of the mapping show other pages of the object: a non-linear mapping, as remap_file_pages(2) made.
   *
   * @throws RangeError for a range or `objectOffset` that is not whole pages or outside; `ENOTSUP` for a device's registers; the error
   *   of mmap(2).
   */
  remapPages(range: PageRange & { objectOffset: number }): void {
    requiredObject('range', range);
    if (this.object._backing?.registers !== undefined) throw systemError({ errno: -osConstants.errno.ENOTSUP, syscall: 'mmap' });
    const { offset, length } = this.#pages(range);
    const objectOffset = integer('range.objectOffset', range.objectOffset, 0, Number.MAX_SAFE_INTEGER - length);
    multipleOf('range.objectOffset', objectOffset, this.#pageSize);
    const whole = Math.ceil(this.object.size / this.#pageSize) * this.#pageSize;
    if (this.object.owned && objectOffset + length > whole) {
      throw outOfRange('range.objectOffset', `<= ${whole - length}, so that the range lies in ${this.object.name}`, objectOffset);
    }
    this._throwUnlessLive(undefined);
    const pages = Math.ceil(length / this.#pageSize);
    this.#explain(native.remapPages(this._id, offset / this.#pageSize, pages, objectOffset), offset);
  }

  /**
   * madvise(2). `'populate-read'` and `'populate-write'` bring in each page of the range as a read or a write of it would, and block for
   * as long; they wait for a simulated device to supply its pages, as {@link prefetch} does. So `'populate-write'` reserves space in a
   * file with holes. Unlike a touch they mark no page as lost: what failed for want of space can be tried again.
   *
   * @throws its error: `EINVAL` where the kernel does not know the advice (`'populate-…'`: Linux 5.14), …; `EFAULT` for
   *   `'populate-write'` of a page whose first write a device wants to be asked about; for `'populate-…'` what a touch would throw, with
   *   the place of the first page that cannot be had: BackingFaultError, ReadOnlyMappingError, ProtectedPageError. Every error has the
   *   place of the range in `offset`, `objectOffset` and `address`.
   */
  advise(advice: Advice, range?: PageRange): void {
    const name = oneOf('advice', advice, Object.keys(native.advice) as Advice[]);
    const { offset, length } = this.#pages(range);
    this._throwUnlessLive(undefined);
    const write = name === 'populate-write';
    if (write && !this._writable) throw new ReadOnlyMappingError(this._place(offset));
    const populates = write || name === 'populate-read';
    if (populates) this.#throwIfMarked(offset, length, write);
    if (populates && this.object._backing?.supplied === true) return this.#populate(name, offset, length);
    const failure = native.advise(this._id, offset, length, native.advice[name]);
    if (populates) this.#explainTouch(failure, offset, length, write);
    else this.#explain(failure, offset);
  }

  /** The kernel does not wait for a device: an access does. */
  #populate(name: Advice, offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += this.#pageSize) {
      this.read8(at);
      const bytes = Math.min(this.#pageSize, offset + length - at);
      const failure = native.advise(this._id, at, bytes, native.advice[name]);
      this.#explain(failure, at);
    }
  }

  /** Writes what was changed through the mapping to its file and waits for it: msync(2) with MS_SYNC. @throws `EIO`, … */
  sync(range?: PageRange): void {
    const { offset, length } = this.#liveRange(range);
    this.#explain(native.sync(this._id, offset, length), offset);
  }

  /**
   * Keeps pages in memory: mlock(2), which brings them in as reads, and of a private mapping writes, would.
   *
   * @throws `ENOMEM` or `EPERM` beyond RLIMIT_MEMLOCK; what a touch would throw, with the place of the first page that cannot be had:
   *   BackingFaultError, ProtectedPageError. Marks no page as lost.
   */
  lock(range?: PageRange): void {
    const { offset, length } = this.#liveRange(range);
    const write = this.#private && this._writable;
    this.#throwIfMarked(offset, length, write);
    this.#explainTouch(native.lock(this._id, offset, length), offset, length, write);
  }

  /** Undoes {@link lock}: munlock(2). */
  unlock(range?: PageRange): void {
    const { offset, length } = this.#liveRange(range);
    this.#explain(native.unlock(this._id, offset, length), offset);
  }

  /**
   * Brings pages in, without waiting for a touch; reads a file's pages from disk, and waits for a simulated device to supply its pages.
   *
   * @throws what a read would throw, with the place of the first page that cannot be had: BackingFaultError, ProtectedPageError;
   *   SelfFaultError where this thread would have to supply it. Marks no page as lost.
   */
  prefetch(range?: PageRange): void {
    const { offset, length } = this.#liveRange(range);
    this.#throwIfMarked(offset, length, false);
    if (this.object._backing?.supplied !== true) {
      return this.#explainTouch(native.prefetch(this._id, offset, length), offset, length, false);
    }
    for (let at = offset; at < offset + length; at += this.#pageSize) this.read8(at);
  }

  /** Which pages are in memory, by mincore(2): one byte a page, 1 or 0. */
  residency(range?: PageRange): Uint8Array {
    const { offset, length } = this.#pages(range);
    this._throwUnlessLive(undefined);
    const pages = new Uint8Array(Math.ceil(length / native.pageSize));
    this.#explain(native.residency(this._id, offset, length, pages), offset);
    return pages;
  }

  /**
   * Waits for a wake of the 32-bit word at `offset`, in any thread or process: futex(2). `'not-equal'` when the word is not
   * `expected` to begin with. Occupies no thread of libuv's pool; keeps this thread's event loop alive. A page that a simulated device has
   * yet to supply is asked for first.
   *
   * @throws (rejects) MappingRevokedError, MappingSuspendedError, MappingClosedError when the mapping goes while it waits; the
   *   signal's reason. `EFAULT` for a device's registers, which are no memory to wait for.
   */
  async wait(offset: number, expected: number, options?: WaitOptions): Promise<WaitResult> {
    const word = validateWait(this, offset, expected, options);
    this.#throwUnlessWaitable(offset);
    return waitAsync(this._id, word, (why, last) => this.#lookAgainAsync(offset, why, last));
  }

  /**
   * {@link wait}, blocking this thread. A worker that waits can be terminated.
   *
   * @throws what {@link wait} rejects with; SelfFaultError where this thread would have to supply the page.
   */
  waitSync(offset: number, expected: number, options?: WaitOptions): WaitResult {
    const word = validateWait(this, offset, expected, options);
    this.#throwUnlessWaitable(offset);
    return waitSync(this._id, word, (why, last) => this.#lookAgain(offset, why, last));
  }

  /**
   * Wakes up to `count` (default: all) who wait for the word at `offset`. Change the word first, as futex users do: a waiter that
   * is on its way to sleep in another process sees the change, not the wake.
   *
   * @returns how many.
   */
  wake(offset: number, count: number = 0x7fff_ffff): number {
    this._checkPlace(offset, 4);
    integer('count', count, 0, 0x7fff_ffff);
    this._throwUnlessLive(offset);
    return count === 0 ? 0 : native.wake(this._id, offset, count);
  }

  /**
   * A handle for another thread of this process, to be sent by `postMessage` and attached there. Posting `buffer` alone would not keep the
   * mapping live. The mapping then lasts until this thread closes it or ends, or, once a thread has attached, until no thread has it.
   *
   * @throws TypeError `ERR_INVALID_ARG_VALUE` for a mapping with `shared: false`; MappingClosedError, MappingRevokedError, ….
   */
  share(): MappingHandle {
    this._throwUnlessLive(undefined);
    if (!isSharedBuffer(this._buffer))
      throw invalidValue('shared', 'must be true for a mapping that is shared between threads', false);
    markShared(this.#hold);
    const handle = { type: 'revocable-mmap.MappingHandle', id: this._id, buffer: this._buffer } as const;
    return this.memory === undefined ? handle : { ...handle, memory: this.memory };
  }

  /**
   * Ends the mapping, for every thread; in a thread that attached, ends that thread's handle only. Idempotent. Views go on reading
   * zeros that are their own, and never another mapping's bytes.
   */
  close(): void {
    if (this._slot === CLOSED_SLOT) return;
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

  /** @internal Emits what has changed since it was last looked at. */
  _synchronize(): void {
    const state = this.state;
    if (state === 'revoked') later(() => this._announceRevocation(this.object._revokedError()));
    if (state === 'closed') this.#closeHere(false);
  }

  /** @internal Emits it, once. On a turn for events. */
  _announceRevocation(error: MappingRevokedError): void {
    if (this.#revokedEmitted || this.state !== 'revoked') return;
    this.#revokedEmitted = true;
    this.emit('revoked', error);
  }

  /** @internal A fault that the handler has settled. */
  _faulted(info: FaultInfo): void {
    publish('fault', () => ({ mapping: this, ...info }));
    if (info.kind === 'revoked' || this.#closing) return;
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
    if (this.#closing) return;
    this.#closing = true;
    this.#faultsAtClose = native.faults(this._id);
    this._endAccess();
    letGo(this.#hold, explicit && this.#creator);
    forgetMapping(this.#entry);
    publish('close', () => ({ mapping: this, object: this.object }));
    later(() => {
      this.#closeEmitted = true;
      this.emit('close');
    });
  }

  /** Whole pages, or the mapping's last ones. Without a range: all of it. */
  #pages(range: PageRange | undefined): { offset: number; length: number } {
    this._throwIfClosed(0);
    if (range === undefined) return { offset: 0, length: this.length };
    requiredObject('range', range);
    const offset = multipleOf('range.offset', integer('range.offset', range.offset, 0, this.length - 1), this.#pageSize);
    const length = integer('range.length', range.length, 1, this.length - offset);
    if (offset + length !== this.length) multipleOf('range.length', length, this.#pageSize);
    return { offset, length };
  }

  #liveRange(range: PageRange | undefined): { offset: number; length: number } {
    const pages = this.#pages(range);
    this._throwUnlessLive(undefined);
    return pages;
  }

  /** The error of a failed system call about the pages from `offset` on, or the better one: that the mapping has gone meanwhile. */
  #explain(failure: Failure | null, offset: number): void {
    if (failure === null) return;
    if (this.state !== 'live') this._throwUnlessLive(offset);
    if (this.object._isRevokedByOwner()) throw this.object._revokedError(this._place(offset));
    throw Object.assign(systemError(failure), this._place(offset));
  }

  /** What a touch of the first page would throw that is lost, or that forbids it: the kernel knows of neither. */
  #throwIfMarked(offset: number, length: number, write: boolean): void {
    if ((status[this._slot] & STATUS_MARKED) === 0) return;
    const refusal = this._refusalOfMarks(offset, length, write);
    if (refusal instanceof Error) throw refusal;
  }

  /** {@link #explain}, of a call that brings pages in: what a touch of the first page would throw that cannot be had. */
  #explainTouch(failure: Failure | null, offset: number, length: number, write: boolean): void {
    if (failure === null) return;
    this._throwUnlessLive(offset);
    if (this.object._isRevokedByOwner()) throw this.object._revokedError(this._place(offset));
    if (native.firstUnbacked(this._id, offset, length, write, unbacked)) {
      throw new BackingFaultError(this._place(unbacked[0]), CAUSES[unbacked[1]] as BackingFaultCause);
    }
    this.#explain(failure, offset);
  }

  #throwUnlessWaitable(offset: number): void {
    this._throwUnlessLive(offset);
    if (this.object._backing?.registers !== undefined) throw systemError({ errno: -osConstants.errno.EFAULT, syscall: 'futex' });
  }

  /** A wait ended because the mapping went, or its word could not be read: throws why, unless that is over. */
  #lookAgain(offset: number, why: 'gone' | 'faulted', last: boolean): void {
    this._throwUnlessLive(offset);
    if (why === 'faulted') this.read32(offset);
    this.#throwIfGone(offset, why, last);
  }

  /** The same, and holds up nothing here: the device that supplies the page may be this thread's own. */
  async #lookAgainAsync(offset: number, why: 'gone' | 'faulted', last: boolean): Promise<void> {
    const asks = why === 'faulted' && this.object._backing?.supplied === true;
    if (!asks) return this.#lookAgain(offset, why, last);
    await this.readAsync(offset, new Uint8Array(4));
    this.#throwIfGone(offset, why, last);
  }

  #throwIfGone(offset: number, why: 'gone' | 'faulted', last: boolean): void {
    // The waiter saw the object's gate, or its truncation, before this mapping's turn came.
    const gate = this.object.state;
    if (gate === 'revoked') throw this.object._revokedError(this._place(offset));
    if (gate === 'closed') throw new MappingClosedError(this._place(offset));
    if (gate === 'suspended' || why === 'gone') throw new MappingSuspendedError(this._place(offset)); // perhaps resumed since
    if (last) throw Object.assign(systemError({ errno: -osConstants.errno.EFAULT, syscall: 'futex' }), this._place(offset));
  }
}

/** Where {@link Native.firstUnbacked} puts its answer. */
const unbacked = new Float64Array(2);

function wholeOf(buffer: SharedArrayBuffer): Uint8Array {
  return new Uint8Array(buffer, 0, buffer.byteLength);
}
