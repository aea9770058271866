/** What `npm run docs:check` and `npm run spell` find in documents with planted faults, and that ours pass the first. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from './support/temporary.js';

const ROOT = join(__dirname, '..');

function check(directory: string, name = 'check-documents.mjs'): { status: number | null; faults: string[] } {
  const program = join(ROOT, 'scripts', name);
  const { status, stderr } = spawnSync(process.execPath, [program, directory], { encoding: 'utf8' });
  return { status, faults: stderr.split('\n').filter((line) => line !== '') };
}

function documents(files: Record<string, string>): string {
  const directory = temporaryDirectory();
  spawnSync('git', ['init', '-q', directory]);
  mkdirSync(join(directory, 'docs'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}

test('links, anchors, width and words of our documents', () => {
  expect(check(ROOT)).toEqual({ status: 0, faults: [] });
});

test('what is right passes', () => {
  const long = `| ${'x '.repeat(80)} |\n`;
  const directory = documents({
    'README.md': `# Title\n\n[other](docs/other.md#two-words) [here](#title) [\`code\`](docs/) \`told\`\n\n${long}`,
    'docs/other.md': '# Two, `words`\n\n```js\n# [not a link](nowhere.md) somebody\n```\n\n[up](../README.md)\n',
  });
  expect(check(directory)).toEqual({ status: 0, faults: [] });
});

const inside = '```\n# hidden\n```';
test.each([
  ['a file that is missing', '[a](docs/none.md)', 'README.md:1: docs/none.md leads nowhere'],
  ['a heading that is missing', '[a](docs/other.md#none)', 'README.md:1: docs/other.md#none leads nowhere'],
  ['a heading within code', `${inside}\n[a](#hidden)`, 'README.md:4: #hidden leads nowhere'],
  ['a file outside the repository', '[a](../README.md)', 'README.md:1: ../README.md leads nowhere'],
  ['a link definition', '[a]: none.md', 'README.md:1: none.md leads nowhere'],
  ['a line of 101 columns', `${'x'.repeat(99)} y`, 'README.md:1: 101 columns, of at most 100'],
  ['an actor without a name', 'Somebody closes it.', 'README.md:1: "Somebody": name the actor'],
])('%s is found', (_, text, fault) => {
  const directory = documents({ 'README.md': `${text}\n`, 'docs/other.md': '# Other\n' });
  expect(check(directory)).toEqual({ status: 1, faults: [fault] });
});

test('a misspelt word is found, and a word within code is not', () => {
  const argv = ['node_modules/cspell/bin.mjs', 'lint', '--no-progress', '--no-summary', '--words-only', 'stdin://planted.md'];
  const input = 'A mapping is revokked, by `revokked`.\n\n```sh\nrevokked\n```\n';
  const { status, stdout } = spawnSync(process.execPath, argv, { cwd: ROOT, input, encoding: 'utf8' });
  expect({ status, stdout }).toEqual({ status: 1, stdout: 'revokked\n' });
});

test('ARCHITECTURE names files that are there, and functions that are in them', () => {
  expect(check(ROOT, 'check-architecture.mjs')).toEqual({ status: 0, faults: [] });
});

test('a file and a function that ARCHITECTURE names and are not there are found', () => {
  const calls = '| 1 | `docs/a.ts` `here`, `gone` | what |\n| 2 | the same file, `here` | what |\n| 3 | `b.ts` `here` | what |\n';
  const directory = documents({ 'ARCHITECTURE.md': `\`X.h\` is any file.\n\n${calls}`, 'docs/a.ts': 'here();\n' });
  expect(check(directory, 'check-architecture.mjs')).toEqual({
    status: 1,
    faults: ['ARCHITECTURE.md:3: no gone in docs/a.ts', 'ARCHITECTURE.md:5: no file b.ts', 'ARCHITECTURE.md:5: no here in '],
  });
});

test('comments and documents name files that are there, and code has none of the unwanted words', () => {
  expect(check(ROOT, 'check-comments.mjs')).toEqual({ status: 0, faults: [] });
});

test('a file that a comment or a document names and that is not there is found, one within code is not, and a word that hides the actor is', () => {
  const directory = documents({
    'README.md': 'See docs/a.ts, `src/gone.ts` and the folder docs/.\n',
    'docs/a.ts':
      "// As in docs/gone.md.\nimport '../src/import.js'; // and test/gone.test.ts\n/** docs/a.ts, not other/docs/b.ts */\nconst told = 1;\n",
  });
  expect(check(directory, 'check-comments.mjs')).toEqual({
    status: 1,
    faults: [
      'README.md:1: no file src/gone.ts',
      'docs/a.ts:1: no file docs/gone.md',
      'docs/a.ts:2: no file test/gone.test.ts',
      'docs/a.ts:4: "told": name the actor',
    ],
  });
});
