import { runChild } from '../support/child.js';
import { limitOf, rounds } from '../support/rounds.js';

const HISTORIES = rounds(10_000);
const STEPS = [
  'Open',
  'MapRegion',
  'Touch',
  'WorkerTouch',
  'WorkerExit',
  'Zap',
  'Suspend',
  'Resume',
  'CloseMapping',
  'CloseFile',
  'Unplug',
];

describe('R6 histories of devices', () => {
  const seed = Number(process.env.SEED ?? (Math.random() * 0x7fffffff) | 0);

  test(
    `R6 in ${HISTORIES} random histories the device is asked once for each page first touched, for each close and each release, and never after unplug (SEED=${seed})`,
    async () => {
      const { status, signal, stdout, stderr } = await runChild('devices/histories.cjs', {
        args: [seed, HISTORIES],
        limit: 300_000,
      });
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      const { steps, asked, ops } = JSON.parse(stdout) as {
        steps: Record<string, number>;
        asked: number;
        ops: Record<string, number>;
      };
      // Each kind of step happened, often.
      for (const step of STEPS) expect([step, steps[step] >= HISTORIES / 100]).toEqual([step, true]);
      expect(steps.Open).toBeGreaterThanOrEqual(HISTORIES);
      expect(ops.fault).toBe(asked);
      expect(ops.release).toBe(ops.open);
      expect(ops.fault).toBeGreaterThan(HISTORIES / 2);
    },
    limitOf(330_000),
  );
});
