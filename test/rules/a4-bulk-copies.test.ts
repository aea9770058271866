import { readFileSync, truncateSync } from 'node:fs';
import { Mapping, MemoryObject } from 'revocable-mmap';
import { runChild, runInChild } from '../support/child.js';
import { rounds } from '../support/rounds.js';
import { temporaryDirectory, temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;
const SIZE = 4 * PAGE;
/** Where the good pages end. */
const EDGE = 2 * PAGE;
const DISTANCES = Array.from({ length: 65 }, (_, distance) => distance);
const MEMORY = 0x5a;
const OTHER = 0xee;

interface Bad {
  mapping: Mapping;
  path: string;
  /** What is behind the mapping now, up to the edge. */
  content: () => Uint8Array;
  close: () => void;
}

/** A mapping of which everything from EDGE on cannot be had. */
const BAD = {
  truncated: (): Bad => {
    const path = temporaryFile(SIZE, MEMORY);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map();
    truncateSync(path, EDGE);
    return { mapping, path, content: () => readFileSync(path), close: () => file.close() };
  },
  // The edge is the last page's end, not the file's: the bytes in between are there, and zero.
  'truncated within a page': (): Bad => {
    const bad = BAD.truncated();
    truncateSync(bad.path, EDGE - 1000);
    truncateSync(bad.path, EDGE - 500);
    new Uint8Array(bad.mapping.buffer, EDGE - 1000, 1000).fill(MEMORY);
    return { ...bad, content: () => bad.mapping.bytes.slice(0, EDGE) };
  },
  'protected, none': (): Bad => protectedPages('none'),
} as const;

function protectedPages(access: 'none' | 'r'): Bad {
  const memory = MemoryObject.create({ size: SIZE });
  const mapping = memory.map();
  const witness = memory.map();
  mapping.bytes.fill(MEMORY);
  mapping.protect({ offset: EDGE, length: SIZE - EDGE, access });
  return { mapping, path: '', content: () => witness.bytes.slice(0, EDGE), close: () => memory.close() };
}

const CODES = {
  truncated: 'ERR_BACKING_FAULT',
  'truncated within a page': 'ERR_BACKING_FAULT',
  'protected, none': 'ERR_MAPPING_PROTECTED',
} as const;
const kinds = Object.keys(BAD) as (keyof typeof BAD)[];

/** Small copies, and those long enough for the processor's string instructions. */
const SPANS = [
  { title: 'short', before: 0, bytes: 128 },
  { title: 'in chunks', before: 1024, bytes: 2048 },
  { title: 'long', before: PAGE, bytes: PAGE + 256 },
];

function filled(bytes: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes).fill(value);
}

/** `done` bytes of one value, then only the other. */
function expectSplit(bytes: Uint8Array, done: number, first: number, then: number): void {
  const at = bytes.findIndex((byte) => byte !== first);
  expect(at === -1 ? bytes.length : at).toBe(done);
  expect(bytes.subarray(done).every((byte) => byte === then)).toBe(true);
}

