import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Mapping } from 'revocable-mmap';
import { touch } from 'revocable-mmap/bench';
import { Device, type DeviceBase, type PageSupply } from 'revocable-mmap/device';
import { cProgram } from '../baseline.mjs';
import { arranged, inProcess } from '../in_process.mjs';
import type { Case, Row, Side, Target } from '../row.mjs';
import registers from './device_model.mjs';

const PAGE = 4096;
const MODEL = new URL('./device_model.mjs', import.meta.url);
const BLOCKED = new URL('./device_blocked.mjs', import.meta.url);
/** Until a thread that has said that it is about to touch a page waits for it. */
const BLOCKS_MS = 50;

/** A device's code is new in its worker: V8 has compiled it after so many pages, which are not measured. */
const WARM_UP = 5000;

/** First touches of pages of a device, which goes afterwards. */
function firstTouches(pages: number, warmUp: number, make: () => DeviceBase | Promise<DeviceBase>): Side {
  return arranged(
    pages,
    async () => {
      const device = await make();
      const mapping = device.open().map();
      if (warmUp > 0) touch(mapping, { length: warmUp * PAGE });
      return { device, mapping };
    },
    ({ mapping }) => void touch(mapping, { offset: warmUp * PAGE }),
    async ({ device }) => void (await device.unplug()),
  );
}

const native = (pages: number, supply: PageSupply): Side =>
  firstTouches(pages, 0, () => new Device({ name: 'bench', regions: [{ size: pages * PAGE, pages: supply }] }));

const inWorker = (pages: number): Side =>
  firstTouches(pages, WARM_UP, () => Device.spawn(MODEL, { data: { pages: WARM_UP + pages } }));

/** Of few pages there is no bound: threads that were asleep are most of what the first ones cost. */
function ofPages(pages: number, subject: () => Side, target?: Target): Case {
  const label = `${pages.toLocaleString('en')} first touches`;
  return { label, size: pages, target, subject, baseline: () => cProgram('uffd', [pages]) };
}

const nativePages = (pages: number, target?: Target): Case => ofPages(pages, () => native(pages, { constant: 7 }), target);
const pagesInWorker = (pages: number, target?: Target): Case => ofPages(pages, () => inWorker(pages), target);

/** From unplug() to the error of a thread that waits for a page. */
const releasing: Side = {
  async sample() {
    const device = await Device.spawn(MODEL, { data: { pages: 1, silent: true } });
    const worker = new Worker(BLOCKED, { workerData: device.open().map().share() });
    await once(worker, 'message');
    await setTimeout(BLOCKS_MS);
    const message = once(worker, 'message') as Promise<[bigint]>;
    const start = process.hrtime.bigint();
    const gone = device.unplug();
    const [end] = await message;
    await gone;
    return Number(end - start);
  },
};

const READS = 2000;

function readAll(mapping: Mapping): void {
  for (let i = 0; i < READS; i++) if (mapping.read32(0) !== 7) throw new Error('a register was wrong');
}

async function registerReads(make: () => DeviceBase | Promise<DeviceBase>): Promise<Side> {
  const device = await make();
  const mapping = device.open().map({ region: 'registers' });
  return inProcess(
    READS,
    () => readAll(mapping),
    () => void device.unplug(),
  );
}

export const rows: Row[] = [
  {
    id: 'fault-op-native',
    title: 'pages of a device, supplied by native code',
    unit: 'ns a page',
    baselineName: 'C userfaultfd loop',
    sizeName: 'pages touched',
    cases: [
      ...[10_000, 100_000].map((pages) => nativePages(pages, { atMost: 1.3 })),
      ...[100, 1000].map((pages) => nativePages(pages)),
    ],
  },
  {
    id: 'fault-op-js',
    title: 'pages of a device, supplied by JavaScript in a worker',
    unit: 'ns a page',
    baselineName: 'C userfaultfd loop',
    sizeName: 'pages touched',
    cases: [...[5000, 20_000].map((pages) => pagesInWorker(pages, { atMost: 3 })), pagesInWorker(500)],
  },
  {
    id: 'release',
    title: 'unplug() to the error of a thread blocked in a page fault',
    unit: 'ns',
    baselineName: 'C MAP_FIXED, wake, SIGBUS, siglongjmp',
    cases: [{ label: 'a worker', subject: () => releasing, baseline: () => cProgram('uffd_release', []) }],
  },
  {
    id: 'register',
    title: 'checked read of a simulated register',
    unit: 'ns',
    baselineName: 'C futex there and back',
    cases: [
      {
        label: 'model in another thread',
        subject: () => registerReads(() => Device.spawn(MODEL, { data: { pages: 1 } })),
        baseline: () => cProgram('handoff', []),
      },
      {
        label: 'model in the same thread',
        subject: () => registerReads(() => new Device(registers({ pages: 1 }))),
        baseline: () => cProgram('handoff', []),
      },
    ],
  },
];
