/** Which sockets of this thread are ready, by the event loop. */
import { native } from '../native/load.js';
import { sharedRegistry } from '../native/shared-state.js';
import { lookWhenRung } from '../thread/wakeups.js';

const callbacks = sharedRegistry<() => void>('socket callbacks');
const ready = new Float64Array(64);
/** The id at which {@link lookWhenRung} knows sockets; those of devices are greater, those of traces less. */
const SOCKETS = 0;

/** Calls `callback` whenever the socket is ready for what it has been armed for, until it is forgotten. */
export function whenReady(id: number, callback: () => void): void {
  callbacks.set(id, callback);
  lookWhenRung(SOCKETS, look);
}

export function forget(id: number): void {
  callbacks.delete(id);
}

function look(): void {
  const count = native.socketsReady(ready);
  // A callback may look again, or close others.
  for (const id of ready.slice(0, count)) callbacks.get(id)?.();
}
