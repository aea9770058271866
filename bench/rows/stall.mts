import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { MemoryObject } from 'revocable-mmap';
import { quiet } from '../in_process.mjs';
import type { Row, Side } from '../row.mjs';

const MAPPINGS = 10_000;
const RESOLUTION_MS = 1;
/** Events are told after the promise has resolved. */
const AFTERWARDS_MS = 100;

/** How much later than asked the event loop came round while `work` went on, in milliseconds: the worst of it. */
async function longestStall(work: () => Promise<unknown>): Promise<number> {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  await setTimeout(10 * RESOLUTION_MS);
  delays.reset();
  await work();
  await setTimeout(AFTERWARDS_MS);
  delays.disable();
  return delays.max / 1e6 - RESOLUTION_MS;
}

const revoking: Side = {
  async sample() {
    const object = MemoryObject.create({ size: 4096, name: 'bench' });
    const held = Array.from({ length: MAPPINGS }, () => object.map({ populate: true }));
    globalThis.gc?.(); // as the mappings of a running program are: no longer young, so that no scavenge has to copy them
    await quiet();
    const stall = await longestStall(() => object.revoke());
    const { mappings } = object.revokeSync(); // the same report once more
    if (mappings !== held.length) throw new Error(`${mappings} of ${held.length} mappings were revoked`);
    object.close();
    return stall;
  },
};

// The bound itself, so that the ratio is the share of it that is used up.
const allowance: Side = { sample: () => 2 };

export const rows: Row[] = [
  {
    id: 'stall',
    title: 'event-loop stall of await revoke()',
    unit: 'ms',
    baselineName: 'the 2 ms allowed',
    target: { atMost: 1 },
    cases: [{ label: `${MAPPINGS.toLocaleString('en')} mappings`, subject: () => revoking, baseline: () => allowance }],
  },
];
