/** Finds and loads the addon. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Native } from './functions.js';

const ROOT = join(__dirname, '..', '..');
const CANDIDATES = [join(ROOT, 'prebuilds', `linux-${process.arch}.node`), join(ROOT, 'build', 'Release', 'revocable_mmap.node')];

function load(): Native {
  if (process.platform !== 'linux') throw new Error(`revocable-mmap works on Linux only, not on ${process.platform}`);
  const path = CANDIDATES.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new Error(
      `revocable-mmap: there is no native addon for linux-${process.arch}. ` +
        `Build it with "npm run build:native" in ${ROOT} (needs g++, make and python3). Looked for:\n  ${CANDIDATES.join('\n  ')}`,
    );
  }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- a .node file can only be required
    return require(path) as Native;
  } catch (cause) {
    throw new Error(`revocable-mmap: the native addon ${path} does not load: ${(cause as Error).message}`, { cause });
  }
}

export const native: Native = load();
