/** Buffers that are detached or shortened: by the model within a copy, and before it is asked. */
import { join } from 'node:path';
import { Device, type DeviceBase, type DeviceFaultInfo, type DeviceOps, type Mapping } from 'revocable-mmap';
import { detach, resizable, type Resizable } from '../support/buffers.js';
import { runInChild } from '../support/child.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';

const BY_SOURCE = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');

const devices: Device[] = [];
function device(ops: DeviceOps): Device {
  const regions = [{ size: 4096, kind: 'registers' as const }];
  const made = new Device({ name: 'tested', regions, ops });
  devices.push(made);
  return made;
}
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

const CHANGES: [how: string, change: (buffer: Resizable) => void][] = [
  ['detached', detach],
  ['shortened', (buffer) => buffer.resize(30)],
  ['shortened to nothing', (buffer) => buffer.resize(0)],
];
type View = Uint8Array | DataView | Uint32Array;
const VIEWS: [what: string, make: (buffer: ArrayBuffer) => View][] = [
  ['a Uint8Array', (buffer) => new Uint8Array(buffer, 0, 32)],
  ['a Uint8Array as long as its buffer', (buffer) => new Uint8Array(buffer)],
  ['a Uint32Array', (buffer) => new Uint32Array(buffer, 0, 8)],
  ['a DataView', (buffer) => new DataView(buffer, 0, 32)],
];
const CALLS: [call: 'read' | 'write' | 'readAsync' | 'writeAsync', name: string][] = [
  ['read', 'target'],
  ['readAsync', 'target'],
  ['write', 'source'],
  ['writeAsync', 'source'],
];
const errorOf = (registers: Mapping, call: (typeof CALLS)[number][0], view: View): Promise<unknown> =>
  rejectionOf((async () => registers[call](0, view))());

describe('a copy of registers whose model changes the buffer at the third', () => {
  describe.each(CHANGES)('%s', (_how, change) => {
    test.each(VIEWS)('%s', async (_what, make) => {
      for (const [call, name] of CALLS) {
        const buffer = resizable(32, 64);
        let asked = 0;
        const answer = (): number => {
          if (++asked === 3) change(buffer);
          return 7;
        };
        const registers = device({ readRegister: answer, writeRegister: () => void answer() })
          .open()
          .map();
        // What it has taken of a source it has taken.
        const bytesTransferred = name === 'target' ? 8 : 12;
        expect(await errorOf(registers, call, make(buffer))).toMatchObject({
          name: 'RangeError',
          code: 'ERR_OUT_OF_RANGE',
          message: expect.stringContaining(`"${name}"`),
          bytesTransferred,
        });
        expect([call, asked]).toEqual([call, 3]);
      }
    });
  });

  test('a source that goes away with its last bytes has been written', () => {
    const buffer = new ArrayBuffer(8);
    const written: (number | bigint)[] = [];
    const registers = device({
      writeRegister(offset, _width, value) {
        written.push(value);
        if (offset === 4) detach(buffer);
      },
    })
      .open()
      .map();
    expect(registers.write(0, new Uint8Array(buffer).fill(1))).toBe(8);
    expect(written).toEqual([0x01010101, 0x01010101]);
  });
});

