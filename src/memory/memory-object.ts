import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import { osConstants } from '../os-constants.js';
import { boolean, integer, memoryName, multipleOf, options as checkOptions, requiredObject, string } from '../arguments.js';
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
  systemError,
} from '../errors.js';
import { CAUSES, REVOKE_DONE, SEALS, STATES, STATUS_STATE } from '../native/enums.js';
import { isFailure, type Failure, type MapOrder } from '../native/functions.js';
import { native } from '../native/load.js';
import { orderMapping, reportIn, takeDescription, takeReport } from '../native/shared-state.js';
import { later, laterEach } from '../thread/emit-later.js';
import { forgetObject, knownObject, rememberObject } from '../thread/identities.js';
import { MappingList } from '../thread/mapping-list.js';
import { completionOf, prepare, unwrap } from '../thread/wakeups.js';
import { backingOf, type Backing } from './backing-provider.js';
import { checkMapOptions, inFreeRange, rangeOf, roundUp, type MapOptions, type MapRequest, type Range } from './map-options.js';
import type { FaultInfo } from './mapping-events.js';
import { Mapping } from './mapping.js';
import {
  contentOption,
  HUGE_PAGE,
  NO_SUCH_SEAL,
  requireHugePages,
  SEAL_NAMES,
  sealBits,
  SEALED_AGAINST_WRITING,
  toPath,
  toScope,
  type CreateOptions,
  type OpenOptions,
  type Seal,
} from './object-options.js';
import { toReport, type RevokeReport } from './revoke-report.js';

