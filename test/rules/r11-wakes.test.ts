import { setMaxListeners } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { runChild, runInChild } from '../support/child.js';
import { converse } from '../support/conversation.js';
import { rounds as scaled } from '../support/rounds.js';
import { until, within } from '../support/until.js';

const WAITER = join(__dirname, '..', 'children', 'r11-waiter.cjs');
// Without futex_waitv each revocation is noticed by polling, so those rounds take long and there are fewer.
const KERNELS = [
  ['', '', scaled(500)],
  [' (a kernel without futex_waitv)', 'futex-waitv', scaled(50)],
] as const;

/** A worker in waitSync; `outcome` is what it returned or the code of what it threw. */
function waiterThread(
  mapping: Mapping,
  more: Record<string, unknown> = {},
): { started: Promise<void>; outcome: Promise<unknown>; worker: Worker } {
  const worker = new Worker(WAITER, { workerData: { handle: mapping.share(), ...more } });
  let begun: () => void;
  const started = new Promise<void>((resolve) => (begun = resolve));
  const outcome = new Promise<unknown>((resolve, reject) => {
    worker.on('message', (message) => (message === 'waiting' ? begun() : resolve(message)));
    worker.on('error', reject);
  });
  return { started, outcome, worker };
}

const FUTEX_WAITV = '449'; // the same number on every architecture

/** Whether a thread of the process sleeps in futex_waitv(2). */
function sleepsInFutexWaitv(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).some((task) => {
    try {
      return readFileSync(`/proc/${pid}/task/${task}/syscall`, 'utf8').split(' ')[0] === FUTEX_WAITV;
    } catch {
      return false; // it has ended meanwhile
    }
  });
}

const objects: MemoryObject[] = [];

/** Closed after the test, also after one that failed: a wait that is still pending keeps the process alive. */
function create(size: number): MemoryObject {
  objects.push(MemoryObject.create({ size }));
  return objects[objects.length - 1];
}

/** A wait that is not woken hangs: that is said long before the minutes are up that all other tests may take. */
const LIMIT = 100_000;
jest.setTimeout(LIMIT + 10_000);

afterEach(() => {
  for (const object of objects.splice(0)) object.close();
});

