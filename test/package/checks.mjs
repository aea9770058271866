// What can be said of the tarball without installing it.
import assert from 'node:assert';
import { tool } from './pack.mjs';

const LARGEST = 2 * 1024 * 1024;

export function checks(packed) {
  return [
    { name: 'the tarball has the binaries and nothing to build from', run: contents },
    { name: 'the tarball is smaller than 2 MB', run: size },
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
