import { ROOMY, runChild, runInChild } from '../support/child.js';
import { testUnless } from '../support/conditions.js';

const CANARY = 0x600dcafe;

interface Outcome {
  /** What a new mapping gets while the limit holds: -1 proves that it is one. */
  proof?: number;
  report: { mappings: number; means: { truncated: boolean; replaced: number; protected: number; failed: number } };
  rawHeld?: number[];
  raw?: number[];
  written?: number[];
  checkedHeld: string[];
  checked: string[];
  states: string[];
  memory?: number;
  mapsLeft: number;
}

type Limit = 'none' | 'as' | 'data' | 'maps' | 'nofile' | 'mseal';
type Touch = 'none' | 'held' | 'many' | 'lifted';

function impose(
  limit: Limit,
  owned: boolean,
  touch: Touch,
  options: { fill?: string; without?: string } = {},
): ReturnType<typeof runChild> {
  const env = { REVOCABLE_MMAP_WITHOUT: options.without ?? '' };
  return runChild('r7-limits.cjs', {
    args: [limit, owned ? 'owned' : 'foreign', touch, options.fill ?? 'zeros'],
    env,
    nodeArgs: ROOMY,
  });
}

/** It ended well, no exception, nothing live, checked access refused: true of every rung of the ladder. */
function expectRevoked(run: Awaited<ReturnType<typeof runChild>>, owned: boolean): Outcome {
  expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
  const outcome = JSON.parse(run.stdout) as Outcome;
  const { means, mappings } = outcome.report;
  expect(new Set(outcome.checkedHeld)).toEqual(new Set(['ERR_MAPPING_REVOKED']));
  expect(new Set(outcome.checked)).toEqual(new Set(['ERR_MAPPING_REVOKED']));
  expect(new Set(outcome.states)).toEqual(new Set(['revoked']));
  expect(means.truncated).toBe(owned);
  expect(means.replaced + means.protected + means.failed).toBe(mappings);
  if (!owned) expect(outcome.memory).toBe(CANARY); // no write of a revoked mapping reached it
  return outcome;
}

function expectFill(outcome: Outcome, fill: number): void {
  for (const values of [outcome.rawHeld, outcome.raw]) if (values !== undefined) expect(new Set(values)).toEqual(new Set([fill]));
  if (outcome.written !== undefined) expect(new Set(outcome.written)).toEqual(new Set([7]));
}

const OWNERS = [
  ['owned', true],
  ['not owned', false],
] as const;

describe.each(OWNERS)('R7 revocation cannot fail: memory that is %s', (_, owned) => {
  test('R7 without limits every mapping is replaced', async () => {
    const outcome = expectRevoked(await impose('none', owned, 'held'), owned);
    expectFill(outcome, 0);
    expect(outcome.report.means.replaced).toBe(outcome.report.mappings);
    expect(outcome.mapsLeft).toBe(owned ? 0 : 1); // the witness
  });

  test.each(['none', 'held', 'many', 'lifted'] as const)(
    'R7 RLIMIT_AS below what is in use: a weaker means is reported, first raw access: %s',
    async (touch) => {
      const outcome = expectRevoked(await impose('as', owned, touch), owned);
      expect(outcome.proof).toBe(-1);
      expectFill(outcome, 0);
      expect(outcome.report.means).toMatchObject({ replaced: 0, protected: outcome.report.mappings, failed: 0 });
      expect(outcome.mapsLeft).toBe(owned ? 0 : 1);
    },
  );

  test.each(['held', 'lifted'] as const)('R7 RLIMIT_DATA below what is in use, first raw access: %s', async (touch) => {
    const outcome = expectRevoked(await impose('data', owned, touch), owned);
    expectFill(outcome, 0);
    expect(outcome.report.means.failed).toBe(0);
    expect(outcome.mapsLeft).toBe(owned ? 0 : 1);
  });

  test.each(['none', 'held', 'lifted'] as const)(
    'R7 as many mappings as vm.max_map_count allows, first raw access: %s',
    async (touch) => {
      const outcome = expectRevoked(await impose('maps', owned, touch), owned);
      expect(outcome.proof).toBe(-1);
      expectFill(outcome, 0);
      expect(outcome.report.means.failed).toBe(0);
      expect(outcome.mapsLeft).toBe(owned ? 0 : 1);
    },
  );

  test('R7 no descriptor left', async () => {
    const outcome = expectRevoked(await impose('nofile', owned, 'held'), owned);
    expectFill(outcome, 0);
    expect(outcome.report.means.replaced).toBe(outcome.report.mappings);
    expect(outcome.mapsLeft).toBe(owned ? 0 : 1);
  });

  test('R7 the fill is that of the mapping under limits too: ones', async () => {
    for (const limit of ['as', 'data'] as const) {
      expectFill(expectRevoked(await impose(limit, owned, 'held', { fill: 'ones' }), owned), 0xff);
    }
  });

  // A kernel before 6.11 has no PROCMAP_QUERY: what is mapped must be read from /proc/self/maps.
  describe('on a kernel without PROCMAP_QUERY', () => {
    test.each(['none', 'as', 'data', 'maps', 'nofile'] as const)('R7 the same means, under the limit: %s', async (limit) => {
      const outcome = expectRevoked(await impose(limit, owned, 'lifted', { without: 'procmap-query' }), owned);
      expectFill(outcome, 0);
      expect(outcome.report.means.failed).toBe(0);
      expect(outcome.mapsLeft).toBe(owned ? 0 : 1);
    });
  });
});

