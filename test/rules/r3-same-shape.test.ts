import koffi from 'koffi';
import { MemoryObject, type Mapping, type MapOptions } from 'revocable-mmap';
import { mapsAt } from '../support/maps.js';
import { runInChild } from '../support/child.js';

const PAGE = 4096;
const libc = koffi.load(null);
const mprotect = libc.func('int mprotect(intptr_t at, size_t length, int prot)') as (
  at: bigint,
  length: number,
  prot: number,
) => number;

/** What the kernel shows of a mapping, page by page: place, protection, offset in its file. Lines may merge or split. */
function shape(mapping: Mapping): { page: number; prot: string; offset: number }[] {
  const pages = Math.ceil(mapping.length / PAGE);
  const lines = mapsAt(mapping.address, pages * PAGE);
  return Array.from({ length: pages }, (_, page) => {
    const at = mapping.address + BigInt(page * PAGE);
    const line = lines.find(({ start, end }) => start <= at && at < end);
    if (line === undefined) throw new Error(`nothing is mapped at page ${page}`);
    return { page, prot: line.flags.slice(0, 3), offset: line.offset + Number(at - line.start) };
  });
}

function paths(mapping: Mapping): string[] {
  return [...new Set(mapsAt(mapping.address, Math.ceil(mapping.length / PAGE) * PAGE).map((line) => line.path))];
}

/** The mapping's shape before and after, and that the tombstone alone is mapped there after. */
function expectSameShape(object: MemoryObject, mapping: Mapping): void {
  const { address, length, offset, access } = mapping;
  const before = shape(mapping);
  expect(paths(mapping).join()).not.toContain('revoked');
  object.revokeSync();
  expect(shape(mapping)).toEqual(before);
  expect(paths(mapping)).toEqual(['/memfd:revoked (deleted)']);
  expect({ address: mapping.address, length: mapping.length, offset: mapping.offset, access: mapping.access }).toEqual({
    address,
    length,
    offset,
    access,
  });
  expect(mapping.bytes.byteLength).toBe(length);
  object.close();
}

function create(pages: number): MemoryObject {
  return MemoryObject.create({ size: pages * PAGE, name: 'shape' });
}

describe('R3 a revoked mapping keeps its shape', () => {
  const kinds: [string, MapOptions][] = [
    ['the whole object', {}],
    ['a part from an offset on', { offset: 2 * PAGE, length: 3 * PAGE }],
    ['a part that ends inside a page', { offset: PAGE, length: PAGE + 100 }],
    ['read-only', { access: 'r' }],
    ['in an ArrayBuffer', { shared: false }],
    ['private', { private: true }],
    ['private and read-only', { private: true, access: 'r', offset: PAGE }],
  ];
  test.each(kinds)('R3 address, length, offset and protection stay: %s', (_, options) => {
    const object = create(8);
    expectSameShape(object, object.map(options));
  });

  test('R3 per-page protections stay, those that protect() made', () => {
    const object = create(8);
    const mapping = object.map();
    mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
    mapping.protect({ offset: 3 * PAGE, length: 2 * PAGE, access: 'none' });
    expect(shape(mapping).map(({ prot }) => prot)).toEqual(['rw-', 'r--', 'rw-', '---', '---', 'rw-', 'rw-', 'rw-']);
    expectSameShape(object, mapping);
  });

  test('R3 per-page protections stay, those that mprotect(2) made behind the library’s back', () => {
    const object = create(8);
    const mapping = object.map();
    expect(mprotect(mapping.address + BigInt(2 * PAGE), PAGE, 1)).toBe(0);
    expect(mprotect(mapping.address + BigInt(6 * PAGE), 2 * PAGE, 0)).toBe(0);
    expect(shape(mapping).map(({ prot }) => prot)).toEqual(['rw-', 'rw-', 'r--', 'rw-', 'rw-', 'rw-', '---', '---']);
    expectSameShape(object, mapping);
  });

  test('R3 pages that were rearranged keep their offsets', () => {
    const object = create(8);
    const mapping = object.map();
    mapping.remapPages({ offset: 0, length: 2 * PAGE, objectOffset: 6 * PAGE });
    mapping.remapPages({ offset: 5 * PAGE, length: PAGE, objectOffset: 0 });
    expect(shape(mapping).map(({ offset }) => offset / PAGE)).toEqual([6, 7, 2, 3, 4, 0, 6, 7]);
    expectSameShape(object, mapping);
  });

  test('R3 neighbours of one object keep theirs, whether the kernel merged them or not', () => {
    // In an order that lets consecutive pages of the object lie side by side, which the kernel merges into one VMA.
    const object = create(64);
    const mappings = Array.from({ length: 64 }, (_, page) => object.map({ offset: (63 - page) * PAGE, length: PAGE }));
    const before = mappings.map(shape);
    object.revokeSync();
    expect(mappings.map(shape)).toEqual(before);
    object.close();
  });

  test('R3 a suspended mapping keeps its shape, and has it again after', async () => {
    const object = create(4);
    const mapping = object.map();
    mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
    const before = shape(mapping);
    const path = paths(mapping);
    await object.suspend();
    expect(shape(mapping)).toEqual(before);
    expect(paths(mapping)).toEqual(['/memfd:revoked (deleted)']);
    await object.resume();
    expect(shape(mapping)).toEqual(before);
    expect(paths(mapping)).toEqual(path);
    object.close();
  });

  test('R3 address and length stay also after raw accesses have put the fill there, and after that revocation again', async () => {
    const run = await runInChild((lib, require) => {
      const { readFileSync } = require('node:fs') as typeof import('node:fs');
      const object = lib.MemoryObject.create({ size: 5 * 4096 });
      const mapping = object.map();
      mapping.protect({ offset: 4096, length: 4096, access: 'r' });
      const { address } = mapping;
      object.revokeSync();
      const byte = mapping.bytes[4096];
      mapping.bytes[0] = 7;
      object.revokeSync();
      const covered = readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) =>
          line
            .split(' ')[0]
            .split('-')
            .map((hex) => BigInt(`0x${hex}`)),
        )
        .filter(([start, end]) => start < address + 20480n && end > address)
        .reduce(
          (sum, [start, end]) =>
            sum + Number((end < address + 20480n ? end : address + 20480n) - (start > address ? start : address)),
          0,
        );
      return { covered, byte, kept: mapping.bytes[0], same: mapping.address === address, length: mapping.bytes.length };
    });
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual({ covered: 20480, byte: 0, kept: 7, same: true, length: 20480 });
  });
});
