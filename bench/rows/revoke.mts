import { MemoryObject } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { arranged } from '../in_process.mjs';
import type { Case, Row, Target } from '../row.mjs';

const PAGE = 4096;

function revocation(mappings: number, pages: number, target: Target): Case {
  return {
    label: `${mappings.toLocaleString('en')} × ${pages.toLocaleString('en')} pages`,
    size: mappings,
    target,
    subject: () =>
      arranged(
        1,
        () => {
          const object = MemoryObject.create({ size: pages * PAGE, name: 'bench' });
          return { object, held: Array.from({ length: mappings }, () => object.map({ populate: true })) };
        },
        ({ object }) => void object.revokeSync(),
        ({ object }) => object.close(),
      ),
    baseline: () => cProgram('revoke', [mappings, pages]),
  };
}

export const rows: Row[] = [
  {
    id: 'revoke',
    title: 'revokeSync of an owned object',
    unit: 'ns',
    baselineName: 'C, same system calls',
    quickCases: 2,
    cases: [
      revocation(1, 1, { atMost: 4 }),
      revocation(100, 256, { atMost: 1.2 }),
      revocation(1, 65_536, { atMost: 1.2 }),
      revocation(10_000, 1, { atMost: 1.2 }),
    ],
  },
  {
    id: 'revoke-growth',
    title: 'revokeSync, as mappings grow',
    unit: 'ns',
    baselineName: 'C, same system calls',
    cases: [1, 10, 100, 1000, 10_000, 40_000].map((mappings) => ({
      ...revocation(mappings, 1, { atMost: 4 }),
      target: undefined,
    })),
  },
];
