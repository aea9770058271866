/**
 * Finds and loads the addon: what a checkout has built itself, or the binary that the package carries for this processor and C
 * library (docs/decisions/009-prebuilt-binaries.md).
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { AddonLoadError, type AddonLoadCode } from './addon-error.js';
import { damageOf, interpreterOf } from './elf.js';
import type { Native } from './functions.js';

const REINSTALL = 'install the package again, on this machine';

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
  if (process.platform !== 'linux')
    throw new AddonLoadError('ERR_ADDON_PLATFORM', `works on Linux only, not on ${process.platform}`);
  // Before the binaries of the package, so that what a developer has just compiled is what runs. A package has none.
  const built = fileBesideSources('build/Release/revocable_mmap.node');
  if (built !== undefined) return loadFile(built, () => createRequire(__filename)(built) as Native);
  const name = `linux-${process.arch}/revocable-mmap.${cLibrary()}.node`;
  const loadPrebuilt = PREBUILT[name];
  if (loadPrebuilt === undefined) {
    const there = 'there are binaries for x64 and arm64; in a checkout, run "npm run build"';
    throw new AddonLoadError('ERR_ADDON_PLATFORM', `there is no binary for linux-${process.arch}: ${there}`);
  }
  return loadFile(fileBesideSources(`prebuilds/${name}`) ?? `prebuilds/${name}`, loadPrebuilt);
}

/** A bundler may have moved this code away from the package's files. */
function fileBesideSources(name: string): string | undefined {
  const path = join(__dirname, '..', '..', name);
  return existsSync(path) ? path : undefined;
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
        `${path} is not there: ${REINSTALL}; a bundler must copy it; in a checkout, run "npm run build"`,
      ];
    default:
      return ['ERR_ADDON_LOAD', `${path} does not load: ${why}`];
  }
}

/** The C library that this process runs on: an addon must be built for the same one. */
function cLibrary(): 'glibc' | 'musl' {
  const interpreter = interpreterOf(process.execPath);
  if (interpreter?.includes('/ld-musl-')) return 'musl';
  if (interpreter?.includes('/ld-linux')) return 'glibc';
  return versionOfGlibc() === undefined ? 'musl' : 'glibc';
}

/** Of Node 20.13 on; its types do not know it. */
interface ProcessReport {
  excludeNetwork?: boolean;
  getReport(): object;
}

/** Takes a hundred times longer: for programs that cannot be read, or were started by naming the dynamic linker. */
function versionOfGlibc(): string | undefined {
  const report = process.report as ProcessReport;
  const { excludeNetwork } = report;
  report.excludeNetwork = true; // it would look up names of hosts
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  report.excludeNetwork = excludeNetwork;
  return header.glibcVersionRuntime;
}

export const native: Native = load();
