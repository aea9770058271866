/**
 * Finds the addon: what a checkout has built itself, or the binary that the package carries for this processor and C library
 * (docs/decisions/009-prebuilt-binaries.md).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { AddonLoadError } from './addon-error.js';
import { interpreterOf } from './elf.js';

export interface AddonPlace {
  /** Below `prebuilds/`. */
  name: string;
  /** Undefined where the file is not beside this code. */
  path: string | undefined;
  /** By node-gyp, in a checkout. */
  isBuiltHere: boolean;
}

/** Throws AddonLoadError where the package has no binary for this platform. */
export function locateAddon(): AddonPlace {
  if (process.platform !== 'linux')
    throw new AddonLoadError('ERR_ADDON_PLATFORM', `works on Linux only, not on ${process.platform}`);
  // Before the binaries of the package, so that what a developer has just compiled is what runs. A package has none.
  const built = fileOfPackage('build/Release/revocable_mmap.node');
  if (built === undefined && process.arch !== 'x64' && process.arch !== 'arm64') {
    const there = 'there are binaries for x64 and arm64; in a checkout, run "npm run build"';
    throw new AddonLoadError('ERR_ADDON_PLATFORM', `there is no binary for linux-${process.arch}: ${there}`);
  }
  if (built !== undefined) return { name: '', path: built, isBuiltHere: true };
  const name = `linux-${process.arch}/revocable-mmap.${cLibrary()}.node`;
  return { name, path: fileOfPackage(`prebuilds/${name}`), isBuiltHere: false };
}

/** A bundler may have moved this code away from the package's files. */
function fileOfPackage(name: string): string | undefined {
  const path = join(__dirname, '..', '..', name);
  return existsSync(path) ? path : undefined;
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
