/** Every error the library throws, and how the errors of system calls get Node's shape. */
import { getSystemErrorMap, inspect } from 'node:util';
import { osConstants } from './os-constants.js';
import type { Failure } from './native/functions.js';

/** Where an access failed. */
export interface AccessPlace {
  /** Name of the object that was accessed. */
  object: string;
  /** First byte of the access, from the start of the mapping. */
  offset?: number | undefined;
  /** The same byte, from the start of the object. */
  objectOffset?: number | undefined;
  /** The same byte, as an address in this process. */
  address?: bigint | undefined;
  /** Bytes that a bulk copy had transferred before it failed. */
  bytesTransferred?: number | undefined;
}

/** What the errors of accesses have in common. */
export abstract class AccessError extends Error {
  /** A string that never changes, for programs to compare. */
  abstract readonly code: string;
  /** Name of the object that was accessed. */
  readonly object: string;
  /** First byte of the access, from the start of the mapping; absent where the error is not about a place. */
  declare readonly offset?: number;
  /** The same byte, from the start of the object. */
  declare readonly objectOffset?: number;
  /** The same byte, as an address in this process. */
  declare readonly address?: bigint;
  /** Bytes that a bulk copy had transferred before it failed, exactly. */
  declare readonly bytesTransferred?: number;

  constructor(what: string, place: AccessPlace, cause?: unknown) {
    super(describe(what, place), cause === undefined ? undefined : { cause });
    this.object = place.object;
    if (place.offset !== undefined) this.offset = place.offset;
    if (place.objectOffset !== undefined) this.objectOffset = place.objectOffset;
    if (place.address !== undefined) this.address = place.address;
    if (place.bytesTransferred !== undefined) this.bytesTransferred = place.bytesTransferred;
  }

  override get name(): string {
    return classNameOf(this);
  }
}

function describe(what: string, place: AccessPlace): string {
  if (typeof place !== 'object' || place === null) throw invalidType('place', 'of type object', place);
  const at = place.offset === undefined ? '' : ` at offset ${place.offset}`;
  const after = place.bytesTransferred === undefined ? '' : ` after ${place.bytesTransferred} bytes`;
  return `${place.object}: ${what}${at}${after}`;
}

/**
 * The memory has been revoked, for ever: its device is gone. `cause` is the reason given to `revoke()`, in the thread that gave it.
 * A write that throws this may have landed before the revocation did.
 */
export class MappingRevokedError extends AccessError {
  readonly code = 'ERR_MAPPING_REVOKED';
  constructor(place: AccessPlace, cause?: unknown) {
    super('the mapping has been revoked', place, cause);
  }
}

/** The memory is suspended: the same mapping works again after `resume()`. */
export class MappingSuspendedError extends AccessError {
  readonly code = 'ERR_MAPPING_SUSPENDED';
  constructor(place: AccessPlace) {
    super('the mapping is suspended', place);
  }
}

/** The mapping, or the object it is of, has been closed. */
export class MappingClosedError extends AccessError {
  readonly code = 'ERR_MAPPING_CLOSED';
  constructor(place: AccessPlace) {
    super('the mapping is closed', place);
  }
}

/** Why the backing of a page is gone; `unknown` when the kernel says no more than SIGBUS. */
export type BackingFaultCause = 'past-end' | 'no-space' | 'poisoned' | 'unknown' | DeviceFaultCause;

/** Why a simulated device did not supply a page: its `fault` op answered `'sigbus'`, threw, or did not answer in time. */
export type DeviceFaultCause = 'refused' | 'failed' | 'no-answer';

const BACKING_FAULTS: Record<BackingFaultCause, string> = {
  'past-end': 'the page is past the end of the file',
  'no-space': 'there is no space for the page on its file system',
  poisoned: 'the page is in memory that the hardware reports as broken',
  unknown: 'the page could not be read from its device',
  refused: 'the device answered the page fault with SIGBUS',
  failed: "the device's fault op failed",
  'no-answer': "the device's fault op did not answer in time",
};

/** The kernel could not supply a page of a mapping that was not revoked. The page stays lost, even when its file grows back. */
export class BackingFaultError extends AccessError {
  readonly code = 'ERR_BACKING_FAULT';
  /** What is known of the reason. */
  override readonly cause: BackingFaultCause;
  constructor(place: AccessPlace, cause: BackingFaultCause) {
    super(BACKING_FAULTS[cause], place);
    this.cause = cause;
  }
}

/** A write to a mapping, or to pages of it, that may only be read. */
export class ReadOnlyMappingError extends AccessError {
  readonly code = 'ERR_MAPPING_READ_ONLY';
  constructor(place: AccessPlace) {
    super('the mapping is read-only', place);
  }
}

/** An access to pages that `protect(… 'none')` has closed. */
export class ProtectedPageError extends AccessError {
  readonly code = 'ERR_MAPPING_PROTECTED';
  constructor(place: AccessPlace) {
    super('the page is protected', place);
  }
}

