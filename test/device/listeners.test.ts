/** What the library adds to signals that outlive its use of them is taken off again, whichever way that use ends. */
import { getEventListeners } from 'node:events';
import { join } from 'node:path';
import { Bus, Device, type DeviceBase, type DeviceFile, type DeviceOps } from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { rejectionOf } from '../support/thrown.js';

const BY_SOURCE = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');

const devices: DeviceBase[] = [];
function device(ops: DeviceOps = {}): Device {
  const made = new Device({ name: 'tested', regions: [{ size: 4096 }], ops });
  devices.push(made);
  return made;
}
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

describe('Bus.add listens to the signal of the device', () => {
  test('until the bus is closed', () => {
    const made = device();
    const buses = [new Bus(), new Bus()];
    for (const bus of buses) bus.add(made);
    expect(listeners(made.signal)).toBe(2);
    buses[0].close();
    expect(listeners(made.signal)).toBe(1);
    buses[1].close();
    expect(listeners(made.signal)).toBe(0);
  });

  test('until the device leaves', async () => {
    const bus = new Bus();
    const made = device();
    bus.add(made);
    await made.unplug();
    expect([listeners(made.signal), bus.devices.size]).toEqual([0, 0]);
    bus.close();
  });

  test('until its place is taken, where this thread has not yet handled the removal', async () => {
    const bus = new Bus();
    const spawned = await Device.spawn(BY_SOURCE, {
      data: { ops: 'ioctl: () => device.unplug(), attach(made) { device = made; }' },
    });
    devices.push(spawned);
    bus.add(spawned);
    void spawned
      .open()
      .ioctl(1)
      .catch(() => undefined);
    // In this turn: its worker removes it, and this thread takes no message.
    for (const end = Date.now() + 30_000; spawned.state !== 'removed' && Date.now() < end;);
    expect([spawned.state, listeners(spawned.signal)]).toEqual(['removed', 1]);
    const next = new Device({ name: spawned.name, regions: [{ size: 4096 }] });
    devices.push(next);
    expect(bus.add(next).generation).toBe(2);
    expect(listeners(spawned.signal)).toBe(0);
    bus.close();
  });
});

describe('Bus.events listens to the signal', () => {
  const ENDS: [how: string, end: (bus: Bus, iteration: AsyncIterator<unknown>, controller: AbortController) => unknown][] = [
    ['return()', (_bus, iteration) => iteration.return!()],
    ['close()', (bus) => bus.close()],
    ['the signal', (_bus, _iteration, controller) => controller.abort()],
  ];
  test.each(ENDS)('until the iteration ends by %s', async (_how, end) => {
    const bus = new Bus();
    const controller = new AbortController();
    const iteration = bus.events({ signal: controller.signal });
    expect(listeners(controller.signal)).toBe(1);
    await end(bus, iteration, controller);
    expect(listeners(controller.signal)).toBe(0);
    bus.close();
  });

  test('not at all where the bus is closed already', async () => {
    const bus = new Bus();
    bus.close();
    const { signal } = new AbortController();
    const iteration = bus.events({ signal });
    expect(listeners(signal)).toBe(0);
    expect((await iteration.next()).done).toBe(true);
  });
});

describe('DeviceFile.interrupts listens to the signal', () => {
  const ENDS: [how: string, end: (file: DeviceFile, iteration: AsyncIterator<number>, controller: AbortController) => unknown][] =
    [
      ['return()', (_file, iteration) => iteration.return!()],
      ['close()', (file) => file.close()],
      ['removal', (file) => file.device.unplug()],
      ['the signal', (_file, _iteration, controller) => controller.abort()],
    ];
  test.each(ENDS)('until the iteration ends by %s', async (_how, end) => {
    const file = device().open();
    const controller = new AbortController();
    const iteration = file.interrupts({ signal: controller.signal });
    expect(listeners(controller.signal)).toBe(1);
    await end(file, iteration, controller);
    expect(listeners(controller.signal)).toBe(0);
  });
});

// --- calls of a file ---

const ANSWERS = 0;
const THROWS = 1;
const NEVER = 2;
/** A command from here on says what `poll` does. */
const POLL_FROM_NOW_ON = 10;

/** Ops whose position or command says what they do. */
const SOURCE = `...(() => {
  let ready = ${ANSWERS};
  const act = (what) => {
    if (what === ${THROWS}) throw new Error('no');
    return what === ${NEVER} ? new Promise(() => undefined) : 0;
  };
  return {
    read: (file, target, position) => act(position),
    write: (file, source, position) => act(position),
    ioctl: (file, command) => (command < ${POLL_FROM_NOW_ON} ? act(command) : (ready = command - ${POLL_FROM_NOW_ON})),
    poll: () => act(ready),
  };
})()`;
const opTimeout = 200;

const PLACES: [where: string, make: () => Promise<DeviceBase>][] = [
  [
    'in this thread',
    () => {
      // eslint-disable-next-line @typescript-eslint/no-implied-eval
      const ops = new Function(`return { ${SOURCE} };`)() as DeviceOps;
      return Promise.resolve(new Device({ name: 'tested', regions: [{ size: 4096 }], ops, opTimeout }));
    },
  ],
  ['in a worker', () => Device.spawn(BY_SOURCE, { data: { ops: SOURCE, opTimeout } })],
];

type Call = (file: DeviceFile, what: number, signal: AbortSignal) => Promise<unknown>;
const CALLS: Record<string, Call> = {
  read: (file, what, signal) => file.read(new Uint8Array(8), what, { signal }),
  write: (file, what, signal) => file.write(new Uint8Array(8), what, { signal }),
  ioctl: (file, what, signal) => file.ioctl(what, undefined, { signal }),
};

