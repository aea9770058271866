// Fails, with every reason, where the checkout is not what a release must be: `release-check.mjs [tag]`.
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');
const { name, version, repository, dependencies = {}, scripts } = JSON.parse(read('package.json'));
const [tag] = process.argv.slice(2);
const git = (...args) => execFileSync('git', args, { encoding: 'utf8' }).trim();

const conditions = [
  ['package.json names the repository', repository?.url !== undefined],
  ['there is no run-time dependency', Object.keys(dependencies).length === 0],
  ['there is no install script', ['preinstall', 'install', 'postinstall'].every((script) => scripts[script] === undefined)],
  ['the version is one of semantic versioning', /^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)],
  ['package-lock.json has the same version', JSON.parse(read('package-lock.json')).version === version],
  [
    `CHANGELOG.md has a dated section ${version}`,
    new RegExp(`^## \\[?${escape(version)}\\]? - \\d{4}-\\d\\d-\\d\\d$`, 'm').test(read('CHANGELOG.md')),
  ],
  ['nothing is uncommitted', git('status', '--porcelain') === ''],
  [`the tag is v${version}`, tag === undefined || tag === `v${version}`],
  ['the binaries are those of these sources, and users can load them (npm run prebuild)', binariesAreRight()],
];

const unmet = conditions.filter(([, holds]) => !holds);
for (const [condition] of unmet) console.error(`not so: ${condition}`);
console.log(`${name} ${version}: ${conditions.length - unmet.length} passed, ${unmet.length} failed`);
process.exitCode = unmet.length === 0 ? 0 : 1;

function binariesAreRight() {
  const check = fileURLToPath(new URL('prebuilds/check.mjs', import.meta.url));
  return spawnSync(process.execPath, [check], { stdio: ['ignore', 'ignore', 'inherit'] }).status === 0;
}

function escape(text) {
  return text.replace(/[.+-]/g, '\\$&');
}
