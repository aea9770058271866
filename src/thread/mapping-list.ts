/** The mappings of one object, held weakly. Linked: thousands may be closed one by one, and hashing a WeakRef costs more than all else. */

/** One mapping of this thread: in the list of its object, and among those of its native id. */
export class MappingEntry<M extends object> extends WeakRef<M> {
  /** Another one of the same native mapping: there is one when a thread attached to a mapping of its own. */
  sameId: MappingEntry<M> | undefined;
  previous: MappingEntry<M> | undefined;
  next: MappingEntry<M> | undefined;
  constructor(
    mapping: M,
    readonly id: number,
    readonly list: MappingList<M>,
  ) {
    super(mapping);
  }
}

export class MappingList<M extends object> {
  #first: MappingEntry<M> | undefined;
  #last: MappingEntry<M> | undefined;
  /** Loops that have not come to its end. */
  readonly #loops = new Set<RemainingMappings<M>>();

  add(entry: MappingEntry<M>): void {
    entry.previous = this.#last;
    if (this.#last === undefined) this.#first = entry;
    else this.#last.next = entry;
    this.#last = entry;
  }

  remove(entry: MappingEntry<M>): void {
    if (entry.previous === undefined && this.#first !== entry) return; // removed before
    for (const loop of this.#loops) loop.passOver(entry);
    if (entry.previous !== undefined) entry.previous.next = entry.next;
    else this.#first = entry.next;
    if (entry.next !== undefined) entry.next.previous = entry.previous;
    else this.#last = entry.previous;
    // Also its `next`: a reference to a closed mapping would keep the chain of all that came after it.
    entry.previous = entry.next = undefined;
  }

  /**
   * The mappings there are now, for a loop that may take many turns of the event loop. The first thousand cannot be collected meanwhile.
   * Neither is the list copied nor all of its WeakRefs looked at in one turn: with tens of thousands that would stall the loop.
   */
  forLoop(): RemainingMappings<M> {
    const remaining = new RemainingMappings(this.#first, this.#last, this.#loops);
    this.#loops.add(remaining);
    return remaining;
  }

  /** The mappings there are now. */
  all(): M[] {
    return portion(this.#first, Infinity).mappings;
  }
}

/** How many mappings are held from the beginning, and how many are looked at in one go after that. */
const HELD = 1000;
const PORTION = 100;

function portion<M extends object>(
  from: MappingEntry<M> | undefined,
  count: number,
  last?: MappingEntry<M>,
): { mappings: M[]; next: MappingEntry<M> | undefined } {
  const mappings: M[] = [];
  let next = from;
  for (let entry = next; entry !== undefined && count > 0; entry = next, count--) {
    next = entry === last ? undefined : entry.next;
    const mapping = entry.deref();
    if (mapping !== undefined) mappings.push(mapping);
  }
  return { mappings, next };
}

/** The part of a list that a loop has not come to yet. */
class RemainingMappings<M extends object> {
  #next: MappingEntry<M> | undefined;
  #last: MappingEntry<M> | undefined;
  #portion: M[] = [];
  #at = 0;

  /** @param loops where it is until it ends. */
  constructor(
    first: MappingEntry<M> | undefined,
    last: MappingEntry<M> | undefined,
    readonly loops: Set<RemainingMappings<M>>,
  ) {
    this.#next = first;
    this.#last = last;
    this.#take(HELD);
  }

  next(): M | undefined {
    while (this.#at === this.#portion.length && this.#next !== undefined) this.#take(PORTION);
    return this.#at < this.#portion.length ? this.#portion[this.#at++] : undefined;
  }

  end(): void {
    this.loops.delete(this);
  }

  /** `entry` is about to leave the list. */
  passOver(entry: MappingEntry<M>): void {
    if (entry === this.#next) this.#next = entry === this.#last ? undefined : entry.next;
    if (entry === this.#last) this.#last = entry.previous;
  }

  #take(count: number): void {
    const { mappings, next } = portion(this.#next, count, this.#last);
    this.#portion = mappings;
    this.#next = next;
    this.#at = 0;
  }
}
