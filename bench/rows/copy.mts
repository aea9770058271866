import { MemoryObject } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { inProcess } from '../in_process.mjs';
import type { Case, Row } from '../row.mjs';

function copyOf(bytes: number): Case {
  return {
    label: `${bytes / 1024} KiB`,
    size: bytes,
    subject: () => {
      const mapping = MemoryObject.create({ size: bytes, name: 'bench' }).map();
      mapping.write(0, new Uint8Array(bytes).fill(1));
      const target = new Uint8Array(bytes).fill(2);
      const times = Math.max(1, (16 << 20) / bytes);
      const work = (): void => {
        for (let i = 0; i < times; i++) mapping.read(0, target);
      };
      return inProcess(times, work, () => mapping.object.close());
    },
    baseline: () => cProgram('copy', [bytes]),
  };
}

export const rows: Row[] = [
  {
    id: 'copy',
    title: 'bulk copy out, checked',
    unit: 'ns',
    baselineName: 'C memcpy',
    oneProcessor: true,
    sizeName: 'copied bytes',
    target: { atMost: 1 / 0.95 },
    cases: [64, 256, 1024, 16384].map((kib) => copyOf(kib * 1024)),
  },
];
