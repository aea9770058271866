/** Every checked accessor, as a table. */
import type { Mapping } from 'revocable-mmap';

export interface CheckedAccessor {
  name: string;
  /** Bytes. */
  width: number;
  access: (mapping: Mapping, offset: number) => unknown;
}

export const CHECKED_READS: CheckedAccessor[] = [
  { name: 'read8', width: 1, access: (mapping, offset) => mapping.read8(offset) },
  { name: 'read16', width: 2, access: (mapping, offset) => mapping.read16(offset) },
  { name: 'read32', width: 4, access: (mapping, offset) => mapping.read32(offset) },
  { name: 'read64', width: 8, access: (mapping, offset) => mapping.read64(offset) },
  { name: 'read', width: 16, access: (mapping, offset) => mapping.read(offset, new Uint8Array(16)) },
];

export const CHECKED_WRITES: CheckedAccessor[] = [
  { name: 'write8', width: 1, access: (mapping, offset) => mapping.write8(offset, 0x77) },
  { name: 'write16', width: 2, access: (mapping, offset) => mapping.write16(offset, 0x7777) },
  { name: 'write32', width: 4, access: (mapping, offset) => mapping.write32(offset, 0x77777777) },
  { name: 'write64', width: 8, access: (mapping, offset) => mapping.write64(offset, 0x7777777777777777n) },
  { name: 'write', width: 16, access: (mapping, offset) => mapping.write(offset, new Uint8Array(16).fill(0x77)) },
];

export const CHECKED_ACCESSORS: CheckedAccessor[] = [...CHECKED_READS, ...CHECKED_WRITES];
