// Deliberate defects: each is put into a copy of the tree, built, and must be found by a test that is named with it.
//
//   npm run test:mutants                       all of them, which takes more than an hour on two processors
//   npm run test:mutants -- 'R8 revoke'        those with this text in their title or in the name of a changed file
//   npm run test:mutants -- --repeat 10 R6     each test ten times: how often does it find the defect?
//   npm run test:mutants -- --list             their titles and what each would do to a user; nothing is built
//
// The tree itself stays as it is: the copy is build/mutants, with incremental builds of its own, and is made equal to the tree at each
// start. Every run, also --list, first checks the defects: the text that each replaces must be in its file exactly once, and the
// tests that it names must exist. The tests must then pass in the copy without any defect. A test that is not over after five minutes
// hangs, and has found the defect: take that for what it is on a busy machine. Run by hand, not by CI.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { REVOCATION } from './revocation.mjs';
import { ACCESS } from './access.mjs';
import { LIFE } from './life.mjs';
import { DEVICES } from './devices.mjs';
import { SHARE } from './share.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const COPY = join(ROOT, 'build', 'mutants');
const RESULTS = join(COPY, 'results.json');
const TEST_LIMIT_MS = 300_000;

/** Files of the copy that have a defect, as they were. */
const unchanged = new Map();

/** Folders of the copy in which something has changed since they were built: a defect that came, or one that went. */
const unbuilt = new Set(['native', 'src']);

const { values: flags, positionals: words } = parseArgs({
  allowPositionals: true,
  options: { list: { type: 'boolean' }, repeat: { type: 'string', default: '1' }, 'skip-clean': { type: 'boolean' } },
});
const REPEAT = Number(flags.repeat);
if (!Number.isInteger(REPEAT) || REPEAT < 1) refuse(`--repeat ${flags.repeat}: not a count`);
const ALL = [...REVOCATION, ...ACCESS, ...LIFE, ...DEVICES, ...SHARE];
const chosen = chosenOf(words);
const stale = chosen.flatMap(faultsOf);

if (flags.list) for (const { title, harm } of chosen) console.log(`${title}\n    ${harm}`);
for (const fault of stale) console.error(fault);
console.log(`${chosen.length} of ${ALL.length} defects, ${stale.length} stale`);
if (stale.length > 0) process.exitCode = 1;
else if (!flags.list) process.exitCode = await measure(chosen, REPEAT);

function refuse(why) {
  console.error(why);
  process.exit(2);
}

/** A word that is a whole title means that defect alone. */
function chosenOf(words) {
  if (words.length === 0) return ALL;
  const found = words.map((word) => {
    const exact = ALL.filter(({ title }) => title === word);
    return exact.length > 0 ? exact : ALL.filter((defect) => textOf(defect).includes(word));
  });
  const missing = words.filter((_, i) => found[i].length === 0);
  if (missing.length > 0) refuse(`no defect has this in its title or files: ${missing.join(', ')}`);
  return ALL.filter((defect) => found.some((some) => some.includes(defect)));
}

function textOf({ title, changes }) {
  return [title, ...changes.map(([file]) => file)].join('\n');
}

// --- do they fit the tree? ------------------------------------------------------------------------------------------------------------

function faultsOf({ title, changes, tests }) {
  const texts = new Map();
  const misplaced = changes.flatMap(([file, from, to]) => {
    const text = texts.get(file) ?? inTree(file);
    const { places, changed } = replaced(text, from, to);
    texts.set(file, changed);
    return places === 1 ? [] : [`${title}\n    its text is ${places} times in ${file}:\n${from}`];
  });
  const unknown = tests.filter((test) => !exists(test)).map((test) => `${title}\n    no such test: ${nameOf(test)}`);
  return [...misplaced, ...unknown];
}

