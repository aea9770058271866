// Refuses to pack a package whose binaries are missing, older than the native sources, or not what users can load.
//
//   node scripts/prebuilds/check.mjs
//
// Prints a line for each binary. The exit status is 1 when one of them must not be published.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PREBUILDS, readManifest, sourcesDigest } from './sources.mjs';
import { glibcNeed, problemsOf, TARGETS } from './targets.mjs';

const manifest = readManifest();
const sources = sourcesDigest();
let failed = false;

for (const target of TARGETS) {
  const problems = problemsOfTarget(target);
  failed ||= problems.length > 0;
  if (problems.length > 0) console.error(`prebuilds/${target.file}: ${problems.join('; ')}`);
  else console.log(`prebuilds/${target.file}: ${sizeOf(target)} KiB${needOf(target)}`);
}
if (failed) {
  console.error('The package cannot be packed: run `npm run prebuild`.');
  process.exitCode = 1;
}

function problemsOfTarget(target) {
  const path = join(PREBUILDS, target.file);
  if (!existsSync(path)) return ['it is missing'];
  const bytes = readFileSync(path);
  const built = manifest[target.file];
  const isOurs = built?.digest === createHash('sha256').update(bytes).digest('hex');
  return [
    ...(built?.sources === sources ? [] : ['it is older than the native sources']),
    ...(isOurs ? [] : ['it is not what the last build wrote']),
    ...problemsOf(bytes, target),
  ];
}

function sizeOf(target) {
  return Math.ceil(readFileSync(join(PREBUILDS, target.file)).length / 1024);
}

function needOf(target) {
  const need = glibcNeed(readFileSync(join(PREBUILDS, target.file)));
  return need === undefined ? '' : `, glibc ${need} or newer`;
}
