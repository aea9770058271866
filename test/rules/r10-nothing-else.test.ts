import { MemoryObject, type Mapping } from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { readMaps } from '../support/maps.js';
import { temporaryFile } from '../support/temporary.js';

const PAGE = 4096;

/** Everything that is mapped from a file or shared, but for the ranges given: what revocation must not change. */
function elsewhere(mappings: Mapping[]): string[] {
  const ours = mappings.map(({ address, length }) => [address, address + BigInt(length)]);
  return readMaps()
    .filter((line) => line.inode !== 0 && !ours.some(([start, end]) => line.start < end && line.end > start))
    .map(({ start, end, flags, offset, inode }) => [start.toString(16), end.toString(16), flags, offset, inode].join(' '));
}

describe('R10 revocation touches nothing else', () => {
  test('R10 other objects, and everything else that is mapped, stay as they are', () => {
    const objects = Array.from({ length: 100 }, () => MemoryObject.create({ size: PAGE }));
    const mappings = objects.map((object, i) => {
      const mapping = object.map({ private: i % 7 === 0, access: 'rw' });
      mapping.write32(0, 0x1000 + i);
      return mapping;
    });
    const revoked = mappings.filter((_, i) => i % 3 === 0);
    const before = elsewhere(revoked);
    for (const mapping of revoked) mapping.object.revokeSync();
    expect(elsewhere(revoked)).toEqual(before);
    mappings.forEach((mapping, i) => {
      if (i % 3 === 0) {
        expect(mapping.state).toBe('revoked');
        return;
      }
      expect(mapping.state).toBe('live');
      expect(mapping.read32(0)).toBe(0x1000 + i);
      mapping.write32(4, i);
      expect(mapping.view.getUint32(4, true)).toBe(i);
    });
    expect(revoked.length).toBe(34);
    for (const object of objects) object.close();
  });

  test('R10 memory right before and right after a revoked mapping keeps its bytes', async () => {
    const run = await runInChild((lib, require) => {
      const { mmap, koffi, PROT, MAP } = require('./test/children/libc.cjs');
      const flags = MAP.private | MAP.anonymous | MAP.fixedNoReplace;
      const found = { intact: 0, placed: 0, raw: 0 };
      for (let i = 0; i < 100; i++) {
        const object = lib.MemoryObject.create({ size: 3 * 4096 });
        const mapping = object.map({ fill: i % 2 === 0 ? 'zeros' : 'ones' });
        const address = Number(mapping.address);
        const pages: number[] = [];
        for (const at of [address - 4096, address + 3 * 4096]) {
          if (mmap(at, 4096, PROT.read | PROT.write, flags, -1, 0) === at) pages.push(at);
        }
        for (const at of pages)
          for (let word = 0; word < 4096; word += 512) koffi.encode(BigInt(at + word), 'uint32_t', 0xabc00000 + i);
        found.placed += pages.length;
        object.revokeSync();
        found.raw += mapping.bytes[0] === (i % 2 === 0 ? 0 : 255) ? 1 : 0;
        const keeps = (at: number) =>
          [0, 512, 3584].every((word) => koffi.decode(BigInt(at + word), 'uint32_t') === 0xabc00000 + i);
        found.intact += pages.filter(keeps).length;
      }
      return found;
    });
    expect(run).toMatchObject({ status: 0, signal: null });
    const { placed, intact, raw } = run.value as unknown as { placed: number; intact: number; raw: number };
    expect(raw).toBe(100);
    expect(placed).toBeGreaterThan(0);
    expect(intact).toBe(placed);
  });

  test('R10 copies made earlier keep what they had', () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const mapping = memory.map();
    mapping.bytes.fill(0x5a);
    const copies = [
      Buffer.from(mapping.bytes),
      mapping.bytes.slice(),
      new Uint8Array(structuredClone(Uint8Array.from(mapping.bytes))),
    ];
    const read = new Uint8Array(2 * PAGE);
    mapping.read(0, read);
    copies.push(read);
    memory.revokeSync();
    for (const copy of copies) expect(copy.every((byte) => byte === 0x5a)).toBe(true);
    memory.close();
  });

  test('R10 another object of the same file stays live', () => {
    const path = temporaryFile(PAGE, 0x5a);
    const revoked = MemoryObject.openFile(path, { writable: true });
    const live = MemoryObject.openFile(path, { writable: true });
    const gone = revoked.map();
    const mapping = live.map();
    revoked.revokeSync();
    expect(gone.state).toBe('revoked');
    expect(live.state).toBe('live');
    expect(mapping.read32(0)).toBe(0x5a5a5a5a);
    mapping.write32(0, 1);
    expect(live.map().read32(0)).toBe(1);
    revoked.close();
    live.close();
  });

  test('R10 mappings that were closed before are not counted, and keep their zeros', async () => {
    const run = await runInChild((lib) => {
      const object = lib.MemoryObject.create({ size: 4096 });
      const closed = object.map({ fill: 'ones' });
      const { bytes } = closed;
      closed.close();
      bytes[1] = 9;
      const report = object.revokeSync();
      return { mappings: report.mappings, byte: bytes[0], own: bytes[1], state: closed.state };
    });
    expect(run).toMatchObject({ status: 0, signal: null, value: { mappings: 0, byte: 0, own: 9, state: 'closed' } });
  });
});
