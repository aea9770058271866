import { MemoryObject, type Mapping } from 'revocable-mmap';
import { cProgram, holders } from '../baseline.mjs';
import { arranged } from '../in_process.mjs';
import type { Case, Row, Target } from '../row.mjs';

const PAGE = 4096;
const GIB_4 = 2 ** 32;

/** Objects a sample: many where one takes microseconds, so that the clock and the caches do not decide. */
const objectsFor = (mappings: number, pages: number): number => Math.max(1, Math.floor(100 / (mappings * pages)));

function revocation(mappings: number, pages: number, target?: Target): Case {
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
    baseline: () => cProgram('revoke', [mappings, pages, count, 0]),
  };
}

function mapped(mappings: number, pages: number): { object: MemoryObject; held: Mapping[] } {
  const object = MemoryObject.create({ size: pages * PAGE, name: 'bench' });
  return { object, held: Array.from({ length: mappings }, () => object.map({ populate: true })) };
}

const SHARED_PAGES = 256;

/** This process is one of them. */
function amongProcesses(processes: number): Case {
  return {
    label: `${processes} of them`,
    size: processes,
    subject: () =>
      arranged(
        1,
        async () => {
          const { object } = mapped(1, SHARED_PAGES);
          return { object, others: await holders(object, processes - 1) };
        },
        ({ object }) => void object.revokeSync(),
        async ({ object, others }) => {
          object.close();
          await others.end();
        },
      ),
    baseline: () => cProgram('revoke', [1, SHARED_PAGES, 1, processes - 1]),
  };
}

export const rows: Row[] = [
  {
    id: 'revoke',
    title: 'revokeSync of an owned object',
    unit: 'ns',
    baselineName: 'C, same system calls',
    oneProcessor: true,
    quickCases: 2,
    cases: [
      { ...revocation(1, 1, { atMost: 4 }), size: undefined },
      { ...revocation(100, 256, { atMost: 1.2 }), size: undefined },
      { ...revocation(1, 65_536, { atMost: 1.2 }), size: undefined },
      { ...revocation(10_000, 1, { atMost: 1.2 }), size: undefined },
    ],
  },
  {
    id: 'revoke-growth',
    title: 'revokeSync, as mappings grow',
    unit: 'ns',
    baselineName: 'C, same system calls',
    sizeName: 'mappings of the object',
    cases: [1, 10, 100, 1000, 10_000, 40_000].map((mappings) => revocation(mappings, 1)),
  },
  {
    id: 'revoke-pages',
    title: 'revokeSync, as present pages grow',
    unit: 'ns',
    baselineName: 'C, same system calls',
    sizeName: 'present pages',
    cases: [1, 16, 256, 4096, 65_536, GIB_4 / PAGE].map((pages) => ({ ...revocation(1, pages), size: pages })),
  },
  {
    id: 'revoke-processes',
    title: 'revokeSync of 1 MiB, as processes that have it mapped grow',
    unit: 'ns',
    baselineName: 'C, same system calls',
    sizeName: 'processes that have it mapped',
    cases: [1, 2, 4, 8, 16, 32, 64].map(amongProcesses),
  },
];
