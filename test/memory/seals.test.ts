import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { MemoryObject, type Seal } from 'revocable-mmap';
import { kernel } from '../support/kernel-calls.js';
import { mapsAt } from '../support/maps.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;
const { SEAL } = kernel;
const withoutExec = (seals: readonly Seal[]): Seal[] => seals.filter((seal) => seal !== 'exec'); // Linux 6.3 adds it by itself

describe('seals', () => {
  test('memory that the library makes cannot grow nor be sealed by others; it can shrink, which revocation needs', () => {
    const memory = MemoryObject.create({ size: PAGE });
    expect(withoutExec(memory.seals)).toEqual(['seal', 'grow']);
    expect(kernel.getSeals(memory.fd) & (SEAL.SHRINK | SEAL.WRITE)).toBe(0);
    expect(kernel.errorName(kernel.addSeals(memory.fd, SEAL.SHRINK))).toBe('EPERM');
    expect(kernel.errorName(kernel.ftruncate(memory.fd, 2 * PAGE))).toBe('EPERM');
    memory.close();
    expect(memory.seals).toEqual([]);
  });

  test("'shrink': no holder of a descriptor can take it away", () => {
    const memory = MemoryObject.create({ size: PAGE, seals: ['shrink'] });
    expect(withoutExec(memory.seals)).toEqual(['seal', 'shrink', 'grow']);
    expect(kernel.errorName(kernel.ftruncate(memory.fd, 0))).toBe('EPERM');
    memory.close();
  });

  test("'shrink': a revocation replaces the mappings of this process, says so, and leaves other holders theirs", () => {
    const memory = MemoryObject.create({ size: PAGE, seals: ['shrink'], content: Buffer.from('kept') });
    const mapping = memory.map();
    const descriptor = openSync(`/proc/self/fd/${memory.fd}`, 'r+');
    const peer = MemoryObject.fromFd(descriptor, { writable: true }); // as another process has it
    const theirs = peer.map();
    const report = memory.revokeSync();
    expect(report.means).toEqual({ truncated: false, replaced: 1, protected: 0, failed: 0 });
    expect(mapsAt(mapping.address, PAGE)[0].path).toBe('/memfd:revoked (deleted)');
    expect(kernel.peek(mapping.address)).toBe('EFAULT');
    expect(thrownBy(() => mapping.read32(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    expect(theirs.read8(0)).toBe('k'.charCodeAt(0));
    expect(theirs.state).toBe('live');
    closeSync(descriptor);
    for (const object of [memory, peer]) object.close();
  });

  test.each([['write'], ['future-write'], ['write', 'shrink']] as Seal[][])(
    '%p: nothing can write to it, its maker included',
    (...seals) => {
      const memory = MemoryObject.create({ size: 2 * PAGE, content: Buffer.from('constant'), seals });
      expect(memory.writable).toBe(false);
      expect(memory.seals).toEqual(expect.arrayContaining(seals));
      const mapping = memory.map();
      expect(mapping.access).toBe('r');
      expect(Buffer.from(mapping.bytes.subarray(0, 8)).toString()).toBe('constant');
      expect(mapping.read8(PAGE)).toBe(0);
      expect(thrownBy(() => mapping.write8(0, 1))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY' });
      mapping.bytes[0] = 1; // diverted, and reaches nothing
      expect(memory.map().read8(0)).toBe('c'.charCodeAt(0));
      const error = thrownBy(() => memory.map({ access: 'rw' }));
      expect(['EACCES', 'EPERM']).toContain(error.code);
      expect(error.message).toMatch(/F_SEAL_WRITE.*access: 'r'/);
      const copy = memory.map({ private: true, access: 'rw' });
      copy.write8(0, 7);
      expect([copy.read8(0), memory.map().read8(0)]).toEqual([7, 'c'.charCodeAt(0)]);
      expect(memory.revokeSync().means.truncated).toBe(!seals.includes('shrink'));
      expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      memory.close();
    },
  );

  test('the descriptor of memory sealed against writing, given to another process, neither writes nor truncates', () => {
    const memory = MemoryObject.create({ size: PAGE, content: Buffer.from('x'), seals: ['write'] });
    const program =
      "const fs = require('fs'); for (const f of [() => fs.writeSync(3, 'y'), () => fs.ftruncateSync(3, 0)]) try { f(); console.log('done') } catch (e) { console.log(e.code) }";
    const { stdout } = spawnSync(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit', memory.fd] });
    expect(String(stdout).trim().split('\n')).toEqual(['EBADF', 'EINVAL']);
    memory.close();
  });

  test('seals of a descriptor received', () => {
    const fd = kernel.memfd(PAGE);
    const memory = MemoryObject.fromFd(fd, { writable: true });
    const before = memory.seals;
    expect(kernel.addSeals(fd, SEAL.SHRINK)).toBe(0);
    expect(before).not.toContain('shrink');
    expect(memory.seals).toContain('shrink');
    closeSync(fd);
    memory.close();
  });

  test('a file has none', () => {
    const file = MemoryObject.openFile(temporaryFile(PAGE));
    expect(file.seals.filter((seal) => seal !== 'seal')).toEqual([]); // a file of a tmpfs cannot be sealed, which is a seal
    file.close();
  });

  test('a writable mapping of memory that its maker has sealed against writing is refused, and the error names the seal', () => {
    const fd = kernel.memfd(PAGE);
    writeSync(fd, 'sealed');
    expect(kernel.addSeals(fd, SEAL.WRITE)).toBe(0);
    const error = thrownBy(() => MemoryObject.fromFd(fd, { writable: true }));
    expect(error).toMatchObject({ code: 'EPERM', syscall: 'mmap' });
    expect(error.message).toMatch(/F_SEAL_WRITE/);
    const memory = MemoryObject.fromFd(fd);
    expect(memory.seals).toContain('write');
    expect(memory.map().read8(0)).toBe('s'.charCodeAt(0));
    closeSync(fd);
    memory.close();
  });

  test('and where it is sealed after it has been opened', () => {
    const fd = kernel.memfd(PAGE);
    const memory = MemoryObject.fromFd(fd, { writable: true });
    expect(kernel.addSeals(fd, SEAL.FUTURE_WRITE)).toBe(0);
    const error = thrownBy(() => memory.map());
    expect(error).toMatchObject({ code: 'EPERM', syscall: 'mmap' });
    expect(error.message).toMatch(/F_SEAL_FUTURE_WRITE/);
    closeSync(fd);
    memory.close();
  });

  test.each([
    [{ seals: 'shrink' }, 'ERR_INVALID_ARG_TYPE', /options\.seals/],
    [{ seals: null }, 'ERR_INVALID_ARG_TYPE', /options\.seals/],
    [{ seals: ['shrink', 'melt'] }, 'ERR_INVALID_ARG_VALUE', /options\.seals\[1\].*'future-write'/],
    [{ seals: new Array(1) }, 'ERR_INVALID_ARG_TYPE', /options\.seals\[0\]/],
    [{ content: 'text' }, 'ERR_INVALID_ARG_TYPE', /options\.content/],
    [{ content: new Uint8Array(PAGE + 1) }, 'ERR_OUT_OF_RANGE', /options\.content.*4096/],
    [{ content: new Uint8Array(1), size: 2 ** 21, hugePages: true }, 'ERR_INVALID_ARG_VALUE', /options\.content/],
  ] as const)('bad options: %j', (options, code, message) => {
    const error = thrownBy(() => MemoryObject.create({ size: PAGE, ...options } as never));
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(message);
  });

  test('content is what it holds at first, of any view, and no more than that', () => {
    const memory = MemoryObject.create({
      size: 3 * PAGE + 5,
      content: new Uint8Array(new Uint16Array(PAGE).fill(0x0201).buffer),
    });
    const mapping = memory.map();
    expect([mapping.read8(0), mapping.read8(1), mapping.read8(2 * PAGE - 1), mapping.read8(2 * PAGE)]).toEqual([1, 2, 2, 0]);
    memory.close();
  });
});
