/** A spawned device that dies, at any point of its start and its life. Its user lives, and hears of it as documented. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  Device,
  Mapping,
  stats,
  type DeviceFile,
  type MappingHandle,
  type RemovalReport,
  type SpawnedDevice,
} from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild, type ChildResult } from '../support/child.js';
import { nodeMajor } from '../support/conditions.js';
import { rounds } from '../support/rounds.js';
import { temporaryDirectory } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { Toucher } from '../support/touchers.js';
import { until } from '../support/until.js';

const ROUNDS = rounds(40);

/** A module that makes a device of `ops`; `die` is called where the source says so. Shared words: flag, thread. */
function modelOf(parts: { die: string; top?: string; factory?: string; ops?: string; handlers?: boolean }): string {
  const path = join(temporaryDirectory(), 'model.mjs');
  writeFileSync(
    path,
    `import { readlinkSync } from 'node:fs';
     import { basename } from 'node:path';
     import { workerData } from 'node:worker_threads';
     const words = new Int32Array(workerData.data ?? new SharedArrayBuffer(8));
     words[1] = Number(basename(readlinkSync('/proc/thread-self')));
     ${parts.handlers === true ? "for (const event of ['uncaughtException', 'unhandledRejection']) process.on(event, () => undefined);" : ''}
     const die = () => { Atomics.store(words, 0, 1); ${parts.die} };
     ${parts.top ?? ''}
     export default async () => {
       ${parts.factory ?? ''}
       return { name: 'mortal', opTimeout: 20_000, regions: [{ size: 4096 }, { size: 4096, kind: 'registers' }], ops: { ${parts.ops ?? ''} } };
     };`,
  );
  return path;
}

interface Death {
  die: string;
  /** What its user hears of it: the error's code, or its message where it has none. */
  heard: string;
  nodeArgs?: string[];
}
const ENDED = 'ERR_DEVICE_OP_FAILED: ended before the device was there';
/** Node 24 aborts the process when a worker's heap is full, and Node 26 goes on collecting garbage. */
const FULL_HEAPS_END_WORKERS = nodeMajor() < 24;
const DEATHS: Record<string, Death> = {
  'an exception': {
    die: "throw Object.assign(new TypeError('worn out'), { code: 'EWORN' });",
    heard: 'TypeError EWORN: worn out',
  },
  'process.exit(0)': { die: 'process.exit(0);', heard: ENDED },
  'process.exit(3)': { die: 'process.exit(3);', heard: ENDED },
  ...(FULL_HEAPS_END_WORKERS && {
    'a heap that is full': {
      die: 'const kept = []; for (;;) kept.push(new Array(1000).fill(0.5));',
      heard: 'Error ERR_WORKER_OUT_OF_MEMORY: ',
      nodeArgs: ['--max-old-space-size=40'],
    },
  }),
};
const later = (call: string): string => `setTimeout(() => { ${call} }, 1);`;

const survived = ({ status, signal, stderr }: ChildResult): unknown[] => [status, signal, stderr];

/** Spawns the device; what that rejects with, or 'there'. */
function spawnIn(model: string, nodeArgs: string[] | undefined): Promise<ChildResult & { value: string | undefined }> {
  return runInChild(
    async ({ Device }, _require, path) => {
      try {
        await Device.spawn(path, { data: new SharedArrayBuffer(8) });
        return 'there';
      } catch (error) {
        const { name, code, message } = error as Error & { code?: string };
        return name === 'DeviceOpError' ? `${code}: ${message.split(': ').at(-1)}` : `${name} ${code}: ${message}`;
      }
    },
    { input: model, ...(nodeArgs === undefined ? {} : { nodeArgs }) },
  );
}

