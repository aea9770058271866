// What is wrong with an installation, or forbidden to a process, is an error of one line that names the way out.
import assert from 'node:assert';
import { copyFileSync, cpSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { NODES, run } from './pack.mjs';

const LOADS = `
  try {
    const { MemoryObject } = require('revocable-mmap');
    console.log(JSON.stringify({ loaded: MemoryObject.create({ size: 4096 }).map().read32(0) }));
  } catch ({ name, code, message }) {
    console.log(JSON.stringify({ name, code, message }));
  }`;

export function badInput(packed) {
  const { arch } = process;
  const other = arch === 'x64' ? 'arm64' : 'x64';
  const binary = (folder, libc = 'glibc', of = arch) =>
    `${folder}/node_modules/revocable-mmap/prebuilds/linux-${of}/revocable-mmap.${libc}.node`;

  // What spoils the installation returns the arguments of node that the program is started with.
  const spoilt = [
    [
      'the binary is missing',
      (cwd) => rmSync(binary(cwd)),
      'ERR_ADDON_MISSING',
      /glibc\.node is not there: install the package again/,
    ],
    ...[0, 10, 64, 4096, 0.5, -1].map((length) => [
      `the binary is truncated to ${length}`,
      (cwd) => truncateSync(binary(cwd), bytesOf(binary(cwd), length)),
      'ERR_ADDON_DAMAGED',
      /glibc\.node is (truncated: \d+ of \d+ bytes|not an ELF file of 64 bits): install the package again/,
    ]),
    [
      'the binary is text',
      (cwd) => writeFileSync(binary(cwd), 'version 1\n'.repeat(30)),
      'ERR_ADDON_DAMAGED',
      /is not an ELF file/,
    ],
    [
      `the binary is of ${other}`,
      (cwd) => copyFileSync(binary(cwd, 'glibc', other), binary(cwd)),
      'ERR_ADDON_DAMAGED',
      new RegExp(`is not for ${arch}: install the package again, on this machine`),
    ],
    [
      'the binary is of musl',
      (cwd) => copyFileSync(binary(cwd, 'musl'), binary(cwd)),
      'ERR_ADDON_LOAD',
      /does not load: .*libc\.so/,
    ],
    ['addons are switched off', () => ['--no-addons'], 'ERR_ADDON_DISABLED', /without --no-addons/],
    [
      'the permission model forbids addons',
      (_, node) => [permission(node), '--allow-fs-read=*'],
      'ERR_ADDON_DISABLED',
      /with --allow-addons beside --permission/,
    ],
    [
      'another operating system',
      (cwd) => pretend(cwd, 'platform', 'darwin'),
      'ERR_ADDON_PLATFORM',
      /works on Linux only, not on darwin/,
    ],
    [
      'another processor',
      (cwd) => pretend(cwd, 'arch', 'riscv64'),
      'ERR_ADDON_PLATFORM',
      /no binary for linux-riscv64: there are binaries for x64 and arm64/,
    ],
  ];
  return [
    ...spoilt.map(([name, spoil, code, message]) => ({
      name: `bad input: ${name}`,
      run: () => {
        const cwd = packed.installed();
        const sound = readFileSync(binary(cwd));
        for (const node of NODES) {
          const result = load(node, cwd, spoil(cwd, node) ?? []);
          assert.strictEqual(result.code, code, JSON.stringify(result));
          assert.strictEqual(result.name, 'AddonLoadError');
          assert.match(result.message, message);
          assert.ok(!result.message.includes('\n'), result.message);
          writeFileSync(binary(cwd), sound);
        }
      },
    })),
    {
      name: 'the permission model allows addons',
      run: () => {
        const cwd = packed.installed();
        for (const node of NODES.filter(({ version }) => version >= 22))
          assert.deepStrictEqual(load(node, cwd, [permission(node), '--allow-fs-read=*', '--allow-addons']), { loaded: 0 });
      },
    },
    {
      name: 'two copies of different versions work side by side',
      run: () => {
        const cwd = packed.installed();
        const copy = join(cwd, 'node_modules/other');
        cpSync(join(cwd, 'node_modules/revocable-mmap'), copy, { recursive: true });
        const description = JSON.parse(readFileSync(join(copy, 'package.json'), 'utf8'));
        writeFileSync(join(copy, 'package.json'), JSON.stringify({ ...description, name: 'other', version: '0.0.1' }));
        writeFileSync(join(cwd, 'two.cjs'), TWO);
        for (const { path } of NODES) {
          const printed = JSON.parse(run(path, ['two.cjs'], { cwd }).stdout);
          assert.deepStrictEqual(printed, { versions: ['0.1.0', '0.0.1'], rounds: ROUNDS, across: 'ERR_INVALID_THIS' });
        }
      },
    },
  ];
}

// Each of them maps, reads, loses its memory and says so, in turns, while the other one is there.
const ROUNDS = Array.from({ length: 4 }, () => [7, 0, 'ERR_MAPPING_REVOKED', 'past-end']);
const TWO = `
  const { execFileSync } = require('node:child_process');
  const fs = require('node:fs');
  const copies = ['revocable-mmap', 'other'].map((name) => require(name));
  const versions = ['revocable-mmap', 'other'].map((name) => require(name + '/package.json').version);
  const code = (call) => { try { return call(); } catch (error) { return error.code; } };
  const rounds = [0, 1, 0, 1].map((which) => {
    const { MemoryObject } = copies[which];
    const object = MemoryObject.create({ size: 8192 });
    const mapping = object.map();
    mapping.write32(4096, 7);
    const before = mapping.read32(4096);
    object.revokeSync();
    const path = 'file-' + which;
    fs.writeFileSync(path, Buffer.alloc(8192, 1));
    const file = MemoryObject.openFile(path).map();
    fs.truncateSync(path, 0);
    file.bytes[4096];
    let cause;
    try { file.read32(4096); } catch (error) { ({ cause } = error); }
    return [before, mapping.bytes[4096], code(() => mapping.read32(0)), cause];
  });
  const { prototype } = copies[1].Mapping;
  const across = code(() => prototype.read32.call(copies[0].MemoryObject.create({ size: 4096 }).map(), 0));
  console.log(JSON.stringify({ versions, rounds, across }));
`;

/** What a program sees that requires the package: `{ loaded }`, or the error. It must end by itself. */
function load({ path }, cwd, args) {
  return JSON.parse(run(path, [...args, '-e', LOADS], { cwd }).stdout);
}

function permission({ version }) {
  return version >= 24 ? '--permission' : '--experimental-permission';
}

/** A fraction is of the file's length, and a negative number is counted from its end. */
function bytesOf(path, length) {
  const { size } = statSync(path);
  if (length < 0) return size + length;
  return Number.isInteger(length) ? length : Math.floor(size * length);
}

function pretend(cwd, property, value) {
  writeFileSync(join(cwd, 'pretend.cjs'), `Object.defineProperty(process, '${property}', { value: '${value}' });`);
  return ['--require', './pretend.cjs'];
}