/**
 * A thread touched a page that only it could have supplied, or a register that only it could have answered for: the ops of the simulated
 * device run in the thread that made the access. The access did not wait, and did not reach the device.
 */
export class SelfFaultError extends AccessError {
  readonly code = 'ERR_DEVICE_SELF_FAULT';
  constructor(place: AccessPlace) {
    super(
      "this thread runs the device's ops, so it cannot wait for them: use Device.spawn(), or readAsync() and writeAsync(); accessed",
      place,
    );
  }
}

/** Why a raw access did not reach the model of a register. */
export type RegisterAccessCause = 'refused' | 'failed' | 'no-answer';

const REGISTER_FAILURES: Record<RegisterAccessCause, string> = {
  refused: 'unsupported raw register access (not within the registers, unaligned, or by an instruction that cannot be decoded)',
  failed: "the device's register op failed for a raw access",
  'no-answer': "the device's register op did not answer a raw access in time",
};

/** Raw accesses to a device's registers did not reach its model: they read the fill, and what they wrote was discarded. */
export class RegisterAccessError extends AccessError {
  readonly code = 'ERR_DEVICE_REGISTER_ACCESS';
  override readonly cause: RegisterAccessCause;
  constructor(place: AccessPlace, cause: RegisterAccessCause) {
    super(REGISTER_FAILURES[cause], place);
    this.cause = cause;
  }
}

/** Raw views of registers where raw accesses cannot be delivered to the device's model. */
export class RawRegistersError extends Error {
  /** A string that never changes, for programs to compare. */
  readonly code = 'ERR_DEVICE_REGISTERS';
  constructor(object: string) {
    super(`${object}: registers have no raw views on this processor or in this process, use read8 … write64`);
  }
  override get name(): string {
    return classNameOf(this);
  }
}

/**
 * An op of a simulated device failed: it threw something that is no system error, or (`ERR_DEVICE_OP_TIMEOUT`) did not answer in time.
 * `cause` is what it threw, where the op ran in the same thread.
 */
export class DeviceOpError extends Error {
  /** A string that never changes, for programs to compare. */
  readonly code: 'ERR_DEVICE_OP_FAILED' | 'ERR_DEVICE_OP_TIMEOUT';
  /** Name of the device; of its module where `Device.spawn` failed before there was one. */
  readonly device: string;
  /** Name of the op, as in {@link DeviceOps}; `worker` where the worker of a spawned device failed outside of them. */
  readonly op: string;
  constructor(device: string, op: string, what: string, code: DeviceOpError['code'] = 'ERR_DEVICE_OP_FAILED', cause?: unknown) {
    super(`${device}: ${op}: ${what}`, cause === undefined ? undefined : { cause });
    this.device = device;
    this.op = op;
    this.code = code;
  }
  override get name(): string {
    return classNameOf(this);
  }
}

/** A line that is none of the text of a trace: see `parseAccess`. */
export class TraceLineError extends Error {
  /** A string that never changes, for programs to compare. */
  readonly code = 'ERR_DEVICE_TRACE_LINE';
  /** The line. */
  readonly line: string;
  constructor(line: string) {
    super(`not a line of a trace: ${inspect(line)}`);
    this.line = line;
  }
  override get name(): string {
    return classNameOf(this);
  }
}

/** Why {@link ShareError} was thrown. */
export type ShareErrorCode =
  /** The other process has ended the connection, or has died: what it shared is gone. */
  | 'ERR_SHARE_DISCONNECTED'
  /** The other process sent what the protocol does not allow. */
  | 'ERR_SHARE_PROTOCOL'
  /** The server ended the connection instead of accepting it, or it serves something else. */
  | 'ERR_SHARE_REFUSED'
  /** The other process did not answer in time. */
  | 'ERR_SHARE_TIMEOUT';

/** What went wrong between two processes that share memory or a device. */
export class ShareError extends Error {
  /** A string that never changes, for programs to compare. */
  readonly code: ShareErrorCode;
  /** The socket's path. */
  readonly path: string;
  constructor(code: ShareErrorCode, path: string, what: string) {
    super(`${path}: ${what}`);
    this.code = code;
    this.path = path;
  }
  override get name(): string {
    return classNameOf(this);
  }
}

/**
 * Shared memory does not hold what the threads and processes that use it have agreed on, a ring or a mutex: one of them has written
 * something else there.
 */
export class SharedStateError extends Error {
  /** A string that never changes, for programs to compare. */
  readonly code = 'ERR_SHARED_STATE';
  /** Name of the object. */
  readonly object: string;
  /** Where the ring or the mutex is, from the start of the mapping. */
  readonly offset: number;
  constructor(object: string, offset: number, what: string) {
    super(`${object}: ${what} at offset ${offset}`);
    this.object = object;
    this.offset = offset;
  }
  override get name(): string {
    return classNameOf(this);
  }
}

