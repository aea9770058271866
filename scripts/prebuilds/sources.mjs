// What the binaries are built from: the files of native/, and a digest by which a binary that is older than its sources is known.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const PREBUILDS = join(ROOT, 'prebuilds');
const MANIFEST = join(PREBUILDS, 'manifest.json');

/** The one target of binding.gyp: a literal of Python's, whose comments have lines of their own. */
export function addonTarget() {
  const text = readFileSync(join(ROOT, 'binding.gyp'), 'utf8').replace(/^\s*#.*$/gm, '');
  return runInNewContext(`(${text})`).targets[0];
}

/** All that decides what the binaries contain, in one number. */
export function sourcesDigest() {
  const addonApi = createRequire(import.meta.url)('node-addon-api');
  const hash = createHash('sha256');
  for (const file of sourceFiles()) hash.update(`${file}\0`).update(readFileSync(join(ROOT, file))).update('\0'); // prettier-ignore
  return hash.update(addonApi.version).digest('hex');
}

function sourceFiles() {
  const below = (folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(ROOT.length));
  const ofBuild = ['build.mjs', 'units.mjs', 'targets.mjs', 'exports.map', 'new.cc', 'toolchain/package.json'];
  const rest = ['binding.gyp', 'scripts/units.mjs', ...ofBuild.map((name) => `scripts/prebuilds/${name}`)];
  return [...below('native'), ...below('include'), ...rest].sort();
}

/** What `npm run prebuild` wrote beside the binaries: of each file its digest, and that of what it was built from. */
export function readManifest() {
  return existsSync(MANIFEST) ? JSON.parse(readFileSync(MANIFEST, 'utf8')) : {};
}

export { MANIFEST };
