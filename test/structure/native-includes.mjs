// Checks which folders of native/ include which: each knows those below it, none above.
//
//   node test/structure/native-includes.mjs [folder]    default: native/
//
// The last line is a count; the exit code is 1 when an include breaks the rule, or when an exception is no longer needed: the list of
// exceptions can only shrink.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** From the bottom to the top. Folders of one line do not include each other. */
const LAYERS = [['base'], ['instruction'], ['core'], ['fault'], ['device', 'bench', 'share'], ['binding'], ['addon']];

/** `including file -> included file`, and why it is still there. */
const EXCEPTIONS = {};

const root = process.argv[2] ?? fileURLToPath(new URL('../../native', import.meta.url));

function sourcesOf(folder) {
  return readdirSync(folder, { recursive: true })
    .filter((name) => /\.(cc|h|inc)$/.test(name))
    .sort();
}

/** Files of native/ that a file includes: those in quotes. */
function includesOf(file) {
  return [...readFileSync(join(root, file), 'utf8').matchAll(/^\s*#\s*include\s*"([^"]+)"/gm)].map(([, name]) => name);
}

/** The layer and folder of a file; undefined for one of another place, as include/. */
function placeOf(file) {
  const folder = file.includes('/') ? file.slice(0, file.indexOf('/')) : file.replace(/\.\w+$/, '');
  const layer = LAYERS.findIndex((folders) => folders.includes(folder));
  return layer < 0 ? undefined : { folder, layer };
}

function isAllowed(from, to) {
  return to === undefined || from.folder === to.folder || to.layer < from.layer;
}

const unused = new Set(root === process.argv[2] ? [] : Object.keys(EXCEPTIONS));
const errors = [];
let includes = 0;
for (const file of sourcesOf(root)) {
  const from = placeOf(file);
  if (from === undefined) {
    errors.push(`${relative('.', join(root, file))}: its folder has no place in LAYERS`);
    continue;
  }
  for (const included of includesOf(file)) {
    includes += 1;
    const exception = `${file} -> ${included}`;
    if (isAllowed(from, placeOf(included))) continue;
    if (exception in EXCEPTIONS) unused.delete(exception);
    else errors.push(`${relative('.', join(root, file))} includes ${included}, which is above it`);
  }
}
for (const exception of unused) errors.push(`the exception ${exception} is not needed any more: remove it`);

for (const error of errors) console.error(error);
console.log(`${includes} includes, ${Object.keys(EXCEPTIONS).length} exceptions, ${errors.length} errors`);
if (errors.length > 0 || includes === 0) process.exitCode = 1;
