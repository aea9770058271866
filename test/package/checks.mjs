// What can be said of the tarball without installing it.
import assert from 'node:assert';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { problemsOf } from '../../scripts/prebuilds/targets.mjs';
import { ROOT, run, tool } from './pack.mjs';

const LARGEST = 2 * 1024 * 1024;

export function checks(packed) {
  return [
    { name: 'the tarball has the binaries and nothing to build from', run: contents },
    { name: 'the tarball is smaller than 2 MB', run: size },
    { name: 'the check of binaries refuses what users cannot load', run: refusals },
    // Packing is this run's: the checker looks at the same tarball.
    { name: 'publint', run: () => void tool('publint/src/cli.js', ['run', packed.tarball, '--strict']) },
    { name: 'attw', run: () => void tool('@arethetypeswrong/cli/dist/index.js', [packed.tarball, '--no-emoji']) },
  ];

  function contents() {
    const has = (pattern) => packed.files.some((path) => pattern.test(path));
    assert.ok(!has(/binding\.gyp|\.(cc|o)$|^(native|test|bench|build|scripts)\//), packed.files.join('\n'));
    const binaries = packed.files.filter((path) => path.endsWith('.node'));
    assert.deepStrictEqual(
      binaries,
      ['arm64', 'x64'].flatMap((arch) => ['glibc', 'musl'].map((libc) => `prebuilds/linux-${arch}/revocable-mmap.${libc}.node`)),
    );
    for (const path of ['README.md', 'LICENSE', 'CHANGELOG.md', 'dist/index.js', 'dist/index.d.ts'])
      assert.ok(packed.files.includes(path), path);
    return `${packed.files.length} files`;
  }

  function size() {
    assert.ok(packed.size < LARGEST, `${packed.size} bytes`);
    return `${(packed.size / 1024).toFixed(0)} KiB packed, ${(packed.unpackedSize / 1024).toFixed(0)} KiB unpacked`;
  }
}

/** The library for x64 with another target's name, and what the host's compiler makes. */
function refusals() {
  const ours = readFileSync(join(ROOT, 'prebuilds/linux-x64/revocable-mmap.glibc.node'));
  const glibc = { arch: 'x64', libc: 'glibc' };
  assert.deepStrictEqual(problemsOf(ours, glibc), []);
  assert.deepStrictEqual(problemsOf(ours, { arch: 'arm64', libc: 'glibc' }), ['it is for x64']);
  assert.match(
    problemsOf(ours, { arch: 'x64', libc: 'musl' }).join(),
    /libraries of the host: .*libc\.so\.6.*versions of symbols/,
  );
  assert.match(problemsOf(ours.subarray(0, -1), glibc).join(), /truncated/);
  const built = problemsOf(builtByHost(), glibc).join('; ');
  for (const problem of [/libstdc\+\+\.so\.6/, /GLIBCXX_/, /not stripped/, /must export .* differs by/, /-z now/, /-z nodelete/])
    assert.match(built, problem);
}

function builtByHost() {
  const folder = mkdtempSync(join(tmpdir(), 'revocable-mmap-host-'));
  writeFileSync(join(folder, 'host.cc'), '#include <string>\nstd::string host(int n) { return std::string(n, 1) + "x"; }\n');
  run('g++', ['-shared', '-fPIC', '-g', '-Wl,-z,lazy', 'host.cc', '-o', 'host.so'], { cwd: folder });
  const bytes = readFileSync(join(folder, 'host.so'));
  rmSync(folder, { recursive: true });
  return bytes;
}
