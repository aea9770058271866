import { MemoryObject } from 'revocable-mmap';
import type { Row, Side } from '../row.mjs';

const MAPPINGS = 10_000;

/** The longest time the event loop was away while `work` went on, in milliseconds. */
async function longestStall(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  let over = false;
  const tick = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (!over) setImmediate(tick);
  };
  await new Promise((resolve) => setImmediate(resolve));
  last = performance.now();
  const pending = work();
  tick(); // the call itself counts
  await pending;
  for (let i = 0; i < 100; i++) await new Promise((resolve) => setImmediate(resolve)); // events are told after it
  over = true;
  return longest;
}

const revoking: Side = {
  async sample() {
    const object = MemoryObject.create({ size: 4096, name: 'bench' });
    const held = Array.from({ length: MAPPINGS }, () => object.map({ populate: true }));
    const stall = await longestStall(() => object.revoke());
    object.close();
    return held.length === MAPPINGS ? stall : NaN;
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
