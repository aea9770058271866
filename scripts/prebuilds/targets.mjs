// The binaries that the package carries, and what may be in them. `src/native/load.ts` names the same files.
import { readElf } from './elf.mjs';

/** The C library of the oldest Linux that Node 20's own binaries run on. */
const NEWEST_GLIBC = [2, 28];

const LIBRARIES = {
  glibc: ['libc.so.6', 'libm.so.6', 'libpthread.so.0', 'libdl.so.2', 'ld-linux-x86-64.so.2', 'ld-linux-aarch64.so.1'],
  musl: ['libc.so'],
};

/** Of the functions whose names are a compiler's. */
const OF_C_LIBRARY = ['__cxa_atexit', '__cxa_finalize', '__cxa_thread_atexit_impl'];

/** The last two are how a second copy of the library recognises the handlers of the first (`native/fault/handler_install.cc`). */
export const EXPORTS = [
  'napi_register_module_v1',
  'node_api_module_get_api_version_v1',
  'revocable_mmap_fault_handler',
  'revocable_mmap_trap_handler',
];

export const TARGETS = ['x64', 'arm64'].flatMap((arch) =>
  ['glibc', 'musl'].map((libc) => ({
    name: `linux-${arch}-${libc}`,
    arch,
    libc,
    file: `linux-${arch}/revocable-mmap.${libc}.node`,
    // Atomic operations without the functions of the compiler's runtime library. zig takes this switch for itself, so clang gets it here.
    env: arch === 'arm64' ? { CCC_OVERRIDE_OPTIONS: '# +-mno-outline-atomics' } : {},
    triple: `${arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-${libc === 'glibc' ? `gnu.${NEWEST_GLIBC.join('.')}` : 'musl'}`,
  })),
);

/** What forbids publishing this file as the binary of a target: sentences, none where it is right. */
export function problemsOf(bytes, { arch, libc }) {
  let elf;
  try {
    elf = readElf(bytes);
  } catch (error) {
    return [error.message];
  }
  const foreign = elf.needed.filter((library) => !LIBRARIES[libc].includes(library));
  const newer = elf.versions.filter((version) => !isOldEnough(version));
  const ofCompiler = elf.imported.filter((name) => /^(_Z|__cxa_|__aarch64_|__gxx_)/.test(name) && !OF_C_LIBRARY.includes(name));
  const differing = symmetricDifference(elf.exported, EXPORTS);
  return [
    [elf.arch !== arch, `it is for ${elf.arch}`],
    [foreign.length > 0, `it needs libraries of the host: ${foreign.join(', ')}`],
    [newer.length > 0, `it needs more than glibc ${NEWEST_GLIBC.join('.')}: ${newer.join(', ')}`],
    [libc === 'musl' && elf.versions.length > 0, `it needs versions of symbols, which musl has none of: ${elf.versions.join(', ')}`],
    [ofCompiler.length > 0, `it needs what no C library has: ${ofCompiler.join(', ')}`],
    [!elf.isStripped, 'it is not stripped'],
    [differing.length > 0, `it must export ${EXPORTS.join(', ')}, and differs by: ${differing.join(', ')}`],
    [elf.hasTextRelocations, 'its code is relocated at load'],
    [!elf.bindsAtLoad, 'it binds symbols when they are first used (-z now is missing)'],
    [!elf.staysLoaded, 'it may be unloaded (-z nodelete is missing)'],
  ]
    .filter(([isWrong]) => isWrong)
    .map(([, problem]) => problem);
}

/** The newest version of glibc that a binary needs, for example `2.28`; undefined where it needs none. */
export function glibcNeed(bytes) {
  const versions = readElf(bytes).versions.filter((version) => /^GLIBC_[\d.]+$/.test(version));
  return versions.map((version) => version.slice(6)).sort((a, b) => compare(a, b)).at(-1); // prettier-ignore
}

function isOldEnough(version) {
  return /^GLIBC_[\d.]+$/.test(version) && compare(version.slice(6), NEWEST_GLIBC.join('.')) <= 0;
}

function compare(a, b) {
  const [left, right] = [a.split('.').map(Number), b.split('.').map(Number)];
  const index = left.findIndex((part, at) => part !== (right[at] ?? 0));
  return index === -1 ? left.length - right.length : left[index] - (right[index] ?? 0);
}

function symmetricDifference(some, others) {
  return [...some.filter((name) => !others.includes(name)), ...others.filter((name) => !some.includes(name))];
}
