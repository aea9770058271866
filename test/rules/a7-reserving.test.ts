import { closeSync, openSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { BackingFaultError, type Mapping, MemoryObject, stats } from 'revocable-mmap';
import { testUnless, whyNoMount } from '../support/conditions.js';
import { mountTmpfs } from '../support/mounts.js';
import { survivingChild } from '../support/kernel-calls.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

/** What bring pages in, and whether as a write would. */
const CALLS: Record<string, { bring: (mapping: Mapping) => void; write: boolean }> = {
  'prefetch()': { bring: (mapping) => mapping.prefetch(), write: false },
  "advise('populate-read')": { bring: (mapping) => mapping.advise('populate-read'), write: false },
  "advise('populate-write')": { bring: (mapping) => mapping.advise('populate-write'), write: true },
  'lock()': { bring: (mapping) => mapping.lock(), write: false },
};
const calls = Object.keys(CALLS);

/** What a touch of the byte would say, of a mapping made for that. */
function touch(file: MemoryObject, at: number, length: number, write: boolean): unknown {
  const mapping = file.map({ length });
  const { name, code, cause, offset } = thrownBy(() => (write ? mapping.write8(at, 1) : mapping.read8(at)));
  mapping.close();
  return { name, code, cause, offset };
}

describe('A7 what brings pages in says what a touch would say', () => {
  test.each(calls)('A7 %s beyond the end of the file: the first page that is missing, and its place', (name) => {
    const { bring, write } = CALLS[name];
    const path = temporaryFile(3 * PAGE);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map({ length: 64 * PAGE });
    const error = thrownBy(() => bring(mapping));
    expect(error).toBeInstanceOf(BackingFaultError);
    expect(error).toMatchObject({
      cause: 'past-end',
      offset: 3 * PAGE,
      objectOffset: 3 * PAGE,
      address: mapping.address + BigInt(3 * PAGE),
    });
    expect(error).toMatchObject(touch(file, 3 * PAGE, 64 * PAGE, write) as object);
    file.close();
  });

  test.each(calls)('A7 %s of a part that is within the file of a mapping that is longer', (name) => {
    const path = temporaryFile(3 * PAGE);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map({ length: 64 * PAGE });
    const range = { offset: PAGE, length: 2 * PAGE };
    const within: Record<string, () => void> = {
      'prefetch()': () => mapping.prefetch(range),
      "advise('populate-read')": () => mapping.advise('populate-read', range),
      "advise('populate-write')": () => mapping.advise('populate-write', range),
      'lock()': () => mapping.lock(range),
    };
    expect(within[name]).not.toThrow();
    file.close();
  });

  test.each(calls)('A7 %s marks no page as lost: when the file has grown, the same call succeeds', (name) => {
    const path = temporaryFile(PAGE);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map({ length: 4 * PAGE });
    expect(thrownBy(() => CALLS[name].bring(mapping))).toMatchObject({ cause: 'past-end', offset: PAGE });
    truncateSync(path, 4 * PAGE);
    CALLS[name].bring(mapping);
    expect([mapping.read8(3 * PAGE), mapping.faults, mapping.state]).toEqual([0, 0, 'live']);
    file.close();
  });

  test.each(calls)('A7 %s of a page that a touch has lost says so, where and why', (name) => {
    const path = temporaryFile(PAGE);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map({ length: 4 * PAGE });
    mapping.bytes[2 * PAGE] = 1;
    truncateSync(path, 4 * PAGE);
    expect(thrownBy(() => CALLS[name].bring(mapping))).toMatchObject({
      code: 'ERR_BACKING_FAULT',
      cause: 'past-end',
      offset: 2 * PAGE,
    });
    file.zap();
    CALLS[name].bring(mapping);
    file.close();
  });

  test.each(calls)('A8 %s of a page that is protected', (name) => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    mapping.protect({ offset: PAGE, length: PAGE, access: 'none' });
    expect(thrownBy(() => CALLS[name].bring(mapping))).toMatchObject({ code: 'ERR_MAPPING_PROTECTED', offset: PAGE });
    memory.close();
  });

  test("A8 advise('populate-write') of a page, or a mapping, that may only be read", () => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
    expect(thrownBy(() => mapping.advise('populate-write'))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY', offset: PAGE });
    const reader = memory.map({ access: 'r' });
    const range = { offset: 2 * PAGE, length: PAGE };
    expect(thrownBy(() => reader.advise('populate-write', range))).toMatchObject({
      code: 'ERR_MAPPING_READ_ONLY',
      offset: 2 * PAGE,
    });
    expect(() => reader.advise('populate-read')).not.toThrow();
    memory.close();
  });

  test('A7 lock() beyond the limit of the process is ENOMEM, with its place, and no backing fault', async () => {
    const said = await survivingChild(({ MemoryObject }) => {
      process.setuid!(65534); // root may lock whatever it likes
      const mapping = MemoryObject.create({ size: 1 << 30 }).map();
      try {
        mapping.lock({ offset: 4096, length: (1 << 30) - 4096 });
      } catch (error) {
        const { code, syscall, offset } = error as { code: string; syscall: string; offset: number };
        return { code, syscall, offset };
      }
      return 'locked';
    });
    expect(said).toMatchObject({ syscall: 'mlock', offset: 4096 });
    expect(['ENOMEM', 'EPERM', 'EAGAIN']).toContain((said as { code: string }).code);
  });
});

