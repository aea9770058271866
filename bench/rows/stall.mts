import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Case, Row, Side } from '../row.mjs';

const CHILD = fileURLToPath(new URL('./stall_child.mjs', import.meta.url));

// A process of its own each time: thousands of mappings of an earlier sample that are being collected would be measured too.
function revoking(mappings: number): Side {
  return {
    async sample() {
      const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', CHILD, String(mappings)]);
      return Number(stdout);
    },
  };
}

// The bound itself, so that the ratio is the share of it that is used up.
const allowance: Side = { sample: () => 2 };

function stallOf(mappings: number): Case {
  const label = `${mappings.toLocaleString('en')} mappings`;
  return { label, size: mappings, subject: () => revoking(mappings), baseline: () => allowance };
}

export const rows: Row[] = [
  {
    id: 'stall',
    title: 'event-loop stall of await revoke()',
    unit: 'ms',
    baselineName: 'the 2 ms allowed',
    target: { atMost: 1 },
    cases: [stallOf(10_000)],
  },
  {
    id: 'stall-growth',
    title: 'event-loop stall of await revoke(), as mappings grow',
    unit: 'ms',
    baselineName: 'the 2 ms allowed of 10,000',
    sizeName: 'mappings of the object',
    // A sample takes seconds, and one size shows no growth.
    byDefault: (quick) => !quick,
    cases: [1000, 4000, 10_000, 40_000].map(stallOf),
  },
];
