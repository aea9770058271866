import { MemoryObject } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { arranged } from '../in_process.mjs';
import type { Row } from '../row.mjs';

const BYTES = 64 * 1024;
const TIMES = 200;

export const rows: Row[] = [
  {
    id: 'map-close',
    title: 'map() and close() of 64 KiB',
    unit: 'ns',
    baselineName: 'C mmap and munmap',
    target: { atMost: 5 },
    cases: [
      {
        label: `${TIMES} in a row`,
        subject: () =>
          arranged(
            TIMES,
            () => MemoryObject.create({ size: BYTES, name: 'bench' }),
            (object) => {
              for (let i = 0; i < TIMES; i++) object.map().close();
            },
            (object) => object.close(),
          ),
        baseline: () => cProgram('map_close', [BYTES]),
      },
    ],
  },
];
