// The tarball, and projects that install it.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HERE = join(ROOT, 'test/package');
const MATRIX = join(ROOT, 'test/matrix');

/** The README's first program, and what it prints. */
const [, PROGRAM] = /```js\n(\/\/ revoke\.cjs\n[^]*?)```/.exec(readFileSync(join(ROOT, 'README.md'), 'utf8'));
const PRINTS = [...PROGRAM.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, text]) => text);

/** Node's binaries by their major version. */
export const NODES = [20, 22, 24, 26].map((version) => ({ version, path: join(MATRIX, `node_modules/node${version}/bin/node`) }));

export function pack() {
  for (const folder of [HERE, MATRIX])
    if (!existsSync(join(folder, 'node_modules'))) run('npm', ['ci', '--ignore-scripts'], { cwd: folder });
  const folder = mkdtempSync(join(tmpdir(), 'revocable-mmap-package-'));
  run('npm', ['run', 'pack:check'], { cwd: ROOT });
  const listed = run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: ROOT }).stdout;
  const description = JSON.parse(listed.slice(listed.search(/^[[{]\s*$/m)));
  const [packed] = Array.isArray(description) ? description : Object.values(description);
  const { filename, size, unpackedSize, files } = packed;
  const tarball = join(folder, filename);
  let projects = 0;
  let pristine;
  return {
    tarball,
    size,
    unpackedSize,
    files: files.map(({ path }) => path),
    /** A folder with a package.json, and the README's program in it. */
    project(dependencies = {}) {
      const path = join(folder, `project-${(projects += 1)}`);
      mkdirSync(path);
      writeFileSync(join(path, 'package.json'), JSON.stringify({ name: 'user', private: true, version: '1.0.0', dependencies }));
      writeFileSync(join(path, 'revoke.cjs'), PROGRAM);
      return path;
    },
    /** A project in which npm has installed the tarball: a copy, to be spoilt. */
    installed() {
      if (pristine === undefined) {
        pristine = this.project();
        npm(pristine, 'install', this.tarball);
      }
      const path = this.project();
      cpSync(join(pristine, 'node_modules'), join(path, 'node_modules'), { recursive: true });
      return path;
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Runs npm as a user without network and without an own cache. */
export function npm(cwd, ...args) {
  return run('npm', [...args, '--offline', '--no-audit', '--no-fund', '--cache', join(cwd, '.npm-cache')], { cwd });
}

/** A tool of `test/package/package.json`, by its path there. */
export function tool(path, args, options) {
  return run(process.execPath, [join(HERE, 'node_modules', path), ...args], options);
}

/** Throws with everything that was printed where the status is not 0. */
export function run(command, args, options = {}) {
  const done = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26, ...options });
  if (done.error !== undefined) throw done.error;
  if (done.status !== 0)
    throw new Error(`${command} ${args.join(' ')}: ${done.status ?? done.signal}\n${done.stdout}${done.stderr}`);
  return done;
}

/** Runs the README's first program on every Node; `through` is a command that runs the rest of its arguments. */
export function runProgram({ cwd, before = [], through = [], env = process.env }) {
  for (const { version, path } of NODES) {
    const [command, ...args] = [...through, path, ...before, 'revoke.cjs'];
    const printed = run(command, args, { cwd, env }).stdout.trimEnd();
    if (printed !== PRINTS.join('\n')) throw new Error(`Node ${version} printed\n${printed}\nand not\n${PRINTS.join('\n')}`);
  }
  return `Node ${NODES.map(({ version }) => version).join(', ')}`;
}
