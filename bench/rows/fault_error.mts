import { tmpdir } from 'node:os';
import { BackingFaultError } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { arranged } from '../in_process.mjs';
import type { Row, Side } from '../row.mjs';

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

export const rows: Row[] = [
  {
    id: 'fault-error',
    title: 'the error of a fault alone, thrown and caught without one',
    unit: 'ns',
    baselineName: 'C sigsetjmp/siglongjmp',
    cases: [{ label: `${ERRORS} errors`, subject: caughtErrors, baseline: () => cProgram('fault', [tmpdir()]) }],
  },
];
