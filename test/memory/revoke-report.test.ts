/** The report of a revocation, by every way in which it comes from native code: each number of it is another one. */
import { testUnless } from '../support/conditions.js';
import { survivingChild, whyNoMseal } from '../support/kernel-calls.js';
import { temporaryFile } from '../support/temporary.js';

const PAGE = 4096;
const MAPPINGS = 5;
const SEALED = 2;

interface Input {
  path: string;
  how: 'revokeSync' | 'revoke' | 'second revoke' | 'revokeSync after revoke';
  mappings: number;
  sealed: number;
}

/** The report of one of them, where a part of the mappings is sealed against being replaced. */
async function reportOf(how: Input['how'], without: string): Promise<unknown> {
  return survivingChild(
    async (lib, k, input: Input) => {
      const memory = lib.MemoryObject.openFile(input.path, { writable: true });
      const mappings = Array.from({ length: input.mappings }, () => memory.map());
      for (const mapping of mappings.slice(0, input.sealed)) k.mseal(mapping.address, k.PAGE);
      if (input.how === 'revokeSync') return memory.revokeSync();
      const first = memory.revoke();
      if (input.how === 'revoke') return first;
      if (input.how === 'second revoke') return memory.revoke();
      return memory.revokeSync();
    },
    {
      input: { path: temporaryFile(PAGE, 1), how, mappings: MAPPINGS, sealed: SEALED },
      leave: 'exit',
      env: { REVOCABLE_MMAP_WITHOUT: without },
    },
  );
}

describe.each([
  ['protected', ''],
  ['failed', 'guard'],
])('of sealed mappings, which are counted as %s,', (means, without) => {
  for (const how of ['revokeSync', 'revoke', 'second revoke', 'revokeSync after revoke'] as const) {
    testUnless(whyNoMseal(), `the report of ${how} has each number in its place`, async () => {
      expect(await reportOf(how, without)).toEqual({
        object: expect.any(String) as string,
        revokedByThisCall: how === 'revokeSync' || how === 'revoke',
        mappings: MAPPINGS,
        durationUs: expect.any(Number) as number,
        means: { truncated: false, replaced: MAPPINGS - SEALED, protected: 0, failed: 0, [means]: SEALED },
      });
    });
  }
});

test('of owned memory the reports of revoke() and revokeSync() differ only in who did it', async () => {
  const report = await survivingChild(
    async (lib) => {
      const memory = lib.MemoryObject.create({ size: 4096 });
      const mappings = [memory.map(), memory.map()];
      const asynchronous = await memory.revoke();
      return { asynchronous, synchronous: memory.revokeSync(), held: mappings.length };
    },
    { leave: 'exit' },
  );
  expect(report.asynchronous).toMatchObject({ mappings: 2, means: { truncated: true, replaced: 2, protected: 0, failed: 0 } });
  expect(report.asynchronous.durationUs).toBeGreaterThan(0);
  expect(report.synchronous).toEqual({ ...report.asynchronous, revokedByThisCall: false });
});

test('a suspension reports as a revocation does', async () => {
  const report = await survivingChild(
    async (lib) => {
      const memory = lib.MemoryObject.create({ size: 4096 });
      const mappings = [memory.map(), memory.map(), memory.map()];
      return { ...(await memory.suspend()), held: mappings.length };
    },
    { leave: 'exit' },
  );
  expect(report).toMatchObject({
    revokedByThisCall: true,
    mappings: 3,
    means: { truncated: false, replaced: 3, protected: 0, failed: 0 },
  });
});