function inTree(file) {
  const path = join(ROOT, file);
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function replaced(text, from, to) {
  return { places: text.split(from).length - 1, changed: text.replace(from, () => to) };
}

/** jest's titles are partly computed: that one has `named` in it is known when it has run. */
function exists({ jest, native }) {
  if (native === undefined) return inTree(jest) !== '';
  return nativeTests().some((name) => name.includes(native));
}

/** What the runner's filter looks at: files, and sentences. */
function nativeTests() {
  const files = readdirSync(join(ROOT, 'test', 'native')).filter((file) => file.endsWith('_test.cc'));
  return files.flatMap((file) => {
    const sentences = [...inTree(`test/native/${file}`).matchAll(/^TEST\("(.*)"\)/gm)].map(([, sentence]) => sentence);
    return [file, ...sentences];
  });
}

// --- are they found? ------------------------------------------------------------------------------------------------------------------

async function measure(defects, repeat) {
  copyTree();
  const tests = new Map(defects.flatMap((defect) => defect.tests.map((test) => [JSON.stringify(test), test])));
  if (!flags['skip-clean']) await expectToPass([...tests.values()]);
  let [killed, survived, errors] = [0, 0, 0];
  for (const defect of defects) {
    const begin = Date.now();
    let line;
    try {
      const { found, runs, by } = await tryDefect(defect, repeat);
      if (found > 0) killed++;
      else survived++;
      line = found === 0 ? 'SURVIVED' : repeat === 1 ? 'killed' : `${found} of ${runs}`;
      if (by !== undefined) line += `  by ${by}`;
    } catch (error) {
      errors++;
      line = `ERROR     ${error.message}`;
    } finally {
      for (const [file, text] of unchanged) writeToCopy(file, text);
      unchanged.clear();
    }
    console.log(`${line.padEnd(10)}\n  ${defect.title} (${Math.round((Date.now() - begin) / 1000)} s)`);
  }
  if (errors > 0) console.log(`${errors} could not be tried`);
  console.log(`${killed} killed, ${survived} survived`);
  return survived + errors === 0 ? 0 : 1;
}

async function expectToPass(tests) {
  buildFor(tests);
  for (const test of tests) {
    const outcome = await run(test);
    if (outcome.bad) throw new Error(`without a defect this fails: ${nameOf(test)}\n${outcome.output}`);
  }
  console.log('all of these pass without a defect');
}

/** How many of how many runs failed. Where one is enough, the first test that fails is the last one run. */
async function tryDefect({ changes, tests }, repeat) {
  for (const change of changes) applyChange(change);
  buildFor(tests);
  let [found, runs, by] = [0, 0, undefined];
  for (const test of tests) {
    for (let i = 0; i < repeat; i++) {
      runs++;
      const { bad, hung } = await run(test);
      if (!bad) continue;
      found++;
      by ??= nameOf(test) + (hung ? ', which hung' : '');
      if (repeat === 1) return { found, runs, by };
    }
  }
  return { found, runs, by };
}

function applyChange([file, from, to]) {
  const text = readFileSync(join(COPY, file), 'utf8');
  if (!unchanged.has(file)) unchanged.set(file, text);
  writeToCopy(file, replaced(text, from, to).changed);
}

function writeToCopy(file, text) {
  writeFileSync(join(COPY, file), text);
  unbuilt.add(file.split('/')[0]);
}

// --- builds and tests in the copy -----------------------------------------------------------------------------------------------------

/** Makes the copy the same as the tree; a file that is the same keeps its time, so that it is not built anew. */
function copyTree() {
  const listed = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  const files = new Set(listed.stdout.split('\0').filter((file) => file !== '' && existsSync(join(ROOT, file))));
  mkdirSync(COPY, { recursive: true });
  for (const file of ['src', 'native', 'test', 'include'].flatMap((folder) => filesIn(join(COPY, folder)))) {
    if (!files.has(file)) rmSync(join(COPY, file));
  }
  for (const file of files) {
    const [from, to] = [readFileSync(join(ROOT, file)), join(COPY, file)];
    if (existsSync(to) && readFileSync(to).equals(from)) continue;
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, from);
  }
  if (!existsSync(join(COPY, 'node_modules'))) symlinkSync(join(ROOT, 'node_modules'), join(COPY, 'node_modules'));
}

function filesIn(folder) {
  if (!existsSync(folder)) return [];
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(COPY, join(entry.parentPath ?? entry.path, entry.name)));
}

/** What jest's tests run. Native tests build themselves. */
function buildFor(tests) {
  if (!tests.some((test) => 'jest' in test)) return;
  if (unbuilt.delete('native')) command('npm', ['run', 'build:native']);
  // What a defect leaves unused is no error.
  const flags = ['--noUnusedLocals', 'false', '--noUnusedParameters', 'false'];
  if (unbuilt.delete('src')) command('npm', ['run', 'build:js', '--', ...flags]);
}

function command(program, args) {
  const done = spawnSync(program, args, { cwd: COPY, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (done.status !== 0) throw new Error(`does not build: ${program} ${args.join(' ')}\n${done.stdout}${done.stderr}`);
}

function nameOf({ jest, named, native }) {
  return native === undefined ? `${jest}${named === undefined ? '' : `: ${named}`}` : `native: ${native}`;
}

/** { jest: file, named: part of a title } or { native: part of a sentence, lane }. */
async function run(test) {
  return 'jest' in test ? runJest(test) : runNative(test);
}

async function runJest({ jest, named }) {
  rmSync(RESULTS, { force: true });
  const pattern = named === undefined ? [] : ['-t', named.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')];
  const { status, hung, output } = await finish('node', [
    'node_modules/jest/bin/jest.js',
    ...['--runTestsByPath', jest, '--json', `--outputFile=${RESULTS}`, '--silent', ...pattern],
  ]);
  if (hung || !existsSync(RESULTS)) return { bad: true, hung, output };
  const { numPassedTests: passed, numFailedTests: failed } = JSON.parse(readFileSync(RESULTS, 'utf8'));
  if (passed + failed === 0 && status === 0) throw new Error(`no such test: ${jest}: ${named}`);
  return { bad: status !== 0, output };
}

async function runNative({ native, lane = 'plain' }) {
  const { status, hung, output } = await finish('bash', ['test/native/run.sh', lane, native]);
  const counts = [...output.matchAll(/^(\d+) passed, (\d+) failed/gm)];
  if (!hung && counts.length === 0) throw new Error(`does not build: ${output.slice(-2000)}`);
  if (counts.every(([, passed, failed]) => passed === '0' && failed === '0')) throw new Error(`no such test: ${native}`);
  return { bad: hung || status !== 0, hung, output };
}

/** The end of a program, or of the patience with it: then it and all that it has started are killed. */
function finish(program, args) {
  const child = spawn(program, args, { cwd: COPY, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  return new Promise((resolve, reject) => {
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      process.kill(-child.pid, 'SIGKILL');
    }, TEST_LIMIT_MS);
    child.on('error', reject);
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ status, hung, output });
    });
  });
}
