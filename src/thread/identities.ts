/**
 * The objects and mappings this thread knows, by their native ids, held weakly: who gets which event.
 */
import type { Mapping } from '../memory/mapping.js';
import type { MemoryObject } from '../memory/memory-object.js';
import { sharedRegistry } from '../native/shared-state.js';

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
  /** Loops that have not come to its end. */
  readonly #loops = new Set<Remaining>();

  add(known: Known): void {
    known.previous = this.#last;
    if (this.#last === undefined) this.#first = known;
    else this.#last.next = known;
    this.#last = known;
  }

  remove(known: Known): void {
    if (known.previous === undefined && this.#first !== known) return; // removed before
    for (const loop of this.#loops) loop.passOver(known);
    if (known.previous !== undefined) known.previous.next = known.next;
    else this.#first = known.next;
    if (known.next !== undefined) known.next.previous = known.previous;
    else this.#last = known.previous;
    // Also its `next`: a closed mapping that somebody keeps would keep the chain of all that came after it.
    known.previous = known.next = undefined;
  }

  /**
   * Those there are now, for a loop that may take many turns of the event loop. The first thousand cannot be collected meanwhile.
   * Neither is the list copied nor all of its WeakRefs looked at in one turn: with tens of thousands that would stall the loop.
   */
  later(): Remaining {
    const remaining = new Remaining(this.#first, this.#last, this.#loops);
    this.#loops.add(remaining);
    return remaining;
  }

  /** Those there are now. */
  all(): Mapping[] {
    return portion(this.#first, Infinity).mappings;
  }
}

/** How many mappings are held from the beginning, and how many are looked at in one go after that. */
const HELD = 1000;
const PORTION = 100;

function portion(from: Known | undefined, count: number, last?: Known): { mappings: Mapping[]; next: Known | undefined } {
  const mappings: Mapping[] = [];
  let next = from;
  for (let known = next; known !== undefined && count > 0; known = next, count--) {
    next = known === last ? undefined : known.next;
    const mapping = known.deref();
    if (mapping !== undefined) mappings.push(mapping);
  }
  return { mappings, next };
}

/** The part of a list that a loop has not come to yet. */
class Remaining {
  #next: Known | undefined;
  #last: Known | undefined;
  #portion: Mapping[] = [];
  #at = 0;

  /** @param loops where it is until it ends. */
  constructor(
    first: Known | undefined,
    last: Known | undefined,
    readonly loops: Set<Remaining>,
  ) {
    this.#next = first;
    this.#last = last;
    this.#take(HELD);
  }

  next(): Mapping | undefined {
    while (this.#at === this.#portion.length && this.#next !== undefined) this.#take(PORTION);
    return this.#at < this.#portion.length ? this.#portion[this.#at++] : undefined;
  }

  end(): void {
    this.loops.delete(this);
  }

  /** `known` is about to leave the list. */
  passOver(known: Known): void {
    if (known === this.#next) this.#next = known === this.#last ? undefined : known.next;
    if (known === this.#last) this.#last = known.previous;
  }

  #take(count: number): void {
    const { mappings, next } = portion(this.#next, count, this.#last);
    this.#portion = mappings;
    this.#next = next;
    this.#at = 0;
  }
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

/** The mapping whose memory byte `at` of `buffer` is. */
export function knownMappingOf(buffer: ArrayBufferLike, at: number): Mapping | undefined {
  for (const id of mappings.keys()) {
    const found = knownMappings(id).find((mapping) => mapping._has(buffer, at));
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
