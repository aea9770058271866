// What is compiled together. Reading the headers of C++'s library costs most of a file's time, so files of one folder are one
// translation unit; those of handler code are another, since `test/structure/inside-symbols.mjs` looks at what it needs.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from './sources.mjs';
import { ZIG_LIBRARIES } from './toolchain.mjs';

/**
 * The parts of libc++ and libc++abi that the addon needs: to build all of them takes three minutes a target. Those that set macros
 * before they include headers are by themselves.
 */
const LIBRARY = {
  'libcxx/all': ['chrono', 'condition_variable', 'hash', 'mutex', 'new_helpers', 'string', 'system_error', 'verbose_abort'].map(libcxx),
  'libcxx/error_category': [libcxx('error_category')],
  'libcxx/memory': [libcxx('memory')],
  'libcxx/condition_variable_destructor': [libcxx('condition_variable_destructor')],
  'libcxx/mutex_destructor': [libcxx('mutex_destructor')],
  'libcxxabi/all': ['abort_message', 'cxa_guard', 'cxa_virtual'].map(libcxxabi),
};

function libcxx(name) {
  return join(ZIG_LIBRARIES, `libcxx/src/${name}.cpp`);
}

function libcxxabi(name) {
  return join(ZIG_LIBRARIES, `libcxxabi/src/${name}.cpp`);
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

export function libraryUnits(folder) {
  const parts = Object.entries(LIBRARY).map(([unit, sources]) => writeUnit(folder, unit, sources));
  return [...parts, { source: 'scripts/prebuilds/new.cc', object: `${folder}/new.o` }];
}

function unitOf(source) {
  return `${dirname(source)}/${source.endsWith('_inside.cc') ? 'all_inside' : 'all'}`;
}

function writeUnit(folder, unit, members) {
  const source = `${folder}/units/${unit}.cc`;
  mkdirSync(join(ROOT, dirname(source)), { recursive: true });
  writeFileSync(join(ROOT, source), members.map((member) => `#include "${member}"\n`).join(''));
  return { source, object: `${folder}/${unit}.o` };
}
