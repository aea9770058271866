import { truncateSync } from 'node:fs';
import { MemoryObject } from 'revocable-mmap';
import { mapsAt } from '../support/maps.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

function numbered(pages: number) {
  const memory = MemoryObject.create({ size: pages * PAGE });
  const linear = memory.map();
  for (let page = 0; page < pages; page++) linear.bytes.fill(page + 1, page * PAGE, (page + 1) * PAGE);
  return { memory, linear };
}

describe('remapPages', () => {
  test('a mapping whose pages are in reverse order', () => {
    const { memory, linear } = numbered(8);
    const mapping = memory.map();
    for (let page = 0; page < 8; page++)
      mapping.remapPages({ offset: page * PAGE, length: PAGE, objectOffset: (7 - page) * PAGE });
    expect(Array.from({ length: 8 }, (_, page) => mapping.read8(page * PAGE))).toEqual([8, 7, 6, 5, 4, 3, 2, 1]);
    mapping.write8(0, 99);
    expect(linear.read8(7 * PAGE)).toBe(99);
    expect(mapsAt(mapping.address, 8 * PAGE).map(({ offset }) => offset / PAGE)).toEqual([7, 6, 5, 4, 3, 2, 1, 0]);
    memory.close();
  });

  test('one page of the object in several places is one page', () => {
    const { memory } = numbered(4);
    const mapping = memory.map();
    for (const page of [0, 1, 2]) mapping.remapPages({ offset: page * PAGE, length: PAGE, objectOffset: 3 * PAGE });
    mapping.write8(0, 77);
    expect([PAGE, 2 * PAGE, 3 * PAGE].map((at) => mapping.read8(at))).toEqual([77, 77, 77]);
    memory.close();
  });

  test('a revocation takes all of its pages, and an untouched one too', () => {
    const { memory } = numbered(8);
    const mapping = memory.map({ length: 4 * PAGE });
    mapping.remapPages({ offset: PAGE, length: 2 * PAGE, objectOffset: 6 * PAGE });
    expect(mapping.read8(PAGE)).toBe(7);
    expect(memory.revokeSync()).toMatchObject({ mappings: 2, means: { replaced: 2, failed: 0 } });
    expect(mapsAt(mapping.address, 4 * PAGE).every(({ path }) => path.startsWith('/memfd:revoked'))).toBe(true);
    expect(mapping.bytes.every((byte) => byte === 0)).toBe(true);
    memory.close();
  });

  test('protections stay where they were', () => {
    const { memory } = numbered(4);
    const mapping = memory.map();
    mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
    mapping.remapPages({ offset: 0, length: 2 * PAGE, objectOffset: 2 * PAGE });
    expect(thrownBy(() => mapping.write8(PAGE, 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
    mapping.write8(0, 1);
    expect([mapping.read8(0), mapping.read8(PAGE)]).toEqual([1, 4]);
    memory.close();
  });

  test('suspend and resume keep the arrangement', async () => {
    const { memory } = numbered(4);
    const mapping = memory.map();
    mapping.remapPages({ offset: 0, length: PAGE, objectOffset: 3 * PAGE });
    await memory.suspend();
    await memory.resume();
    expect([mapping.read8(0), mapping.read8(PAGE)]).toEqual([4, 2]);
    memory.close();
  });

  test('a lost page that is given another page of the file is found again', () => {
    const path = temporaryFile(4 * PAGE, 0x5a);
    const file = MemoryObject.openFile(path);
    const mapping = file.map();
    truncateSync(path, 2 * PAGE);
    expect(thrownBy(() => mapping.read8(3 * PAGE))).toMatchObject({ cause: 'past-end' });
    mapping.remapPages({ offset: 2 * PAGE, length: 2 * PAGE, objectOffset: 0 });
    expect(mapping.read8(3 * PAGE)).toBe(0x5a);
    expect(() => mapping.check()).not.toThrow();
    file.close();
  });
});
