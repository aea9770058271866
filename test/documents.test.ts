/** The programs in README and docs: each runs as printed, and prints what its comments say. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { runNode } from './support/child.js';

const ROOT = join(__dirname, '..');
const DIRECTORY = join(ROOT, 'build', 'documents'); // inside the package, which may then require itself

interface Program {
  document: string;
  name: string;
  code: string;
  /** What the comments behind its console.log calls say. */
  prints: string[];
}

function programsOf(document: string): Program[] {
  const text = readFileSync(join(ROOT, document), 'utf8');
  const blocks = [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, code]) => code);
  const whole = blocks.filter((code) => /^\/\/ [\w-]+\.[cm]js\n|require\('revocable-mmap/.test(code));
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
  'README.md',
  'docs/devices.md',
  'docs/semantics.md',
  'docs/threads.md',
  'docs/unsafe.md',
  'docs/benchmarks.md',
];
const programs = DOCUMENTS.flatMap(programsOf);

test('the documents have programs', () => {
  expect(programs.length).toBeGreaterThan(8);
});

describe.each([...new Set(programs.map(({ document }) => document))])('%s', (document) => {
  const own = programs.filter((program) => program.document === document);
  test.each(own.map((program) => [program.name, program] as const))('%s', async (name, { code, prints }) => {
    mkdirSync(DIRECTORY, { recursive: true });
    const file = join(DIRECTORY, name);
    writeFileSync(file, code);
    const run = await runNode([file]);
    if (code.includes('never printed')) {
      expect(run).toMatchObject({ status: null, signal: 'SIGBUS', stdout: '' });
      return;
    }
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
    for (const text of prints) expect(run.stdout).toContain(text);
  });
});