describe('A4 bulk copies report exactly how many bytes were transferred', () => {
  for (const kind of kinds) {
    for (const { title, before, bytes } of SPANS) {
      test(`A4 read() from 0…64 bytes before the edge: ${kind}, ${title}`, () => {
        for (const distance of DISTANCES) {
          const { mapping, close } = BAD[kind]();
          // Twice: the first finds out by the fault, the second knows.
          for (const attempt of ['fault', 'known']) {
            const target = filled(bytes, OTHER);
            const done = before + distance;
            const error = thrownBy(() => mapping.read(EDGE - done, target));
            expect({ attempt, distance, code: error.code, bytesTransferred: error.bytesTransferred }).toEqual({
              attempt,
              distance,
              code: CODES[kind],
              bytesTransferred: done,
            });
            expect(error.offset).toBe(EDGE);
            expectSplit(target, done, MEMORY, OTHER);
          }
          close();
        }
      });

      test(`A4 write() from 0…64 bytes before the edge: ${kind}, ${title}`, () => {
        for (const distance of DISTANCES) {
          const { mapping, content, close } = BAD[kind]();
          for (const [attempt, value] of [
            ['fault', 0x11],
            ['known', 0x22],
          ] as const) {
            const done = before + distance;
            const error = thrownBy(() => mapping.write(EDGE - done, filled(bytes, value)));
            expect({ attempt, distance, code: error.code, bytesTransferred: error.bytesTransferred }).toEqual({
              attempt,
              distance,
              code: CODES[kind],
              bytesTransferred: done,
            });
            expectSplit(content().subarray(0, EDGE), EDGE - done, MEMORY, value);
          }
          close();
        }
      });

      test(`A4 the other buffer is the bad one, as source: ${kind}, ${title}`, () => {
        for (const distance of DISTANCES) {
          const { mapping: bad, close } = BAD[kind]();
          const memory = MemoryObject.create({ size: SIZE });
          const mapping = memory.map();
          mapping.bytes.fill(OTHER);
          const done = before + distance;
          const error = thrownBy(() => mapping.write(8, bad.bytes.subarray(EDGE - done, EDGE - done + bytes)));
          expect({ distance, code: error.code, bytesTransferred: error.bytesTransferred }).toEqual({
            distance,
            code: CODES[kind],
            bytesTransferred: done,
          });
          expectSplit(mapping.bytes.subarray(8), done, MEMORY, OTHER);
          expect(mapping.state).toBe('live');
          memory.close();
          close();
        }
      });

      test(`A4 the other buffer is the bad one, as target: ${kind}, ${title}`, () => {
        for (const distance of DISTANCES) {
          const { mapping: bad, content, close } = BAD[kind]();
          const memory = MemoryObject.create({ size: SIZE });
          const mapping = memory.map();
          mapping.bytes.fill(0x33);
          const done = before + distance;
          const error = thrownBy(() => mapping.read(8, bad.bytes.subarray(EDGE - done, EDGE - done + bytes)));
          expect({ distance, code: error.code, bytesTransferred: error.bytesTransferred }).toEqual({
            distance,
            code: CODES[kind],
            bytesTransferred: done,
          });
          expectSplit(content().subarray(0, EDGE), EDGE - done, MEMORY, 0x33);
          memory.close();
          close();
        }
      });
    }
  }

  test('A4 a write that comes to read-only pages ends at their edge, from every distance', () => {
    for (const distance of DISTANCES) {
      const { mapping, content, close } = protectedPages('r');
      const error = thrownBy(() => mapping.write(EDGE - distance, filled(128, 0x11)));
      expect(error).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY', bytesTransferred: distance, offset: EDGE });
      expectSplit(content(), EDGE - distance, MEMORY, 0x11);
      expect(mapping.bytes[EDGE]).toBe(MEMORY);
      close();
    }
  });

  test('A4 a copy into the read-only pages of another mapping ends at their edge, from every distance', () => {
    for (const distance of DISTANCES) {
      const { mapping: bad, content, close } = protectedPages('r');
      const memory = MemoryObject.create({ size: PAGE });
      const mapping = memory.map();
      mapping.bytes.fill(0x33);
      const error = thrownBy(() => mapping.read(0, bad.bytes.subarray(EDGE - distance, EDGE - distance + 128)));
      expect({ code: error.code, bytesTransferred: error.bytesTransferred }).toEqual({
        code: 'ERR_MAPPING_READ_ONLY',
        bytesTransferred: distance,
      });
      expectSplit(content(), EDGE - distance, MEMORY, 0x33);
      memory.close();
      close();
    }
  });

  test.each(['read', 'write'] as const)('A4 %s() of a revoked mapping transfers nothing and touches nothing', (method) => {
    const memory = MemoryObject.create({ size: SIZE });
    const mapping = memory.map();
    mapping.bytes.fill(MEMORY);
    memory.revokeSync();
    for (const distance of DISTANCES) {
      const other = filled(64 + distance, OTHER);
      const error = thrownBy(() => mapping[method](SIZE - 64 - distance, other));
      expect(error).toMatchObject({ code: 'ERR_MAPPING_REVOKED', bytesTransferred: 0, offset: SIZE - 64 - distance });
      expect(other.every((byte) => byte === OTHER)).toBe(true);
    }
    memory.close();
  });

  test.each(['read', 'write'] as const)(
    'A4 %s() with a revoked mapping as the other buffer says so, and transfers nothing',
    (method) => {
      const revoked = MemoryObject.create({ size: SIZE, name: 'revoked one' });
      const other = revoked.map();
      revoked.revokeSync();
      const memory = MemoryObject.create({ size: SIZE });
      const mapping = memory.map();
      mapping.bytes.fill(MEMORY);
      for (const distance of DISTANCES) {
        const error = thrownBy(() => mapping[method](distance, other.bytes.subarray(distance, distance + 128)));
        expect(error).toMatchObject({ code: 'ERR_MAPPING_REVOKED', object: 'revoked one', bytesTransferred: 0 });
      }
      expect(mapping.bytes.every((byte) => byte === MEMORY)).toBe(true);
      expect(other.faults).toBe(0);
      memory.close();
      revoked.close();
    },
  );

  test('A4 a whole copy returns its length, at every alignment and for every kind of view', () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const mapping = memory.map();
    for (let i = 0; i < mapping.length; i++) mapping.bytes[i] = i & 0xff;
    for (let from = 0; from < 70; from++) {
      for (const bytes of [0, 1, 63, 64, 65, 200, 4096]) {
        const target = new Uint8Array(bytes + 3).subarray(3);
        expect(mapping.read(from, target)).toBe(bytes);
        expect(Buffer.from(mapping.bytes.buffer, from, bytes).equals(target)).toBe(true);
      }
    }
    for (const view of [new DataView(new ArrayBuffer(32), 8, 16), new BigUint64Array(2), new Uint16Array(8), Buffer.alloc(16)]) {
      expect(mapping.read(16, view)).toBe(16);
      expect([...new Uint8Array(view.buffer, view.byteOffset, 16)]).toEqual([...mapping.bytes.slice(16, 32)]);
      expect(mapping.write(4096, view)).toBe(16);
      expect([...mapping.bytes.slice(4096, 4112)]).toEqual([...mapping.bytes.slice(16, 32)]);
    }
    memory.close();
  });

  test.each([
    { direction: 'read', touched: '' },
    { direction: 'write', touched: '' },
    { direction: 'read', touched: 'touched' },
    { direction: 'write', touched: 'touched' },
  ])(
    'A4 a $direction that a revocation cuts in its middle counts only what was real $touched',
    async ({ direction, touched }) => {
      const { status, signal, stdout, stderr } = await runChild('a4-copy-storm.cjs', {
        args: [direction, rounds(100), touched],
        env: { SCRATCH: temporaryDirectory() },
      });
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      const { wrong, partial } = JSON.parse(stdout) as { wrong: string[]; partial: number };
      expect(wrong).toEqual([]);
      expect(partial).toBeGreaterThanOrEqual(5);
    },
  );

  // A thread that goes on until it is stopped.
  const MEANWHILE = {
    'protects a page beside it': {
      bytes: 4 << 20,
      act: `mapping.protect({ offset: BYTES, length: PAGE, access: 'none' }); mapping.protect({ offset: BYTES, length: PAGE, access: 'rw' });`,
    },
    'protects a page of it': {
      bytes: 4 << 20,
      act: `for (const access of ['none', 'rw']) { mapping.protect({ offset: BYTES - PAGE, length: PAGE, access }); const end = performance.now() + 0.3; while (performance.now() < end); }`,
    },
    // Of so many bytes, no copy is over before the next write is diverted.
    'writes to a page of it that may only be read': {
      bytes: 32 << 20,
      act: `mapping.protect({ offset: 8 * PAGE, length: PAGE, access: 'r' }); for (let i = 0; i < 1000; i++) mapping.bytes[8 * PAGE + i] = 1;`,
    },
    'suspends and resumes, and touches the fill': {
      bytes: 4 << 20,
      act: `await mapping.object.suspend(); for (let at = 0; at < BYTES; at += PAGE) mapping.bytes[at]; await mapping.object.resume();`,
    },
  };
  test.each(Object.entries(MEANWHILE))('A4 a copy has no fill in it, and ends, while another thread %s', async (_, meanwhile) => {
    const run = await runInChild(
      async (lib, require, { act, bytes: BYTES }) => {
        const { once } = require('node:events') as typeof import('node:events');
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const PAGE = 4096;
        const memory = lib.MemoryObject.create({ size: BYTES + PAGE });
        const mapping = memory.map();
        mapping.bytes.fill(0x5a);
        const control = new Int32Array(new SharedArrayBuffer(8)); // stop; how often it has acted
        const worker = new Worker(
          `const { workerData } = require('node:worker_threads');
           const { Mapping } = require(${JSON.stringify(require.resolve('revocable-mmap'))});
           const { handle, control, PAGE, BYTES } = workerData;
           const mapping = Mapping.attach(handle);
           (async () => { while (Atomics.load(control, 0) === 0) { ${act} Atomics.add(control, 1, 1); } })();`,
          { eval: true, workerData: { handle: mapping.share(), control, PAGE, BYTES } },
        );
        const ended = once(worker, 'exit');
        const [target, wanted] = [Buffer.alloc(BYTES), Buffer.alloc(BYTES, 0x5a)];
        const seen = { whole: 0, refused: 0, wrong: 0 };
        while (seen.whole < 20 || Atomics.load(control, 1) < 100) {
          try {
            mapping.read(0, target);
            seen.whole++;
            if (target.compare(wanted) !== 0) seen.wrong++;
            mapping.write(9 * PAGE, wanted.subarray(9 * PAGE));
          } catch (error) {
            const { code } = error as { code?: string };
            if (code !== 'ERR_MAPPING_SUSPENDED' && code !== 'ERR_MAPPING_PROTECTED') throw error;
            seen.refused++;
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
        }
        Atomics.store(control, 0, 1);
        await ended;
        memory.close();
        return seen;
      },
      { input: meanwhile },
    );
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '', value: { wrong: 0 } });
  });

  test('A4 while another thread suspends and resumes the other buffer’s mapping, copies are whole or say that it is suspended', async () => {
    const run = await runInChild(async ({ MemoryObject }, require) => {
      const { once } = require('node:events') as typeof import('node:events');
      const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
      const BYTES = 1 << 20;
      const mapping = MemoryObject.create({ size: BYTES }).map();
      const other = MemoryObject.create({ size: BYTES }).map();
      const control = new Int32Array(new SharedArrayBuffer(8)); // stop; how often it has acted
      const worker = new Worker(
        `const { workerData } = require('node:worker_threads');
         const { Mapping } = require(${JSON.stringify(require.resolve('revocable-mmap'))});
         const { object } = Mapping.attach(workerData.handle);
         (async () => {
           while (Atomics.load(workerData.control, 0) === 0) {
             await object.suspend();
             await object.resume();
             Atomics.add(workerData.control, 1, 1);
           }
         })();`,
        { eval: true, workerData: { handle: other.share(), control } },
      );
      const ended = once(worker, 'exit');
      const outcomes: Record<string, number> = {};
      const count = (outcome: string): number => (outcomes[outcome] = (outcomes[outcome] ?? 0) + 1);
      const end = Date.now() + 20_000;
      while (Date.now() < end && (!(outcomes.whole > 500) || !(outcomes.ERR_MAPPING_SUSPENDED > 500))) {
        for (const method of ['read', 'write'] as const) {
          try {
            mapping[method](0, other.bytes);
            count('whole');
          } catch (error) {
            count(String((error as { code?: string }).code));
          }
        }
      }
      Atomics.store(control, 0, 1);
      await ended;
      return { outcomes, states: [mapping.state, other.state] };
    });
    const some = expect.any(Number) as number;
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
    expect(run.value).toEqual({ outcomes: { whole: some, ERR_MAPPING_SUSPENDED: some }, states: ['live', 'live'] });
  });

  const NEITHER = { none: 'ERR_MAPPING_PROTECTED', truncated: 'ERR_BACKING_FAULT' };
  const REFUSED = {
    none: { reads: NEITHER.none, writes: NEITHER.none },
    truncated: { reads: NEITHER.truncated, writes: NEITHER.truncated },
    r: { reads: 'ERR_MAPPING_READ_ONLY', writes: undefined }, // a source may be read-only
  };
  const BADS = Object.keys(REFUSED) as (keyof typeof REFUSED)[];
  test.each(BADS)(
    'A4 the other buffer is a view of a mapping, this one or another, that ends in pages that are %s',
    async (bad) => {
      const run = await runChild('a4-one-mapping.cjs', { args: [bad], env: { SCRATCH: temporaryDirectory() } });
      expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
      const expected = (code: string | undefined): unknown[] =>
        [0, 1, 7, 8, 63, 64, 65, 200].map((distance) => ({
          distance,
          state: 'live',
          result: code === undefined ? 300 : { code, bytesTransferred: distance },
        }));
      const reads = expected(REFUSED[bad].reads);
      const writes = expected(REFUSED[bad].writes);
      const outcome = { read: reads, readAsync: reads, write: writes, writeAsync: writes };
      expect(JSON.parse(run.stdout)).toEqual({ 'its own': outcome, 'its own, attached': outcome, 'another’s': outcome });
    },
  );

  test('A4 source and target in one page that is read-only: it is the target that failed', async () => {
    const run = await runInChild(({ MemoryObject }) => {
      const memory = MemoryObject.create({ size: 4096 });
      const mapping = memory.map({ access: 'r' });
      const outcomes = [100, 300, 3000].map((bytes) => {
        try {
          return mapping.read(0, mapping.bytes.subarray(1000, 1000 + bytes));
        } catch (error) {
          const { code, bytesTransferred } = error as { code: string; bytesTransferred: number };
          return { code, bytesTransferred };
        }
      });
      mapping.check();
      return { outcomes, state: mapping.state };
    });
    const refused = { code: 'ERR_MAPPING_READ_ONLY', bytesTransferred: 0 };
    expect(run).toMatchObject({
      status: 0,
      signal: null,
      stderr: '',
      value: { outcomes: [refused, refused, refused], state: 'live' },
    });
  });
});
