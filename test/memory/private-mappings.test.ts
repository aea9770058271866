import { readFileSync, truncateSync } from 'node:fs';
import { MemoryObject } from 'revocable-mmap';
import { mapsAt } from '../support/maps.js';
import { temporaryFile } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';

const PAGE = 4096;

describe('private mappings', () => {
  test('writes stay in the mapping; pages not written show the object', () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const all = memory.map();
    const own = memory.map({ private: true });
    expect(mapsAt(own.address, PAGE)[0].flags).toBe('rw-p');
    own.write32(0, 1);
    expect([own.read32(0), all.read32(0)]).toEqual([1, 0]);
    all.write32(PAGE, 2);
    expect(own.read32(PAGE)).toBe(2);
    all.write32(4, 3);
    expect(own.read32(4)).toBe(0); // its own copy of that page
    memory.close();
  });

  test('a private mapping of a file that is open for reading can be written, and the file stays', () => {
    const path = temporaryFile(PAGE);
    const file = MemoryObject.openFile(path);
    const own = file.map({ private: true, access: 'rw' });
    own.bytes.fill(1);
    expect(own.read8(7)).toBe(1);
    expect(readFileSync(path).every((byte) => byte === 0x5a)).toBe(true);
    expect(thrownBy(() => file.map({ private: true }).write8(0, 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' }); // 'r' is the default here
    file.close();
  });

  test('revoke takes its own copies too', () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const own = memory.map({ private: true });
    own.bytes.fill(7);
    expect(memory.revokeSync()).toMatchObject({ mappings: 1, means: { replaced: 1 } });
    expect(thrownBy(() => own.read8(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    expect(own.bytes.every((byte) => byte === 0)).toBe(true);
    memory.close();
  });

  test('revoking a file takes its own copies too, though the file stays', () => {
    const file = MemoryObject.openFile(temporaryFile(PAGE));
    const own = file.map({ private: true, access: 'rw', fill: 'ones' });
    own.bytes.fill(7);
    file.revokeSync();
    expect(own.bytes.every((byte) => byte === 0xff)).toBe(true);
    file.close();
  });

  test('suspend is refused with EBUSY, and everything stays live', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const shared = memory.map();
    const own = memory.map({ private: true });
    own.write8(0, 1);
    const error = await rejectionOf(memory.suspend());
    expect(error).toMatchObject({ code: 'EBUSY', errno: -16 });
    expect(error.message).toContain('private mapping');
    expect([memory.state, shared.read8(0), own.read8(0)]).toEqual(['live', 0, 1]);
    own.close();
    await memory.suspend();
    expect(memory.state).toBe('suspended');
    await memory.resume();
    memory.close();
  });

  test('shared and private are independent', () => {
    const memory = MemoryObject.create({ size: PAGE });
    for (const shared of [true, false]) {
      for (const priv of [true, false]) {
        const mapping = memory.map({ shared, private: priv });
        expect([mapping.buffer instanceof SharedArrayBuffer, mapsAt(mapping.address, PAGE)[0].flags]).toEqual([
          shared,
          priv ? 'rw-p' : 'rw-s',
        ]);
      }
    }
    memory.close();
  });

  test('a truncation takes its own copies as well: the kernel does that', () => {
    const path = temporaryFile(2 * PAGE);
    const file = MemoryObject.openFile(path);
    const own = file.map({ private: true, access: 'rw' });
    own.write8(PAGE, 7);
    truncateSync(path, PAGE);
    expect(thrownBy(() => own.read8(PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
    file.close();
  });
});
