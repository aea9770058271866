import {
  closeSync,
  openSync,
  promises,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  write,
  writeFileSync,
  writeSync,
  writevSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { MemoryObject } from 'revocable-mmap';
import { nodeMajor } from '../support/conditions.js';
import { temporaryDirectory, temporaryFile } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';

const PAGE = 4096;

function revokedView(fill: 'zeros' | 'ones' = 'zeros') {
  const memory = MemoryObject.create({ size: 4 * PAGE });
  const mapping = memory.map({ fill });
  mapping.bytes.fill(0x5a);
  memory.revokeSync();
  return { memory, mapping };
}

function opened(flags: string, body: (fd: number) => void, path = join(temporaryDirectory(), 'out')): void {
  const fd = openSync(path, flags);
  try {
    body(fd);
  } finally {
    closeSync(fd);
  }
}

const EFAULT = { code: 'EFAULT', errno: -14 };

describe('A5 system calls on a revoked view', () => {
  const { mapping: shared } = revokedView();
  const calls: { name: string; syscall: string; call: (fd: number) => unknown }[] = [
    { name: 'writeSync', syscall: 'write', call: (fd) => writeSync(fd, shared.bytes) },
    { name: 'writevSync', syscall: 'write', call: (fd) => writevSync(fd, [shared.bytes]) },
    { name: 'readSync into it', syscall: 'read', call: (fd) => readSync(fd, shared.bytes, 0, PAGE, 0) },
    { name: 'writeFileSync', syscall: 'write', call: (fd) => writeFileSync(fd, shared.bytes) },
  ];

  test.each(calls)('A5 $name fails with EFAULT while no thread has touched it, and is no fault', ({ call, syscall }) => {
    opened(
      'r+',
      (fd) => {
        expect(thrownBy(() => call(fd))).toMatchObject({ ...EFAULT, syscall });
        expect(readFileSync(fd).every((byte) => byte === 0x11)).toBe(true);
      },
      temporaryFile(PAGE, 0x11),
    );
    expect(shared.faults).toBe(0);
    expect(thrownBy(() => shared.check())).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
  });

  test('A5 asynchronous calls fail with EFAULT too', async () => {
    const { memory, mapping } = revokedView();
    const path = temporaryFile(0);
    const handle = await promises.open(path, 'r+');
    try {
      expect(await rejectionOf(promisify(write)(handle.fd, mapping.bytes))).toMatchObject(EFAULT);
      expect(await rejectionOf(handle.write(mapping.bytes))).toMatchObject(EFAULT);
    } finally {
      await handle.close();
    }
    expect(statSync(path).size).toBe(0);
    expect(mapping.faults).toBe(0);
    memory.close();
  });

  test.each([
    { fill: 'zeros', byte: 0 },
    { fill: 'ones', byte: 0xff },
  ] as const)('A5 once a thread has touched it, system calls see $fill, and check() tells', ({ fill, byte }) => {
    const { memory, mapping } = revokedView(fill);
    const path = join(temporaryDirectory(), 'out');
    expect(mapping.bytes[0]).toBe(byte);
    opened('w', (fd) => expect(writeSync(fd, mapping.bytes)).toBe(4 * PAGE), path);
    expect(readFileSync(path).every((value) => value === byte)).toBe(true);
    opened('r', (fd) => expect(readSync(fd, mapping.bytes, 0, 8, 0)).toBe(8), temporaryFile(8, 0x31));
    expect(mapping.bytes[7]).toBe(0x31);
    expect(mapping.bytes[8]).toBe(byte);
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    memory.close();
  });

  test('A5 fs.promises.writeFile either fails or writes the fill; check() tells both times', async () => {
    const { memory, mapping } = revokedView('ones');
    const path = join(temporaryDirectory(), 'out');
    const result = await promises.writeFile(path, mapping.bytes).then(
      () => 'written',
      (error: NodeJS.ErrnoException) => error.code,
    );
    // Node 26 looks at a shared view before it writes it: that is a touch.
    if (nodeMajor() < 26) expect(result).toBe('EFAULT');
    if (result === 'written') expect(readFileSync(path).every((byte) => byte === 0xff)).toBe(true);
    else expect(statSync(path).size).toBe(0);
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    memory.close();
  });

  test('A5 a lost page in the middle leaves a half-written file behind', () => {
    const source = temporaryFile(4 * PAGE, 0x5a);
    const file = MemoryObject.openFile(source);
    const mapping = file.map();
    truncateSync(source, 2 * PAGE);
    const path = join(temporaryDirectory(), 'out');
    // One call transfers what it can, and says so; the next one fails.
    opened('w', (fd) => expect(writeSync(fd, mapping.bytes)).toBe(2 * PAGE), path);
    expect(thrownBy(() => writeFileSync(path, mapping.bytes))).toMatchObject(EFAULT);
    const written = readFileSync(path);
    expect(written.length).toBe(2 * PAGE);
    expect(written.every((byte) => byte === 0x5a)).toBe(true);
    expect(mapping.faults).toBe(0);
    expect(thrownBy(() => mapping.read8(2 * PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_BACKING_FAULT', offset: 2 * PAGE });
    file.close();
  });

  test('A5 a page that protect() has closed is EFAULT, the others are not', () => {
    const memory = MemoryObject.create({ size: 3 * PAGE });
    const mapping = memory.map();
    mapping.bytes.fill(0x5a);
    mapping.protect({ offset: PAGE, length: PAGE, access: 'none' });
    opened('w', (fd) => {
      expect(thrownBy(() => writeSync(fd, mapping.bytes.subarray(PAGE, PAGE + 10)))).toMatchObject(EFAULT);
      expect(writeSync(fd, mapping.bytes)).toBe(PAGE);
      expect(writeSync(fd, mapping.bytes.subarray(2 * PAGE))).toBe(PAGE);
    });
    memory.close();
  });
});
