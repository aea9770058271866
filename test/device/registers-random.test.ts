import { runChild } from '../support/child.js';
import { describeTrapped } from '../support/conditions.js';
import { INSTRUCTIONS, INSTRUCTIONS_PROGRAM } from '../support/wasm-instructions.js';

interface Counts {
  accesses: number;
  /** In the trace. */
  records: number;
  /** Accesses by a DataView that were made byte by byte: by code that is not optimised, and of bigints by Node 20. */
  bytewise: number;
  /** Plain loads of JavaScript that were made again. */
  doubled: number;
  operations: number;
}

const ACCESSES = 1_000_000;

describeTrapped('raw accesses to registers', () => {
  test('a million, of every width and kind, are in the trace one by one, and have the values that they must have', async () => {
    const seed = (Date.now() ^ (process.pid << 12)) >>> 0;
    const wasm = { instructions: INSTRUCTIONS, program: Buffer.from(INSTRUCTIONS_PROGRAM).toString('base64') };
    const args = [seed, ACCESSES, JSON.stringify(wasm)];
    const { status, signal, stdout, stderr } = await runChild('devices/random-accesses.cjs', { args, limit: 400_000 });
    if (status !== 0) throw new Error(`status ${status}, signal ${signal}\n${stdout}\n${stderr}`);
    const counts = JSON.parse(stdout.trim().split('\n').at(-1)!) as Counts;
    if (counts.doubled > 0) console.log(`seed ${seed}\n${stderr}`);
    expect(counts).toMatchObject({ accesses: ACCESSES, operations: 256 });
    expect(counts.records).toBeGreaterThan(ACCESSES);
    expect(counts.bytewise).toBeLessThan(ACCESSES / 25);
    expect(counts.doubled).toBeLessThanOrEqual(5);
  }, 420_000);
});
