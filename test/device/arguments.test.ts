import { constants } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Bus, Device, deviceError, RegisterFile, type DeviceFile } from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { rejectionOf, thrownBy, type Thrown } from '../support/thrown.js';

const PAGE = 4096;
const BY_SOURCE = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');
const TYPE = 'ERR_INVALID_ARG_TYPE';
const VALUE = 'ERR_INVALID_ARG_VALUE';
const RANGE = 'ERR_OUT_OF_RANGE';
const NAMES: Record<string, string> = { [TYPE]: 'TypeError', [VALUE]: 'TypeError', [RANGE]: 'RangeError' };
const NOT_INTEGERS = [NaN, 1.5, Infinity, -1, 2 ** 53];

let device: Device;
let file: DeviceFile;
beforeEach(() => {
  device = new Device({
    name: 'tested',
    regions: [{ size: 4 * PAGE }, { name: 'regs', size: PAGE, kind: 'registers' }],
    ops: {
      read: () => 0,
      write: () => 0,
      ioctl: () => 0,
      poll: () => 1,
      fault: () => undefined,
      readRegister: () => 0,
      writeRegister: () => undefined,
    },
  });
  file = device.open();
});
afterEach(async () => {
  await device.unplug();
});

type Row = [call: (value: never) => unknown, values: unknown[], code: string, parameter: string];

/** Each call with each value, thrown or rejected with. */
async function expectAll(rows: Row[]): Promise<void> {
  for (const [call, values, code, parameter] of rows) {
    for (const value of values) {
      let error: Thrown | undefined;
      try {
        await call(value as never);
      } catch (thrown) {
        error = thrown as Thrown;
      }
      const what = `${String(call)} with ${inspect(value)}`;
      expect([what, error?.code, error?.name, error?.message]).toEqual([
        what,
        code,
        NAMES[code],
        expect.stringContaining(`"${parameter}"`),
      ]);
    }
  }
}

const make = (more: object): Device => new Device({ name: 'made', regions: [{ size: PAGE }], ...more });
const makeRegion = (region: object, more: object = {}): Device => make({ regions: [{ size: PAGE, ...region }], ...more });

