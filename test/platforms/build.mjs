// Builds the native tests for one target, and links them with the objects that the package's binary was linked from.
//
//   node test/platforms/build.mjs <target> <output>
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../scripts/prebuilds/sources.mjs';
import { TARGETS } from '../../scripts/prebuilds/targets.mjs';
import { TOOLCHAIN_ENV, ZIG } from '../../scripts/prebuilds/toolchain.mjs';
import { nativeSources, writeUnits } from '../../scripts/units.mjs';

const [name, output] = process.argv.slice(2);
const target = TARGETS.find((one) => one.name === name);
const folder = `build/prebuilds/${name}`;
const tests = `build/platforms/${name}`;
mkdirSync(join(ROOT, tests), { recursive: true });

// The tests are in namespaces without names, so that each is a unit of its own.
const FLAGS = ['-std=c++20', '-g0', '-O1', '-fPIC', '-Wall', '-Wextra', '-fno-exceptions', '-fno-rtti', '-Wno-vla-cxx-extension'];
const includes = ['native', 'include', 'test/native'].map((path) => `-I${path}`);
const sources = readdirSync(join(ROOT, 'test/native')).filter((file) => file.endsWith('.cc'));
const units = sources.map((file) => ({ source: join('test/native', file), object: objectOf(file) }));
const queue = units[Symbol.iterator]();
const worker = async () => {
  for (const { source, object } of queue)
    await zig(['c++', '-target', target.triple, '-c', '-o', object, ...FLAGS, ...includes, source]);
};
await Promise.all(Array.from({ length: availableParallelism() }, worker));

const ofAddon = writeUnits(nativeSources(), folder).map(({ object }) => object);
const withoutNode = ofAddon.filter(
  (object) => !['native', 'native/binding', 'native/bench'].some((unit) => object === `${folder}/${unit}/all.o`),
);
// The tests need more of libc++ than the addon does: zig builds all of it, which takes minutes when it is the first time.
// Debian has no musl for arm64: its program has musl within it.
const linkage = name === 'linux-arm64-musl' ? '-static' : '-dynamic';
const switches = ['-target', target.triple, '-lc', '-lc++', '-fno-compiler-rt', '-OReleaseFast', linkage, '--gc-sections'];
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

/** Tests ask the compiler's runtime library what the processor has; on arm64 the C library computes with numbers of 128 bits by it. */
function runtimeOfCompiler() {
  if (target.arch === 'arm64') return ['build/platforms/usr/lib/gcc-cross/aarch64-linux-gnu/12/libgcc.a'];
  return [execFileSync('gcc', ['-print-libgcc-file-name'], { encoding: 'utf8' }).trim()];
}

async function zig(args) {
  const env = { ...process.env, ...TOOLCHAIN_ENV, ...target.env };
  const { stderr } = await promisify(execFile)(ZIG, args, { cwd: ROOT, env, maxBuffer: 1 << 26 });
  if (stderr !== '') console.error(stderr);
}
