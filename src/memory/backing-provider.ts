/**
 * What stands behind a memory object that is more than a file: its pages are supplied, or its registers answered for, by ops. Simulated
 * devices are one implementation (`device/backing.ts`), and register themselves; this folder knows none of them.
 */

/** The model of a device's registers. Offsets are of the region. */
export interface RegisterPort {
  /** Raw accesses reach it too. */
  raw: boolean;
  /** True if the device has been removed. */
  gone(): boolean;
  /** Undefined when the device is gone. */
  read(offset: number, width: number): number | bigint | undefined;
  /** False when the device is gone. */
  write(offset: number, width: number, value: number | bigint): boolean;
}

/** The backing of one memory object, as this thread reaches it. */
export interface Backing {
  /** Only of an object that is registers. */
  registers: RegisterPort | undefined;
  /** Its pages come at their first touch: no system call brings them. */
  supplied: boolean;
  /** The ops that supply its pages, or answer for its registers, run in this thread. */
  servedHere: boolean;
  /**
   * To be called as a revocation of the object begins. What it returns is to be called when the memory has gone: it resolves when no op that
   * was asked for a page of it runs any more, but the op that revokes.
   */
  drain(): () => Promise<void>;
}

/** Undefined for an object that has no backing of this kind. */
export type BackingProvider = (objectId: number) => Backing | undefined;

const providers: BackingProvider[] = [];

export function registerBackingProvider(provider: BackingProvider): void {
  providers.push(provider);
}

/** Undefined for ordinary memory. */
export function backingOf(objectId: number): Backing | undefined {
  for (const provider of providers) {
    const backing = provider(objectId);
    if (backing !== undefined) return backing;
  }
  return undefined;
}
