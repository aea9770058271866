/**
 * Finds and loads the addon. Every native function is declared and documented here, once.
 *
 * Native code validates nothing: its callers pass numbers that have been checked, in the units named here. It throws
 * nothing either: what can fail answers with a {@link Failure}.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** A failed system call. `errno` is negative, as Node has it. */
export interface Failure {
  errno: number;
  syscall: string;
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

/** A mapping as native code describes it. `fill` is an index into {@link FILLS}. */
export interface MappingDescription {
  id: number;
  /** Index of its word in {@link status}. */
  slot: number;
  address: bigint;
  /** Where the mapping begins in its buffer: not 0 only where its pages are larger than those V8 aligns to. */
  start: number;
  objectId: number;
  offset: number;
  length: number;
  writable: boolean;
  private: boolean;
  fill: number;
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
  /** Of the faulting byte in the mapping. */
  offset: number;
}

export interface Completion {
  token: number;
  failure: Failure | null;
  report: NativeReport;
  byThisCall: boolean;
  /** Index into {@link WAIT_RESULTS}. */
  wait: number;
}

/** Bytes done, and whether the mapping (true) or the other buffer (false) faulted. */
export interface PartialCopy {
  done: number;
  mapping: boolean;
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

export interface Native {
  readonly pageSize: number;
  readonly statusBytes: number;
  /** Index in {@link status} of a word that is this thread's alone and that nobody reads. */
  readonly sink: number;
  readonly advice: Readonly<Record<string, number>>;

  /**
   * Opens what the library needs and maps the status table over the pages of `status`. Mappings are described in `described`, as
   * {@link takeDescription} reads it. Once in each environment.
   */
  start(status: Uint8Array, described: Float64Array): Failure | null;
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

  /**
   * Maps over the memory of `bytes`, from its first address aligned to the object's pages, and describes the mapping. With `at`
   * from its byte `at` on, over what others use as their memory; -1 where it is only there to be mapped over.
   */
  map(
    bytes: Uint8Array,
    at: number,
    objectId: number,
    offset: number,
    length: number,
    writable: boolean,
    priv: boolean,
    fill: number,
    populate: boolean,
    deviceFile: number,
    forDevice: boolean,
  ): Failure | null;
  /** The same with an external ArrayBuffer. */
  mapExternal(
    objectId: number,
    offset: number,
    length: number,
    writable: boolean,
    priv: boolean,
    fill: number,
    populate: boolean,
    deviceFile: number,
    forDevice: boolean,
  ): ArrayBuffer | Failure;
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
  /** Whether `view` shows a part of the memory that as many bytes of the mapping from `offset` on are. */
  overlaps(id: number, offset: number, view: NodeJS.ArrayBufferView): boolean;
  /** Copies from one buffer to another, either of which may be a view of a mapping. */
  takeBytes(source: Uint8Array, target: Uint8Array, failures: number): PartialCopy | undefined;
  /** One attempt on another thread, out of the mapping or, with `source`, into it; the completion carries the token. */
  copyAsync(id: number, offset: number, bytes: number, source: Uint8Array | undefined, failures: number): number | Failure;
  /** Undefined when all has been copied and was real; what was read goes to `target`. */
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
   * Whether a touch of the range would be a backing fault now; `result` becomes the byte and an index into {@link CAUSES}. Brings in what
   * is there, and marks nothing as lost.
   */
  firstUnbacked(id: number, firstByte: number, bytes: number, write: boolean, result: Float64Array): boolean;

  /** Shuts the gate and revokes; {@link takeReport} has the outcome. */
  revokeSync(objectId: number): void;
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

