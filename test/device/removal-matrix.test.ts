/** A removal is the same, wherever the ops run, by whichever call and whichever caller: it wakes callers when the gate shuts. */
import { once } from 'node:events';
import { join } from 'node:path';
import { Device, type DeviceBase, type DeviceOptions, type RemovalReport } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { rejectionOf } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';
import { until } from '../support/until.js';

const MODEL = join(__dirname, '..', 'children', 'devices', 'held.cjs');
const PAGE = 4096;
/** Longer than any test takes that does not hang. */
const OP_TIMEOUT = 60_000;
const HUNG_MS = 30_000;

let touchers: Toucher[];
beforeAll(async () => {
  touchers = await Promise.all([1, 2].map(() => Toucher.start()));
});
afterAll(async () => {
  await Promise.all(touchers.map((toucher) => toucher.end()));
});

type How = 'unplug' | 'remove';
interface Data {
  flags: SharedArrayBuffer;
  opTimeout: number;
}

const PLACES: [where: string, make: (data: Data) => Promise<DeviceBase>][] = [
  [
    'a device of this thread',
    (data) => {
      const model = require(MODEL) as (data: Data) => DeviceOptions;
      return Promise.resolve(new Device(model(data)));
    },
  ],
  ['a spawned device', (data) => Device.spawn(MODEL, { data })],
];

type Remove = (made: DeviceBase, how: How) => unknown;
const call = (made: DeviceBase, how: How): Promise<RemovalReport> =>
  how === 'unplug' ? made.unplug() : made.remove({ timeout: 20 });
const inModel =
  (by: string): Remove =>
  (made, how) =>
    made
      .open()
      .ioctl(1, { how, by })
      .catch(() => undefined);
const CALLERS: [who: string, remove: Remove][] = [
  ['its user', call],
  [
    'a listener of its user',
    (made, how) =>
      void made
        .region(0)
        .object.map()
        .on('close', () => void call(made, how))
        .close(),
  ],
  ['a timer of the model', inModel('timer')],
  ['a listener of the model', inModel('listener')],
  ['an op that waits for it', inModel('op that waits')],
  ['an op that goes on', inModel('op that goes on')],
];

describe.each(PLACES)('%s', (_where, make) => {
  describe.each<[How]>([['unplug'], ['remove']])('%s()', (how) => {
    test.each(CALLERS)(
      'R11 by %s: callers are woken when the gate shuts, and late answers are discarded',
      async (_who, remove) => {
        const flags = new Int32Array(new SharedArrayBuffer(16));
        const [answer, entered, answered] = [0, 1, 2];
        const made = await make({ flags: flags.buffer, opTimeout: OP_TIMEOUT });
        const events: string[] = [];
        made.on('fault', () => events.push('fault'));
        made.on('removed', () => events.push('removed'));
        const file = made.open();
        const mapping = file.map({ fill: 'ones' });
        const target = new Uint8Array(4);
        const interrupts = file.interrupts();
        made.raise(5);
        expect(await interrupts.next()).toEqual({ done: false, value: 5 });

        const pages = [touchers[0].touch(mapping, 0, { how: 'raw' }), touchers[1].touch(mapping, PAGE)];
        const calls = [file.read(target), file.write(target), file.poll(), file.ioctl(0, 'late'), interrupts.next()].map(
          (promise) => rejectionOf(promise),
        );
        await until('all ops run', () => flags[entered] === 5);
        const begin = Date.now();
        const gone = once(made.signal, 'abort');
        void remove(made, how);
        await gone;
        for (const error of await Promise.all(calls)) expect(error).toMatchObject({ code: 'ENODEV', errno: -19 });
        const [raw, checked] = await Promise.all(pages);
        expect([raw, checked]).toEqual([{ value: 0xff }, expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' })]);
        // No op has answered, and so nothing is over.
        expect([flags[answered], made.state, file.state, events]).toEqual([0, 'removed', 'gone', []]);

        Atomics.store(flags, answer, 1);
        expect(await made.unplug()).toMatchObject({ abandonedOps: 0, mappings: expect.any(Number), files: expect.any(Number) });
        expect(Atomics.load(flags, answered)).toBe(Atomics.load(flags, entered));
        await until('the event has come', () => events.length > 0);
        await barrier();
        expect([events, [...target], mapping.state, mapping.bytes[0]]).toEqual([['removed'], [0, 0, 0, 0], 'revoked', 0xff]);
        expect(Date.now() - begin).toBeLessThan(HUNG_MS);
      },
    );
  });
});

test('a spawned device whose worker hangs: remove() shuts the gate when its time is up', async () => {
  const flags = new Int32Array(new SharedArrayBuffer(16));
  const opTimeout = 3000;
  const made = await Device.spawn(MODEL, { data: { flags: flags.buffer, opTimeout } });
  const file = made.open();
  const call = rejectionOf(file.ioctl(2));
  await until('it hangs', () => flags[1] === 1);
  const begin = Date.now();
  const removal = made.remove({ timeout: 50 });
  expect(await call).toMatchObject({ code: 'ENODEV' });
  expect(Date.now() - begin).toBeLessThan(opTimeout);
  expect(await removal).toMatchObject({ removedByThisCall: true, files: 1, abandonedOps: 1 });
  expect(Date.now() - begin).toBeGreaterThanOrEqual(opTimeout);
});
