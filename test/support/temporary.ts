/** Real files that go away with the test. */
import { mkdtempSync, rmSync, writeFileSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const directories: string[] = [];
const undo: (() => void)[] = [];

/** Runs `step` before the directories are removed, the last one first: what is mounted there must go before. */
export function beforeRemoval(step: () => void): void {
  undo.push(step);
}

export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'revocable-'));
  directories.push(directory);
  return directory;
}

/** A file of `size` bytes, each `byte`. */
export function temporaryFile(size: number, byte = 0x5a, name = 'file'): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, '');
  if (byte === 0) truncateSync(path, size);
  else writeFileSync(path, Buffer.alloc(size, byte));
  return path;
}

afterAll(() => {
  for (const step of undo.splice(0).reverse()) step();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});
