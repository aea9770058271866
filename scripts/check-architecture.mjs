// Checks that what ARCHITECTURE.md names is there: each file in code type exists, and in the tables
// of calls each name behind a file (`file` `name`) occurs in it. `node scripts/check-architecture.mjs
// [directory]` prints what is missing; status 1 if anything is.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = process.argv[2] ?? '.';
const list = ['ls-files', '--cached', '--others', '--exclude-standard', '-z'];
const files = execFileSync('git', list, { cwd: root, encoding: 'utf8' }).split('\0');
const IS_FILE = /^[\w./-]+\.(cc|h|ts|mjs)$/;
/** `X.h` stands for any file. */
const isOne = (span) => IS_FILE.test(span) && !span.startsWith('X');
const spansOf = (text) => [...text.matchAll(/`([^`]+)`/g)].map(([, span]) => span);
const faults = [];
/** The files that the last row named. */
let place = [];

readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8')
  .split('\n')
  .forEach((line, index) => {
    const report = (message) => faults.push(`ARCHITECTURE.md:${index + 1}: ${message}`);
    for (const span of spansOf(line)) if (isOne(span) && found(span).length === 0) report(`no file ${span}`);
    checkPlace(line, report);
  });
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;

/** Files whose path ends so; those of a folder. */
function found(name) {
  return files.filter((file) => file === name || file.endsWith(`/${name}`) || (name.endsWith('/') && file.startsWith(name)));
}

/** The second column of `| 1 | where | what |`. "the same file" is that of the row before. */
function checkPlace(line, report) {
  const where = /^\| \d+[ab]? \| ([^|]*) \|/.exec(line)?.[1];
  for (const span of where === undefined ? [] : spansOf(where)) {
    if (isOne(span) || span.endsWith('/')) place = found(span);
    else if (!place.some((file) => readFileSync(join(root, file), 'utf8').includes(span))) report(`no ${span} in ${place}`);
  }
}
