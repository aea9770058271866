/** Which sockets of this thread are ready, by the event loop. */
import { native } from '../native/load.js';
import { sharedRegistry } from '../native/shared-state.js';
import { lookWhenRung } from '../thread/wakeups.js';

/** Does what there is to do, at most one message. True if the peer may go on at once. */
export type WhenReady = () => boolean;

const callbacks = sharedRegistry<WhenReady>('socket callbacks');
const ready = new Float64Array(64);
/** The id at which {@link lookWhenRung} knows sockets; those of devices are greater, those of traces less. */
const SOCKETS = 0;
/** How many callbacks are called before it is the turn of whatever else this thread has to do. */
const CALLS_IN_A_TURN = 64;

/** Calls `callback` whenever the socket is ready for what it has been armed for, until it is forgotten. */
export function whenReady(id: number, callback: WhenReady): void {
  callbacks.set(id, callback);
  lookWhenRung(SOCKETS, look);
}

export function forget(id: number): void {
  callbacks.delete(id);
}

function look(): void {
  for (let calls = 0, soon = true; soon && calls < CALLS_IN_A_TURN;) {
    const count = native.socketsReady(ready, calls > 0);
    soon = false;
    // A callback may look again, or close others.
    const ids = count === 1 ? [ready[0]] : Array.from(ready.subarray(0, count));
    for (const id of ids) if (callbacks.get(id)?.() === true) soon = true;
    calls += count;
  }
}
