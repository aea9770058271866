// Builds the native tests for one target, and links them with the objects that the package's binary was linked from.
//
//   node test/platforms/build.mjs <target> <output>
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { addonTarget, ROOT } from '../../scripts/prebuilds/sources.mjs';
import { TARGETS } from '../../scripts/prebuilds/targets.mjs';
import { TOOLCHAIN_ENV, ZIG, ZIG_LIBRARIES } from '../../scripts/prebuilds/toolchain.mjs';
import { libraryUnits, writeUnits } from '../../scripts/prebuilds/units.mjs';

const [name, output] = process.argv.slice(2);
const target = TARGETS.find((one) => one.name === name);
const folder = `build/prebuilds/${name}`;
const tests = `build/platforms/${name}`;
mkdirSync(join(ROOT, tests), { recursive: true });

// The tests are in namespaces without names, so that each is a unit of its own.
const FLAGS = ['-std=c++20', '-g0', '-O1', '-fPIC', '-Wall', '-Wextra', '-fno-exceptions', '-fno-rtti', '-Wno-vla-cxx-extension'];
const includes = ['native', 'include', 'test/native'].map((path) => `-I${path}`);
/** What the tests need of libc++ beyond the addon. */
const MORE = ['thread', 'barrier', 'atomic', 'random', 'functional', 'stdexcept', 'exception'].map(
  (part) => `libcxx/src/${part}.cpp`,
);

const sources = readdirSync(join(ROOT, 'test/native')).filter((file) => file.endsWith('.cc'));
const library = [
  '-std=c++23',
  '-O2',
  '-g0',
  '-fPIC',
  '-fno-exceptions',
  '-fno-rtti',
  '-w',
  `-I${join(ZIG_LIBRARIES, 'libcxx/src')}`,
];
const defines = [
  '-D_LIBCPP_BUILDING_LIBRARY',
  '-DLIBCXX_BUILDING_LIBCXXABI',
  ...(target.libc === 'musl' ? ['-D_LIBCPP_HAS_MUSL_LIBC'] : []),
];
const units = [
  ...sources.map((file) => ({ source: join('test/native', file), object: objectOf(file), flags: [...FLAGS, ...includes] })),
  ...MORE.map((path) => ({ source: join(ZIG_LIBRARIES, path), object: objectOf(path), flags: [...library, ...defines] })),
];
const queue = units[Symbol.iterator]();
const worker = async () => {
  for (const { source, object, flags } of queue)
    await zig(['c++', '-target', target.triple, '-c', '-o', object, ...flags, source]);
};
await Promise.all(Array.from({ length: availableParallelism() }, worker));

const ofAddon = [...writeUnits(addonTarget().sources, folder), ...libraryUnits(folder)].map(({ object }) => object);
const withoutNode = ofAddon.filter(
  (object) => ![`${folder}/native.o`, `${folder}/native/binding.o`, `${folder}/native/bench.o`].includes(object),
);
// Debian has no musl for arm64: its program has musl within it.
const linkage = name === 'linux-arm64-musl' ? '-static' : '-dynamic';
const switches = ['-target', target.triple, '-lc', '-fno-compiler-rt', '-OReleaseFast', linkage, '--gc-sections'];
await zig([
  'build-exe',
  `-femit-bin=${output}`,
  ...switches,
  ...units.map(({ object }) => object),
  ...withoutNode,
  ...runtimeOfCompiler(),
]);

function objectOf(file) {
  return `${tests}/${file.replaceAll('/', '-').replace(/\.\w+$/, '.o')}`;
}

/** Tests ask the compiler's runtime library what the processor has, which zig's has not. */
function runtimeOfCompiler() {
  if (target.arch !== 'x64') return [];
  return [execFileSync('gcc', ['-print-libgcc-file-name'], { encoding: 'utf8' }).trim()];
}

async function zig(args) {
  const env = { ...process.env, ...TOOLCHAIN_ENV, ...target.env };
  const { stderr } = await promisify(execFile)(ZIG, args, { cwd: ROOT, env, maxBuffer: 1 << 26 });
  if (stderr !== '') console.error(stderr);
}
