/**
 * Tools for benchmarks of memory, faults and mappings on Linux: `revocable-mmap/bench`. `docs/how-to/benchmark.md` shows them at work; the
 * library's own benchmarks are made with them.
 */
export { openPerfCounters, threadUsage, type PerfCounters, type PerfEvent, type ThreadUsage } from './counters.js';
export { pinThread, threadProcessors } from './pin.js';
export { compare, repeat, summarise, median, type Compared, type Repeated, type RepeatOptions, type Summary } from './repeat.js';
export { clockCost, touch, type TouchOptions, type TouchResult } from './touch.js';
