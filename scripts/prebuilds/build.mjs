// Builds the binaries that the package carries, for every target, on one x64 machine (docs/decisions/009-prebuilt-binaries.md). A
// warning of the compiler is an error: for arm64 no other lane compiles.
//
//   node scripts/prebuilds/build.mjs [target…]     default: all of `targets.mjs`
//
// The compiler and Node's headers are npm packages, pinned by lockfiles and installed on first use. `units.mjs` says what is
// compiled together. The manifest that `check.mjs` compares says of each binary what it was built from.
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { addonTarget, MANIFEST, PREBUILDS, readManifest, ROOT, sourcesDigest } from './sources.mjs';
import { problemsOf, TARGETS } from './targets.mjs';
import { installToolchain, TOOLCHAIN_ENV, ZIG, ZIG_LIBRARIES } from './toolchain.mjs';
import { nativeSources, writeUnits } from '../units.mjs';
import { libraryUnits } from './units.mjs';

const run = promisify(execFile);
// Those of the oldest Node that is supported: what they declare is in every newer one.
const HEADERS = 'test/matrix/node_modules/node20/include/node';
const SECTIONS = ['-ffunction-sections', '-fdata-sections'];
// The addon's own are those of binding.gyp. zig's runtime library for compilers takes a minute to build, and nothing needs it.
const LINK_FLAGS = [
  ...['-lc', '-fno-compiler-rt', '-fstrip', '-OReleaseFast', '--gc-sections', '-z', 'now', '-z', 'relro', '-z', 'nodelete'],
  ...['--version-script', 'scripts/prebuilds/exports.map', '-fsoname=revocable-mmap.node'],
];

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !TARGETS.some((target) => target.name === name));
if (unknown.length > 0) throw new Error(`no such target: ${unknown}; there are ${TARGETS.map(({ name }) => name)}`);

installToolchain();
const sources = sourcesDigest();
const addon = addonTarget();
const targets = TARGETS.filter(({ name }) => chosen.length === 0 || chosen.includes(name));
const started = performance.now();
// Of all targets at once: no core waits for another target's last file.
await inParallel(targets.flatMap((target) => compilations(target)));
for (const target of targets) await link(target);
console.log(`${targets.length} of ${TARGETS.length} binaries in ${((performance.now() - started) / 1000).toFixed(0)} s`);

function folderOf(target) {
  return `build/prebuilds/${target.name}`;
}

/** Tasks, each of which writes one object file. */
function compilations(target) {
  const ours = writeUnits(nativeSources(), folderOf(target)).map((unit) => ({ ...unit, flags: ourFlags() }));
  const units = [...ours, ...libraryUnits(folderOf(target)).map((unit) => ({ ...unit, flags: libraryFlags(target) }))];
  return units.map(({ source, object, flags }) => async () => {
    mkdirSync(dirname(join(ROOT, object)), { recursive: true });
    await zig(target, ['c++', '-target', target.triple, '-c', '-o', object, '-g0', '-O2', '-fPIC', ...SECTIONS, ...flags, source]);
  });
}

function ourFlags() {
  const addonApi = createRequire(import.meta.url)('node-addon-api').include_dir;
  const includes = ['.', 'native', 'include', addonApi, HEADERS].map((folder) => `-I${folder}`);
  const defines = [...addon.defines, 'NODE_GYP_MODULE_NAME=revocable_mmap', 'BUILDING_NODE_EXTENSION'];
  const flags = [...addon.cflags, ...addon.cflags_cc].filter((flag) => flag !== '-g');
  return [...flags, '-Werror', ...defines.map((name) => `-D${name}`), ...includes];
}

/** As zig itself builds its libc++, but without exceptions, which the addon does not have either. */
function libraryFlags(target) {
  const defines = ['_LIBCPP_BUILDING_LIBRARY', 'LIBCXX_BUILDING_LIBCXXABI', ...(target.libc === 'musl' ? ['_LIBCPP_HAS_MUSL_LIBC'] : [])];
  const hidden = ['-fvisibility=hidden', '-fvisibility-inlines-hidden'];
  const flags = ['-std=c++23', '-fno-exceptions', '-fno-rtti', '-w', ...hidden, `-I${join(ZIG_LIBRARIES, 'libcxx/src')}`];
  return [...flags, ...defines.map((name) => `-D${name}`)];
}

async function link(target) {
  const folder = folderOf(target);
  const objects = [...writeUnits(nativeSources(), folder), ...libraryUnits(folder)].map(({ object }) => object);
  // What handler code needs differs by compiler and C library: each has to keep the rules.
  execFileSync(process.execPath, ['test/structure/inside-symbols.mjs', `${folder}/native`], { cwd: ROOT, stdio: 'inherit' });
  const output = join(PREBUILDS, target.file);
  mkdirSync(dirname(output), { recursive: true });
  await zig(target, ['build-lib', '-dynamic', '-target', target.triple, `-femit-bin=${output}`, ...LINK_FLAGS, ...objects]);
  const bytes = readFileSync(output);
  const problems = problemsOf(bytes, target);
  if (problems.length > 0) throw new Error(`${output}: ${problems.join('; ')}`);
  writeManifest(target, bytes);
  console.log(`${target.name}: ${Math.ceil(bytes.length / 1024)} KiB`);
}

async function zig(target, args) {
  const env = { ...process.env, ...TOOLCHAIN_ENV, ...target.env };
  const { stderr } = await run(ZIG, args, { cwd: ROOT, env, maxBuffer: 1 << 26 });
  if (stderr !== '') console.error(stderr);
}

async function inParallel(tasks) {
  const queue = tasks[Symbol.iterator]();
  const worker = async () => {
    for (const task of queue) await task();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

function writeManifest({ file }, bytes) {
  const digest = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(MANIFEST, `${JSON.stringify({ ...readManifest(), [file]: { sources, digest } }, undefined, 2)}\n`);
}
