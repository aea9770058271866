import { Device, RegisterFile } from 'revocable-mmap/device';
import { cProgram } from '../baseline.mjs';
import type { Row, Side } from '../row.mjs';
import { side } from './access.mjs';

const WORDS = 5000;

/** Raw loads of one register whose model is native code, by JavaScript that has been optimised. */
function rawLoads(View: new (buffer: SharedArrayBuffer | ArrayBuffer, offset: number, length: number) => unknown): Side {
  const model = new RegisterFile([{ offset: 0, width: 8, value: 0x4000_0000_0000_0007n }]);
  const device = new Device({ name: 'bench', regions: [{ size: 4096, kind: 'registers', model }] });
  const mapping = device.open().map();
  return side('from[0]', new View(mapping.buffer, 0, 1), () => void device.unplug(), WORDS);
}

export const rows: Row[] = [
  {
    id: 'register-raw',
    title: 'raw load of a register, answered by a model in C++',
    unit: 'ns',
    baselineName: 'C, the same signals and system calls',
    target: { atMost: 1.3 },
    quickCases: 2,
    cases: [
      { label: 'Uint32Array: one signal', subject: () => rawLoads(Uint32Array), baseline: () => cProgram('trap', ['emulated']) },
      {
        label: 'Float64Array: two signals',
        subject: () => rawLoads(Float64Array),
        baseline: () => cProgram('trap', ['stepped']),
      },
    ],
  },
];
