// What is compiled together. Reading the headers of C++'s library costs most of a file's time, so files of one folder are one
// translation unit; those of handler code are another, since `test/structure/inside-symbols.mjs` looks at what it needs. A file is
// still compiled by itself by clang-tidy and by `npm run test:compilers`: it has to include what it uses.
//
//   node scripts/units.mjs <folder> [source…]    default: all of native/
//
// writes the units of the sources below the folder, and prints their paths.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [folder, ...sources] = argv.slice(2);
  const units = writeUnits(sources.length > 0 ? sources : nativeSources(), folder);
  console.log(units.map(({ source }) => source).join('\n'));
}

/** The sources of the addon: all there are. */
export function nativeSources() {
  const names = readdirSync(join(ROOT, 'native'), { recursive: true }).sort();
  return names.filter((name) => name.endsWith('.cc')).map((name) => `native/${name}`);
}

/** Pairs of a source and its object file, below `folder`. */
export function writeUnits(sources, folder) {
  return [...new Set(sources.map(unitOf))].map((unit) =>
    writeUnit(
      folder,
      unit,
      sources.filter((source) => unitOf(source) === unit),
    ),
  );
}

function unitOf(source) {
  return `${dirname(source)}/${source.endsWith('_inside.cc') ? 'all_inside' : 'all'}`;
}

/** `unit` names its two files. One that is as it was is left alone: make(1) compiles what is newer than its object. */
export function writeUnit(folder, unit, members) {
  const source = `${folder}/${unit}.cc`;
  const path = join(ROOT, source);
  const text = members.map((member) => `#include "${member}"\n`).join('');
  mkdirSync(dirname(path), { recursive: true });
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
  return { source, object: `${folder}/${unit}.o` };
}