describe.each(PLACES)('calls of a file listen to the signal, ops %s', (_where, make) => {
  async function opened(): Promise<DeviceFile> {
    const made = await make();
    devices.push(made);
    return made.open();
  }

  test.each(Object.entries(CALLS))('%s: until the call ends', async (_name, call) => {
    const file = await opened();
    const controller = new AbortController();
    const { signal } = controller;
    const answered = call(file, ANSWERS, signal);
    expect(listeners(signal)).toBe(1);
    await answered;
    expect(listeners(signal)).toBe(0);

    await rejectionOf(call(file, THROWS, signal));
    expect(listeners(signal)).toBe(0);

    const refused = call(file, -1, signal); // a position or a command that is none
    expect(await rejectionOf(refused)).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    expect(listeners(signal)).toBe(0);

    const aborted = call(file, NEVER, signal);
    controller.abort(new Error('enough'));
    expect(await rejectionOf(aborted)).toMatchObject({ message: 'enough' });
    expect(listeners(signal)).toBe(0);

    const other = new AbortController().signal;
    const closed = rejectionOf(call(file, NEVER, other));
    file.close();
    expect(await closed).toMatchObject({ code: 'EBADF' });
    expect(listeners(other)).toBe(0);

    const gone = rejectionOf(call(file.device.open(), NEVER, other));
    await file.device.unplug();
    expect(await gone).toMatchObject({ code: 'ENODEV' });
    expect(listeners(other)).toBe(0);
  });

  test('poll: until the call ends', async () => {
    const file = await opened();
    const controller = new AbortController();
    const { signal } = controller;
    const pending = file.poll({ signal, timeout: 1 });
    expect(listeners(signal)).toBe(1);
    expect(await pending).toBe(0);
    expect(listeners(signal)).toBe(0);

    await file.ioctl(POLL_FROM_NOW_ON + THROWS);
    await rejectionOf(file.poll({ signal }));
    expect(listeners(signal)).toBe(0);
    await file.ioctl(POLL_FROM_NOW_ON + ANSWERS);

    const aborted = file.poll({ signal });
    controller.abort(new Error('enough'));
    expect(await rejectionOf(aborted)).toMatchObject({ message: 'enough' });
    expect(listeners(signal)).toBe(0);

    const other = new AbortController().signal;
    const closed = rejectionOf(file.poll({ signal: other }));
    file.close();
    expect(await closed).toMatchObject({ code: 'EBADF' });
    expect(listeners(other)).toBe(0);

    const gone = rejectionOf(file.device.open().poll({ signal: other }));
    await file.device.unplug();
    expect(await gone).toMatchObject({ code: 'ENODEV' });
    expect(listeners(other)).toBe(0);
  });
});

test('a signal whose addEventListener throws leaves nothing of its call, and no process alive', async () => {
  const { status, stderr, value } = await runInChild(
    async ({ Device, Bus }, _require, model) => {
      const odd = (): AbortSignal =>
        Object.assign(Object.create(null) as AbortSignal, {
          aborted: false,
          throwIfAborted: () => undefined,
          addEventListener() {
            throw new Error('deaf');
          },
          removeEventListener: () => undefined,
        });
      const device = await Device.spawn(model, { data: { ops: 'poll: () => 0' } });
      const file = device.open();
      const said: string[] = [];
      const calls = [
        () => file.read(new Uint8Array(1), 0, { signal: odd() }),
        () => file.poll({ signal: odd() }),
        () => file.interrupts({ signal: odd() }).next(),
        () => new Bus().events({ signal: odd() }).next(),
      ];
      for (const call of calls) {
        try {
          await call();
        } catch (error) {
          said.push((error as Error).message);
        }
      }
      return said; // and the process ends, although the device is there
    },
    { input: BY_SOURCE, limit: 60_000 },
  );
  expect({ status, stderr, value }).toEqual({ status: 0, stderr: '', value: ['deaf', 'deaf', 'deaf', 'deaf'] });
});

test('a call that its signal has ended does not keep the process alive, although its op never settles', async () => {
  const { status, stderr, value } = await runInChild(
    async ({ Device }, _require, model) => {
      const device = await Device.spawn(model, { data: { ops: 'read: () => new Promise(() => undefined)' } });
      const controller = new AbortController();
      const reading = device.open().read(new Uint8Array(1), 0, { signal: controller.signal });
      controller.abort(new Error('enough'));
      return reading.catch((error: Error) => error.message);
    },
    { input: BY_SOURCE, limit: 60_000 },
  );
  expect({ status, stderr, value }).toEqual({ status: 0, stderr: '', value: 'enough' });
});

test('the library listens to the process once a thread, however often its JavaScript is loaded', async () => {
  const { status, stderr, value } = await runInChild(async (_lib, require) => {
    const counts = (): number[] =>
      ['beforeExit', 'exit', 'newListener', 'removeListener'].map((event) => process.listenerCount(event));
    const before = counts(); // Node has some of its own
    const seen: number[][] = [];
    for (let i = 0; i < 12; i++) {
      for (const path of Object.keys(require.cache)) if (!path.endsWith('.node')) delete require.cache[path];
      const { Device } = require('revocable-mmap') as typeof import('revocable-mmap');
      await new Device({ name: 'tested', regions: [{ size: 4096 }] }).unplug();
      seen.push(counts().map((count, i) => count - before[i]));
    }
    return [seen[0], seen[11]];
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' }); // no MaxListenersExceededWarning
  expect(value).toEqual([
    [1, 1, 1, 1],
    [1, 1, 1, 1],
  ]);
});
