/** L2 What devices leave behind when they have been unplugged. */
import { runChild } from '../support/child.js';
import { rounds } from '../support/rounds.js';

/** V8's young generation does not grow: what it has once had, V8 of Node 24 and later keeps (docs/explanation/performance.md). */
const NODE_ARGS = ['--expose-gc', '--no-warnings', '--max-semi-space-size=1'];

const WAYS: [how: string, what: string, count: number][] = [
  ['pages', 'a device whose page was supplied, and waited for', rounds(1000)],
  ['registers', 'a device whose registers were read and traced', rounds(1000)],
  ['files', 'a device whose file was read, written, polled and interrupted, and that was suspended', rounds(1000)],
  ['bus', 'a device on two buses, of which one is closed before', rounds(1000)],
  ['spawned', 'a device in a worker of its own', Math.max(8, rounds(20))],
];

/** What a figure may grow by, in so many devices. */
function allowance(figure: string, devices: number): number {
  switch (figure) {
    case 'mallocBytes': // what an arena of malloc's has in use breathes by some ten KiB, and so does the heap
    case 'heapBytes': // where they were few, V8 has not compiled all yet when the first figures are taken
      return (devices < 1000 ? 256 : 128) * 1024 + 64 * devices;
    case 'externalBytes':
      return 16 * 1024;
    case 'residentBytes':
      return 12 * 1024 * 1024;
    default: // a count
      return 0;
  }
}

test.each(WAYS)('L2 %s: nothing of %s', async (how, _what, count) => {
  const run = await runChild('devices/left-behind.cjs', { args: [how, count], nodeArgs: NODE_ARGS, limit: 220_000 });
  expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
  type Figures = Record<string, number>;
  const { before, after, devices } = JSON.parse(run.stdout) as { before: Figures; after: Figures; devices: number };
  const grown = Object.entries(after)
    .filter(([figure, value]) => value - (before[figure] ?? 0) > allowance(figure, devices))
    .map(([figure, value]) => `${figure}: ${before[figure]} -> ${value}`);
  expect(grown).toEqual([]);
});
