import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { arranged } from '../in_process.mjs';
import type { Row, Side } from '../row.mjs';

const FAULTS = 200;

/**
 * First touches of mappings of a file that has been truncated, while so many others are mapped. `begin` touches a page while it is there,
 * `touch` when it is not, and answers 1 when it has found out.
 */
export function faults<T>(begin: (mapping: Mapping) => T, touch: (begun: T) => number, others = 0): Side {
  const rest = MemoryObject.create({ size: 4096, name: 'others' });
  const held = Array.from({ length: others }, () => rest.map());
  return arranged(
    FAULTS,
    () => {
      const directory = mkdtempSync(join(tmpdir(), 'revocable-bench-'));
      const path = join(directory, 'file');
      writeFileSync(path, new Uint8Array(4096).fill(1));
      const file = MemoryObject.openFile(path);
      const mappings = Array.from({ length: FAULTS }, () => file.map());
      const begun = mappings.map(begin);
      truncateSync(path, 0);
      return { directory, file, mappings, begun };
    },
    ({ begun }) => {
      let found = 0;
      for (const each of begun) found += touch(each);
      if (held.length !== others) throw new Error('mappings were lost');
      if (found !== FAULTS) throw new Error(`${found} of ${FAULTS} touches found out`);
    },
    ({ directory, file }) => {
      file.close();
      rmSync(directory, { recursive: true });
    },
  );
}

/** To the errors that the touches throw. */
export function caughtFaults(others = 0): Side {
  return faults(read, throws, others);
}

export const rows: Row[] = [
  {
    id: 'fault',
    title: 'first touch of a truncated file, to the caught error',
    unit: 'ns',
    baselineName: 'C sigsetjmp/siglongjmp',
    oneProcessor: true,
    target: { atMost: 5 },
    cases: [
      {
        label: `${FAULTS} mappings of one page`,
        subject: () => caughtFaults(),
        baseline: () => cProgram('fault', [tmpdir()]),
      },
    ],
  },
  {
    id: 'fault-among',
    title: 'first touch to the caught error, as other mappings grow',
    unit: 'ns',
    baselineName: 'C sigsetjmp/siglongjmp',
    sizeName: 'other mappings',
    cases: [1, 10, 100, 1000, 10_000, 40_000].map((others) => ({
      label: `${others.toLocaleString('en')} others`,
      size: others,
      subject: () => caughtFaults(others),
      baseline: () => cProgram('fault', [tmpdir()]),
    })),
  },
];

function read(mapping: Mapping): Mapping {
  mapping.read32(0);
  return mapping;
}

function throws(mapping: Mapping): number {
  try {
    mapping.read32(0);
    return 0;
  } catch {
    return 1;
  }
}
