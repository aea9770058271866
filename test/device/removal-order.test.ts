/** What comes in which order at the end of a device, and what does not come. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Device,
  type DeviceBase,
  type DeviceFaultInfo,
  type DeviceFile,
  type DeviceMappingInfo,
  type DeviceOps,
  type OpenFile,
} from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild } from '../support/child.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';
import { until } from '../support/until.js';

const PAGE = 4096;
const MODEL = join(__dirname, '..', 'children', 'devices', 'by-source.cjs');
const GONE = { code: 'ENODEV', errno: -19 };

const devices: DeviceBase[] = [];
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});
function device(ops: DeviceOps, opTimeout = 20_000): Device {
  const regions = [{ size: 8 * PAGE }, { size: PAGE, kind: 'registers' as const }];
  const made = new Device({ name: 'tested', opTimeout, regions, ops });
  devices.push(made);
  return made;
}

/** The ops that begin and end files and mappings, in order; files and mappings numbered from 1. */
function logged(mmap: (log: string[]) => void = () => undefined): { log: string[]; ops: DeviceOps } {
  const log: string[] = [];
  const mappings = new Map<number, number>();
  const files = new Map<OpenFile, number>();
  return {
    log,
    ops: {
      open: (file) => void log.push(`open ${files.set(file, files.size + 1).size}`),
      mmap(file) {
        log.push(`mmap of ${files.get(file)}`);
        mmap(log);
      },
      close({ mapping }: DeviceMappingInfo) {
        if (!mappings.has(mapping)) mappings.set(mapping, mappings.size + 1);
        log.push(`close ${mappings.get(mapping)}`);
      },
      release: (file) => void log.push(`release ${files.get(file)}`),
    },
  };
}

describe('R6 close of every mapping comes before release of its file', () => {
  test('also if the mmap op closes its own file', async () => {
    const { log, ops } = logged(() => file.close());
    const made = device(ops);
    const file = made.open();
    const mapping = file.map();
    expect([log, file.state, mapping.state]).toEqual([['open 1', 'mmap of 1'], 'closed', 'live']);
    mapping.close();
    await until('it is released', () => log.length === 4);
    expect(log).toEqual(['open 1', 'mmap of 1', 'close 1', 'release 1']);
    await made.unplug();
    expect(log.length).toBe(4);
  });

  test('also if it closes its own file, and the device is removed then', async () => {
    const { log, ops } = logged(() => file.close());
    const made = device(ops);
    const file = made.open();
    file.map();
    expect(await made.unplug()).toMatchObject({ mappings: 1, files: 1 });
    expect(log).toEqual(['open 1', 'mmap of 1', 'close 1', 'release 1']);
  });

  test.each([
    ['closes its file and refuses', (file: DeviceFile) => file.close(), 'EBUSY'],
    ['closes its file and has the device removed', (file: DeviceFile) => (file.close(), void file.device.unplug()), 'ENODEV'],
    ['has the device removed, and closes its file', (file: DeviceFile) => (void file.device.unplug(), file.close()), 'ENODEV'],
  ])('an mmap op that %s: one release, and no close', async (_, end, code) => {
    const { log, ops } = logged(() => {
      end(file);
      throw Object.assign(new Error('busy'), { errno: -16, code: 'EBUSY', syscall: 'mmap' });
    });
    const made = device(ops);
    const file = made.open();
    expect(thrownBy(() => file.map())).toMatchObject({ code });
    await made.unplug();
    expect(log).toEqual(['open 1', 'mmap of 1', 'release 1']);
  });

  test.each(['unplug', 'remove'] as const)('of many, some closed before, by %s()', async (how) => {
    const { log, ops } = logged();
    const made = device(ops);
    const files = [made.open(), made.open(), made.open()];
    const mappings = files.flatMap((file) => [file.map(), file.map({ length: PAGE })]);
    files[0].close();
    mappings[2].close();
    await until('the event has come', () => log.includes('close 1'));
    const begun = log.splice(0).length;
    expect(begun).toBe(3 + 6 + 1);
    await (how === 'unplug' ? made.unplug() : made.remove({ timeout: 10 }));
    expect(log.slice(0, 5).map((entry) => entry.split(' ')[0])).toEqual(Array(5).fill('close'));
    expect(log.slice(5).sort()).toEqual(['release 1', 'release 2', 'release 3']);
  });
});

