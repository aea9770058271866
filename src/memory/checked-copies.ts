/** Checked copies: each throws where it failed, and says how many bytes it has copied. */
import { osConstants } from '../os-constants.js';
import { asBytes, bytesView, integer } from '../arguments.js';
import { branded } from '../brands.js';
import { outOfRange, ReadOnlyMappingError, shortened, systemError } from '../errors.js';
import { STATUS_MARKED, STATUS_SPECIAL, STATUS_STATE } from '../native/enums.js';
import type { MappingDescription, PartialCopy } from '../native/functions.js';
import { native } from '../native/load.js';
import { orderCopy, status as sharedStatus } from '../native/shared-state.js';
import { knownMappingOf } from '../thread/identities.js';
import { completionOf, unwrap } from '../thread/wakeups.js';
import { faultError, requireMapping } from './access-state.js';
import type { RegisterPort } from './backing-provider.js';
import { CheckedAccess } from './checked-access.js';
import type { MemoryObject } from './memory-object.js';

type Copied = number | PartialCopy;
// Looked up once: V8 does not fold what is read of another module's exports each time.
const { readBytes, writeBytes } = native;
const status = sharedStatus;

/** The error of a part of a copy, with what had been copied before that part. */
function movedOn(error: unknown, done: number): unknown {
  const partial = error as { bytesTransferred?: number };
  if (typeof partial.bytesTransferred === 'number') partial.bytesTransferred += done;
  return error;
}

/**
 * If the mapping keeps changing, a long copy cannot be validated: after so many attempts it is made in pieces, and these by pages.
 */
const WHOLE_ATTEMPTS = 3;
const PIECE = 64 << 10;
const PAGE = native.pageSize;
/** What is copied by a first write that changes nothing. */
const TOUCH = new Uint8Array(1);

function pieceOf(bytes: number): number {
  return bytes > PIECE ? PIECE : PAGE;
}

/** How many bytes had been copied before the error. */
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