describe('Device.spawn() rejects when its worker dies', () => {
  const points: [where: string, parts: Omit<Parameters<typeof modelOf>[0], 'die'>][] = [
    ['during the import', { top: 'die();' }],
    ['during the import, on a later turn', { top: `${later('die();')} await new Promise(() => undefined);` }],
    ['in the factory', { factory: 'die();' }],
    ['in the factory, on a later turn', { factory: 'await new Promise((resolve) => setTimeout(resolve, 1)); die();' }],
    ['in attach', { ops: 'attach() { die(); }' }],
  ];
  describe.each(points)('%s', (_where, parts) => {
    test.each(Object.entries(DEATHS))('by %s', async (_how, { die, heard, nodeArgs }) => {
      const run = await spawnIn(modelOf({ ...parts, die }), nodeArgs);
      expect([...survived(run), run.value?.slice(0, heard.length)]).toEqual([
        0,
        null,
        nodeArgs === undefined ? '' : run.stderr,
        heard,
      ]);
    });
  });

  test('with the error of its factory, also if the model handles exceptions and rejections of all kinds', async () => {
    for (const parts of [{ factory: 'die();' }, { top: 'die();' }, { ops: 'attach() { die(); }' }]) {
      const run = await spawnIn(modelOf({ ...parts, ...DEATHS['an exception'], handlers: true }), undefined);
      expect([...survived(run), run.value]).toEqual([0, null, '', 'TypeError EWORN: worn out']);
    }
  });
});

/** What becomes of a device that dies by itself at `model`'s own time. The child's main thread is blocked from the call until `until`. */
function spawnBlocked(
  model: string,
  until: string,
  nodeArgs: string[] | undefined,
): Promise<ChildResult & { value: string[] | undefined }> {
  return runInChild(
    async ({ Device }, require, input) => {
      const { existsSync } = require('node:fs') as typeof import('node:fs');
      const { once } = require('node:events') as typeof import('node:events');
      const words = new Int32Array(new SharedArrayBuffer(8));
      const text = (error: unknown): string => {
        const { name, code, message } = error as Error & { code?: string };
        return name === 'DeviceOpError' ? `${code}: ${message.split(': ').at(-1)}` : `${name} ${code}: ${message}`;
      };
      const spawning = Device.spawn(input.model, { data: words.buffer });
      if (input.until !== 'it is there') while (Atomics.load(words, 0) === 0);
      if (input.until === 'its thread has ended') while (existsSync(`/proc/self/task/${words[1]}`));
      const heard: string[] = [];
      const alive = setInterval(() => undefined, 1000);
      try {
        const device = await spawning;
        heard.push('there');
        words[1] = -1; // it may die now
        device.on('fault', ({ op, error }) => heard.push(`${op}: ${text(error)}`));
        await once(device, 'removed');
        heard.push(`${device.state} ${(await device.unplug()).removedByThisCall}`);
      } catch (error) {
        heard.push(text(error));
      }
      clearInterval(alive);
      return heard;
    },
    { input: { model, until }, ...(nodeArgs === undefined ? {} : { nodeArgs }) },
  );
}