describe("a caller that has given up because the device's thread is busy", () => {
  /** Keeps the device's thread in `op`, the next time that it is called, until `free` is called. */
  interface Busy {
    isEntered: () => boolean;
    free: () => void;
  }

  interface Controlled {
    made: DeviceBase;
    log: () => Promise<string[]>;
    keepIn: (op: string) => Promise<Busy>;
    ioctl: () => Promise<unknown>;
  }

  /** Its ops log their names; a file of its own controls it. */
  async function controlled(): Promise<Controlled> {
    const enter = `(op) => {
      log.push(op);
      if (kept !== op) return;
      kept = '';
      Atomics.store(flags, 1, 1);
      Atomics.wait(flags, 0, 0);
    }`;
    const logging = ['open', 'mmap', 'close', 'release'].map((op) => `${op}() { enter('${op}'); }`);
    const ioctl = `ioctl(file, command, argument) {
      if (command === 0) return log.splice(0);
      if (command === 1) [kept, flags] = argument;
      else enter('ioctl');
    }`;
    const first = `globalThis.log = []; globalThis.kept = ''; globalThis.flags = undefined; globalThis.enter = ${enter};`;
    const made = await Device.spawn(MODEL, { data: { ops: [ioctl, ...logging].join(), opTimeout: 300, first } });
    devices.push(made);
    const control = made.open();
    const log = async (): Promise<string[]> => (await control.ioctl(0)) as string[];
    expect(await log()).toEqual(['open']);
    return {
      made,
      log,
      ioctl: () => control.ioctl(2),
      keepIn: async (op) => {
        const flags = new Int32Array(new SharedArrayBuffer(8));
        await control.ioctl(1, [op, flags]);
        return {
          isEntered: () => Atomics.load(flags, 1) === 1,
          free: () => {
            Atomics.store(flags, 0, 1);
            Atomics.notify(flags, 0);
          },
        };
      },
    };
  }

  async function expectFilesOpen(made: DeviceBase, files: number): Promise<void> {
    expect(await made.remove({ timeout: 0 })).toMatchObject({ files, mappings: 0, abandonedOps: 0 });
  }

  test('what its open op has opened is released', async () => {
    const { made, log, keepIn } = await controlled();
    const { free } = await keepIn('open');
    expect(thrownBy(() => made.open())).toMatchObject({ code: 'ERR_DEVICE_OP_TIMEOUT', op: 'open' });
    free();
    expect(await log()).toEqual(['open', 'release']);
    await expectFilesOpen(made, 1);
  });

  test('what its mmap op has allowed counts no more: its file is released when it is closed', async () => {
    const { made, log, keepIn } = await controlled();
    const file = made.open();
    const { free } = await keepIn('mmap');
    expect(thrownBy(() => file.map())).toMatchObject({ code: 'ERR_DEVICE_OP_TIMEOUT', op: 'mmap' });
    free();
    expect(await log()).toEqual(['open', 'mmap']);
    file.close();
    expect(await log()).toEqual(['release']);
    await expectFilesOpen(made, 1);
  });

  test('a file that it has closed is released when the thread has time', async () => {
    const { made, log, keepIn, ioctl } = await controlled();
    const file = made.open();
    const { isEntered, free } = await keepIn('ioctl');
    const busy = ioctl();
    await until('it is busy', isEntered);
    file.close();
    expect(file.state).toBe('closed');
    free();
    await busy;
    made.open(); // calls come in order
    expect(await log()).toEqual(['open', 'ioctl', 'release', 'open']);
    await expectFilesOpen(made, 2);
  });

  test('an op that was not called in time is not called later', async () => {
    const { made, log, keepIn, ioctl } = await controlled();
    const file = made.open();
    const { isEntered, free } = await keepIn('ioctl');
    const busy = ioctl();
    await until('it is busy', isEntered);
    expect(thrownBy(() => made.open())).toMatchObject({ code: 'ERR_DEVICE_OP_TIMEOUT', op: 'open' });
    expect(thrownBy(() => file.map())).toMatchObject({ code: 'ERR_DEVICE_OP_TIMEOUT', op: 'mmap' });
    free();
    await busy;
    file.close();
    expect(await log()).toEqual(['open', 'ioctl', 'release']);
    await expectFilesOpen(made, 1);
  });
});

