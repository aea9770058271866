/** Cases 31 to 37: Linux's tools/testing/selftests/memfd/memfd_test.c and gVisor's test/syscalls/linux/memfd.cc. */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, truncateSync, writeSync } from 'node:fs';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { kernel } from '../support/kernel-calls.js';
import { startPeer, type Peer } from '../support/peer.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';

const { PAGE, PROT, MAP, SEAL, addSeals, errorName, getSeals, peek, readablePages } = kernel;
const REVOKED = { code: 'ERR_MAPPING_REVOKED' };
const page = (index: number): number => index * PAGE;

/** A memfd that is not the library's, each byte `byte`. */
function foreignMemfd(pages: number, byte = 0x33): number {
  const fd = kernel.memfd(page(pages));
  writeSync(fd, Buffer.alloc(page(pages), byte), 0, page(pages), 0);
  return fd;
}

const names = (seals: number): string[] => Object.keys(SEAL).filter((name) => (seals & SEAL[name as keyof typeof SEAL]) !== 0);
const seal = (fd: number, seals: number): string => errorName(addSeals(fd, seals)).replace(/^0$/, 'ok');
const resize = (fd: number, size: number): string => errorName(kernel.ftruncate(fd, size)).replace(/^0$/, 'ok');

function expectRevoked(mapping: Mapping): void {
  expect(readablePages(mapping.address, mapping.length)).toBe('-'.repeat(mapping.length / PAGE));
  expect(thrownBy(() => mapping.read8(0))).toMatchObject(REVOKED);
}

