import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Row, Side } from '../row.mjs';

const MAPPINGS = 20_000;
const ALLOWED_KIB = 3;

// A process of its own each time: one that has had mappings before has memory left from them.
const mapping: Side = {
  async sample() {
    const child = fileURLToPath(new URL('./memory_child.mjs', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', child, String(MAPPINGS)]);
    return Number(stdout);
  },
};

// The bound itself, so that the ratio is the share of it that is used up.
const allowance: Side = { sample: () => ALLOWED_KIB };

export const rows: Row[] = [
  {
    id: 'memory',
    title: 'resident memory of a live mapping, no views made',
    unit: 'KiB',
    baselineName: `the ${ALLOWED_KIB} KiB allowed`,
    target: { atMost: 1 },
    cases: [{ label: `${MAPPINGS.toLocaleString('en')} mappings`, subject: () => mapping, baseline: () => allowance }],
  },
];
