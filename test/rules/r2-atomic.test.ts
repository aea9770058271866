import { runChild } from '../support/child.js';
import { limitOf, rounds } from '../support/rounds.js';

const GENERATIONS = rounds(50_000);
const ROUNDS = rounds(20_000);

// Limits: readers take turns with the revoker, 100 s on two free cores and several times that where other processes have them.

interface Reader {
  live: number;
  transitions: number;
  refused: number;
  stale: number;
  checkedStale: number;
  wrong: number;
  resurrected: number;
  aliased: number;
  strangeErrors: string[];
}

describe('R2 revocation is atomic', () => {
  test(
    `R2 readers never see a hole while ${GENERATIONS} revokes land`,
    async () => {
      const run = await runChild('r2-storm.cjs', { args: [GENERATIONS], limit: 600_000 });
      console.log(run.stdout.split('\n')[0]);
      expect(run).toMatchObject({ status: 0, signal: null });
      const { readers, ...all } = JSON.parse(run.stdout.split('\n')[1]) as { seed: number; readers: Reader[] };
      expect(all).toEqual({ seed: all.seed, revokes: GENERATIONS, foreignSignals: 0, lateWrites: 0 });
      for (const reader of readers) {
        expect(reader).toMatchObject({
          holes: 0,
          stale: 0,
          checkedStale: 0,
          wrong: 0,
          resurrected: 0,
          aliased: 0,
          strangeErrors: [],
        });
        // They were there: they saw old memory, saw it go, and were refused.
        expect(reader.live).toBeGreaterThan(GENERATIONS / 50);
        expect(reader.transitions).toBeGreaterThan(GENERATIONS / 50);
        expect(reader.refused).toBeGreaterThan(GENERATIONS / 50);
      }
    },
    limitOf(610_000),
  );

  test(
    `R2 no write is lost when four threads fault on one revoked page at once, ${ROUNDS} times or more (A6)`,
    async () => {
      const run = await runChild('r2-lost-writes.cjs', { args: [ROUNDS], limit: 600_000 });
      expect(run).toMatchObject({ status: 0, signal: null });
      const { rounds, together, ...seen } = JSON.parse(run.stdout) as Record<'rounds' | 'together', number>;
      expect(seen).toEqual({ lost: 0, fills: rounds, foreignSignals: 0 });
      expect(rounds).toBeGreaterThanOrEqual(ROUNDS);
      expect(together).toBeGreaterThanOrEqual(20); // times that a thread found another one at the same page
    },
    limitOf(610_000),
  );
});