describe('R11 waits end when the memory goes', () => {
  describe.each(KERNELS)('promises, in one process%s', (_, without, rounds) => {
    const env = { REVOCABLE_MMAP_WITHOUT: without };

    test('R11 a hundred pending waits reject with MappingRevokedError at revoke', async () => {
      const run = await runInChild(
        async (lib) => {
          const outcome = (error: any) => [error.code, error.offset, error.objectOffset, error.object, error.cause];
          const outcomes = [];
          for (let round = 0; round < 30; round++) {
            const object = lib.MemoryObject.create({ size: 8192, name: 'ring' });
            const mappings = Array.from({ length: 10 }, () => object.map({ offset: 4096 }));
            const waits = Array.from({ length: 100 }, (_, i) => mappings[i % 10].wait(4 * i, 0).catch(outcome));
            await object.revoke('unplugged');
            outcomes.push(...(await Promise.all(waits)));
            object.close();
          }
          return outcomes;
        },
        { env, limit: LIMIT },
      );
      expect(run).toMatchObject({ status: 0, signal: null });
      const expected = Array.from({ length: 100 }, (_, i) => ['ERR_MAPPING_REVOKED', 4 * i, 4096 + 4 * i, 'ring', 'unplugged']);
      expect(run.value).toEqual(Array.from({ length: 30 }, () => expected).flat());
    });

    test('R11 a wait begun just before the revocation is not forgotten, however often', async () => {
      const run = await runInChild(
        async (lib, _require, input) => {
          const outcomes: Record<string, number> = {};
          for (let i = 0; i < input; i++) {
            const object = lib.MemoryObject.create({ size: 4096 });
            const wait = object.map().wait(0, 0);
            if (i % 2 === 0) object.revokeSync();
            else void object.revoke();
            const outcome = await wait.catch((error) => error.code);
            outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
            object.close();
          }
          return outcomes;
        },
        { env, input: rounds, limit: LIMIT },
      );
      expect(run).toMatchObject({ status: 0, signal: null, value: { ERR_MAPPING_REVOKED: rounds } });
    });

    test('R11 a wake right after wait() is not lost, 2,000 times', async () => {
      const run = await runInChild(
        async (lib) => {
          const object = lib.MemoryObject.create({ size: 4096 });
          const mapping = object.map();
          const outcomes: Record<string, number> = {};
          let woken = 0;
          for (let i = 0; i < 2000; i++) {
            const wait = mapping.wait(64, 0, { timeout: 20_000 });
            woken += mapping.wake(64);
            const outcome = await wait;
            outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
          }
          return { outcomes, woken };
        },
        { env, limit: LIMIT },
      );
      expect(run).toMatchObject({ status: 0, signal: null, value: { outcomes: { ok: 2000 }, woken: 2000 } });
    });
  });

  test('R11 suspend, and close, end a wait with their own errors', async () => {
    const memory = create(4096);
    const mapping = memory.map();
    const wait = mapping.wait(0, 0);
    await memory.suspend();
    await expect(within('suspended', wait)).rejects.toMatchObject({ code: 'ERR_MAPPING_SUSPENDED', offset: 0 });
    await memory.resume();
    const second = mapping.wait(0, 0);
    mapping.close();
    await expect(within('closed', second)).rejects.toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
    const third = memory.map().wait(4, 0);
    memory.close();
    await expect(within('closed', third)).rejects.toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
  });

  test('R11 a worker in waitSync is woken by revoke, by suspend, by close and by wake', async () => {
    const ends: [(memory: MemoryObject, mapping: Mapping) => unknown, string][] = [
      [(memory) => memory.revokeSync(), 'ERR_MAPPING_REVOKED'],
      [(memory) => memory.revoke(), 'ERR_MAPPING_REVOKED'],
      [(memory) => memory.suspend(), 'ERR_MAPPING_SUSPENDED'],
      [(_, mapping) => mapping.close(), 'ERR_MAPPING_CLOSED'],
      [(memory) => memory.close(), 'ERR_MAPPING_CLOSED'],
      [(_, mapping) => until('the waiter is woken', () => mapping.wake(0) === 1), 'ok'],
    ];
    for (const [end, expected] of ends) {
      const memory = create(4096);
      const mapping = memory.map();
      const { started, outcome } = waiterThread(mapping);
      await started;
      await end(memory, mapping);
      expect(await within(`woken: ${expected}`, outcome)).toBe(expected);
    }
  });

  describe.each(KERNELS)('another process%s', (_, without) => {
    test.each(['wait', 'waitSync'])('R11 %s ends with MappingRevokedError when the owner revokes', async (call) => {
      const memory = create(4096);
      memory.map();
      const child = converse('r11-process.cjs', { args: [call], fds: [memory.fd], env: { REVOCABLE_MMAP_WITHOUT: without } });
      expect(await child.hear()).toBe('waiting');
      if (without === '') await until('it sleeps', () => sleepsInFutexWaitv(child.pid));
      await memory.revoke();
      expect(await child.hear()).toBe('ERR_MAPPING_REVOKED');
      expect(await child.hear()).toBe('revoked');
      expect(await child.end()).toMatchObject({ status: 0, signal: null });
    });

    test.each(['wait', 'waitSync'])('R11 wake() wakes the other process’s %s', async (call) => {
      const memory = create(4096);
      const mapping = memory.map();
      const child = converse('r11-process.cjs', { args: [call], fds: [memory.fd], env: { REVOCABLE_MMAP_WITHOUT: without } });
      expect(await child.hear()).toBe('waiting');
      await until('it is woken', () => mapping.wake(0) === 1);
      expect(await child.hear()).toBe('ok');
      expect(await child.hear()).toBe(0);
      expect(await child.end()).toMatchObject({ status: 0, signal: null });
    });
  });

  test('R11 two objects of one memory in this process: revoking the owner’s ends a wait on the other one', async () => {
    const run = await runInChild(async (lib) => {
      const owner = lib.MemoryObject.create({ size: 4096 });
      const other = lib.MemoryObject.fromFd(owner.fd, { writable: true });
      const wait = other.map().wait(0, 0, { timeout: 15_000 });
      owner.revokeSync();
      return wait.catch((error) => error.code);
    });
    expect(run).toMatchObject({ status: 0, signal: null, value: 'ERR_MAPPING_REVOKED' });
  });

  test('R11 wake() reaches waits through other mappings of the same word, and only so many as asked for', async () => {
    const memory = create(3 * 4096);
    const whole = memory.map();
    const tail = memory.map({ offset: 4096, access: 'r' });
    const rearranged = memory.map();
    rearranged.remapPages({ offset: 0, length: 4096, objectOffset: 4096 });
    const waits = [whole.wait(4096 + 8, 0), tail.wait(8, 0), rearranged.wait(8, 0)];
    let done = 0;
    for (const wait of waits) void wait.then(() => done++);
    expect(whole.wake(4096 + 12)).toBe(0);
    expect(tail.wake(8, 0)).toBe(0);
    expect(whole.wake(4096 + 8, 1)).toBe(1);
    await until('one is awake', () => done >= 1);
    expect(done).toBe(1);
    expect(rearranged.wake(8)).toBe(2);
    expect(await within('all are woken', Promise.all(waits))).toEqual(['ok', 'ok', 'ok']);
    expect(tail.wake(8)).toBe(0);
  });

  test('R11 a wait says at once that the word is another one, and in time that no wake came', async () => {
    const memory = create(4096);
    const mapping = memory.map();
    mapping.write32(0, 0xffffffff);
    expect(await mapping.wait(0, 0)).toBe('not-equal');
    expect(mapping.waitSync(0, 0)).toBe('not-equal');
    expect(await mapping.wait(0, 0xffffffff, { timeout: 1 })).toBe('timed-out');
    expect(await mapping.wait(0, -1, { timeout: 1 })).toBe('timed-out');
    expect(mapping.waitSync(0, -1, { timeout: 120 })).toBe('timed-out');
    expect(mapping.waitSync(4, 0, { timeout: 0 })).toBe('timed-out');
  });

  test('R11 an AbortSignal ends a wait with its reason, and nothing is left of it', async () => {
    const memory = create(4096);
    const mapping = memory.map();
    const controller = new AbortController();
    const wait = mapping.wait(0, 0, { signal: controller.signal });
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(within('aborted', wait)).rejects.toBe(reason);
    await expect(mapping.wait(0, 0, { signal: controller.signal })).rejects.toBe(reason);
    expect(() => mapping.waitSync(0, 0, { signal: controller.signal })).toThrow(reason);
    expect(mapping.wake(0)).toBe(0);
    const late = new AbortController();
    const woken = mapping.wait(0, 0, { signal: late.signal });
    expect(mapping.wake(0)).toBe(1);
    expect(await within('woken', woken)).toBe('ok');
    late.abort();
    const onRevoke = mapping.wait(0, 0, { signal: memory.signal });
    memory.revokeSync();
    await expect(within('revoked', onRevoke)).rejects.toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
  });

  test('R11 a worker in waitSync can be terminated, and the mapping goes on without it', async () => {
    const memory = create(4096);
    const mapping = memory.map();
    const { started, worker } = waiterThread(mapping);
    await started;
    expect(await worker.terminate()).toBe(1);
    const wait = mapping.wait(0, 0);
    expect(mapping.wake(0)).toBe(1);
    expect(await within('woken', wait)).toBe('ok');
    expect(memory.revokeSync().mappings).toBe(1);
  });

  test('R11 waits do not occupy the threads that file operations need', async () => {
    const memory = create(4096);
    const mapping = memory.map();
    const waits = Array.from({ length: 64 }, () => mapping.wait(0, 0));
    expect((await readFile(__filename)).length).toBeGreaterThan(0);
    mapping.wake(0);
    expect(new Set(await within('all are woken', Promise.all(waits)))).toEqual(new Set(['ok']));
  });

  test('R11 wake() says how many it woke, and wakes no more than asked for, asleep or on their way', async () => {
    const memory = create(4096);
    const mapping = memory.map();
    for (let round = 0; round < 100; round++) {
      let done = 0;
      const rest = new AbortController();
      setMaxListeners(0, rest.signal);
      const waits = Array.from({ length: 64 }, () => mapping.wait(0, 0, { signal: rest.signal }).then(() => done++));
      if (round % 2 === 0) for (let i = 0; i < round % 20; i++) await new Promise((resolve) => setImmediate(resolve));
      const some = mapping.wake(0, 10);
      expect(some).toBe(10);
      await until('ten are awake', () => done >= 10);
      // Each of the others says itself that it still waited: it is woken now, or it is cancelled.
      if (round % 4 < 2) expect(mapping.wake(0)).toBe(54);
      else rest.abort();
      const ends = await within('all have ended', Promise.allSettled(waits));
      expect(ends.filter(({ status }) => status === 'rejected')).toHaveLength(round % 4 < 2 ? 0 : 54);
    }
  });

  test.each(KERNELS)(
    'R11 no thread that is just about to wait when the memory goes sleeps on%s',
    async (_, without, rounds) => {
      const run = await runChild('r11-storm.cjs', { args: [rounds], limit: 220_000, env: { REVOCABLE_MMAP_WITHOUT: without } });
      expect(run.stderr).toBe('');
      console.log(run.stdout.split('\n')[0]);
      expect(run).toMatchObject({ status: 0, signal: null });
      expect(JSON.parse(run.stdout.split('\n')[1])).toEqual({ ERR_MAPPING_REVOKED: 3 * rounds });
    },
    230_000,
  );

  // V8 keeps a list of its own for Atomics.wait, which neither the kernel nor the library sees.
  test('R11 Atomics.wait on a view is woken by Atomics.notify only: not by revoke, not by wake()', async () => {
    const run = await runInChild(async (lib, require) => {
      const { Worker: Thread } = require('node:worker_threads') as typeof import('node:worker_threads');
      const object = lib.MemoryObject.create({ size: 4096 });
      const mapping = object.map();
      const words = new Int32Array(mapping.buffer as SharedArrayBuffer, 0, 1024);
      const code = `const { parentPort, workerData } = require('node:worker_threads');
        parentPort.postMessage(require('node:fs').readlinkSync('/proc/thread-self'));
        parentPort.postMessage(Atomics.wait(workerData, 3, 0, 60000));`;
      const worker = new Thread(code, { eval: true, workerData: words });
      const thread = await new Promise((resolve) => worker.once('message', resolve));
      const answer = new Promise((resolve) => worker.once('message', resolve));
      const { readFileSync: read } = require('node:fs') as typeof import('node:fs');
      const asleep = () => ['202', '98'].includes(read(`/proc/${thread}/syscall`, 'utf8').split(' ')[0]); // futex(2) of the condition V8 waits for
      // For some time: on its way there it may have slept a moment for something else.
      for (let times = 0; times < 20; times = asleep() ? times + 1 : 0) await new Promise((resolve) => setTimeout(resolve, 1));
      const woken = mapping.wake(12);
      object.revokeSync();
      return { woken, notified: Atomics.notify(words, 3), answer: await answer }; // it notifies those that are still asleep
    });
    expect(run).toMatchObject({ status: 0, signal: null, value: { woken: 0, notified: 1, answer: 'ok' } });
  });
});
