// Every way to install the package: the README's first program must run afterwards, on every Node.
import assert from 'node:assert';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { npm, run, runProgram, tool } from './pack.mjs';

export function installs(packed) {
  return [
    ['npm install', (cwd) => void npm(cwd, 'install', packed.tarball)],
    ['npm install, then npm ci twice', npmCiTwice],
    ['npm install --ignore-scripts', (cwd) => void npm(cwd, 'install', packed.tarball, '--ignore-scripts')],
    ['npm install --omit=optional', (cwd) => void npm(cwd, 'install', packed.tarball, '--omit=optional')],
    ['npm ci from an offline cache', npmCiFromCache],
    ['npm install without a compiler', npmWithoutCompiler],
    ['pnpm', pnpm],
    ['yarn with node_modules', (cwd) => yarn(cwd, 'node-modules')],
    ['yarn with Plug’n’Play', yarnPlugAndPlay],
    ['read-only node_modules', readOnly],
    ['a copy of node_modules, without the package manager', copied],
  ].map(([name, install]) => ({
    name: `installed: ${name}`,
    run: () => {
      const cwd = packed.project();
      return runProgram({ cwd, ...install(cwd) });
    },
  }));

  function npmCiTwice(cwd) {
    npm(cwd, 'install', packed.tarball);
    const lock = JSON.parse(readFileSync(join(cwd, 'package-lock.json'), 'utf8'));
    assert.strictEqual(lock.packages['node_modules/revocable-mmap'].hasInstallScript, undefined);
    npm(cwd, 'ci');
    npm(cwd, 'ci');
  }

  function npmCiFromCache(cwd) {
    npm(cwd, 'cache', 'add', packed.tarball);
    npm(cwd, 'install', packed.tarball);
    rmSync(join(cwd, 'node_modules'), { recursive: true });
    npm(cwd, 'ci');
  }

  /** PATH has node and a shell, and nothing else. */
  function npmWithoutCompiler(cwd) {
    const bin = join(cwd, 'bin');
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, 'node'));
    symlinkSync('/bin/sh', join(bin, 'sh'));
    const env = { ...process.env, PATH: bin, CC: undefined, CXX: undefined };
    const cli = run('npm', ['prefix', '--global']).stdout.trim();
    const script = join(cli, 'lib/node_modules/npm/bin/npm-cli.js');
    for (const args of [['install', packed.tarball], ['ci'], ['ci']])
      // prettier-ignore
      run(process.execPath, [script, ...args, '--offline', '--no-audit', '--no-fund', '--cache', join(cwd, '.npm-cache')], { cwd, env });
    return { env };
  }

  function pnpm(cwd) {
    const options = ['--offline', '--store-dir', join(cwd, '.store')];
    tool('pnpm/bin/pnpm.cjs', ['add', packed.tarball, ...options], { cwd });
    tool('pnpm/bin/pnpm.cjs', ['install', '--frozen-lockfile', ...options], { cwd });
  }

  function yarn(cwd, linker) {
    const settings = [
      `nodeLinker: ${linker}`,
      'enableTelemetry: false',
      'enableNetwork: false',
      'enableGlobalCache: false',
      `globalFolder: ${join(cwd, '.yarn-global')}`,
    ];
    writeFileSync(join(cwd, '.yarnrc.yml'), settings.map((line) => `${line}\n`).join(''));
    writeFileSync(join(cwd, 'yarn.lock'), '');
    const env = { ...process.env, CI: '' };
    tool('@yarnpkg/cli-dist/bin/yarn.js', ['add', `revocable-mmap@file:${packed.tarball}`], { cwd, env });
    tool('@yarnpkg/cli-dist/bin/yarn.js', ['install', '--immutable'], { cwd, env });
  }

  function yarnPlugAndPlay(cwd) {
    yarn(cwd, 'pnp');
    assert.ok(!existsSync(join(cwd, 'node_modules')));
    return { before: ['--require', './.pnp.cjs'] };
  }

  /** A mount that nothing can write to: permissions alone do not bind root. */
  function readOnly(cwd) {
    npm(cwd, 'install', packed.tarball);
    const script =
      'mount --bind node_modules node_modules && mount -o remount,bind,ro node_modules && ! touch node_modules/x 2>/dev/null';
    return { through: ['unshare', '--mount', 'sh', '-c', `${script} && exec "$0" "$@"`] };
  }

  function copied(cwd) {
    npm(cwd, 'install', packed.tarball);
    const elsewhere = packed.project();
    cpSync(join(cwd, 'node_modules/revocable-mmap'), join(elsewhere, 'node_modules/revocable-mmap'), { recursive: true });
    rmSync(join(cwd, 'node_modules'), { recursive: true });
    return { cwd: elsewhere };
  }
}
