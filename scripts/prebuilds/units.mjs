// What is compiled together. Reading the headers of C++'s library costs most of a file's time, so files of one folder are one
// translation unit; those of handler code are compiled by themselves, since `test/structure/inside-symbols.mjs` looks at each.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from './sources.mjs';
import { ZIG_LIBRARIES } from './toolchain.mjs';

/** The parts of libc++ and libc++abi that the addon needs: to build all of them takes three minutes a target. */
const LIBRARY = [
  ...['chrono', 'condition_variable', 'condition_variable_destructor', 'error_category', 'hash', 'memory', 'mutex'].map(libcxx),
  ...['mutex_destructor', 'new_helpers', 'string', 'system_error', 'verbose_abort'].map(libcxx),
  ...['abort_message', 'cxa_guard', 'cxa_virtual'].map(libcxxabi),
];

function libcxx(name) {
  return `libcxx/src/${name}.cpp`;
}

function libcxxabi(name) {
  return `libcxxabi/src/${name}.cpp`;
}

/** Pairs of a source and its object file, below `folder`. */
export function writeUnits(sources, folder) {
  const inside = sources.filter((source) => source.endsWith('_inside.cc'));
  const outside = sources.filter((source) => !inside.includes(source));
  const folders = [...new Set(outside.map((source) => dirname(source)))];
  const together = folders.map((name) => {
    const members = outside.filter((source) => dirname(source) === name);
    return { source: writeUnit(`${folder}/units/${name}.cc`, members), object: `${folder}/${name}.o` };
  });
  return [
    ...together,
    ...inside.map((source) => ({ source, object: `${folder}/${source.replace(/cc$/, 'o')}` })),
  ];
}

export function libraryUnits(folder) {
  const parts = LIBRARY.map((path) => ({ source: join(ZIG_LIBRARIES, path), object: `${folder}/${path.replace(/cpp$/, 'o')}` }));
  return [...parts, { source: 'scripts/prebuilds/new.cc', object: `${folder}/new.o` }];
}

function writeUnit(path, members) {
  mkdirSync(join(ROOT, dirname(path)), { recursive: true });
  writeFileSync(join(ROOT, path), members.map((member) => `#include "${member}"\n`).join(''));
  return path;
}
