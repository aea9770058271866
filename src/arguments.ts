/** Validation of everything users pass in, before native code sees it. Messages and codes are those of Node's own checks. */
import { types } from 'node:util';
import { invalidType, invalidValue, outOfRange } from './errors.js';

export function integer(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value);
  return value;
}

export function bigintOf64Bits(name: string, value: unknown): bigint {
  if (typeof value !== 'bigint') throw invalidType(name, 'of type bigint', value);
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw outOfRange(name, '>= 0n && < 2n ** 64n', value);
  return value;
}

export function multipleOf(name: string, value: number, unit: number): number {
  if (value % unit !== 0) throw outOfRange(name, `a multiple of ${unit}`, value);
  return value;
}

export function boolean(name: string, value: unknown, fallback: boolean): boolean {
  if (value === undefined) return fallback;
  if (typeof value !== 'boolean') throw invalidType(name, 'of type boolean', value);
  return value;
}

export function string(name: string, value: unknown, fallback: string): string {
  if (value === undefined) return fallback;
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value);
  if (value.includes('\0')) throw invalidValue(name, 'must be a string without null bytes', JSON.stringify(value));
  return value;
}

/** memfd_create(2): NAME_MAX less the prefix `memfd:`. */
export const MAX_MEMFD_NAME = 249;

/** A name for memory that the library creates. */
export function memoryName(name: string, value: unknown, fallback: string): string {
  const given = string(name, value, fallback);
  if (Buffer.byteLength(given) > MAX_MEMFD_NAME) throw invalidValue(name, `must be at most ${MAX_MEMFD_NAME} bytes long`, given);
  return given;
}

export function notEmpty(name: string, value: string): string {
  if (value === '') throw invalidValue(name, 'must not be empty', value);
  return value;
}

export function requiredString(name: string, value: unknown): string {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value);
  return string(name, value, '');
}

export function oneOf<T extends string>(name: string, value: unknown, allowed: readonly T[], fallback?: T): T {
  if (value === undefined && fallback !== undefined) return fallback;
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value);
  if (!(allowed as readonly string[]).includes(value)) {
    throw invalidValue(name, `must be one of: ${allowed.map((item) => `'${item}'`).join(', ')}`, value);
  }
  return value as T;
}

/** An options object; only a missing one may be undefined. */
export function options<T extends object>(name: string, value: T | undefined): Partial<T> {
  if (value === undefined) return {};
  return requiredObject(name, value);
}

export function requiredObject<T extends object>(name: string, value: T): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalidType(name, 'of type object', value);
  return value;
}

export function bytesView(name: string, value: unknown): NodeJS.ArrayBufferView {
  if (!ArrayBuffer.isView(value)) throw invalidType(name, 'an instance of Buffer, TypedArray or DataView', value);
  if (!hasBytes(value)) {
    const error = outOfRange(name, 'within its buffer, which has been detached or shortened', value);
    throw Object.assign(error, { bytesTransferred: 0 });
  }
  return value as NodeJS.ArrayBufferView;
}

/** False for a DataView that is no longer within its buffer: every property of it throws. A typed array is empty then. */
export function hasBytes(view: ArrayBufferView): boolean {
  try {
    return view.byteLength >= 0;
  } catch {
    return false;
  }
}

/** True if a view lies in its buffer, which has been neither detached nor shortened to before the view's end. */
export function isIntact(view: ArrayBufferView): boolean {
  if (!hasBytes(view)) return false;
  if (view.byteLength > 0 || view instanceof DataView) return true;
  // Such a typed array is as empty as one that was made empty, but its methods throw.
  try {
    Uint8Array.prototype.keys.call(view as Uint8Array);
    return true;
  } catch {
    return false;
  }
}

/** The bytes of a view that has some: see {@link hasBytes}. */
export function asBytes(view: NodeJS.ArrayBufferView): Uint8Array {
  const byteLength = byteLengthOf(view);
  // A buffer that has been detached cannot have even an empty view.
  if (byteLength === 0) return new Uint8Array(0);
  return new Uint8Array(bufferOf(view), byteOffsetOf(view), byteLength);
}

const TYPED_ARRAYS = Object.getPrototypeOf(Uint8Array.prototype) as object;
/** Its class's name, or undefined for what is no typed array. */
const kindOfTypedArray = getterOf<string | undefined>(TYPED_ARRAYS, Symbol.toStringTag);

// What V8 knows of a view: properties of its own, or of a subclass, may say something else.
const bufferOf = propertyOfViews('buffer');
const byteOffsetOf = propertyOfViews('byteOffset');
const byteLengthOf = propertyOfViews('byteLength');

function propertyOfViews<K extends keyof DataView>(name: K): (view: ArrayBufferView) => DataView[K] {
  const ofTypedArray = getterOf<DataView[K]>(TYPED_ARRAYS, name);
  const ofDataView = getterOf<DataView[K]>(DataView.prototype, name);
  return (view) => (kindOfTypedArray.call(view) === undefined ? ofDataView.call(view) : ofTypedArray.call(view));
}

// V8 compiles calls of these getters in, as it does not what Reflect.get does.
function getterOf<T>(prototype: object, name: PropertyKey): (this: unknown) => T {
  const { get } = Object.getOwnPropertyDescriptor(prototype, name) as { get: (this: unknown) => T };
  return get;
}

export function abortSignal(name: string, value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  const signal = value as AbortSignal | null;
  const is =
    typeof signal === 'object' &&
    signal !== null &&
    typeof signal.aborted === 'boolean' &&
    (['throwIfAborted', 'addEventListener', 'removeEventListener'] as const).every((name) => typeof signal[name] === 'function');
  if (!is) throw invalidType(name, 'an instance of AbortSignal', value);
  return signal;
}

export function isSharedBuffer(value: unknown): value is SharedArrayBuffer {
  return types.isSharedArrayBuffer(value);
}
