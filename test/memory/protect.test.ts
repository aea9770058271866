import { MemoryObject } from 'revocable-mmap';
import { mapsAt } from '../support/maps.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

describe('protect', () => {
  test('splits the mapping as mprotect does, and checked accesses follow page by page', () => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
    mapping.protect({ offset: 2 * PAGE, length: PAGE, access: 'none' });
    expect(mapsAt(mapping.address, 4 * PAGE).map(({ flags }) => flags)).toEqual(['rw-s', 'r--s', '---s', 'rw-s']);
    mapping.write8(0, 1);
    expect(mapping.read8(PAGE)).toBe(0);
    expect(thrownBy(() => mapping.write8(PAGE, 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY', offset: PAGE });
    expect(thrownBy(() => mapping.read8(2 * PAGE))).toMatchObject({ code: 'ERR_MAPPING_PROTECTED', offset: 2 * PAGE });
    expect(thrownBy(() => mapping.write8(3 * PAGE - 1, 1))).toMatchObject({
      code: 'ERR_MAPPING_PROTECTED',
      offset: 3 * PAGE - 1,
    });
    mapping.write8(3 * PAGE, 1);
    expect(mapping.faults).toBe(0);
    expect(() => mapping.check()).not.toThrow();
    memory.close();
  });

  test('the pages are there again when it is taken back; one call covers pages of every kind', () => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    mapping.bytes.fill(0x5a);
    mapping.protect({ offset: 0, length: 2 * PAGE, access: 'none' });
    mapping.protect({ offset: PAGE, length: 2 * PAGE, access: 'r' });
    mapping.protect({ offset: 0, length: 4 * PAGE, access: 'rw' });
    expect(mapsAt(mapping.address, 4 * PAGE).map(({ flags }) => flags)).toEqual(['rw-s']);
    mapping.write32(PAGE, 7);
    expect([mapping.read32(PAGE), mapping.read8(2 * PAGE)]).toEqual([7, 0x5a]);
    memory.close();
  });

  test('other mappings of the same pages are not concerned', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const [closed, open] = [memory.map(), memory.map()];
    closed.protect({ offset: 0, length: PAGE, access: 'none' });
    open.write8(0, 9);
    closed.protect({ offset: 0, length: PAGE, access: 'r' });
    expect(closed.read8(0)).toBe(9);
    memory.close();
  });

  test('a bulk copy ends at the first page it may not touch', () => {
    const memory = MemoryObject.create({ size: 3 * PAGE });
    const mapping = memory.map();
    mapping.bytes.fill(0x5a);
    mapping.protect({ offset: PAGE, length: PAGE, access: 'none' });
    expect(thrownBy(() => mapping.read(0, new Uint8Array(3 * PAGE)))).toMatchObject({
      code: 'ERR_MAPPING_PROTECTED',
      bytesTransferred: PAGE,
      offset: PAGE,
    });
    expect(mapping.read(2 * PAGE, new Uint8Array(PAGE))).toBe(PAGE);
    memory.close();
  });

  test('the last page may be cut off by the mapping’s end', () => {
    const memory = MemoryObject.create({ size: PAGE + 10 });
    const mapping = memory.map();
    mapping.protect({ offset: PAGE, length: 10, access: 'none' });
    expect(thrownBy(() => mapping.read8(PAGE + 9))).toMatchObject({ code: 'ERR_MAPPING_PROTECTED' });
    expect(mapping.read8(PAGE - 1)).toBe(0);
    memory.close();
  });

  test('protections survive suspend and resume', async () => {
    const memory = MemoryObject.create({ size: 3 * PAGE });
    const mapping = memory.map();
    mapping.bytes.fill(3);
    mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
    await memory.suspend();
    expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    await memory.resume();
    expect(mapsAt(mapping.address, 3 * PAGE).map(({ flags }) => flags)).toEqual(['rw-s', 'r--s', 'rw-s']);
    expect(thrownBy(() => mapping.write8(PAGE, 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
    expect(mapping.read8(PAGE)).toBe(3);
    memory.close();
  });
});
