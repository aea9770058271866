import { closeSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Mapping, MemoryObject } from 'revocable-mmap';
import { testUnless, whyNoMount } from '../support/conditions.js';
import { mountTmpfs } from '../support/mounts.js';
import { poison, whyNoPoison } from '../support/poison.js';
import { kernel } from '../support/kernel-calls.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

/** How a page can be lost: by which kind of access, with which fill. */
const LOSSES: Record<string, (mapping: Mapping, at: number) => void> = {
  'a checked read': (mapping, at) => void thrownBy(() => mapping.read8(at)),
  'a checked write': (mapping, at) => void thrownBy(() => mapping.write8(at, 1)),
  'a checked copy': (mapping, at) => void thrownBy(() => mapping.read(at, new Uint8Array(8))),
  'a raw read': (mapping, at) => void mapping.bytes[at],
  'a raw write': (mapping, at) => void (mapping.bytes[at] = 1),
};
const losses = Object.keys(LOSSES);

/** 36 bytes, mapped far beyond their end; the page at 8192 has been lost, and then the file has grown. */
function grown(loss: string, options: Parameters<MemoryObject['map']>[0] = {}) {
  const path = temporaryFile(36, 0x11);
  const file = MemoryObject.openFile(path, { writable: true });
  const mapping = file.map({ length: 65536, ...options });
  LOSSES[loss](mapping, 8192);
  expect(thrownBy(() => mapping.read8(8192))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end', offset: 8192 });
  writeFileSync(path, Buffer.alloc(65536, 0x66));
  return { path, file, mapping };
}

/** Raw views, checked accesses and check() say the same of the page: it shows the file, or it does not. */
function expectPage(mapping: Mapping, at: number, is: 'the file' | 'lost'): void {
  const page = { offset: at - (at % PAGE), length: PAGE };
  if (is === 'the file') {
    expect([mapping.bytes[at], mapping.read8(at)]).toEqual([0x66, 0x66]);
    expect(() => mapping.check(page)).not.toThrow();
    return;
  }
  expect(mapping.bytes[at]).not.toBe(0x66);
  for (const access of [() => mapping.read8(at), () => mapping.read(at, new Uint8Array(1)), () => mapping.check(page)]) {
    expect(thrownBy(access)).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
  }
}

describe('A7 zap() is the way back for a lost page', () => {
  test.each(losses)('A7 a page lost by %s stays lost when the file grows, and is there again after zap()', (loss) => {
    const { file, mapping, path } = grown(loss);
    expectPage(mapping, 8192, 'lost');
    file.zap();
    expectPage(mapping, 8192, 'the file');
    expect(() => mapping.check()).not.toThrow();
    mapping.write8(8192, 0x77);
    mapping.bytes[8193] = 0x78;
    expect([...readFileSync(path).subarray(8192, 8194)]).toEqual([0x77, 0x78]);
    file.close();
  });

  test.each([{ private: true }, { shared: false }, { access: 'r' }, { fill: 'ones' }, { offset: 4096 }] as const)(
    'A7 of a mapping with %o too',
    (options) => {
      const { file, mapping } = grown('a raw read', options);
      file.zap();
      expectPage(mapping, 8192, 'the file');
      file.close();
    },
  );

  test('A7 zap() of a range brings back the lost pages of the range, and no others', () => {
    const { file, mapping } = grown('a checked read');
    truncateSync(file.name, 36);
    for (const at of [12288, 20480, 24576]) LOSSES['a raw write'](mapping, at);
    writeFileSync(file.name, Buffer.alloc(65536, 0x66));
    file.zap({ offset: 12288, length: 3 * PAGE });
    expectPage(mapping, 8192, 'lost');
    expectPage(mapping, 12288, 'the file');
    expectPage(mapping, 20480, 'the file');
    expectPage(mapping, 24576, 'lost');
    file.zap({ offset: 8192, length: PAGE });
    expectPage(mapping, 8192, 'the file');
    expectPage(mapping, 24576, 'lost');
    file.close();
  });

  test('A7 a range counts in the object: pages that are mapped elsewhere come back where they are shown', () => {
    const { file, mapping } = grown('a checked read');
    mapping.remapPages({ offset: 16384, length: PAGE, objectOffset: 40960 });
    truncateSync(file.name, 36);
    LOSSES['a raw read'](mapping, 16384);
    writeFileSync(file.name, Buffer.alloc(65536, 0x66));
    file.zap({ offset: 16384, length: PAGE });
    expectPage(mapping, 16384, 'lost');
    expectPage(mapping, 8192, 'lost');
    file.zap({ offset: 40960, length: PAGE });
    expectPage(mapping, 16384, 'the file');
    expectPage(mapping, 8192, 'lost');
    file.close();
  });

  test('A7 the protection of a page that comes back is what it was', () => {
    const { file, mapping, path } = grown('a checked read');
    mapping.protect({ offset: 8192, length: PAGE, access: 'r' });
    file.zap();
    expect(mapping.read8(8192)).toBe(0x66);
    expect(thrownBy(() => mapping.write8(8192, 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
    mapping.bytes[8192] = 1;
    expect(readFileSync(path)[8192]).toBe(0x66);
    file.close();
  });

  test('A7 a page that is still missing is lost again at its next touch, and counted again', () => {
    const { file, mapping } = grown('a checked read');
    truncateSync(file.name, 36);
    const faults = mapping.faults;
    file.zap();
    expect(thrownBy(() => mapping.read8(8192))).toMatchObject({ cause: 'past-end' });
    expect(mapping.faults).toBe(faults + 1);
    file.close();
  });

  testUnless(whyNoMount(), 'A7 after a full disk has room again', () => {
    const directory = mountTmpfs(64 * PAGE);
    const path = join(directory, 'sparse');
    writeFileSync(path, '');
    truncateSync(path, 32 * PAGE);
    const fd = openSync(join(directory, 'ballast'), 'w');
    expect(
      thrownBy(() => {
        for (;;) writeSync(fd, Buffer.alloc(PAGE));
      }),
    ).toMatchObject({ code: 'ENOSPC' });
    closeSync(fd);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map();
    expect(thrownBy(() => mapping.write8(8 * PAGE, 1))).toMatchObject({ cause: 'no-space' });
    mapping.bytes[9 * PAGE] = 1;
    rmSync(join(directory, 'ballast'));
    for (const at of [8 * PAGE, 9 * PAGE]) {
      expect(thrownBy(() => mapping.write8(at, 1))).toMatchObject({ cause: 'no-space' });
      mapping.bytes[at] = 5;
    }
    file.zap();
    for (const at of [8 * PAGE, 9 * PAGE]) {
      expect([mapping.read8(at), mapping.bytes[at]]).toEqual([0, 0]); // what went into the fill has not reached the file
      mapping.write8(at, 7);
      expect(readFileSync(path)[at]).toBe(7);
    }
    file.close();
  });

  testUnless(whyNoPoison(), 'A7 a poisoned page is asked for again, and may be refused again', () => {
    const fd = kernel.memfd(4 * PAGE);
    const memory = MemoryObject.fromFd(fd, { writable: true, onBackingFault: 'page' });
    closeSync(fd);
    const mapping = memory.map();
    poison(mapping.address + BigInt(PAGE));
    expect(thrownBy(() => mapping.read8(PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT' });
    memory.zap(); // the poison was this mapping's: a new one has the page
    expect([mapping.read8(PAGE), mapping.bytes[PAGE]]).toEqual([0, 0]);
    poison(mapping.address + BigInt(PAGE));
    expect(thrownBy(() => mapping.read8(PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT' });
    memory.close();
  });
});

describe('A7 nothing else brings a lost page back', () => {
  const OTHERS: Record<string, (file: MemoryObject, mapping: Mapping) => unknown> = {
    'suspend() and resume()': async (file) => {
      await file.suspend();
      await file.resume();
    },
    'suspend(), a touch, and resume()': async (file, mapping) => {
      await file.suspend();
      mapping.bytes[8192] = 9;
      mapping.bytes[0] = 9;
      await file.resume();
    },
    'protect() and back': (_file, mapping) => {
      mapping.protect({ offset: 8192, length: PAGE, access: 'none' });
      mapping.protect({ offset: 8192, length: PAGE, access: 'rw' });
    },
    'protect(), a forbidden write, and back': (_file, mapping) => {
      mapping.protect({ offset: 8192, length: PAGE, access: 'r' });
      mapping.bytes[8192] = 9;
      mapping.protect({ offset: 8192, length: PAGE, access: 'rw' });
    },
    "advise('dontneed')": (_file, mapping) => mapping.advise('dontneed'),
    "advise('pageout') and 'willneed'": (_file, mapping) => {
      mapping.advise('pageout');
      mapping.advise('willneed');
    },
    'remapPages() of its neighbours': (_file, mapping) => {
      mapping.remapPages({ offset: 4096, length: PAGE, objectOffset: 4096 });
      mapping.remapPages({ offset: 12288, length: PAGE, objectOffset: 12288 });
    },
    'sync()': (_file, mapping) => mapping.sync(),
    'zap() of its neighbours': (file) => {
      file.zap({ offset: 4096, length: PAGE });
      file.zap({ offset: 12288, length: PAGE });
    },
  };

  test.each(losses.flatMap((loss) => Object.keys(OTHERS).map((other) => ({ loss, other }))))(
    'A7 a page lost by $loss stays lost after $other',
    async ({ loss, other }) => {
      const { file, mapping, path } = grown(loss);
      await OTHERS[other](file, mapping);
      expectPage(mapping, 8192, 'lost');
      mapping.bytes[8192] = 0x55; // a raw store reaches no file
      expect(readFileSync(path)[8192]).toBe(0x66);
      expect(thrownBy(() => mapping.write8(8192, 1))).toMatchObject({ cause: 'past-end' });
      expectPage(mapping, 20480, 'the file'); // of its neighbours none is lost
      await OTHERS[other](file, mapping);
      expectPage(mapping, 8192, 'lost');
      file.zap();
      expectPage(mapping, 8192, 'the file');
      file.close();
    },
  );

  test("A7 with fill 'signal' a page that checked accesses have lost does not show the file again to raw ones", async () => {
    const { file, mapping } = grown('a checked read', { fill: 'signal' });
    expect(thrownBy(() => mapping.read8(8192))).toMatchObject({ cause: 'past-end' });
    expect(kernel.peek(mapping.address + 8192n)).toBe('EFAULT');
    await file.suspend();
    await file.resume();
    expect(kernel.peek(mapping.address + 8192n)).toBe('EFAULT');
    file.zap();
    expect(mapping.read8(8192)).toBe(0x66);
    expect(kernel.peek(mapping.address + 8192n)).toEqual(Buffer.of(0x66));
    file.close();
  });

  test('A7 remapPages() of the page itself shows another page, which is not lost', () => {
    const { file, mapping } = grown('a raw write');
    mapping.remapPages({ offset: 8192, length: PAGE, objectOffset: 0 });
    expectPage(mapping, 8192, 'the file');
    file.close();
  });
});
