/**
 * The meeting point of native code and this thread's event loop: promises of work done on other threads, and events.
 */
import { systemError } from '../errors.js';
import { allKnown, knownMappings, knownObject } from './identities.js';
import { CAUSES, EVENT_KINDS } from '../native/enums.js';
import { isFailure, type Completion, type Failure, type NativeEvent } from '../native/functions.js';
import { native } from '../native/load.js';
import { onceInThread, sharedRegistry, start } from '../native/shared-state.js';

const pending = sharedRegistry<(completion: Completion) => void>('pending');

/** A promise for what native code does under `token`. */
export async function completionOf(token: number): Promise<Completion> {
  return new Promise((resolve) => pending.set(token, resolve));
}

let prepared = false;

/** Callbacks for when native code rings: the work of this thread's simulated devices, by id, and traces, by -token. */
const callbacks = sharedRegistry<() => void>('ring callbacks');

/** `look` is called whenever native code may have something for `id`. */
export function lookWhenRung(id: number, look: (() => void) | undefined): void {
  if (look === undefined) callbacks.delete(id);
  else callbacks.set(id, look);
}

/** Prepares this thread for mappings, once. Throws a system error when the process cannot have what the library needs. */
export function prepare(): void {
  if (prepared) return;
  const failure = start();
  if (failure !== null) throw systemError(failure);
  native.setNotify(drain);
  onceInThread('listen', () => {
    // Faults in the last turn of a program: nothing else would wake the loop again.
    process.on('beforeExit', drain);
    if (process.getBuiltinModule('node:worker_threads').isMainThread) watchSignalListeners();
  });
  prepared = true;
}

/**
 * A listener for one of these takes the handler away, and its removal puts the default action in place. Node starts
 * and stops its own watcher before these listeners are called, so looking now is not too early.
 */
function watchSignalListeners(): void {
  const look = (event: string | symbol): void => {
    if (event === 'SIGBUS' || event === 'SIGSEGV' || event === 'SIGTRAP') native.checkHandlers();
  };
  process.on('newListener', look);
  process.on('removeListener', look);
}

function drain(): void {
  for (const completion of native.takeCompletions() ?? []) {
    const resolve = pending.get(completion.token);
    pending.delete(completion.token);
    resolve?.(completion);
  }
  for (const look of callbacks.values()) look();
  const taken = native.takeEvents();
  if (taken === null) return;
  const { events, dropped } = taken;
  for (const event of events) dispatch(event);
  // Events were lost. States matter more than the list of what happened: objects and mappings compare theirs.
  if (dropped > 0) for (const known of allKnown()) known._synchronize();
}

function dispatch(event: NativeEvent): void {
  const kind = EVENT_KINDS[event.kind];
  switch (kind) {
    case 'object-changed':
      knownObject(event.object)?._synchronize();
      break;
    case 'mapping-closed':
      for (const mapping of knownMappings(event.region)) mapping._synchronize();
      break;
    case 'displaced':
      warnOfDisplacement();
      break;
    default:
      for (const mapping of knownMappings(event.region)) {
        mapping._faulted({ kind, cause: CAUSES[event.cause], write: event.write, offset: event.offset });
      }
  }
}

/** Warns once in a process: every thread is notified, one warns. */
function warnOfDisplacement(): void {
  if (!native.claimWarning()) return;
  process.emitWarning(
    'Another handler for SIGBUS, SIGSEGV or SIGTRAP displaced the one that keeps mappings safe. It is back in place and passes on to ' +
      'the newcomer what is not its own; in between, an access to revoked memory could have killed the process.',
    { code: 'REVOCABLE_MMAP_DISPLACED', type: 'RevocableMmapWarning' },
  );
}

/** The value, or the system error it stands for. */
export function unwrap<T>(value: T | Failure, details?: Parameters<typeof systemError>[1]): T {
  if (isFailure(value)) throw systemError(value, details);
  return value;
}
