/** What the module of a spawned device posts, throws, and is sent. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Device, DeviceOpError, type DeviceBase, type DeviceFaultInfo } from 'revocable-mmap';
import { detach, resizable, type Resizable } from '../support/buffers.js';
import { runInChild } from '../support/child.js';
import { temporaryDirectory } from '../support/temporary.js';
import { rejectionOf } from '../support/thrown.js';
import { until } from '../support/until.js';

const MODEL = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');
const FAILED = 'ERR_DEVICE_OP_FAILED';

const devices: DeviceBase[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
async function spawn(data: { first?: string; ops?: string }): Promise<DeviceBase> {
  const device = await Device.spawn(MODEL, { data });
  devices.push(device);
  return device;
}

/** The path of a module. */
function moduleOf(source: string): string {
  const path = join(temporaryDirectory(), 'model.mjs');
  writeFileSync(path, source);
  return path;
}

describe("messages of the model's own", () => {
  const POSTED = [
    'null',
    'undefined',
    "'ready'",
    '5',
    '[]',
    "{ type: 'ready' }",
    "{ type: 'removed' }",
    '{ revocableMmapDevice: null }',
  ];
  const post = POSTED.map((message) => `port.postMessage(${message});`).join(' ');

  test('before the device is there: none is taken for it', async () => {
    const device = await spawn({ first: post });
    expect([device.name, device.state, device.regions.length]).toEqual(['odd', 'live', 2]);
  });

  test('later: no caller gets them, and the process lives', async () => {
    const { status, signal, stderr, value } = await runInChild(
      async ({ Device }, _require, { model, ops }) => {
        const device = await Device.spawn(model, { data: { ops } });
        const answer = await device.open().ioctl(7);
        return [answer, device.state, (await device.unplug()).device];
      },
      { input: { model: MODEL, ops: `ioctl(file, command) { ${post} return command; }` } },
    );
    expect([status, signal, stderr, value]).toEqual([0, null, '', [7, 'live', 'odd']]);
  });
});

describe('a module that makes no device', () => {
  test.each([
    ['ends its thread', 'process.exit(0);'],
    ['waits for ever for nothing', 'await new Promise(() => undefined);'],
  ])('%s', async (_what, source) => {
    const model = moduleOf(source);
    const error = await rejectionOf(Device.spawn(model));
    expect(error).toBeInstanceOf(DeviceOpError);
    expect(error).toMatchObject({ code: FAILED, device: `file://${model}`, op: 'worker' });
    expect(error.message).toContain('ended before the device was there');
  });

  test.each(['Symbol("sign")', 'Object.create(null)', 'null', 'undefined', '5', '{ toString() { throw 1; } }'])(
    'throws %s',
    async (thrown) => {
      for (const source of [
        `throw (${thrown});`,
        `setTimeout(() => { throw (${thrown}); }); export default new Promise(() => {});`,
      ]) {
        const error = await rejectionOf(Device.spawn(moduleOf(source)));
        expect([source, error]).toEqual([source, expect.any(Error)]);
        expect([source, typeof error.code]).toEqual([source, 'string']);
      }
    },
  );

  test('an uncaught exception in the worker of a device is reported as an Error with a code', async () => {
    for (const thrown of ['Symbol("sign")', 'Object.create(null)', '{ toString() { throw 1; } }']) {
      const device = await spawn({ ops: `ioctl() { setImmediate(() => { throw (${thrown}); }); }` });
      const heard: DeviceFaultInfo[] = [];
      device.on('fault', (info) => heard.push(info));
      await device
        .open()
        .ioctl(0)
        .catch(() => undefined);
      await until('the fault event has come', () => heard.length > 0);
      expect(heard).toEqual([{ op: 'worker', cause: 'failed', error: expect.any(Error) }]);
      expect(typeof (heard[0].error as { code: unknown }).code).toBe('string');
    }
  });
});

describe('what cannot be cloned', () => {
  const CLONE = { name: 'DataCloneError' };
  const VALUES: [what: string, value: unknown, cause: { name?: string; message?: string }][] = [
    ['a function', (): number => 1, CLONE],
    ['a symbol', Symbol('sign'), CLONE],
    ['a WeakMap', new WeakMap(), CLONE],
    [
      'an object without a prototype that holds a function',
      Object.assign(Object.create(null) as object, { call: () => 1 }),
      CLONE,
    ],
    [
      'a getter that throws',
      {
        get value(): never {
          throw new Error('mine');
        },
      },
      { message: 'mine' },
    ],
  ];

  test.each(VALUES)('the argument of ioctl: %s', async (_what, value, cause) => {
    const file = (await spawn({ ops: 'ioctl: (file, command, argument) => argument' })).open();
    const error = await rejectionOf(file.ioctl(1, value));
    expect(error).toMatchObject({
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_VALUE',
      message: expect.stringContaining('"argument"'),
    });
    expect(error.cause).toMatchObject(cause);
    expect(await file.ioctl(1, { still: 'there' })).toEqual({ still: 'there' });
  });

  test.each(VALUES)('the data of spawn: %s', async (_what, data) => {
    expect(await rejectionOf(Device.spawn(MODEL, { data }))).toMatchObject({
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_VALUE',
      message: expect.stringContaining('"options.data"'),
    });
  });

  test('the answer of ioctl', async () => {
    const file = (await spawn({ ops: 'ioctl: () => () => 1' })).open();
    const error = await rejectionOf(file.ioctl(1));
    expect(error).toBeInstanceOf(DeviceOpError);
    expect(error).toMatchObject({ code: FAILED, op: 'ioctl', message: expect.stringContaining('could not be cloned') });
  });
});

describe('the target of a read, meanwhile', () => {
  test.each([
    ['detached', detach],
    ['shortened', (buffer: Resizable): void => buffer.resize(4)],
  ])('%s', async (_what, change) => {
    const file = (await spawn({ ops: 'read: (file, target) => target.fill(7).length' })).open();
    const buffer = resizable(64);
    const reading = file.read(new Uint8Array(buffer));
    change(buffer);
    expect(await rejectionOf(reading)).toMatchObject({
      name: 'RangeError',
      code: 'ERR_OUT_OF_RANGE',
      message: expect.stringContaining('"target"'),
      bytesTransferred: 0,
    });
    expect(await file.read(new Uint8Array(64))).toBe(64);
  });
});
