/** The programs in all documents: each runs as printed, and prints what its comments say. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { runNode } from './support/child.js';
import { temporaryDirectory } from './support/temporary.js';

const ROOT = join(__dirname, '..');

// Inside the package, which may then require itself; another run of the tests has another.
let directory: string;
beforeAll(() => (directory = mkdtempSync(join(ROOT, 'build', 'documents-'))));
afterAll(() => rmSync(directory, { recursive: true }));

interface Program {
  document: string;
  name: string;
  code: string;
  /** What the comments behind its console.log calls say. */
  prints: string[];
}

function blocksOf(document: string, language: string): string[] {
  const text = readFileSync(join(ROOT, document), 'utf8');
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(([, code]) => code);
}

const isWhole = (code: string): boolean => /^\/\/ [\w-]+\.[cm]js\n|require\('revocable-mmap/.test(code);

function programsOf(document: string): Program[] {
  const whole = blocksOf(document, 'js').filter(isWhole);
  return whole.map((code, i) => {
    const name = /^\/\/ ([\w-]+\.[cm]js)\n/.exec(code)?.[1] ?? `${basename(document, '.md')}-${i + 1}.cjs`;
    return { document, name, code, prints: printed(code) };
  });
}

/** `console.log(…); // text`. What is elided with … is compared up to there. */
function printed(code: string): string[] {
  const comments = [...code.matchAll(/console\.log\(.*\);? *(?:\}\);? *)?\/\/ (.*)$/gm)];
  return comments.map(([, comment]) => comment.split('…')[0].split(/[,:] /)[0].trim()).filter((text) => text !== '');
}

const DOCUMENTS = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...(readdirSync(join(ROOT, 'docs'), { recursive: true }) as string[])
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name))
    .sort(),
];
const programs = DOCUMENTS.flatMap(programsOf);

test('the documents have programs', () => {
  expect(programs.length).toBeGreaterThan(30);
});

test('what is no whole program is taken from one that is tested, line by line', () => {
  const examples = join(ROOT, 'docs', 'examples');
  const lines = (code: string): string[] => code.split('\n').map((line) => line.trim());
  const known = new Set(readdirSync(examples).flatMap((name) => lines(readFileSync(join(examples, name), 'utf8'))));
  const parts = DOCUMENTS.flatMap((document) => blocksOf(document, 'js')).filter((code) => !isWhole(code));
  expect(parts.flatMap(lines).filter((line) => !known.has(line))).toEqual([]);
});

const inCpp = DOCUMENTS.flatMap((document) => blocksOf(document, 'cpp').map((code) => ({ document, code })));

test('the documents have C++', () => {
  expect(inCpp.length).toBeGreaterThan(0);
});

test.each(inCpp)('the C++ of $document compiles', ({ code }) => {
  // The headers of Node that the addon was built with.
  const { variables } = JSON.parse(readFileSync(join(ROOT, 'build', 'config.gypi'), 'utf8').replace(/^#.*$/gm, '')) as {
    variables: { nodedir: string };
  };
  const headers = join(variables.nodedir, 'include', 'node');
  const options = ['-std=c++20', '-fsyntax-only', '-I', 'include', '-I', headers, '-x', 'c++', '-'];
  const { status, stderr, error } = spawnSync('g++', options, { cwd: ROOT, input: code, encoding: 'utf8' });
  expect({ status, stderr, error }).toEqual({ status: 0, stderr: '', error: undefined });
});

describe.each([...new Set(programs.map(({ document }) => document))])('%s', (document) => {
  const own = programs.filter((program) => program.document === document);
  test.each(own.map((program) => [program.name, program] as const))('%s', async (name, { code, prints }) => {
    const file = join(directory, name);
    writeFileSync(file, code);
    const run = await runNode([file], { env: { TMPDIR: temporaryDirectory() } });
    if (code.includes('never printed')) {
      expect(run).toMatchObject({ status: null, signal: 'SIGBUS', stdout: '' });
      return;
    }
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
    for (const text of prints) expect(run.stdout).toContain(text);
  });
});
