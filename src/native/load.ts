/**
 * Loads the addon: the file that `REVOCABLE_MMAP_ADDON` names, or what `locate.ts` finds (docs/decisions/009-prebuilt-binaries.md).
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { AddonLoadError, type AddonLoadCode } from './addon-error.js';
import { damageOf } from './elf.js';
import type { Native } from './functions.js';
import { locateAddon } from './locate.js';

const REINSTALL = 'install the package again, on this machine';
const BUNDLING =
  'docs/how-to/bundle.md: let the bundler leave the package out or copy .node files, or name the file in REVOCABLE_MMAP_ADDON';

// Bundlers find the binaries by these paths, so each is a literal.
/* eslint-disable @typescript-eslint/no-require-imports -- a .node file can only be required */
const PREBUILT: Record<string, () => Native> = {
  'linux-x64/revocable-mmap.glibc.node': () => require('../../prebuilds/linux-x64/revocable-mmap.glibc.node') as Native,
  'linux-x64/revocable-mmap.musl.node': () => require('../../prebuilds/linux-x64/revocable-mmap.musl.node') as Native,
  'linux-arm64/revocable-mmap.glibc.node': () => require('../../prebuilds/linux-arm64/revocable-mmap.glibc.node') as Native,
  'linux-arm64/revocable-mmap.musl.node': () => require('../../prebuilds/linux-arm64/revocable-mmap.musl.node') as Native,
};
/* eslint-enable @typescript-eslint/no-require-imports */

function load(): Native {
  const named = process.env.REVOCABLE_MMAP_ADDON;
  if (named !== undefined && named !== '') return loadFile(named, () => openAddon(resolve(named)));
  const { name, path, isBuiltHere } = locateAddon();
  // A bundler may have moved this code away from the package's files: it then finds the binary by its literal.
  return loadFile(path ?? `prebuilds/${name}`, isBuiltHere ? () => openAddon(path!) : PREBUILT[name]);
}

/**
 * As `require` does, also in a bundle or a single executable application, which have none for files. All copies of this code in a thread
 * get the same object.
 */
function openAddon(path: string): Native {
  const { createRequire } = process.getBuiltinModule('node:module');
  return createRequire(path)(path) as Native;
}

function loadFile(path: string, loadIt: () => Native): Native {
  try {
    const damage = existsSync(path) ? damageOf(path, process.arch) : undefined;
    if (damage !== undefined) throw new AddonLoadError('ERR_ADDON_DAMAGED', `${path} ${damage}: ${REINSTALL}`);
    return loadIt();
  } catch (cause) {
    throw cause instanceof AddonLoadError ? cause : explain(path, cause as NodeJS.ErrnoException);
  }
}

function explain(path: string, cause: NodeJS.ErrnoException): AddonLoadError {
  const [why] = String(cause.message).split('\n');
  const [code, message] = explanationOf(path, cause.code, why);
  return new AddonLoadError(code, message, cause);
}

function explanationOf(path: string, code: string | undefined, why: string): [AddonLoadCode, string] {
  switch (code) {
    case 'ERR_DLOPEN_DISABLED':
      return [
        'ERR_ADDON_DISABLED',
        'this process may not load addons: run node without --no-addons, or with --allow-addons beside --permission',
      ];
    case 'ERR_ACCESS_DENIED':
      return [
        'ERR_ADDON_DISABLED',
        `this process may not read ${path}: run node with --allow-fs-read for it, and --allow-addons`,
      ];
    case 'MODULE_NOT_FOUND':
      return [
        'ERR_ADDON_MISSING',
        `${path} is not there: ${REINSTALL}; in a bundle, see ${BUNDLING}; in a checkout, run "npm run build"`,
      ];
    default:
      if (!existsSync(path)) return explanationOf(path, 'MODULE_NOT_FOUND', why);
      return ['ERR_ADDON_LOAD', `${path} does not load: ${why}`];
  }
}

export const native: Native = load();
