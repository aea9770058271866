import { constants } from 'node:os';
import { runChild, runInChild } from '../support/child.js';

interface Outcome {
  refused: { code: string; syscall: string; message: string }[];
  works: number[];
  after: string;
}

describe('where userfaultfd(2) is refused', () => {
  test.each([
    ['EPERM', 'seccomp'],
    ['ENOSYS', 'no userfaultfd'],
  ] as const)(
    'a seccomp filter that answers %s: devices with fault ops are refused with cause and fix, others work',
    async (code, text) => {
      const { status, signal, stdout, stderr } = await runChild('devices/seccomp.cjs', { args: [constants.errno[code]] });
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      const { refused, works, after } = JSON.parse(stdout) as Outcome;
      expect(refused).toHaveLength(3);
      for (const refusal of refused) {
        expect(refusal).toMatchObject({ code, syscall: 'userfaultfd' });
        expect(refusal.message).toContain(text);
        expect(refusal.message).toContain('fault');
      }
      expect(works).toEqual([42, 5, 2, 9]);
      expect(after).toBe('ERR_MAPPING_REVOKED');
    },
  );

  test('a kernel that cannot write-protect shared memory refuses pageMkwrite ops only', async () => {
    const run = await runInChild(
      async (lib) => {
        const codes: unknown[] = [];
        const ops = { fault: () => undefined, pageMkwrite: () => undefined };
        try {
          new lib.Device({ name: 'dirty', regions: [{ size: 4096 }], ops });
        } catch (error: any) {
          codes.push(error.code, /Linux 6\.4/.test(error.message));
        }
        const device = new lib.Device({ name: 'lazy', regions: [{ size: 4096 }], ops: { fault: () => new Uint8Array([5]) } });
        const target = new Uint8Array(1);
        await device.open().map().readAsync(0, target);
        await device.unplug();
        return [...codes, target[0]];
      },
      { env: { REVOCABLE_MMAP_WITHOUT: 'userfaultfd-wp' } },
    );
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual(['ENOTSUP', true, 5]);
  });

  const asRoot = process.getuid!() === 0 ? test : test.skip;
  asRoot('an unprivileged user has page faults too: UFFD_USER_MODE_ONLY', async () => {
    const run = await runInChild(async (lib, require) => {
      process.setgroups!([]);
      process.setgid!(65534);
      process.setuid!(65534);
      const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
      const calls: number[] = [];
      const device = new lib.Device({
        name: 'lazy',
        regions: [{ size: 16384 }],
        ops: {
          fault: (page) => {
            calls.push(page.index);
            return new Uint8Array(4096).fill(page.index + 1);
          },
        },
      });
      const mapping = device.open().map();
      const worker = new Worker(
        `const { parentPort, workerData } = require('node:worker_threads');
         const mapping = require('revocable-mmap').Mapping.attach(workerData);
         parentPort.postMessage([mapping.read8(0), mapping.read8(8192)]);`,
        { eval: true, workerData: mapping.share() },
      );
      const seen = await new Promise((resolve) => worker.once('message', resolve));
      await device.unplug();
      return { uid: process.getuid!(), seen, calls };
    });
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual({ uid: 65534, seen: [1, 3], calls: [0, 2] });
  });
});
