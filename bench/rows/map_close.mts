import { MemoryObject } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { inProcess } from '../in_process.mjs';
import type { Row } from '../row.mjs';

const BYTES = 64 * 1024;
const TIMES = 1000;

export const rows: Row[] = [
  {
    id: 'map-close',
    title: 'map() and close() of 64 KiB',
    unit: 'ns',
    baselineName: 'C mmap and munmap',
    oneProcessor: true,
    target: { atMost: 5 },
    cases: [
      {
        label: `${TIMES} in a row`,
        subject: () => {
          const object = MemoryObject.create({ size: BYTES, name: 'bench' });
          const work = (): void => {
            for (let i = 0; i < TIMES; i++) object.map().close();
          };
          return inProcess(TIMES, work, () => object.close());
        },
        baseline: () => cProgram('map_close', [BYTES, 0]),
      },
    ],
  },
];