  /** A simulated device whose ops run in this thread. */
  deviceCreate(name: string, limitMs: number): number;
  /** Starts what supplies pages: needed before the first region with a supply. `asked`: this thread will be asked for some. */
  pagerStart(writeFaults: boolean, asked: boolean): Failure | null;
  /** A region's memory object. `supply` is an index into {@link SUPPLIES}, or -1: shared memory as any other. */
  deviceRegion(
    deviceId: number,
    index: number,
    size: number,
    name: string,
    registers: boolean,
    supply: number,
    content: Uint8Array | undefined,
    seed: number,
    around: number,
    askBeforeWrite: boolean,
    model: object | undefined,
  ): number | Failure;
  /** How many milliseconds an op may take; its name. */
  deviceLimit(deviceId: number): number;
  deviceName(deviceId: number): string;
  /** 0: there. 1: shut. 2: forgotten. */
  deviceState(deviceId: number): number;
  /** From now on nothing is mapped, asked or called; true when this call did it. */
  deviceShut(deviceId: number): boolean;
  /** Shuts it and revokes its regions, in this call: its thread ends. */
  deviceAbandon(deviceId: number): void;
  deviceForget(deviceId: number): void;
  /** How many of its mappings are open, in all threads. */
  deviceMappings(deviceId: number): number;
  /** What there is to do, {@link WORK_NUMBERS} numbers each: {@link WORK_KINDS}, token, and what the kind says. */
  takeDeviceWork(deviceId: number, numbers: Float64Array): number;
  /** Whether a page that was asked for is still waited for. */
  faultIsAsked(token: number): boolean;
  accessIsAsked(token: number): boolean;
  /**
   * Answers a fault: an index into {@link FAULT_ANSWERS}, and content, of which `most` bytes are wanted. False when nobody waits for it any
   * more. Nothing is answered where the content cannot be read: `EDEADLK` where this thread would have to supply it itself.
   */
  answerFault(token: number, kind: number, content?: Uint8Array, most?: number): boolean | Failure;
  selfFaults(id: number): number;
  /** Asks the device's owner, with seven numbers; a token to wait with, or 0 when the device is gone. */
  deviceCall(deviceId: number, numbers: Float64Array): number;
  /** Whether it has been settled. */
  deviceCallWait(token: number, milliseconds: number): boolean;
  /**
   * Waits no longer. The message of an error that has no errno; `numbers` gets an index into {@link CALL_RESULTS}, errno and the value's
   * low and high 32 bits. `withdraw`: an op that has not been called yet never will be.
   */
  deviceCallEnd(token: number, numbers: Float64Array, withdraw: boolean): string;
  /** Begins a trace of the device's registers, with room for so many accesses. A token. */
  traceOpen(deviceId: number, capacity: number): number | Failure;
  /**
   * Takes accesses, in order: how many. `numbers` gets how many were lost before them, whether nothing more will come, and for each
   * access {@link TRACE_NUMBERS} numbers: milliseconds since the trace began, thread, region, offset, width, {@link TRACE_FLAGS}, low and
   * high 32 bits of the value. Once there is nothing, this thread is rung as soon as there is.
   */
  traceTake(token: number, numbers: Float64Array): number;
  /** How many have been lost, ever. */
  traceLost(token: number): number;
  traceStop(token: number): void;
  traceClose(token: number): void;
  /** Index of a word in {@link status}: 0 while no trace of the device records. */
  traceWord(deviceId: number): number;
  traceAccess(
    deviceId: number,
    thread: number,
    region: number,
    offset: number,
    width: number,
    flags: number,
    low: number,
    high: number,
  ): void;
  answerCall(deviceId: number, token: number, errno: number, low: number, high: number, message: string): boolean;
  /** A number that no other call in this process gets. */
  token(): number;
  /** The kernel's id of the calling thread. */
  threadId(): number;
  /**
   * Which device's region an object is. `native`: its registers have a model in native code; `asking`: for some of them JavaScript answers
   * all the same; `raw`: raw accesses reach them.
   * `supplied`: its pages come at their first touch; `asks`: its ops may be asked then.
   */
  objectDevice(objectId: number): {
    device: number;
    region: number;
    registers: boolean;
    native: boolean;
    asking: boolean;
    raw: boolean;
    supplied: boolean;
    asks: boolean;
  } | null;
  /**
   * A model; of each register six numbers: offset, width, index into {@link REGISTER_KINDS}, the value's low and high 32 bits, and when
   * JavaScript answers: {@link ASKS_READS}, {@link ASKS_WRITES}.
   */
  registerFile(numbers: Float64Array, ones: boolean): object;
  /** Gets or sets the value of one of its registers, without the effects of an access; low and high 32 bits in `numbers`. */
  registerValue(model: object, index: number, numbers: Float64Array, set: boolean): void;
  /** Whether it is an External of include/revocable-mmap/register-model.h. */
  isRegisterModel(value: unknown): boolean;
  /**
   * What a raw access that reads and writes puts where the model has just read a value: its low and high 32 bits in `numbers`. False
   * when it puts nothing.
   */
  combineAccess(deviceId: number, token: number, low: number, high: number, numbers: Float64Array): boolean;
  /** The model's answer to a raw access. False when nobody waits for it any more. */
  answerAccess(deviceId: number, token: number, failed: boolean, low: number, high: number): boolean;
  /**
   * One access to a register whose model is native code; its value's low and high 32 bits are in `numbers`. False when it is gone; null
   * when JavaScript answers, and nothing has been done.
   */
  registerAccess(objectId: number, write: boolean, offset: number, width: number, numbers: Float64Array): boolean | null;
  /** What native code does for an access that JavaScript answers, which is not traced by it. Also when the device has gone meanwhile. */
  registerAccessAsked(
    model: object,
    objectId: number,
    write: boolean,
    offset: number,
    width: number,
    numbers: Float64Array,
  ): void;
  /**
   * How many raw accesses did not reach the model of the mapping's registers; of the last one, an index into CAUSES, and the offset. -1
   * while none does: the device is going, or suspended.
   */
  rawFailures(id: number, numbers: Float64Array): number;
  eventfdOpen(): number | Failure;
  eventfdSignal(fd: number): void;

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
   * Touches `count` places of the mapping, from the `from`-th of the order on; `times` gets the nanoseconds of each.
   * Returns the nanoseconds of all.
   */
  touch(
    id: number,
    firstByte: number,
    places: number,
    stride: number,
    width: number,
    write: boolean,
    random: boolean,
    seed: number,
    from: number,
    count: number,
    times: Uint32Array | null,
  ): number;
  /** What timing nothing costs. */
  clockNs(): number;
  /** Of the calling thread: faults minor and major, context switches voluntary and not, microseconds of user and system time. */
  threadUsage(result: Float64Array): void;
  perfOpen(type: number, config: number): { fd: number; userOnly: boolean } | Failure;
  perfRead(fd: number): number | Failure;
  perfClose(fd: number): void;
  threadPin(processors: readonly number[]): Failure | null;
  threadProcessors(): number[] | Failure;
}

export const STATES = ['live', 'suspended', 'revoked', 'closed'] as const;
export const FILLS = ['zeros', 'ones', 'signal'] as const;
export const SCOPES = ['by-cause', 'page', 'object'] as const;
export const ACCESS = ['base', 'none', 'r', 'rw'] as const;
export const CAUSES = ['none', 'past-end', 'no-space', 'poisoned', 'unknown', 'refused', 'failed', 'no-answer'] as const;
export const VERDICTS = ['fine', 'stray', 'protected', 'read-only', 'lost', 'unsettled'] as const;
/** Names and numbers of fcntl(2)'s F_SEAL_…, the kernel's user ABI. */
export const SEALS = { seal: 0x01, shrink: 0x02, grow: 0x04, write: 0x08, 'future-write': 0x10, exec: 0x20 } as const;
export const WAIT_RESULTS = ['ok', 'not-equal', 'timed-out', 'gone', 'faulted', 'cancelled', 'pending'] as const;
export const EVENT_KINDS = [
  'object-changed',
  'mapping-closed',
  'backing',
  'protection',
  'revoked',
  'displaced',
  'self',
  'refused',
] as const;
export const REGISTER_KINDS = ['rw', 'ro', 'w1c', 'w1s', 'rc', 'counter', 'wo', 'rs', 'wc'] as const;
export const ASKS_READS = 1;
export const ASKS_WRITES = 2;
export const SUPPLIES = ['ask', 'zeros', 'constant', 'image', 'offsets', 'random'] as const;
export const FAULT_ANSWERS = ['content', 'as-it-is', 'refused', 'failed'] as const;
export const WORK_KINDS = ['fault', 'write-fault', 'expired', 'call', 'mapping-ended', 'access'] as const;
export const WORK_NUMBERS = 10;
export const TRACE_HEAD = 2;
export const TRACE_NUMBERS = 8;
export const TRACE_FLAGS = { write: 1, raw: 2, failed: 4 } as const;
export const CALL_RESULTS = ['pending', 'done', 'gone'] as const;

/** Low bits of a status word: the state. 0 as a whole word means live, and never anything else. */
export const STATUS_STATE = 3;
/** Flag of a status word: pages are lost, protected or diverted; ask {@link Native.judge} about the page. */
export const STATUS_MARKED = 4;
/**
 * What is 0 of a live mapping with nothing special. The other bits are a number that is another one whenever what its pages show may have
 * changed: the same word before and after an access says that nothing happened between.
 */
export const STATUS_SPECIAL = STATUS_STATE | STATUS_MARKED;
/** Flag of an object's state: the revocation is complete. */
export const REVOKE_DONE = 0x80;
/** The slot whose word is `closed` for ever. */
export const CLOSED_SLOT = 0;

const ROOT = join(__dirname, '..', '..');
const CANDIDATES = [join(ROOT, 'prebuilds', `linux-${process.arch}.node`), join(ROOT, 'build', 'Release', 'revocable_mmap.node')];

function load(): Native {
  if (process.platform !== 'linux') throw new Error(`revocable-mmap works on Linux only, not on ${process.platform}`);
  const path = CANDIDATES.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new Error(
      `revocable-mmap: there is no native addon for linux-${process.arch}. ` +
        `Build it with "npm run build:native" in ${ROOT} (needs g++, make and python3). Looked for:\n  ${CANDIDATES.join('\n  ')}`,
    );
  }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- a .node file can only be required
    return require(path) as Native;
  } catch (cause) {
    throw new Error(`revocable-mmap: the native addon ${path} does not load: ${(cause as Error).message}`, { cause });
  }
}

