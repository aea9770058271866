/** Interrupts that no iteration takes, by thousands; and what poll() reports unasked. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Device, POLL, type DeviceBase, type DeviceOps } from 'revocable-mmap';
import { rejectionOf } from '../support/thrown.js';
import { until } from '../support/until.js';

const BY_SOURCE = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');
const MOST = 65_536;

const devices: DeviceBase[] = [];
function device(ops: DeviceOps = {}): Device {
  const made = new Device({ name: 'tested', regions: [{ size: 4096 }], ops });
  devices.push(made);
  return made;
}
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

/** So many of them. */
async function take(iteration: AsyncIterableIterator<number>, count: number): Promise<number[]> {
  const taken: number[] = [];
  while (taken.length < count) taken.push((await iteration.next()).value as number);
  return taken;
}

describe('interrupts that wait', () => {
  test('are all yielded, in order, up to 65,536; after that a vector that waits already is lost, and counted', async () => {
    const made = device();
    const interrupts = made.open().interrupts();
    for (let i = 0; i < MOST; i++) made.raise(i % 1000);
    expect(interrupts.lost).toBe(0);
    for (let i = 0; i < 300; i++) made.raise(i % 3);
    expect(interrupts.lost).toBe(300);
    made.raise(5000); // one that does not wait yet
    made.raise(5000);
    expect(interrupts.lost).toBe(301);
    const taken = await take(interrupts, MOST);
    expect(taken.findIndex((vector, i) => vector !== i % 1000)).toBe(-1);
    made.raise(0);
    expect(await take(interrupts, 2)).toEqual([5000, 0]);
    expect(interrupts.lost).toBe(301);
  });

  test('of which some have been taken leave room for more', async () => {
    const made = device();
    const interrupts = made.open().interrupts();
    for (let i = 0; i < MOST; i++) made.raise(7);
    made.raise(7);
    await take(interrupts, 10);
    for (let i = 0; i < 12; i++) made.raise(7);
    expect(interrupts.lost).toBe(3);
    expect(await take(interrupts, MOST)).toHaveLength(MOST);
    made.raise(8);
    expect(await take(interrupts, 1)).toEqual([8]);
  });

  test('are counted for each iteration on its own, and not for one that has ended', async () => {
    const made = device();
    const file = made.open();
    const [early, ended] = [file.interrupts(), file.interrupts()];
    await ended.return!();
    for (let i = 0; i < MOST; i++) made.raise(1);
    const late = file.interrupts();
    for (let i = 0; i < 5; i++) made.raise(1);
    expect([early.lost, ended.lost, late.lost]).toEqual([5, 0, 0]);
    file.close();
    made.raise(1);
    expect(early.lost).toBe(5);
    expect(await rejectionOf(take(early, MOST + 1))).toMatchObject({ code: 'EBADF' });
    expect(early.lost).toBe(5);
  });

  test('of a device in a worker: the same', async () => {
    const made = await Device.spawn(BY_SOURCE, {
      data: {
        ops: `attach(made) { device = made; }, ioctl: (file, count) => { for (let i = 0; i < count; i++) device.raise(3); }`,
      },
    });
    devices.push(made);
    const file = made.open();
    const interrupts = file.interrupts();
    await file.ioctl(MOST + 9);
    await until('all have come', () => interrupts.lost === 9);
    expect(await take(interrupts, MOST)).toEqual(Array(MOST).fill(3));
  });

  /** Nanoseconds that the kernel has let this thread run for, in steps of some milliseconds. Other processes do not count. */
  const cpuTime = (): number => Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]);

  /** Nanoseconds for raising and taking one, where so many wait before the first is taken: the least of five. */
  async function costOf(raised: number): Promise<number> {
    const times = (4 * MOST) / raised;
    let least = Infinity;
    for (let i = 0; i < 5; i++) {
      const made = device();
      const file = made.open();
      const begun = cpuTime();
      for (let j = 0; j < times; j++) {
        const interrupts = file.interrupts();
        for (let k = 0; k < raised; k++) made.raise(k & 0xff);
        for (let k = 0; k < raised - interrupts.lost; k++) void interrupts.next(); // waiting for each would cost more than all else
        await interrupts.return!();
      }
      least = Math.min(least, cpuTime() - begun);
      await made.unplug();
    }
    return least / (4 * MOST);
  }

  test('cost the same each, however many wait, and also when there are too many', async () => {
    await costOf(8192); // compiled from now on
    const few = await costOf(8192);
    const costs = { few, many: await costOf(MOST), tooMany: await costOf(2 * MOST) };
    expect({ ...costs, slower: Math.max(costs.many, costs.tooMany) > few * 4 }).toMatchObject({ slower: false });
  });

  test('takers that wait by thousands are served in order', async () => {
    const made = device();
    const interrupts = made.open().interrupts();
    const taken = Promise.all(Array.from({ length: 50_000 }, () => interrupts.next()));
    for (let i = 0; i < 50_000; i++) made.raise(i);
    expect((await taken).findIndex(({ value }, i) => value !== i)).toBe(-1);
  });
});

describe('poll', () => {
  test.each([
    ['ERR', POLL.ERR],
    ['HUP', POLL.HUP],
    ['ERR and HUP', POLL.ERR | POLL.HUP],
  ])('reports %s whatever it was asked for', async (_what, ready) => {
    const file = device({ poll: () => ready | POLL.OUT | POLL.PRI }).open();
    expect(await file.poll({ events: POLL.IN })).toBe(ready);
    expect(await file.poll({ events: 0 })).toBe(ready);
    expect(await file.poll({ events: POLL.OUT, timeout: 0 })).toBe(ready | POLL.OUT);
    expect(await file.poll()).toBe(ready | POLL.OUT | POLL.PRI);
  });

  test('of nothing waits for ERR and HUP alone', async () => {
    let ready: number = POLL.IN | POLL.OUT;
    const made = device({ poll: () => ready });
    const file = made.open();
    expect(await file.poll({ events: 0, timeout: 1 })).toBe(0);
    const polled = file.poll({ events: 0 });
    ready |= POLL.HUP;
    made.notify();
    expect(await polled).toBe(POLL.HUP);
  });
});
