/**
 * What tells an object of a class from one that only looks like it: `Object.create(Mapping.prototype)`, a proxy, an object of another
 * copy of the library. Its private members do, but V8's own errors for those have no code, and name members that users never see.
 */
import { inspect, types } from 'node:util';
import { illegalConstructor, invalidThis } from './errors.js';

/** The first argument of constructors that only the library may call. */
export const CONSTRUCT = Symbol('construct');

export function requireConstruct(key: unknown): void {
  if (key !== CONSTRUCT) throw illegalConstructor();
}

type Method = (this: unknown, ...values: unknown[]) => unknown;
type IsOne = (value: unknown) => boolean;

interface Exceptions {
  /** Members that look at their receiver themselves, as a call more would be felt. */
  inline?: readonly PropertyKey[];
  /** Methods that return an async iterable: whatever they throw is thrown by its first step. */
  iterables?: readonly PropertyKey[];
}

/**
 * Makes the public methods and accessors of a class refuse a receiver that is none of its objects with `ERR_INVALID_THIS`, as Node's
 * classes do: thrown, or where they return a promise as its rejection. `util.inspect` shows such a receiver without its own words.
 * For a static field of the class, which then tells whether a value is one of its objects.
 *
 * @param name what users know its objects as.
 * @param has whether an object has a private member of the class; may throw for what is no object.
 */
export function branded<T extends object>(
  name: string,
  prototype: T,
  has: (value: T) => boolean,
  { inline = [], iterables = [] }: Exceptions = {},
): (value: unknown) => value is T {
  const isOne = (value: unknown): value is T => {
    try {
      return has(value as T);
    } catch {
      return false;
    }
  };
  for (const key of Reflect.ownKeys(prototype)) {
    if (key === 'constructor' || key === Symbol.toStringTag || String(key).startsWith('_') || inline.includes(key)) continue;
    const member = Object.getOwnPropertyDescriptor(prototype, key) as { get?: Method; value?: Method };
    if (member.get !== undefined) member.get = checked(name, isOne, member.get);
    else if (key === inspect.custom) member.value = inspecting(isOne, member.value!);
    else if (iterables.includes(key)) member.value = checkedIterable(name, isOne, member.value!);
    else if (types.isAsyncFunction(member.value)) member.value = checkedAsync(name, isOne, member.value!);
    else member.value = checked(name, isOne, member.value!);
    Object.defineProperty(prototype, key, member);
  }
  return isOne;
}

function checked(className: string, isOne: IsOne, method: Method): Method {
  return like(method, function (...values) {
    if (!isOne(this)) throw invalidThis(className);
    return method.apply(this, values);
  });
}

function checkedAsync(className: string, isOne: IsOne, method: Method): Method {
  return like(method, async function (...values) {
    if (!isOne(this)) throw invalidThis(className);
    return await method.apply(this, values);
  });
}

function checkedIterable(className: string, isOne: IsOne, method: Method): Method {
  return like(method, function (...values) {
    try {
      if (!isOne(this)) throw invalidThis(className);
      return method.apply(this, values);
    } catch (error) {
      return failing(error);
    }
  });
}

function inspecting(isOne: IsOne, method: Method): Method {
  return like(method, function (depth, options, ...rest) {
    if (isOne(this)) return method.call(this, depth, options, ...rest);
    return inspect(this, { ...(options as object), depth: depth as number, customInspect: false });
  });
}

function like(method: Method, wrapper: Method): Method {
  const { name, length } = method;
  return Object.defineProperties(wrapper, { name: { value: name }, length: { value: length } });
}

// eslint-disable-next-line require-yield, @typescript-eslint/require-await -- its first step is all there is
async function* failing(error: unknown): AsyncGenerator<never> {
  throw error;
}