/**
 * True if `error` is a {@link MappingRevokedError}, also one of another copy of the library or from another realm, where
 * `instanceof` says no.
 *
 * @example
 * ```js
 * try { mapping.read32(0) } catch (error) { if (!isRevokedError(error)) throw error; }
 * ```
 */
export function isRevokedError(error: unknown): error is MappingRevokedError {
  return typeof error === 'object' && error !== null && (error as { code?: unknown }).code === 'ERR_MAPPING_REVOKED';
}

/** An error of Node's shape: `TypeError [CODE]: message` in its stack, `name` unchanged. */
function withCode<E extends Error>(error: E, code: string): E & { code: string } {
  const name = error.name;
  Object.defineProperty(error, 'name', { value: `${name} [${code}]`, configurable: true, writable: true, enumerable: false });
  void error.stack; // V8 composes the stack's first line when it is first read
  delete (error as { name?: string }).name;
  return Object.assign(error, { code });
}

/** Any value at all as text: there are objects that cannot be made a string, and that cannot be looked at. */
export function textOf(value: unknown): string {
  for (const say of [String, inspect]) {
    try {
      return `${say(value)}`;
    } catch {
      // The next way of saying it.
    }
  }
  return `what has no text (${typeof value})`;
}

/** What an op answered, for messages. Objects may hold anything: of them only that they are some. */
export function answerText(value: unknown): string {
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return 'an object';
  return inspect(value, { maxStringLength: 80 });
}

export function invalidType(name: string, expected: string, value: unknown): TypeError {
  const received =
    value === null || value === undefined
      ? String(value)
      : typeof value === 'object'
        ? `an instance of ${classNameOf(value)}`
        : `type ${typeof value} (${inspect(value)})`;
  return withCode(new TypeError(`The "${name}" argument must be ${expected}. Received ${received}`), 'ERR_INVALID_ARG_TYPE');
}

function classNameOf(value: unknown): string {
  try {
    return `${(value as object).constructor.name}`;
  } catch {
    return 'Object';
  }
}

export function invalidValue(name: string, reason: string, value: unknown, cause?: unknown): TypeError {
  const received = typeof value === 'string' ? `'${value}'` : textOf(value);
  const message = `The argument "${name}" ${reason}. Received ${received}`;
  return withCode(new TypeError(message, cause === undefined ? undefined : { cause }), 'ERR_INVALID_ARG_VALUE');
}

/** A method or accessor was called on what is no object of its class. */
export function invalidThis(className: string): TypeError {
  return withCode(new TypeError(`Value of "this" must be of type ${className}`), 'ERR_INVALID_THIS');
}

/** A constructor that only the library may call. */
export function illegalConstructor(): TypeError {
  return withCode(new TypeError('Illegal constructor'), 'ERR_ILLEGAL_CONSTRUCTOR');
}

export function codedRangeError(message: string): RangeError {
  return withCode(new RangeError(message), 'ERR_OUT_OF_RANGE');
}

export function outOfRange(name: string, range: string, value: unknown): RangeError {
  return codedRangeError(`The value of "${name}" is out of range. It must be ${range}. Received ${textOf(value)}`);
}

/** The error of a buffer that has become shorter than the `bytes` it had when the call began. */
export function shortened(name: string, bytes: number, now: number, bytesTransferred: number): RangeError {
  const error = outOfRange(name, `of ${bytes} bytes as when the call began: it was detached or shortened`, now);
  return Object.assign(error, { bytesTransferred });
}

/** The name of an error number: libuv's, as Node's own errors have it, or where libuv has none the operating system's. */
export function errnoName(errno: number): string | undefined {
  const known = getSystemErrorMap().get(errno)?.[0];
  return known ?? Object.entries(osConstants.errno).find(([, value]) => value === -errno)?.[0];
}

/** A system call's error with `code`, `errno`, `syscall` and `path`, as Node's own have them. */
export function systemError(
  failure: Failure,
  details: { path?: string; cause?: unknown; hint?: string } = {},
): NodeJS.ErrnoException {
  const code = errnoName(failure.errno) ?? `Unknown system error ${failure.errno}`;
  const text = getSystemErrorMap().get(failure.errno)?.[1] ?? 'unknown error';
  const path = details.path === undefined ? '' : ` '${details.path}'`;
  const hint = details.hint === undefined ? '' : ` (${details.hint})`;
  const error: NodeJS.ErrnoException = new Error(
    `${code}: ${text}, ${failure.syscall}${path}${hint}`,
    details.cause === undefined ? undefined : { cause: details.cause },
  );
  error.errno = failure.errno;
  error.code = code;
  error.syscall = failure.syscall;
  if (details.path !== undefined) error.path = details.path;
  return error;
}
