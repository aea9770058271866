import { runChild } from '../support/child.js';
import { describeTrapped } from '../support/conditions.js';
import { INSTRUCTIONS, INSTRUCTIONS_PROGRAM } from '../support/wasm-instructions.js';
import { limitOf, rounds } from '../support/rounds.js';

interface Operation {
  name: string;
  /** It is one access in code that V8 has optimised, and else as many as it has bytes. */
  optimised: boolean;
  times: number;
  /** As few accesses as there may be. */
  whole: number;
  /** Plain loads of JavaScript that were made again. */
  doubled: number;
}

interface Counts {
  accesses: number;
  /** In the trace. */
  records: number;
  operations: Operation[];
}

const ACCESSES = rounds(1_000_000);

describeTrapped('raw accesses to registers', () => {
  test(
    'a million, of every width and kind, are in the trace one by one, and have the values that they must have',
    async () => {
      const seed = Number(process.env.SEED ?? (Date.now() ^ (process.pid << 12)) >>> 0);
      const wasm = { instructions: INSTRUCTIONS, program: Buffer.from(INSTRUCTIONS_PROGRAM).toString('base64') };
      const args = [seed, ACCESSES, JSON.stringify(wasm)];
      const { status, signal, stdout, stderr } = await runChild('devices/random-accesses.cjs', { args, limit: 400_000 });
      if (status !== 0) throw new Error(`status ${status}, signal ${signal}\n${stdout}\n${stderr}`);
      const { accesses, records, operations } = JSON.parse(stdout.trim().split('\n').at(-1)!) as Counts;
      expect(accesses).toBeGreaterThanOrEqual(ACCESSES);
      expect(records).toBeGreaterThan(ACCESSES);
      expect(operations).toHaveLength(256);
      const failing = (rule: (operation: Operation) => boolean): object[] =>
        operations.filter((operation) => !rule(operation)).map((operation) => ({ seed, ...operation }));
      expect(failing(({ times }) => times > 0)).toEqual([]);
      // What V8 does byte by byte, and when, is its own affair; what it does in one instruction must arrive in one piece.
      expect(failing(({ optimised, whole }) => !optimised || whole > 0)).toEqual([]);
      // A plain load is made again where V8 abandons optimised code, and that code has to be optimised anew, which takes hundreds of calls,
      // before it can happen again. Loads that are exact have no such licence: the program has looked at each.
      expect(failing(({ times, doubled }) => doubled <= 1 + times / 100)).toEqual([]);
    },
    limitOf(420_000),
  );
});
