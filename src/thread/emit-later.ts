/**
 * A queue of events to emit on later turns of the event loop, never within the call that caused them, and never so many at
 * once that the loop stalls.
 */

import { setImmediate } from 'node:timers';

/** How long one turn may emit for, in milliseconds. */
const TURN_MS = 0.5;

/** What there is to emit for, one after the other. */
interface Items<T> {
  /** `undefined` when there are no more. */
  next(): T | undefined;
  end(): void;
}

/**
 * Thousands of items. Its loop is one function for all of them, runs nothing that only happens once, and calls one function for all
 * times: V8 would throw its code away for every other closure, and compile it anew on threads that compete with this one for the
 * processors. That was most of what the event loop stalled for.
 */
class EmitEach<T, What> {
  readonly #items: Items<T>;
  readonly #emit: (item: T, what: What) => void;
  readonly #what: What;

  constructor(items: Items<T>, emit: (item: T, what: What) => void, what: What) {
    this.#items = items;
    this.#emit = emit;
    this.#what = what;
  }

  /** True if that were all. */
  emitUntil(end: number): boolean {
    for (let item = this.#items.next(); item !== undefined; item = this.#items.next()) {
      this.#emit(item, this.#what);
      if (performance.now() > end) return false;
    }
    return true;
  }

  end(): void {
    this.#items.end();
  }
}

let queue: ((() => void) | EmitEach<unknown, unknown> | undefined)[] = [];
let head = 0;
let scheduled = false;

/** Runs `emit` on a later turn, in order. Keeps the process alive until then. */
export function later(emit: () => void): void {
  queue.push(emit);
  schedule();
}

/** Calls `emit` for each of `items` and `what`, on as many later turns as that takes. `emit` is not to be a closure. */
export function laterEach<T, What>(items: Items<T>, emit: (item: T, what: What) => void, what: What): void {
  queue.push(new EmitEach(items, emit, what) as EmitEach<unknown, unknown>);
  schedule();
}

function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  setImmediate(emitSome);
}

function emitSome(): void {
  scheduled = false;
  const end = performance.now() + TURN_MS;
  try {
    while (head < queue.length && performance.now() <= end) emitNext(end);
  } finally {
    // Also when a listener throws: the error is its own, the events behind it are not lost.
    if (head === queue.length) {
      queue = [];
      head = 0;
    } else {
      schedule();
    }
  }
}

function emitNext(end: number): void {
  const next = queue[head];
  if (next instanceof EmitEach) {
    if (!next.emitUntil(end)) return;
    next.end();
    queue[head++] = undefined;
    return;
  }
  queue[head++] = undefined; // what it holds on to may go
  next?.();
}
