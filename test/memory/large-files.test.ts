import { closeSync, openSync, readSync, truncateSync, writeSync } from 'node:fs';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { testUnless } from '../support/conditions.js';
import { mapsAt } from '../support/maps.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;
const GIB = 2 ** 30;

function sparse(size: number): string {
  return temporaryFile(size, 0);
}

/** Why no buffer of this Node is longer than 4 GiB; undefined when one can be. Reserves addresses only. */
function whyNoLongBuffer(): string | undefined {
  try {
    const bytes = 5 * GIB;
    return new Uint8Array(new SharedArrayBuffer(bytes, { maxByteLength: bytes }), 0, bytes).length === bytes
      ? undefined
      : 'too short';
  } catch {
    return `no buffer of Node ${process.versions.node} is longer than 4 GiB`;
  }
}

function expect32(mapping: Mapping, at: number, value: number): void {
  mapping.write32(at, value);
  if (mapping.read32(at) !== value || mapping.view.getUint32(at, true) !== value)
    throw new Error(`offset ${at} in round ${value}`);
}

describe('offsets above 4 GiB', () => {
  test('a part of a sparse file, far behind 2^32, is the right part', () => {
    const at = 9 * GIB + 5 * PAGE;
    const path = sparse(10 * GIB);
    const file = MemoryObject.openFile(path, { writable: true });
    expect(file.size).toBe(10 * GIB);
    const mapping = file.map({ offset: at, length: 2 * PAGE });
    expect(mapping.offset).toBe(at);
    expect(mapsAt(mapping.address, PAGE)[0].offset).toBe(at);
    mapping.write32(PAGE + 4, 0xdeadbeef);
    mapping.sync();
    const fd = openSync(path, 'r');
    const word = Buffer.alloc(4);
    readSync(fd, word, 0, 4, at + PAGE + 4);
    closeSync(fd);
    expect(word.readUInt32LE()).toBe(0xdeadbeef);
    truncateSync(path, 9 * GIB);
    expect(thrownBy(() => mapping.read8(8))).toMatchObject({
      code: 'ERR_BACKING_FAULT',
      cause: 'past-end',
      offset: 8,
      objectOffset: at + 8,
    });
    file.close();
  });

  test('remapPages and zap take object offsets above 2^32', () => {
    const path = sparse(6 * GIB);
    const fd = openSync(path, 'r+');
    writeSync(fd, Buffer.from([0x77]), 0, 1, 5 * GIB);
    closeSync(fd);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map({ length: 2 * PAGE });
    mapping.remapPages({ offset: PAGE, length: PAGE, objectOffset: 5 * GIB });
    expect(mapping.read8(PAGE)).toBe(0x77);
    file.zap({ offset: 5 * GIB, length: PAGE });
    expect(mapping.read8(PAGE)).toBe(0x77);
    file.close();
  });

  testUnless(whyNoLongBuffer(), 'one mapping longer than 4 GiB: every accessor at both sides of 2^32, then revoked', () => {
    const memory = MemoryObject.create({ size: 4 * GIB + 4 * PAGE });
    const mapping = memory.map();
    expect(mapping.length).toBe(4 * GIB + 4 * PAGE);
    for (const at of [4 * GIB - 8, 4 * GIB, 4 * GIB + 8, 4 * GIB + 4 * PAGE - 8]) {
      mapping.write64(at, 0x1122334455667788n);
      expect([mapping.read64(at), mapping.read32(at), mapping.read16(at), mapping.read8(at)]).toEqual([
        0x1122334455667788n,
        0x55667788,
        0x7788,
        0x88,
      ]);
      mapping.write32(at, 1);
      mapping.write16(at + 4, 2);
      mapping.write8(at + 6, 3);
      expect([mapping.read64(at), mapping.bytes[at + 6], mapping.view.getUint32(at, true)]).toEqual([0x1103000200000001n, 3, 1]);
    }
    // Whole numbers on both sides of 2^31, and what would be a place of this mapping if it were taken for unsigned.
    for (let round = 0; round < 20_000; round++) expect32(mapping, (2 * GIB - 8 + (round % 4) * 4) % (4 * GIB), round);
    for (const wrong of [-8, -4, -2, 4 * GIB - 6.5, 2 * GIB + 0.5, NaN]) {
      for (const access of [
        () => mapping.read16(wrong),
        () => mapping.read32(wrong),
        () => mapping.read64(wrong),
        () => mapping.write16(wrong, 1),
        () => mapping.write32(wrong, 1),
      ]) {
        expect(thrownBy(access)).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
      }
    }
    expect(mapping.read32(0)).toBe(0); // nothing wrapped around
    expect(mapping.read32(8)).toBe(0);
    const target = new Uint8Array(16);
    expect(mapping.read(4 * GIB - 8, target)).toBe(16);
    expect([target[0], target[8]]).toEqual([1, 1]);
    expect(thrownBy(() => mapping.read8(4 * GIB + 4 * PAGE))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    memory.revokeSync();
    expect(thrownBy(() => mapping.read32(4 * GIB + PAGE))).toMatchObject({
      code: 'ERR_MAPPING_REVOKED',
      offset: 4 * GIB + PAGE,
      address: mapping.address + BigInt(4 * GIB + PAGE),
    });
    expect(mapping.bytes[4 * GIB + PAGE]).toBe(0);
    memory.close();
  });

  testUnless(whyNoLongBuffer(), 'a lost page behind 2^32 of a long mapping', () => {
    const path = sparse(5 * GIB);
    const file = MemoryObject.openFile(path);
    const mapping = file.map();
    truncateSync(path, 4 * GIB + PAGE);
    expect(mapping.bytes[4 * GIB + PAGE + 5]).toBe(0);
    expect(thrownBy(() => mapping.read8(4 * GIB + PAGE + 6))).toMatchObject({
      code: 'ERR_BACKING_FAULT',
      offset: 4 * GIB + PAGE + 6,
    });
    expect(thrownBy(() => mapping.read(4 * GIB + PAGE - 10, new Uint8Array(20)))).toMatchObject({
      bytesTransferred: 10,
      offset: 4 * GIB + PAGE,
    });
    expect([mapping.read8(4 * GIB + PAGE - 1), mapping.read8(PAGE + 6)]).toEqual([0, 0]);
    file.close();
  });

  test('what no buffer can hold is a RangeError that says so', () => {
    const file = MemoryObject.openFile(sparse(PAGE));
    const error = thrownBy(() => file.map({ length: 2 ** 52 }));
    expect(error).toMatchObject({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
    expect(error.message).toContain('options.length');
    file.close();
  });
});
