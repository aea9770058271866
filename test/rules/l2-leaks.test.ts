import { runChild, runInChild } from '../support/child.js';
import { rounds } from '../support/rounds.js';

/** Lines of /proc/self/maps that V8's own heap may come to need or give back between two measurements. */
const MAPS_TOLERANCE = 400;
/** V8's heap breathes by some MiB; a leak of one page in each of 10,000 cycles would be 40 MiB; smaller ones show in the counts of objects. */
const RSS_TOLERANCE_KIB = 24 * 1024;

/** A small young generation, so that its growth is not taken for a leak. */
const NODE_ARGS = ['--expose-gc', '--no-warnings', '--max-semi-space-size=1'];

/** Objects of a kind that may be on their way: the last ones, which a stack or a cache still shows. */
const OBJECTS_TOLERANCE = 20;

interface Sizes {
  maps: number;
  ours: number;
  fds: number;
  rssKiB: number;
  objects: Record<string, number>;
}

const COUNT = rounds(10_000);

describe('L2 nothing leaks', () => {
  const ways = [
    ['close', 'mappings that are closed'],
    ['revoke', 'mappings that are revoked and closed'],
    ['collect', 'mappings that are forgotten'],
    ['collect-revoked', 'mappings that are revoked and forgotten'],
    ['collect-views', 'mappings of which only a view is kept for a while'],
    ['exception', 'objects that refuse to be mapped'],
  ];
  test.each(ways)(`L2 mappings, descriptors and memory are what they were (%s): ${COUNT} %s`, async (how) => {
    const run = await runChild('l2-leaks.cjs', { args: [how, COUNT], nodeArgs: NODE_ARGS, limit: 220_000 });
    expect(run).toMatchObject({ status: 0, signal: null });
    const { before, after, open, closed } = JSON.parse(run.stdout) as {
      before: Sizes;
      after: Sizes;
      open: number;
      closed: number;
    };
    expect(open).toBe(0);
    expect(closed).toBe(how === 'exception' ? 0 : 2 * COUNT);
    for (const [kind, count] of Object.entries(before.objects)) {
      expect({ kind, grew: Math.max(0, after.objects[kind] - count - OBJECTS_TOLERANCE) }).toEqual({ kind, grew: 0 });
    }
    expect(after.fds).toBe(before.fds);
    expect(after.ours).toBeLessThanOrEqual(before.ours);
    expect(after.maps - before.maps).toBeLessThanOrEqual(MAPS_TOLERANCE);
    expect(after.rssKiB - before.rssKiB).toBeLessThanOrEqual(RSS_TOLERANCE_KIB);
  });
});

test('L2 a closed mapping that the program keeps does not keep those that came and went after it', async () => {
  const { status, value, stderr } = await runInChild(
    async ({ MemoryObject }) => {
      const object = MemoryObject.create({ size: 4096 });
      const first = object.map();
      let window = object.map();
      first.close();
      const used: number[] = [];
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 20_000; i++) {
          const next = object.map(); // before the one before it goes: there is always one
          window.close();
          window = next;
          if (i % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
        }
        let least = Infinity;
        for (let i = 0; i < 50; i++) {
          globalThis.gc!();
          await new Promise((resolve) => setImmediate(resolve));
          least = Math.min(least, process.memoryUsage().heapUsed);
          if (i >= 4 && least < used[0] + 1_000_000) break;
        }
        used.push(least);
      }
      return { used, state: first.state };
    },
    { nodeArgs: ['--expose-gc'] },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(value!.state).toBe('closed');
  expect(value!.used[2] - value!.used[0]).toBeLessThan(1_000_000); // 70 bytes each would be 2.8 million
});
