/** This thread, as an owner of what lies in an object's memory: see `native/share/owner_lock.h`. */
import type { MemoryObject } from '../memory/memory-object.js';
import { native } from '../native/load.js';
import { unwrap } from '../thread/wakeups.js';

export interface Owner {
  /** Its number in shared memory. */
  readonly number: number;
  /** False for the number of a thread that has ended, or whose process has died. */
  lives(number: number): boolean;
}

const owners = new WeakMap<MemoryObject, Owner>();
const collected = new FinalizationRegistry((descriptor: number) => native.closeDescriptor(descriptor));
const numbers = new Int32Array(2);

/**
 * One for each object: it ends with the thread, and where the object is closed or collected.
 *
 * @throws the system error of open(2): `EACCES` where the mode of the object's file forbids it, `EINVAL` for what is no file.
 */
export function ownerOf(object: MemoryObject): Owner {
  const known = owners.get(object);
  if (known !== undefined) return known;
  unwrap(native.ownerOpen(object._id, numbers));
  const [descriptor, number] = numbers;
  const owner = { number, lives: (other: number): boolean => native.ownerLives(descriptor, number, other) };
  owners.set(object, owner);
  collected.register(object, descriptor);
  return owner;
}
