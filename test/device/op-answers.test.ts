/** What ops throw and answer that is not what they may. */
import { join } from 'node:path';
import { types } from 'node:util';
import { Device, DeviceOpError, type DeviceBase, type DeviceFile, type DeviceOps } from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { rejectionOf, thrownBy, type Thrown } from '../support/thrown.js';

const MODEL = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');
const FAILED = 'ERR_DEVICE_OP_FAILED';

const devices: DeviceBase[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

/** Makes a device whose ops are given as source text, in this thread or in one of its own. */
const PLACES: [where: string, make: (ops: string) => Promise<DeviceBase>][] = [
  [
    'in this thread',
    (ops) =>
      Promise.resolve(
        new Device({
          name: 'odd',
          regions: [
            { name: 'ram', size: 4096 },
            { name: 'regs', size: 4096, kind: 'registers' },
          ],
          ops: valueOf(`({ ${ops} })`) as DeviceOps,
        }),
      ),
  ],
  ['in a worker of its own', (ops) => Device.spawn(MODEL, { data: { ops } })],
];

function valueOf(source: string): unknown {
  // eslint-disable-next-line @typescript-eslint/no-implied-eval
  return (new Function('require', `return ${source};`) as (...given: unknown[]) => unknown)(require);
}

async function opened(made: Promise<DeviceBase>): Promise<DeviceFile> {
  const device = await made;
  device.on('fault', () => undefined);
  devices.push(device);
  return device.open();
}

type Call = (file: DeviceFile) => unknown;
const CALLS: Record<string, Call> = {
  open: (file) => file.device.open(),
  mmap: (file) => file.map({ region: 'ram' }),
  read: (file) => file.read(new Uint8Array(4)),
  write: (file) => file.write(new Uint8Array(4)),
  ioctl: (file) => file.ioctl(1),
  poll: (file) => file.poll({ timeout: 0 }),
  readRegister: (file) => file.map({ region: 'regs' }).read32(0),
  writeRegister: (file) => file.map({ region: 'regs' }).write32(0, 1),
};

/** The error of the call, thrown or rejected with. */
const errorOf = (op: string, file: DeviceFile): Promise<Thrown> => rejectionOf((async () => CALLS[op](file))());

/** As source text; and what is said of it. */
const UNSAYABLE: [source: string, message: string][] = [
  ['Object.create(null)', '[Object: null prototype] {}'],
  ["({ toString() { throw new Error('no'); } })", '{ toString: [Function: toString] }'],
  ["Symbol('sign')", 'Symbol(sign)'],
  ["Object.assign(new Error(), { message: Symbol('sign') })", 'Symbol(sign)'],
  ["Object.defineProperty(new Error(), 'message', { get() { throw new Error('no'); } })", ''],
  ["new Proxy(new Error(), { getPrototypeOf() { throw new Error('no'); }, get() { throw new Error('no'); } })", ''],
  ['null', 'null'],
  ['undefined', 'undefined'],
  ["''", 'failed'],
];

describe('an op throws what cannot be made a string', () => {
  describe.each(PLACES)('%s', (_where, make) => {
    test.each(UNSAYABLE)('%s', async (source, message) => {
      const ops = ['mmap', 'read', 'write', 'ioctl', 'poll', 'readRegister', 'writeRegister'];
      const file = await opened(
        make(ops.map((op) => `${op}(file, request) { if (request?.region !== 1) throw ${source}; }`).join()),
      );
      for (const op of ops) {
        const error = await errorOf(op, file);
        expect([op, error]).toEqual([op, expect.any(DeviceOpError)]);
        expect(error).toMatchObject({ code: FAILED, device: 'odd', op });
        expect(error.message).toContain(`odd: ${op}: ${message}`);
      }
    });
  });

  test.each(UNSAYABLE)('%s, by attach: the constructor throws an Error', (source) => {
    const attach = (): never => {
      throw valueOf(source);
    };
    const error = thrownBy(() => new Device({ name: 'odd', regions: [{ size: 4096 }], ops: { attach } }));
    expect(types.isNativeError(error)).toBe(true);
    // An Error is thrown on as it is.
    if (!source.includes('new Error()')) expect(error).toMatchObject({ name: 'DeviceOpError', code: FAILED, op: 'attach' });
  });

  test.each(UNSAYABLE)('%s, and there is no listener: the process lives, warned', async (source, message) => {
    const { status, signal, stderr, value } = await runInChild(
      async ({ Device }, _require, text) => {
        const fail = (): never => {
          // eslint-disable-next-line @typescript-eslint/no-implied-eval
          throw new Function(`return ${text}`)();
        };
        const device = new Device({ name: 'odd', regions: [{ size: 4096 }], ops: { fault: fail, close: fail, release: fail } });
        const file = device.open();
        const mapping = file.map();
        const code = await mapping.readAsync(0, new Uint8Array(1)).catch((error: { code: string }) => error.code);
        mapping.close();
        file.close();
        const report = await device.unplug();
        return [code, report.device];
      },
      { input: source },
    );
    expect([status, signal, value]).toEqual([0, null, ['ERR_BACKING_FAULT', 'odd']]);
    for (const op of ['fault', 'close', 'release']) {
      expect(stderr).toContain(`[REVOCABLE_MMAP_DEVICE_OP] RevocableMmapWarning: odd: ${op}: ${message}`);
    }
  });
});

describe('an op throws an error with a number', () => {
  const thrown = (fields: string): string =>
    `read() { throw Object.assign(new Error('numbered'), ${fields}); }, open() { if (this.opened) this.read(); this.opened = true; }`;

  test.each(PLACES)('that is none of an error, %s: DeviceOpError', async (_where, make) => {
    for (const errno of ['5', 'NaN', '-99999', '0', '-0', '-16.5', '-Infinity', "'-16'", '-16n']) {
      const file = await opened(make(thrown(`{ errno: ${errno} }`)));
      for (const op of ['read', 'open']) {
        const error = await errorOf(op, file);
        expect([errno, op, error.code, error.message]).toEqual([errno, op, FAILED, `odd: ${op}: numbered`]);
      }
    }
  });

  test.each(PLACES)('but without a code, %s: the system error', async (_where, make) => {
    for (const [errno, code] of [
      [-16, 'EBUSY'],
      [-35, 'EDEADLK'], // of which libuv knows nothing
    ] as const) {
      const file = await opened(make(thrown(`{ errno: ${errno} }`)));
      for (const op of ['read', 'open']) {
        expect(await errorOf(op, file)).toMatchObject({
          code,
          errno,
          syscall: op,
          message: expect.stringContaining(`${code}: `),
        });
      }
    }
  });

  test('that has a code: its caller gets it as it is', async () => {
    const busy = Object.assign(new Error('taken'), { errno: -16, code: 'EBUSY', syscall: 'read' });
    const device = new Device({
      name: 'odd',
      regions: [{ size: 4096 }],
      ops: {
        read() {
          throw busy;
        },
      },
    });
    devices.push(device);
    expect(await rejectionOf(device.open().read(new Uint8Array(1)))).toBe(busy);
  });

  // As Node's own errors are where a test runner runs the code in a virtual context.
  test.each(PLACES)('and is of another realm, %s: the same', async (_where, make) => {
    const fields = "{ errno: -16, code: 'EBUSY', syscall: 'inb' }";
    const error = `require('node:vm').runInNewContext("Object.assign(new Error('taken'), ${fields})")`;
    const file = await opened(make(`read() { throw ${error}; }, ioctl() { return Promise.reject(${error}); }`));
    for (const op of ['read', 'ioctl']) {
      expect([op, await errorOf(op, file)]).toMatchObject([op, { code: 'EBUSY', errno: -16, syscall: 'inb' }]);
    }
  });
});

describe('an op that must be synchronous answers a promise', () => {
  const SYNCHRONOUS = ['open', 'mmap', 'poll', 'readRegister', 'writeRegister'];
  const ASYNCHRONOUS: [what: string, body: string][] = [
    ['a promise that is rejected', "return Promise.reject(new Error('late'))"],
    ['a promise that resolves', 'return Promise.resolve(1)'],
    ['a thenable that throws', "return { then() { throw new Error('late'); } }"],
  ];

  describe.each(PLACES)('%s', (_where, make) => {
    test.each(ASYNCHRONOUS)('%s', async (_what, body) => {
      const later = 'if (!this.opened) { this.opened = true; return; }';
      const ops = SYNCHRONOUS.map((op) => {
        const first = op === 'open' ? later : op === 'mmap' ? 'if (request.region === 1) return;' : '';
        return `${op}(file, request) { ${first} ${body}; }`;
      });
      const file = await opened(make(ops.join()));
      for (const op of SYNCHRONOUS) {
        const error = await errorOf(op, file);
        expect([op, error.code, error.message]).toEqual([op, FAILED, `odd: ${op}: must not be asynchronous`]);
      }
    });
  });

  test('attach: the constructor throws, and there is no such device', () => {
    let attached: Device | undefined;
    const attach = (made: Device): never => {
      attached = made;
      return Promise.reject(new Error('late')) as never;
    };
    const error = thrownBy(() => new Device({ name: 'odd', regions: [{ size: 4096 }], ops: { attach } }));
    expect(error).toMatchObject({ code: FAILED, message: 'odd: attach: must not be asynchronous' });
    expect(attached!.state).toBe('removed');
  });

  test('its rejection does not end the process; ops that no caller waits for are warned of', async () => {
    const { status, signal, stderr, value } = await runInChild(async ({ Device }, require) => {
      const { barrier } = require('./test/support/barrier.cjs') as typeof import('../support/barrier.cjs');
      const late = (() => Promise.reject(new Error('late'))) as () => never;
      const codes: unknown[] = [];
      const tried = (call: () => unknown): void => {
        try {
          call();
        } catch (error) {
          codes.push((error as { code: string }).code);
        }
      };
      const regions = [{ size: 4096, kind: 'registers' as const }];
      tried(() => new Device({ name: 'odd', regions, ops: { attach: late } }));
      tried(() => new Device({ name: 'odd', regions, ops: { open: late } }).open());
      tried(() => new Device({ name: 'odd', regions, ops: { mmap: late } }).open().map());
      const made = new Device({
        name: 'odd',
        regions,
        ops: { readRegister: late, writeRegister: late, close: late, release: late },
      });
      const file = made.open();
      const mapping = file.map();
      tried(() => mapping.read32(0));
      tried(() => mapping.write32(0, 1));
      mapping.close();
      file.close();
      await barrier();
      await made.unplug();
      return codes;
    });
    expect([status, signal, value]).toEqual([0, null, Array(5).fill(FAILED)]);
    for (const op of ['close', 'release']) expect(stderr).toContain(`RevocableMmapWarning: odd: ${op}: must not be asynchronous`);
    expect(stderr).not.toContain('late');
  });
});

describe('an op answers what it may not', () => {
  const ANSWERS: [source: string, text: string][] = [
    ['-1', '-1'],
    ['1e9', '1000000000'],
    ['1.5', '1.5'],
    ['NaN', 'NaN'],
    ['Infinity', 'Infinity'],
    ["'x'", "'x'"],
    ['undefined', 'undefined'],
    ['null', 'null'],
    ["Symbol('s')", 'Symbol(s)'],
    ['2n', '2n'],
    ['true', 'true'],
    ['Object.create(null)', 'an object'],
    ['() => 1', 'a function'],
  ];

  describe.each(PLACES)('%s', (_where, make) => {
    test.each([
      ['read', 4],
      ['write', 4],
      ['poll', 0xffff],
    ] as const)('%s', async (op, most) => {
      for (const [source, text] of ANSWERS) {
        const error = await errorOf(op, await opened(make(`${op}: () => (${source})`)));
        expect([error.code, error.message]).toEqual([FAILED, `odd: ${op}: answered ${text}, not an integer from 0 to ${most}`]);
      }
    });

    test('readRegister', async () => {
      for (const [source, text] of ANSWERS) {
        if (['-1', '1e9', '2n'].includes(source)) continue; // their low bits are
        const error = await errorOf('readRegister', await opened(make(`readRegister: () => (${source})`)));
        expect([error.code, error.message]).toEqual([FAILED, `odd: readRegister: answered ${text}, not an integer or a bigint`]);
      }
    });

    test('the most and the least are answers', async () => {
      for (const count of [0, 4]) {
        const file = await opened(make(`read: () => ${count}, write: () => Promise.resolve(${count}), poll: () => 0xffff`));
        expect([await CALLS.read(file), await CALLS.write(file), await CALLS.poll(file)]).toEqual([count, count, 0xffff]);
      }
    });
  });
});
