import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { Mapping, MemoryObject } from 'revocable-mmap';
import { mapsAt } from '../support/maps.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

describe('map options', () => {
  test('the defaults: all of it, writable where the object is, shared, filled with zeros', () => {
    const memory = MemoryObject.create({ size: 3 * PAGE + 5 });
    const mapping = memory.map();
    expect(mapping).toBeInstanceOf(Mapping);
    expect(mapping).toMatchObject({ offset: 0, length: 3 * PAGE + 5, access: 'rw', state: 'live', faults: 0 });
    expect(mapping.object).toBe(memory);
    expect(mapping.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(typeof mapping.address).toBe('bigint');
    expect(mapsAt(mapping.address, mapping.length)).toEqual([
      expect.objectContaining({
        start: mapping.address,
        end: mapping.address + BigInt(4 * PAGE),
        flags: 'rw-s',
        offset: 0,
        path: '/memfd:revocable (deleted)',
      }),
    ]);
    memory.close();
    const file = MemoryObject.openFile(temporaryFile(PAGE));
    expect([file.writable, file.map().access]).toEqual([false, 'r']);
    file.close();
  });

  test('offset and length choose the pages', () => {
    const memory = MemoryObject.create({ size: 8 * PAGE, name: 'pages' });
    const all = memory.map();
    for (let page = 0; page < 8; page++) all.bytes.fill(page + 1, page * PAGE, (page + 1) * PAGE);
    const part = memory.map({ offset: 3 * PAGE, length: 2 * PAGE });
    expect([part.offset, part.length, part.bytes.length, part.view.byteLength]).toEqual([3 * PAGE, 2 * PAGE, 2 * PAGE, 2 * PAGE]);
    expect([part.read8(0), part.read8(2 * PAGE - 1)]).toEqual([4, 5]);
    part.write8(0, 99);
    expect(all.read8(3 * PAGE)).toBe(99);
    expect(mapsAt(part.address, PAGE)[0]).toMatchObject({ offset: 3 * PAGE, path: '/memfd:pages (deleted)' });
    const rest = memory.map({ offset: 7 * PAGE });
    expect(rest.length).toBe(PAGE);
    const some = memory.map({ offset: PAGE, length: 10 });
    expect([some.length, some.bytes.length, some.read8(9)]).toEqual([10, 10, 2]);
    expect(thrownBy(() => some.read8(10))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    memory.close();
  });

  test("access 'r' is what the kernel has", () => {
    const memory = MemoryObject.create({ size: PAGE });
    expect(mapsAt(memory.map({ access: 'r' }).address, PAGE)[0].flags).toBe('r--s');
    expect(mapsAt(memory.map({ access: 'r', private: true }).address, PAGE)[0].flags).toBe('r--p');
    memory.close();
  });

  test('populate brings the pages in', () => {
    const memory = MemoryObject.create({ size: 16 * PAGE });
    const lazy = memory.map();
    expect([...lazy.residency()]).toEqual(Array(16).fill(0));
    memory.map({ populate: true });
    expect([...lazy.residency()]).toEqual(Array(16).fill(1));
    memory.close();
  });

  test('size of a file is read anew at every map; a file may be mapped beyond its end', () => {
    const path = temporaryFile(PAGE);
    const file = MemoryObject.openFile(path, { writable: true });
    expect([file.size, file.map().length]).toEqual([PAGE, PAGE]);
    truncateSync(path, 3 * PAGE);
    expect([file.size, file.map().length]).toEqual([3 * PAGE, 3 * PAGE]);
    const longer = file.map({ length: 5 * PAGE });
    writeFileSync(path, Buffer.alloc(5 * PAGE, 0x42));
    expect(longer.read8(5 * PAGE - 1)).toBe(0x42);
    longer.write8(4 * PAGE, 0x43);
    longer.sync();
    expect(readFileSync(path)[4 * PAGE]).toBe(0x43);
    file.close();
  });

  test('mappings is a snapshot of the open ones', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const [one, two] = [memory.map(), memory.map()];
    const before = memory.mappings;
    one.close();
    expect([...memory.mappings]).toEqual([two]);
    expect(before.size).toBe(2);
    memory.revokeSync();
    expect(memory.mappings.size).toBe(1); // revoked is not closed
    two.close();
    expect(memory.mappings.size).toBe(0);
    memory.close();
  });

  test('a name shows in /proc/self/maps and everywhere else', () => {
    const memory = MemoryObject.create({ size: PAGE, name: 'Gerät 7 / ring' });
    const mapping = memory.map();
    expect(mapsAt(mapping.address, PAGE)[0].path).toContain('Gerät 7 / ring');
    expect(memory.name).toBe('Gerät 7 / ring');
    memory.close();
  });

  test('Symbol.dispose closes', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    mapping[Symbol.dispose]();
    expect(mapping.state).toBe('closed');
    memory[Symbol.dispose]();
    expect(memory.state).toBe('closed');
  });

  test('the fd is the library’s own, and what another mmap sees is the same memory', () => {
    const memory = MemoryObject.create({ size: PAGE });
    memory.map().write32(0, 0xcafe);
    const second = MemoryObject.fromFd(memory.fd, { writable: true, name: 'again' });
    expect([second.owned, second.name, second.size]).toEqual([false, 'again', PAGE]);
    expect(second.map().read32(0)).toBe(0xcafe);
    second.close();
    expect(memory.map().read32(0)).toBe(0xcafe);
    memory.close();
  });
});
