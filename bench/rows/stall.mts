import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Row, Side } from '../row.mjs';

const MAPPINGS = 10_000;

// A process of its own each time: thousands of mappings of an earlier sample that are being collected would be measured too.
const revoking: Side = {
  async sample() {
    const child = fileURLToPath(new URL('./stall_child.mjs', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', child, String(MAPPINGS)]);
    return Number(stdout);
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