describe('a device whose worker dies when it is there', () => {
  const ways: [when: string, ops: string][] = [
    ['in the turn in which it is made', 'attach() { queueMicrotask(die); }'],
    ['1 ms after that', `attach() { ${later('die();')} }`],
  ];
  describe.each(ways)('%s', (_when, ops) => {
    test.each(Object.entries(DEATHS))(
      'by %s, and before its user looks: Device.spawn() rejects',
      async (_how, { die, heard, nodeArgs }) => {
        const run = await spawnBlocked(modelOf({ ops, die }), 'its thread has ended', nodeArgs);
        expect([...survived(run), run.value?.map((text) => text.slice(0, heard.length))]).toEqual([
          0,
          null,
          nodeArgs === undefined ? '' : run.stderr,
          [heard],
        ]);
      },
    );
  });

  test.each(Object.entries(DEATHS))('by %s, later: it has been removed', async (_how, { die, heard, nodeArgs }) => {
    const model = modelOf({
      ops: 'attach() { const look = setInterval(() => { if (words[1] < 0) { clearInterval(look); die(); } }, 1); }',
      die,
    });
    const run = await spawnBlocked(model, 'it is there', nodeArgs);
    const fault = heard === ENDED ? [] : [`worker: ${heard}`];
    expect([...survived(run), run.value?.map((text) => text.slice(0, `worker: ${heard}`.length))]).toEqual([
      0,
      null,
      nodeArgs === undefined ? '' : run.stderr,
      ['there', ...fault, 'removed false'],
    ]);
  });

  test('at any moment around that: it rejects, or the device is removed, and its user lives', async () => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
    const model = modelOf({
      ops: 'attach() { setTimeout(die, words[0]); words[0] = 0; }',
      die: "if (words[1] % 2) process.exit(1); throw new Error('worn out');",
    });
    const run = await runInChild(
      async ({ Device }, require, input) => {
        const { once } = require('node:events') as typeof import('node:events');
        let state = input.seed;
        const random = (most: number): number => (state = Math.imul(state, 48271) & 0x7fffffff || 1) % most;
        const outcomes: Record<string, number> = {};
        const alive = setInterval(() => undefined, 1000);
        for (let round = 0; round < input.rounds; round++) {
          const words = new Int32Array(new SharedArrayBuffer(8));
          words[0] = random(4);
          let outcome: string;
          try {
            const spawning = Device.spawn(input.model, { data: words.buffer });
            const blocked = random(150);
            if (random(3) > 0) for (const end = Date.now() + blocked; Date.now() < end;);
            const device = await spawning;
            device.on('fault', () => undefined);
            await once(device, 'removed');
            outcome = device.state;
          } catch (error) {
            outcome = (error as Error).message.split(': ').at(-1)!;
          }
          outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
        }
        clearInterval(alive);
        return outcomes;
      },
      { input: { model, seed, rounds: ROUNDS }, limit: 220_000 },
    );
    const known = ['removed', 'worn out', 'ended before the device was there'];
    expect([
      `seed ${seed}`,
      ...survived(run),
      Object.keys(run.value ?? {}).filter((outcome) => !known.includes(outcome)),
    ]).toEqual([`seed ${seed}`, 0, null, '', []]);
    expect(Object.values(run.value!).reduce((sum, count) => sum + count)).toBe(ROUNDS);
  });
});

describe('a worker that dies in an op', () => {
  type Call = (file: DeviceFile, device: SpawnedDevice) => unknown;
  const calls: [op: string, call: Call, code: string][] = [
    ['open', (_, made) => made.open(), 'ENODEV'],
    ['mmap', (file) => file.map(), 'ENODEV'],
    ['read', (file) => file.read(new Uint8Array(1)), 'ENODEV'],
    ['write', (file) => file.write(new Uint8Array(1)), 'ENODEV'],
    ['ioctl', (file) => file.ioctl(1), 'ENODEV'],
    ['poll', (file) => file.poll(), 'ENODEV'],
    ['fault', (file) => file.map().read8(0), 'ERR_MAPPING_REVOKED'],
    ['pageMkwrite', (file) => file.map().write8(0, 1), 'ERR_MAPPING_REVOKED'],
    ['readRegister', (file) => file.map({ region: 1 }).read32(0), 'ERR_MAPPING_REVOKED'],
    ['writeRegister', (file) => file.map({ region: 1 }).write32(0, 1), 'ERR_MAPPING_REVOKED'],
  ];
  const deaths: [how: string, die: string][] = [
    ['process.exit()', 'process.exit(5);'],
    [
      'an exception that nothing catches',
      "process.nextTick(() => { throw new Error('worn out'); }); return new Promise(() => undefined);",
    ],
  ];
  describe.each(deaths)('by %s', (how, die) => {
    // An op that must be synchronous has answered, wrongly, before the exception comes.
    const synchronous = ['open', 'mmap', 'poll', 'readRegister', 'writeRegister'];
    const possible = calls.filter(([op]) => how === 'process.exit()' || !synchronous.includes(op));
    test.each(possible)('%s: its caller gets an error, and the device has been removed', async (op, call, code) => {
      const first = op === 'open' ? 'if (opened++ === 0) return; ' : '';
      const device = await Device.spawn(modelOf({ top: 'let opened = 0;', ops: `${op}() { ${first}${die} }`, die: '' }));
      device.on('fault', () => undefined);
      const removed = once(device, 'removed');
      const file = device.open();
      expect(await rejectionOf((async () => call(file, device))())).toMatchObject({ code });
      await removed;
      expect([device.state, file.state]).toEqual(['removed', 'gone']);
      expect(await device.unplug()).toMatchObject({ removedByThisCall: false });
    });
  });
});

