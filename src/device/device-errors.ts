/** What ops throw, and the errors that their callers get for it. Anything can be thrown, also what throws when it is looked at. */
import { types } from 'node:util';
import type { constants } from 'node:os';
import { osConstants } from '../os-constants.js';
import { requiredString } from '../arguments.js';
import { DeviceOpError, errnoName, invalidValue, systemError, textOf } from '../errors.js';
import type { Failure } from '../native/functions.js';

/** `instanceof`, also of a proxy that does not say. */
export function isA<T>(value: unknown, kind: abstract new (...args: never[]) => T): value is T {
  try {
    return value instanceof kind;
  } catch {
    return false;
  }
}

/** Also of another realm: code in a virtual context, as tests run in one, has errors of two. */
export function isError(value: unknown): value is Error {
  return isA(value, Error) || types.isNativeError(value);
}

/** A property of anything; undefined where it cannot be read. */
export function propertyOf(value: object, name: string): unknown {
  try {
    return (value as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
}

/** An error with an error number that has a name, negative as Node's are. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException & { errno: number } {
  if (!isError(error)) return false;
  const errno = propertyOf(error, 'errno');
  return typeof errno === 'number' && errno < 0 && errnoName(errno) !== undefined;
}

/** What a system error says of the call that failed. */
export function syscallOf(error: NodeJS.ErrnoException, fallback: string): string {
  const syscall = propertyOf(error, 'syscall');
  return typeof syscall === 'string' ? syscall : fallback;
}

/** True if `error` has a `code` that programs can compare. */
export function hasCode(error: Error): boolean {
  return typeof propertyOf(error, 'code') === 'string';
}

export function messageOf(error: unknown): string {
  if (!isError(error)) return textOf(error);
  const message = propertyOf(error, 'message');
  return message === undefined ? textOf(error) : textOf(message);
}

/** Warns that an op without a caller has failed, where the device has no listener for `'fault'`. */
export function warnOfOp(device: string, op: string, error: unknown): void {
  const stack = isError(error) ? propertyOf(error, 'stack') : undefined;
  process.emitWarning(isA(error, DeviceOpError) ? error.message : `${device}: ${op}: ${bareMessage(error)}`, {
    code: 'REVOCABLE_MMAP_DEVICE_OP',
    type: 'RevocableMmapWarning',
    ...(typeof stack === 'string' ? { detail: stack } : {}),
  });
}

/** The message; of a DeviceOpError without the prefix that its constructor adds again in another thread. */
export function bareMessage(error: unknown): string {
  if (!isA(error, DeviceOpError)) return messageOf(error) || 'failed';
  const said = error.cause === undefined ? error.message : messageOf(error.cause);
  const prefix = `${error.device}: ${error.op}: `;
  return (said.startsWith(prefix) ? said.slice(prefix.length) : said) || 'failed';
}

/** An op's content could not be copied. */
export function unreadableAnswer(device: string, op: string, failure: Failure): DeviceOpError {
  if (failure.errno === -osConstants.errno.EDEADLK) {
    return new DeviceOpError(device, op, 'answered with a page that it would have to supply itself');
  }
  return new DeviceOpError(device, op, 'answered with bytes that cannot be copied', undefined, systemError(failure));
}

/** The error of every operation on a device that is gone: `ENODEV`. */
export function goneError(syscall: string): NodeJS.ErrnoException {
  return systemError({ errno: -osConstants.errno.ENODEV, syscall });
}

/**
 * A system error for an op to throw.
 *
 * @throws TypeError (`ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`) on a code that names no error, or a `syscall` that is no string.
 *
 * @example
 * ```js
 * open(file) { if (busy) throw deviceError('EBUSY', 'open'); }
 * ```
 */
export function deviceError(code: keyof typeof constants.errno, syscall: string): NodeJS.ErrnoException {
  const known = requiredString('code', code);
  if (!Object.hasOwn(osConstants.errno, known)) throw invalidValue('code', "must name an error, as 'EBUSY' does", known);
  return systemError({ errno: -osConstants.errno[code], syscall: requiredString('syscall', syscall) });
}
