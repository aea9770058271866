/** What the row `fault` is made of, by itself. */
import { tmpdir } from 'node:os';
import { BackingFaultError, type Mapping } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { arranged } from '../in_process.mjs';
import type { Row, Side } from '../row.mjs';
import { faults } from './fault.mjs';

const ERRORS = 200;

/** What `fault` throws, thrown and caught without a fault: so much of that row is V8's. */
function caughtErrors(): Side {
  return arranged(
    ERRORS,
    () => Array.from({ length: ERRORS }, (_, i) => ({ object: 'file', offset: 0, objectOffset: 0, address: BigInt(i) })),
    (places) => {
      let caught = 0;
      for (const place of places) caught += throws(place);
      if (caught !== ERRORS) throw new Error(`${caught} of ${ERRORS} were caught`);
    },
    () => undefined,
  );
}

type Place = ConstructorParameters<typeof BackingFaultError>[0];

function throws(place: Place): number {
  try {
    return read(place);
  } catch {
    return 1;
  }
}

function read(place: Place): number {
  throw new BackingFaultError(place, 'past-end');
}

function firstWord(mapping: Mapping): Uint32Array {
  const words = new Uint32Array(mapping.buffer, 0, 1);
  if (words[0] === 0) throw new Error('the file should hold something');
  return words;
}

export const rows: Row[] = [
  {
    id: 'fault-raw',
    title: 'first raw touch of a truncated file, to the fill',
    unit: 'ns',
    baselineName: 'C sigsetjmp/siglongjmp',
    oneProcessor: true,
    cases: [
      {
        label: '200 mappings of one page',
        subject: () => faults(firstWord, (words) => (Atomics.load(words, 0) === 0 ? 1 : 0)),
        baseline: () => cProgram('fault', [tmpdir()]),
      },
    ],
  },
  {
    id: 'fault-error',
    title: 'the error of a fault alone, thrown and caught without one',
    unit: 'ns',
    baselineName: 'C sigsetjmp/siglongjmp',
    oneProcessor: true,
    cases: [{ label: `${ERRORS} errors`, subject: caughtErrors, baseline: () => cProgram('fault', [tmpdir()]) }],
  },
];
