import { native } from './native/load.js';

/** Counts over all threads, since the process started. */
export interface Stats {
  mappings: { live: number; suspended: number; revoked: number; closed: number };
  /** Objects revoked, and suspended and resumed. */
  revokes: number;
  suspends: number;
  resumes: number;
  /** Faults handled, by kind. `checked` were of bulk copies and guarded accesses, which need no fill. */
  faults: { revoked: number; suspended: number; backing: number; protection: number; checked: number };
  /** How often an access got a fill: mapped, or as the value of its load. */
  fills: number;
  /** Signals passed on to the handler that had SIGBUS or SIGSEGV before, because they were not ours. */
  foreignSignals: number;
  /** Events that came faster than a thread took them; the states were looked up instead. */
  eventsDropped: number;
  /** How often another part of the process took the signal handler away, and it was put back. */
  handlerDisplacements: number;
  /** Pages of simulated devices. */
  devices: {
    /** Brought into a mapping, by ops or by native code. */
    pagesSupplied: number;
    /** How often a `fault` or `pageMkwrite` op was to be called. */
    pagesAsked: number;
    /** Touches by the thread that would have had to supply the page. */
    selfFaults: number;
    /** Answers of ops that came too late: no thread waited for them. */
    answersDiscarded: number;
    /** Raw accesses to registers that were not delivered. */
    accessesRefused: number;
  };
}

/**
 * Counts of what the library does, over all threads.
 *
 * @example
 * ```js
 * console.log(stats().mappings.live);
 * ```
 */
export function stats(): Stats {
  const counted = native.stats();
  return {
    mappings: { live: counted.live, suspended: counted.suspended, revoked: counted.revoked, closed: counted.closed },
    revokes: counted.revokes,
    suspends: counted.suspends,
    resumes: counted.resumes,
    faults: {
      revoked: counted.faultsRevoked,
      suspended: counted.faultsSuspended,
      backing: counted.faultsBacking,
      protection: counted.faultsProtection,
      checked: counted.faultsChecked,
    },
    fills: counted.fills,
    foreignSignals: counted.foreign,
    eventsDropped: counted.eventsDropped,
    handlerDisplacements: counted.displacements,
    devices: {
      pagesSupplied: counted.pagesSupplied,
      pagesAsked: counted.pagesAsked,
      selfFaults: counted.selfFaults,
      answersDiscarded: counted.answersDiscarded,
      accessesRefused: counted.accessesRefused,
    },
  };
}