/** Live; suspended for a while; revoked for ever; closed. */
export type MemoryState = 'live' | 'suspended' | 'revoked' | 'closed';

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
  /** True if the library created the memory, so that revoking it reaches every process. */
  readonly owned: boolean;

  readonly #id: number;
  readonly #fd: number;
  readonly #writable: boolean;
  readonly #pageSize: number;
  readonly #sized: boolean;
  /** @internal Mappings of this thread. */
  readonly _mappings = new MappingList<Mapping>();
  #lastSize: number;
  #announced: MemoryState = 'live';
  #reason: unknown;
  #controller: AbortController | undefined;

  static readonly #isOne = branded('MemoryObject', this.prototype, (value) => #id in value, { inline: ['state'] });

  /** @internal True if it is an object of this copy of the library. */
  static _is(value: unknown): value is MemoryObject {
    return MemoryObject.#isOne(value);
  }

  /** Objects are made by the static functions. */
  private constructor(key: symbol, id: number) {
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
   * New memory, zeroed: a memfd sealed so that only its owner can take it away, and no process can give it back.
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

  /** True if it was opened for writing. */
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

  /** @internal {@link map}, through an open file of a device; or as the device's own view, for whose pages no op is called. */
  _map(options: MapOptions | undefined, deviceFile: number, forDevice: boolean): Mapping {
    const given = checkOptions('options', options);
    if (!forDevice || this.state !== 'suspended') this.#refuseUnlessLive();
    const request = checkMapOptions(this, given, this.#rangeWhileLive(given));
    const populate = request.populate === true;
    const order: MapOrder = {
      at: request.place?.offset ?? -1,
      objectId: this.#id,
      offset: request.offset,
      length: request.length,
      writable: request.writable,
      private: request.private,
      fill: request.fill,
      populate,
      deviceFile,
      forDevice,
    };
    const mapped = request.shared ? this.#mapShared(order, request.place?.buffer) : mapExternal(order);
    if (isFailure(mapped)) throw this.#mapError(mapped, request);
    const mapping = Mapping._of(this, takeDescription(), mapped, true, request.place?.memory);
    if (request.populate === 'required') {
      orClose(mapping, () => mapping.advise(request.writable && !request.private ? 'populate-write' : 'populate-read'));
    } else if (populate && this._backing?.supplied === true && !forDevice) {
      orClose(mapping, () => mapping.prefetch());
    }
    publish('map', () => ({ mapping, object: this }));
    return mapping;
  }

  /**
   * Takes the memory away for ever: when the promise resolves, no thread of this process reaches it through any mapping, and of
   * memory the library created no process does. Mappings keep their addresses; accesses to them fail as
   * `docs/reference/rules.md` says. The work is done on another thread; the gate is shut, and `state` is `'revoked'`, when the call returns.
   *
   * Never rejects: removal cannot be allowed to fail. The report says what the kernel allowed.
   *
   * @param reason becomes the `cause` of this thread's MappingRevokedErrors.
   */
  async revoke(reason?: unknown): Promise<RevokeReport> {
    const drained = this._backing?.drain();
    const report = await this._beginRevoking()(reason);
    await drained?.();
    return report;
  }

  /**
   * @internal {@link revoke}, without waiting for the ops of a device. Its gate is shut, and the work begun, when the call returns; what it
   * returns is to be called in the same turn.
   */
  _beginRevoking(): (reason: unknown) => Promise<RevokeReport> {
    const { token, mine } = native.revokeAsync(this.#id);
    return async (reason) => {
      if (mine) this.#reason = reason;
      const { report } = await completionOf(token);
      return this.#revoked(mine, toReport(this.name, mine, reportIn(report!)));
    };
  }

  /** {@link revoke}, in this call. Blocks while the kernel takes the pages away: some microseconds a mapping, up to one a present page. */
  revokeSync(reason?: unknown): RevokeReport {
    const mine = native.revokeSync(this.#id);
    const report = takeReport();
    if (mine) this.#reason = reason;
    return this.#revoked(mine, toReport(this.name, mine, report));
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
    return toReport(this.name, completion.byThisCall, reportIn(completion.report!));
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

  /** @internal True if it has a size: a regular file, memfd or block device. */
  get _sized(): boolean {
    return this.#sized;
  }

  /** @internal Bytes of the file now; undefined where the object is none that may be cut. */
  get _sizeOfFile(): number | undefined {
    return this.#sized && !this.owned ? this.size : undefined;
  }

  /** @internal True if another process that owns the memory has revoked it: then it is revoked here too. */
  _isRevokedByOwner(): boolean {
    if (this.owned || !native.objectRevokedByOwner(this.#id)) return false;
    this.revokeSync();
    return true;
  }

  /** @internal The error of this object's revocation; of `place` when given. */
  _revokedError(place: ConstructorParameters<typeof MappingRevokedError>[0] = { object: this.name }): MappingRevokedError {
    return new MappingRevokedError(place, this.#reason ?? this._ownerGone ?? this.#backingCause());
  }

  /** @internal The cause of a revocation that its owner, another process, has made. */
  _ownerGone: Error | undefined;

  /** @internal Emits what has changed since it was last looked at. */
  _synchronize(): void {
    const now = this.state;
    if (now === this.#announced || this.#announced === 'closed') return;
    // Between the gate and the last mapping there is nothing to announce yet: the thread that finishes the revocation does.
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
    laterEach(this._mappings.forLoop(), announceRevocation, error);
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

  #mapError(failure: Failure, { length, place, writable, private: priv }: MapRequest): Error {
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

  /** The bytes to map; of memory that has just gone, the error says that it has, and nothing of its size. */
  #rangeWhileLive(given: Partial<MapOptions>): Range {
    try {
      return rangeOf(this, given);
    } catch (error) {
      this.#refuseUnlessLive();
      throw error;
    }
  }

  #zapRange(range: { offset: number; length: number }): { offset: number; length: number } {
    const offset = multipleOf('range.offset', integer('range.offset', range.offset, 0, Number.MAX_SAFE_INTEGER), this.#pageSize);
    const length = integer('range.length', range.length, 1, Number.MAX_SAFE_INTEGER - offset);
    return { offset, length: multipleOf('range.length', length, this.#pageSize) };
  }

  #mapShared(order: MapOrder, place: SharedArrayBuffer | undefined): SharedArrayBuffer | Failure {
    if (place !== undefined) return mapOver(place, order) ?? place;
    // Pages larger than those V8 aligns to need room to align in.
    const { length } = order;
    const slack = this.#pageSize > native.pageSize ? this.#pageSize + roundUp(length, this.#pageSize) - length : 0;
    return inFreeRange(length + slack, (buffer) => mapOver(buffer, order));
  }
}

function mapOver(buffer: SharedArrayBuffer, order: MapOrder): Failure | null {
  orderMapping(order);
  return native.map(new Uint8Array(buffer, 0, buffer.byteLength));
}

function mapExternal(order: MapOrder): ArrayBuffer | Failure {
  orderMapping(order);
  return native.mapExternal();
}

function orClose(mapping: Mapping, populate: () => void): void {
  try {
    populate();
  } catch (error) {
    mapping.close();
    throw error;
  }
}

function announceRevocation(mapping: Mapping, error: MappingRevokedError): void {
  mapping._announceRevocation(error);
}

/** {@link MemoryObject.revoke} as a function: `revoke_mappings(mapping)`. */
export async function revokeMappings(object: MemoryObject, reason?: unknown): Promise<RevokeReport> {
  if (!MemoryObject._is(object)) throw invalidType('object', 'an instance of MemoryObject', object);
  return object.revoke(reason);
}
