/**
 * The objects and mappings this thread knows, by their native ids, held weakly: who gets which event.
 */
import type { Mapping } from './memory/mapping.js';
import type { MemoryObject } from './memory/memory-object.js';
import { sharedRegistry } from './native.js';

const objects = sharedRegistry<WeakRef<MemoryObject>>('objects');

/** Mappings of one native mapping: usually one, more when a thread attached to a mapping of its own. */
class Known extends WeakRef<Mapping> {
  next: Known | undefined;
}
const mappings = sharedRegistry<Known>('mappings');

export function rememberObject(id: number, object: MemoryObject): void {
  objects.set(id, new WeakRef(object));
}

export function knownObject(id: number): MemoryObject | undefined {
  return objects.get(id)?.deref();
}

/** Forgets a collected object, unless another one has taken its place. */
export function forgetObject(id: number): void {
  if (objects.get(id)?.deref() === undefined) objects.delete(id);
}

export function rememberMapping(id: number, mapping: Mapping): void {
  const known = new Known(mapping);
  known.next = mappings.get(id);
  mappings.set(id, known);
}

export function knownMappings(id: number): Mapping[] {
  const found: Mapping[] = [];
  for (let known = mappings.get(id); known !== undefined; known = known.next) {
    const mapping = known.deref();
    if (mapping !== undefined) found.push(mapping);
  }
  return found;
}

/** Forgets a closed mapping, and collected ones of the same id. */
export function forgetMapping(id: number, mapping?: Mapping): void {
  let kept: Known | undefined;
  for (let known = mappings.get(id); known !== undefined; known = known.next) {
    const alive = known.deref();
    if (alive === undefined || alive === mapping) continue;
    const copy = new Known(alive);
    copy.next = kept;
    kept = copy;
  }
  if (kept === undefined) mappings.delete(id);
  else mappings.set(id, kept);
}

export function* allKnown(): Generator<MemoryObject | Mapping> {
  for (const reference of objects.values()) {
    const object = reference.deref();
    if (object !== undefined) yield object;
  }
  for (const id of mappings.keys()) yield* knownMappings(id);
}
