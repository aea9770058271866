/** Who calls for a removal: an op, which is not waited for, or what merely descends from it. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel } from 'node:worker_threads';
import {
  Bus,
  Device,
  type DeviceFile,
  type DeviceOps,
  type Mapping,
  type RegionOptions,
  type RemovalReport,
} from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { rejectionOf } from '../support/thrown.js';
import { until } from '../support/until.js';

const PAGE = 4096;
/** How long ops go on after what they have started. */
const LONG_MS = 250;
/** Longer than any test takes that does not hang. */
const OP_TIMEOUT = 30_000;
const HUNG_MS = 15_000;

const devices: Device[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
function device(ops: DeviceOps, opTimeout = OP_TIMEOUT, regions: RegionOptions[] = [{ size: 8 * PAGE }]): Device {
  const made = new Device({ name: 'tested', opTimeout, regions, ops });
  devices.push(made);
  return made;
}

/** Calls each asynchronous op. */
const CALLS: Record<
  'fault' | 'pageMkwrite' | 'read' | 'write' | 'ioctl',
  (file: DeviceFile, mapping: Mapping) => Promise<unknown>
> = {
  fault: (_, mapping) => mapping.readAsync(PAGE, new Uint8Array(1)),
  pageMkwrite: (_, mapping) => mapping.writeAsync(PAGE, new Uint8Array(1)),
  read: (file) => file.read(new Uint8Array(1)),
  write: (file) => file.write(new Uint8Array(1)),
  ioctl: (file) => file.ioctl(1),
};
type Op = keyof typeof CALLS;
const OPS = Object.keys(CALLS) as Op[];

/** Runs `body` as that op of a device. */
async function runAs(op: Op, body: (made: Device, mapping: Mapping) => unknown, opTimeout = OP_TIMEOUT): Promise<Device> {
  const answer = async (): Promise<never> => (await body(made, mapping)) as never;
  const made = device({ ...(op === 'pageMkwrite' ? { fault: () => undefined } : {}), [op]: answer }, opTimeout);
  made.on('fault', () => undefined);
  const file = made.open();
  const mapping = file.map();
  await CALLS[op](file, mapping).catch(() => undefined);
  return made;
}

const DESCENDANTS: [what: string, start: (unplug: () => Promise<unknown>, mapping: Mapping) => unknown][] = [
  ["a listener of a mapping's 'close'", (unplug, mapping) => void mapping.on('close', () => void unplug()).close()],
  [
    "a listener of another object's event",
    (unplug, mapping) => void mapping.object.once('suspended', () => void unplug()).suspend(),
  ],
  ['a timer', (unplug) => void setTimeout(() => void unplug(), 1)],
  ['an immediate', (unplug) => void setImmediate(() => void unplug())],
  ['process.nextTick', (unplug) => process.nextTick(() => void unplug())],
  ['queueMicrotask', (unplug) => queueMicrotask(() => void unplug())],
  ['queueMicrotask, from a later turn', async (unplug) => (await sleep(1), queueMicrotask(() => void unplug()))],
  [
    'a message',
    (unplug) => {
      const { port1, port2 } = new MessageChannel();
      port1.on('message', () => {
        void unplug();
        port1.close();
      });
      port2.postMessage(1);
    },
  ],
  ['a function that it does not await', (unplug) => void (async () => (await sleep(1), await unplug()))()],
  ['a promise that it does not await', (unplug) => void sleep(1).then(unplug)],
  ['what has lost a race', (unplug) => Promise.race([sleep(1), sleep(20).then(unplug)])],
  [
    'what it no longer awaits since something else has failed',
    (unplug) => rejectionOf(Promise.all([Promise.reject(new Error('failed')), sleep(20).then(unplug)])),
  ],
];

describe('R6 what descends from an op does not pass for it: unplug() waits for the op when called by', () => {
  test.each(DESCENDANTS)('%s', async (_, start) => {
    let running = false;
    const seen: boolean[] = [];
    const made = await runAs('ioctl', async (own, mapping) => {
      running = true;
      await start(() => own.unplug().then(() => seen.push(running)), mapping);
      await sleep(LONG_MS);
      running = false;
    });
    await until('it is removed', () => seen.length > 0);
    expect(seen).toEqual([false]);
    expect(await made.unplug()).toMatchObject({ abandonedOps: 0 });
  });

  test.each(OPS)('a timer of the op %s', async (op) => {
    let running = false;
    const seen: boolean[] = [];
    await runAs(op, async (own) => {
      running = true;
      setTimeout(() => void own.unplug().then(() => seen.push(running)), 1);
      await sleep(LONG_MS);
      running = false;
    });
    await until('it is removed', () => seen.length > 0);
    expect(seen).toEqual([false]);
  });

  test('a listener of the signal of the op, which the removal has aborted', async () => {
    let running = false;
    const seen: boolean[] = [];
    const made: Device = device({
      ioctl: async (_file, _command, _argument, { signal }) => {
        running = true;
        signal.addEventListener('abort', () => void made.unplug().then(() => seen.push(running)));
        await sleep(LONG_MS);
        running = false;
      },
    });
    const call = rejectionOf(made.open().ioctl(1));
    await until('it runs', () => running);
    await made.unplug();
    expect(running).toBe(false);
    await until('the other resolves too', () => seen.length > 0);
    expect([seen, (await call).code]).toEqual([[false], 'ENODEV']);
  });
});

/** Ways in which an op waits for a removal, whatever that is. */
const OWN: [how: string, wait: (unplug: () => Promise<unknown>) => Promise<unknown>][] = [
  ['at once', async (unplug) => await unplug()],
  ['returned', (unplug) => unplug()],
  ['by callbacks, begun at once', (unplug) => new Promise((resolve, reject) => void unplug().then(resolve, reject))],
  ['after an await', async (unplug) => (await sleep(1), await unplug())],
  ['returned after an await', async (unplug) => (await sleep(1), unplug())],
  ['in a function that it awaits', async (unplug) => await (async () => (await sleep(1), await unplug()))()],
  ['by then()', (unplug) => sleep(1).then(unplug)],
  [
    'by catch() and finally()',
    (unplug) =>
      rejectionOf(sleep(1).then(() => rejectionOf(unplug())))
        .catch(unplug)
        .finally(unplug),
  ],
  ['by Promise.all()', (unplug) => Promise.all([sleep(5), sleep(1).then(unplug)])],
  ['by Promise.allSettled()', (unplug) => Promise.allSettled([sleep(5), sleep(1).then(unplug)])],
  ['by Promise.race()', (unplug) => Promise.race([sleep(HUNG_MS, 'hung', { ref: false }), sleep(1).then(unplug)])],
  [
    'in an asynchronous generator',
    async (unplug) => {
      async function* steps(): AsyncGenerator<unknown> {
        await sleep(1);
        yield await unplug();
      }
      for await (const _ of steps());
    },
  ],
  [
    'after an event',
    async (unplug) => {
      const happens = new EventTarget();
      setTimeout(() => happens.dispatchEvent(new Event('it')), 1);
      await once(happens, 'it');
      await unplug();
    },
  ],
];

describe('R6 an op may wait for the removal of its own device', () => {
  test.each(OWN)('%s', async (_, wait) => {
    const begin = Date.now();
    let ended = false;
    const made = await runAs('ioctl', async (own) => {
      await wait(() => own.unplug());
      ended = true;
    });
    expect(await made.unplug()).toMatchObject({ removedByThisCall: false, abandonedOps: 0 });
    expect([ended, Date.now() - begin < HUNG_MS]).toEqual([true, true]);
  });

  const removals: [how: string, remove: (made: Device) => Promise<unknown>][] = [
    ['unplug()', (made) => made.unplug()],
    ['remove()', (made) => made.remove({ timeout: 10 })],
    ['await using', (made) => made[Symbol.asyncDispose]()],
    [
      'a bus',
      (made) => {
        const bus = new Bus();
        bus.add(made);
        return bus.remove(made, { surprise: true });
      },
    ],
    [
      'remove(), awaited later',
      async (made) => {
        const removal = made.remove({ timeout: 10 });
        await sleep(50);
        await removal;
      },
    ],
  ];
  describe.each(OPS)('the op %s', (op) => {
    test.each(removals)('by %s', async (_, remove) => {
      const begin = Date.now();
      let ended = false;
      const made = await runAs(op, async (own) => {
        await sleep(1);
        await remove(own);
        ended = true;
      });
      const report = await made.unplug();
      expect(report).toMatchObject({ removedByThisCall: false, abandonedOps: 0 });
      expect([ended, Date.now() - begin < HUNG_MS]).toEqual([true, true]);
    });
  });

  test("in the op of another device, which the device's own op awaits", async () => {
    const begin = Date.now();
    const report: RemovalReport[] = [];
    let removed: Device;
    const other = device({
      read: async () => {
        await sleep(1);
        report.push(await removed.unplug());
        return 1;
      },
    }).open();
    await runAs('ioctl', async (own) => {
      removed = own;
      await sleep(1);
      expect(await other.read(new Uint8Array(1))).toBe(1);
    });
    await until('it is removed', () => report.length > 0); // its caller has had ENODEV from the gate on
    expect(report).toMatchObject([{ removedByThisCall: true, abandonedOps: 0 }]);
    expect(Date.now() - begin).toBeLessThan(HUNG_MS);
  });

  test('three ops at once, and a caller that is none, which waits for them all', async () => {
    let entered = 0;
    let running = 0;
    const made: Device = device({
      ioctl: async (_file, command, _argument, { signal }) => {
        ++entered;
        ++running;
        if (command > 1 && !signal.aborted) await once(signal, 'abort');
        else await until('all run', () => entered === 3);
        await made.unplug();
        await sleep(LONG_MS);
        --running;
      },
    });
    const file = made.open();
    const begin = Date.now();
    const calls = [1, 2, 3].map((command) => rejectionOf(file.ioctl(command)));
    await until('it is being removed', () => made.state === 'removed');
    expect(await made.unplug()).toMatchObject({ removedByThisCall: false, abandonedOps: 0 });
    expect([entered, running]).toEqual([3, 0]);
    for (const error of await Promise.all(calls)) expect(error).toMatchObject({ code: 'ENODEV', syscall: 'ioctl' });
    expect(Date.now() - begin).toBeLessThan(HUNG_MS);
  });

  test.each<[what: string, wait: (unplug: () => Promise<RemovalReport>) => Promise<unknown>]>([
    [
      'a callback on a later turn',
      (unplug) => new Promise((resolve, reject) => setTimeout(() => void unplug().then(resolve, reject), 1)),
    ],
    [
      'a promise that others wait for too',
      async (unplug) => {
        const removal = sleep(1).then(unplug);
        removal.catch(() => undefined);
        await removal;
      },
    ],
  ])('%s is not recognised: the removal goes on when the time of the op is up', async (_, wait) => {
    const begin = Date.now();
    let report: RemovalReport | undefined;
    const unplug = async (own: Device): Promise<RemovalReport> => (report = await own.unplug());
    await runAs('ioctl', (own) => wait(() => unplug(own)), 500);
    await until('it is removed', () => report !== undefined);
    expect(report).toMatchObject({ removedByThisCall: true, abandonedOps: 1 });
    expect(Date.now() - begin).toBeGreaterThanOrEqual(495);
  });
});

describe('R6 an op that calls unplug() and goes on', () => {
  test.each([
    ['without waiting for it', false],
    ['after it', true],
  ])("%s: other callers wait for it, and 'removed' comes when it has ended", async (_, waits) => {
    let running = false;
    const seen: [string, boolean][] = [];
    const made: Device = device({
      ioctl: async () => {
        running = true;
        const removal = made.unplug();
        if (waits) seen.push(['own', (await removal).removedByThisCall]);
        await sleep(LONG_MS);
        running = false;
      },
    });
    made.on('removed', () => seen.push(['removed', running]));
    const call = rejectionOf(made.open().ioctl(1));
    await made.unplug();
    seen.push(['other', running]);
    await until('the event has come', () => seen.some(([who]) => who === 'removed'));
    expect(seen).toEqual([...(waits ? [['own', true]] : []), ['other', false], ['removed', false]]);
    expect((await call).code).toBe('ENODEV');
  });

  test('for ever is abandoned when its time is up, and counted for the others', async () => {
    const own: RemovalReport[] = [];
    const made: Device = device(
      {
        ioctl: async () => {
          own.push(await made.unplug());
          await new Promise(() => undefined);
        },
      },
      200,
    );
    void rejectionOf(made.open().ioctl(1));
    expect(await made.unplug()).toMatchObject({ removedByThisCall: false, abandonedOps: 1 });
    expect(own).toMatchObject([{ removedByThisCall: true, abandonedOps: 0 }]);
  });

  test('for ever, beside another that hangs: no time is left for the second, and no timer is asked for less', async () => {
    const run = await runInChild(async (lib) => {
      const made: import('revocable-mmap').Device = new lib.Device({
        name: 'slow',
        regions: [{ size: 4096 }],
        opTimeout: 50,
        ops: {
          ioctl: async (_file, command) => {
            if (command === 2) await made.unplug();
            await new Promise(() => undefined);
          },
        },
      });
      const file = made.open();
      for (const command of [1, 2]) file.ioctl(command).catch(() => undefined);
      return (await made.unplug()).abandonedOps;
    });
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '', value: 2 });
  });

  test('a listener that calls unplug() while the first call aborts: one removal', async () => {
    const reports: Promise<RemovalReport>[] = [];
    const reported: RemovalReport[] = [];
    const made = device({ close: () => undefined });
    made.open().map();
    made.on('removed', (report) => reported.push(report));
    made.signal.addEventListener('abort', () => reports.push(made.unplug()));
    reports.push(made.unplug());
    const [inner, outer] = await Promise.all(reports);
    expect([inner.removedByThisCall, outer.removedByThisCall]).toEqual([false, true]);
    await until('the event has come', () => reported.length > 0);
    expect([reported.length, made.opCounts.close]).toEqual([1, 1]);
  });
});

