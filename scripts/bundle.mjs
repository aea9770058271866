// Writes the JavaScript of `dist/`: the whole library as one file, and the entry points, which are parts of it. The types beside them
// are tsc's (docs/decisions/010-one-file.md).
//
//   node scripts/bundle.mjs
import { build } from 'esbuild';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DIST = join(ROOT, 'dist');

/** Entry points by their part of `src/library.ts`. */
const ENTRIES = { index: 'index', device: 'device/index', bench: 'bench/index' };
/** Modules that tests look at, by the same. */
const INTERNALS = { load: 'native/load', wakeups: 'thread/wakeups', emitLater: 'thread/emit-later' };

const OPTIONS = {
  absWorkingDir: ROOT,
  bundle: true,
  platform: 'node',
  target: 'es2022',
  external: ['*.node'],
  logLevel: 'warning',
};

rmSync(DIST, { recursive: true, force: true });
await build({
  ...OPTIONS,
  entryPoints: ['src/library.ts'],
  outfile: 'dist/library/library.js',
  format: 'cjs',
  minifyWhitespace: true,
  minifySyntax: true,
  sourcemap: true,
  sourcesContent: false,
});
// By itself, since it must not load the addon.
await build({
  ...OPTIONS,
  entryPoints: ['src/addon/index.ts'],
  outfile: 'dist/addon/index.js',
  format: 'cjs',
  minifySyntax: true,
});
write('addon/index.mjs', withoutComments(readFileSync(join(ROOT, 'src/addon/index.mts'), 'utf8')));
write('library/device-worker.js', "'use strict';\nrequire('./library.js').runDeviceWorker();\n");
for (const [part, path] of Object.entries(ENTRIES)) {
  write(`${path}.js`, partOf(part, path, await exportsOf(`src/${path}.ts`)));
  // A window on the CommonJS module, so that a process that uses both has one library, not two.
  write(`${path}.mjs`, withoutComments(readFileSync(join(ROOT, `src/${path}.mts`), 'utf8')));
}
for (const [part, path] of Object.entries(INTERNALS)) write(`${path}.js`, partOf(part, path, []));

/** CommonJS whose names are found without running it: Node looks for the last line when an ES module imports it. */
function partOf(part, path, names) {
  const library = `${'../'.repeat(path.split('/').length - 1) || './'}library/library.js`;
  return [
    "'use strict';",
    `module.exports = Object.defineProperty(require('${library}').${part}, '__esModule', { value: true });`,
    `0 && (module.exports = { ${names.join(', ')} });`,
    '',
  ].join('\n');
}

async function exportsOf(entry) {
  const options = { ...OPTIONS, entryPoints: [entry], format: 'esm', write: false, metafile: true, outdir: 'dist' };
  const { metafile } = await build(options);
  return Object.values(metafile.outputs)[0].exports.sort();
}

function withoutComments(text) {
  return text.replace(/^\/\/.*\n/gm, '');
}

function write(path, text) {
  mkdirSync(dirname(join(DIST, path)), { recursive: true });
  writeFileSync(join(DIST, path), text);
}
