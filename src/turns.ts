/**
 * A queue of events to emit on later turns of the event loop, never within the call that caused them, and never so many at
 * once that the loop stalls.
 */

import { setImmediate } from 'node:timers';

/** How long one turn may emit for, in milliseconds. */
const TURN_MS = 1;

let queue: ((() => void) | undefined)[] = [];
let head = 0;
let scheduled = false;

/** Runs `emit` on a later turn, in order. Keeps the process alive until then. */
export function later(emit: () => void): void {
  queue.push(emit);
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
      const emit = queue[head];
      queue[head++] = undefined; // what it holds on to may go
      emit?.();
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
