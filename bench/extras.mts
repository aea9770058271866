/** What `npm run bench:setup` installs, loaded when it is there. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

// This runs as build/bench/extras.mjs; the packages are those of bench/ itself.
const require = createRequire(new URL('../../bench/package.json', import.meta.url));

/** Whether `npm run bench:setup` has been run. */
export function isSetUp(): boolean {
  return existsSync(new URL('../../bench/node_modules/', import.meta.url));
}

/** The package, or why there is none: it is not installed, or does not load on this version of Node. */
export function extra<T>(name: string): { module: T } | { unavailable: string } {
  try {
    require.resolve(name);
  } catch {
    return { unavailable: isSetUp() ? `cannot be built on Node ${process.versions.node}` : 'not installed: npm run bench:setup' };
  }
  try {
    return { module: require(name) as T };
  } catch (error) {
    return { unavailable: `does not load on Node ${process.versions.node}: ${reason(error as NodeJS.ErrnoException)}` };
  }
}

/** Of a package that is installed, whether or not it loads. */
export function installedVersion(name: string): string | undefined {
  // Not by resolving name/package.json: what a package exports need not contain that.
  const file = require.resolve
    .paths(name)
    ?.map((directory) => join(directory, name, 'package.json'))
    .find((path) => existsSync(path));
  return file === undefined ? undefined : (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** An addon that another version of Node built is refused, or not where this one looks for it. */
function reason({ code, message }: NodeJS.ErrnoException): string {
  const isAnothers = code === 'ERR_DLOPEN_FAILED' || code === 'MODULE_NOT_FOUND';
  return isAnothers ? 'it was built on another; npm run bench:setup' : message.split('\n')[0].slice(0, 120);
}
