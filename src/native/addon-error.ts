/**
 * The addon, without which there is no library, could not be loaded. It is thrown by the first `import` or `require`, so compare its
 * `code`:
 *
 * - `ERR_ADDON_PLATFORM`: the package has no binary for this operating system, processor or C library.
 * - `ERR_ADDON_MISSING`: the binary is not where it was installed: a bundler or a copy has left it out.
 * - `ERR_ADDON_DAMAGED`: the file is truncated, or is for another platform.
 * - `ERR_ADDON_DISABLED`: this process may not load addons (`--no-addons`, the permission model).
 * - `ERR_ADDON_LOAD`: the dynamic linker refuses it; `cause` is Node's error.
 */
export class AddonLoadError extends Error {
  override readonly name = 'AddonLoadError';
  readonly code: AddonLoadCode;

  constructor(code: AddonLoadCode, message: string, cause?: unknown) {
    super(`revocable-mmap: ${message}`, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

export type AddonLoadCode =
  'ERR_ADDON_PLATFORM' | 'ERR_ADDON_MISSING' | 'ERR_ADDON_DAMAGED' | 'ERR_ADDON_DISABLED' | 'ERR_ADDON_LOAD';
