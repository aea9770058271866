/** The state of a mapping as accesses find it, and the error of an access that failed. */
import { EventEmitter } from 'node:events';
import { osConstants } from '../os-constants.js';
import { integer, multipleOf } from '../arguments.js';
import { branded, requireConstruct } from '../brands.js';
import {
  BackingFaultError,
  invalidThis,
  MappingClosedError,
  MappingSuspendedError,
  MappingRevokedError,
  outOfRange,
  ProtectedPageError,
  RawRegistersError,
  ReadOnlyMappingError,
  RegisterAccessError,
  SelfFaultError,
  systemError,
  type AccessPlace,
  type BackingFaultCause,
  type RegisterAccessCause,
} from '../errors.js';
import { CAUSES, CLOSED_SLOT, FILLS, STATES, STATUS_MARKED, STATUS_SPECIAL, STATUS_STATE, VERDICTS } from '../native/enums.js';
import type { MappingDescription } from '../native/functions.js';
import { native } from '../native/load.js';
import { status as sharedStatus } from '../native/shared-state.js';
import type { RegisterPort } from './backing-provider.js';
import type { MappingEvents } from './mapping-events.js';
import type { MemoryObject, MemoryState } from './memory-object.js';
import type { WasmMemory } from './wasm-memory.js';

/** What native code says of an access to pages that are lost, protected or diverted. */
export interface Judgement {
  verdict: (typeof VERDICTS)[number];
  cause: (typeof CAUSES)[number];
  /** The first byte that the verdict is about. */
  at: number;
}

// Looked up once: V8 does not fold what is read of another module's exports each time.
const status = sharedStatus;
const judged = new Float64Array(3);

/** The word of this thread that orders an access and the look at the status word that follows: see `read32`. */
const SINK = native.sink;

/** True if a processor makes a thread's loads visible in program order, as x86 does and ARM does not. */
const LOADS_IN_ORDER = process.arch === 'x64';

/** Maximum number of retries for transient faults. */
const MOST_FAILURES = 100;

/** An access failed for a reason that the library does not know. */
export function faultError(bytesTransferred: number, place: AccessPlace | object = {}): Error {
  const error = systemError({ errno: -osConstants.errno.EFAULT, syscall: 'copy' });
  return Object.assign(error, place, { bytesTransferred });
}

/** The part of {@link Mapping} that knows its state. */
export abstract class AccessState extends EventEmitter<MappingEvents> {
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
  #selfFaultsReported = 0;
  #rawFailuresReported = 0;

  /** Index in the status table; CLOSED_SLOT once closed. */
  #slot: number;
  readonly #fill: (typeof FILLS)[number];
  readonly #id: number;
  /** Where in `buffer` it begins. */
  readonly #start: number;
  readonly #writable: boolean;

  static readonly #isOne = branded('Mapping', this.prototype, (value) => #slot in value, { inline: ['buffer', 'state'] });

  /** @internal True if it is a mapping of this copy of the library. Its fastest methods do the same, at no cost, by themselves. */
  static _is(value: unknown): value is AccessState {
    return AccessState.#isOne(value);
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
  }

