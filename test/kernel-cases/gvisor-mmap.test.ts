/** Cases 1 to 10: gVisor's test/syscalls/linux/mmap.cc, and what LTP and the POSIX test suite have of the same. */
import { closeSync, ftruncateSync, openSync, readFileSync, readSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { type BackingFaultError, MemoryObject, type FaultInfo, type MapOptions, type Mapping } from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { kernel, survivingChild } from '../support/kernel-calls.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';

const { PAGE, peek } = kernel;
const A = 'a'.charCodeAt(0);
const PAST_END = { code: 'ERR_BACKING_FAULT', cause: 'past-end' };

/** What mmap's protections and flags can be through `map`; PROT_WRITE alone has no name here. */
const COMBINATIONS: { access: 'r' | 'rw'; private: boolean }[] = [
  { access: 'r', private: false },
  { access: 'r', private: true },
  { access: 'rw', private: false },
  { access: 'rw', private: true },
];
const nameOf = ({ access, private: priv }: MapOptions): string => `${access} ${priv ? 'MAP_PRIVATE' : 'MAP_SHARED'}`;

/** A file of half a page, mapped two pages long. */
function halfPageMapped(options: MapOptions): Mapping {
  return MemoryObject.openFile(temporaryFile(PAGE / 2, A), { writable: true }).map({ ...options, length: 2 * PAGE });
}

function pageFile(): { path: string; memory: MemoryObject } {
  const path = temporaryFile(PAGE, A);
  return { path, memory: MemoryObject.openFile(path, { writable: true }) };
}

describe('kernel cases of gVisor: mmap.cc', () => {
  test('case 1 (gVisor ReadSharedTruncateSIGBUS): a checked read of a page whose backing vanished throws', () => {
    const { path, memory } = pageFile();
    const mapping = memory.map({ access: 'r' });
    expect(mapping.bytes.every((byte) => byte === A)).toBe(true);
    truncateSync(path, 0);
    expect(thrownBy(() => mapping.read8(0))).toMatchObject({ ...PAST_END, offset: 0 });
    expect(thrownBy(() => mapping.read(0, new Uint8Array(PAGE)))).toMatchObject({ ...PAST_END, bytesTransferred: 0 });
    expect({ state: mapping.state, faults: mapping.faults }).toEqual({ state: 'live', faults: 1 });
    memory.close();
  });

  test('case 1 (gVisor ReadSharedTruncateSIGBUS): a raw read completes with zeros and emits one event', async () => {
    const { path, memory } = pageFile();
    const mapping = memory.map({ access: 'r' });
    const faults: FaultInfo[] = [];
    mapping.on('fault', (info) => faults.push(info));
    expect(mapping.bytes[PAGE - 1]).toBe(A);
    truncateSync(path, 0);
    expect(Array.from(mapping.bytes)).toEqual(new Array(PAGE).fill(0));
    await until('the fault event has come', () => faults.length > 0);
    expect(faults).toEqual([{ kind: 'backing', cause: 'past-end', write: false, offset: 0 }]);
    expect(thrownBy(() => mapping.check())).toMatchObject(PAST_END);
    memory.close();
  });

  test("case 1 (gVisor ReadSharedTruncateSIGBUS): with fill 'signal' the raw read dies of SIGBUS, as the original demands", async () => {
    const { status, signal, stdout } = await runInChild(
      (lib, require, path: string) => {
        const mapping = lib.MemoryObject.openFile(path).map({ fill: 'signal' });
        if (mapping.bytes[0] !== 97) throw new Error('the file is not mapped');
        require('node:fs').truncateSync(path, 0);
        console.log('truncated');
        return mapping.bytes[0];
      },
      { input: temporaryFile(PAGE, A) },
    );
    expect({ status, signal, stdout: stdout.trim() }).toEqual({ status: null, signal: 'SIGBUS', stdout: 'truncated' });
  });

  test('case 1 (gVisor ReadSharedTruncateSIGBUS): memory revoked by its owner is past its end too', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map({ access: 'r' });
    expect(mapping.read8(0)).toBe(0);
    expect(memory.revokeSync()).toMatchObject({ mappings: 1, means: { truncated: true, replaced: 1, failed: 0 } });
    expect(peek(mapping.address)).toBe('EFAULT');
    expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    memory.close();
  });

  test('case 2 (gVisor WriteSharedTruncateSIGBUS): a page this process has dirtied vanishes like any other', () => {
    const { path, memory } = pageFile();
    const mapping = memory.map();
    mapping.write(0, Buffer.from('dirty'));
    truncateSync(path, 0);
    expect(thrownBy(() => mapping.write8(0, 1))).toMatchObject({ ...PAST_END, offset: 0 });
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(PAST_END);
    expect(readFileSync(path)).toHaveLength(0);
    memory.close();
  });

  test('case 2 (gVisor WriteSharedTruncateSIGBUS): a raw write completes and is discarded', () => {
    const { path, memory } = pageFile();
    const mapping = memory.map();
    mapping.bytes.set(Buffer.from('dirty'));
    truncateSync(path, 0);
    mapping.bytes.set(Buffer.from('lost'));
    expect(mapping.faults).toBe(1);
    truncateSync(path, PAGE);
    expect(readFileSync(path).every((byte) => byte === 0)).toBe(true);
    memory.close();
  });

  test("case 2 (gVisor WriteSharedTruncateSIGBUS): with fill 'signal' the raw write dies of SIGBUS", async () => {
    const { status, signal, stdout } = await runInChild(
      (lib, require, path: string) => {
        const mapping = lib.MemoryObject.openFile(path, { writable: true }).map({ fill: 'signal' });
        mapping.bytes[0] = 1;
        require('node:fs').truncateSync(path, 0);
        console.log('truncated');
        mapping.bytes[0] = 2;
      },
      { input: temporaryFile(PAGE, A) },
    );
    expect({ status, signal, stdout: stdout.trim() }).toEqual({ status: null, signal: 'SIGBUS', stdout: 'truncated' });
  });

  test('case 3 (gVisor TruncateAfterCOWBreak): truncation takes a private copy-on-write page too', () => {
    const { path, memory } = pageFile();
    const mapping = memory.map({ private: true });
    mapping.bytes.fill(0x62);
    truncateSync(path, 0);
    expect(peek(mapping.address)).toBe('EFAULT');
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(PAST_END);
    expect(mapping.bytes.includes(0x62)).toBe(false);
    memory.close();
  });

  test.each(['owned memory', 'a file'])(
    'case 3 (gVisor TruncateAfterCOWBreak): a private copy-on-write page of %s is revoked too',
    (what) => {
      const memory = what === 'a file' ? pageFile().memory : MemoryObject.create({ size: PAGE });
      const mapping = memory.map({ private: true });
      mapping.bytes.fill(0x62);
      expect(memory.revokeSync()).toMatchObject({ mappings: 1, means: { replaced: 1, failed: 0 } });
      expect(peek(mapping.address)).toBe('EFAULT');
      expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      expect(Array.from(mapping.bytes)).toEqual(new Array(PAGE).fill(0));
      memory.close();
    },
  );

  for (const combination of COMBINATIONS) {
    const name = nameOf(combination);

    test(`case 4 (gVisor SigBusDeath, LTP mmap13, POSIX mmap 11-2 and 11-3): ${name} throws past the page that holds the end`, () => {
      for (const shared of [true, false]) {
        const mapping = halfPageMapped({ ...combination, shared });
        expect(thrownBy(() => mapping.read32(PAGE))).toMatchObject({ ...PAST_END, offset: PAGE, objectOffset: PAGE });
        if (combination.access === 'rw') expect(thrownBy(() => mapping.write32(2 * PAGE - 4, 1))).toMatchObject(PAST_END);
        expect(mapping.faults).toBe(1);
        mapping.object.close();
      }
    });

    test(`case 4 (gVisor SigBusDeath, LTP mmap13, POSIX mmap 11-2 and 11-3): ${name} completes a raw access there with zeros`, () => {
      const mapping = halfPageMapped(combination);
      if (combination.access === 'rw') mapping.bytes[PAGE] = 0;
      expect(mapping.bytes.subarray(PAGE).every((byte) => byte === 0)).toBe(true);
      expect(mapping.faults).toBe(1);
      mapping.object.close();
    });

    test(`case 4 (gVisor SigBusDeath): ${name} with fill 'signal' dies of SIGBUS past the page that holds the end`, async () => {
      const { status, signal, stdout } = await runInChild(
        (lib, _require, { path, options }: { path: string; options: MapOptions }) => {
          const mapping = lib.MemoryObject.openFile(path, { writable: true }).map({ ...options, length: 8192, fill: 'signal' });
          console.log(mapping.bytes[0]);
          if (options.access === 'rw') mapping.bytes[4096] = 1;
          else console.log(mapping.bytes[4096]);
        },
        { input: { path: temporaryFile(PAGE / 2, A), options: combination } },
      );
      expect({ status, signal, stdout: stdout.trim() }).toEqual({ status: null, signal: 'SIGBUS', stdout: '97' });
    });

    test(`case 5 (gVisor NoSigBusOnPagesBeforeEOF, NoSigBusOnPageContainingEOF): ${name} keeps the page that holds the end`, () => {
      const mapping = halfPageMapped(combination);
      expect(thrownBy(() => mapping.read8(PAGE))).toMatchObject(PAST_END);
      const faults = mapping.faults;
      // One byte after the middle: the original's guard against counting one too few.
      for (const offset of [0, PAGE / 2 - 1, PAGE / 2, PAGE / 2 + 1, PAGE - 1]) {
        expect(mapping.read8(offset)).toBe(offset < PAGE / 2 ? A : 0);
        if (combination.access === 'rw') mapping.write8(offset, 0x7a);
        if (combination.access === 'rw') expect(mapping.bytes[offset]).toBe(0x7a);
      }
      expect({ faults: mapping.faults, state: mapping.state }).toEqual({ faults, state: 'live' });
      mapping.object.close();
    });
  }

  test.each(['r', 'rw'] as const)(
    'case 6 (gVisor ReadSharedTruncatePartialPage, WriteSharedTruncatePartialPage): %s, the tail of a partly truncated page is zeros, its head intact',
    (access) => {
      const { path, memory } = pageFile();
      const mapping = memory.map({ access });
      if (access === 'rw') mapping.bytes.fill(0x41);
      const written = mapping.read8(0);
      truncateSync(path, PAGE / 2);
      const copy = new Uint8Array(PAGE);
      expect(mapping.read(0, copy)).toBe(PAGE);
      expect(copy.subarray(0, PAGE / 2).every((byte) => byte === written)).toBe(true);
      expect(copy.subarray(PAGE / 2).every((byte) => byte === 0)).toBe(true);
      expect(Buffer.compare(mapping.bytes, copy)).toBe(0);
      expect(mapping.faults).toBe(0);
      memory.close();
    },
  );

  test('case 7 (gVisor InternalSigBus): write(2) to a pipe from a page that is gone gives EFAULT and no signal', () => {
    const [reader, writer] = kernel.pipe();
    const lost = halfPageMapped({ private: true });
    const revoked = MemoryObject.create({ size: 2 * PAGE });
    const revokedMapping = revoked.map({ private: true });
    revoked.revokeSync();
    for (const mapping of [lost, revokedMapping]) {
      expect(() => writeSync(writer, mapping.bytes.subarray(PAGE))).toThrow(expect.objectContaining({ code: 'EFAULT' }));
      expect(kernel.errorName(kernel.write(writer, mapping.address + BigInt(PAGE), PAGE))).toBe('EFAULT');
      expect(mapping.faults).toBe(0);
    }
    closeSync(reader);
    closeSync(writer);
    lost.object.close();
    revoked.close();
  });

  test('case 7 (gVisor InternalSigBusZeroing): read(2) from /dev/zero into a page that is gone gives EFAULT and no signal', () => {
    const zero = openSync('/dev/zero', 'r');
    const lost = halfPageMapped({ private: false });
    const revoked = MemoryObject.create({ size: 2 * PAGE });
    const revokedMapping = revoked.map();
    revoked.revokeSync();
    for (const mapping of [lost, revokedMapping]) {
      expect(() => readSync(zero, mapping.bytes, PAGE, PAGE, null)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
      expect(kernel.errorName(kernel.read(zero, mapping.address + BigInt(PAGE), PAGE))).toBe('EFAULT');
      expect(mapping.faults).toBe(0);
    }
    closeSync(zero);
    lost.object.close();
    revoked.close();
  });

  test('case 8 (gVisor ReadSharedTruncateDownThenUp): what grew back is zeros, never the old content', () => {
    const { path, memory } = pageFile();
    const mapping = memory.map({ access: 'r' });
    expect(mapping.bytes.every((byte) => byte === A)).toBe(true);
    truncateSync(path, 0);
    truncateSync(path, PAGE);
    expect(mapping.bytes.every((byte) => byte === 0)).toBe(true);
    expect(mapping.read8(PAGE - 1)).toBe(0);
    mapping.sync();
    expect(readFileSync(path).equals(Buffer.alloc(PAGE))).toBe(true);
    expect(mapping.faults).toBe(0);
    memory.close();
  });

  test('case 8 (gVisor WriteSharedTruncateDownThenUp): what was dirty before does not come back', () => {
    const { path, memory } = pageFile();
    const mapping = memory.map();
    mapping.bytes.fill(0x41, 0, PAGE / 2);
    truncateSync(path, 0);
    truncateSync(path, PAGE);
    expect(mapping.bytes.every((byte) => byte === 0)).toBe(true);
    expect(mapping.faults).toBe(0);
    memory.close();
    expect(readFileSync(path).equals(Buffer.alloc(PAGE))).toBe(true);
  });

  test('case 8 (gVisor ReadSharedTruncateDownThenUp): a page that was missed in between stays lost when the file has grown back', () => {
    const { path, memory } = pageFile();
    const mapping = memory.map();
    truncateSync(path, 0);
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(PAST_END);
    writeFileSync(path, Buffer.alloc(PAGE, 0x6e));
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(PAST_END);
    expect(mapping.bytes.every((byte) => byte === 0)).toBe(true);
    mapping.bytes.fill(0x21);
    expect(readFileSync(path).every((byte) => byte === 0x6e)).toBe(true);
    const again = memory.map();
    expect(again.read8(0)).toBe(0x6e);
    memory.close();
  });

  test('case 8 (gVisor ReadSharedTruncateDownThenUp): revoked memory of the library cannot be grown again by any process', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    mapping.write32(0, 0x1234);
    memory.revokeSync();
    const again = openSync(`/proc/self/fd/${memory.fd}`, 'r+');
    expect(() => ftruncateSync(again, PAGE)).toThrow(expect.objectContaining({ code: 'EPERM' }));
    expect(() => writeSync(again, 'x')).toThrow(expect.objectContaining({ code: 'EPERM' }));
    expect(kernel.errorName(kernel.fallocate(again, 0, 0, PAGE))).toBe('EPERM');
    closeSync(again);
    expect(peek(mapping.address)).toBe('EFAULT');
    memory.close();
  });

  test('case 9 (gVisor MapOffsetBeyondEnd): a file can be mapped beyond its end, and the touch is what fails', () => {
    const { memory } = pageFile();
    const mapping = memory.map({ offset: 10 * PAGE, length: PAGE });
    const error = thrownBy(() => mapping.write8(5, 1)) as unknown as BackingFaultError;
    expect(error).toMatchObject({ ...PAST_END, offset: 5, objectOffset: 10 * PAGE + 5, address: mapping.address + 5n });
    expect(mapping.bytes[6]).toBe(0);
    memory.close();
  });

  test('case 9 (gVisor MapOffsetBeyondEnd): memory of the library refuses to be mapped beyond its end', () => {
    const memory = MemoryObject.create({ size: PAGE });
    for (const options of [{ offset: 10 * PAGE, length: PAGE }, { offset: PAGE }, { offset: 0, length: PAGE + 1 }]) {
      expect(thrownBy(() => memory.map(options))).toMatchObject({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
    }
    expect(memory.mappings.size).toBe(0);
    memory.close();
  });

  test('case 10 (gVisor SelfRead, SelfWrite): reading a file into its own mapping, and writing it from there, does not deadlock', async () => {
    const value = await survivingChild(
      async (lib, kernel, path: string) => {
        const fs = await import('node:fs');
        const memory = lib.MemoryObject.openFile(path, { writable: true });
        const mapping = memory.map();
        const file = fs.openSync(path, 'r+');
        const half = kernel.PAGE / 2;
        const sync = [
          fs.readSync(file, mapping.bytes, 0, half, 0),
          fs.writeSync(file, mapping.bytes, 0, half, 0),
          fs.readSync(memory.fd, mapping.bytes, 0, half, 0),
          fs.writeSync(memory.fd, mapping.bytes, 0, half, half),
        ];
        const read = new Promise<number>((done, fail) =>
          fs.read(file, mapping.bytes, 0, half, 0, (error, bytes) => (error === null ? done(bytes) : fail(error))),
        );
        const written = new Promise<number>((done, fail) =>
          fs.write(file, mapping.bytes, 0, half, 0, (error, bytes) => (error === null ? done(bytes) : fail(error))),
        );
        return { sync, pool: [await read, await written], faults: mapping.faults };
      },
      { input: temporaryFile(PAGE, A), limit: 60_000 },
    );
    expect(value).toEqual({ sync: [2048, 2048, 2048, 2048], pool: [2048, 2048], faults: 0 });
  });

  test('case 10 (gVisor SelfRead, SelfWrite): the same with revoked memory gives an error, not a deadlock', async () => {
    const value = await survivingChild(
      async (lib, kernel) => {
        const fs = await import('node:fs');
        const memory = lib.MemoryObject.create({ size: kernel.PAGE });
        const mapping = memory.map();
        memory.revokeSync();
        const attempt = (call: () => number): number | string => {
          try {
            return call();
          } catch (error) {
            return (error as NodeJS.ErrnoException).code!;
          }
        };
        return {
          // Nothing is left to be read, so nothing has to be put anywhere.
          read: attempt(() => fs.readSync(memory.fd, mapping.bytes, 0, kernel.PAGE, 0)),
          write: attempt(() => fs.writeSync(memory.fd, mapping.bytes, 0, kernel.PAGE, 0)),
          faults: mapping.faults,
        };
      },
      { limit: 60_000 },
    );
    expect(value).toEqual({ read: 0, write: 'EPERM', faults: 0 });
  });
});
