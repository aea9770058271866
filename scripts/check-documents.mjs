// Checks the markdown files of a repository: every relative link and anchor leads somewhere, no line
// of prose is over 100 columns, and the words that the house style rules out do not occur.
// `node scripts/check-documents.mjs [directory]` prints `file:line: what is wrong`; status 1 if
// anything is.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { UNWANTED } from './unwanted-words.mjs';

const COLUMNS = 100;

const anchors = new Map();
const root = process.argv[2] ?? '.';
const list = ['ls-files', '--cached', '--others', '--exclude-standard', '-z', '*.md'];
const files = execFileSync('git', list, { cwd: root, encoding: 'utf8' }).split('\0');
const faults = files.filter((file) => file !== '' && existsSync(join(root, file))).flatMap(faultsOf);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;

function faultsOf(file) {
  const faults = [];
  for (const { text, number, code } of linesOf(join(root, file))) {
    const report = (message) => faults.push(`${file}:${number}: ${message}`);
    if (code) continue;
    if (isTooLong(text)) report(`${[...text].length} columns, of at most ${COLUMNS}`);
    const word = UNWANTED.exec(text.replace(/`[^`]*`/g, ''));
    if (word !== null) report(`"${word[0]}": name the actor`);
    for (const target of targetsIn(text)) if (!leadsSomewhere(file, target)) report(`${target} leads nowhere`);
  }
  return faults;
}

/** The lines of a document, and which of them are within a block of code. */
function linesOf(path) {
  let fence;
  return readFileSync(path, 'utf8')
    .split('\n')
    .map((text, index) => {
      const mark = /^\s*(`{3,}|~{3,})/.exec(text)?.[1];
      const code = fence !== undefined || mark !== undefined;
      if (fence === undefined) fence = mark;
      else if (text.trim() === fence) fence = undefined;
      return { text, number: index + 1, code };
    });
}

/** Tables and what cannot be broken, such as one long link, may be longer. */
function isTooLong(text) {
  if ([...text].length <= COLUMNS || text.startsWith('|')) return false;
  return text.replace(/^[-*\d.> ]+/, '').includes(' ');
}

function targetsIn(text) {
  const prose = text.replace(/`[^`]*`(?!\])/g, '');
  return [...prose.matchAll(/\]\(([^()\s]+)\)/g), ...prose.matchAll(/^\[[^\]]+\]:\s*(\S+)/g)].map(([, target]) => target);
}

function leadsSomewhere(file, target) {
  if (/^[a-z]+:/.test(target)) return true;
  const [path, anchor] = target.split('#');
  const to = path === '' ? file : join(dirname(file), decodeURIComponent(path));
  if (relative('.', to).startsWith('..') || !existsSync(join(root, to))) return false;
  return anchor === undefined || !to.endsWith('.md') || anchorsOf(join(root, to)).has(anchor);
}

/** The names under which a code host reaches the headings of a document. */
function anchorsOf(path) {
  if (!anchors.has(path)) anchors.set(path, new Set(headingsOf(path)));
  return anchors.get(path);
}

function headingsOf(path) {
  const seen = new Map();
  const headings = linesOf(path).flatMap(({ text, code }) => (code ? [] : (/^#{1,6} +(.*?) *$/.exec(text)?.[1] ?? [])));
  return headings.map((heading) => {
    const name = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
      .replaceAll(' ', '-');
    const before = seen.get(name) ?? 0;
    seen.set(name, before + 1);
    return before === 0 ? name : `${name}-${before}`;
  });
}
