/** Samples of work in this process, by tinybench. */
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { Bench } from 'tinybench';
import type { Side } from './row.mjs';

/**
 * A side that calls `work`, which does `units` units of it. A sample is the median of five calls, in nanoseconds a unit: the calls are
 * long (a loop of its own inside `work`), so that looking at the clock costs nothing beside them.
 */
export function inProcess(units: number, work: () => unknown, close?: () => void): Side {
  return {
    async sample() {
      const bench = new Bench({ iterations: 5, time: 0, warmup: false, throws: true });
      bench.add('work', () => void work());
      await bench.run();
      const result = bench.tasks[0].result;
      if (!('latency' in result)) throw new Error(`no result: ${JSON.stringify(result)}`);
      return (result.latency.p50 * 1e6) / units;
    },
    close,
  };
}

const POLL_MS = 2;
const CALM_MS = 20;

/**
 * Waits until nothing of earlier samples is being let go: V8 unmaps their buffers on another thread, and the kernel lets only one thread
 * of a process change its mappings at a time.
 */
async function quiet(): Promise<void> {
  for (let last = addressSpace(), calm = 0; calm < CALM_MS; calm += POLL_MS) {
    await setTimeout(POLL_MS);
    const now = addressSpace();
    if (now !== last) calm = 0;
    last = now;
  }
}

/** In pages. */
function addressSpace(): number {
  return Number(readFileSync('/proc/self/statm', 'latin1').split(' ')[0]);
}

/** A side whose work needs a new arrangement each time: only what `work` does is timed. In nanoseconds a unit. */
export function arranged<T>(
  units: number,
  arrange: () => T | Promise<T>,
  work: (made: T) => void | Promise<unknown>,
  tidy: (made: T) => void | Promise<void>,
): Side {
  return {
    async sample() {
      const made = await arrange();
      await quiet();
      const start = process.hrtime.bigint();
      const pending = work(made);
      if (pending !== undefined) await pending;
      const end = process.hrtime.bigint();
      await tidy(made);
      return Number(end - start) / units;
    },
  };
}
