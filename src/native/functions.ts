/**
 * Every native function, declared and documented once; those of simulated devices in `device-functions.ts`.
 *
 * Native code validates nothing: its callers pass numbers that have been checked, in the units named here. It throws
 * nothing either: what can fail answers with a {@link Failure}.
 */
import type { DeviceFunctions } from './device-functions.js';
import type { SocketFunctions } from './socket-functions.js';

/** A failed system call. `errno` is negative, as Node has it. */
export interface Failure {
  errno: number;
  syscall: string;
}

export function isFailure(value: unknown): value is Failure {
  return typeof value === 'object' && value !== null && 'errno' in value;
}

/** What the kernel was asked to do in a revocation, as the report counts it. */
export interface NativeReport {
  mappings: number;
  truncated: boolean;
  replaced: number;
  protected: number;
  failed: number;
  durationUs: number;
}

/** What a mapping is of, and how it is made. */
interface MappedRange {
  objectId: number;
  offset: number;
  length: number;
  writable: boolean;
  private: boolean;
  /** Index into {@link FILLS}. */
  fill: number;
}

/** A mapping as native code describes it. */
export interface MappingDescription extends MappedRange {
  id: number;
  /** Index of its word in {@link status}. */
  slot: number;
  address: bigint;
  /** Where the mapping begins in its buffer: not 0 only where its pages are larger than those V8 aligns to. */
  start: number;
}

/** What is to be mapped, as native code takes it. */
export interface MapOrder extends MappedRange {
  /**
   * From which byte of the buffer on, over what others use as their memory; -1 where the buffer is only there to be mapped over, from its
   * first address aligned to the object's pages.
   */
  at: number;
  populate: boolean;
  /** The file of a device through which it is made, or 0. */
  deviceFile: number;
  /** The device's own view, for whose pages no op is called. */
  forDevice: boolean;
}

export interface ObjectDescription {
  name: string;
  owned: boolean;
  writable: boolean;
  fd: number;
  /** A regular file, memfd or block device: its pages end where it ends. */
  sized: boolean;
  pageSize: number;
}

export interface NativeEvent {
  /** Index into {@link EVENT_KINDS}. */
  kind: number;
  /** Index into {@link CAUSES}. */
  cause: number;
  write: boolean;
  region: number;
  object: number;
  /** The faulting byte, from the start of the mapping. */
  offset: number;
}

export interface Completion {
  token: number;
  failure: Failure | null;
  /** A {@link REPORT}, for {@link reportIn}, of a revocation or suspension; null of anything else. */
  report: Float64Array | null;
  byThisCall: boolean;
  /** Index into {@link WAIT_RESULTS}. */
  wait: number;
}

/** Bytes done, and whether the mapping (true) or the other buffer (false) faulted. */
export interface PartialCopy {
  done: number;
  mapping: boolean;
}

/** Which places of a mapping are touched, and how. */
export interface TouchPlan {
  /** The first place. */
  offset: number;
  places: number;
  stride: number;
  width: number;
  write: boolean;
  random: boolean;
  seed: number;
}

export type NativeStats = Record<
  | 'mapped'
  | 'live'
  | 'suspended'
  | 'revoked'
  | 'closed'
  | 'revokes'
  | 'suspends'
  | 'resumes'
  | 'faultsRevoked'
  | 'faultsSuspended'
  | 'faultsBacking'
  | 'faultsProtection'
  | 'faultsChecked'
  | 'faultsShared'
  | 'fills'
  | 'foreign'
  | 'eventsDropped'
  | 'displacements'
  | 'pagesSupplied'
  | 'pagesAsked'
  | 'selfFaults'
  | 'answersDiscarded'
  | 'accessesRefused',
  number
>;

export interface Native extends DeviceFunctions, SocketFunctions {
  readonly pageSize: number;
  readonly statusBytes: number;
  /** Index in {@link status} of a word that only this thread writes and that no thread reads. */
  readonly sink: number;
  readonly advice: Readonly<Record<string, number>>;

  /**
   * Opens what the library needs and maps the status table over the pages of `status`. Mappings are described in `described`, as
   * {@link takeDescription} reads it. `libuv`: the event loop is libuv's. Once in each environment.
   */
  start(status: Uint8Array, described: Float64Array, libuv: boolean): Failure | null;
  features(): { procmapQuery: boolean; futexWaitv: boolean; guard: boolean };

  /** `seals` are those besides GROW and SEAL: the bits of {@link SEALS}. */
  objectCreate(size: number, hugePages: boolean, name: string, seals: number, content: Uint8Array | undefined): number | Failure;
  objectOpen(path: Uint8Array, writable: boolean, scope: number, name: string): number | Failure;
  objectFromFd(fd: number, writable: boolean, scope: number, name: string): number | Failure;
  /** Takes one more hold on an object that another thread may have made; false when it is gone. */
  objectAcquire(id: number): boolean;
  objectRelease(id: number): void;
  objectInfo(id: number): ObjectDescription;
  /** State in the low bits, {@link REVOKE_DONE}, and in the next byte the cause of a revocation by a backing fault. */
  objectState(id: number): number;
  objectSize(id: number): number | Failure;
  objectRevokedByOwner(id: number): boolean;
  /** The bits of {@link SEALS}; 0 of what cannot be sealed. */
  objectSeals(id: number): number;
  objectClose(id: number): boolean;
  /** Forgets the content of whole pages. */
  objectDiscard(id: number, offset: number, length: number): Failure | null;

