/** `wait()` takes its listener off the caller's signal, whichever way the wait ends. */
import { getEventListeners } from 'node:events';
import { Device, MemoryObject, type Mapping, type WaitOptions } from 'revocable-mmap';
import { until } from '../support/until.js';

const objects: MemoryObject[] = [];
const devices: Device[] = [];
function mapped(): Mapping {
  const object = MemoryObject.create({ size: 4096 });
  objects.push(object);
  return object.map();
}
afterEach(async () => {
  for (const object of objects.splice(0)) object.close();
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

type End = (mapping: Mapping, controller: AbortController) => unknown;

/** What the wait comes to, or the code or message of its error. */
async function ending(wait: Promise<unknown>): Promise<unknown> {
  try {
    return await wait;
  } catch (error) {
    return (error as { code?: string }).code ?? (error as Error).message;
  }
}

const ENDS: [how: string, options: WaitOptions, expected: number, end: End, result: unknown][] = [
  [
    'is woken',
    {},
    0,
    // A wake before it sleeps would wake no waiter: again.
    (mapping) => until('one is woken', () => mapping.wake(0) === 1),
    'ok',
  ],
  ['finds another word', {}, 1, () => undefined, 'not-equal'],
  ['runs out of time', { timeout: 1 }, 0, () => undefined, 'timed-out'],
  ['is aborted', {}, 0, (_mapping, controller) => controller.abort(new Error('enough')), 'enough'],
  ['loses its memory', {}, 0, (mapping) => mapping.object.revoke(), 'ERR_MAPPING_REVOKED'],
  ['is suspended', {}, 0, (mapping) => mapping.object.suspend(), 'ERR_MAPPING_SUSPENDED'],
  ['loses its mapping', {}, 0, (mapping) => mapping.close(), 'ERR_MAPPING_CLOSED'],
  ['loses its object', {}, 0, (mapping) => mapping.object.close(), 'ERR_MAPPING_CLOSED'],
];

test.each(ENDS)('a wait that %s', async (_how, options, expected, end, result) => {
  const mapping = mapped();
  const controller = new AbortController();
  const { signal } = controller;
  const wait = ending(mapping.wait(0, expected, { ...options, signal }));
  expect(listeners(signal)).toBe(1);
  await end(mapping, controller);
  expect(await wait).toBe(result);
  expect(listeners(signal)).toBe(0);
});

describe('a wait for a word in a page that a device has yet to supply', () => {
  /** Answers when it is allowed to. */
  function supplied(): { mapping: Mapping; answer: (content: unknown) => void; asked: () => number } {
    let answer!: (content: unknown) => void;
    const content = new Promise<unknown>((resolve) => (answer = resolve));
    const fault = (): Promise<never> => content as Promise<never>;
    const device = new Device({ name: 'tested', regions: [{ size: 4096 }], ops: { fault }, opTimeout: 1000 });
    devices.push(device);
    return { mapping: device.open().map(), answer, asked: () => device.opCounts.fault };
  }
  const PAGE_ENDS: [how: string, options: WaitOptions, end: (answer: (content: unknown) => void) => unknown, result: unknown][] =
    [
      ['with another word', {}, (answer) => answer(new Uint8Array(4096).fill(1)), 'not-equal'],
      ['and fails', {}, (answer) => answer('sigbus'), 'ERR_BACKING_FAULT'],
      ['too late', { timeout: 20 }, () => undefined, 'timed-out'],
    ];

  test.each(PAGE_ENDS)('%s', async (_how, options, end, result) => {
    const { mapping, answer, asked } = supplied();
    const { signal } = new AbortController();
    const wait = ending(mapping.wait(0, 0, { ...options, signal }));
    expect(listeners(signal)).toBe(1);
    await until('the page is asked for', () => asked() === 1);
    await end(answer);
    expect(await wait).toBe(result);
    expect(listeners(signal)).toBe(0);
    answer(undefined);
  });

  test('and aborted meanwhile', async () => {
    const { mapping, answer, asked } = supplied();
    const controller = new AbortController();
    const wait = ending(mapping.wait(0, 0, { signal: controller.signal }));
    await until('the page is asked for', () => asked() === 1);
    expect(listeners(controller.signal)).toBe(1);
    controller.abort(new Error('enough'));
    expect(await wait).toBe('enough');
    expect(listeners(controller.signal)).toBe(0);
    answer(undefined);
  });

  test.each(Array.from({ length: 20 }, (_, i) => i))('and aborted %i microtasks after it has come', async (microtasks) => {
    const { mapping, answer } = supplied();
    const controller = new AbortController();
    const readAsync = mapping.readAsync.bind(mapping);
    mapping.readAsync = async (...given) => {
      const read = await readAsync(...given);
      void (async (): Promise<void> => {
        for (let i = 0; i < microtasks; i++) await Promise.resolve();
        controller.abort(new Error('enough'));
      })();
      return read;
    };
    const wait = ending(mapping.wait(0, 0, { signal: controller.signal, timeout: 10_000 }));
    answer(undefined);
    expect(await wait).toBe('enough');
    expect(listeners(controller.signal)).toBe(0);
  });
});

test('waitSync() does not listen', () => {
  const mapping = mapped();
  const { signal } = new AbortController();
  expect(mapping.waitSync(0, 1, { signal })).toBe('not-equal');
  expect(mapping.waitSync(0, 0, { signal, timeout: 1 })).toBe('timed-out');
  expect(listeners(signal)).toBe(0);
});
