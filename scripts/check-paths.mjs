// Checks that the files and folders of the repository that comments and documents name are there.
// `node scripts/check-paths.mjs [directory]` prints `file:line: what is missing`; status 1 if anything is.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Paths of other projects. */
const FOREIGN = ['test/syscalls/linux', 'docs/specs/edu.rst'];
// Tests plant faults in text.
const LEFT_OUT = /^(package-lock\.json|native\/|include\/|test\/native\/|test\/(check-documents|structure\/.*)\.test\.ts$)/;
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
  return lines.flatMap((line, index) => {
    const named = [...proseOf(file, line).matchAll(NAMED)].map(([path]) => path);
    return named.filter((path) => !isThere(path)).map((path) => `${file}:${index + 1}: no file ${path}`);
  });
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
