import { MemoryObject, type Mapping } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { arranged } from '../in_process.mjs';
import type { Case, Row, Target } from '../row.mjs';

const PAGE = 4096;

/** Objects a sample: many where one takes microseconds, so that the clock and the caches do not decide. */
const objectsFor = (mappings: number, pages: number): number => Math.max(1, Math.floor(100 / (mappings * pages)));

function revocation(mappings: number, pages: number, target: Target): Case {
  const count = objectsFor(mappings, pages);
  return {
    label: `${mappings.toLocaleString('en')} × ${pages.toLocaleString('en')} pages`,
    size: mappings,
    target,
    subject: () =>
      arranged(
        count,
        () => Array.from({ length: count }, () => mapped(mappings, pages)),
        (all) => {
          for (const { object } of all) object.revokeSync();
        },
        (all) => {
          for (const { object } of all) object.close();
        },
      ),
    baseline: () => cProgram('revoke', [mappings, pages, count]),
  };
}

function mapped(mappings: number, pages: number): { object: MemoryObject; held: Mapping[] } {
  const object = MemoryObject.create({ size: pages * PAGE, name: 'bench' });
  return { object, held: Array.from({ length: mappings }, () => object.map({ populate: true })) };
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
