// Checks that the files and folders of the repository that comments and documents name are there, and that code has none of the words
// that the house style rules out (check-documents.mjs looks for them in documents).
// `node scripts/check-comments.mjs [directory]` prints `file:line: what is wrong`; status 1 if anything is.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { UNWANTED } from './unwanted-words.mjs';

/** Paths of other projects. */
const FOREIGN = ['test/syscalls/linux', 'docs/specs/edu.rst'];
// Native code and the mutants that quote it; tests that plant faults; the list of words.
const LEFT_OUT = /^test\/mutants\/|^test\/(check-documents|structure\/.*)\.test\.ts$|^scripts\/unwanted-words/;
const NAMED = /(?<![\w./-])(?:src|native|docs|test|scripts)\/[\w./*-]*\w/g;

const root = process.argv[2] ?? '.';
const list = ['ls-files', '--cached', '--others', '--exclude-standard', '-z'];
const files = execFileSync('git', list, { cwd: root, encoding: 'utf8' }).split('\0');
const places = new Set(files.flatMap((file) => [file, ...foldersOf(file)]));
const faults = files.filter((file) => isRead(file)).flatMap(faultsOf);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;

function foldersOf(file) {
  const parts = file.split('/').slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}

function isRead(file) {
  return /\.(md|[cm]?[jt]s|sh|c|cc|h)$/.test(file) && !LEFT_OUT.test(file) && existsSync(join(root, file));
}

function faultsOf(file) {
  const lines = readFileSync(join(root, file), 'utf8').split('\n');
  return lines.flatMap((line, index) =>
    [...missingIn(file, line), ...wordsIn(file, line)].map((fault) => `${file}:${index + 1}: ${fault}`),
  );
}

function missingIn(file, line) {
  const named = [...proseOf(file, line).matchAll(NAMED)].map(([path]) => path);
  return named.filter((path) => !isThere(path)).map((path) => `no file ${path}`);
}

function wordsIn(file, line) {
  const word = file.endsWith('.md') ? null : UNWANTED.exec(line);
  return word === null ? [] : [`"${word[0]}": name the actor`];
}

/** A document's line whole, and of code what is behind the mark of a comment. */
function proseOf(file, line) {
  if (file.endsWith('.md')) return line;
  return /(?:^|\s)(?:\/\/|\/?\*|#)\s(.*)/.exec(line)?.[1] ?? '';
}

function isThere(path) {
  if (path.includes('*') || FOREIGN.some((foreign) => path.startsWith(foreign))) return true;
  return places.has(path);
}