describe('an op that has its device removed: its caller gets ENODEV, whatever it answers', () => {
  const PLACES: [where: string, make: (ops: string) => Promise<DeviceBase>][] = [
    [
      'in this thread',
      (source) => {
        // eslint-disable-next-line @typescript-eslint/no-implied-eval
        const ops = new Function(`return { ${source} };`)() as DeviceOps;
        return Promise.resolve(device(ops));
      },
    ],
    ['in a worker of its own', (ops) => Device.spawn(MODEL, { data: { ops } })],
  ];
  const CALLS: [op: string, answer: string, call: (made: DeviceBase, file: DeviceFile) => unknown, code: string][] = [
    ['open', '', (made) => made.open(), 'ENODEV'],
    ['mmap', "return { access: 'r' }", (_, file) => file.map(), 'ENODEV'],
    ['read', 'return 1', (_, file) => file.read(new Uint8Array(1)), 'ENODEV'],
    ['write', 'return 1', (_, file) => file.write(new Uint8Array(1)), 'ENODEV'],
    ['ioctl', 'return 1', (_, file) => file.ioctl(1), 'ENODEV'],
    ['poll', 'return 1', (_, file) => file.poll(), 'ENODEV'],
    ['readRegister', 'return 1', (_, file) => file.map({ region: 1 }).read32(0), 'ERR_MAPPING_REVOKED'],
    ['writeRegister', '', (_, file) => file.map({ region: 1 }).write32(0, 1), 'ERR_MAPPING_REVOKED'],
  ];
  const answers: [how: string, of: (answer: string) => string][] = [
    ['answers', (answer) => answer],
    ['throws', () => "throw Object.assign(new Error('busy'), { errno: -16, code: 'EBUSY', syscall: 'x' })"],
  ];
  describe.each(PLACES)('%s', (_where, make) => {
    describe.each(answers)('that %s', (_how, answerOf) => {
      test.each(CALLS)('%s', async (op, answer, call, code) => {
        const arm = op === 'open' ? 'if (this.opened !== true) return void (this.opened = true);' : '';
        const made = await make(
          `attach(made) { this.made = made; }, ${op}() { ${arm} void this.made.unplug(); ${answerOf(answer)}; }`,
        );
        devices.push(made);
        made.on('fault', () => undefined);
        const file = made.open();
        expect(await rejectionOf((async () => call(made, file))())).toMatchObject({ code });
        expect([made.state, file.state]).toEqual(['removed', 'gone']);
        expect(await made.unplug()).toMatchObject({ removedByThisCall: false, files: 1, abandonedOps: 0 });
      });
    });
  });

  test('a file that is opened meanwhile is released, and is none of those that were open', async () => {
    const { log, ops } = logged();
    const { open } = ops;
    const made: Device = device({
      ...ops,
      open(file) {
        open?.(file);
        if (log.length === 2) void made.unplug();
      },
    });
    made.open();
    expect(thrownBy(() => made.open())).toMatchObject(GONE);
    expect(await made.unplug()).toMatchObject({ files: 1 });
    expect(log.sort()).toEqual(['open 1', 'open 2', 'release 1', 'release 2']);
  });
});

describe("nothing is emitted after 'removed'", () => {
  test('by a device whose ops fail afterwards: no fault, no warning', async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warned);
    const toucher = await Toucher.start();
    for (const listens of [true, false]) {
      const events: string[] = [];
      let fail: ((error: Error) => void) | undefined;
      const made = device({ fault: () => new Promise((_, reject) => (fail = reject)), close: () => undefined }, 1000);
      for (const event of ['suspended', 'resumed', 'remove-requested', 'removed'] as const)
        made.on(event, () => events.push(event));
      if (listens) made.on('fault', ({ cause }) => events.push(cause));
      const touch = toucher.touch(made.open().map(), 0);
      await until('it is asked', () => fail !== undefined);
      const suspension = made.suspend().catch(() => undefined);
      expect(await made.unplug()).toMatchObject({ abandonedOps: 1 });
      await Promise.all([touch, suspension]);
      await until('the event has come', () => events.includes('removed'));
      fail!(new Error('too late'));
      await barrier();
      expect(events.at(-1)).toBe('removed');
      expect(events.filter((event) => event === 'failed')).toEqual([]);
    }
    await toucher.end();
    process.off('warning', warned);
    expect(warnings).toEqual([]);
  });

  test('by a device that is suspended, resumed and asked for while it is removed', async () => {
    for (let round = 0; round < 30; round++) {
      const events: string[] = [];
      const made = device({});
      const file = made.open();
      made.open().map();
      for (const event of ['suspended', 'resumed', 'remove-requested', 'removed'] as const)
        made.on(event, () => events.push(event));
      file.on('gone', () => events.push('gone'));
      file.on('remove-requested', () => events.push('remove-requested'));
      const calls = [made.suspend(), made.resume(), made.remove({ timeout: round % 3 }), made.suspend()];
      if (round % 2 === 0) calls.push(made.unplug());
      await Promise.allSettled(calls);
      await until('the event has come', () => events.includes('removed'));
      await barrier();
      expect([round, events.slice(-2)]).toEqual([round, ['gone', 'removed']]);
    }
  });
});

