/** What the headers of an ELF file of 64 bits, little-endian, say: enough to choose a binary, and to refuse a damaged one. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const MAGIC = 0x7f454c46;
const INTERPRETER = 3;
const MACHINES: Record<string, number> = { x64: 62, arm64: 183 };

/** The path of the dynamic linker that a program asks for; undefined where it names none, or cannot be read. */
export function interpreterOf(program: string): string | undefined {
  try {
    return withFile(program, (read) => {
      const header = read(0, 64);
      if (!isElf(header)) return undefined;
      const [size, count] = [header.readUInt16LE(54), header.readUInt16LE(56)];
      const segments = read(Number(header.readBigUInt64LE(32)), size * count);
      for (let at = 0; at + size <= segments.length; at += size) {
        if (segments.readUInt32LE(at) !== INTERPRETER) continue;
        const path = read(Number(segments.readBigUInt64LE(at + 8)), Number(segments.readBigUInt64LE(at + 32)));
        return path.toString('latin1').replace(/\0.*$/s, '');
      }
      return undefined;
    });
  } catch {
    return undefined; // for example, the permission model forbids it
  }
}

/**
 * Why a shared object must not be loaded; undefined where nothing is wrong. The dynamic linker does not ask: it maps a truncated file
 * and dies of SIGBUS when it touches what is missing.
 */
export function damageOf(path: string, arch: string): string | undefined {
  return withFile(path, (read, size) => {
    const header = read(0, 64);
    if (!isElf(header)) return 'is not an ELF file of 64 bits';
    // The table of sections is the last thing in the file.
    const end = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
    if (size < end) return `is truncated: ${size} of ${end} bytes`;
    if (header.readUInt16LE(18) !== MACHINES[arch]) return `is not for ${arch}`;
    return undefined;
  });
}

function isElf(header: Buffer): boolean {
  return header.length === 64 && header.readUInt32BE(0) === MAGIC && header[4] === 2 && header[5] === 1;
}

function withFile<T>(path: string, use: (read: (from: number, count: number) => Buffer, size: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    const read = (from: number, count: number) => {
      const bytes = Buffer.allocUnsafe(count);
      return bytes.subarray(0, readSync(fd, bytes, 0, count, from));
    };
    return use(read, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}
