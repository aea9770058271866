import { readFileSync, writeFileSync } from 'node:fs';
import { MemoryObject } from 'revocable-mmap';
import { testUnless } from '../support/conditions.js';
import { thrownBy } from '../support/thrown.js';
import { fixedMemory } from '../support/wasm.js';

const HUGE = 2 ** 21;
const POOL = '/proc/sys/vm/nr_hugepages';
const FREE = '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages';

const free = (): number => Number(readFileSync(FREE, 'utf8'));

function resizePool(pages: number): void {
  writeFileSync(POOL, String(pages));
}

/** Why there are no 2 MiB pages to test with; undefined when this user can have them reserved. */
function whyNoHugePages(): string | undefined {
  try {
    if (free() >= 4) return undefined;
    resizePool(Number(readFileSync(POOL, 'utf8')) + 4);
    return free() >= 4 ? undefined : 'the kernel finds no 2 MiB pages to reserve';
  } catch (error) {
    return `no 2 MiB pages are reserved, and reserving gives ${(error as NodeJS.ErrnoException).code}`;
  }
}

describe('hugePages', () => {
  const before = readFileSync(POOL, 'utf8');
  const reason = whyNoHugePages();
  afterAll(() => {
    if (readFileSync(POOL, 'utf8') !== before) resizePool(Number(before));
  });

  test('more than there are is a clear error, and nothing is mapped', () => {
    // Others may take some, or reserve a few more, at the same time.
    const wanted = free() + 1000;
    const error = thrownBy(() => MemoryObject.create({ size: wanted * HUGE, hugePages: true }));
    expect(error).toMatchObject({ code: 'ENOMEM', errno: -12, syscall: 'mmap' });
    const [, needed, left] = /(\d+) pages of 2 MiB needed, (\d+) free/.exec(error.message)!;
    expect(Number(needed)).toBe(wanted);
    expect(Number(left)).toBeLessThan(wanted);
    expect(error.message).toContain(`sysctl vm.nr_hugepages=`);
  });

  testUnless(reason, 'a mapping of 2 MiB pages is aligned to them, read, written and revoked', () => {
    const memory = MemoryObject.create({ size: 2 * HUGE, hugePages: true });
    const mapping = memory.map({ fill: 'ones' });
    expect(mapping.address % BigInt(HUGE)).toBe(0n);
    expect([mapping.length, mapping.bytes.length]).toEqual([2 * HUGE, 2 * HUGE]);
    mapping.write32(HUGE + 4, 4711);
    expect([mapping.read32(HUGE + 4), mapping.view.getUint32(HUGE + 4, true)]).toEqual([4711, 4711]);
    expect(memory.map().read32(HUGE + 4)).toBe(4711);
    expect(thrownBy(() => memory.map({ offset: 4096 }))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    mapping.protect({ offset: HUGE, length: HUGE, access: 'r' });
    expect(thrownBy(() => mapping.write8(HUGE, 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
    expect(memory.revokeSync()).toMatchObject({ mappings: 2, means: { failed: 0 } });
    expect(thrownBy(() => mapping.read32(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    expect([mapping.bytes[0], mapping.bytes[2 * HUGE - 1]]).toEqual([0xff, 0xff]);
    memory.close();
  });

  testUnless(reason, 'an offset of whole 2 MiB pages, and an ArrayBuffer', () => {
    const memory = MemoryObject.create({ size: 3 * HUGE, hugePages: true });
    memory.map().write8(HUGE, 7);
    const part = memory.map({ offset: HUGE, length: HUGE, shared: false });
    expect([part.buffer instanceof ArrayBuffer, part.read8(0), part.bytes.length]).toEqual([true, 7, HUGE]);
    memory.revokeSync();
    expect(part.bytes[0]).toBe(0);
    memory.close();
    expect(part.bytes[HUGE - 1]).toBe(0);
  });

  testUnless(reason, 'not inside a WebAssembly memory, whose address is not aligned', () => {
    const object = MemoryObject.create({ size: HUGE, hugePages: true });
    expect(thrownBy(() => object.map({ memory: fixedMemory(64), memoryOffset: 0 }))).toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
      message: 'The argument "options.memory" must not be given for pages of 2097152 bytes. Received [object WebAssembly.Memory]',
    });
    object.close();
  });

  testUnless(reason, 'the pages go back to the pool', () => {
    const takeAndReturn = (): number[] => {
      const counts = [free()];
      const memory = MemoryObject.create({ size: HUGE, hugePages: true });
      memory.map().write8(0, 1);
      counts.push(free());
      memory.revokeSync();
      memory.close();
      counts.push(free());
      return counts.map((count) => count - counts[0]);
    };
    // Again, where others take or return some in the middle of it.
    let seen = takeAndReturn();
    for (let i = 0; i < 20 && seen.join() !== '0,-1,0'; i++) seen = takeAndReturn();
    expect(seen).toEqual([0, -1, 0]);
  });
});
