import { Bus, Device, type DeviceBase, type DeviceOps, type HotplugEvent } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild } from '../support/child.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';

const open: { devices: DeviceBase[]; buses: Bus[] } = { devices: [], buses: [] };
function device(name: string, ops: DeviceOps = {}): Device {
  const made = new Device({ name, regions: [{ size: 4096 }], ops });
  open.devices.push(made);
  return made;
}
function bus(options?: { subsystem?: string }): Bus {
  const made = new Bus(options);
  open.buses.push(made);
  return made;
}
afterEach(async () => {
  for (const made of open.buses.splice(0)) made.close();
  await Promise.all(open.devices.splice(0).map((made) => made.unplug()));
});

const brief = ({ ACTION, DEVNAME, generation }: HotplugEvent): string => `${ACTION} ${DEVNAME} ${generation}`;

describe('a bus', () => {
  test('tells of what comes, changes and goes with the fields of uevents, in order, on a later turn', async () => {
    const made = bus({ subsystem: 'uio' });
    const heard: HotplugEvent[] = [];
    const named: string[] = [];
    made.on('event', (event) => heard.push(event));
    for (const action of ['add', 'change', 'remove'] as const)
      made.on(action, (event) => named.push(`${action} ${event.ACTION}`));
    const [a, b] = [device('a'), device('b')];
    const returned = [made.add(a), made.add(b), made.change('a'), made.change(b)];
    expect(heard).toEqual([]);
    expect([...made.devices]).toEqual([
      ['a', a],
      ['b', b],
    ]);
    expect([made.get('a'), made.get('c')]).toEqual([a, undefined]);
    await made.remove('a', { surprise: true });
    await made.remove(b, { timeout: 0 });
    await until('all events have come', () => heard.length === 6);
    const first = returned[0].SEQNUM;
    const event = (ACTION: string, DEVNAME: string, i: number, of: Device): HotplugEvent =>
      ({
        ACTION,
        DEVPATH: `/devices/uio/${DEVNAME}`,
        SUBSYSTEM: 'uio',
        DEVNAME,
        SEQNUM: first + i,
        generation: 1,
        device: of,
      }) as HotplugEvent;
    const expected = [
      event('add', 'a', 0, a),
      event('add', 'b', 1, b),
      event('change', 'a', 2, a),
      event('change', 'b', 3, b),
      event('remove', 'a', 4, a),
      event('remove', 'b', 5, b),
    ];
    expect(heard).toEqual(expected);
    expect(returned).toEqual(expected.slice(0, 4));
    expect(named).toEqual(['add add', 'add add', 'change change', 'change change', 'remove remove', 'remove remove']);
    expect(made.devices.size).toBe(0);
  });

  test('SEQNUM grows by one over all buses', () => {
    const [first, second] = [bus(), bus()];
    const numbers = [first.add(device('a')), second.add(device('b')), first.change('a'), second.change('b')].map(
      ({ SEQNUM }) => SEQNUM,
    );
    expect(numbers).toEqual([0, 1, 2, 3].map((i) => numbers[0] + i));
  });

  test('can be iterated, by two at once, each with all that happens from its begin on', async () => {
    const made = bus();
    const early = made.events();
    made.add(device('a'));
    const late = made[Symbol.asyncIterator]();
    made.add(device('b'));
    made.change('a');
    made.close();
    const collect = async (iteration: AsyncIterable<HotplugEvent>): Promise<string[]> => {
      const all: string[] = [];
      for await (const event of iteration) all.push(brief(event));
      return all;
    };
    expect(await Promise.all([collect(early), collect(late)])).toEqual([
      ['add a 1', 'add b 1', 'change a 1'],
      ['add b 1', 'change a 1'],
    ]);
    expect(await collect(made)).toEqual([]);
  });

  test('iterations that wait get events as they come; break and return() end one and leave the other', async () => {
    const made = bus();
    const [one, other] = [made.events(), made.events()];
    const waiting = [one.next(), one.next(), other.next()];
    made.add(device('a'));
    made.change('a');
    const results = await Promise.all(waiting);
    expect(results.map(({ value }) => brief(value))).toEqual(['add a 1', 'change a 1', 'add a 1']);
    const pending = one.next();
    expect(await one.return!()).toEqual({ done: true, value: undefined });
    expect(await pending).toEqual({ done: true, value: undefined });
    made.change('a');
    expect(await one.next()).toEqual({ done: true, value: undefined });
    let seen = 0;
    for await (const event of other) {
      expect(event.ACTION).toBe('change');
      if (++seen === 2) break;
    }
    expect(await other.next()).toEqual({ done: true, value: undefined });
  });

  test('a signal ends an iteration by throwing its reason, after what came before it', async () => {
    const made = bus();
    const controller = new AbortController();
    const iteration = made.events({ signal: controller.signal });
    made.add(device('a'));
    const reason = new Error('enough');
    controller.abort(reason);
    made.change('a');
    expect(brief((await iteration.next()).value)).toBe('add a 1');
    expect(await rejectionOf(iteration.next())).toBe(reason);
    expect(await iteration.next()).toEqual({ done: true, value: undefined });
    expect(await rejectionOf(made.events({ signal: controller.signal }).next())).toBe(reason);
    const second = new AbortController();
    const pending = rejectionOf(made.events({ signal: second.signal }).next());
    second.abort(reason);
    expect(await pending).toBe(reason);
  });

  test('a name is free when its device has gone, and the next is of another generation', async () => {
    const made = bus();
    const generations: number[] = [];
    for (let i = 0; i < 5; i++) {
      const next = device('a');
      generations.push(made.add(next).generation);
      expect(thrownBy(() => made.add(device('a')))).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      // At once, although the removal goes on.
      const removal = next.unplug();
      expect(made.get('a')).toBeUndefined();
      expect(thrownBy(() => made.add(next))).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      await removal;
    }
    expect(generations).toEqual([1, 2, 3, 4, 5]);
    expect(made.add(device('b')).generation).toBe(1);
  });

  test('a device that unplugs itself, from inside an op, leaves the bus', async () => {
    const made = bus();
    const self: Device = device('a', { ioctl: () => void self.unplug() });
    made.add(self);
    const heard: string[] = [];
    made.on('event', (event) => heard.push(brief(event)));
    await rejectionOf(self.open().ioctl(1));
    expect(made.devices.size).toBe(0);
    await until('the event has come', () => heard.length === 2);
    expect(heard).toEqual(['add a 1', 'remove a 1']);
  });

  test('a device may be on two buses, and leaves both', async () => {
    const [first, second] = [bus(), bus()];
    const both = device('a');
    first.add(both);
    second.add(both);
    await first.remove(both, { surprise: true });
    expect([first.devices.size, second.devices.size]).toEqual([0, 0]);
    expect(await rejectionOf(Promise.resolve().then(() => second.remove('a')))).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  test('remove() says what happened, and waits for holders unless it is a surprise', async () => {
    const made = bus();
    const held = device('a');
    const file = held.open();
    file.on('remove-requested', () => file.close());
    made.add(held);
    expect(await made.remove('a')).toMatchObject({ device: 'a', removedByThisCall: true, files: 0 });
    const pulled = device('a');
    pulled.open();
    made.add(pulled);
    expect(await made.remove('a', { surprise: true })).toMatchObject({ removedByThisCall: true, files: 1 });
  });

  test('close() ends iterations, tells no more, leaves its devices alone, and is idempotent', async () => {
    const made = bus();
    const left = device('a');
    const heard: string[] = [];
    made.on('event', (event) => heard.push(brief(event)));
    made.on('close', () => heard.push('close'));
    made.add(left);
    await until('the event has come', () => heard.splice(0).length > 0);
    const pending = made.events().next();
    made.change('a');
    made.ref();
    made.close();
    made[Symbol.dispose]();
    expect([made.hasRef(), made.ref().hasRef(), made.devices.size, left.state]).toEqual([false, false, 0, 'live']);
    expect(brief((await pending).value)).toBe('change a 1');
    await left.unplug();
    await until('the event has come', () => heard.length > 0);
    await barrier();
    expect(heard).toEqual(['close']);
    expect(thrownBy(() => made.add(device('b')))).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  test('ref() keeps a process alive until unref() or close()', async () => {
    for (const end of ['unref', 'close'] as const) {
      const run = await runInChild(
        async (lib, _require, input) => {
          const bus = new lib.Bus();
          const before = bus.hasRef();
          bus.ref().ref();
          const held = bus.hasRef();
          // Nothing else keeps it alive meanwhile.
          const timer = setTimeout(() => {
            bus[input]();
            console.log('ended');
          }, 200);
          timer.unref();
          return [before, held];
        },
        { input: end, limit: 60_000 },
      );
      expect(run).toMatchObject({ status: 0, value: [false, true] });
      expect(run.stdout).toContain('ended');
    }
  });
});
