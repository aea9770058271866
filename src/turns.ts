/**
 * A queue of events to emit on later turns of the event loop, never within the call that caused them, and never so many at
 * once that the loop stalls.
 */

import { setImmediate } from 'node:timers';

/** How long one turn may emit for, in milliseconds. */
const TURN_MS = 0.5;

/** The same for many, which are looked at one by one. */
class Each<T> {
  readonly #items: Iterator<T>;
  readonly #emit: (item: T) => void;

  constructor(items: Iterable<T>, emit: (item: T) => void) {
    this.#items = items[Symbol.iterator]();
    this.#emit = emit;
  }

  /** Whether there was one more. */
  step(): boolean {
    const next = this.#items.next();
    if (next.done === true) return false;
    this.#emit(next.value);
    return true;
  }
}

let queue: ((() => void) | Each<unknown> | undefined)[] = [];
let head = 0;
let scheduled = false;

/** Runs `emit` on a later turn, in order. Keeps the process alive until then. */
export function later(emit: () => void): void {
  queue.push(emit);
  schedule();
}

/** Runs `emit` for each of `items`, on as many later turns as that takes. */
export function laterEach<T>(items: Iterable<T>, emit: (item: T) => void): void {
  queue.push(new Each(items, emit) as Each<unknown>);
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
    while (head < queue.length) {
      emitOne();
      if (performance.now() > end) break;
    }
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

function emitOne(): void {
  const next = queue[head];
  if (next instanceof Each) {
    if (!next.step()) queue[head++] = undefined;
    return;
  }
  queue[head++] = undefined; // what it holds on to may go
  next?.();
}