describe('R6 revoke() of a region', () => {
  test('waits for the op that was asked about it when called by what descends from the op', async () => {
    let running = false;
    const seen: boolean[] = [];
    await runAs('fault', async (_own, mapping) => {
      running = true;
      setTimeout(() => void mapping.object.revoke().then(() => seen.push(running)), 1);
      await sleep(LONG_MS);
      running = false;
    });
    await until('it is revoked', () => seen.length > 0);
    expect(seen).toEqual([false]);
  });

  test.each(OWN)('by the op itself, %s', async (_, wait) => {
    const begin = Date.now();
    let ended = false;
    await runAs('fault', async (own) => {
      await wait(() => own.region(0).object.revoke());
      ended = true;
    });
    await until('the op ends', () => ended);
    expect(Date.now() - begin).toBeLessThan(HUNG_MS);
  });

  test('by two ops at once: neither waits for the other; afterwards they are waited for again', async () => {
    const begin = Date.now();
    let running = 0;
    const others: number[] = [];
    const made = device({
      fault: async (page) => {
        ++running;
        await until('both run', () => running === 2);
        await made.region(0).object.revoke();
        if (page.index === 0) await sleep(LONG_MS);
        else {
          await made.region(0).object.revoke();
          others.push(running);
        }
        --running;
      },
    });
    made.on('fault', () => undefined);
    const mapping = made.open().map();
    const calls = [0, 1].map((page) => mapping.readAsync(page * PAGE, new Uint8Array(1)).catch(() => undefined));
    await Promise.all(calls);
    await until('both end', () => running === 0);
    expect(others).toEqual([1]);
    expect(Date.now() - begin).toBeLessThan(HUNG_MS);
  });
});

