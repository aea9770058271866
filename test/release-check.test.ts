import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runNode } from './support/child.js';

const ROOT = join(__dirname, '..');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };

test('a release is refused for each reason, by name: a tag of another version', async () => {
  const run = await runNode([join(ROOT, 'scripts', 'release-check.mjs'), 'v0.0.0-other']);
  expect(run).toMatchObject({ status: 1, signal: null });
  expect(run.stderr).toContain(`not so: the tag is v${version}\n`);
  expect(run.stdout).toMatch(/^revocable-mmap \S+: \d+ passed, [1-9]\d* failed\n$/);
});

test('the version of the lock file, dependencies and scripts are as a release must have them', async () => {
  const run = await runNode([join(ROOT, 'scripts', 'release-check.mjs')]);
  expect(run.stderr).not.toMatch(/run-time dependency|install script|semantic versioning|package-lock|tag/);
});
