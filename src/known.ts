/**
 * The objects and mappings this thread knows, by their native ids, held weakly: who gets which event.
 */
import type { Mapping } from './memory/mapping.js';
import type { MemoryObject } from './memory/memory-object.js';
import { sharedRegistry } from './native.js';

const objects = sharedRegistry<WeakRef<MemoryObject>>('objects');

/** One mapping of this thread: in the list of its object, and among those of its native id. */
export class Known extends WeakRef<Mapping> {
  /** Another one of the same native mapping: there is one when a thread attached to a mapping of its own. */
  sameId: Known | undefined;
  previous: Known | undefined;
  next: Known | undefined;
  constructor(
    mapping: Mapping,
    readonly id: number,
    readonly list: MappingList,
  ) {
    super(mapping);
  }
}

/** The mappings of one object. Linked, as thousands may be closed one by one, and hashing a WeakRef costs more than all else. */
export class MappingList {
  #first: Known | undefined;
  #last: Known | undefined;

  add(known: Known): void {
    known.previous = this.#last;
    if (this.#last === undefined) this.#first = known;
    else this.#last.next = known;
    this.#last = known;
  }

  remove(known: Known): void {
    if (known.previous === undefined && this.#first !== known) return; // removed before
    if (known.previous !== undefined) known.previous.next = known.next;
    else this.#first = known.next;
    if (known.next !== undefined) known.next.previous = known.previous;
    else this.#last = known.previous;
    // Also its `next`: a closed mapping that somebody keeps would keep the chain of all that came after it.
    known.previous = known.next = undefined;
  }

  /**
   * Those there are now, for a loop that may take many turns of the event loop. The first thousand cannot be collected meanwhile; to look
   * at tens of thousands of WeakRefs at once would stall the loop.
   */
  each(): Iterable<Mapping> {
    const all: Known[] = [];
    for (let known = this.#first; known !== undefined; known = known.next) all.push(known);
    return inPortions(all, portion(all, 0));
  }
}

const PORTION = 1000;

function portion(all: Known[], from: number): Mapping[] {
  const found: Mapping[] = [];
  for (const known of all.slice(from, from + PORTION)) {
    const mapping = known.deref();
    if (mapping !== undefined) found.push(mapping);
  }
  return found;
}

function* inPortions(all: Known[], first: Mapping[]): Generator<Mapping> {
  yield* first;
  for (let from = PORTION; from < all.length; from += PORTION) yield* portion(all, from);
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

export function rememberMapping(id: number, mapping: Mapping, list: MappingList): Known {
  const known = new Known(mapping, id, list);
  known.sameId = mappings.get(id);
  mappings.set(id, known);
  list.add(known);
  return known;
}

export function knownMappings(id: number): Mapping[] {
  const found: Mapping[] = [];
  for (let known = mappings.get(id); known !== undefined; known = known.sameId) {
    const mapping = known.deref();
    if (mapping !== undefined) found.push(mapping);
  }
  return found;
}

/** A mapping whose memory `buffer` is. */
export function knownMappingOf(buffer: ArrayBufferLike): Mapping | undefined {
  for (const id of mappings.keys()) {
    const found = knownMappings(id).find((mapping) => mapping._buffer === buffer);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Forgets a mapping that is closed or collected. */
export function forgetMapping(known: Known): void {
  known.list.remove(known);
  const first = mappings.get(known.id);
  if (first === known) {
    if (known.sameId === undefined) mappings.delete(known.id);
    else mappings.set(known.id, known.sameId);
    return;
  }
  for (let before = first; before !== undefined; before = before.sameId) {
    if (before.sameId === known) before.sameId = known.sameId;
  }
}

export function* allKnown(): Generator<MemoryObject | Mapping> {
  for (const reference of objects.values()) {
    const object = reference.deref();
    if (object !== undefined) yield object;
  }
  for (const id of mappings.keys()) yield* knownMappings(id);
}
