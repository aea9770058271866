import { EventEmitter } from 'node:events';
import { constants as osConstants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { readFileSync } from 'node:fs';
import {
  asBytes,
  boolean,
  bytesView,
  integer,
  memoryName,
  multipleOf,
  oneOf,
  options as checkOptions,
  requiredObject,
  string,
} from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { publish } from '../diagnostics.js';
import {
  BackingFaultError,
  invalidThis,
  invalidType,
  invalidValue,
  MappingClosedError,
  MappingRevokedError,
  MappingSuspendedError,
  outOfRange,
  RawRegistersError,
  systemError,
} from '../errors.js';
import { forgetObject, knownObject, rememberObject } from '../thread/identities.js';
import { MappingList } from '../thread/mapping-list.js';
import { completionOf, prepare, unwrap } from '../thread/wakeups.js';
import { CAUSES, FILLS, REVOKE_DONE, SCOPES, SEALS, STATES, STATUS_STATE } from '../native/enums.js';
import { isFailure, type Failure } from '../native/functions.js';
import { native } from '../native/load.js';
import { takeDescription, takeReport } from '../native/shared-state.js';
import { later, laterEach } from '../thread/emit-later.js';
import type { FaultInfo } from './mapping-events.js';
import { backingOf, type Backing } from './backing-provider.js';
import { mappingOf, type Mapping } from './mapping.js';
import { toReport, type RevokeReport } from './revoke-report.js';
import { fixedSharedBuffer, type WasmMemory } from './wasm-memory.js';

/** Live; suspended for a while; revoked for ever; closed. */
export type MemoryState = 'live' | 'suspended' | 'revoked' | 'closed';

export interface CreateOptions {
  /** Bytes, at least 1. With `hugePages` a multiple of 2 MiB. */
  size: number;
  /** Shown in errors, in `/proc/PID/maps` and by `util.inspect`. Default `'revocable'`. */
  name?: string;
  /** 2 MiB pages from the system's reserved pool. Default false. */
  hugePages?: boolean;
  /** What it holds at first, at most `size` bytes; zeros behind that. Copied. Not with `hugePages`. Default nothing but zeros. */
  content?: Uint8Array;
  /**
   * What no process can do to it any more, its maker included, besides `'grow'` and `'seal'`, which are always among them. Default none.
   *
   * `'write'` and `'future-write'`: it is memory to be read only, by all; `content` is the one way to put something into it.
   *
   * `'shrink'`: no process with its descriptor can take the memory from another. So the library cannot either: a revocation replaces the
   * mappings of this process, its report says `truncated: false`, and other processes keep theirs until they are given notice and revoke
   * for themselves.
   */
  seals?: readonly Seal[];
}

/** A seal of memory, by its name in fcntl(2): `'shrink'` is F_SEAL_SHRINK. */
export type Seal = keyof typeof SEALS;

export interface OpenOptions {
  /** Open for writing too. Default false. */
  writable?: boolean;
  /**
   * What one lost page takes away: only itself, or the whole object, which is then revoked. Default: by cause. Past the end of
   * the file, no space and broken memory take the page; anything else takes the object, because pages that are still cached
   * would go on swallowing writes.
   */
  onBackingFault?: 'page' | 'object';
}

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
  /** A SharedArrayBuffer (default), or an ArrayBuffer for APIs that refuse shared memory or misread it, as `fetch` does: `docs/buffers.md`. */
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

interface PlaceInMemory {
  memory: WasmMemory;
  buffer: SharedArrayBuffer;
  offset: number;
}

interface ObjectEvents {
  /** It has been revoked. Once. */
  revoked: [error: MappingRevokedError];
  suspended: [];
  resumed: [];
  /** An access to one of its mappings faulted. */
  fault: [info: FaultInfo, mapping: Mapping];
  /** It has been closed. Once, and nothing after. */
  close: [];
}

const collected = new FinalizationRegistry((id: number) => {
  forgetObject(id);
  native.objectRelease(id);
});

/**
 * Memory that can be mapped and revoked: memory the library creates, a file, or anything behind a file descriptor that mmap(2)
 * accepts. What the kernel calls a file and its `address_space`.
 *
 * It is an EventEmitter: `'revoked'`, `'suspended'`, `'resumed'`, `'fault'`, `'close'`. No event is emitted within the call that
 * caused it.
 *
 * @example
 * ```js
 * const memory = MemoryObject.create({ size: 65536, name: 'ring' });
 * const mapping = memory.map();
 * mapping.write32(0, 42);
 * memory.revokeSync();
 * mapping.read32(0); // throws MappingRevokedError
 * ```
 */
export class MemoryObject extends EventEmitter<ObjectEvents> implements Disposable {
  /** For errors and inspection: the name given, the path, or `fd N`. */
  readonly name: string;
  /** Whether the library created the memory, so that revoking it reaches every process. */
  readonly owned: boolean;

  readonly #id: number;
  readonly #fd: number;
  readonly #writable: boolean;
  readonly #pageSize: number;
  readonly #sized: boolean;
  /** @internal Of this thread. */
  readonly _mappings = new MappingList<Mapping>();
  #lastSize: number;
  #announced: MemoryState = 'live';
  #reason: unknown;
  #controller: AbortController | undefined;

  static readonly #isOne = branded('MemoryObject', this.prototype, (value) => #id in value, { inline: ['state'] });

  /** @internal Whether it is an object of this copy of the library. */
  static _is(value: unknown): value is MemoryObject {
    return MemoryObject.#isOne(value);
  }

  /** @internal Objects are made by the static functions. */
  constructor(key: symbol, id: number) {
    super();
    requireConstruct(key);
    const { name, owned, writable, fd, pageSize, sized } = native.objectInfo(id);
    this.#id = id;
    this.name = name;
    this.owned = owned;
    this.#fd = fd;
    this.#writable = writable;
    this.#pageSize = pageSize;
    this.#sized = sized;
    const size = native.objectSize(id);
    this.#lastSize = isFailure(size) ? 0 : size;
    this._backing = backingOf(id);
    rememberObject(id, this);
    collected.register(this, id);
  }

  /**
   * New memory, zeroed: a memfd sealed so that only its owner can take it away, and nobody can give it back.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE`, TypeError `ERR_INVALID_ARG_TYPE` on bad options; a system error with `code` (`ENOMEM`
   *   where no 2 MiB pages are reserved, `EMFILE`, …).
   */
  static create(options: CreateOptions): MemoryObject {
    const given = requiredObject('options', options);
    const hugePages = boolean('options.hugePages', given.hugePages, false);
    const size = integer('options.size', given.size, 1, Number.MAX_SAFE_INTEGER);
    if (hugePages) multipleOf('options.size', size, HUGE_PAGE);
    const name = memoryName('options.name', given.name, 'revocable');
    const content = contentOption(given.content, size);
    if (content !== undefined && hugePages)
      throw invalidValue(
        'options.content',
        'must not be given with options.hugePages, whose files cannot be written to',
        content,
      );
    const seals = sealBits(given.seals);
    prepare();
    if (hugePages) requireHugePages(size);
    const made = native.objectCreate(size, hugePages, name, seals, content);
    return new MemoryObject(CONSTRUCT, unwrap(made, isFailure(made) && made.syscall === 'fcntl' ? { hint: NO_SUCH_SEAL } : {}));
  }

  /**
   * A file, or a device that can be mapped. It may be shorter than what is mapped of it later: touching past its end is a
   * backing fault.
   *
   * @throws the system error of open(2) or mmap(2) with `code`, `errno`, `syscall` and `path`: `ENOENT`, `EACCES`, `EISDIR`,
   *   `ENODEV` for what cannot be mapped (a FIFO, which does not block), …
   */
  static openFile(path: string | URL, options?: OpenOptions): MemoryObject {
    const given = checkOptions('options', options);
    const file = toPath(path);
    const writable = boolean('options.writable', given.writable, false);
    const scope = toScope(given.onBackingFault);
    prepare();
    return new MemoryObject(CONSTRUCT, unwrap(native.objectOpen(Buffer.from(file), writable, scope, file), { path: file }));
  }

  /**
   * What an open file descriptor refers to. The descriptor is duplicated and stays the caller's.
   *
   * @throws the system error of fcntl(2) or mmap(2): `EBADF`, `EACCES` where it is not open for what `writable` asks, `EPERM` where
   *   it is sealed against writing, which the message says, `ENODEV`, …
   */
  static fromFd(fd: number, options?: OpenOptions & { name?: string }): MemoryObject {
    integer('fd', fd, 0, 0x7fff_ffff);
    const given = checkOptions('options', options);
    const writable = boolean('options.writable', given.writable, false);
    const name = string('options.name', given.name, `fd ${fd}`);
    const scope = toScope(given.onBackingFault);
    prepare();
    const made = native.objectFromFd(fd, writable, scope, name);
    const sealed = writable && isFailure(made) && made.errno === -osConstants.errno.EPERM;
    return new MemoryObject(CONSTRUCT, unwrap(made, sealed ? { hint: SEALED_AGAINST_WRITING } : {}));
  }

  /** @internal A region of a simulated device, as native code made it. */
  static _ofDevice(id: number): MemoryObject {
    return new MemoryObject(CONSTRUCT, id);
  }

  /** @internal The object behind a mapping that another thread made. */
  static _attach(id: number): MemoryObject {
    const known = knownObject(id) as MemoryObject | undefined; // perhaps made by another copy of the library
    if (known !== undefined) return known;
    if (!native.objectAcquire(id)) throw new MappingClosedError({ object: 'object' });
    return new MemoryObject(CONSTRUCT, id);
  }

  /**
   * Bytes. Of a file: now; of a block device: its capacity; 0 for what has no size, such as a character device: map that with a
   * `length`.
   */
  get size(): number {
    if (this.owned || this.state === 'closed') return this.#lastSize;
    this.#lastSize = unwrap(native.objectSize(this.#id));
    return this.#lastSize;
  }

  /** The library's own descriptor of it, -1 when closed. Not to be closed by others. */
  get fd(): number {
    return this.state === 'closed' ? -1 : this.#fd;
  }

  get state(): MemoryState {
    if (!MemoryObject._is(this)) throw invalidThis('MemoryObject');
    return STATES[native.objectState(this.#id) & STATUS_STATE];
  }

  /** This thread's open mappings of it: a snapshot. */
  get mappings(): ReadonlySet<Mapping> {
    const open = new Set<Mapping>();
    for (const mapping of this._mappings.all()) if (mapping.state !== 'closed') open.add(mapping);
    return open;
  }

  /** Aborted by revocation, with the {@link MappingRevokedError} as its reason. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#announced === 'revoked') this.#controller.abort(this._revokedError());
    }
    return this.#controller.signal;
  }

  /** Whether it was opened for writing. */
  get writable(): boolean {
    return this.#writable;
  }

  /**
   * What no process can do to the memory any more, by the names of fcntl(2); of a descriptor received, what its maker has promised. Empty
   * for what cannot be sealed, and when closed. Since Linux 6.3 memory that the library makes has `'exec'` too: it cannot become a program.
   */
  get seals(): readonly Seal[] {
    if (this.state === 'closed') return [];
    const bits = native.objectSeals(this.#id);
    return SEAL_NAMES.filter((seal) => (bits & SEALS[seal]) !== 0);
  }

  /**
   * Maps it, or a part of it, into this process. Does not block, unless `populate` has to read a file.
   *
   * @throws `ENODEV` (`errno` -19, `syscall` `mmap`) from the first instant of a revocation; MappingSuspendedError while suspended;
   *   MappingClosedError after close; TypeError `ERR_INVALID_ARG_VALUE` without a length where the object is empty or has no size;
   *   RangeError beyond the end of memory the library created, or where this version of Node
   *   has no buffer that long, or beyond the end of `memory`; `EEXIST` where a part of `memory` is mapped already; the system
   *   error of mmap(2).
   *
   * @example
   * ```js
   * const page = memory.map({ offset: 4096, length: 4096, access: 'r' });
   * ```
   */
  map(options?: MapOptions): Mapping {
    return this._map(options, 0, false);
  }

  /** @internal {@link map}, through an open file of a device; or as the device's own view, which asks nobody for pages. */
  _map(options: MapOptions | undefined, deviceFile: number, forDevice: boolean): Mapping {
    const given = checkOptions('options', options);
    if (!forDevice || this.state !== 'suspended') this.#refuseUnlessLive();
    const { offset, length } = this.#rangeWhileLive(given);
    const writable = oneOf('options.access', given.access, ['r', 'rw'], this.#writable ? 'rw' : 'r') === 'rw';
    const shared = boolean('options.shared', given.shared, true);
    const priv = boolean('options.private', given.private, false);
    if (priv && this._backing !== undefined) throw invalidValue('options.private', "must be false for a device's memory", priv);
    const fill = FILLS.indexOf(oneOf('options.fill', given.fill, FILLS, 'zeros'));
    const required = given.populate === 'required';
    const populate = !required && populateOption(given.populate);
    const place = this.#placeInMemory(given, length);
    const mapped = shared
      ? this.#mapShared(place, offset, length, writable, priv, fill, populate, deviceFile, forDevice)
      : native.mapExternal(this.#id, offset, length, writable, priv, fill, populate, deviceFile, forDevice);
    if (isFailure(mapped)) throw this.#mapError(mapped, length, place, writable, priv);
    const mapping = mappingOf(this, takeDescription(), mapped, true, place?.memory);
    if (required) orClose(mapping, () => mapping.advise(writable && !priv ? 'populate-write' : 'populate-read'));
    else if (populate && this._backing?.supplied === true && !forDevice) orClose(mapping, () => mapping.prefetch());
    publish('map', () => ({ mapping, object: this }));
    return mapping;
  }

  /**
   * Takes the memory away for ever: when the promise resolves, no thread of this process reaches it through any mapping, and of
   * memory the library created no process does. Mappings keep their addresses; accesses to them fail as
   * `docs/semantics.md` says. The work is done on another thread; the gate is shut, and `state` is `'revoked'`, when the call returns.
   *
   * Never rejects: removal cannot be allowed to fail. The report says what the kernel allowed.
   *
   * @param reason becomes the `cause` of this thread's MappingRevokedErrors.
   */
  async revoke(reason?: unknown): Promise<RevokeReport> {
    const drained = this._backing?.drain();
    const report = await this._revokeOnly(reason);
    await drained?.();
    return report;
  }

  /** @internal {@link revoke}, without waiting for the ops of a device. */
  async _revokeOnly(reason?: unknown): Promise<RevokeReport> {
    const { token, mine } = native.revokeAsync(this.#id);
    if (mine) this.#reason = reason;
    const { report } = await completionOf(token);
    return this.#revoked(mine, toReport(this.name, mine, report));
  }

  /** {@link revoke}, in this call. Blocks while the kernel takes the pages away: some microseconds a mapping, up to one a present page. */
  revokeSync(reason?: unknown): RevokeReport {
    native.revokeSync(this.#id);
    const report = takeReport();
    if (report.mine) this.#reason = reason;
    return this.#revoked(report.mine, toReport(this.name, report.mine, report));
  }

  /**
   * Takes the memory away until {@link resume}: a device that is reset or sleeps. Accesses fail with MappingSuspendedError; its
   * contents stay. Only this process is concerned.
   *
   * @throws `EBUSY` when a private mapping exists, whose own copies would be lost; `ENODEV` when revoked; MappingClosedError.
   */
  async suspend(): Promise<RevokeReport> {
    const completion = await completionOf(native.suspendAsync(this.#id));
    if (completion.failure !== null) throw this.#stateError(completion.failure, 'a private mapping exists');
    this._synchronize();
    return toReport(this.name, completion.byThisCall, completion.report);
  }

  /**
   * Gives the memory back: the same mappings and views work again. Does nothing to a live object.
   *
   * @throws `ENODEV` when it has been revoked meanwhile; MappingClosedError; the error of mmap(2), after which it is still suspended.
   */
  async resume(): Promise<void> {
    const completion = await completionOf(native.resumeAsync(this.#id));
    if (completion.failure !== null) throw this.#stateError(completion.failure);
    this._synchronize();
  }

  /**
   * Lets pages go from all mappings of this process: the next touch asks the object again. What `unmap_mapping_range` does in the
   * kernel. Contents stay; private copies stay too.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` for a range that is not whole pages; the system error of madvise(2).
   */
  zap(range?: { offset: number; length: number }): void {
    const { offset, length } =
      range === undefined ? { offset: 0, length: Number.MAX_SAFE_INTEGER - 1 } : this.#zapRange(requiredObject('range', range));
    this.#refuseUnlessLive();
    unwrap(native.zap(this.#id, offset, length));
  }

  /**
   * Closes all its mappings, in every thread, and its descriptor. Not a revocation: views go on reading zeros that are their own.
   * Idempotent.
   */
  close(): void {
    if (!native.objectClose(this.#id)) return;
    publish('close', () => ({ object: this }));
    this._synchronize();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal Undefined for ordinary memory. */
  readonly _backing: Backing | undefined;

  /** @internal */
  get _id(): number {
    return this.#id;
  }
  /** @internal */
  get _pageSize(): number {
    return this.#pageSize;
  }

  /** @internal Bytes of the file now; undefined where the object is none that may be cut. */
  get _sizeOfFile(): number | undefined {
    return this.#sized && !this.owned ? this.size : undefined;
  }

  /** @internal Whether another process that owns the memory has revoked it: then it is revoked here too. */
  _isRevokedByOwner(): boolean {
    if (this.owned || !native.objectRevokedByOwner(this.#id)) return false;
    this.revokeSync();
    return true;
  }

  /** @internal The error of this object's revocation; of `place` when given. */
  _revokedError(place: ConstructorParameters<typeof MappingRevokedError>[0] = { object: this.name }): MappingRevokedError {
    return new MappingRevokedError(place, this.#reason ?? this.#backingCause());
  }

  /** @internal Emits what has changed since it was last looked at. */
  _synchronize(): void {
    const now = this.state;
    if (now === this.#announced || this.#announced === 'closed') return;
    // Between the gate and the last mapping there is nothing to tell yet; whoever finishes the revocation says so.
    if (now === 'revoked' && (native.objectState(this.#id) & REVOKE_DONE) === 0) return;
    this.#announced = now;
    if (now === 'closed') this.#announceClose();
    else if (now === 'revoked') this.#announceRevocation();
    else later(() => this.emit(now === 'suspended' ? 'suspended' : 'resumed'));
  }

  [inspect.custom](): string {
    const size = this.state === 'closed' || !this.#sized ? '' : ` ${this.size} B`;
    return `MemoryObject <${this.name}${size} ${this.owned ? 'owned' : 'not owned'} ${this.state}>`;
  }

  get [Symbol.toStringTag](): string {
    return 'MemoryObject';
  }

  #backingCause(): BackingFaultError | undefined {
    const cause = CAUSES[native.objectState(this.#id) >> 8];
    return cause === 'none' ? undefined : new BackingFaultError({ object: this.name }, cause);
  }

  #revoked(mine: boolean, report: RevokeReport): RevokeReport {
    if (mine) publish('revoke', () => ({ object: this, report }));
    this._synchronize();
    return report;
  }

  #announceRevocation(): void {
    const error = this._revokedError();
    later(() => {
      this.#controller?.abort(error);
      this.emit('revoked', error);
    });
    laterEach(this._mappings.later(), announceRevocation, error);
  }

  #announceClose(): void {
    for (const mapping of this._mappings.all()) mapping._synchronize();
    later(() => this.emit('close'));
  }

  #refuseUnlessLive(): void {
    if (this.state === 'live') this._isRevokedByOwner();
    switch (this.state) {
      case 'live':
        return;
      case 'suspended':
        throw new MappingSuspendedError({ object: this.name });
      case 'revoked':
        throw systemError({ errno: -osConstants.errno.ENODEV, syscall: 'mmap' }, { cause: this._revokedError() });
      case 'closed':
        throw new MappingClosedError({ object: this.name });
    }
  }

  #stateError(failure: Failure, hint?: string): Error {
    if (this.state === 'closed') return new MappingClosedError({ object: this.name });
    return systemError(failure, failure.errno === -osConstants.errno.EBUSY && hint !== undefined ? { hint } : {});
  }

  #mapError(failure: Failure, length: number, place: PlaceInMemory | undefined, writable: boolean, priv: boolean): Error {
    try {
      this.#refuseUnlessLive();
    } catch (error) {
      return error as Error;
    }
    if (failure.errno === -osConstants.errno.EFBIG) {
      return outOfRange('options.length', 'no more than an ArrayBuffer of this version of Node can hold', length);
    }
    if (writable && !priv && this.seals.some((seal) => seal === 'write' || seal === 'future-write')) {
      return systemError(failure, { hint: SEALED_AGAINST_WRITING });
    }
    if (failure.errno === -osConstants.errno.EEXIST && place !== undefined) {
      return systemError(failure, { hint: `something is mapped there already, at ${place.offset} of the WebAssembly memory` });
    }
    return systemError(failure);
  }

  /** Where in the memory of a WebAssembly program it is to be mapped, if in one. */
  #placeInMemory(given: Partial<MapOptions>, length: number): PlaceInMemory | undefined {
    const { memory, memoryOffset } = given;
    if (memory === undefined) {
      if (memoryOffset === undefined) return undefined;
      throw invalidValue('options.memoryOffset', 'must not be given without options.memory', memoryOffset);
    }
    const buffer = fixedSharedBuffer('options.memory', memory);
    if (given.shared === false) throw invalidValue('options.shared', 'must be true with options.memory', false);
    if (this._backing?.registers?.raw === false) throw new RawRegistersError(this.name);
    if (this.#pageSize !== native.pageSize)
      throw invalidValue('options.memory', `must not be given for pages of ${this.#pageSize} bytes`, memory);
    const offset = integer('options.memoryOffset', memoryOffset, 0, Number.MAX_SAFE_INTEGER);
    multipleOf('options.memoryOffset', offset, native.pageSize);
    const last = buffer.byteLength - roundUp(length, native.pageSize);
    if (last < 0) throw outOfRange('options.length', `at most ${buffer.byteLength}, the length of options.memory`, length);
    if (offset > last) throw outOfRange('options.memoryOffset', `<= ${last}, so that the pages lie in options.memory`, offset);
    return { memory, buffer, offset };
  }

  /** {@link #range}; of memory that has just gone, the error says that it has, and nothing of its size. */
  #rangeWhileLive(given: Partial<MapOptions>): { offset: number; length: number } {
    try {
      return this.#range(given);
    } catch (error) {
      this.#refuseUnlessLive();
      throw error;
    }
  }

  /** The bytes to map. Memory the library created ends where it ends; a file may grow, or be shorter than the mapping. */
  #range(given: Partial<MapOptions>): { offset: number; length: number } {
    const offset = given.offset === undefined ? 0 : integer('options.offset', given.offset, 0, Number.MAX_SAFE_INTEGER);
    multipleOf('options.offset', offset, this.#pageSize);
    const size = given.length === undefined || this.owned ? this.size : Number.MAX_SAFE_INTEGER;
    if (given.length === undefined && size === 0) {
      const why = this.#sized ? 'which is empty' : 'which has no size';
      throw invalidValue('options.length', `must be given for ${this.name}, ${why}`, undefined);
    }
    if (offset >= size) throw outOfRange('options.offset', `< ${size}, the size of ${this.name}`, offset);
    const length = given.length === undefined ? size - offset : integer('options.length', given.length, 1, size - offset);
    return { offset, length };
  }

  #zapRange(range: { offset: number; length: number }): { offset: number; length: number } {
    const offset = multipleOf('range.offset', integer('range.offset', range.offset, 0, Number.MAX_SAFE_INTEGER), this.#pageSize);
    const length = integer('range.length', range.length, 1, Number.MAX_SAFE_INTEGER - offset);
    return { offset, length: multipleOf('range.length', length, this.#pageSize) };
  }

  #mapShared(
    place: PlaceInMemory | undefined,
    offset: number,
    length: number,
    writable: boolean,
    priv: boolean,
    fill: number,
    populate: boolean,
    deviceFile: number,
    forDevice: boolean,
  ): SharedArrayBuffer | Failure {
    const mapOver = (buffer: SharedArrayBuffer, at: number): Failure | null => {
      const bytes = new Uint8Array(buffer, 0, buffer.byteLength);
      return native.map(bytes, at, this.#id, offset, length, writable, priv, fill, populate, deviceFile, forDevice);
    };
    if (place !== undefined) return mapOver(place.buffer, place.offset) ?? place.buffer;
    // Pages larger than those V8 aligns to need room to align in.
    const slack = this.#pageSize > native.pageSize ? this.#pageSize + roundUp(length, this.#pageSize) - length : 0;
    return inFreeRange(length + slack, (buffer) => mapOver(buffer, -1));
  }
}

function announceRevocation(mapping: Mapping, error: MappingRevokedError): void {
  mapping._announceRevocation(error);
}

const HUGE_PAGE = 2 * 1024 * 1024;

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** How many ranges are tried. */
const MOST_RANGES = 100;

/**
 * Maps over a range from V8. One that is not what V8 made it (`EEXIST`) is passed over, and kept until another one has been found, so that
 * V8 cannot give it again: another part of the program has unmapped addresses that it did not own, or mapped over them.
 */
function inFreeRange(bytes: number, map: (buffer: SharedArrayBuffer) => Failure | null): SharedArrayBuffer | Failure {
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

const SEAL_NAMES = Object.keys(SEALS) as Seal[];
const NO_SUCH_SEAL = 'this kernel does not know one of options.seals';
const SEALED_AGAINST_WRITING =
  "the memory is sealed against writing (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE): it can be mapped with access: 'r' or private: true";

function sealBits(seals: unknown): number {
  if (seals === undefined) return 0;
  if (!Array.isArray(seals)) throw invalidType('options.seals', 'an instance of Array', seals);
  const checked = Array.from(seals, (seal: unknown, i) => oneOf(`options.seals[${i}]`, seal, SEAL_NAMES));
  return checked.reduce((bits, seal) => bits | SEALS[seal], 0);
}

function contentOption(content: unknown, size: number): Uint8Array | undefined {
  if (content === undefined) return undefined;
  const bytes = asBytes(bytesView('options.content', content));
  if (bytes.byteLength > size)
    throw outOfRange('options.content', `at most ${size} bytes long, as options.size`, bytes.byteLength);
  return bytes;
}

function populateOption(value: unknown): boolean {
  if (typeof value === 'string') throw invalidValue('options.populate', "must be true, false or 'required'", value);
  return boolean('options.populate', value, false);
}

function orClose(mapping: Mapping, populate: () => void): void {
  try {
    populate();
  } catch (error) {
    mapping.close();
    throw error;
  }
}

function toPath(path: string | URL): string {
  if (path instanceof URL || (typeof path === 'object' && path !== null && 'href' in path)) return toPath(fileURLToPath(path));
  if (typeof path !== 'string') throw invalidType('path', 'of type string or an instance of URL', path);
  if (path.includes('\0')) throw invalidValue('path', 'must be a string without null bytes', JSON.stringify(path));
  return path;
}

function toScope(value: 'page' | 'object' | undefined): number {
  return SCOPES.indexOf(value === undefined ? 'by-cause' : oneOf('options.onBackingFault', value, ['page', 'object']));
}

/** hugetlbfs reserves at mmap time and says ENOMEM; this says what to do about it. */
function requireHugePages(size: number): void {
  let free = 0;
  try {
    free = Number(readFileSync('/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages', 'utf8'));
  } catch {
    // No such pages on this kernel: none free.
  }
  const needed = size / HUGE_PAGE;
  if (free >= needed) return;
  throw systemError(
    { errno: -osConstants.errno.ENOMEM, syscall: 'mmap' },
    { hint: `${needed} pages of 2 MiB needed, ${free} free: reserve them with "sysctl vm.nr_hugepages=${needed}"` },
  );
}

/** {@link MemoryObject.revoke} as a function: `revoke_mappings(mapping)`. */
export async function revokeMappings(object: MemoryObject, reason?: unknown): Promise<RevokeReport> {
  if (!MemoryObject._is(object)) throw invalidType('object', 'an instance of MemoryObject', object);
  return object.revoke(reason);
}
