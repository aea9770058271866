/** Cases 11 to 24: Linux's tools/testing/selftests/mm/guard-regions.c, with revoked mappings where it has guard pages. */
import { chmodSync, closeSync, openSync, readFileSync, readSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { MemoryObject, stats, type Mapping } from 'revocable-mmap';
import { testUnless } from '../support/conditions.js';
import { forkTo, whyNoFork } from '../support/fork.js';
import { kernel, survivingChild } from '../support/kernel-calls.js';
import { mapsAt, readMaps } from '../support/maps.js';
import { temporaryFile } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';

const { MADV, PAGE, PROT, SEAL, errorName, madvise, poke, readablePages } = kernel;
const REVOKED = { code: 'ERR_MAPPING_REVOKED' };
const PAST_END = { code: 'ERR_BACKING_FAULT', cause: 'past-end' };
const TOMBSTONE = '/memfd:revoked (deleted)';
const page = (index: number): number => index * PAGE;

/** Each page holds its own number, from 1 on, in every byte. */
function numberPages(mapping: Mapping): void {
  for (let i = 0; i * PAGE < mapping.length; i++) mapping.bytes.fill(i + 1, page(i), page(i + 1));
}

function numbered(pages: number, options: Parameters<MemoryObject['map']>[0] = {}): { memory: MemoryObject; mapping: Mapping } {
  const memory = MemoryObject.create({ size: page(pages) });
  const mapping = memory.map(options);
  numberPages(mapping);
  return { memory, mapping };
}

/** Fails unless no page of it can be read or written by the kernel, and checked accesses throw; touches nothing. */
function expectRevoked(mapping: Mapping): void {
  const pages = Math.ceil(mapping.length / PAGE);
  expect(readablePages(mapping.address, mapping.length)).toBe('-'.repeat(pages));
  for (let i = 0; i < pages; i++) {
    expect(poke(mapping.address + BigInt(page(i)), Buffer.from('x'))).toBe('EFAULT');
    expect(thrownBy(() => mapping.read8(page(i)))).toMatchObject({ ...REVOKED, offset: page(i) });
  }
  expect(mapping.state).toBe('revoked');
}

/** Three mappings side by side, each of an object of its own: V8's allocations are neighbours once they have filled the holes. */
function neighbours(pages: number): Mapping[] {
  const bytes = BigInt(page(pages));
  const all = new Map<bigint, Mapping>();
  for (let i = 0; i < 3000; i++) {
    const { mapping } = numbered(pages);
    all.set(mapping.address, mapping);
    for (const start of [mapping.address - 2n * bytes, mapping.address - bytes, mapping.address]) {
      const found = [0n, 1n, 2n].map((at) => all.get(start + at * bytes)).filter((each) => each !== undefined);
      if (found.length < 3) continue;
      for (const other of all.values()) if (!found.includes(other)) other.object.close();
      return found;
    }
  }
  throw new Error('3,000 mappings, and no three of them are neighbours');
}

describe('kernel cases of guard-regions.c', () => {
  test('case 11 (guard basic): every page of the revoked range fails, every page of its neighbours keeps its bytes', () => {
    const [before, middle, after] = neighbours(10);
    expect(middle.object.revokeSync()).toMatchObject({ mappings: 1, means: { replaced: 1, failed: 0 } });
    expectRevoked(middle);
    expect(middle.bytes.every((byte) => byte === 0)).toBe(true); // now the fill is there
    for (const mapping of [before, after]) {
      for (let i = 0; i < 10; i++) {
        expect(mapping.read8(page(i))).toBe(i + 1);
        expect(mapping.read8(page(i + 1) - 1)).toBe(i + 1);
      }
      mapping.write8(0, 0x55);
      expect({ state: mapping.state, faults: mapping.faults, byte: mapping.bytes[0] }).toEqual({
        state: 'live',
        faults: 0,
        byte: 0x55,
      });
    }
    for (const mapping of [before, middle, after]) mapping.object.close();
  });

  test('case 11 (guard basic): taking the guard away again gives every page back, as resume() does', async () => {
    const [before, middle, after] = neighbours(10);
    await middle.object.suspend();
    expect(readablePages(before.address, page(30))).toBe('R'.repeat(10) + '-'.repeat(10) + 'R'.repeat(10));
    for (let i = 0; i < 10; i++) expect(thrownBy(() => middle.read8(page(i)))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    await middle.object.resume();
    for (const mapping of [before, middle, after]) {
      for (let i = 0; i < 10; i++) expect(mapping.read8(page(i))).toBe(i + 1);
      mapping.object.close();
    }
  });

  test('case 12 (guard multi_vma): one revoke spans many VMAs, leaves holes holes and what others mapped there alone', async () => {
    const result = await survivingChild((lib, k) => {
      const P = k.PAGE;
      const at = (index: number): bigint => mapping.address + BigInt(index * P);
      const memory = lib.MemoryObject.create({ size: 20 * P });
      const mapping = memory.map();
      for (let i = 0; i < 20; i++) mapping.bytes.fill(i + 1, i * P, (i + 1) * P);
      mapping.protect({ offset: 2 * P, length: 2 * P, access: 'r' });
      mapping.protect({ offset: 6 * P, length: P, access: 'none' });
      mapping.remapPages({ offset: 8 * P, length: 2 * P, objectOffset: 0 });
      k.mmap(at(12), 2 * P, k.PROT.READ | k.PROT.WRITE, k.MAP.PRIVATE | k.MAP.ANONYMOUS | k.MAP.FIXED);
      k.poke(at(12), Buffer.alloc(2 * P, 0x7f));
      k.munmap(at(16), P);
      const before = k.maps(mapping.address, 20 * P).length;
      const { mappings, means } = memory.revokeSync();
      return {
        before,
        mappings,
        means,
        readable: k.readablePages(mapping.address, 20 * P),
        foreign: k.peek(at(12), 2 * P).toString('hex') === '7f'.repeat(2 * P),
        vmas: k
          .maps(mapping.address, 20 * P)
          .map(({ start, end, flags, path }) =>
            `${(start - at(0)) / BigInt(P)}-${(end - at(0)) / BigInt(P)} ${flags} ${path}`.trim(),
          ),
      };
    });
    expect(result).toEqual({
      before: expect.any(Number),
      mappings: 1,
      means: { truncated: true, replaced: 1, protected: 0, failed: 0 },
      readable: '------------RR------',
      foreign: true,
      vmas: [
        `0-2 rw-s ${TOMBSTONE}`,
        `2-4 r--s ${TOMBSTONE}`,
        `4-6 rw-s ${TOMBSTONE}`,
        `6-7 ---s ${TOMBSTONE}`,
        // The pages that were rearranged keep their own offsets, so they do not merge with the ones around.
        `7-8 rw-s ${TOMBSTONE}`,
        `8-10 rw-s ${TOMBSTONE}`,
        `10-12 rw-s ${TOMBSTONE}`,
        '12-14 rw-p',
        `14-16 rw-s ${TOMBSTONE}`,
        `17-20 rw-s ${TOMBSTONE}`,
      ],
    });
    expect(result.before).toBe(10);
  });

  test('case 12 (guard multi_vma): the fill a raw access brings leaves alone what others mapped in the middle', async () => {
    const result = await survivingChild((lib, k) => {
      const P = k.PAGE;
      const memory = lib.MemoryObject.create({ size: 10 * P });
      const mapping = memory.map();
      const foreign = mapping.address + BigInt(4 * P);
      k.mmap(foreign, 2 * P, k.PROT.READ | k.PROT.WRITE, k.MAP.PRIVATE | k.MAP.ANONYMOUS | k.MAP.FIXED);
      k.poke(foreign, Buffer.alloc(2 * P, 0x7f));
      memory.revokeSync();
      const first = mapping.bytes[0];
      const last = mapping.bytes[10 * P - 1];
      return { first, last, foreign: k.peek(foreign, 2 * P).toString('hex') === '7f'.repeat(2 * P), state: mapping.state };
    });
    expect(result).toEqual({ first: 0, last: 0, foreign: true, state: 'revoked' });
  });

  test('case 12 (guard multi_vma): one revoke spans 100 mappings of all kinds', () => {
    const path = temporaryFile(page(10), 0x33);
    const memory = MemoryObject.openFile(path, { writable: true });
    const mappings = Array.from({ length: 100 }, (_, i) =>
      memory.map({
        offset: page(i % 10),
        length: PAGE,
        access: i % 2 === 0 ? 'r' : 'rw',
        private: i % 3 === 0,
        shared: i % 5 !== 0,
      }),
    );
    for (const mapping of mappings) expect(mapping.read8(0)).toBe(0x33);
    expect(memory.revokeSync()).toMatchObject({ mappings: 100, means: { replaced: 100, protected: 0, failed: 0 } });
    for (const mapping of mappings) expectRevoked(mapping);
    memory.close();
  });

  test('case 13 (guard munmap): a mapping at the address where a revoked one was is live', async () => {
    const result = await survivingChild(
      async (lib, k) => {
        const bytes = 10 * k.PAGE;
        const dead = new Set<bigint>();
        const revokeAndClose = (): void => {
          const memory = lib.MemoryObject.create({ size: bytes });
          const mapping = memory.map();
          mapping.write32(0, 0xdead);
          memory.revokeSync();
          if (mapping.bytes[0] !== 0) throw new Error('the fill is not zeros');
          memory.close();
          dead.add(mapping.address);
        };
        const live: unknown[] = [];
        for (let round = 0; round < 50; round++) {
          for (let i = 0; i < 20; i++) revokeAndClose();
          global.gc!();
          await new Promise((resolve) => setImmediate(resolve));
          global.gc!();
          for (let i = 0; i < 20; i++) {
            const mapping = lib.MemoryObject.create({ size: bytes }).map();
            live.push(mapping);
            if (!dead.has(mapping.address)) continue;
            const first = mapping.read32(0);
            mapping.bytes.fill(0x42);
            return {
              first,
              pages: k.readablePages(mapping.address, bytes),
              last: mapping.read8(bytes - 1),
              faults: mapping.faults,
              state: mapping.state,
            };
          }
        }
        throw new Error('1000 mappings, and none came where a revoked one had been');
      },
      { nodeArgs: ['--expose-gc'] },
    );
    expect(result).toEqual({ first: 0, pages: 'R'.repeat(10), last: 0x42, faults: 0, state: 'live' });
  });

  test('case 13 (guard munmap): what a program maps over the first and the last page of a revoked mapping stays', async () => {
    const result = await survivingChild((lib, k) => {
      const P = k.PAGE;
      const memory = lib.MemoryObject.create({ size: 10 * P });
      const mapping = memory.map();
      memory.revokeSync();
      for (const index of [0, 9]) {
        const at = mapping.address + BigInt(index * P);
        k.munmap(at, P);
        k.mmap(at, P, k.PROT.READ | k.PROT.WRITE, k.MAP.PRIVATE | k.MAP.ANONYMOUS | k.MAP.FIXED_NOREPLACE);
        k.poke(at, Buffer.alloc(P, 0x7f));
      }
      const raw = [mapping.bytes[0], mapping.bytes[10 * P - 1]];
      const pages = k.readablePages(mapping.address, 10 * P);
      const faults = mapping.faults;
      memory.close();
      return { raw, pages, faults, afterClose: mapping.bytes[5 * P] };
    });
    expect(result).toEqual({ raw: [0x7f, 0x7f], pages: 'R--------R', faults: 0, afterClose: 0 });
  });

  test('case 14 (guard mprotect): a change of protection does not resurrect, and revoking twice is fine', () => {
    const { memory, mapping } = numbered(10);
    expect(memory.revokeSync().revokedByThisCall).toBe(true);
    const middle = mapping.address + BigInt(page(5));
    for (const prot of [PROT.READ, PROT.READ | PROT.WRITE, PROT.NONE, PROT.READ]) {
      expect(kernel.mprotect(middle, page(2), prot)).toBe(0);
      expectRevoked(mapping);
    }
    expect(memory.revokeSync()).toMatchObject({ revokedByThisCall: false, mappings: 1, means: { replaced: 1 } });
    expectRevoked(mapping);
    expect(kernel.mprotect(mapping.address, page(10), PROT.READ | PROT.WRITE)).toBe(0);
    expectRevoked(mapping);
    expect(thrownBy(() => mapping.protect({ offset: page(5), length: page(2), access: 'rw' }))).toMatchObject(REVOKED);
    memory.close();
  });

  test('case 14 (guard mprotect): pages that were protected before are revoked with their protection', () => {
    const { memory, mapping } = numbered(10);
    mapping.protect({ offset: page(5), length: page(2), access: 'r' });
    expect(thrownBy(() => mapping.write8(page(5), 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
    expect(mapping.read8(page(6))).toBe(7);
    memory.revokeSync();
    expectRevoked(mapping);
    expect(mapsAt(mapping.address, mapping.length).map(({ flags, path }) => `${flags} ${path}`)).toEqual([
      `rw-s ${TOMBSTONE}`,
      `r--s ${TOMBSTONE}`,
      `rw-s ${TOMBSTONE}`,
    ]);
    mapping.bytes.fill(0xee); // the fill takes writes everywhere, also on the pages that were read-only
    expect(mapping.bytes[page(5)]).toBe(0xee);
    memory.close();
  });

  test('case 15 (guard split_merge): the revoked state survives splits and merges', async () => {
    const result = await survivingChild((lib, k) => {
      const P = k.PAGE;
      const at = (index: number): bigint => mapping.address + BigInt(index * P);
      const memory = lib.MemoryObject.create({ size: 10 * P });
      const mapping = memory.map();
      mapping.bytes.fill(0x11);
      memory.revokeSync();
      const seen: Record<string, string | number> = {};
      const look = (name: string): void => {
        seen[name] = `${k.readablePages(mapping.address, 10 * P)} ${k.maps(mapping.address, 10 * P).length}`;
      };
      look('revoked');
      for (const index of [2, 5, 8]) k.munmap(at(index), P);
      look('three holes');
      for (const index of [2, 5, 8]) {
        k.mmap(at(index), P, k.PROT.READ | k.PROT.WRITE, k.MAP.PRIVATE | k.MAP.ANONYMOUS | k.MAP.FIXED_NOREPLACE);
      }
      look('three foreign pages');
      seen['means'] = JSON.stringify(memory.revokeSync().means);
      look('revoked twice');
      const again = lib.MemoryObject.create({ size: 10 * P });
      const other = again.map();
      again.revokeSync();
      const lookAtOther = (name: string): void => {
        seen[name] = `${k.readablePages(other.address, 10 * P)} ${k.maps(other.address, 10 * P).length}`;
      };
      for (const index of [0, 7]) k.mprotect(other.address + BigInt(index * P), 3 * P, k.PROT.READ);
      lookAtOther('split in three');
      for (const index of [0, 7]) k.mprotect(other.address + BigInt(index * P), 3 * P, k.PROT.READ | k.PROT.WRITE);
      lookAtOther('merged');
      return seen;
    });
    expect(result).toEqual({
      revoked: '---------- 1',
      'three holes': '---------- 4',
      'three foreign pages': '--R--R--R- 7',
      means: JSON.stringify({ truncated: true, replaced: 1, protected: 0, failed: 0 }),
      'revoked twice': '--R--R--R- 7',
      'split in three': '---------- 3',
      merged: '---------- 1',
    });
  });

  test('case 15 (guard split_merge): a live mapping that was split and merged again is revoked as a whole', () => {
    const { memory, mapping } = numbered(10);
    for (const offset of [page(0), page(7)]) mapping.protect({ offset, length: page(3), access: 'r' });
    expect(mapsAt(mapping.address, mapping.length)).toHaveLength(3);
    for (const offset of [page(0), page(7)]) mapping.protect({ offset, length: page(3), access: 'rw' });
    expect(mapsAt(mapping.address, mapping.length)).toHaveLength(1);
    for (const offset of [page(0), page(7)]) mapping.protect({ offset, length: page(3), access: 'r' });
    memory.revokeSync();
    expectRevoked(mapping);
    expect(mapsAt(mapping.address, mapping.length).map(({ flags }) => flags)).toEqual(['r--s', 'rw-s', 'r--s']);
    memory.close();
  });

  test.each([false, true])(
    'case 16 (guard dontneed, lazyfree, cold_pageout): madvise cannot resurrect revoked memory (private: %s)',
    (priv) => {
      const { memory, mapping } = numbered(10, { private: priv });
      memory.revokeSync();
      const advices = [MADV.DONTNEED, MADV.FREE, MADV.COLD, MADV.PAGEOUT, MADV.WILLNEED, MADV.DONTNEED_LOCKED];
      const answers = advices.map((advice) => madvise(mapping.address, mapping.length, advice));
      // The tombstone is a shared mapping: MADV_FREE is for private anonymous memory.
      expect(answers).toEqual([0, -constants.errno.EINVAL, 0, 0, 0, 0]);
      expectRevoked(mapping);
      expect(thrownBy(() => mapping.advise('dontneed'))).toMatchObject(REVOKED);
      expect(thrownBy(() => mapping.advise('cold'))).toMatchObject(REVOKED);
      expect(thrownBy(() => memory.zap())).toMatchObject({ code: 'ENODEV' });
      memory.close();
    },
  );

  test('case 16 (guard dontneed, lazyfree, cold_pageout): of a mapping with every other page closed, those stay closed and the others keep their bytes', () => {
    const { memory, mapping } = numbered(10);
    for (let i = 0; i < 10; i += 2) mapping.protect({ offset: page(i), length: PAGE, access: 'none' });
    for (const advice of ['dontneed', 'cold', 'pageout'] as const) {
      mapping.advise(advice);
      for (let i = 0; i < 10; i++) {
        if (i % 2 === 0) expect(thrownBy(() => mapping.read8(page(i)))).toMatchObject({ code: 'ERR_MAPPING_PROTECTED' });
        else expect(mapping.read8(page(i))).toBe(i + 1);
      }
    }
    memory.close();
  });

  test('case 16 (guard dontneed, lazyfree): a page lost to a backing fault stays lost, until zap()', () => {
    const path = temporaryFile(page(4), 0x33);
    const memory = MemoryObject.openFile(path, { writable: true });
    const mapping = memory.map();
    truncateSync(path, page(2));
    expect(thrownBy(() => mapping.read8(page(2)))).toMatchObject(PAST_END);
    writeFileSync(path, Buffer.alloc(page(4), 0x44));
    mapping.advise('dontneed');
    madvise(mapping.address + BigInt(page(2)), PAGE, MADV.FREE);
    expect(thrownBy(() => mapping.read8(page(2)))).toMatchObject(PAST_END);
    expect(mapping.bytes[page(2)]).toBe(0);
    memory.zap();
    expect([mapping.read8(page(2)), mapping.bytes[page(2)]]).toEqual([0x44, 0x44]);
    expect(mapping.read8(page(3))).toBe(0x44); // never touched while it was gone, so never lost
    memory.close();
  });

  test('case 17 (guard mlock): a locked mapping is revoked like any other, and nothing of it stays locked', () => {
    const lockedKiB = (): number => Number(/^VmLck:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
    const { memory, mapping } = numbered(10);
    const before = lockedKiB();
    mapping.lock();
    expect(lockedKiB()).toBe(before + page(10) / 1024);
    expect(memory.revokeSync()).toMatchObject({ mappings: 1, means: { replaced: 1, protected: 0, failed: 0 } });
    expect(lockedKiB()).toBe(before);
    expectRevoked(mapping);
    expect(errorName(kernel.mlock(mapping.address, mapping.length))).toBe('ENOMEM');
    expect(thrownBy(() => mapping.lock())).toMatchObject(REVOKED);
    memory.close();
  });

  test('case 17 (guard mlock): locked pages are zapped and come back with their bytes', () => {
    const { memory, mapping } = numbered(10);
    mapping.lock({ offset: page(5), length: page(5) });
    memory.zap();
    for (let i = 0; i < 10; i++) expect(mapping.read8(page(i))).toBe(i + 1);
    memory.close();
  });

  testUnless(
    process.getuid!() === 0 ? undefined : 'locking all future memory needs CAP_IPC_LOCK',
    'case 17 (guard mlock): where all future memory is locked, mappings are revoked and filled all the same',
    async () => {
      const result = await survivingChild((lib, k) => {
        const MCL_FUTURE = 2;
        const locked = k.mlockall(MCL_FUTURE);
        const memory = lib.MemoryObject.create({ size: 10 * k.PAGE });
        const mapping = memory.map();
        mapping.bytes.fill(0x11);
        const { means } = memory.revokeSync();
        const pages = k.readablePages(mapping.address, 10 * k.PAGE);
        const raw = mapping.bytes.every((byte) => byte === 0);
        k.munlockall(); // V8 lets go of its heap with MADV_DONTNEED, which fails on what it has mapped since, and then aborts
        return { locked, means, pages, raw, faults: mapping.faults };
      });
      expect(result).toEqual({
        locked: 0,
        means: { truncated: true, replaced: 1, protected: 0, failed: 0 },
        pages: '-'.repeat(10),
        raw: true,
        faults: 1,
      });
    },
  );

  test('case 18 (guard mremap_move, mremap_expand, mremap_shrink): a revoked mapping that is moved, grown and shrunk stays revoked', async () => {
    const result = await survivingChild((lib, k) => {
      const P = k.PAGE;
      const memory = lib.MemoryObject.create({ size: 5 * P });
      const mapping = memory.map();
      mapping.bytes.fill(0x11);
      memory.revokeSync();
      const room = BigInt(k.mmap(0n, 20 * P, k.PROT.NONE, k.MAP.PRIVATE | k.MAP.ANONYMOUS | k.MAP.NORESERVE));
      const moved = BigInt(k.mremap(mapping.address, 5 * P, 5 * P, k.MREMAP.MAYMOVE | k.MREMAP.FIXED, room));
      const seen = { moved: k.readablePages(moved, 5 * P), left: k.maps(mapping.address, 5 * P).length };
      k.munmap(room + BigInt(5 * P), 15 * P);
      const grown = BigInt(k.mremap(moved, 5 * P, 10 * P, 0));
      const grownPages = k.readablePages(grown, 10 * P);
      const shrunk = BigInt(k.mremap(grown, 10 * P, 3 * P, 0));
      return {
        ...seen,
        inPlace: grown === moved && shrunk === moved,
        grownPages,
        shrunkPages: k.readablePages(shrunk, 5 * P),
        vmas: k.maps(shrunk, 10 * P).map(({ start, end, path }) => `${Number(end - start) / P} ${path}`),
      };
    });
    expect(result).toEqual({
      moved: '-----',
      left: 0,
      inPlace: true,
      grownPages: '----------',
      shrunkPages: '-----',
      vmas: [`3 ${TOMBSTONE}`],
    });
  });

  test('case 18 (guard mremap_move, mremap_expand): what mremap moved away, grew or duplicated before is revoked with the memory', async () => {
    const result = await survivingChild((lib, k) => {
      const P = k.PAGE;
      const memory = lib.MemoryObject.create({ size: 10 * P });
      const mapping = memory.map({ length: 5 * P });
      mapping.bytes.fill(0x11);
      const alias = BigInt(k.mremap(mapping.address, 0, 5 * P, k.MREMAP.MAYMOVE));
      const moved = BigInt(k.mremap(mapping.address, 5 * P, 10 * P, k.MREMAP.MAYMOVE));
      const before = [k.readablePages(alias, 5 * P), k.readablePages(moved, 10 * P), k.maps(mapping.address, 5 * P).length];
      const { mappings, means } = memory.revokeSync();
      return {
        moved: moved !== mapping.address,
        before,
        mappings,
        means,
        after: [k.readablePages(alias, 5 * P), k.readablePages(moved, 10 * P)],
        // Nothing is put into the hole it left.
        hole: k.maps(mapping.address, 5 * P).length,
      };
    });
    expect(result).toEqual({
      moved: true,
      before: ['RRRRR', 'RRRRRRRRRR', 0],
      mappings: 1,
      means: { truncated: true, replaced: 1, protected: 0, failed: 0 },
      after: ['-----', '----------'],
      hole: 0,
    });
  });

  testUnless(whyNoFork(), 'case 19 (guard fork): a process forked after the revocation inherits revoked memory', () => {
    const { memory, mapping } = numbered(2);
    memory.revokeSync();
    expect(forkTo('ask-kernel', mapping.address).finish()).toEqual([constants.errno.EFAULT, null]);
    expect(forkTo('read', mapping.address).finish()).toEqual([0, null]);
    expect(forkTo('write', mapping.address).finish()).toEqual([0x77, null]);
    expectRevoked(mapping); // whatever the children's touches brought, they brought to themselves
    memory.close();
  });

  testUnless(whyNoFork(), 'case 19 (guard fork): a process forked before the revocation loses the memory with it', () => {
    const { memory, mapping } = numbered(2);
    const live = forkTo('read', mapping.address);
    expect(live.finish()).toEqual([1, null]);
    const asking = forkTo('ask-kernel', mapping.address);
    const reading = forkTo('read', mapping.address);
    memory.revokeSync();
    expect(asking.finish()).toEqual([constants.errno.EFAULT, null]);
    expect(reading.finish()).toEqual([0, null]);
    expectRevoked(mapping);
    memory.close();
  });

  testUnless(whyNoFork(), 'case 19 (guard fork): what a child maps over the revoked memory does not touch the parent', () => {
    const { memory, mapping } = numbered(2);
    memory.revokeSync();
    expect(forkTo('unmap', mapping.address).finish()).toEqual([0, null]);
    expectRevoked(mapping);
    memory.close();
  });

  testUnless(whyNoFork(), 'case 19 (guard fork_cow): private copies, the parent’s and the child’s, are both revoked', () => {
    const { memory, mapping } = numbered(2, { private: true });
    expect(mapping.bytes[0]).toBe(1);
    const asking = forkTo('ask-kernel', mapping.address);
    const reading = forkTo('read', mapping.address);
    memory.revokeSync();
    expect(asking.finish()).toEqual([constants.errno.EFAULT, null]);
    expect(reading.finish()).toEqual([0, null]);
    expectRevoked(mapping);
    memory.close();
  });

  testUnless(
    whyNoFork(),
    'case 19 (guard fork_wipeonfork): only the fill can be wiped on fork, and a child then reads zeros',
    () => {
      const { memory, mapping } = numbered(2);
      expect(errorName(madvise(mapping.address, mapping.length, MADV.WIPEONFORK))).toBe('EINVAL');
      memory.revokeSync();
      expect(errorName(madvise(mapping.address, mapping.length, MADV.WIPEONFORK))).toBe('EINVAL');
      mapping.bytes.fill(0x66); // into the fill
      expect(forkTo('read', mapping.address).finish()).toEqual([0x66, null]);
      expect(madvise(mapping.address, mapping.length, MADV.WIPEONFORK)).toBe(0);
      expect(forkTo('read', mapping.address).finish()).toEqual([0, null]);
      expect(mapping.bytes[0]).toBe(0x66);
      memory.close();
    },
  );

  test('case 20 (guard populate): populating revoked memory fails with EFAULT and brings nothing', () => {
    const { memory, mapping } = numbered(10);
    memory.revokeSync();
    for (const advice of [MADV.POPULATE_READ, MADV.POPULATE_WRITE]) {
      expect(errorName(madvise(mapping.address, mapping.length, advice))).toBe('EFAULT');
    }
    expectRevoked(mapping);
    expect(thrownBy(() => mapping.prefetch())).toMatchObject(REVOKED);
    expect(thrownBy(() => mapping.advise('populate-read'))).toMatchObject(REVOKED);
    expect(mapping.faults).toBe(0);
    memory.close();
  });

  test('case 20 (guard populate): populating past the end of a file is a backing fault, and mapping with populate is not', () => {
    const path = temporaryFile(page(2), 0x33);
    const memory = MemoryObject.openFile(path, { writable: true });
    const mapping = memory.map({ length: page(4), populate: true });
    expect(mapping.faults).toBe(0);
    for (const call of [
      () => mapping.prefetch(),
      () => mapping.advise('populate-read'),
      () => mapping.advise('populate-write'),
    ]) {
      expect(thrownBy(call)).toMatchObject(PAST_END);
    }
    mapping.prefetch({ offset: 0, length: page(2) });
    expect(mapping.read8(page(1))).toBe(0x33);
    expect(thrownBy(() => mapping.read8(page(2)))).toMatchObject(PAST_END);
    memory.close();
  });

  test('case 21 (guard truncation): no change of the file’s size resurrects a revoked mapping', () => {
    const path = temporaryFile(page(10), 0x33);
    const memory = MemoryObject.openFile(path, { writable: true });
    const mapping = memory.map();
    memory.revokeSync();
    for (const size of [page(5), 0, page(10), page(20)]) {
      truncateSync(path, size);
      expectRevoked(mapping);
    }
    writeFileSync(path, Buffer.alloc(page(10), 0x44));
    expectRevoked(mapping);
    mapping.bytes.fill(0x55);
    expect(readFileSync(path).every((byte) => byte === 0x44)).toBe(true);
    memory.close();
  });

  test('case 21 (guard hole_punch): a hole in the file is zeros to a live mapping and nothing to a revoked one', () => {
    const path = temporaryFile(page(10), 0x33);
    const memory = MemoryObject.openFile(path, { writable: true });
    const mapping = memory.map();
    expect(mapping.read8(page(3))).toBe(0x33);
    expect(kernel.punchHole(memory.fd, page(3), page(4))).toBe(0);
    for (let i = 0; i < 10; i++) expect(mapping.read8(page(i))).toBe(i >= 3 && i < 7 ? 0 : 0x33);
    expect(mapping.faults).toBe(0);
    memory.revokeSync();
    expect(kernel.punchHole(memory.fd, 0, page(3))).toBe(0);
    expectRevoked(mapping);
    memory.close();
  });

  test('case 21 (guard truncation): a page that was lost stays lost through every further change of size', () => {
    const path = temporaryFile(page(4), 0x33);
    const memory = MemoryObject.openFile(path, { writable: true });
    const mapping = memory.map();
    truncateSync(path, page(1));
    expect(thrownBy(() => mapping.read8(page(1)))).toMatchObject(PAST_END);
    for (const size of [page(4), 0, page(8)]) {
      truncateSync(path, size);
      expect(thrownBy(() => mapping.read8(page(1)))).toMatchObject(PAST_END);
    }
    expect([mapping.read8(0), mapping.read8(page(2))]).toEqual([0, 0]);
    expect(mapping.faults).toBe(1);
    memory.close();
  });

  test('case 22 (guard map_private): revoking an object takes its shared and its private mappings, whichever was written', () => {
    const path = temporaryFile(page(10), 0x33);
    const memory = MemoryObject.openFile(path, { writable: true });
    const shared = memory.map();
    const priv = memory.map({ private: true });
    shared.write8(0, 0x73);
    priv.write8(page(1), 0x70);
    expect([priv.read8(0), shared.read8(page(1))]).toEqual([0x73, 0x33]);
    expect(memory.revokeSync()).toMatchObject({ mappings: 2, means: { replaced: 2 } });
    expectRevoked(shared);
    expectRevoked(priv);
    memory.close();
  });

  test('case 22 (guard map_private): a mapping of the same file through another object stays live', async () => {
    const path = temporaryFile(page(10), 0x33);
    const first = MemoryObject.openFile(path, { writable: true });
    const second = MemoryObject.openFile(path, { writable: true });
    const shared = first.map();
    const priv = second.map({ private: true });
    priv.write8(page(1), 0x70);
    first.revokeSync();
    expectRevoked(shared);
    expect([priv.read8(0), priv.read8(page(1)), priv.faults]).toEqual([0x33, 0x70, 0]);
    // The temporary kind refuses: a private copy has nowhere to wait.
    expect(await rejectionOf(second.suspend())).toMatchObject({ code: 'EBUSY' });
    expect(priv.read8(page(1))).toBe(0x70);
    second.revokeSync();
    expectRevoked(priv);
    first.close();
    second.close();
  });

  test('case 23 (guard readonly_file): a read-only mapping of a read-only file is revoked', () => {
    const path = temporaryFile(page(10), 0x33);
    chmodSync(path, 0o444);
    const memory = MemoryObject.openFile(path);
    const mapping = memory.map();
    expect([mapping.access, mapping.read8(page(9))]).toEqual(['r', 0x33]);
    expect(memory.revokeSync()).toMatchObject({ mappings: 1, means: { replaced: 1, protected: 0, failed: 0 } });
    expect(mapsAt(mapping.address, mapping.length)).toMatchObject([{ flags: 'r--s', path: TOMBSTONE }]);
    expectRevoked(mapping);
    mapping.bytes.fill(0x44); // A8: never crashes
    expect(readFileSync(path).every((byte) => byte === 0x33)).toBe(true);
    memory.close();
  });

  test.each(['WRITE', 'FUTURE_WRITE'] as const)(
    'case 23 (guard memfd_write_seal): a memfd under F_SEAL_%s is mapped read-only and revoked',
    (seal) => {
      const fd = kernel.memfd(page(10));
      writeSync(fd, Buffer.alloc(page(10), 0x33), 0, page(10), 0);
      expect(kernel.addSeals(fd, SEAL[seal])).toBe(0);
      expect(thrownBy(() => MemoryObject.fromFd(fd, { writable: true }))).toMatchObject({ code: 'EPERM', syscall: 'mmap' });
      const memory = MemoryObject.fromFd(fd);
      const mapping = memory.map();
      const priv = memory.map({ private: true });
      expect([mapping.access, mapping.read8(page(9)), priv.read8(0)]).toEqual(['r', 0x33, 0x33]);
      expect(memory.revokeSync()).toMatchObject({ mappings: 2, means: { truncated: false, replaced: 2, failed: 0 } });
      expectRevoked(mapping);
      expectRevoked(priv);
      mapping.bytes.fill(0x44);
      const copy = Buffer.alloc(page(10));
      readSync(fd, copy, 0, copy.length, 0);
      expect(copy.every((byte) => byte === 0x33)).toBe(true);
      memory.close();
      closeSync(fd);
    },
  );

  test('case 24 (guard pagemap): /proc/self/maps lists exactly the revoked ranges, and pagemap holds nothing there', () => {
    const before = readMaps().filter(({ path }) => path === TOMBSTONE).length;
    const revoked = Array.from({ length: 5 }, () => numbered(4));
    const live = Array.from({ length: 5 }, () => numbered(4));
    const revokedBefore = stats().mappings.revoked;
    for (const { memory } of revoked) memory.revokeSync();
    expect(stats().mappings.revoked - revokedBefore).toBe(5);
    for (const { mapping } of revoked) {
      expect(mapsAt(mapping.address, mapping.length).every(({ path }) => path === TOMBSTONE)).toBe(true);
      expect(presentPages(mapping)).toBe('----');
      expect(thrownBy(() => mapping.residency())).toMatchObject(REVOKED);
    }
    for (const { mapping } of live) {
      expect(mapsAt(mapping.address, mapping.length).some(({ path }) => path === TOMBSTONE)).toBe(false);
      expect(presentPages(mapping)).toBe('PPPP');
      expect(Array.from(mapping.residency())).toEqual([1, 1, 1, 1]);
    }
    for (const { memory } of [...revoked, ...live]) memory.close();
    // Closed mappings leave no tombstone behind.
    expect(readMaps().filter(({ path }) => path === TOMBSTONE)).toHaveLength(before);
  });

  testUnless(
    whyNoPagemapScan(),
    'case 24 (guard pagemap_scan): PAGEMAP_SCAN finds the pages of live mappings and none of revoked ones',
    () => {
      const [before, middle, after] = neighbours(4);
      middle.object.revokeSync();
      const ranges = pagemapScan(before.address, page(12));
      expect(ranges).toEqual([
        [0, 4],
        [8, 12],
      ]);
      expect(middle.bytes[page(1)]).toBe(0); // one read of the fill: its zero page
      expect(pagemapScan(before.address, page(12))).toEqual([
        [0, 4],
        [5, 6],
        [8, 12],
      ]);
      for (const mapping of [before, middle, after]) mapping.object.close();
    },
  );
});

/** One letter a page, by /proc/self/pagemap: `P` present, `-` not. */
function presentPages(mapping: Mapping): string {
  const pagemap = openSync('/proc/self/pagemap', 'r');
  const entries = Buffer.alloc((mapping.length / PAGE) * 8);
  readSync(pagemap, entries, 0, entries.length, Number(mapping.address / BigInt(PAGE)) * 8);
  closeSync(pagemap);
  const PRESENT_OR_SWAPPED = 3n << 62n;
  return Array.from({ length: entries.length / 8 }, (_, i) =>
    (entries.readBigUInt64LE(i * 8) & PRESENT_OR_SWAPPED) === 0n ? '-' : 'P',
  ).join('');
}

/** Runs of present pages, `[first, last + 1]` counted from `address`, by the ioctl of Linux 6.7 and later. */
function pagemapScan(address: bigint, bytes: number): [number, number][] | string {
  const results = MemoryObject.create({ size: PAGE });
  const output = results.map();
  output.bytes.fill(0);
  const PAGEMAP_SCAN = 0xc0606610n; // _IOWR('f', 16, struct pm_scan_arg)
  const PAGE_IS_PRESENT = 1n << 3n;
  const request = Buffer.alloc(96);
  const fields = [
    96n,
    0n,
    address,
    address + BigInt(bytes),
    0n,
    output.address,
    100n,
    0n,
    0n,
    PAGE_IS_PRESENT,
    0n,
    PAGE_IS_PRESENT,
  ];
  fields.forEach((value, i) => request.writeBigUInt64LE(value, i * 8));
  const pagemap = openSync('/proc/self/pagemap', 'r');
  const found = kernel.ioctl(pagemap, PAGEMAP_SCAN, request);
  closeSync(pagemap);
  const runs = Array.from({ length: Math.max(0, found) }, (_, i): [number, number] => [
    Number((output.read64(i * 24) - address) / BigInt(PAGE)),
    Number((output.read64(i * 24 + 8) - address) / BigInt(PAGE)),
  ]);
  results.close();
  return found < 0 ? errorName(found) : runs;
}

function whyNoPagemapScan(): string | undefined {
  const { memory, mapping } = numbered(1);
  const answer = pagemapScan(mapping.address, PAGE);
  memory.close();
  return typeof answer === 'string' ? `the PAGEMAP_SCAN ioctl gives ${answer}` : undefined;
}
