/** What a simulated device is made of: its regions, and its ops, which mirror the kernel's. */
import type { Device } from './device.js';
import type { ReceivedMemory } from './device-region.js';
import type { PciOptions, RegionPlace } from './pci-options.js';
import type { RegisterFile } from './register-file.js';

/** How a region's pages come about. */
export type PageSupply =
  /** The `fault` op is asked for each. */
  | 'ask'
  | 'zeros'
  /** Every byte is this one. */
  | { constant: number }
  /** What is in the array when the device is made; behind its end, zeros. */
  | { image: Uint8Array }
  /** `'offsets'`: each 64-bit word holds its own offset. `'random'`: noise that depends on seed and offset only. */
  | { model: 'offsets' | 'random'; seed?: number };

/** An External that holds a model of registers in native code: see `include/revocable-mmap/register-model.h`. */
export type RegisterModel = object & { readonly __registerModel?: never };

/** `bar` and what follows it say where the region is for programs that other processes open the device by: see `serve()`. */
export interface RegionOptions extends RegionPlace {
  /** Shown in `/proc/PID/maps` and in errors. At most 249 bytes; may be empty, as a memory object's may. Default: the device's name and the region's number. */
  name?: string;
  /** Bytes, at least 1. */
  size: number;
  /**
   * Memory, or registers: each access, checked or raw, calls their model once, the ops `readRegister` and `writeRegister` or `model`.
   * Default `'memory'`.
   */
  kind?: 'memory' | 'registers';
  /** Registers only: native code that answers instead of the ops, in whichever thread the access is made. */
  model?: RegisterFile | RegisterModel;
  /**
   * Where the pages of memory come from at their first touch. All but `'ask'` are supplied by native code. Default: `'ask'` where the
   * device has a `fault` op, `'zeros'` where it has a `pageMkwrite` op only, else none of this: shared memory as any other.
   */
  pages?: PageSupply;
  /** How many pages one fault may bring, where native code supplies them; 1 to 512. Default 1. */
  around?: number;
  /** @internal What it is, where another process made it. */
  _received?: ReceivedMemory;
}

/** A page of one mapping that a thread has touched for the first time (`fault`), or is about to write to (`pageMkwrite`). */
export interface FaultedPage {
  /** Index of the region. */
  readonly region: number;
  /** Number of the page in the region: `offset` in pages. */
  readonly index: number;
  /** First byte of the page, from the start of the region. */
  readonly offset: number;
  /** Number of the page in the mapping. */
  readonly mappingIndex: number;
  /** Names the mapping; the same number its `close` op is called with. */
  readonly mapping: number;
  /** The kernel's id of the thread that waits. */
  readonly thread: number;
  /** It is a write. */
  readonly write: boolean;
  /**
   * The region has the page already: another mapping touched it, the device wrote to it, or it was zapped. Its content stays, whatever
   * the op answers.
   */
  readonly present: boolean;
  /**
   * Aborted when no thread waits for the answer any more: the device or the mapping is gone, or the time is up. An op that rejects with
   * its reason, or with an AbortError, has not failed.
   */
  readonly signal: AbortSignal;
}

/**
 * What becomes of the page: content (more than a page of it also supplies the pages behind, as far as they are untouched; less is
 * followed by zeros), nothing (as it is in the region: zeros where it is new), or the end of the access. Content is copied when the op
 * answers, or its promise is fulfilled; where its buffer has been detached by then the op has failed.
 */
export type FaultAnswer = Uint8Array | 'sigbus' | undefined | void;

/** A mapping of one of the device's regions. */
export interface DeviceMappingInfo {
  /** Names the mapping. */
  readonly mapping: number;
  /** Index of the region. */
  readonly region: number;
  /** First byte, from the start of the region. */
  readonly offset: number;
  readonly length: number;
}

export interface MmapRequest {
  readonly region: number;
  readonly offset: number;
  readonly length: number;
  readonly access: 'r' | 'rw';
}

