// Writes the JavaScript of `dist/`: the library in two files, with and without devices, and the entry points, which are parts of them.
// The types beside them are tsc's (docs/decisions/010-one-file.md).
//
//   node scripts/bundle.mjs
import { build } from 'esbuild';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SRC = join(ROOT, 'src');
const DIST = join(ROOT, 'dist');

/** Modules that tests look at; no entry point has them, and they are not packed. */
const INTERNALS = ['native/load', 'thread/wakeups', 'thread/emit-later'];

const OPTIONS = {
  absWorkingDir: ROOT,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'es2022',
  external: ['*.node'],
  minifyWhitespace: true,
  minifySyntax: true,
  minifyIdentifiers: true,
  sourcemap: true,
  sourcesContent: false,
  keepNames: true,
  logLevel: 'warning',
};

rmSync(DIST, { recursive: true, force: true });
const namesOfDevices = await exportsOf('device/index');
await bundle('library.ts', 'library/library.js', [withoutDevices(), leftOut('./device.js')]);
await bundle('device-library.ts', 'library/device.js', [fromLibrary('./library.js')]);
await bundle('bench/index.ts', 'bench/index.js', [fromLibrary('../library/library.js')]);
// By itself, since it must not load the addon.
await bundle('addon/index.ts', 'addon/index.js', []);
write('library/device-worker.js', ["require('./device.js').runDeviceWorker();"]);
write('index.js', await mainEntry());
write('device/index.js', [`module.exports = ${marked("require('../library/device.js').index")};`, annotation(namesOfDevices)]);
write('share/index.js', [
  `module.exports = ${marked("require('../library/device.js').share")};`,
  annotation(await exportsOf('share/index')),
]);
for (const path of INTERNALS)
  write(`${path}.js`, [`module.exports = ${marked(`require('../library/library.js').modules['${path}']`)};`]);
// Windows on the CommonJS modules, so that a process that uses both has one library, not two.
for (const path of ['index', 'device/index', 'share/index', 'bench/index', 'addon/index'])
  writeFileSync(join(DIST, `${path}.mjs`), readFileSync(join(SRC, `${path}.mts`), 'utf8').replace(/^\/\/.*\n/gm, ''));

function bundle(entry, output, plugins) {
  return build({ ...OPTIONS, entryPoints: [`src/${entry}`], outfile: `dist/${output}`, plugins });
}

/** `src/index.ts` names devices, too: its entry point gets them from the other file. */
function withoutDevices() {
  return {
    name: 'without devices',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^\.\/device\/index\.js$/ }, () => ({ path: 'devices', namespace: 'nothing' }));
      onLoad({ filter: /.*/, namespace: 'nothing' }, () => ({ contents: 'export {};' }));
    },
  };
}

function leftOut(path) {
  return {
    name: 'left out',
    setup: ({ onResolve }) =>
      onResolve({ filter: new RegExp(`^${path.replaceAll('.', '[.]')}$`) }, () => ({ path, external: true })),
  };
}

/** What is in the library's own file is taken from there, so that each class exists once. */
function fromLibrary(library) {
  return {
    name: 'from the library',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^\.\.\//, namespace: 'file' }, ({ path, resolveDir }) => {
        const name = relative(SRC, join(resolveDir, path)).replace(/\.js$/, '');
        return /^(\.\.|device\/|share\/)/.test(name) ? undefined : { path: name, namespace: 'library' };
      });
      onResolve({ filter: /.*/, namespace: 'library' }, ({ path }) => ({ path, external: true }));
      onLoad({ filter: /.*/, namespace: 'library' }, async ({ path }) => {
        const names = (await exportsOf(path)).join(', ');
        return {
          contents: `import { modules } from '${library}';\nexport const { ${names} } = modules['${path}'];`,
          loader: 'js',
        };
      });
    },
  };
}

/** All names are there from the beginning; the first one of devices loads their file. */
async function mainEntry() {
  const names = (await exportsOf('index')).filter((name) => !namesOfDevices.includes(name));
  return [
    "const { index } = require('./library/library.js');",
    'module.exports = Object.defineProperties({}, {',
    '  __esModule: { value: true },',
    '  ...Object.getOwnPropertyDescriptors(index),',
    '});',
    `for (const name of [${namesOfDevices.map((name) => `'${name}'`).join(', ')}])`,
    "  Object.defineProperty(module.exports, name, { enumerable: true, get: () => require('./library/device.js').index[name] });",
    annotation([...names, ...namesOfDevices]),
  ];
}

function marked(module) {
  return `Object.defineProperty(${module}, '__esModule', { value: true })`;
}

/** Never runs: Node takes the names from it when an ES module imports this one. */
function annotation(names) {
  return `0 && (module.exports = { ${names.join(', ')} });`;
}

async function exportsOf(module) {
  const options = {
    ...OPTIONS,
    entryPoints: [`src/${module}.ts`],
    format: 'esm',
    sourcemap: false,
    write: false,
    metafile: true,
  };
  const { metafile } = await build({ ...options, outdir: 'dist', plugins: [leftOut('./device.js')] });
  return Object.values(metafile.outputs)[0].exports.sort();
}

function write(path, lines) {
  mkdirSync(dirname(join(DIST, path)), { recursive: true });
  writeFileSync(join(DIST, path), ["'use strict';", ...lines, ''].join('\n'));
}
