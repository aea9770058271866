/** The ops read and write have buffers of their own: the caller's changes with the bytes of an answer, and by nothing else. */
import { join } from 'node:path';
import { Device, DeviceOpError, type DeviceBase, type DeviceFile, type DeviceOps } from 'revocable-mmap';
import { detach, resizable, type Resizable } from '../support/buffers.js';
import { rejectionOf } from '../support/thrown.js';

const BY_SOURCE = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');

/** Ops that keep what they are given: a command lets them write to it, and answers with what stands there. */
const SOURCE = `...(() => {
  const kept = [];
  const never = new Promise(() => undefined);
  return {
    read(file, target, position) {
      kept.push(target);
      target.fill(1);
      if (position === 5) structuredClone(target.buffer, { transfer: [target.buffer] });
      if (position === 1) return never;
      if (position === 2) throw new Error('no');
      if (position === 3) return Promise.reject(new Error('no'));
      if (position === 4) return target.length + 1;
      return 4;
    },
    write(file, source, position) {
      kept.push(source);
      if (position === 1) return never;
      source.fill(2);
      return source.length;
    },
    ioctl(file, command) {
      if (command === 1) kept.forEach((buffer) => buffer.fill(9));
      return kept.map((buffer) => [...buffer]);
    },
  };
})()`;
const opTimeout = 200;

const PLACES: [where: string, make: () => Promise<DeviceBase>][] = [
  [
    'in this thread',
    () => {
      // eslint-disable-next-line @typescript-eslint/no-implied-eval
      const ops = new Function(`return { ${SOURCE} };`)() as DeviceOps;
      return Promise.resolve(new Device({ name: 'odd', regions: [{ size: 4096 }], ops, opTimeout }));
    },
  ],
  ['in a worker', () => Device.spawn(BY_SOURCE, { data: { ops: SOURCE, opTimeout } })],
];

const devices: DeviceBase[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

describe.each(PLACES)('ops %s', (_where, make) => {
  async function opened(): Promise<DeviceFile> {
    const made = await make();
    devices.push(made);
    return made.open();
  }
  const READ = 0;
  const NEVER = 1;
  /** They write to all that they were given, and have done so when this resolves. */
  const writeLater = (file: DeviceFile): Promise<unknown> => file.ioctl(1);

  test('read: only the bytes of the answer are copied, and nothing that the op writes afterwards', async () => {
    const file = await opened();
    const target = new Uint8Array(8).fill(5);
    expect(await file.read(target, READ)).toBe(4);
    expect([...target]).toEqual([1, 1, 1, 1, 5, 5, 5, 5]);
    expect(await writeLater(file)).toEqual([[9, 9, 9, 9, 9, 9, 9, 9]]);
    expect([...target]).toEqual([1, 1, 1, 1, 5, 5, 5, 5]);
  });

  test('read: the op sees zeros, not what is in the target', async () => {
    const file = await opened();
    const reading = rejectionOf(file.read(new Uint8Array(2).fill(5), NEVER, { signal: AbortSignal.timeout(1) }));
    expect(await file.ioctl(0)).toEqual([[1, 1]]); // filled by the op
    await reading;
  });

  test.each([
    ['throws', 2],
    ['rejects', 3],
    ['answers more than there was room for', 4],
  ])('read: an op that %s leaves the target alone', async (_what, position) => {
    const file = await opened();
    const target = new Uint8Array(8).fill(5);
    expect(await rejectionOf(file.read(target, position))).toBeInstanceOf(DeviceOpError);
    await writeLater(file);
    expect([...target]).toEqual(Array(8).fill(5));
  });

  test('read: a call that its signal, close() or removal has ended leaves the target alone', async () => {
    const file = await opened();
    const other = file.device.open();
    const controller = new AbortController();
    const targets = [0, 1, 2].map(() => new Uint8Array(8).fill(5));
    const ends = [
      rejectionOf(file.read(targets[0], NEVER, { signal: controller.signal })),
      rejectionOf(other.read(targets[1], NEVER)),
      rejectionOf(file.read(targets[2], NEVER)),
    ];
    expect(await file.ioctl(0)).toEqual(Array(3).fill(Array(8).fill(1))); // all three ops have been called
    controller.abort(new Error('enough'));
    expect((await ends[0]).message).toBe('enough');
    other.close();
    expect((await ends[1]).code).toBe('EBADF');
    expect(await writeLater(file)).toEqual(Array(3).fill(Array(8).fill(9)));
    await file.device.unplug();
    expect((await ends[2]).code).toBe('ENODEV');
    for (const target of targets) expect([...target]).toEqual(Array(8).fill(5));
  });

  test('read: a call whose answer and signal come in one turn of microtasks has both or neither', async () => {
    const file = await opened();
    for (let microtasks = 0; microtasks < 20; microtasks++) {
      const controller = new AbortController();
      const target = new Uint8Array(8);
      const reading = file.read(target, READ, { signal: controller.signal }).catch(() => 'aborted');
      for (let i = 0; i < microtasks; i++) await Promise.resolve();
      controller.abort();
      expect([await reading, target[0]]).toEqual(target[0] === 1 ? [4, 1] : ['aborted', 0]);
    }
  });

  test('read: an op that detaches its target has failed', async () => {
    const file = await opened();
    const target = new Uint8Array(8).fill(5);
    const error = await rejectionOf(file.read(target, 5));
    expect(error).toBeInstanceOf(DeviceOpError);
    expect(error).toMatchObject({ code: 'ERR_DEVICE_OP_FAILED', op: 'read', message: 'odd: read: detached its target' });
    expect([...target]).toEqual(Array(8).fill(5));
  });

  test.each([
    ['detached', detach],
    ['shortened', (buffer: Resizable): void => buffer.resize(4)],
  ])('read: a target that is %s meanwhile is refused', async (_what, change) => {
    const file = await opened();
    const buffer = resizable(64);
    const reading = rejectionOf(file.read(new Uint8Array(buffer)));
    change(buffer);
    expect(await reading).toMatchObject({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE', bytesTransferred: 0 });
    expect(await file.read(new Uint8Array(64))).toBe(4);
  });

  test('write: the op has what the source held when the call was made, and what it writes there goes nowhere', async () => {
    const file = await opened();
    const source = new Uint8Array(4).fill(5);
    const pending = rejectionOf(file.write(source, NEVER, { signal: AbortSignal.timeout(20) }));
    source.fill(6);
    expect(await file.ioctl(0)).toEqual([[5, 5, 5, 5]]);
    await pending;
    expect(await file.write(source, READ)).toBe(4);
    await writeLater(file);
    expect([...source]).toEqual([6, 6, 6, 6]);
  });
});
