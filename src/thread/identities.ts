/**
 * The objects and mappings of this thread, by their native ids, held weakly: the receivers of events. Other copies of the library in
 * this thread have theirs here too.
 */
import type { CAUSES } from '../native/enums.js';
import { sharedRegistry } from '../native/shared-state.js';
import { MappingEntry, type MappingList } from './mapping-list.js';

/** A memory object, as far as events concern it. */
export interface EventObject {
  /** Emits what has changed since it was last looked at. */
  _synchronize(): void;
}

/** A fault that the handler has settled: see `FaultInfo`. */
export interface SettledFault {
  kind: 'backing' | 'protection' | 'revoked' | 'self' | 'refused';
  cause: (typeof CAUSES)[number];
  write: boolean;
  offset: number;
}

/** A mapping, as far as events and copies from its raw views concern it. */
export interface EventMapping extends EventObject {
  _faulted(fault: SettledFault): void;
  /** True if byte `at` of `buffer` is its memory. */
  _has(buffer: ArrayBufferLike, at: number): boolean;
  /** Why a copy failed whose other buffer is a view of this mapping. */
  _viewError(view: NodeJS.ArrayBufferView, done: number, write: boolean): Error | undefined;
}

type Entry = MappingEntry<EventMapping>;

const objects = sharedRegistry<WeakRef<EventObject>>('objects');
const mappings = sharedRegistry<Entry>('mappings');

export function rememberObject(id: number, object: EventObject): void {
  objects.set(id, new WeakRef(object));
}

export function knownObject(id: number): EventObject | undefined {
  return objects.get(id)?.deref();
}

/** Forgets a collected object, unless another one has taken its place. */
export function forgetObject(id: number): void {
  if (objects.get(id)?.deref() === undefined) objects.delete(id);
}

export function rememberMapping<M extends EventMapping>(id: number, mapping: M, list: MappingList<M>): MappingEntry<M> {
  const entry = new MappingEntry(mapping, id, list);
  (entry as Entry).sameId = mappings.get(id);
  mappings.set(id, entry);
  list.add(entry);
  return entry;
}

export function knownMappings(id: number): EventMapping[] {
  const found: EventMapping[] = [];
  for (let entry = mappings.get(id); entry !== undefined; entry = entry.sameId) {
    const mapping = entry.deref();
    if (mapping !== undefined) found.push(mapping);
  }
  return found;
}

/** The mapping whose memory byte `at` of `buffer` is. */
export function knownMappingOf(buffer: ArrayBufferLike, at: number): EventMapping | undefined {
  for (const id of mappings.keys()) {
    const found = knownMappings(id).find((mapping) => mapping._has(buffer, at));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Forgets a mapping that is closed or collected. */
export function forgetMapping<M extends EventMapping>(entry: MappingEntry<M>): void {
  entry.list.remove(entry);
  const first = mappings.get(entry.id);
  if (first === entry) {
    if (entry.sameId === undefined) mappings.delete(entry.id);
    else mappings.set(entry.id, entry.sameId);
    return;
  }
  for (let before = first; before !== undefined; before = before.sameId) {
    if (before.sameId === entry) before.sameId = (entry as Entry).sameId;
  }
}

export function* allKnown(): Generator<EventObject | EventMapping> {
  for (const reference of objects.values()) {
    const object = reference.deref();
    if (object !== undefined) yield object;
  }
  for (const id of mappings.keys()) yield* knownMappings(id);
}