export const native: Native = load();

/**
 * What all copies of this JavaScript in one thread have in common: a cleared require cache, or a test runner's module registry,
 * loads the JavaScript again, but not the addon.
 */
interface Shared {
  statusBuffer: SharedArrayBuffer;
  described: Float64Array;
  started: boolean;
  /** What {@link onceInThread} has done. */
  done: Set<string>;
  /** Registries of `thread/identities.ts` and `thread/wakeups.ts`, by name. */
  registries: Map<string, Map<number, unknown>>;
}

function newShared(): Shared {
  const statusBuffer = new SharedArrayBuffer(native.statusBytes, { maxByteLength: native.statusBytes });
  return { statusBuffer, described: new Float64Array(DESCRIBED), started: false, done: new Set(), registries: new Map() };
}

/** How many numbers describe a mapping. */
const DESCRIBED = 10;

const shared: Shared = ((native as Native & { shared?: Shared }).shared ??= newShared());

const described = shared.described;

/** One word a mapping, shared with every thread and with the fault handler once {@link start} has mapped it. */
export const status: Int32Array = new Int32Array(shared.statusBuffer, 0, native.statusBytes / 4);

/** The same memory by 64 bits. */
export const status64: BigUint64Array = new BigUint64Array(shared.statusBuffer, 0, native.statusBytes / 8);

