// A program with a worker, bundled by each tool as docs/how-to/bundle.md says, and run without the package's own folder where the
// bundle is to contain it. The last line is `N passed, N failed`.
//
//   node test/bundlers/run.mjs [part of a case's name]
import assert from 'node:assert';
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import esbuild from 'esbuild';
import { runCases } from '../package/cases.mjs';
import { NODES, pack, run } from '../package/pack.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
if (!existsSync(join(HERE, 'node_modules'))) run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: HERE });
const tools = createRequire(import.meta.url);
const { rollup } = tools('rollup');
const { nodeResolve } = tools('@rollup/plugin-node-resolve');
const commonjs = tools('@rollup/plugin-commonjs');
const webpack = tools('webpack');
const { nodeFileTrace } = tools('@vercel/nft');
const { inject } = tools('postject');
const vite = await import('vite');

const PRINTS = 'revoked ERR_MAPPING_REVOKED';
const isBinary = (id) => id.endsWith('.node');

const packed = pack();
const CASES = [
  ['esbuild, with its copies of the binaries', bundleByEsbuild],
  ['esbuild, the package left out', (cwd) => leftOut(cwd, esbuildTo(cwd, { external: ['revocable-mmap'] }))],
  ['rollup, with a copy of the binary', bundleByRollup],
  ['rollup, the package left out', (cwd) => leftOut(cwd, rollupTo(cwd, { external: ['revocable-mmap'], plugins: [] }))],
  ['webpack, with a copy of the binary', bundleByWebpack],
  ['webpack, the package left out', (cwd) => leftOut(cwd, webpackTo(cwd, { 'revocable-mmap': 'commonjs revocable-mmap' }))],
  ['vite, server-side', (cwd) => leftOut(cwd, viteTo(cwd))],
  ['@vercel/nft', traceByNft],
  ['a single executable application', executable],
  ['a bundle without its binary says what to do', withoutBinary],
  ['Device.spawn in a bundle says what to do', spawnInBundle],
];
try {
  await runCases(
    CASES.map(([name, run]) => ({ name, run: () => run(project()) })),
    process.argv[2],
  );
} finally {
  packed.remove();
}

/** A project with both programs, in which the package is installed. */
function project() {
  const cwd = packed.installed();
  for (const name of ['program.cjs', 'program.mjs']) copyFileSync(join(HERE, name), join(cwd, name));
  return cwd;
}

function esbuildTo(cwd, options) {
  const entry = { entryPoints: [join(cwd, 'program.cjs')], absWorkingDir: cwd, outdir: join(cwd, 'out'), logLevel: 'error' };
  return esbuild.build({ ...entry, bundle: true, platform: 'node', outExtension: { '.js': '.cjs' }, ...options });
}

async function bundleByEsbuild(cwd) {
  await esbuildTo(cwd, { loader: { '.node': 'copy' } });
  return runBundle(cwd, 'out/program.cjs');
}

async function rollupTo(cwd, options) {
  const bundle = await rollup({ input: join(cwd, 'program.mjs'), onwarn: () => undefined, ...options });
  await bundle.write({ file: join(cwd, 'out/program.cjs'), format: 'cjs' });
}

async function bundleByRollup(cwd) {
  const external = (id) => id.startsWith('node:');
  await rollupTo(cwd, { external, plugins: [nodeResolve({ preferBuiltins: true }), commonjs({ ignore: isBinary })] });
  return runBundle(cwd, 'out/program.cjs', copyAddon(cwd));
}

async function webpackTo(cwd, externals) {
  const node = { __dirname: false, __filename: false };
  const output = { path: join(cwd, 'out'), filename: 'program.cjs' };
  const options = { mode: 'production', target: 'node', context: cwd, entry: './program.cjs', externals, node, output };
  const stats = await new Promise((resolve, reject) =>
    webpack(options, (error, result) => (error ? reject(error) : resolve(result))),
  );
  assert.ok(!stats.hasErrors(), stats.toString());
}

async function bundleByWebpack(cwd) {
  await webpackTo(cwd, ({ request }, done) => (isBinary(request) ? done(null, `commonjs ${request}`) : done()));
  return runBundle(cwd, 'out/program.cjs', copyAddon(cwd));
}

