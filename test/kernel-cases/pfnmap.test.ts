/**
 * Cases 38 and 39: Linux's tools/testing/selftests/mm/pfnmap.c. The original maps /dev/mem, which few kernels offer; the ring
 * buffer of perf_event_open(2) is memory of the same kind (VM_PFNMAP, shared, neither copied on fork nor expanded) without hardware.
 */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { MemoryObject, type Advice, type Mapping } from 'revocable-mmap';
import { testUnless } from '../support/conditions.js';
import { forkTo, whyNoFork } from '../support/fork.js';
import { kernel, survivingChild, whyNoPerfEvent } from '../support/kernel-calls.js';
import { thrownBy } from '../support/thrown.js';

const { MADV, PAGE, errorName, readablePages } = kernel;
const REVOKED = { code: 'ERR_MAPPING_REVOKED' };
const whyNoDevice = whyNoPerfEvent();
const EXPECTED = { truncated: false, replaced: 1, protected: 0, failed: 0 };

/** The user page and two pages of ring. */
function deviceMapped(): { memory: MemoryObject; mapping: Mapping } {
  const fd = kernel.perfEvent();
  const memory = MemoryObject.fromFd(fd, { writable: true, name: 'perf' });
  closeSync(fd);
  const mapping = memory.map({ length: 3 * PAGE });
  // perf_event_mmap_page.data_size, which the kernel wrote: this is its memory.
  expect(Number(mapping.read64(1048))).toBe(2 * PAGE);
  return { memory, mapping };
}

function expectRevoked(mapping: Mapping): void {
  expect(readablePages(mapping.address, 3 * PAGE)).toBe('---');
  expect(thrownBy(() => mapping.read64(1048))).toMatchObject({ ...REVOKED, offset: 1048 });
  expect(mapping.view.getBigUint64(1048, true)).toBe(0n);
}

describe('kernel cases of pfnmap.c', () => {
  testUnless(whyNoDevice, 'case 38 (pfn): a device mapping is revoked, and what it showed is gone', () => {
    const { memory, mapping } = deviceMapped();
    expect(memory.revokeSync()).toMatchObject({ mappings: 1, means: EXPECTED });
    expectRevoked(mapping);
    expect(thrownBy(() => memory.map({ length: PAGE }))).toMatchObject({ code: 'ENODEV' });
    memory.close();
  });

  testUnless(whyNoDevice, 'case 38 (pfn): a device mapping is suspended and resumed', async () => {
    const { memory, mapping } = deviceMapped();
    await memory.suspend();
    expect(readablePages(mapping.address, 3 * PAGE)).toBe('---');
    expect(thrownBy(() => mapping.read64(1048))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    await memory.resume();
    expect(Number(mapping.read64(1048))).toBe(2 * PAGE);
    memory.revokeSync();
    expectRevoked(mapping);
    memory.close();
  });

  testUnless(
    whyNoDevice ?? whyNoFork(),
    'case 38 (pfn fork): a forked process has no device memory, and after the revocation the revoked one',
    () => {
      const { memory, mapping } = deviceMapped();
      const before = forkTo('ask-kernel', mapping.address);
      memory.revokeSync();
      const after = forkTo('ask-kernel', mapping.address);
      const reading = forkTo('read', mapping.address);
      expect(before.finish()).toEqual([constants.errno.EFAULT, null]);
      expect(after.finish()).toEqual([constants.errno.EFAULT, null]);
      expect(reading.finish()).toEqual([0, null]);
      expectRevoked(mapping);
      memory.close();
    },
  );

  testUnless(
    whyNoDevice,
    'case 38 (pfn munmap_split): what is left after the program unmapped, or tried to unmap, the first page is revoked',
    async () => {
      const result = await survivingChild((lib, k) => {
        const fd = k.perfEvent();
        const memory = lib.MemoryObject.fromFd(fd, { writable: true });
        const mapping = memory.map({ length: 3 * k.PAGE });
        const unmapped = k.errorName(k.munmap(mapping.address, k.PAGE));
        const { means } = memory.revokeSync();
        return { unmapped, means, pages: k.readablePages(mapping.address, 3 * k.PAGE), raw: mapping.bytes[k.PAGE] };
      });
      // Since Linux 6.17 a ring buffer cannot be split.
      expect(['0', 'EINVAL']).toContain(result.unmapped);
      expect(result).toMatchObject({ means: EXPECTED, pages: '---', raw: 0 });
    },
  );

  testUnless(whyNoDevice, 'case 38 (pfn mremap_expand): a device mapping cannot be expanded, and is revoked as it was', () => {
    const { memory, mapping } = deviceMapped();
    expect(errorName(kernel.mremap(mapping.address, 3 * PAGE, 4 * PAGE, kernel.MREMAP.MAYMOVE))).toBe('EFAULT');
    expect(Number(mapping.read64(1048))).toBe(2 * PAGE);
    memory.revokeSync();
    expectRevoked(mapping);
    memory.close();
  });

  testUnless(
    whyNoDevice,
    'case 38 (pfn mremap_fixed, mremap_shrink): a revoked device mapping stays revoked where it is moved and shrunk',
    async () => {
      const result = await survivingChild((lib, k) => {
        const P = k.PAGE;
        const memory = lib.MemoryObject.fromFd(k.perfEvent(), { writable: true });
        const mapping = memory.map({ length: 3 * P });
        const { means } = memory.revokeSync();
        const room = BigInt(k.mmap(0n, 3 * P, k.PROT.NONE, k.MAP.PRIVATE | k.MAP.ANONYMOUS));
        const moved = BigInt(k.mremap(mapping.address, 3 * P, 3 * P, k.MREMAP.MAYMOVE | k.MREMAP.FIXED, room));
        const pages = k.readablePages(moved, 3 * P);
        const shrunk = BigInt(k.mremap(moved, 3 * P, 2 * P, 0));
        return {
          means,
          moved: moved === room,
          pages,
          shrunk: shrunk === moved,
          rest: k.maps(moved, 3 * P).length,
          path: k.maps(moved, P)[0].path,
        };
      });
      expect(result).toEqual({
        means: EXPECTED,
        moved: true,
        pages: '---',
        shrunk: true,
        rest: 1,
        path: '/memfd:revoked (deleted)',
      });
    },
  );

  testUnless(whyNoDevice, 'case 39 (pfn madvise_disallowed): eight advices are refused with EINVAL and change nothing', () => {
    const { memory, mapping } = deviceMapped();
    const refused = [
      MADV.DONTNEED,
      MADV.DONTNEED_LOCKED,
      MADV.FREE,
      MADV.WIPEONFORK,
      MADV.COLD,
      MADV.PAGEOUT,
      MADV.POPULATE_READ,
      MADV.POPULATE_WRITE,
    ];
    for (const advice of refused) expect(errorName(kernel.madvise(mapping.address, PAGE, advice))).toBe('EINVAL');
    for (const advice of ['dontneed', 'cold', 'pageout', 'populate-read', 'populate-write'] satisfies Advice[]) {
      expect(thrownBy(() => mapping.advise(advice))).toMatchObject({ code: 'EINVAL', syscall: 'madvise' });
    }
    memory.zap(); // by another mapping of the same pages, as the kernel cannot let go of these
    expect([Number(mapping.read64(1048)), mapping.state, mapping.faults]).toEqual([2 * PAGE, 'live', 0]);
    memory.revokeSync();
    expectRevoked(mapping);
    memory.close();
  });
});