describe('a worker that dies while its device is removed', () => {
  const moments: [when: string, ops: string][] = [
    ['in close', 'close() { die(); }'],
    ['after close', `close() { ${later('die();')} for (const end = Date.now() + 30; Date.now() < end;); }`],
    ['in release', 'release() { die(); }'],
    [
      'in an op that its signal ends',
      "read(file, target, position, { signal }) { return new Promise(() => signal.addEventListener('abort', die)); }",
    ],
    ["in a listener of 'remove-requested'", "attach(device) { device.on('remove-requested', die); }"],
    ["in a listener of 'removed'", "attach(device) { device.on('removed', die); }"],
  ];
  const ways: [how: string, die: string][] = [
    ['process.exit()', 'process.exit(5);'],
    ['an exception that nothing catches', "process.nextTick(() => { throw new Error('worn out'); });"],
  ];
  describe.each(ways)('by %s', (_how, die) => {
    describe.each(moments)('%s', (_when, ops) => {
      test.each<[name: string, remove: (device: SpawnedDevice) => Promise<RemovalReport>]>([
        ['unplug()', (device) => device.unplug()],
        ['remove()', (device) => device.remove({ timeout: 100 })],
      ])('%s resolves', async (_name, remove) => {
        const device = await Device.spawn(modelOf({ ops, die }));
        const events: string[] = [];
        device.on('fault', () => events.push('fault'));
        const removed = once(device, 'removed').then(() => events.push('removed'));
        const file = device.open();
        const mapping = file.map();
        const reading = rejectionOf(file.read(new Uint8Array(1)));
        expect(await remove(device)).toMatchObject({ device: 'mortal', regions: [{}, {}] });
        await removed;
        expect([device.state, file.state, mapping.state]).toEqual(['removed', 'gone', 'revoked']);
        expect(['ENODEV', 'EINVAL']).toContain((await reading).code);
        await barrier();
        expect(events.at(-1)).toBe('removed');
      });
    });
  });
});

test('the thread that spawned a device is terminated: a thread blocked in a page of the device is woken', async () => {
  const toucher = await Toucher.start();
  const model = modelOf({ ops: 'fault: () => new Promise(() => undefined)', die: '' });
  const spawner = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     parentPort.on('message', () => undefined); // stays
     require('revocable-mmap').Device.spawn(workerData).then((device) => parentPort.postMessage(device.open().map().share()));`,
    { eval: true, workerData: model },
  );
  const [handle] = (await once(spawner, 'message')) as [MappingHandle];
  const { object } = Mapping.attach(handle);
  const mapping = object.map({ fill: 'ones' }); // of this thread: it is not closed with the other
  const asked = stats().devices.pagesAsked;
  const touch = toucher.touch(mapping, 0, { how: 'raw' });
  await until('it is blocked', () => stats().devices.pagesAsked > asked);
  await spawner.terminate();
  expect(await touch).toEqual({ value: 0xff });
  expect(thrownBy(() => object.map())).toMatchObject({ code: 'ENODEV' });
  mapping.close();
  await toucher.end();
});
