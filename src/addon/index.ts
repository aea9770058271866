/**
 * Where the addon is, for scripts that bundle a program or copy it elsewhere: `revocable-mmap/addon`. It loads nothing. The copy is
 * named to the program by the environment variable `REVOCABLE_MMAP_ADDON`.
 *
 * @packageDocumentation
 */
import { AddonLoadError } from '../native/addon-error.js';
import { locateAddon } from '../native/locate.js';

/**
 * The path of the binary that this process would load. Throws AddonLoadError, `ERR_ADDON_PLATFORM` where the package has none for
 * this platform and `ERR_ADDON_MISSING` where it is not there. Does not block but for looking at the file system.
 *
 * @example
 * ```js
 * const { addonPath } = require('revocable-mmap/addon');
 * require('node:fs').copyFileSync(addonPath(), 'revocable-mmap.node');
 * ```
 */
export function addonPath(): string {
  const { name, path } = locateAddon();
  if (path !== undefined) return path;
  throw new AddonLoadError('ERR_ADDON_MISSING', `prebuilds/${name} is not there: install the package again, on this machine`);
}
