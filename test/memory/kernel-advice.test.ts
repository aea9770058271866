import { readFileSync, truncateSync } from 'node:fs';
import { MemoryObject, type Advice } from 'revocable-mmap';
import { runInChild } from '../support/child.js';
import { testUnless, whyNoOtherUser } from '../support/conditions.js';
import { inSmallPages } from '../support/small-pages.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

/** A field of a mapping's entry in /proc/self/smaps, in bytes; or its flags. */
function smaps(address: bigint, field: string): string {
  const entries = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const entry = entries.find((text) => text.startsWith(address.toString(16).padStart(8, '0') + '-'));
  return new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(entry ?? '')?.[1] ?? 'no such entry';
}

describe('advise', () => {
  test.each([
    'normal',
    'random',
    'sequential',
    'willneed',
    'dontneed',
    'cold',
    'pageout',
    'hugepage',
    'nohugepage',
    'dontdump',
    'dodump',
    'populate-read',
    'populate-write',
  ] as Advice[])('advise %s is taken, and the contents stay', (advice) => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    mapping.bytes.fill(0x5a);
    mapping.advise(advice);
    mapping.advise(advice, { offset: PAGE, length: PAGE });
    expect(mapping.bytes.every((byte) => byte === 0x5a)).toBe(true);
    memory.close();
  });

  test('what it does shows in /proc/self/smaps', () => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    mapping.advise('random');
    expect(smaps(mapping.address, 'VmFlags')).toMatch(/\brr\b/);
    mapping.advise('dontdump');
    expect(smaps(mapping.address, 'VmFlags')).toMatch(/\bdd\b/);
    mapping.advise('populate-write');
    expect(smaps(mapping.address, 'Rss')).toBe('16 kB');
    mapping.advise('dontneed');
    expect(smaps(mapping.address, 'Rss')).toBe('0 kB');
    memory.close();
  });

  test("the kernel's refusal is its own error", () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map({ access: 'r' });
    expect(thrownBy(() => mapping.advise('populate-write'))).toMatchObject({ code: 'ERR_MAPPING_READ_ONLY', offset: 0 });
    memory.close();
  });
});

describe('sync, lock, residency, prefetch, zap', () => {
  test('sync writes to the file', () => {
    const path = temporaryFile(2 * PAGE);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map();
    mapping.write8(PAGE, 0x31);
    mapping.sync({ offset: PAGE, length: PAGE });
    mapping.sync();
    expect(readFileSync(path)[PAGE]).toBe(0x31);
    file.close();
  });

  test('lock keeps pages, unlock lets them go', () => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    mapping.lock();
    expect(smaps(mapping.address, 'Locked')).toBe('16 kB');
    expect([...mapping.residency()]).toEqual([1, 1, 1, 1]);
    mapping.unlock();
    expect(smaps(mapping.address, 'Locked')).toBe('0 kB');
    mapping.lock({ offset: PAGE, length: PAGE });
    memory.zap(); // also what is locked
    mapping.unlock();
    memory.revokeSync();
    expect(mapping.bytes[PAGE]).toBe(0);
    memory.close();
  });

  testUnless(whyNoOtherUser(), 'lock beyond RLIMIT_MEMLOCK is ENOMEM', async () => {
    const { status, value } = await runInChild(({ MemoryObject }, require) => {
      const { execFileSync } = require('node:child_process') as typeof import('node:child_process');
      const mapping = MemoryObject.create({ size: 16 * 4096 }).map();
      execFileSync('prlimit', ['--memlock=4096:4096', `--pid=${process.pid}`]);
      process.setgroups!([]);
      process.setgid!(65534);
      process.setuid!(65534);
      try {
        mapping.lock();
        return 'locked';
      } catch (error) {
        const { code, syscall } = error as NodeJS.ErrnoException;
        return { code, syscall };
      }
    });
    expect({ status, value }).toEqual({ status: 0, value: { code: 'ENOMEM', syscall: 'mlock' } });
  });

  test('residency tells page by page, prefetch brings in', () => {
    const memory = MemoryObject.create({ size: 4 * PAGE + 1 });
    const mapping = inSmallPages(memory.map());
    expect([...mapping.residency()]).toEqual([0, 0, 0, 0, 0]);
    mapping.write8(2 * PAGE, 1);
    expect([...mapping.residency()]).toEqual([0, 0, 1, 0, 0]);
    expect([...mapping.residency({ offset: 2 * PAGE, length: PAGE })]).toEqual([1]);
    mapping.prefetch({ offset: 0, length: PAGE });
    expect([...mapping.residency()]).toEqual([1, 0, 1, 0, 0]);
    mapping.prefetch();
    expect([...mapping.residency()]).toEqual([1, 1, 1, 1, 1]);
    memory.close();
  });

  test('prefetch of a page that is gone is a BackingFaultError', () => {
    const path = temporaryFile(2 * PAGE);
    const file = MemoryObject.openFile(path);
    const mapping = file.map();
    truncateSync(path, PAGE);
    expect(thrownBy(() => mapping.prefetch())).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
    file.close();
  });

  test('zap lets the pages go from every mapping; contents and private copies stay', () => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    const second = memory.map({ offset: 2 * PAGE });
    const own = memory.map({ private: true });
    mapping.bytes.fill(0x5a);
    void second.bytes[0];
    own.bytes[0] = 1;
    expect(smaps(mapping.address, 'Rss')).toBe('16 kB');
    memory.zap({ offset: 3 * PAGE, length: PAGE });
    expect(smaps(mapping.address, 'Rss')).toBe('12 kB');
    memory.zap();
    expect([smaps(mapping.address, 'Rss'), smaps(second.address, 'Rss')]).toEqual(['0 kB', '0 kB']);
    expect(mapping.bytes.every((byte) => byte === 0x5a)).toBe(true);
    expect([second.read8(0), own.read8(0), own.read8(1)]).toEqual([0x5a, 1, 0x5a]);
    expect(mapping.faults).toBe(0);
    memory.close();
  });
});
