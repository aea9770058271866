// Builds the native tests for one target, and links them with the objects that the package's binary was linked from.
//
//   node test/platforms/build.mjs <target> <output>
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
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
const objects = sources.map((file) => compile(join('test/native', file), file, [...FLAGS, ...includes]));
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
const more = MORE.map((path) => compile(join(ZIG_LIBRARIES, path), path.replaceAll('/', '-'), [...library, ...defines]));

const ofAddon = [...writeUnits(addonTarget().sources, folder), ...libraryUnits(folder)].map(({ object }) => object);
const withoutNode = ofAddon.filter((object) => !/native\/(binding|bench)\.o$|\/\.\.o$|native\.o$/.test(object));
const switches = ['-target', target.triple, '-lc', '-fno-compiler-rt', '-OReleaseFast', '-dynamic', '--gc-sections'];
zig(['build-exe', `-femit-bin=${output}`, ...switches, ...objects, ...more, ...withoutNode]);

function compile(source, file, flags) {
  const object = `${tests}/${file.replace(/\.\w+$/, '.o')}`;
  zig(['c++', '-target', target.triple, '-c', '-o', object, ...flags, source]);
  return object;
}

function zig(args) {
  const env = { ...process.env, ...TOOLCHAIN_ENV, ...target.env };
  execFileSync(ZIG, args, { cwd: ROOT, env, stdio: 'inherit' });
}
