import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { MemoryObject } from 'revocable-mmap';
import { temporaryFile } from '../support/temporary.js';

describe('R4 revocation is proven before any touch', () => {
  test('R4 /proc/self/mem gives EIO where it gave the bytes before', () => {
    const memory = MemoryObject.create({ size: 8192 });
    const mapping = memory.map();
    mapping.write32(0, 0x1234);
    const mem = openSync('/proc/self/mem', 'r');
    const word = Buffer.alloc(4);
    try {
      expect(readSync(mem, word, 0, 4, mapping.address)).toBe(4);
      expect(word.readUInt32LE()).toBe(0x1234);
      memory.revokeSync();
      expect(() => readSync(mem, word, 0, 4, mapping.address)).toThrow(expect.objectContaining({ code: 'EIO' }));
    } finally {
      closeSync(mem);
    }
    expect(mapping.faults).toBe(0);
    memory.close();
  });

  test('R4 a system call on a revoked view gives EFAULT', () => {
    const memory = MemoryObject.create({ size: 8192 });
    const mapping = memory.map();
    const file = openSync(temporaryFile(1), 'w');
    try {
      expect(writeSync(file, mapping.bytes)).toBe(8192);
      memory.revokeSync();
      expect(() => writeSync(file, mapping.bytes)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    } finally {
      closeSync(file);
    }
    expect(mapping.faults).toBe(0);
    memory.close();
  });
});