function viteTo(cwd) {
  const build = { ssr: 'program.mjs', outDir: 'out', rollupOptions: { output: { entryFileNames: 'program.mjs' } } };
  return vite.build({ root: cwd, configFile: false, logLevel: 'error', build });
}

async function traceByNft(cwd) {
  const { fileList } = await nodeFileTrace([join(cwd, 'program.cjs')], { base: cwd });
  for (const file of fileList) cpSync(join(cwd, file), join(cwd, 'out', file), { recursive: true });
  assert.ok(
    [...fileList].some((file) => file.endsWith('library/device-worker.js')),
    [...fileList].join('\n'),
  );
  return runBundle(cwd, 'out/program.cjs');
}

async function executable(cwd) {
  await esbuildTo(cwd, { external: ['*.node'] });
  copyAddon(cwd);
  hidePackage(cwd);
  for (const { path, version } of NODES) {
    const config = {
      main: 'out/program.cjs',
      output: 'out/blob',
      disableExperimentalSEAWarning: true,
      assets: { program: 'out/program.cjs' },
    };
    writeFileSync(join(cwd, 'sea.json'), JSON.stringify(config));
    run(path, ['--experimental-sea-config', 'sea.json'], { cwd });
    const program = join(cwd, `out/program-${version}`);
    copyFileSync(path, program);
    chmodSync(program, 0o755);
    const options = { sentinelFuse: 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2' };
    await inject(program, 'NODE_SEA_BLOB', readFileSync(join(cwd, 'out/blob')), options);
    assert.strictEqual(run(program, [], { cwd }).stdout.trimEnd(), PRINTS);
  }
  return `Node ${NODES.map(({ version }) => version).join(', ')}`;
}

async function withoutBinary(cwd) {
  await esbuildTo(cwd, { external: ['*.node'] });
  hidePackage(cwd);
  const error = errorOf(cwd, "require('./out/program.cjs')");
  assert.strictEqual(error.code, 'ERR_ADDON_MISSING');
  assert.match(
    error.message,
    /let the bundler leave the package out or copy \.node files, or name the file in REVOCABLE_MMAP_ADDON/,
  );
}

async function spawnInBundle(cwd) {
  writeFileSync(join(cwd, 'program.cjs'), "exports.spawned = require('revocable-mmap').Device.spawn('./model.mjs');");
  await esbuildTo(cwd, { loader: { '.node': 'copy' } });
  hidePackage(cwd);
  const error = errorOf(cwd, "await require('./out/program.cjs').spawned");
  assert.strictEqual(error.code, 'ERR_ADDON_MISSING');
  assert.match(error.message, /Device\.spawn\(\) needs a file of the package, so leave revocable-mmap out of the bundle/);
}

function errorOf(cwd, code) {
  const program = `(async () => { try { ${code}; } catch ({ code, message }) { console.log(JSON.stringify({ code, message })); } })()`;
  return JSON.parse(run(NODES[0].path, ['-e', program], { cwd }).stdout);
}

/** The package stays where it is: the bundle requires it. */
async function leftOut(cwd, building) {
  await building;
  const name = ['program.cjs', 'program.mjs'].find((file) => existsSync(join(cwd, 'out', file)));
  return runOnAll(cwd, join('out', name), {});
}

function runBundle(cwd, program, env = {}) {
  hidePackage(cwd);
  return runOnAll(cwd, program, env);
}

function runOnAll(cwd, program, env) {
  for (const { path, version } of NODES) {
    const printed = run(path, [program], { cwd, env: { ...process.env, ...env } }).stdout.trimEnd();
    assert.strictEqual(printed, PRINTS, `Node ${version}`);
  }
  return `Node ${NODES.map(({ version }) => version).join(', ')}`;
}

function hidePackage(cwd) {
  renameSync(join(cwd, 'node_modules'), join(cwd, 'elsewhere'));
}

/** As a build script does it. */
function copyAddon(cwd) {
  const file = join(cwd, 'out/revocable-mmap.node');
  mkdirSync(join(cwd, 'out'), { recursive: true });
  run(process.execPath, ['-e', `fs.copyFileSync(require('revocable-mmap/addon').addonPath(), ${JSON.stringify(file)})`], { cwd });
  return { REVOCABLE_MMAP_ADDON: file };
}