describe('a view that has been detached before', () => {
  const gone = <T extends ArrayBufferView>(view: T): T => {
    detach(view.buffer);
    return view;
  };
  const ERROR = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', bytesTransferred: 0 };

  test.each(CALLS)('%s of registers and of memory: a DataView is refused, a typed array is empty', async (call, name) => {
    const registers = device({ readRegister: () => 7, writeRegister: () => undefined })
      .open()
      .map();
    const memory = new Device({ name: 'ram', regions: [{ size: 4096 }] });
    devices.push(memory);
    for (const mapping of [registers, memory.open().map()]) {
      const error = await errorOf(mapping, call, gone(new DataView(new ArrayBuffer(8))));
      expect(error).toMatchObject({ ...ERROR, message: expect.stringContaining(`"${name}"`) });
      for (const array of [new Uint8Array(8), new Uint32Array(2)]) expect(await mapping[call](0, gone(array))).toBe(0);
    }
  });

  test('read and write of a file: the same', async () => {
    const file = device({ read: (_, target) => target.length, write: (_, source) => source.length }).open();
    for (const call of ['read', 'write'] as const) {
      expect(await rejectionOf(file[call](gone(new DataView(new ArrayBuffer(8)))))).toMatchObject(ERROR);
      for (const array of [new Uint8Array(8), new Uint32Array(2)]) expect(await file[call](gone(array))).toBe(0);
    }
  });

  test('the image of a region: the same', () => {
    const make = (image: unknown): Device =>
      new Device({ name: 'imaged', regions: [{ size: 4096, pages: { image: image as Uint8Array } }] });
    expect(thrownBy(() => make(gone(new DataView(new ArrayBuffer(8)))))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    devices.push(make(gone(new Uint32Array(2))));
  });

  test('the answer of fault: a failure of the op, which ends no process', async () => {
    const { status, signal, stderr, value } = await runInChild(async ({ Device }) => {
      const causes: unknown[] = [];
      for (const late of [false, true]) {
        const fault = (): Promise<never> | never => {
          const view = new DataView(new ArrayBuffer(4096));
          structuredClone(view.buffer, { transfer: [view.buffer] });
          return (late ? Promise.resolve(view) : view) as never;
        };
        const made = new Device({ name: 'tested', regions: [{ size: 4096 }], ops: { fault } });
        made.on('fault', ({ error }) => causes.push((error as { code: string }).code));
        await made
          .open()
          .map()
          .readAsync(0, new Uint8Array(1))
          .catch((error: { code: string; cause: string }) => causes.push(error.code, error.cause));
        await made.unplug();
      }
      while (causes.length < 6) await new Promise((resolve) => setImmediate(resolve)); // events come on later turns
      return causes.sort();
    });
    const each = ['ERR_BACKING_FAULT', 'ERR_DEVICE_OP_FAILED', 'failed'];
    expect([status, signal, stderr, value]).toEqual([0, null, '', [...each, ...each].sort()]);
  });
});

describe('the answer of fault is bytes whose buffer is detached', () => {
  /** As source text; `content` is the answer, `buffer` its buffer of two pages. */
  const VIEWS: [what: string, source: string][] = [
    ['a Uint8Array', 'new Uint8Array(buffer, 0, 4096)'],
    ['a Uint8Array as long as its buffer', 'new Uint8Array(buffer)'],
    ['a Uint32Array', 'new Uint32Array(buffer, 0, 1024)'],
    ['a DataView', 'new DataView(buffer, 0, 4096)'],
  ];
  const DETACH = 'structuredClone(buffer, { transfer: [buffer] });';
  const FAILS: [when: string, source: string][] = [
    ['before it answers', `${DETACH} return content;`],
    ['before its promise is fulfilled', `return Promise.resolve().then(() => { ${DETACH} return content; });`],
    [
      'right after its promise is fulfilled',
      `const promise = Promise.resolve(content); promise.then(() => { ${DETACH} }); return promise;`,
    ],
    ['shortened before it answers', 'buffer.resize(100); return content;'],
    [
      'transferred to another thread before',
      "new (require('node:worker_threads').MessageChannel)().port1.postMessage(0, [buffer]); return content;",
    ],
  ];
  const GIVES: [when: string, source: string][] = [
    ['in a microtask after it has answered', `queueMicrotask(() => { ${DETACH} }); return content;`],
    ['in a later turn', `setImmediate(() => { ${DETACH} }); return Promise.resolve(content);`],
    ['never', 'return content;'],
  ];

  const opsOf = (view: string, body: string): string => `fault(page) {
    const buffer = new ArrayBuffer(8192, { maxByteLength: 8192 });
    const content = ${view};
    new Uint8Array(buffer).fill(7);
    ${body}
  }`;
  const PLACES: [where: string, make: (ops: string) => Promise<DeviceBase>][] = [
    ['in this thread', (ops) => Promise.resolve(modelOf(ops))],
    ['in a worker', (ops) => Device.spawn(BY_SOURCE, { data: { ops } })],
  ];
  function modelOf(source: string): Device {
    // eslint-disable-next-line @typescript-eslint/no-implied-eval
    const ops = (new Function('require', `return { ${source} };`) as (...given: unknown[]) => DeviceOps)(require);
    return new Device({ name: 'odd', regions: [{ name: 'ram', size: 4096 }], ops });
  }

  describe.each(PLACES)('%s', (_where, make) => {
    async function touched(view: string, body: string): Promise<{ result: (number | string)[]; faults: DeviceFaultInfo[] }> {
      const made = await make(opsOf(view, body));
      const faults: DeviceFaultInfo[] = [];
      made.on('fault', (info) => faults.push(info));
      const target = new Uint8Array(4096);
      const result = await made
        .open()
        .map({ region: 'ram' })
        .readAsync(0, target)
        .then(
          () => [target[0], target[4095]],
          ({ code, cause }: { code: string; cause: string }) => [code, cause],
        );
      if (typeof result[0] === 'string') await until('the fault is emitted', () => faults.length > 0);
      await made.unplug();
      return { result, faults };
    }

    test.each(FAILS)('%s: the op has failed', async (_when, body) => {
      for (const [what, view] of VIEWS) {
        // One as long as its buffer is shorter, then, and so is what it answers.
        if (body.includes('resize') && what.includes('as long as')) continue;
        const { result, faults } = await touched(view, body);
        expect([what, result]).toEqual([what, ['ERR_BACKING_FAULT', 'failed']]);
        expect(faults).toMatchObject([{ op: 'fault', cause: 'failed', index: 0, error: { code: 'ERR_DEVICE_OP_FAILED' } }]);
        expect((faults[0].error as Error).message).toBe(
          'odd: fault: answered with bytes whose buffer has been detached or shortened',
        );
      }
    });

    test.each(GIVES)('%s: the bytes are the page', async (_when, body) => {
      for (const [what, view] of VIEWS) {
        expect([what, await touched(view, body)]).toEqual([what, { result: [7, 7], faults: [] }]);
      }
    });

    test('an empty one that is whole is a page of zeros', async () => {
      expect(await touched('new Uint8Array(buffer, 0, 0)', 'return content;')).toEqual({ result: [0, 0], faults: [] });
      expect(await touched('new DataView(buffer, 0, 0)', 'return content;')).toEqual({ result: [0, 0], faults: [] });
    });
  });
});