/** An open file, as the device sees it: the same object for all ops of one {@link DeviceFile}. A place to keep state in. */
export interface OpenFile {
  readonly id: number;
  /** The device's own. */
  data: unknown;
}

/** What an asynchronous op gets besides its arguments. */
export interface OpContext {
  /** Aborted when the device is removed, the file is closed, or the time is up: the caller has its error already. */
  readonly signal: AbortSignal;
}

/**
 * A device's ops. All are optional. They run in the thread that made the device, one at a time but for what they await.
 *
 * An op refuses by throwing an error with an `errno` (see {@link deviceError}): its caller gets it. Anything else that is thrown becomes a
 * {@link DeviceOpError}, and so does an answer that is none: a promise of an op that is synchronous, a count that is no integer.
 */
export interface DeviceOps {
  /**
   * The device is there, and no other code knows it yet: what `probe` is to a driver. Here a model learns which device it is, for `raise`,
   * `notify`, `signal` and its regions. Called once, at the end of the constructor, which throws what it throws.
   *
   * @example
   * ```js
   * attach(device) { this.device = device; }
   * writeRegister(offset) { if (offset === DOORBELL) this.device.raise(); }
   * ```
   */
  attach?(device: Device): void;
  /** A file is opened. Synchronous: the opener waits. */
  open?(file: OpenFile): void;
  /** The last of a file: it is closed, and so is every mapping made through it. Once a file. */
  release?(file: OpenFile): void;
  /** A file is mapped: may refuse, or choose less access. Synchronous. */
  mmap?(file: OpenFile, request: MmapRequest): { access?: 'r' | 'rw' } | void;
  /** A mapping is gone: closed, revoked or collected. Exactly once a mapping. */
  close?(mapping: DeviceMappingInfo): void;
  /** The first touch of a page in a mapping. The toucher waits, at most `opTimeout`. */
  fault?(page: FaultedPage): FaultAnswer | Promise<FaultAnswer>;
  /** The first write to a page in a mapping. `'sigbus'` forbids it: the page becomes read-only there. */
  pageMkwrite?(page: FaultedPage): 'sigbus' | undefined | void | Promise<'sigbus' | undefined | void>;
  /**
   * Fills `target`; answers how many bytes, 0 for the end, at most as many as `target` has. They are copied to the caller's buffer when
   * it has answered, unless the call has ended before.
   */
  read?(file: OpenFile, target: Uint8Array, position: number, context: OpContext): number | Promise<number>;
  /** Takes bytes, of a copy that is the op's own; answers how many, at most as many as `source` has. */
  write?(file: OpenFile, source: Uint8Array, position: number, context: OpContext): number | Promise<number>;
  ioctl?(file: OpenFile, command: number, argument: unknown, context: OpContext): unknown;
  /** What the file is ready for, of {@link POLL}: 0 to 0xffff. Asked again after `device.notify()`. Synchronous. */
  poll?(file: OpenFile): number;
  /**
   * A read of a register, checked or raw: `width` is 1, 2, 4 or 8 bytes, `offset` a multiple of it; a bigint is taken for 8, a number for
   * all. Synchronous: the reader waits.
   */
  readRegister?(offset: number, width: number, region: number): number | bigint;
  /** A write. `value` is a bigint for 8 bytes. Of a raw read-modify-write it comes right after `readRegister`. Synchronous. */
  writeRegister?(offset: number, width: number, value: number | bigint, region: number): void;
}

export interface DeviceOptions {
  /** Not empty, at most 249 bytes with what makes it the default name of a region (`name/0`). */
  name: string;
  /** At least one. */
  regions: RegionOptions[];
  ops?: DeviceOps;
  /** What it is on a PCI bus: for programs that other processes open it by, see `serve()`. */
  pci?: PciOptions;
  /** How long an op may take, in milliseconds. Default 5000. */
  opTimeout?: number;
}

/** Readiness of a {@link DeviceFile}, with the values of poll(2). */
export const POLL = { IN: 0x1, PRI: 0x2, OUT: 0x4, ERR: 0x8, HUP: 0x10 } as const;
