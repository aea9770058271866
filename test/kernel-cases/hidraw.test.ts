/** Cases 47 and 48: HIDIOCREVOKE in Linux's tools/testing/selftests/hid/hidraw.c, EVIOCREVOKE in libevdev's test-libevdev-init.c. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Device, POLL, type DeviceFile, type OpenFile } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';

const GONE = { code: 'ENODEV', errno: -19 };

/** A device of reports: what is sent is in the queue of each open file. */
function hid(): { device: Device; send: (report: number) => void } {
  const queues = new Set<number[]>();
  const device = new Device({
    name: 'hidraw0',
    regions: [{ size: 4096 }],
    opTimeout: 20_000,
    ops: {
      open: (file) => void queues.add((file.data = [])),
      release: (file) => void queues.delete(file.data as number[]),
      async read(file, target, _position, { signal }) {
        const queue = file.data as number[];
        while (queue.length === 0 && !signal.aborted) await sleep(1);
        target[0] = queue.shift() ?? 0;
        return signal.aborted ? 0 : 1;
      },
      write: (_file, source) => source.length,
      ioctl: (_file, command) => command,
      poll: (file: OpenFile) => ((file.data as number[]).length > 0 ? POLL.IN : 0) | POLL.OUT,
    },
  });
  return {
    device,
    send(report) {
      for (const queue of queues) queue.push(report);
      device.notify();
    },
  };
}

async function read(file: DeviceFile): Promise<number> {
  const target = new Uint8Array(1);
  expect(await file.read(target)).toBe(1);
  return target[0];
}

describe('kernel cases of hidraw and libevdev', () => {
  const operations: [string, (file: DeviceFile) => unknown][] = [
    ['read', (file) => file.read(new Uint8Array(8))],
    ['write', (file) => file.write(new Uint8Array(8))],
    ['ioctl', (file) => file.ioctl(1)],
    ['poll', (file) => file.poll()],
    ['mmap', (file) => file.map()],
  ];

  test.each(operations)('case 47 (hidraw %s after revoke): ENODEV', async (name, operation) => {
    const { device, send } = hid();
    const file = device.open();
    send(42);
    expect(await read(file)).toBe(42); // raw_event
    await device.unplug();
    send(43);
    const error = await rejectionOf((async () => operation(file))());
    expect(error).toMatchObject({ ...GONE, syscall: name });
  });

  test('case 47 (hidraw raw_event_revoked): a reader that waits gets ENODEV, and no report that comes after', async () => {
    const { device, send } = hid();
    const file = device.open();
    const waiting = rejectionOf(file.read(new Uint8Array(8)));
    await until('the op runs', () => device.opCounts.read === 1);
    const removal = device.unplug();
    send(44);
    expect(await waiting).toMatchObject(GONE);
    expect(await removal).toMatchObject({ abandonedOps: 0, files: 1 });
  });

  test('case 47 (hidraw poll_revoked): poll wakes', async () => {
    const { device } = hid();
    const waiting = rejectionOf(device.open().poll({ events: POLL.IN, timeout: 60_000 }));
    await until('it is asked', () => device.opCounts.poll === 1);
    await device.unplug();
    expect(await waiting).toMatchObject(GONE);
    expect(device.opCounts.poll).toBe(1);
  });

  test('case 48 (libevdev test_revoke): a client that is closed gets no more, the other goes on', async () => {
    const { device, send } = hid();
    const [first, second] = [device.open(), device.open()];
    send(1);
    expect(await Promise.all([read(first), read(second)])).toEqual([1, 1]);
    const waiting = rejectionOf(first.read(new Uint8Array(1)));
    first.close();
    expect(await waiting).toMatchObject({ code: 'EBADF' });
    expect(thrownBy(() => first.map())).toMatchObject({ code: 'EBADF' });
    await barrier();
    send(2);
    expect(await read(second)).toBe(2);
    expect(await second.poll({ events: POLL.IN, timeout: 20 })).toBe(0);
    const mapping = second.map();
    mapping.write32(0, 5);
    expect([device.opCounts.release, mapping.read32(0)]).toEqual([1, 5]);
    await device.unplug();
    expect(device.opCounts.release).toBe(2);
  });

  test('case 48 (libevdev test_revoke): of two mappings of one region one is closed, the other keeps what is written', async () => {
    const { device } = hid();
    const [first, second] = [device.open().map(), device.open().map()];
    first.write32(0, 7);
    first.close();
    second.write32(4, 8);
    expect(thrownBy(() => first.read32(0))).toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
    expect([second.read32(0), second.read32(4), first.bytes[0]]).toEqual([7, 8, 0]);
    await device.unplug();
  });

  test('a change that comes while the op is asked is not missed', async () => {
    let ready = 0;
    const device: Device = new Device({
      name: 'hidraw1',
      regions: [{ size: 4096 }],
      ops: {
        poll: () => {
          const before = ready;
          ready = POLL.IN;
          if (before === 0) device.notify();
          return before;
        },
      },
    });
    expect(await device.open().poll({ events: POLL.IN, timeout: 10_000 })).toBe(POLL.IN);
    expect(device.opCounts.poll).toBe(2);
    await device.unplug();
  });
});
