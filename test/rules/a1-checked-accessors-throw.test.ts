import { once } from 'node:events';
import { truncateSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import {
  BackingFaultError,
  isRevokedError,
  Mapping,
  MappingClosedError,
  MappingRevokedError,
  MemoryObject,
} from 'revocable-mmap';
import { CHECKED_ACCESSORS, CHECKED_READS } from '../support/accessors.js';
import { runChild } from '../support/child.js';
import { temporaryDirectory, temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

describe('A1 checked accessors throw at the access that failed', () => {
  test.each(CHECKED_ACCESSORS)('A1 $name throws MappingRevokedError that tells the place', ({ access }) => {
    const memory = MemoryObject.create({ size: 4 * PAGE, name: 'ring' });
    const mapping = memory.map({ offset: PAGE, length: 2 * PAGE });
    access(mapping, 0x20); // live: fine
    const reason = new Error('unplugged');
    memory.revokeSync(reason);
    const error = thrownBy(() => access(mapping, 0x20));
    expect(error).toBeInstanceOf(MappingRevokedError);
    expect(error).toMatchObject({
      name: 'MappingRevokedError',
      code: 'ERR_MAPPING_REVOKED',
      object: 'ring',
      offset: 0x20,
      objectOffset: PAGE + 0x20,
      address: mapping.address + 0x20n,
      cause: reason,
    });
    expect(error.message).toContain('ring');
    expect(isRevokedError(error)).toBe(true);
    memory.close();
  });

  test.each(CHECKED_ACCESSORS)('A1 $name throws also after a raw access has put the fill there', ({ access }) => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const mapping = memory.map();
    memory.revokeSync();
    expect(mapping.bytes[100]).toBe(0);
    mapping.bytes[0x20] = 1;
    expect(thrownBy(() => access(mapping, 0x20))).toMatchObject({ code: 'ERR_MAPPING_REVOKED', offset: 0x20 });
    memory.close();
  });

  test.each(CHECKED_ACCESSORS)('A1 $name throws in every kind of mapping', ({ access }) => {
    for (const options of [
      {},
      { shared: false },
      { private: true },
      { fill: 'ones' },
      { fill: 'signal' },
      { populate: true },
    ] as const) {
      const memory = MemoryObject.create({ size: 2 * PAGE });
      const mapping = memory.map(options);
      access(mapping, PAGE);
      memory.revokeSync();
      expect(thrownBy(() => access(mapping, PAGE))).toMatchObject({ code: 'ERR_MAPPING_REVOKED', offset: PAGE });
      memory.close();
    }
  });

  test('A1 check() throws what a checked access would', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    expect(() => mapping.check()).not.toThrow();
    memory.revokeSync();
    expect(thrownBy(() => mapping.check())).toBeInstanceOf(MappingRevokedError);
    memory.close();
    expect(thrownBy(() => mapping.check())).toBeInstanceOf(MappingClosedError);
  });

  test.each(CHECKED_ACCESSORS)('A1 $name throws MappingClosedError after close, whatever was before', ({ access }) => {
    const memory = MemoryObject.create({ size: PAGE, name: 'gone' });
    const mapping = memory.map();
    const second = memory.map();
    mapping.close();
    expect(thrownBy(() => access(mapping, 0))).toMatchObject({
      name: 'MappingClosedError',
      code: 'ERR_MAPPING_CLOSED',
      object: 'gone',
    });
    memory.revokeSync();
    second.close();
    expect(thrownBy(() => access(second, 0))).toBeInstanceOf(MappingClosedError);
    memory.close();
  });

  test.each(CHECKED_READS)(
    'A1 $name throws BackingFaultError at the first access to a lost page, with no access before it',
    ({ access }) => {
      const path = temporaryFile(4 * PAGE);
      const file = MemoryObject.openFile(path);
      const mapping = file.map({ offset: PAGE });
      truncateSync(path, 2 * PAGE);
      const error = thrownBy(() => access(mapping, PAGE + 8 * 8));
      expect(error).toBeInstanceOf(BackingFaultError);
      expect(error).toMatchObject({
        code: 'ERR_BACKING_FAULT',
        cause: 'past-end',
        object: path,
        offset: PAGE + 64,
        objectOffset: 2 * PAGE + 64,
        address: mapping.address + BigInt(PAGE + 64),
      });
      file.close();
    },
  );

  test('A1 every width reads and writes exactly its bytes, little-endian, up to the last offset', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    mapping.bytes.set([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88], PAGE - 8);
    expect(mapping.read8(PAGE - 1)).toBe(0x88);
    expect(mapping.read16(PAGE - 2)).toBe(0x8877);
    expect(mapping.read32(PAGE - 4)).toBe(0x88776655);
    expect(mapping.read64(PAGE - 8)).toBe(0x8877665544332211n);
    mapping.bytes.fill(0);
    mapping.write8(1, 0xff);
    mapping.write16(2, 0xfffe);
    mapping.write32(4, 0xfffffffd);
    mapping.write64(8, 0xfffffffffffffffcn);
    expect([...mapping.bytes.subarray(0, 17)]).toEqual([
      0, 0xff, 0xfe, 0xff, 0xfd, 0xff, 0xff, 0xff, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,
    ]);
    memory.close();
  });

  test('A1 a mapping whose length is no multiple of a word has no word at its end', () => {
    const memory = MemoryObject.create({ size: 4099 });
    const mapping = memory.map();
    expect(mapping.length).toBe(4099);
    expect(mapping.read8(4098)).toBe(0);
    for (const [name, offset] of [
      ['read16', 4098],
      ['read32', 4096],
      ['read64', 4096],
    ] as const) {
      expect(thrownBy(() => mapping[name](offset))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    }
    memory.close();
  });

  // Each loop is compiled by the optimising compiler before the memory goes, and the child says so.
  const loops = ['read8', 'read16', 'read32', 'read64', 'write8', 'write16', 'write32', 'write64'].flatMap((accessor) =>
    (['worker', 'service', 'truncate'] as const).map((revoker) => ({ accessor, revoker })),
  );
  const ROUNDS = 24;
  test.each(loops)(
    'A1 an optimised loop of $accessor ends with the error, and with no value of after, when a $revoker takes the memory',
    async (loop) => {
      const { status, signal, stdout, stderr } = await runChild('a1-optimised-loop.cjs', {
        nodeArgs: ['--allow-natives-syntax'],
        args: [loop.accessor, loop.revoker, ROUNDS],
        env: { SCRATCH: temporaryDirectory() },
      });
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      const { wrong, optimised, reads } = JSON.parse(stdout) as { wrong: string[]; optimised: number; reads: number };
      expect(wrong).toEqual([]);
      expect(optimised).toBeGreaterThan(ROUNDS / 2);
      expect(reads).toBeGreaterThan(ROUNDS);
    },
  );

  // Until something fails, V8 compiles 32-bit reads for success only: each round is a thread in which nothing has.
  const hasMaglev = Boolean((process.config.variables as { v8_enable_maglev?: number }).v8_enable_maglev); // Node 24 and later
  const firsts = (hasMaglev ? ['turbofan', 'maglev'] : ['turbofan']).flatMap((compiler) =>
    (['revoke', 'suspend', 'truncate'] as const).flatMap((revoker) => [0, 3].map((earlier) => ({ compiler, revoker, earlier }))),
  );
  test.each(firsts)(
    'A1 a failure within a loop compiled by $compiler, after $earlier others, is the error, when $revoker takes the memory',
    async ({ compiler, revoker, earlier }) => {
      const { status, signal, stdout, stderr } = await runChild('a1-first-failure.cjs', {
        nodeArgs: ['--allow-natives-syntax', ...(compiler === 'maglev' ? ['--maglev', '--no-turbofan'] : [])],
        args: [revoker, 12, compiler, earlier],
        env: { SCRATCH: temporaryDirectory() },
      });
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      const code = { revoke: 'ERR_MAPPING_REVOKED', suspend: 'ERR_MAPPING_SUSPENDED', truncate: 'ERR_BACKING_FAULT' }[revoker];
      const { optimised, ...rest } = JSON.parse(stdout) as { optimised: number };
      expect(rest).toEqual({ wrong: [], ends: { [code]: 12 } });
      expect(optimised).toBeGreaterThan(3); // the compilers give some loops up
    },
  );

  test.each([
    ['2', 'ERR_OUT_OF_RANGE'],
    ['4096', 'ERR_OUT_OF_RANGE'],
    ['-4', 'ERR_OUT_OF_RANGE'],
    ['2 ** 31', 'ERR_OUT_OF_RANGE'],
    ['2 ** 53', 'ERR_OUT_OF_RANGE'],
    ['Infinity', 'ERR_OUT_OF_RANGE'],
    ['4.5', 'ERR_OUT_OF_RANGE'],
    ['NaN', 'ERR_OUT_OF_RANGE'],
    ['Number.MIN_VALUE', 'ERR_OUT_OF_RANGE'],
    ['-2 * Number.MIN_VALUE', 'ERR_OUT_OF_RANGE'],
    ["'4'", 'ERR_INVALID_ARG_TYPE'],
    ['4n', 'ERR_INVALID_ARG_TYPE'],
    ['undefined', 'ERR_INVALID_ARG_TYPE'],
    ['[4]', 'ERR_INVALID_ARG_TYPE'],
    ['{ valueOf: () => 4 }', 'ERR_INVALID_ARG_TYPE'],
  ])('A1 read32(%s) as the first failure of a thread is %s, compiled and not', async (offset, code) => {
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads');
       const { MemoryObject } = require(${JSON.stringify(require.resolve('revocable-mmap'))});
       const memory = MemoryObject.create({ size: ${PAGE} });
       const mapping = memory.map();
       mapping.write32(4, 0xfedcba98);
       const codeOf = (at) => { try { return mapping.read32(at); } catch (error) { return error.code; } };
       const sum = (from) => { let sum = 0; for (const at of from) sum += mapping.read32(at); return sum; };
       for (let i = 0; i < 20000; i++) sum([0, 4, 8]);
       let compiled;
       try { compiled = sum([4, ${offset}]); } catch (error) { compiled = error.code; }
       parentPort.postMessage([compiled, codeOf(${offset}), codeOf(4), codeOf(-0)]);
       memory.close();`,
      { eval: true },
    );
    const [[seen]] = (await Promise.all([once(worker, 'message'), once(worker, 'exit')])) as [[unknown], unknown];
    expect(seen).toEqual([code, code, 0xfedcba98, 0]);
  });

  test('A1 a mapping attached in the same thread throws as well', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const first = memory.map();
    const second = Mapping.attach(first.share());
    expect(second.read32(0)).toBe(0);
    memory.revokeSync();
    expect(thrownBy(() => second.read32(0))).toBeInstanceOf(MappingRevokedError);
    memory.close();
  });
});