describe('R6 an op that obeys its signal has not failed', () => {
  const OBEYS: [how: string, wait: (signal: AbortSignal) => Promise<unknown>][] = [
    [
      "with the signal's reason",
      (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    ],
    ['with the AbortError of a timer', (signal) => sleep(60_000, undefined, { signal })],
    [
      'by throwIfAborted()',
      async (signal) => {
        while (!signal.aborted) await sleep(1);
        signal.throwIfAborted();
      },
    ],
    [
      "by answering 'sigbus'",
      async (signal) => {
        while (!signal.aborted) await sleep(1);
        return 'sigbus';
      },
    ],
  ];
  const ENDS: [what: string, end: (made: Device, mapping: { close(): void }) => unknown, causes: string[]][] = [
    ['its device is removed', (made) => made.unplug(), []],
    ['its region is revoked', (made) => made.region(0).object.revoke(), []],
    ['its mapping is closed', (_, mapping) => mapping.close(), []],
    ['its time is up', () => undefined, ['no-answer']],
  ];
  describe.each(ENDS)('when %s', (what, end, causes) => {
    test.each(OBEYS)('%s', async (_, wait) => {
      const heard: DeviceFaultInfo[] = [];
      let running = 0;
      const made = device(
        {
          async fault(page) {
            ++running;
            try {
              return (await wait(page.signal)) as 'sigbus';
            } finally {
              --running;
            }
          },
        },
        what === 'its time is up' ? 1000 : 20_000,
      );
      made.on('fault', (info) => heard.push(info));
      const mapping = made.open().map();
      const access = mapping.readAsync(0, new Uint8Array(1)).catch(() => undefined);
      await until('it runs', () => running === 1);
      await end(made, mapping);
      await access;
      await until('it ends', () => running === 0);
      await barrier();
      expect(heard.map(({ cause }) => cause)).toEqual(causes);
    });
  });

  test('but one that fails of something else has', async () => {
    const heard: DeviceFaultInfo[] = [];
    const own = new Error('my own');
    const made = device({
      fault: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(own))),
    });
    made.on('fault', (info) => heard.push(info));
    const access = made
      .open()
      .map()
      .readAsync(0, new Uint8Array(1))
      .catch(() => undefined);
    await until('it runs', () => made.opCounts.fault === 1);
    await made.unplug();
    await access;
    await barrier();
    expect(heard).toMatchObject([{ op: 'fault', cause: 'failed', error: own }]);
  });

  test('nor is it warned of, here or in a worker', async () => {
    const { status, signal, stderr, value } = await runInChild(
      async ({ Device }, require, model) => {
        const { setTimeout: sleep } = require('node:timers/promises') as typeof import('node:timers/promises');
        const fault = async ({ signal }: { signal: AbortSignal }): Promise<undefined> => {
          // Source text to the worker: it sees nothing of its surroundings.
          const { setTimeout } = process.getBuiltinModule('node:timers/promises');
          await setTimeout(60_000, undefined, { signal });
        };
        const here = new Device({ name: 'tested', regions: [{ size: 4096 }], ops: { fault } });
        const there = await Device.spawn(model, { data: { ops: `fault: ${fault.toString()}`, first: '' } });
        const codes = await Promise.all(
          [here, there].map(async (device) => {
            const mapping = device.open().map();
            const access = mapping.readAsync(0, new Uint8Array(1)).catch((error: { code: string }) => error.code);
            await sleep(50);
            await device.unplug();
            return access;
          }),
        );
        return codes;
      },
      { input: MODEL },
    );
    expect([status, signal, stderr, value]).toEqual([0, null, '', ['ERR_MAPPING_REVOKED', 'ERR_MAPPING_REVOKED']]);
  });
});
