// The parts of C++'s library that the binaries carry, compiled in units as the addon's own sources are (`../units.mjs`).
import { join } from 'node:path';
import { writeUnit } from '../units.mjs';
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

export function libraryUnits(folder) {
  const parts = Object.entries(LIBRARY).map(([unit, sources]) => writeUnit(folder, unit, sources));
  return [...parts, { source: 'scripts/prebuilds/new.cc', object: `${folder}/new.o` }];
}
