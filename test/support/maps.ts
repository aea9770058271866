/** What the kernel says of this process's mappings: the witness that is not the library. */
import { readFileSync } from 'node:fs';

export interface MapsLine {
  start: bigint;
  end: bigint;
  /** As printed: `rw-s`. */
  flags: string;
  offset: number;
  inode: number;
  path: string;
}

export function readMaps(pid: number | 'self' = 'self'): MapsLine[] {
  return readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [range, flags, offset, , inode, ...path] = line.split(/ +/);
      const [start, end] = range.split('-').map((hex) => BigInt(`0x${hex}`));
      return { start, end, flags, offset: parseInt(offset, 16), inode: Number(inode), path: path.join(' ') };
    });
}

/** The lines that overlap `length` bytes at `address`. */
export function mapsAt(address: bigint, length: number): MapsLine[] {
  return readMaps().filter((line) => line.start < address + BigInt(length) && line.end > address);
}