  /** Maps what {@link orderMapping} has said over the memory of `bytes`, and describes the mapping. */
  map(bytes: Uint8Array): Failure | null;
  /** The same with an external ArrayBuffer. */
  mapExternal(): ArrayBuffer | Failure;
  /** One more handle, in this environment, and describes the mapping; false when it is gone or one of the two is not its memory. */
  attach(id: number, bytes: Uint8Array, same: Uint8Array): boolean | Failure;
  attached(id: number): boolean;
  /** Gives a handle back. With `close` the mapping ends for every thread. */
  release(id: number, close: boolean): void;
  faults(id: number): number;
  protect(id: number, firstPage: number, pages: number, access: number): Failure | null;
  remapPages(id: number, firstPage: number, pages: number, objectOffset: number): Failure | null;

  /**
   * Copies what {@link orderCopy} has said. Undefined when all of it has been copied; false for a view of fewer bytes; null, and nothing
   * copied, for a view of memory that overlaps it.
   */
  readonly readBytes: (target: NodeJS.ArrayBufferView) => PartialCopy | undefined | false | null;
  readonly writeBytes: (source: NodeJS.ArrayBufferView) => PartialCopy | undefined | false | null;
  /** True if `view` shows a part of the memory that as many bytes of the mapping from `offset` on are. */
  overlaps(id: number, offset: number, view: NodeJS.ArrayBufferView): boolean;
  /** Copies from one buffer to another, either of which may be a view of a mapping. */
  takeBytes(source: Uint8Array, target: Uint8Array, failures: number): PartialCopy | undefined;
  /** One attempt on another thread, out of the mapping or, with `source`, into it; null: one byte, to itself. The completion carries the token. */
  copyAsync(id: number, offset: number, bytes: number, source: Uint8Array | null | undefined, failures: number): number | Failure;
  /** Undefined when all has been copied and was valid; what was read goes to `target`. */
  copyEnd(token: number, target?: Uint8Array): PartialCopy | undefined;
  /** One guarded load of 1, 2, 4 or 8 bytes; undefined when it faulted. `failures`: how often it has before. */
  load(id: number, offset: number, width: number, failures: number): number | bigint | undefined;
  store(id: number, offset: number, width: number, value: number | bigint, failures: number): boolean;
  /**
   * The first byte of the range that the object's file, of `size` bytes, no longer has; -1 for none. Within the last page of the file
   * bytes count that it had when the mapping was made, or at an earlier call of this.
   */
  firstBytePastEnd(id: number, offset: number, length: number, size: number): number;
  /** Which byte of the object byte `offset` of the mapping is. */
  objectOffset(id: number, offset: number): number;
  /** What the marks of the pages say of an access: `result` becomes verdict, cause, first byte concerned. */
  judge(id: number, offset: number, width: number, write: boolean, result: Float64Array): void;

  advise(id: number, firstByte: number, bytes: number, advice: number): Failure | null;
  sync(id: number, firstByte: number, bytes: number): Failure | null;
  lock(id: number, firstByte: number, bytes: number): Failure | null;
  unlock(id: number, firstByte: number, bytes: number): Failure | null;
  residency(id: number, firstByte: number, bytes: number, target: Uint8Array): Failure | null;
  prefetch(id: number, firstByte: number, bytes: number): Failure | null;
  /**
   * True if a touch of the range would be a backing fault now; `result` becomes the byte and an index into {@link CAUSES}. Brings in what
   * is there, and marks nothing as lost.
   */
  firstUnbacked(id: number, firstByte: number, bytes: number, write: boolean, result: Float64Array): boolean;

  /** Shuts the gate and revokes; true if this call did it. {@link takeReport} has the outcome. */
  revokeSync(objectId: number): boolean;
  /** The same on the library's thread; the gate is shut when it returns, and the completion carries the token. */
  revokeAsync(objectId: number): { token: number; mine: boolean };
  suspendAsync(objectId: number): number;
  resumeAsync(objectId: number): number;
  zap(objectId: number, offset: number, length: number): Failure | null;
  takeCompletions(): Completion[] | null;

  /** Null when the mapping is closed, as of {@link waitAsync}. */
  waitBegin(id: number, offset: number, expected: number): object | null;
  /** Blocks for at most so many milliseconds. */
  waitSlice(wait: object, milliseconds: number): number;
  waitEnd(wait: object): void;
  /** On a thread of its own; -1 milliseconds is no limit. */
  waitAsync(id: number, offset: number, expected: number, milliseconds: number): number | null | Failure;
  waitCancel(token: number): void;
  wake(id: number, offset: number, count: number): number;

  setNotify(callback: () => void): void;
  takeEvents(): { events: NativeEvent[]; dropped: number } | null;
  /**
   * Its completion, which carries the token, comes after whatever the library's threads had to do or to send when this was called: what a
   * test of "nothing more comes" waits for.
   */
  barrier(): number;
  checkHandlers(): void;
  /** True for the first caller in the process. */
  claimWarning(): boolean;
  stats(): NativeStats;

  /**
   * Touches `count` places of the mapping, from the `from`-th of the plan's order on; `times` gets the nanoseconds of each. Returns the
   * nanoseconds of all.
   */
  touch(id: number, plan: TouchPlan, from: number, count: number, times: Uint32Array | null): number;
  /** What timing nothing costs. */
  clockNs(): number;
  /** The calling thread's use: faults minor and major, context switches voluntary and not, microseconds of user and system time. */
  threadUsage(result: Float64Array): void;
  perfOpen(type: number, config: number): { fd: number; userOnly: boolean } | Failure;
  perfRead(fd: number): number | Failure;
  perfClose(fd: number): void;
  threadPin(processors: readonly number[]): Failure | null;
  threadProcessors(): number[] | Failure;
}
