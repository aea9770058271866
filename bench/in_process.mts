/** Samples of work in this process, by tinybench. */
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

/** A side whose work needs a new arrangement each time: only what `work` does is timed. In nanoseconds a unit. */
export function arranged<T>(
  units: number,
  arrange: () => T,
  work: (made: T) => void | Promise<unknown>,
  tidy: (made: T) => void,
): Side {
  return {
    async sample() {
      const made = arrange();
      const start = process.hrtime.bigint();
      const pending = work(made);
      if (pending !== undefined) await pending;
      const end = process.hrtime.bigint();
      tidy(made);
      return Number(end - start) / units;
    },
  };
}