function allocate(bytes: number): Uint8Array {
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

/** The part of {@link Mapping} that copies. */
export abstract class CheckedCopies extends CheckedAccess {
  // What AccessState has too: its getters would cost a copy of few bytes a twentieth.
  readonly #number: number;
  readonly #mayWrite: boolean;
  /** A device supplies its pages in this thread, or answers for its registers. */
  readonly #fromDevice: boolean;

  static {
    branded('Mapping', this.prototype, (value) => CheckedAccess._is(value), { inline: ['read', 'write'] });
  }

  /** @internal */
  constructor(key: symbol, object: MemoryObject, description: MappingDescription, buffer: SharedArrayBuffer | ArrayBuffer) {
    super(key, object, description, buffer);
    this.#number = description.id;
    this.#mayWrite = description.writable;
    this.#fromDevice = this._servedHere || this._registers !== undefined;
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
    if (this._registers !== undefined) return this.#copyRegisters(this._registers, offset, target, false);
    if (!native.overlaps(this._id, offset, target)) return this.#copyAsync(offset, asBytes(target), false);
    const taken = allocate(bytes);
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
    if (this._registers !== undefined) return this.#copyRegisters(this._registers, offset, source, true);
    const { taken, error } = this.#take(asBytes(source), offset);
    if (taken.byteLength > 0) await this.#copyAsync(offset, taken, true);
    if (error !== undefined) throw error;
    return bytes;
  }

  /**
   * @internal A first write to the page, on another thread, which changes nothing: resolves once the page is there and may be written to.
   */
  async _touchAsync(offset: number): Promise<void> {
    this.#checkCopy(offset, 1, true);
    await this.#copyAsync(offset, TOUCH, true);
  }

  /** What `source` holds, up to where it cannot be read; and why it cannot. */
  #take(source: Uint8Array, offset: number): { taken: Uint8Array; error?: Error } {
    if (native.overlaps(this._id, offset, source)) {
      const at = this.#placeOf(source);
      if (at !== undefined) return this.#takeChecked(at, source.byteLength);
    }
    const taken = allocate(source.byteLength);
    for (let failures = 0; ; failures++) {
      const partial = native.takeBytes(source, taken, failures);
      if (partial === undefined) return { taken };
      const error = this.#otherSideError(source, partial.done, false) ?? this._unexplained(failures, partial, offset);
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
    const taken = allocate(bytes);
    try {
      this.#copy(offset, taken, false);
      return { taken };
    } catch (error) {
      return { taken: taken.subarray(0, bytesTransferredBefore(error)), error: error as Error };
    }
  }

  /** Where in the mapping the view lies, which overlaps it: undefined when a part of it is outside. */
  #placeOf(view: Uint8Array): number | undefined {
    const at = view.byteOffset - this._start; // whatever buffer it is of, that begins at the same address
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
      const error = this.#otherSideError(part, partial.done, true) ?? this._unexplained(failures, partial, offset);
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
    const source = part === TOUCH ? null : write ? part : undefined;
    const token = unwrap(native.copyAsync(this._id, offset, bytes, source, failures));
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
        if (!port.write(this.offset + at, width, value)) this._throwGone(at, done);
      } else {
        const value = Number(port.read(this.offset + at, width) ?? this._throwGone(at, done));
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
      while (this._wordIfAllowed(offset, width, write) === undefined);
    } catch (error) {
      throw Object.assign(error as Error, { bytesTransferred });
    }
  }

  #copy(offset: number, other: NodeJS.ArrayBufferView, write: boolean): number {
    const bytes = other.byteLength;
    if (this.#fromDevice) return this.#copyFromDevice(offset, other, write);
    // Nothing marked, nothing gone, and nothing has been meanwhile: what was copied is the memory's.
    const word = status[this._slot];
    if (
      typeof offset === 'number' &&
      offset >>> 0 === offset &&
      bytes <= this.length - offset &&
      (word & STATUS_SPECIAL) === 0 &&
      bytes > 0 &&
      (this.#mayWrite || !write)
    ) {
      const copied = this.#transfer(offset, other, bytes, write);
      if (copied === bytes && status[this._slot] === word) return bytes;
      if (copied === undefined) return this.#copyOverlapping(offset, other, write);
      if (this.#isWhole(copied, offset, other, bytes, write, word)) return bytes;
    }
    return this.#copySlow(offset, other, bytes, write);
  }

  #copyFromDevice(offset: number, other: NodeJS.ArrayBufferView, write: boolean): number {
    const bytes = other.byteLength;
    this.#checkCopy(offset, bytes, write);
    if (this._registers !== undefined) return this.#copyRegisters(this._registers, offset, other, write);
    // Page by page: a page that this thread would have to supply is where the copy ends.
    if (bytes === 0) return 0;
    if (native.overlaps(this._id, offset, other)) return this.#copyOverlapping(offset, other, write);
    for (const { done, at, part } of pieces(offset, asBytes(other), native.pageSize)) {
      try {
        this.#copySlow(at, part, part.byteLength, write, this._selfFaults());
      } catch (error) {
        throw movedOn(error, done);
      }
    }
    return bytes;
  }

  #copySlow(offset: number, other: NodeJS.ArrayBufferView, bytes: number, write: boolean, selfFaults?: number): number {
    this.#checkCopy(offset, bytes, write);
    if (bytes === 0) return 0;
    if (native.overlaps(this._id, offset, other)) return this.#copyOverlapping(offset, other, write);
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
    if (write && !this._writable) throw new ReadOnlyMappingError(this._place(offset, 0));
  }

  #copyChecked(offset: number, part: Uint8Array, write: boolean, selfFaults?: number): number {
    const bytes = part.byteLength;
    let failures = 0;
    for (let attempt = 1; attempt <= WHOLE_ATTEMPTS || bytes <= PAGE; attempt++) {
      // Lost and protected pages are where the copy ends, as if they faulted.
      const { limit, word } = this.#bytesAllowed(offset, bytes, write);
      const copied = limit === 0 ? 0 : this.#transfer(offset, part, limit, write, failures)!; // its callers know no overlap
      if (selfFaults !== undefined) this._throwIfSelfFaultedSince(selfFaults, offset, 0);
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

  /** True if all that was copied was the memory's; throws why not, unless it is to be copied again. */
  #isWhole(copied: Copied, offset: number, other: NodeJS.ArrayBufferView, bytes: number, write: boolean, word: number): boolean {
    const after = this.#bytesAllowed(offset, bytes, write);
    if (copied === bytes && after.limit === bytes && this._isUnmoved(word)) return true;
    this.#throwForPartial(copied, offset, other, write);
    return false;
  }

  /** Throws why not all was copied, or not all of it was valid; returns where there is no reason any more. */
  #throwForPartial(copied: Copied, offset: number, other: NodeJS.ArrayBufferView, write: boolean): void {
    if (typeof copied === 'number' || copied.mapping) {
      return this.#throwForCopy(offset, typeof copied === 'number' ? copied : copied.done, other.byteLength, write);
    }
    const error = this.#otherSideError(other, copied.done, !write);
    if (error !== undefined) throw error;
  }

  #countFailure(failures: number, copied: Copied, offset: number): number {
    if (typeof copied === 'number') return failures;
    const error = this._unexplained(failures, copied, offset);
    if (error !== undefined) throw error;
    return failures + 1;
  }

  /** Undefined, and nothing copied, when the two sides overlap. */
  #transfer(offset: number, other: NodeJS.ArrayBufferView, bytes: number, write: boolean, failures = 0): Copied | undefined {
    orderCopy(this.#number, offset, bytes, failures);
    const copied = write ? writeBytes(other) : readBytes(other);
    if (copied === undefined) return bytes;
    if (copied === false) throw outOfRange(write ? 'source' : 'target', 'as long as its byteLength says', bytes);
    return copied ?? undefined;
  }

  /** How many bytes from `offset` on may be copied, and the status word that says so: the same after the copy, and all was valid. */
  #bytesAllowed(offset: number, bytes: number, write: boolean): { limit: number; word: number } {
    for (;;) {
      const word = Atomics.load(status, this._slot);
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
    this._throwUnlessStillLive(at, done);
    if (done < bytes && this.object._isRevokedByOwner()) throw this.object._revokedError(this._place(at, done));
    if ((status[this._slot] & STATUS_MARKED) === 0) return;
    const judgement = this._judge(offset, bytes, write);
    const error = this._errorOf(judgement, Math.min(done, judgement.at - offset));
    if (error !== undefined) throw error;
  }

  /** The copy's other buffer faulted: it is a view of a mapping, or of memory that is not ours. Undefined when it no longer would. */
  #otherSideError(other: NodeJS.ArrayBufferView, done: number, write: boolean): Error | undefined {
    const mapping = knownMappingOf(other.buffer, other.byteOffset + done);
    return mapping === undefined ? faultError(done) : mapping._viewError(other, done, write);
  }

  /** @internal Why a copy failed whose other buffer is a view of this mapping, which another copy of the library may have made. */
  _viewError(view: NodeJS.ArrayBufferView, done: number, write: boolean): Error | undefined {
    // A system call fails so on registers too.
    if (this._registers !== undefined) return faultError(done);
    // The view may begin before the mapping and end behind it, where that lies in a WebAssembly memory.
    const before = Math.max(0, this._start - view.byteOffset);
    const offset = view.byteOffset + before - this._start;
    const bytes = Math.min(view.byteLength - before, this._span - offset);
    try {
      this.#throwForCopy(offset, done - before, bytes, write);
    } catch (error) {
      return movedOn(error, before) as Error;
    }
    return write && !this._writable ? new ReadOnlyMappingError(this._place(offset + done - before, done)) : undefined;
  }
}