describe('I1 arguments of devices', () => {
  test('I1 new Device()', () =>
    expectAll([
      [(v) => new Device(v), [undefined, null, 5, 'x', []], TYPE, 'options'],
      [(name) => make({ name }), [undefined, null, 5, {}], TYPE, 'options.name'],
      [(name) => make({ name }), ['', 'a\0b', 'x'.repeat(249)], VALUE, 'options.name'],
      [(ops) => make({ ops }), [null, 5, 'x', []], TYPE, 'options.ops'],
      [(open) => make({ ops: { open } }), [null, 5, {}], TYPE, 'options.ops.open'],
      [(readRegister) => make({ ops: { readRegister } }), ['x'], TYPE, 'options.ops.readRegister'],
      [(opTimeout) => make({ opTimeout }), ['1', {}, true, null], TYPE, 'options.opTimeout'],
      [(opTimeout) => make({ opTimeout }), [...NOT_INTEGERS, 0, 2 ** 31], RANGE, 'options.opTimeout'],
      [(regions) => make({ regions }), [undefined, null, {}, 5], TYPE, 'options.regions'],
      [(regions) => make({ regions }), [[]], VALUE, 'options.regions'],
      [(region) => make({ regions: [region] }), [undefined, null, 5], TYPE, 'options.regions[0]'],
      [(size) => makeRegion({ size }), [undefined, null, '1'], TYPE, 'options.regions[0].size'],
      [(size) => makeRegion({ size }), [...NOT_INTEGERS, 0], RANGE, 'options.regions[0].size'],
      [(name) => makeRegion({ name }), [null, 5], TYPE, 'options.regions[0].name'],
      [(name) => makeRegion({ name }), ['a\0b', 'x'.repeat(250)], VALUE, 'options.regions[0].name'],
      [(kind) => makeRegion({ kind }), [null, 5], TYPE, 'options.regions[0].kind'],
      [(kind) => makeRegion({ kind }), ['ram', ''], VALUE, 'options.regions[0].kind'],
      [(around) => makeRegion({ around }), ['1', {}, null], TYPE, 'options.regions[0].around'],
      [(around) => makeRegion({ around }), [...NOT_INTEGERS, 0, 513], RANGE, 'options.regions[0].around'],
      [(pages) => makeRegion({ pages }), [null, 5, []], TYPE, 'options.regions[0].pages'],
      [(pages) => makeRegion({ pages }), ['ones', '', 'ask'], VALUE, 'options.regions[0].pages'],
      [(pages) => makeRegion({ kind: 'registers', pages }), ['zeros'], VALUE, 'options.regions[0].pages'],
      [(constant) => makeRegion({ pages: { constant } }), ['1', null], TYPE, 'options.regions[0].pages.constant'],
      [(constant) => makeRegion({ pages: { constant } }), [...NOT_INTEGERS, 256], RANGE, 'options.regions[0].pages.constant'],
      [(image) => makeRegion({ pages: { image } }), [null, 5, 'x', [1]], TYPE, 'options.regions[0].pages.image'],
      [(model) => makeRegion({ pages: { model } }), [null, 5, undefined], TYPE, 'options.regions[0].pages.model'],
      [(model) => makeRegion({ pages: { model } }), ['pink'], VALUE, 'options.regions[0].pages.model'],
      [(seed) => makeRegion({ pages: { model: 'random', seed } }), ['1', {}, null], TYPE, 'options.regions[0].pages.seed'],
      [(seed) => makeRegion({ pages: { model: 'random', seed } }), NOT_INTEGERS, RANGE, 'options.regions[0].pages.seed'],
    ]));

  test('I1 empty names of devices, also of spawned ones; regions may have them', async () => {
    const message = (name: string): string => `The argument "${name}" must not be empty. Received ''`;
    expect(thrownBy(() => make({ name: '' })).message).toBe(message('options.name'));
    const named = make({ regions: [{ size: PAGE }, { name: '', size: PAGE }] });
    expect([named.region(1).name, named.region('').index]).toEqual(['', 1]);
    // In a child: a test runner's realm has another TypeError than the one with which the promise rejects.
    const { status, stderr, value } = await runInChild(
      async ({ Device }, _require, model: string) => {
        const errors: unknown[] = [];
        for (const data of [{ name: '' }]) {
          await Device.spawn(model, { data }).catch((error) => {
            const { name, code, message } = error as { name: string; code: string; message: string };
            errors.push([error instanceof TypeError, name, code, message]);
          });
        }
        return errors;
      },
      { input: BY_SOURCE },
    );
    const errorOf = (name: string): unknown[] => [true, 'TypeError', VALUE, message(name)];
    expect([status, stderr, value]).toEqual([0, '', [errorOf('options.name')]]);
    expect(thrownBy(() => device.region('')).code).toBe(RANGE);
    expect(thrownBy(() => file.map({ region: '' })).code).toBe(RANGE);
  });

  test('I1 regions', () =>
    expectAll([
      [(range) => device.region(0).discard(range), [null, 5, 'x'], TYPE, 'range'],
      [(offset) => device.region(0).discard({ offset, length: PAGE }), [...NOT_INTEGERS, 1, 4 * PAGE], RANGE, 'range.offset'],
      [(length) => device.region(0).discard({ offset: 0, length }), [...NOT_INTEGERS, 0, 1, 5 * PAGE], RANGE, 'range.length'],
      [(range) => device.region(0).zap(range), [null, 5, 'x'], TYPE, 'range'],
      [(offset) => device.region(0).zap({ offset, length: PAGE }), [...NOT_INTEGERS, 1, 4 * PAGE], RANGE, 'range.offset'],
      [(length) => device.region(0).zap({ offset: 0, length }), [...NOT_INTEGERS, 0, 1, 5 * PAGE], RANGE, 'range.length'],
      [() => device.region('regs').memory, [0], VALUE, 'region'],
    ]));

  test('I1 what has no such region says so', () => {
    const error = { name: 'RangeError', code: RANGE, message: expect.stringContaining('tested has no region') };
    for (const which of ['nope', 2, -1, NaN, null, undefined, {}, Symbol('s'), Object.create(null)]) {
      expect(thrownBy(() => device.region(which as never))).toMatchObject(error);
    }
    for (const region of ['nope', 2, -1, NaN]) expect(thrownBy(() => file.map({ region }))).toMatchObject(error);
  });

  test('I1 arrays with holes', () =>
    expectAll([
      [(regions) => make({ regions }), [new Array(1), new Array(2)], TYPE, 'options.regions[0]'],
      // eslint-disable-next-line no-sparse-arrays
      [(regions) => make({ regions }), [[{ size: PAGE }, , { size: PAGE }]], TYPE, 'options.regions[1]'],
      [(registers) => new RegisterFile(registers), [new Array(1), new Array(2)], TYPE, 'registers[0]'],
      // eslint-disable-next-line no-sparse-arrays
      [(registers) => new RegisterFile(registers), [[{ offset: 0 }, , { offset: 4 }]], TYPE, 'registers[1]'],
    ]));

  test('I1 what has no text is refused as anything else', () => {
    const none = Object.create(null) as never;
    return expectAll([
      [(pages) => makeRegion({ kind: 'registers', pages }), [none], VALUE, 'options.regions[0].pages'],
      [(model) => makeRegion({ model }), [none], VALUE, 'options.regions[0].model'],
      [(name) => make({ name }), [none, Symbol('s')], TYPE, 'options.name'],
    ]);
  });

  test('I1 deviceError()', async () => {
    await expectAll([
      [(code) => deviceError(code, 'open'), [undefined, null, 16, {}, Symbol('s')], TYPE, 'code'],
      [(code) => deviceError(code, 'open'), ['NOPE', '', 'ebusy', 'toString', '__proto__'], VALUE, 'code'],
      [(syscall) => deviceError('EBUSY', syscall), [undefined, null, 5, Symbol('s')], TYPE, 'syscall'],
    ]);
    for (const [code, errno] of Object.entries(constants.errno)) {
      const error = deviceError(code as 'EBUSY', 'open');
      expect([code, error.errno]).toEqual([code, -errno]);
      expect([code, constants.errno[error.code as 'EBUSY']]).toEqual([code, errno]); // EAGAIN and EWOULDBLOCK are one
    }
  });

  test('I1 files', () =>
    expectAll([
      [(v) => file.map(v), [null, 5, 'x', []], TYPE, 'options'],
      [(region) => file.map({ region }), [null, {}, true], TYPE, 'options.region'],
      [(offset) => file.map({ offset }), ['0', {}, null], TYPE, 'options.offset'],
      [(offset) => file.map({ offset }), [...NOT_INTEGERS, 1, 4 * PAGE], RANGE, 'options.offset'],
      [(length) => file.map({ length }), ['0', {}, null], TYPE, 'options.length'],
      [(length) => file.map({ length }), [...NOT_INTEGERS, 0, 4 * PAGE + 1], RANGE, 'options.length'],
      [(access) => file.map({ access }), [null, 5], TYPE, 'options.access'],
      [(access) => file.map({ access }), ['w'], VALUE, 'options.access'],
      [(fill) => file.map({ fill }), ['twos'], VALUE, 'options.fill'],
      [(v) => file.map({ private: v } as never), [true], VALUE, 'options.private'],
      [(v) => file.read(v), [undefined, null, 5, [], new ArrayBuffer(1)], TYPE, 'target'],
      [(v) => file.read(new Uint8Array(1), v), ['0', null], TYPE, 'position'],
      [(v) => file.read(new Uint8Array(1), v), NOT_INTEGERS, RANGE, 'position'],
      [(v) => file.read(new Uint8Array(1), 0, v), [null, 5], TYPE, 'options'],
      [(signal) => file.read(new Uint8Array(1), 0, { signal }), [null, 5, {}], TYPE, 'options.signal'],
      [(v) => file.write(v), [undefined, null, 5, 'x'], TYPE, 'source'],
      [(v) => file.write(new Uint8Array(1), v), NOT_INTEGERS, RANGE, 'position'],
      [(v) => file.ioctl(v), [undefined, null, '1'], TYPE, 'command'],
      [(v) => file.ioctl(v), [...NOT_INTEGERS, 2 ** 32], RANGE, 'command'],
      [(v) => file.ioctl(1, 0, v), [null, 5], TYPE, 'options'],
      [(v) => file.poll(v), [null, 5, 'x'], TYPE, 'options'],
      [(events) => file.poll({ events }), ['1', {}, null], TYPE, 'options.events'],
      [(events) => file.poll({ events }), [...NOT_INTEGERS, 0x10000], RANGE, 'options.events'],
      [(timeout) => file.poll({ timeout }), ['1', null], TYPE, 'options.timeout'],
      [(timeout) => file.poll({ timeout }), [-1, NaN], RANGE, 'options.timeout'],
      [(signal) => file.poll({ signal }), [null, 5, {}], TYPE, 'options.signal'],
      [(v) => file.interrupts(v).next(), [null, 5], TYPE, 'options'],
      [(signal) => file.interrupts({ signal }).next(), [null, 5, {}], TYPE, 'options.signal'],
      [(v) => file.interruptFd(v), ['0', null], TYPE, 'vector'],
      [(v) => file.interruptFd(v), [...NOT_INTEGERS, 0x10000], RANGE, 'vector'],
    ]));

  test('I1 a poll may wait for fractions of milliseconds, and for ever', async () => {
    for (const timeout of [0, 0.5, 1.5, Infinity, 2 ** 40]) expect([timeout, await file.poll({ timeout })]).toEqual([timeout, 1]);
  });

  test('I1 devices', () =>
    expectAll([
      [(v) => device.raise(v), ['0', null, {}], TYPE, 'vector'],
      [(v) => device.raise(v), [...NOT_INTEGERS, 0x10000], RANGE, 'vector'],
      [(v) => device.remove(v), [null, 5, 'x'], TYPE, 'options'],
      [(timeout) => device.remove({ timeout }), ['1', {}, null], TYPE, 'options.timeout'],
      [(timeout) => device.remove({ timeout }), [...NOT_INTEGERS, 2 ** 31], RANGE, 'options.timeout'],
      [(v) => Device.spawn(v), [undefined, null, 5, {}], TYPE, 'model'],
      [(v) => Device.spawn('model.cjs', v), [null, 5], TYPE, 'options'],
      [(v) => file.map({ region: 'regs' }).write32(0, v), [1n, '1'], TYPE, 'value'],
      [(v) => file.map({ region: 'regs' }).read32(v), [2, PAGE, -4], RANGE, 'offset'],
    ]));

  test('I1 buses', async () => {
    const bus = new Bus();
    await expectAll([
      [(v) => new Bus(v), [null, 5, 'x'], TYPE, 'options'],
      [(subsystem) => new Bus({ subsystem }), [null, 5], TYPE, 'options.subsystem'],
      [(subsystem) => new Bus({ subsystem }), ['', 'a\0b'], VALUE, 'options.subsystem'],
      [(v) => bus.add(v), [undefined, null, 5, {}, 'tested'], TYPE, 'device'],
      [(v) => bus.change(v), [undefined, null, 5, {}], TYPE, 'device'],
      [(v) => bus.change(v), ['', 'tested', device], VALUE, 'device'],
      [(v) => bus.remove(v), [undefined, null, 5, {}], TYPE, 'device'],
      [(v) => bus.remove(v), ['', 'tested', device], VALUE, 'device'],
      [(v) => bus.events(v).next(), [null, 5], TYPE, 'options'],
      [(signal) => bus.events({ signal }).next(), [null, 5, {}], TYPE, 'options.signal'],
    ]);
    bus.add(device);
    await expectAll([
      [(v) => bus.add(v), [device], VALUE, 'device'],
      [(v) => bus.remove('tested', v), [null, 5], TYPE, 'options'],
      [(surprise) => bus.remove('tested', { surprise }), [null, 5, 'yes'], TYPE, 'options.surprise'],
      [(timeout) => bus.remove('tested', { timeout }), ['1', null], TYPE, 'options.timeout'],
      [(timeout) => bus.remove('tested', { timeout }), NOT_INTEGERS, RANGE, 'options.timeout'],
    ]);
    expect(device.state).toBe('live');
    bus.close();
  });

  test('a word of registers cannot be waited for: that would read none', async () => {
    const registers = file.map({ region: 'regs' });
    const refusal = { code: 'EFAULT', syscall: 'futex' };
    expect(await rejectionOf(registers.wait(0, 0))).toMatchObject(refusal);
    expect(thrownBy(() => registers.waitSync(0, 0, { timeout: 0 }))).toMatchObject(refusal);
    expect(device.opCounts.readRegister).toBe(0);
  });
});
