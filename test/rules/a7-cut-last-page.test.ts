import { appendFileSync, truncateSync, writeFileSync } from 'node:fs';
import { type Mapping, MemoryObject } from 'revocable-mmap';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

function open(
  bytes: number,
  options: Parameters<MemoryObject['map']>[0] = {},
): { path: string; file: MemoryObject; mapping: Mapping } {
  const path = temporaryFile(bytes);
  const file = MemoryObject.openFile(path, { writable: true });
  return { path, file, mapping: file.map(options) };
}

describe('A7 a file that is cut within its last page', () => {
  test('A7 raw views and checked accesses read zeros there; check() says that they are not real', () => {
    const { path, file, mapping } = open(3000);
    truncateSync(path, 10);
    expect([mapping.bytes[9], mapping.bytes[10], mapping.read8(9), mapping.read8(10)]).toEqual([0x5a, 0, 0x5a, 0]);
    expect(thrownBy(() => mapping.check())).toMatchObject({
      code: 'ERR_BACKING_FAULT',
      cause: 'past-end',
      offset: 10,
      objectOffset: 10,
      address: mapping.address + 10n,
    });
    expect([mapping.state, mapping.faults]).toEqual(['live', 0]);
    file.close();
  });

  test('A7 the bytes that are missing are named, in whichever page the end is', () => {
    for (const [size, cut, offset] of [
      [3000, 0, 0],
      [3 * PAGE + 100, 3 * PAGE + 99, 3 * PAGE + 99],
      [3 * PAGE + 100, 2 * PAGE + 1, 2 * PAGE + 1],
      [3 * PAGE, 3 * PAGE - 1, 3 * PAGE - 1],
      [3 * PAGE, 2 * PAGE, 2 * PAGE],
    ]) {
      const { path, file, mapping } = open(size);
      truncateSync(path, cut);
      expect(thrownBy(() => mapping.check())).toMatchObject({ cause: 'past-end', offset });
      file.close();
    }
  });

  test('A7 a range that the cut is not in is fine', () => {
    const { path, file, mapping } = open(3 * PAGE + 100);
    truncateSync(path, 3 * PAGE + 50);
    expect(() => mapping.check({ offset: 0, length: 3 * PAGE })).not.toThrow();
    expect(thrownBy(() => mapping.check({ offset: 3 * PAGE, length: 100 }))).toMatchObject({ offset: 3 * PAGE + 50 });
    file.close();
  });

  test('A7 a mapping that begins within the file counts from there', () => {
    const { path, file, mapping } = open(2 * PAGE + 100, { offset: PAGE });
    truncateSync(path, 2 * PAGE + 10);
    expect(thrownBy(() => mapping.check())).toMatchObject({ offset: PAGE + 10, objectOffset: 2 * PAGE + 10 });
    file.close();
  });

  test('A7 a mapping that is longer than its file from the beginning has nothing missing within the last page', () => {
    const { path, file, mapping } = open(36, { length: PAGE });
    expect(() => mapping.check()).not.toThrow();
    truncateSync(path, 36); // nothing
    expect(() => mapping.check()).not.toThrow();
    truncateSync(path, 30);
    expect(thrownBy(() => mapping.check())).toMatchObject({ offset: 30 });
    file.close();
  });

  test('A7 bytes that came later, and that check() has seen, are missed too', () => {
    const { path, file, mapping } = open(36, { length: PAGE });
    appendFileSync(path, Buffer.alloc(1000));
    truncateSync(path, 500);
    expect(() => mapping.check()).not.toThrow(); // between the two nothing has looked
    appendFileSync(path, Buffer.alloc(1000));
    mapping.check();
    truncateSync(path, 500);
    expect(thrownBy(() => mapping.check())).toMatchObject({ offset: 500 });
    file.close();
  });

  test('A7 a file that is cut and grows back is what it is then', () => {
    const { path, file, mapping } = open(3000);
    truncateSync(path, 10);
    expect(thrownBy(() => mapping.check())).toMatchObject({ offset: 10 });
    writeFileSync(path, Buffer.alloc(3000, 0x66));
    expect(() => mapping.check()).not.toThrow();
    expect(mapping.read8(2999)).toBe(0x66);
    file.close();
  });

  test('A7 zap() takes the file as it is now', () => {
    const { path, file, mapping } = open(3000);
    truncateSync(path, 10);
    file.zap();
    expect(() => mapping.check()).not.toThrow();
    truncateSync(path, 9);
    expect(thrownBy(() => mapping.check())).toMatchObject({ offset: 9 });
    file.close();
  });

  test('A7 pages that are mapped elsewhere are looked at where they are shown', () => {
    const { path, file, mapping } = open(3 * PAGE + 100, { length: 4 * PAGE });
    mapping.remapPages({ offset: 0, length: PAGE, objectOffset: 3 * PAGE });
    truncateSync(path, 3 * PAGE + 50);
    expect(thrownBy(() => mapping.check())).toMatchObject({ offset: 50, objectOffset: 3 * PAGE + 50 });
    file.close();
  });
});
