import { readFileSync } from 'node:fs';
import { MemoryObject } from 'revocable-mmap';
import { CHECKED_WRITES } from '../support/accessors.js';
import { ROOMY, runChild, runInChild } from '../support/child.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

describe('A8 a write to memory that may only be read never crashes and never reaches the object', () => {
  test.each([
    { options: {} },
    { options: { shared: false } },
    { options: { private: true } },
    { options: { shared: false, private: true } },
    { options: { populate: true } },
    { options: { fill: 'ones' } },
  ])(
    'A8 raw writes to a read-only mapping $options: the object, its other mappings and later reads keep the object’s bytes',
    async ({ options }) => {
      const { status, signal, stderr, value } = await runInChild(
        async ({ MemoryObject }, require, input) => {
          const { setTimeout: sleep } = require('node:timers/promises') as typeof import('node:timers/promises');
          const memory = MemoryObject.create({ size: 16384 });
          const witness = memory.map();
          for (let i = 0; i < 16384; i++) witness.bytes[i] = 1 + (i % 200);
          const mapping = memory.map({ ...(input as object), access: 'r' });
          const events: unknown[] = [];
          mapping.on('fault', (info) => events.push(info));
          const touched = mapping.bytes[5000];
          mapping.bytes[5000] = 0xee; // a page that was read before
          mapping.bytes[9000] = 0xee; // one that was not
          mapping.view.setFloat64(12296, 1.5);
          const checked = [mapping.read8(5000), mapping.read8(9000)]; // at once
          const end = Date.now() + 20_000;
          const different = (): number => new Set(events.map((info) => JSON.stringify(info))).size;
          while (Date.now() < end && (mapping.bytes[12296] !== witness.bytes[12296] || different() < 3)) await sleep(2);
          return {
            touched,
            checked,
            raw: mapping.bytes.every((byte, i) => byte === 1 + (i % 200)),
            object: witness.bytes.every((byte, i) => byte === 1 + (i % 200)),
            state: mapping.state,
            faults: mapping.faults,
            events: [...new Set(events.map((info) => JSON.stringify(info)))].map((text) => JSON.parse(text) as unknown),
          };
        },
        { input: options },
      );
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      // A write may find its page put back before it got through, and fault once more; it must not go on like that.
      expect((value as { faults: number }).faults).toBeLessThan(100);
      expect(value).toMatchObject({
        touched: 1 + (5000 % 200),
        checked: [1 + (5000 % 200), 1 + (9000 % 200)],
        raw: true,
        object: true,
        state: 'live',
        events: [5000, 9000, 12296].map((offset) => ({ kind: 'protection', cause: 'none', write: true, offset })),
      });
    },
  );

  test('A8 raw writes to a file that is open for reading never reach it', async () => {
    const path = temporaryFile(3 * PAGE, 0x5a);
    const { status, signal, value } = await runInChild(
      async ({ MemoryObject }, require, input) => {
        const { setTimeout: sleep } = require('node:timers/promises') as typeof import('node:timers/promises');
        const mapping = MemoryObject.openFile(input).map();
        mapping.bytes.fill(0xee);
        const end = Date.now() + 20_000;
        while (mapping.bytes.some((byte) => byte !== 0x5a) && Date.now() < end) await sleep(2);
        mapping.bytes[0] = 0xee;
        mapping.close(); // with a diverted page
        return mapping.state;
      },
      { input: path },
    );
    expect({ status, signal, value }).toEqual({ status: 0, signal: null, value: 'closed' });
    expect(readFileSync(path).every((byte) => byte === 0x5a)).toBe(true);
  });

  test("A8 pages protected to 'r' and 'none': raw access completes, reads of 'none' give the fill, nothing reaches the object", async () => {
    const { status, signal, stderr, value } = await runInChild(async ({ MemoryObject }, require) => {
      const { setTimeout: sleep } = require('node:timers/promises') as typeof import('node:timers/promises');
      const memory = MemoryObject.create({ size: 16384 });
      const witness = memory.map();
      witness.bytes.fill(0x5a);
      const mapping = memory.map({ fill: 'ones' });
      mapping.protect({ offset: 4096, length: 4096, access: 'r' });
      mapping.protect({ offset: 8192, length: 4096, access: 'none' });
      const events: unknown[] = [];
      mapping.on('fault', (info) => events.push(info));
      const closedRead = mapping.bytes[8192 + 10];
      mapping.bytes[8192 + 11] = 0xee;
      mapping.bytes[4096 + 12] = 0xee;
      const checked = [mapping.read8(4096 + 12), mapping.read8(0)];
      const end = Date.now() + 20_000;
      const different = (): number => new Set(events.map((info) => JSON.stringify(info))).size;
      while (different() < 2 && Date.now() < end) await sleep(2);
      // Each time anew, after it has been put back.
      let later = -1;
      while (later !== 0x5a && Date.now() < end) {
        await sleep(2);
        later = mapping.bytes[4096 + 12];
      }
      mapping.bytes[1] = 0x11; // a page that is not protected
      return {
        closedRead,
        checked,
        later,
        object: [...new Set(witness.bytes)],
        at1: witness.bytes[1],
        kinds: [...new Set(events.map((info) => JSON.stringify(info)))].map((text) => JSON.parse(text) as unknown),
        faults: mapping.faults,
        state: mapping.state,
      };
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect((value as { faults: number }).faults).toBeLessThan(100);
    expect(value).toMatchObject({
      closedRead: 0xff,
      checked: [0x5a, 0x5a],
      later: 0x5a,
      object: [0x5a, 0x11].sort((a, b) => b - a),
      at1: 0x11,
      kinds: [
        { kind: 'protection', cause: 'none', write: false, offset: 8192 + 10 },
        { kind: 'protection', cause: 'none', write: true, offset: 4096 + 12 },
      ],
      state: 'live',
    });
  });

  test("A8 once protect() allows it again, the object's own bytes are there, and writes arrive", async () => {
    const { status, signal, value } = await runInChild(({ MemoryObject }) => {
      const memory = MemoryObject.create({ size: 8192 });
      const witness = memory.map();
      witness.bytes.fill(0x5a);
      const mapping = memory.map();
      mapping.protect({ offset: 0, length: 8192, access: 'none' });
      mapping.bytes[7] = 0xee;
      mapping.protect({ offset: 0, length: 8192, access: 'rw' });
      const back = [mapping.bytes[7], mapping.read8(7)];
      mapping.bytes[7] = 1;
      mapping.write8(8, 2);
      return { back, arrived: [witness.bytes[7], witness.bytes[8]] };
    });
    expect({ status, signal }).toEqual({ status: 0, signal: null });
    expect(value).toEqual({ back: [0x5a, 0x5a], arrived: [1, 2] });
  });

  test('A8 a private mapping keeps its own copies when a forbidden write was diverted', async () => {
    const { status, signal, value } = await runInChild(({ MemoryObject }) => {
      const memory = MemoryObject.create({ size: 8192 });
      memory.map().bytes.fill(0x5a);
      const mapping = memory.map({ private: true });
      mapping.bytes[0] = 0x11; // its own copy of the page
      mapping.protect({ offset: 0, length: 4096, access: 'r' });
      mapping.bytes[1] = 0xee;
      return [mapping.read8(0), mapping.read8(2), mapping.bytes[0]];
    });
    expect({ status, signal, value }).toEqual({ status: 0, signal: null, value: [0x11, 0x5a, 0x11] });
  });

  test('A8 a thousand pages at once, and atomic operations', async () => {
    const { status, signal, value } = await runInChild(async ({ MemoryObject }, require) => {
      const { setTimeout: sleep } = require('node:timers/promises') as typeof import('node:timers/promises');
      const memory = MemoryObject.create({ size: 1000 * 4096 });
      const witness = memory.map();
      witness.bytes.fill(0x5a);
      const mapping = memory.map({ access: 'r' });
      for (let page = 0; page < 1000; page++) mapping.bytes[page * 4096 + page] = 0xee;
      const words = new Int32Array(mapping.buffer, 0, 1024);
      Atomics.store(words, 17, 1);
      Atomics.add(words, 18, 1);
      const end = Date.now() + 20_000;
      while (mapping.bytes.some((byte) => byte !== 0x5a) && Date.now() < end) await sleep(5);
      return [mapping.bytes.every((byte) => byte === 0x5a), witness.bytes.every((byte) => byte === 0x5a), mapping.state];
    });
    expect({ status, signal, value }).toEqual({ status: 0, signal: null, value: [true, true, 'live'] });
  });

  test.each(CHECKED_WRITES)('A8 $name throws ReadOnlyMappingError and writes nothing', ({ access }) => {
    const memory = MemoryObject.create({ size: 2 * PAGE, name: 'rom' });
    const witness = memory.map();
    const mapping = memory.map({ access: 'r' });
    const pages = memory.map();
    pages.protect({ offset: PAGE, length: PAGE, access: 'r' });
    for (const [target, at] of [
      [mapping, 64],
      [pages, PAGE + 64],
    ] as const) {
      expect(thrownBy(() => access(target, at))).toMatchObject({
        name: 'ReadOnlyMappingError',
        code: 'ERR_MAPPING_READ_ONLY',
        object: 'rom',
        offset: at,
        address: target.address + BigInt(at),
      });
    }
    expect(witness.bytes.every((byte) => byte === 0)).toBe(true);
    access(pages, 64);
    expect(witness.bytes[64]).toBe(0x77);
    expect([mapping.faults, pages.faults]).toEqual([0, 0]);
    memory.close();
  });

  test('A8 checked reads never see what another thread writes raw to the read-only mapping all the time', async () => {
    const { status, signal, stdout, stderr } = await runChild('a8-forbidden-writer.cjs', { args: [1500] });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    const seen = JSON.parse(stdout) as { wrong: number[]; reads: number; faults: number; object: number[] };
    expect(seen).toMatchObject({ wrong: [], object: [0x5a] });
    expect(seen.reads).toBeGreaterThan(0);
    expect(seen.faults).toBeGreaterThan(1);
  });

  test('A8 where the kernel has no mapping to put the object’s page back with, checked accesses to it say so, and go on later', async () => {
    const { status, signal, stderr, stdout } = await runChild('a8-cannot-put-back.cjs', { nodeArgs: ROOMY });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    const failed = { code: 'ENOMEM', errno: -12, syscall: 'mmap', object: 'diverted', offset: 4096 };
    const word = 0x07070707;
    expect(JSON.parse(stdout)).toEqual({
      held: { read32: failed, read64: failed, read: { ...failed, bytesTransferred: 4096 }, check: failed, elsewhere: word },
      lifted: { read32: word, read64: String(0x0707070707070707n), read: 8192, elsewhere: word },
      object: 7,
    });
  });
});