  /**
   * The memory as a JavaScript buffer. The mapping may begin inside it, with 2 MiB pages and in a WebAssembly memory, whose own
   * buffer this is: see `bytes.byteOffset`. Give typed arrays over it a length: without one they are slower, and `set` over itself is
   * wrong (`docs/how-to/choose-a-buffer.md`). Of a device's registers each access through it goes to the model: `docs/reference/devices.md` says
   * which views do, and how often.
   *
   * @throws RawRegistersError `ERR_DEVICE_REGISTERS` for a device's registers where raw accesses do not reach its model
   *   (`docs/reference/devices.md`).
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

  /** @internal True if byte `at` of `buffer` is its memory: several mappings may lie in one WebAssembly memory. */
  _has(buffer: ArrayBufferLike, at: number): boolean {
    if (at < this.#start || at >= this.#start + this._span) return false;
    return buffer === this.#buffer || buffer === this.memory?.buffer;
  }

  /** @internal Names the mapping to native code. */
  get _id(): number {
    return this.#id;
  }

  /** @internal Raw accesses kill the process once it is revoked. */
  get _deadly(): boolean {
    return this.#fill === 'signal';
  }

  /** @internal Bytes of its pages. */
  protected get _span(): number {
    return Math.ceil(this.length / native.pageSize) * native.pageSize;
  }

  /** @internal */
  protected get _slot(): number {
    return this.#slot;
  }

  /** @internal */
  protected get _start(): number {
    return this.#start;
  }

  /** @internal */
  protected get _writable(): boolean {
    return this.#writable;
  }

  /** @internal */
  protected get _registers(): RegisterPort | undefined {
    return this.#registers;
  }

  /** @internal */
  protected get _servedHere(): boolean {
    return this.#servedHere;
  }

  /** Live; suspended; revoked for ever; closed. Also after the fill has made the raw views readable again. */
  get state(): MemoryState {
    requireMapping(this);
    // Asking the object lets the words of its mappings follow its gate, which may have been shut a moment ago.
    if ((status[this.#slot] & STATUS_STATE) === 0) void this.object.state;
    return STATES[status[this.#slot] & STATUS_STATE];
  }

  /** @internal No access reaches the memory through it any more. */
  protected _endAccess(): void {
    this.#slot = CLOSED_SLOT;
  }

  /** @internal */
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
   * @internal {@link #whyNotLive}, after an access that began while the mapping was live: it may have met the very fault that revoked the object,
   * and then that is its error.
   */
  protected _whyNoLonger(offset: number, bytesTransferred?: number): Error | undefined {
    const error = this.#whyNotLive(offset, bytesTransferred);
    if (!(error instanceof MappingRevokedError) || (status[this.#slot] & STATUS_MARKED) === 0) return error;
    const judgement = this._judge(offset, 1, false);
    return judgement.verdict === 'lost' ? this._errorOf(judgement, bytesTransferred) : error;
  }

  /** @internal */
  protected _throwUnlessStillLive(offset: number, bytesTransferred?: number): void {
    const error = this._whyNoLonger(offset, bytesTransferred);
    if (error !== undefined) throw error;
  }

  /** @internal */
  protected _judge(offset: number, width: number, write: boolean): Judgement {
    native.judge(this.#id, offset, width, write, judged);
    return { verdict: VERDICTS[judged[0]], cause: CAUSES[judged[1]], at: judged[2] };
  }

  /** @internal The error that a judgement stands for. Undefined where the access is fine, or is to be made again. */
  protected _errorOf({ verdict, cause, at }: Judgement, bytesTransferred?: number): Error | undefined {
    switch (verdict) {
      case 'fine':
      case 'stray':
        return undefined;
      case 'lost':
        return new BackingFaultError(this._place(at, bytesTransferred), cause as BackingFaultCause);
      case 'protected':
        return new ProtectedPageError(this._place(at, bytesTransferred));
      case 'read-only':
        return new ReadOnlyMappingError(this._place(at, bytesTransferred));
      case 'unsettled':
        return unsettledError(this._place(at, bytesTransferred));
    }
  }

  /** @internal What the marks of the pages say. `'stray'` when a diverted page had to be put back: what was read there was not valid. */
  protected _refusalOfMarks(offset: number, width: number, write: boolean): Error | 'stray' | undefined {
    const judgement = this._judge(offset, width, write);
    return judgement.verdict === 'stray' ? 'stray' : this._errorOf(judgement);
  }

  /** @internal Throws what the marks of the pages say. False for `'stray'`. */
  protected _marksAllow(offset: number, width: number, write: boolean): boolean {
    const refusal = this._refusalOfMarks(offset, width, write);
    if (refusal instanceof Error) throw refusal;
    return refusal === undefined;
  }

  /** @internal */
  protected _checkPlace(offset: number, width: number): void {
    integer('offset', offset, 0, this.length < width ? Number.MAX_SAFE_INTEGER : this.length - width);
    if (width > this.length) throw outOfRange('offset', `in a mapping of at least ${width} bytes, not ${this.length}`, offset);
    if (width > 1) multipleOf('offset', offset, width);
  }

  /**
   * @internal Throws what forbids the access; else the status word. The same word after an access says that it was to the object's own page.
   * Undefined when a diverted page has just been put back.
   */
  protected _wordIfAllowed(offset: number, width: number, write: boolean): number | undefined {
    const word = Atomics.load(status, this.#slot);
    if ((word & STATUS_SPECIAL) === 0) return word;
    return this._allowed(offset, width, write) ? word : undefined;
  }

  /** @internal True if the status word is, after an access, what it was before. */
  protected _isSame(word: number): boolean {
    if (!LOADS_IN_ORDER) Atomics.add(status, SINK, 0);
    return Atomics.load(status, this.#slot) === word;
  }

  /** @internal */
  protected _allowed(offset: number, width: number, write: boolean): boolean {
    this._throwUnlessLive(offset);
    return this._marksAllow(offset, width, write);
  }

  /** @internal True if nothing has happened since, but that pages may have been marked: of those that were accessed, the marks say so. */
  protected _isUnmoved(word: number): boolean {
    return ((Atomics.load(status, this.#slot) ^ word) & ~STATUS_MARKED) === 0;
  }

  /** @internal The registers went while their model was being asked: before the mapping does, and perhaps they are back by now. */
  protected _throwGone(offset: number | undefined, bytesTransferred?: number): never {
    this._throwUnlessLive(offset, bytesTransferred);
    const place = this._place(offset, bytesTransferred);
    const { state } = this.object;
    if (state === 'closed') throw new MappingClosedError(place);
    if (state === 'revoked' || this.#registers?.gone() === true) throw this.object._revokedError(place);
    throw new MappingSuspendedError(place);
  }

  /** @internal Only this thread's own touches count there, where it supplies the pages: the difference is the last access's. */
  protected _selfFaults(): number {
    return this.#servedHere ? native.selfFaults(this.#id) : 0;
  }

  /** @internal */
  protected _selfFaultSince(before: number, offset: number | undefined, bytesTransferred?: number): SelfFaultError | undefined {
    if (!this.#servedHere) return undefined;
    const now = native.selfFaults(this.#id);
    if (now === before) return undefined;
    this.#selfFaultsReported = now;
    return new SelfFaultError(this._place(offset, bytesTransferred));
  }

  /** @internal */
  protected _throwIfSelfFaultedSince(before: number, offset: number | undefined, bytesTransferred?: number): void {
    const error = this._selfFaultSince(before, offset, bytesTransferred);
    if (error !== undefined) throw error;
  }

  /** @internal Raw accesses have, since this was last asked or a checked one has. */
  protected _throwIfSelfFaulted(): void {
    if (this.#servedHere && this.#slot !== CLOSED_SLOT) this._throwIfSelfFaultedSince(this.#selfFaultsReported, undefined);
  }

  /** @internal Raw accesses to registers have not reached the model, since this was last asked. */
  protected _throwIfRawFailed(): void {
    if (this.#registers === undefined || this.#slot === CLOSED_SLOT) return;
    const failures = native.rawFailures(this.#id, judged);
    if (failures === -1) this._throwGone(undefined);
    if (failures === this.#rawFailuresReported) return;
    this.#rawFailuresReported = failures;
    const [cause, offset] = judged;
    if (CAUSES[cause] === 'none') this._throwGone(offset);
    throw new RegisterAccessError(this._place(offset), CAUSES[cause] as RegisterAccessCause);
  }

  /** @internal The error of a fault that goes on and that the library knows no reason for: the page was taken away by other means. */
  protected _unexplained(failures: number, copied: { done: number; mapping: boolean }, offset: number): Error | undefined {
    return failures < MOST_FAILURES
      ? undefined
      : faultError(copied.done, copied.mapping ? this._place(offset + copied.done) : {});
  }

  /** @internal */
  protected _throwIfClosed(offset: number): void {
    if (this.#slot === CLOSED_SLOT || this.state === 'closed') {
      throw new MappingClosedError(this._place(typeof offset === 'number' && Number.isInteger(offset) ? offset : undefined));
    }
  }
}

/** A page to which a forbidden raw access was diverted shows that access, not the object. */
function unsettledError(place: AccessPlace): Error {
  const failure = { errno: -osConstants.errno.ENOMEM, syscall: 'mmap' };
  const hint = 'a page to which a forbidden access was diverted cannot be put back';
  return Object.assign(systemError(failure, { hint }), place);
}

/** For methods that a call more would slow. */
export function requireMapping(value: unknown): void {
  if (!AccessState._is(value)) throw invalidThis('Mapping');
}
