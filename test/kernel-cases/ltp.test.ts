/** Cases 43 to 46: the Linux Test Project. */
import { closeSync, readFileSync } from 'node:fs';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { runChild } from '../support/child.js';
import { testUnless } from '../support/conditions.js';
import { kernel, survivingChild } from '../support/kernel-calls.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const { MADV, PAGE, errorName, madvise, readablePages } = kernel;
const REVOKED = { code: 'ERR_MAPPING_REVOKED' };

// ioctls of include/uapi/linux/userfaultfd.h
const UFFDIO_API = 0xc018aa3fn;
const UFFDIO_REGISTER = 0xc020aa00n;
const UFFDIO_POISON = 0xc020aa08n;

const maxMapCount = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'));
const whyNotSoMany = maxMapCount > 500_000 ? `vm.max_map_count is ${maxMapCount}: too many mappings to make` : undefined;

describe('kernel cases of the Linux Test Project', () => {
  testUnless(
    whyNotSoMany,
    'case 43 (LTP munmap04): at max_map_count nothing can be split, and whole mappings are revoked and filled all the same',
    async () => {
      const result = await survivingChild(
        (lib, k, input: { path: string; limit: number }) => {
          const P = k.PAGE;
          const code = (call: () => unknown): string => {
            try {
              return `returned ${String(call())}`;
            } catch (error) {
              return (error as { code: string }).code;
            }
          };
          const owned = lib.MemoryObject.create({ size: 5 * P });
          const whole = owned.map();
          whole.bytes.fill(0x11);
          const cut = lib.MemoryObject.openFile(input.path, { writable: true });
          const pieces = cut.map();
          pieces.protect({ offset: P, length: P, access: 'r' });
          const shrinking = lib.MemoryObject.openFile(input.path, { writable: true });
          const tail = shrinking.map();
          const protectable = owned.map();
          protectable.protect({ offset: 0, length: P, access: 'r' }); // its marks exist from here on
          protectable.protect({ offset: 0, length: P, access: 'rw' });
          tail.protect({ offset: 0, length: P, access: 'r' });
          tail.protect({ offset: 0, length: P, access: 'rw' });
          code(() => tail.read8(0)); // everything has run once, so that less has to be allocated later
          code(() => k.errorName(-12));

          // Every other page of a reservation another protection: one mapping each.
          const pages = 2 * input.limit;
          const room = BigInt(k.mmap(0n, pages * P, k.PROT.NONE, k.MAP.PRIVATE | k.MAP.ANONYMOUS | k.MAP.NORESERVE));
          let at = 1;
          while (at < pages && k.mprotect(room + BigInt(at * P), P, k.PROT.READ) === 0) at += 2;
          const full = k.munmap(room + BigInt((pages - 3) * P), P);
          const protect = code(() => protectable.protect({ offset: 2 * P, length: P, access: 'none' }));
          const unprotected = protectable.read8(2 * P);
          const cutReport = cut.revokeSync().means;
          const cutPages = k.readablePages(pieces.address, 4 * P);
          k.ftruncate(shrinking.fd, 2 * P);
          const lost = code(() => tail.read8(2 * P));
          const lostRaw = tail.bytes[3 * P];
          const head = code(() => tail.read8(P));
          const report = owned.revokeSync();
          const checked = code(() => whole.read8(0));
          const wholePages = k.readablePages(whole.address, 5 * P);
          const raw = whole.bytes[4 * P];
          k.munmap(room, pages * P);
          return {
            full: k.errorName(full),
            protect,
            unprotected,
            cutReport,
            cutPages,
            lost,
            lostRaw,
            head,
            mappings: report.mappings,
            means: report.means,
            checked,
            wholePages,
            raw,
          };
        },
        { input: { path: temporaryFile(4 * PAGE, 0x33), limit: maxMapCount } },
      );
      expect(result).toEqual({
        full: 'ENOMEM',
        protect: 'ENOMEM',
        unprotected: 0x11,
        cutReport: { truncated: false, replaced: 1, protected: 0, failed: 0 },
        cutPages: '----',
        lost: 'ERR_BACKING_FAULT',
        lostRaw: 0,
        head: `returned ${0x33}`,
        mappings: 2,
        means: { truncated: true, replaced: 2, protected: 0, failed: 0 },
        checked: 'ERR_MAPPING_REVOKED',
        wholePages: '-----',
        raw: 0,
      });
    },
  );

  for (const access of ['checked', 'raw'])
    testUnless(
      whyNotSoMany,
      `case 43 (LTP munmap04): beyond max_map_count, where no mmap succeeds at all, nothing stays live, and a ${access} access ends well`,
      async () => {
        const result = await survivingChild(
          (lib, k, { limit, access }: { limit: number; access: string }) => {
            const P = k.PAGE;
            const code = (call: () => unknown): string => {
              try {
                return `returned ${String(call())}`;
              } catch (error) {
                return (error as { code: string }).code;
              }
            };
            const memory = lib.MemoryObject.create({ size: 5 * P });
            const mapping = memory.map();
            mapping.bytes.fill(0x11);
            code(() => mapping.read8(0));
            const pages = 2 * limit;
            const room = BigInt(k.mmap(0n, pages * P, k.PROT.NONE, k.MAP.PRIVATE | k.MAP.ANONYMOUS | k.MAP.NORESERVE));
            let at = 1;
            while (at < pages && k.mprotect(room + BigInt(at * P), P, k.PROT.READ) === 0) at += 2;
            const extra: bigint[] = [];
            for (;;) {
              // Shared, so that no two of them merge.
              const more = k.mmap(0n, P, k.PROT.READ, k.MAP.SHARED | k.MAP.ANONYMOUS);
              if (more < 0) break;
              extra.push(BigInt(more));
            }
            const { means } = memory.revokeSync();
            const readable = k.readablePages(mapping.address, 5 * P);
            const accessed = access === 'raw' ? mapping.bytes[0] : code(() => mapping.read8(0));
            k.munmap(room, pages * P);
            return { extra: extra.length, revoked: means.replaced + means.protected, failed: means.failed, readable, accessed };
          },
          { input: { limit: maxMapCount, access } },
        );
        expect(result).toEqual({
          extra: expect.any(Number),
          revoked: 1,
          failed: 0,
          readable: '-----',
          accessed: access === 'raw' ? 0 : 'ERR_MAPPING_REVOKED',
        });
      },
    );

  test('case 44 (LTP mtest06/mmap1): readers of what a writer maps and takes away see the right value or a clean end', async () => {
    const generations = 300;
    const { status, signal, stdout, stderr } = await runChild('kernel-storm.cjs', {
      args: ['readers', generations],
      limit: 60_000,
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    const { reads, gone, violations, mappings } = JSON.parse(stdout) as Record<string, any>;
    expect(violations).toEqual([]);
    expect(mappings).toEqual({ live: 0, suspended: 0, revoked: 0, closed: generations });
    // Most generations were read by both, and ended for both while they read.
    expect(gone).toBeGreaterThan(generations);
    expect(reads).toBeGreaterThan(gone);
  });

  test('case 45 (LTP mtest06/mmap3, mtest05): four threads map, write, revoke and close memory of random sizes', async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    console.log(`case 45: seed ${seed}`);
    const [threads, loops] = [4, 1000];
    const { status, signal, stdout, stderr } = await runChild('kernel-storm.cjs', {
      args: ['loops', threads, loops, seed],
      limit: 60_000,
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    const result = JSON.parse(stdout) as Record<string, any>;
    expect(result.violations).toEqual([]);
    expect(result).toMatchObject({
      loops: threads * loops,
      mappings: { live: 0, suspended: 0, revoked: 0, closed: threads * loops },
    });
    expect(result.revoked).toBeGreaterThan(loops);
  });

  testUnless(
    whyNoPoison(),
    'case 46 (LTP userfaultfd06): a poisoned page fails once for the handler and for ever for its user; its neighbours stay',
    () => {
      const { memory, mapping, uffd } = poisoned('page');
      const error = thrownBy(() => mapping.read8(PAGE + 3));
      expect(error).toMatchObject({ code: 'ERR_BACKING_FAULT', offset: PAGE + 3 });
      // BUS_MCEERR_AR where the kernel handles broken memory, BUS_ADRERR where it does not (CONFIG_MEMORY_FAILURE).
      expect(['poisoned', 'unknown']).toContain((error as { cause?: unknown }).cause);
      expect(thrownBy(() => mapping.write8(PAGE, 1))).toMatchObject({ code: 'ERR_BACKING_FAULT' });
      expect([mapping.bytes[PAGE], mapping.faults, mapping.state]).toEqual([0, 1, 'live']);
      expect([0, 2, 3].map((i) => mapping.read8(i * PAGE))).toEqual([0x33, 0x33, 0x33]);
      memory.revokeSync();
      expect(readablePages(mapping.address, 4 * PAGE)).toBe('----');
      closeSync(uffd);
      memory.close();
    },
  );

  testUnless(whyNoPoison(), "case 46 (LTP userfaultfd06): with scope 'object' a poisoned page takes all of it", () => {
    const { memory, mapping, uffd } = poisoned('object');
    expect(thrownBy(() => mapping.read8(PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT' });
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(REVOKED);
    expect([mapping.state, memory.state]).toEqual(['revoked', 'revoked']);
    closeSync(uffd);
    memory.close();
  });

  test('case 46 (LTP mremap07): what MREMAP_DONTUNMAP leaves behind faults to the handler after the revocation, and so does what it made', async () => {
    const result = await survivingChild((lib, k) => {
      const P = k.PAGE;
      const memory = lib.MemoryObject.create({ size: 2 * P });
      const mapping = memory.map();
      mapping.bytes.fill(0x11);
      const moved = BigInt(k.mremap(mapping.address, 2 * P, 2 * P, k.MREMAP.MAYMOVE | k.MREMAP.DONTUNMAP));
      const before = [mapping.read8(0), (k.peek(moved, 1) as Buffer)[0], mapping.faults];
      const { mappings, means } = memory.revokeSync();
      const pages = [k.readablePages(mapping.address, 2 * P), k.readablePages(moved, 2 * P)];
      const raw = mapping.bytes[0];
      let checked = 'nothing';
      try {
        mapping.read8(0);
      } catch (error) {
        checked = (error as { code: string }).code;
      }
      return { before, mappings, means, pages, raw, faults: mapping.faults, checked, after: k.readablePages(moved, 2 * P) };
    });
    expect(result).toEqual({
      before: [0x11, 0x11, 0],
      mappings: 1,
      means: { truncated: true, replaced: 1, protected: 0, failed: 0 },
      pages: ['--', '--'],
      raw: 0,
      faults: 1,
      checked: REVOKED.code,
      after: '--',
    });
  });

  test('case 46 (LTP mremap07): of a revoked mapping, MREMAP_DONTUNMAP makes a second revoked one', async () => {
    const result = await survivingChild((lib, k) => {
      const memory = lib.MemoryObject.create({ size: 2 * k.PAGE });
      const mapping = memory.map();
      mapping.bytes.fill(0x11);
      memory.revokeSync();
      const moved = BigInt(k.mremap(mapping.address, 2 * k.PAGE, 2 * k.PAGE, k.MREMAP.MAYMOVE | k.MREMAP.DONTUNMAP));
      return { pages: [k.readablePages(mapping.address, 2 * k.PAGE), k.readablePages(moved, 2 * k.PAGE)], raw: mapping.bytes[0] };
    });
    expect(result).toEqual({ pages: ['--', '--'], raw: 0 });
  });
});

function request(...fields: bigint[]): Buffer {
  const bytes = Buffer.alloc(fields.length * 8);
  fields.forEach((field, i) => bytes.writeBigUInt64LE(field, i * 8));
  return bytes;
}

function openUserfaultfd(): number | string {
  const O_CLOEXEC_NONBLOCK_USER_MODE_ONLY = 0x80000 | 0x800 | 1;
  const uffd = kernel.userfaultfd(O_CLOEXEC_NONBLOCK_USER_MODE_ONLY);
  if (uffd < 0) return errorName(uffd);
  const UFFD_FEATURE_POISON = 1n << 14n;
  const answer = kernel.ioctl(uffd, UFFDIO_API, request(0xaan, UFFD_FEATURE_POISON, 0n));
  if (answer === 0) return uffd;
  closeSync(uffd);
  return errorName(answer);
}

/** Four pages of memory that is not the library's, the second one poisoned. */
function poisoned(onBackingFault: 'page' | 'object'): { memory: MemoryObject; mapping: Mapping; uffd: number } {
  const fd = kernel.memfd(4 * PAGE);
  const memory = MemoryObject.fromFd(fd, { writable: true, onBackingFault });
  closeSync(fd);
  const mapping = memory.map();
  mapping.bytes.fill(0x33);
  const uffd = openUserfaultfd() as number;
  const MODE_MISSING = 1n;
  expect(kernel.ioctl(uffd, UFFDIO_REGISTER, request(mapping.address, BigInt(4 * PAGE), MODE_MISSING, 0n))).toBe(0);
  const second = mapping.address + BigInt(PAGE);
  expect(madvise(second, PAGE, MADV.DONTNEED)).toBe(0);
  expect(kernel.ioctl(uffd, UFFDIO_POISON, request(second, BigInt(PAGE), 0n, 0n))).toBe(0);
  return { memory, mapping, uffd };
}

function whyNoPoison(): string | undefined {
  const uffd = openUserfaultfd();
  if (typeof uffd === 'string') return `a userfaultfd that can poison pages gives ${uffd}`;
  closeSync(uffd);
  return undefined;
}
