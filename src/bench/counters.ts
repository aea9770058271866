/** What the kernel counts for the calling thread. */
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { invalidType, invalidValue, systemError } from '../errors.js';
import { unwrap } from '../thread/wakeups.js';
import { isFailure } from '../native/functions.js';
import { native } from '../native/load.js';

/** Use of the calling thread, since it began: getrusage(2) with RUSAGE_THREAD. */
export interface ThreadUsage {
  /** Faults settled without reading from a device: first touches, most of them. */
  minorFaults: number;
  /** Faults that had to read from a device. */
  majorFaults: number;
  /** Context switches because the thread waited. */
  voluntarySwitches: number;
  /** Context switches because its time was up, or another thread was more urgent. */
  involuntarySwitches: number;
  /** Microseconds on a processor, in user mode. */
  userUs: number;
  /** Microseconds on a processor, in the kernel. */
  systemUs: number;
}

const scratch = new Float64Array(6);

/**
 * What this thread has used so far. Does not block.
 *
 * @example
 * ```js
 * const before = threadUsage().minorFaults;
 * touch(mapping);
 * console.log(threadUsage().minorFaults - before, 'faults');
 * ```
 */
export function threadUsage(): ThreadUsage {
  native.threadUsage(scratch);
  const [minorFaults, majorFaults, voluntarySwitches, involuntarySwitches, userUs, systemUs] = scratch;
  return { minorFaults, majorFaults, voluntarySwitches, involuntarySwitches, userUs, systemUs };
}

const HARDWARE = 0;
const SOFTWARE = 1;
const CACHE = 3;

/** `type` and `config` of perf_event_open(2). A cache event is cache | operation << 8 | result << 16; here always a miss. */
const EVENTS = {
  cycles: [HARDWARE, 0],
  instructions: [HARDWARE, 1],
  'cache-references': [HARDWARE, 2],
  'cache-misses': [HARDWARE, 3],
  'branch-misses': [HARDWARE, 5],
  'dtlb-load-misses': [CACHE, 3 | (0 << 8) | (1 << 16)],
  'dtlb-store-misses': [CACHE, 3 | (1 << 8) | (1 << 16)],
  'task-clock': [SOFTWARE, 1],
  'page-faults': [SOFTWARE, 2],
  'context-switches': [SOFTWARE, 3],
  'cpu-migrations': [SOFTWARE, 4],
  'minor-faults': [SOFTWARE, 5],
  'major-faults': [SOFTWARE, 6],
} as const;

/** Names of perf(1). `task-clock` counts nanoseconds. */
export type PerfEvent = keyof typeof EVENTS;

/** Counters of one thread, made by {@link openPerfCounters}. They count until they are closed. */
export interface PerfCounters extends Disposable {
  /** Events that are counted for user mode only, as kernel.perf_event_paranoid is 2 or more. */
  readonly userOnly: ReadonlySet<PerfEvent>;
  /** Events that are not counted, with the reason: a virtual machine has no hardware counters, a container may forbid all. */
  readonly unavailable: ReadonlyMap<PerfEvent, NodeJS.ErrnoException>;
  /** What has been counted since they were opened; of hardware events that took turns, extrapolated. */
  read(): Partial<Record<PerfEvent, number>>;
  /** Stops counting and closes the descriptors. Idempotent. */
  close(): void;
}

/**
 * Counts events of the calling thread by perf_event_open(2). What is not allowed, or does not exist on this machine, is listed in
 * `unavailable` and not counted: that is no error. Takes a file descriptor an event.
 *
 * @throws TypeError `ERR_INVALID_ARG_VALUE` for an event of another name.
 *
 * @example
 * ```js
 * using counters = openPerfCounters(['page-faults', 'dtlb-load-misses']);
 * touch(mapping, { order: 'random' });
 * console.log(counters.read(), [...counters.unavailable.keys()]);
 * ```
 */
export function openPerfCounters(events: readonly PerfEvent[]): PerfCounters {
  if (!Array.isArray(events)) throw invalidType('events', 'an array', events);
  for (const event of events as readonly PerfEvent[]) {
    if (!Object.hasOwn(EVENTS, event)) throw invalidValue('events', `must be of: ${Object.keys(EVENTS).join(', ')}`, event);
  }
  return new OpenCounters(CONSTRUCT, events);
}

class OpenCounters implements PerfCounters {
  readonly userOnly = new Set<PerfEvent>();
  readonly unavailable = new Map<PerfEvent, NodeJS.ErrnoException>();
  readonly #descriptors = new Map<PerfEvent, number>();

  static {
    branded('PerfCounters', this.prototype, (value) => #descriptors in value);
  }

  constructor(key: symbol, events: readonly PerfEvent[]) {
    requireConstruct(key);
    for (const event of new Set(events)) {
      const [type, config] = EVENTS[event];
      const opened = native.perfOpen(type, config);
      if (isFailure(opened)) {
        this.unavailable.set(event, systemError(opened));
        continue;
      }
      this.#descriptors.set(event, opened.fd);
      if (opened.userOnly) this.userOnly.add(event);
    }
  }

  read(): Partial<Record<PerfEvent, number>> {
    const counts: Partial<Record<PerfEvent, number>> = {};
    for (const [event, fd] of this.#descriptors) counts[event] = unwrap(native.perfRead(fd));
    return counts;
  }

  close(): void {
    for (const fd of this.#descriptors.values()) native.perfClose(fd);
    this.#descriptors.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
