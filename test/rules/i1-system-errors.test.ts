import { execFileSync } from 'node:child_process';
import { chmodSync, closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { runChild } from '../support/child.js';
import { testUnless, whyNoOtherUser } from '../support/conditions.js';
import { openDescriptors, UNMAPPABLE, withDescriptors } from '../support/descriptors.js';
import { temporaryDirectory, temporaryFile } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';

const PAGE = 4096;

/** Every synchronous call on a mapping that makes sense only while it is live. */
function callsThatNeedLife(mapping: Mapping): (() => unknown)[] {
  const range = { offset: 0, length: PAGE };
  return [
    () => mapping.protect({ ...range, access: 'r' }),
    () => mapping.remapPages({ ...range, objectOffset: 0 }),
    () => mapping.advise('normal'),
    () => mapping.sync(),
    () => mapping.lock(),
    () => mapping.unlock(),
    () => mapping.prefetch(),
    () => mapping.residency(),
    () => mapping.waitSync(0, 0),
    () => mapping.wake(0),
    () => mapping.share(),
  ];
}

describe('I1 system errors have the shape of Node’s own, and leave nothing open', () => {
  let open: string[];
  beforeAll(() => {
    const memory = MemoryObject.create({ size: PAGE });
    memory.map(); // what the library opens for itself, it keeps
    memory.close();
  });
  beforeEach(() => (open = openDescriptors()));
  afterEach(() => expect(openDescriptors().filter((line) => !open.includes(line))).toEqual([]));

  test('I1 a file that does not exist: ENOENT', () => {
    const path = join(temporaryDirectory(), 'missing');
    const error = thrownBy(() => MemoryObject.openFile(path));
    expect(error).toMatchObject({ name: 'Error', code: 'ENOENT', errno: -2, syscall: 'open', path });
    expect(error.message).toBe(`ENOENT: no such file or directory, open '${path}'`);
  });

  test('I1 a directory: EISDIR', () => {
    const path = temporaryDirectory();
    for (const writable of [false, true]) {
      expect(thrownBy(() => MemoryObject.openFile(path, { writable }))).toMatchObject({
        code: 'EISDIR',
        errno: -21,
        syscall: 'open',
        path,
      });
    }
  });

  test('I1 a path through a file: ENOTDIR; a loop of links: ELOOP; a name that is too long: ENAMETOOLONG', () => {
    const file = temporaryFile(1);
    expect(thrownBy(() => MemoryObject.openFile(`${file}/x`))).toMatchObject({
      code: 'ENOTDIR',
      syscall: 'open',
      path: `${file}/x`,
    });
    const link = join(temporaryDirectory(), 'link');
    execFileSync('ln', ['-s', 'link', link]);
    expect(thrownBy(() => MemoryObject.openFile(link))).toMatchObject({ code: 'ELOOP', syscall: 'open', path: link });
    expect(thrownBy(() => MemoryObject.openFile(`/tmp/${'x'.repeat(300)}`))).toMatchObject({
      code: 'ENAMETOOLONG',
      syscall: 'open',
    });
  });

  test.each([false, true])('I1 a FIFO does not hang, writable %s: ENODEV', (writable) => {
    const path = join(temporaryDirectory(), 'fifo');
    execFileSync('mkfifo', [path]);
    expect(thrownBy(() => MemoryObject.openFile(path, { writable }))).toMatchObject({
      code: 'ENODEV',
      errno: -19,
      syscall: 'mmap',
      path,
    });
  });

  test('I1 character devices that cannot be mapped: ENODEV; one that can be mapped is', () => {
    expect(thrownBy(() => MemoryObject.openFile('/dev/null'))).toMatchObject({
      code: 'ENODEV',
      syscall: 'mmap',
      path: '/dev/null',
    });
    const zero = MemoryObject.openFile('/dev/zero', { writable: true });
    const mapping = zero.map({ length: PAGE });
    mapping.write8(0, 1);
    expect([mapping.read8(0), mapping.read8(1)]).toEqual([1, 0]);
    zero.close();
  });

  testUnless(whyNoOtherUser(), 'I1 a file without permission: EACCES', async () => {
    const path = temporaryFile(PAGE);
    chmodSync(join(path, '..'), 0o755);
    chmodSync(path, 0o444);
    const { status, signal, stdout, stderr } = await runChild('i1-other-user.cjs', { args: [path] });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({
      read: 'mapped 90',
      write: { code: 'EACCES', errno: -13, syscall: 'open', path },
      secret: { code: 'EACCES', errno: -13, syscall: 'open', path: `${path}.secret` },
      leaked: 0,
    });
  });

  test('I1 a closed descriptor: EBADF', () => {
    const fd = openSync('/dev/null', 'r');
    closeSync(fd);
    const error = thrownBy(() => MemoryObject.fromFd(fd));
    expect(error).toMatchObject({ code: 'EBADF', errno: -9, syscall: 'fcntl' });
    expect('path' in error).toBe(false);
    expect(thrownBy(() => MemoryObject.fromFd(2 ** 31 - 1))).toMatchObject({ code: 'EBADF' });
  });

  test.each(Object.keys(UNMAPPABLE))('I1 a descriptor that cannot be mapped, %s: ENODEV', (kind) => {
    withDescriptors(UNMAPPABLE[kind](), (...fds) => {
      for (const fd of fds)
        expect(thrownBy(() => MemoryObject.fromFd(fd))).toMatchObject({
          code: kind === 'pipe' && fd === fds[1] ? 'EACCES' : 'ENODEV',
          syscall: 'mmap',
        });
    });
  });

  test('I1 a descriptor that is not open for what is asked: EACCES', () => {
    const path = temporaryFile(PAGE);
    withDescriptors([openSync(path, 'r'), openSync(path, 'a')], (readOnly, writeOnly) => {
      expect(thrownBy(() => MemoryObject.fromFd(readOnly, { writable: true }))).toMatchObject({
        code: 'EACCES',
        errno: -13,
        syscall: 'mmap',
      });
      expect(thrownBy(() => MemoryObject.fromFd(writeOnly))).toMatchObject({ code: 'EACCES', syscall: 'mmap' });
    });
    const file = MemoryObject.openFile(path);
    expect(thrownBy(() => file.map({ access: 'rw' }))).toMatchObject({ code: 'EACCES', errno: -13, syscall: 'mmap' });
    const copy = file.map({ access: 'rw', private: true }); // copies of one's own need no permission
    copy.write8(0, 1);
    expect([copy.read8(0), file.map().read8(0)]).toEqual([1, 0x5a]);
    const mapping = file.map();
    expect(thrownBy(() => mapping.protect({ offset: 0, length: PAGE, access: 'rw' }))).toMatchObject({
      code: 'EACCES',
      syscall: 'mprotect',
    });
    file.close();
  });

  test('I1 a revoked object: ENODEV, with the revocation as its cause', async () => {
    const memory = MemoryObject.create({ size: PAGE, name: 'gone' });
    const mapping = memory.map();
    memory.revokeSync('unplugged');
    const error = thrownBy(() => memory.map());
    expect(error).toMatchObject({
      name: 'Error',
      code: 'ENODEV',
      errno: -19,
      syscall: 'mmap',
      cause: { code: 'ERR_MAPPING_REVOKED', cause: 'unplugged' },
    });
    expect(error.message).toContain('ENODEV: no such device, mmap');
    expect(thrownBy(() => memory.zap())).toMatchObject({ code: 'ENODEV' });
    expect(await rejectionOf(memory.suspend())).toMatchObject({ code: 'ENODEV', errno: -19 });
    expect(await rejectionOf(memory.resume())).toMatchObject({ code: 'ENODEV', errno: -19 });
    const revoked = { code: 'ERR_MAPPING_REVOKED', object: 'gone' };
    for (const call of callsThatNeedLife(mapping)) expect(thrownBy(call)).toMatchObject(revoked);
    expect(await rejectionOf(mapping.wait(0, 0))).toMatchObject(revoked);
    memory.close();
  });

  test('I1 a closed object and a closed mapping: ERR_MAPPING_CLOSED from everything but close and the getters', async () => {
    const memory = MemoryObject.create({ size: PAGE, name: 'closed' });
    const mapping = memory.map();
    memory.close();
    memory.close();
    mapping.close();
    const closed = { name: 'MappingClosedError', code: 'ERR_MAPPING_CLOSED', object: 'closed' };
    for (const call of [() => memory.map(), () => memory.zap(), () => mapping.check(), ...callsThatNeedLife(mapping)]) {
      expect(thrownBy(call)).toMatchObject(closed);
    }
    expect(await rejectionOf(memory.suspend())).toMatchObject(closed);
    expect(await rejectionOf(memory.resume())).toMatchObject(closed);
    expect(await memory.revoke()).toMatchObject({ object: 'closed', revokedByThisCall: false, mappings: 0 });
    expect(memory.revokeSync()).toMatchObject({ revokedByThisCall: false });
    expect([memory.state, mapping.state, memory.size, memory.fd, memory.mappings.size]).toEqual([
      'closed',
      'closed',
      PAGE,
      -1,
      0,
    ]);
    expect(mapping.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('I1 memory that is larger than an ArrayBuffer can be: RangeError, nothing mapped', () => {
    const memory = MemoryObject.create({ size: 2 ** 52 });
    for (const shared of [true, false]) {
      expect(thrownBy(() => memory.map({ shared, length: 2 ** 51 }))).toMatchObject({
        code: shared ? 'ERR_OUT_OF_RANGE' : expect.stringMatching(/ERR_OUT_OF_RANGE|ENOMEM/),
      });
    }
    expect(memory.mappings.size).toBe(0);
    memory.close();
  });

  test('I1 memory larger than a file can be: a system error or a RangeError, nothing open', () => {
    const error = thrownBy(() => MemoryObject.create({ size: Number.MAX_SAFE_INTEGER }).map({ length: 2 ** 52 }));
    expect(['EFBIG', 'EINVAL', 'ENOMEM', 'ERR_OUT_OF_RANGE']).toContain(error.code);
    (globalThis as { gc?: () => void }).gc?.();
    open = openDescriptors(); // the object that could not be mapped is open until it is collected
  });

  test('I1 an empty file cannot be mapped without a length, but with one', () => {
    const file = MemoryObject.openFile(temporaryFile(0));
    expect(file.size).toBe(0);
    expect(thrownBy(() => file.map())).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    const mapping = file.map({ length: 10 });
    expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
    file.close();
  });
});