const noMseal = whyNoMseal();

describe('R7 revocation cannot fail: ranges that the program has sealed', () => {
  testUnless(noMseal, 'R7 mseal, memory of the library’s own: the truncation takes it', async () => {
    const outcome = expectRevoked(await impose('mseal', true, 'none'), true);
    expect(outcome.report.means).toEqual({ truncated: true, replaced: 1, protected: 20, failed: 0 });
  });

  testUnless(noMseal, 'R7 mseal, memory of others: guard pages take it', async () => {
    const outcome = expectRevoked(await impose('mseal', false, 'none'), false);
    expect(outcome.report.means).toEqual({ truncated: false, replaced: 0, protected: 20, failed: 0 });
  });

  testUnless(
    noMseal,
    'R7 mseal, memory of others, no guard pages: counted as failed, and checked access throws all the same',
    async () => {
      const outcome = expectRevoked(await impose('mseal', false, 'none', { without: 'guard' }), false);
      expect(outcome.report.means).toEqual({ truncated: false, replaced: 0, protected: 0, failed: 20 });
    },
  );

  testUnless(
    noMseal,
    'R7 mseal, raw access: what the kernel lets no process repair ends the process, and never shows the memory',
    async () => {
      for (const owned of [true, false]) {
        const run = await impose('mseal', owned, 'lifted');
        expect(run.status).toBeNull();
        expect(['SIGBUS', 'SIGSEGV']).toContain(run.signal);
        expect(run.stdout).toBe('');
      }
    },
  );
});

describe('R7 a revocation under a limit', () => {
  test('R7 revoke() with a promise is as good as revokeSync', async () => {
    const run = await runInChild(
      async (lib, require) => {
        const { lowerSoftLimit, RLIMIT } = require('./test/children/libc.cjs') as {
          lowerSoftLimit: (resource: number, soft: number) => { lower(): void; restore(): void };
          RLIMIT: { as: number };
        };
        const device = lib.MemoryObject.create({ size: 4096 });
        const object = lib.MemoryObject.fromFd(device.fd, { writable: true });
        const mapping = object.map();
        mapping.write32(0, 0xcafe);
        // What runs while the limit holds is compiled by then, and has all that V8 makes on first use.
        for (let i = 0; i < 3; i++) {
          const other = lib.MemoryObject.create({ size: 4096 });
          other.map();
          await other.revoke();
        }
        const limit = lowerSoftLimit(RLIMIT.as, 64 * 1024 * 1024);
        globalThis.gc!();
        limit.lower();
        const promise = object.revoke();
        const report = await promise;
        limit.restore();
        const again = object.revokeSync();
        return {
          mappings: report.mappings,
          failed: report.means.failed,
          sum: report.means.protected + report.means.replaced,
          same: again.mappings,
          raw: mapping.bytes[0],
        };
      },
      { nodeArgs: ROOMY },
    );
    expect(run).toMatchObject({
      status: 0,
      signal: null,
      stderr: '',
      value: { mappings: 1, failed: 0, sum: 1, same: 1, raw: 0 },
    });
  });
});

function whyNoMseal(): string | undefined {
  const [major, minor] = (require('node:os') as typeof import('node:os')).release().split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 10) ? undefined : 'mseal(2) came with Linux 6.10';
}
