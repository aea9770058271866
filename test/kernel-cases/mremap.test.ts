/** Case 42: "mremap expand merge" and "mremap expand merge offset" of Linux's tools/testing/selftests/mm/mremap_test.c. */
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { kernel, survivingChild } from '../support/kernel-calls.js';
import { mapsAt } from '../support/maps.js';
import { thrownBy } from '../support/thrown.js';

const { PAGE, readablePages } = kernel;
const REVOKED = { code: 'ERR_MAPPING_REVOKED' };

/**
 * Two pages of one object, consecutive, mapped at consecutive addresses: the kernel merges them into one VMA. V8 usually allocates
 * downwards, so the later page is mapped first.
 */
function merged(memory: MemoryObject): { low: Mapping; high: Mapping } {
  for (let i = 0; i < 100; i++) {
    const high = memory.map({ offset: PAGE, length: PAGE });
    const low = memory.map({ offset: 0, length: PAGE });
    if (low.address + BigInt(PAGE) === high.address) return { low, high };
    // Not kept, and not closed: closing would leave its addresses to be found again.
    high.bytes[0] = low.bytes[0] = 0;
  }
  throw new Error('100 pairs of mappings, and none side by side');
}

describe('kernel cases of mremap_test.c', () => {
  test('case 42 (mremap expand merge): neighbours that share one VMA are tracked, and revoked, as two', () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const { low, high } = merged(memory);
    const open = memory.mappings.size;
    low.write8(0, 1);
    high.write8(0, 2);
    expect(mapsAt(low.address, 2 * PAGE)).toHaveLength(1);
    expect(memory.revokeSync()).toMatchObject({ mappings: open, means: { replaced: open, failed: 0 } });
    expect(readablePages(low.address, 2 * PAGE)).toBe('--');
    for (const mapping of [low, high]) expect(thrownBy(() => mapping.read8(0))).toMatchObject(REVOKED);
    // A touch of one brings its fill to it alone.
    low.bytes[0] = 0x99;
    expect(readablePages(low.address, 2 * PAGE)).toBe('R-');
    expect([high.faults, high.bytes[0]]).toEqual([0, 0]);
    memory.close();
  });

  test('case 42 (mremap expand merge): closing one of two merged neighbours leaves the other live', () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const { low, high } = merged(memory);
    low.write8(0, 1);
    high.write8(0, 2);
    low.close();
    expect([low.bytes[0], high.read8(0), high.faults]).toEqual([0, 2, 0]);
    memory.revokeSync();
    expect(readablePages(low.address, 2 * PAGE)).toBe('R-');
    expect(thrownBy(() => high.read8(0))).toMatchObject(REVOKED);
    memory.close();
  });

  test.each([
    { name: 'expand merge', hole: 1, from: 0 },
    { name: 'expand merge offset', hole: 2, from: 1 },
  ])(
    'case 42 (mremap $name): a mapping that was cut and expanded again by mremap is revoked as a whole',
    async ({ hole, from }) => {
      const result = await survivingChild(
        (lib, k, input: { hole: number; from: number }) => {
          const P = k.PAGE;
          const at = (index: number): bigint => mapping.address + BigInt(index * P);
          const memory = lib.MemoryObject.create({ size: 3 * P });
          const mapping = memory.map();
          for (let i = 0; i < 3; i++) mapping.write8(i * P, i + 1);
          k.munmap(at(input.hole), P);
          const expanded = BigInt(k.mremap(at(input.from), P, 2 * P, 0));
          const before = {
            inPlace: expanded === at(input.from),
            vmas: k.maps(mapping.address, 3 * P).length,
            bytes: [0, 1, 2].map((i) => mapping.read8(i * P)),
          };
          const { mappings, means } = memory.revokeSync();
          return {
            ...before,
            mappings,
            means,
            pages: k.readablePages(mapping.address, 3 * P),
            raw: [0, 1, 2].map((i) => mapping.bytes[i * P]),
          };
        },
        { input: { hole, from } },
      );
      expect(result).toEqual({
        inPlace: true,
        vmas: 1,
        bytes: [1, 2, 3],
        mappings: 1,
        means: { truncated: true, replaced: 1, protected: 0, failed: 0 },
        pages: '---',
        raw: [0, 0, 0],
      });
    },
  );
});