describe('kernel cases of memfd', () => {
  test('case 31 (memfd SEAL_SHRINK, SEAL_GROW, SEAL_RESIZE): memory of the library may be shrunk and never grown', () => {
    const memory = MemoryObject.create({ size: page(4) });
    expect(names(getSeals(memory.fd))).toEqual(expect.arrayContaining(['SEAL', 'GROW']));
    expect(names(getSeals(memory.fd))).not.toContain('SHRINK');
    expect(resize(memory.fd, page(8))).toBe('EPERM');
    expect(() => writeSync(memory.fd, 'x', page(4))).toThrow(expect.objectContaining({ code: 'EPERM' }));
    expect(errorName(kernel.fallocate(memory.fd, 0, 0, page(8)))).toBe('EPERM');
    expect(fstatSync(memory.fd).size).toBe(page(4));
    const mapping = memory.map();
    mapping.bytes.fill(0x11);
    expect(resize(memory.fd, page(2))).toBe('ok');
    expect(resize(memory.fd, page(4))).toBe('EPERM');
    expect(thrownBy(() => mapping.read8(page(2)))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
    expect([mapping.read8(page(1)), mapping.state]).toEqual([0x11, 'live']);
    memory.close();
  });

  test('case 31 (memfd SEAL_SHRINK, SEAL_GROW): memory of the library that another process shrinks to nothing is revoked', () => {
    const memory = MemoryObject.create({ size: page(4) });
    const mapping = memory.map();
    mapping.bytes.fill(0x11);
    expect(resize(memory.fd, 0)).toBe('ok');
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(REVOKED);
    expect([mapping.state, memory.state]).toEqual(['revoked', 'revoked']);
    memory.close();
  });

  test.each([
    { seals: SEAL.SHRINK, shrink: 'EPERM', grow: 'ok', truncated: false },
    { seals: SEAL.GROW, shrink: 'ok', grow: 'EPERM', truncated: false },
    { seals: SEAL.SHRINK | SEAL.GROW, shrink: 'EPERM', grow: 'EPERM', truncated: false },
  ])(
    'case 31 (memfd SEAL_SHRINK, SEAL_GROW, SEAL_RESIZE): a memfd of others sealed with $seals keeps its rights and is revoked all the same',
    (row) => {
      const fd = foreignMemfd(4);
      expect(seal(fd, row.seals)).toBe('ok');
      const memory = MemoryObject.fromFd(fd, { writable: true });
      const mapping = memory.map();
      expect([resize(memory.fd, page(8)), resize(memory.fd, page(2))]).toEqual([row.grow, row.shrink]);
      expect(mapping.read8(page(1))).toBe(0x33);
      if (row.shrink === 'EPERM') expect(mapping.read8(page(3))).toBe(0x33);
      else expect(thrownBy(() => mapping.read8(page(3)))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
      const size = fstatSync(fd).size;
      expect(memory.revokeSync().means).toEqual({ truncated: row.truncated, replaced: 1, protected: 0, failed: 0 });
      expectRevoked(mapping);
      // Not ours to truncate: its owner still has all of it.
      expect(fstatSync(fd).size).toBe(size);
      memory.close();
      closeSync(fd);
    },
  );

  test('case 32 (memfd test_basic, gVisor SealsAreInodeLevelProperties): F_SEAL_SEAL freezes, through every descriptor', () => {
    const memory = MemoryObject.create({ size: page(2) });
    const seals = getSeals(memory.fd);
    const duplicate = MemoryObject.fromFd(memory.fd, { writable: true });
    const reopened = openSync(`/proc/self/fd/${memory.fd}`, 'r+');
    for (const fd of [memory.fd, duplicate.fd, reopened]) {
      expect(getSeals(fd)).toBe(seals);
      for (const more of [SEAL.SHRINK, SEAL.WRITE, SEAL.FUTURE_WRITE, SEAL.GROW, SEAL.SEAL]) expect(seal(fd, more)).toBe('EPERM');
      expect(resize(fd, page(3))).toBe('EPERM');
      expect(getSeals(fd)).toBe(seals);
    }
    closeSync(reopened);
    duplicate.close();
    // No process could keep it alive by forbidding to shrink it.
    const mapping = memory.map();
    expect(memory.revokeSync().means.truncated).toBe(true);
    expectRevoked(mapping);
    memory.close();
  });

  test('case 32 (gVisor SealsAreInodeLevelProperties): a second object of the same memory is revoked with it', () => {
    const memory = MemoryObject.create({ size: page(2) });
    const duplicate = MemoryObject.fromFd(memory.fd, { writable: true });
    const mapping = duplicate.map();
    mapping.write8(0, 0x55);
    memory.revokeSync();
    expect(peek(mapping.address)).toBe('EFAULT');
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(REVOKED);
    expect(mapping.bytes[0]).toBe(0);
    expect(duplicate.state).toBe('revoked');
    expect(thrownBy(() => duplicate.map({ length: PAGE }))).toMatchObject({ code: 'ENODEV' });
    memory.close();
    duplicate.close();
  });

  test('case 33 (memfd test_share_mmap, gVisor SealWriteWithOutstandingWritbleMapping): a writable mapping blocks F_SEAL_WRITE until it is revoked', () => {
    const fd = foreignMemfd(2);
    const memory = MemoryObject.fromFd(fd, { writable: true });
    const mapping = memory.map();
    expect(seal(fd, SEAL.WRITE)).toBe('EBUSY');
    expect(seal(fd, SEAL.SHRINK)).toBe('ok');
    memory.revokeSync();
    expectRevoked(mapping);
    expect(seal(fd, SEAL.WRITE)).toBe('ok'); // nothing that can write is left of it in this process
    mapping.bytes.fill(0x44);
    const copy = Buffer.alloc(page(2));
    readSync(fd, copy, 0, copy.length, 0);
    expect(copy.every((byte) => byte === 0x33)).toBe(true);
    memory.close();
    closeSync(fd);
  });

  test('case 33 (gVisor SealWriteWithOutstandingWritbleMapping): private and read-only mappings of a read-only object do not block F_SEAL_WRITE', () => {
    const fd = foreignMemfd(2);
    const readOnly = openSync(`/proc/self/fd/${fd}`, 'r');
    const memory = MemoryObject.fromFd(readOnly);
    const priv = memory.map({ private: true });
    const shared = memory.map({ access: 'r' });
    expect(seal(fd, SEAL.WRITE)).toBe('ok');
    expect([priv.read8(0), shared.read8(0)]).toEqual([0x33, 0x33]);
    expect(memory.revokeSync().means.replaced).toBe(2);
    memory.close();
    closeSync(readOnly);
    closeSync(fd);
  });

  test('case 33 (memfd test_share_mmap): a suspended and a closed mapping do not block F_SEAL_WRITE either', async () => {
    for (const end of [(memory: MemoryObject) => memory.suspend(), async (memory: MemoryObject) => memory.close()]) {
      const fd = foreignMemfd(2);
      const memory = MemoryObject.fromFd(fd, { writable: true });
      memory.map();
      expect(seal(fd, SEAL.WRITE)).toBe('EBUSY');
      await end(memory);
      expect(seal(fd, SEAL.WRITE)).toBe('ok');
      memory.close();
      closeSync(fd);
    }
  });

  test('case 34 (memfd test_seal_future_write): the old writable mapping keeps working, a new one is refused', () => {
    const fd = foreignMemfd(2);
    const memory = MemoryObject.fromFd(fd, { writable: true });
    const old = memory.map();
    expect(seal(fd, SEAL.FUTURE_WRITE)).toBe('ok');
    expect(thrownBy(() => memory.map())).toMatchObject({ code: 'EPERM', syscall: 'mmap' });
    old.write8(0, 0x55);
    const reader = memory.map({ access: 'r' });
    expect([reader.read8(0), old.read8(0), memory.mappings.size]).toEqual([0x55, 0x55, 2]);
    memory.revokeSync();
    expectRevoked(old);
    expectRevoked(reader);
    expect(thrownBy(() => memory.map({ access: 'r' }))).toMatchObject({ code: 'ENODEV', syscall: 'mmap' });
    memory.close();
    closeSync(fd);
  });

  test('case 34 (memfd test_seal_future_write): zapping needs no new mapping, so the old writable one survives it', () => {
    const fd = foreignMemfd(2);
    const memory = MemoryObject.fromFd(fd, { writable: true });
    const old = memory.map();
    old.write8(0, 0x55);
    expect(seal(fd, SEAL.FUTURE_WRITE)).toBe('ok');
    memory.zap();
    old.write8(1, 0x56);
    expect([old.read8(0), old.read8(1), old.faults]).toEqual([0x55, 0x56, 0]);
    memory.close();
    closeSync(fd);
  });

  test('case 35 (gVisor NoPartialSealApplicationWhenWriteSealRejected): a refused seal applies none of its parts', () => {
    const fd = foreignMemfd(2);
    const memory = MemoryObject.fromFd(fd, { writable: true });
    memory.map();
    const before = getSeals(fd);
    expect(seal(fd, SEAL.WRITE | SEAL.GROW)).toBe('EBUSY');
    expect(getSeals(fd)).toBe(before);
    expect(resize(fd, page(3))).toBe('ok');
    memory.close();
    closeSync(fd);
  });

  test('case 35 (gVisor NoPartialSealApplication…): a resume that one mapping refuses resumes none', async () => {
    const fd = foreignMemfd(4);
    const memory = MemoryObject.fromFd(fd, { writable: true });
    const reader = memory.map({ access: 'r' });
    const writer = memory.map();
    const reader2 = memory.map({ access: 'r' });
    await memory.suspend();
    expect(seal(fd, SEAL.FUTURE_WRITE)).toBe('ok');
    for (let attempt = 0; attempt < 2; attempt++) {
      expect(await rejectionOf(memory.resume())).toMatchObject({ code: 'EPERM', syscall: 'mmap' });
      expect(memory.state).toBe('suspended');
      for (const mapping of [reader, writer, reader2]) {
        expect(readablePages(mapping.address, mapping.length)).toBe('----');
        expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
      }
    }
    expect(memory.revokeSync()).toMatchObject({ mappings: 3, means: { replaced: 3, failed: 0 } });
    for (const mapping of [reader, writer, reader2]) expectRevoked(mapping);
    memory.close();
    closeSync(fd);
  });

  test('case 35 (gVisor NoPartialSealApplication…): a remapPages that is refused for some pages changes none', () => {
    const fd = foreignMemfd(4);
    const memory = MemoryObject.fromFd(fd, { writable: true });
    const mapping = memory.map();
    for (let i = 0; i < 4; i++) mapping.write8(page(i), i + 1);
    mapping.protect({ offset: 0, length: PAGE, access: 'r' });
    expect(seal(fd, SEAL.FUTURE_WRITE)).toBe('ok');
    const move = { offset: 0, length: page(2), objectOffset: page(2) };
    expect(thrownBy(() => mapping.remapPages(move))).toMatchObject({ code: 'EPERM', syscall: 'mmap' });
    expect([0, 1, 2, 3].map((i) => mapping.read8(page(i)))).toEqual([1, 2, 3, 4]);
    memory.close();
    closeSync(fd);
  });

  test('case 35 (gVisor NoPartialSealApplication…): a map and a protect that are refused leave everything as it was', () => {
    const fd = foreignMemfd(4);
    const readOnly = openSync(`/proc/self/fd/${fd}`, 'r');
    const memory = MemoryObject.fromFd(readOnly);
    const mapping = memory.map();
    const vmas = kernel.maps(mapping.address, mapping.length);
    expect(thrownBy(() => mapping.protect({ offset: 0, length: page(2), access: 'rw' }))).toMatchObject({ code: 'EACCES' });
    expect(thrownBy(() => memory.map({ access: 'rw' }))).toMatchObject({ code: 'EACCES', syscall: 'mmap' });
    expect(kernel.maps(mapping.address, mapping.length)).toEqual(vmas);
    expect([mapping.read8(0), mapping.faults, memory.mappings.size]).toEqual([0x33, 0, 1]);
    memory.close();
    closeSync(readOnly);
    closeSync(fd);
  });

  test.each(['owned memory', 'a memfd of others'])(
    'case 36 (gVisor MultipleWritableAndNonWritableRefsToSameFileRegion): all references to one region of %s are revoked',
    (what) => {
      const fd = what === 'owned memory' ? -1 : foreignMemfd(4);
      const memory = fd < 0 ? MemoryObject.create({ size: page(4) }) : MemoryObject.fromFd(fd, { writable: true });
      const writers = [memory.map(), memory.map({ offset: PAGE, length: PAGE }), memory.map({ shared: false })];
      const readers = [memory.map({ access: 'r' }), memory.map({ offset: PAGE, length: PAGE, access: 'r', shared: false })];
      const copies = [memory.map({ private: true }), memory.map({ private: true, access: 'r' })];
      writers[1].write32(0, 0x1234);
      const all = [...writers, ...readers, ...copies];
      for (const mapping of all) expect(mapping.read32(PAGE - mapping.offset)).toBe(0x1234);
      copies[0].write32(PAGE, 0x5678);
      expect([writers[0].read32(PAGE), copies[1].read32(PAGE)]).toEqual([0x1234, 0x1234]);
      expect(memory.revokeSync()).toMatchObject({
        mappings: all.length,
        means: { replaced: all.length, protected: 0, failed: 0 },
      });
      for (const mapping of all) expectRevoked(mapping);
      for (const mapping of all) expect(mapping.bytes.every((byte) => byte === 0)).toBe(true);
      memory.close();
      if (fd >= 0) closeSync(fd);
    },
  );

  describe('with another process', () => {
    let peer: Peer;
    beforeEach(() => {
      peer = startPeer('kernel-peer.cjs');
    });
    afterEach(async () => {
      expect(await peer.end()).toEqual({ status: 0, signal: null, stderr: '' });
    });

    test('case 37 (gVisor OtherProcessCanOpenFromProcfs): a late opener gets nothing live, and cannot revive it', async () => {
      const memory = MemoryObject.create({ size: page(2) });
      const mapping = memory.map();
      mapping.write8(0, 0x5e);
      memory.revokeSync();
      const path = `/proc/${process.pid}/fd/${memory.fd}`;
      expect(await peer.ask({ what: 'open', path })).toBe('done');
      expect(await peer.ask({ what: 'size' })).toBe(0);
      expect(await peer.ask({ what: 'truncate', path, size: page(2) })).toBe('EPERM');
      expect(await peer.ask({ what: 'map', length: page(2) })).toBe('ENODEV');
      memory.close();
    });

    test('case 37 (gVisor OtherProcessCanOpenFromProcfs): who opened and mapped it before loses it at the same moment', async () => {
      const memory = MemoryObject.create({ size: page(2) });
      const mapping = memory.map();
      mapping.write8(0, 0x5e);
      const path = `/proc/${process.pid}/fd/${memory.fd}`;
      expect(await peer.ask({ what: 'open', path })).toBe('done');
      expect(await peer.ask({ what: 'map' })).toBe('done');
      expect(await peer.ask({ what: 'read', offset: 0 })).toBe(0x5e);
      expect(await peer.ask({ what: 'write', offset: 1, value: 0x5f })).toBe('done');
      expect(mapping.read8(1)).toBe(0x5f);
      memory.revokeSync();
      expect(await peer.ask({ what: 'read', offset: 0 })).toBe('ERR_MAPPING_REVOKED');
      expect(await peer.ask({ what: 'write', offset: 0, value: 1 })).toBe('ERR_MAPPING_REVOKED');
      expect(await peer.ask({ what: 'raw', offset: page(1) })).toBe(0);
      memory.close();
    });

    test('case 37 (gVisor OtherProcessCanOpenFromProcfs): what another process shrinks to nothing is revoked here', async () => {
      const memory = MemoryObject.create({ size: page(2) });
      const mapping = memory.map();
      mapping.write8(0, 0x5e);
      expect(await peer.ask({ what: 'truncate', path: `/proc/${process.pid}/fd/${memory.fd}`, size: 0 })).toBe('done');
      expect(thrownBy(() => mapping.read8(0))).toMatchObject(REVOKED);
      expect(memory.state).toBe('revoked');
      memory.close();
    });
  });

  test('case 37 (gVisor OtherProcessCanOpenFromProcfs): a mapping made without the library after the revocation holds nothing', () => {
    const memory = MemoryObject.create({ size: page(2) });
    memory.map().write8(0, 0x5e);
    const path = `/proc/self/fd/${memory.fd}`;
    memory.revokeSync();
    const fd = openSync(path, 'r+');
    const at = BigInt(kernel.mmap(0n, page(2), PROT.READ | PROT.WRITE, MAP.SHARED, fd));
    expect(readablePages(at, page(2))).toBe('--');
    expect(kernel.munmap(at, page(2))).toBe(0);
    expect(() => ftruncateSync(fd, page(2))).toThrow(expect.objectContaining({ code: 'EPERM' }));
    truncateSync(path, 0);
    closeSync(fd);
    memory.close();
  });
});