/** Prepares this thread; a no-op from the second call on. Importing the package alone changes nothing in the process. */
export function start(): Failure | null {
  if (shared.started) return null;
  const failure = native.start(new Uint8Array(shared.statusBuffer, 0, native.statusBytes), described);
  shared.started = failure === null;
  return failure;
}

/** The mapping that native code has just described. */
export function takeDescription(): MappingDescription {
  const d = described;
  return {
    id: d[0],
    slot: d[1] | 0,
    address: BigInt(d[2]),
    start: small(d[3]),
    objectId: small(d[4]),
    offset: small(d[5]),
    length: small(d[6]),
    writable: d[7] !== 0,
    private: d[8] !== 0,
    fill: d[9] | 0,
  };
}

/** Of the revocation that native code has just made, and whether it was this call that made it. */
export function takeReport(): NativeReport & { mine: boolean } {
  const d = described;
  return {
    mine: d[0] !== 0,
    mappings: small(d[1]),
    truncated: d[2] !== 0,
    replaced: small(d[3]),
    protected: small(d[4]),
    failed: small(d[5]),
    durationUs: d[6],
  };
}

/** What the next call of {@link Native.readBytes} or {@link Native.writeBytes} copies: beside its arguments, as those cost more. */
export function orderCopy(id: number, offset: number, bytes: number, failures: number): void {
  described[0] = id;
  described[1] = offset;
  described[2] = bytes;
  described[3] = failures;
}

/** The same number. Out of a Float64Array V8 keeps each as a double on its heap, to be converted at every use. */
function small(value: number): number {
  return (value | 0) === value ? value | 0 : value;
}

/** A map that all copies of the library in this thread share. */
export function sharedRegistry<T>(name: string): Map<number, T> {
  const found = shared.registries.get(name) ?? new Map<number, unknown>();
  shared.registries.set(name, found);
  return found as Map<number, T>;
}

/** Calls `act` once in this thread, however many copies of the library it loads: for listeners that stay. */
export function onceInThread(name: string, act: () => void): void {
  if (shared.done.has(name)) return;
  shared.done.add(name);
  act();
}

export function isFailure(value: unknown): value is Failure {
  return typeof value === 'object' && value !== null && 'errno' in value;
}