describe("R6 programs that have changed Error: an op's own removal", () => {
  test('is recognised, and their settings are theirs again', async () => {
    const { status, signal, stderr, value } = await runInChild(async ({ Device }) => {
      const prepare = (): string => 'mine';
      Error.stackTraceLimit = 0;
      Error.prepareStackTrace = prepare;
      const made = new Device({ name: 'tested', regions: [{ size: 4096 }], ops: { ioctl } });
      async function ioctl(): Promise<void> {
        await new Promise((resolve) => setTimeout(resolve, 1));
        await made.unplug();
      }
      await made
        .open()
        .ioctl(1)
        .catch(() => undefined);
      const { abandonedOps } = await made.unplug();
      return [abandonedOps, Error.stackTraceLimit, Error.prepareStackTrace === prepare];
    });
    expect([status, signal, stderr, value]).toEqual([0, null, '', [0, 0, true]]);
  });

  test('is recognised by its synchronous code only where Error is immutable', async () => {
    const { status, signal, stderr, value } = await runInChild(async ({ Device }) => {
      Object.freeze(Error);
      const abandoned: number[] = [];
      for (const later of [false, true]) {
        const made = new Device({ name: 'tested', opTimeout: 300, regions: [{ size: 4096 }], ops: { ioctl } });
        async function ioctl(): Promise<void> {
          if (later) await new Promise((resolve) => setTimeout(resolve, 1));
          await made.unplug();
        }
        await made
          .open()
          .ioctl(1)
          .catch(() => undefined);
        abandoned.push((await made.unplug()).abandonedOps);
      }
      return abandoned;
    });
    expect([status, signal, stderr, value]).toEqual([0, null, '', [0, 1]]);
  });
});