describe('A7 reserving space', () => {
  const reason = whyNoMount();

  function full() {
    const directory = mountTmpfs(64 * PAGE);
    const path = join(directory, 'sparse');
    writeFileSync(path, Buffer.alloc(2 * PAGE, 0x5a));
    truncateSync(path, 32 * PAGE);
    const ballast = join(directory, 'ballast');
    const fd = openSync(ballast, 'w');
    expect(
      thrownBy(() => {
        for (;;) writeSync(fd, Buffer.alloc(PAGE));
      }),
    ).toMatchObject({ code: 'ENOSPC' });
    closeSync(fd);
    return { path, file: MemoryObject.openFile(path, { writable: true }), makeRoom: () => rmSync(ballast) };
  }

  testUnless(
    reason,
    "A7 advise('populate-write') on a full tmpfs says 'no-space' where a write would, and reserves when there is room",
    () => {
      const { path, file, makeRoom } = full();
      const mapping = file.map();
      const error = thrownBy(() => mapping.advise('populate-write'));
      expect(error).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'no-space', offset: 2 * PAGE });
      expect(error).toMatchObject(touch(file, 2 * PAGE, 32 * PAGE, true) as object);
      makeRoom();
      mapping.advise('populate-write');
      expect(statSync(path).blocks).toBe((32 * PAGE) / 512);
      file.close();
    },
  );

  testUnless(reason, 'A7 prefetch() on a full tmpfs: holes can be read, where a read can', () => {
    const { file } = full();
    const mapping = file.map();
    const reads = (() => {
      const other = file.map();
      try {
        other.read8(8 * PAGE);
        return true;
      } catch {
        return false;
      }
    })();
    if (reads) expect(() => mapping.prefetch()).not.toThrow();
    else expect(thrownBy(() => mapping.prefetch())).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'no-space' });
    file.close();
  });

  testUnless(reason, "A7 map({ populate: 'required' }) maps with all its space, or not at all", () => {
    const { path, file, makeRoom } = full();
    const before = stats().mappings.live;
    expect(thrownBy(() => file.map({ populate: 'required' }))).toMatchObject({
      code: 'ERR_BACKING_FAULT',
      cause: 'no-space',
      offset: 2 * PAGE,
    });
    expect([stats().mappings.live, file.mappings.size]).toEqual([before, 0]);
    const best = file.map({ populate: true }); // as far as there is space, and without a word
    expect(best.read8(0)).toBe(0x5a);
    makeRoom();
    const mapping = file.map({ populate: 'required' });
    expect(statSync(path).blocks).toBe((32 * PAGE) / 512);
    expect(mapping.residency().every((page) => page === 1)).toBe(true);
    file.close();
  });

  test("A7 map({ populate: 'required' }) beyond the end of a file is refused with the place", () => {
    const file = MemoryObject.openFile(temporaryFile(PAGE));
    expect(thrownBy(() => file.map({ length: 3 * PAGE, populate: 'required' }))).toMatchObject({
      cause: 'past-end',
      offset: PAGE,
    });
    expect(() => file.map({ length: 3 * PAGE, populate: true })).not.toThrow();
    file.close();
  });

  test.each([{ access: 'r' }, { private: true }, { shared: false }, {}] as const)(
    "A7 map({ populate: 'required' }) with %o",
    (options) => {
      const memory = MemoryObject.create({ size: 8 * PAGE });
      const mapping = memory.map({ ...options, populate: 'required' });
      expect(mapping.residency().every((page) => page === 1)).toBe(true);
      memory.close();
    },
  );

  test('I1 populate is true, false or required', () => {
    const memory = MemoryObject.create({ size: PAGE });
    expect(thrownBy(() => memory.map({ populate: 'all' as never }))).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    expect(thrownBy(() => memory.map({ populate: 1 as never }))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    memory.close();
  });
});
