import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { integer, options as checkOptions } from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { DeviceOpError, invalidType, invalidValue, MappingClosedError } from '../errors.js';
import { prepare } from '../thread/wakeups.js';
import { MemoryObject } from '../memory/memory-object.js';
import { AddonLoadError } from '../native/addon-error.js';
import { native } from '../native/load.js';
import { callElsewhere } from './remote-calls.js';
import { DeviceBase } from './device-base.js';
import type { RemovalReport } from './device-types.js';
import { DeviceFile, type FileBackend } from './device-file.js';
import { goneError, hasCode, isA, isError, messageOf, warnOfOp } from './device-errors.js';
import { drainsElsewhere } from './backing.js';
import { Listeners } from './listeners.js';
import {
  describeError,
  noticeIn,
  revivedError,
  type ErrorNotice,
  type Notice,
  type Request,
  type SpawnData,
} from './worker-messages.js';
import { viewOf, type OpCounts } from './op-counts.js';
import { DeviceRegion } from './device-region.js';
import type { DmaRange } from './dma.js';
import { within } from './within.js';

export interface SpawnOptions {
  /** Given to the module's default export, when that is a function. Cloned. */
  data?: unknown;
}

type Ready = Notice & { type: 'ready' };

interface Pending {
  op: string;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
}

/** Without an answer for so long beyond what ops may take, a worker counts as hung. */
const GRACE_MS = 1000;
const DEFAULT_REMOVE_TIMEOUT = 5000;
const LONGEST_MS = 0x7fff_ffff;

/** A device whose ops run in a worker of its own, as seen from the thread that spawned it. */
export class SpawnedDevice extends DeviceBase {
  readonly regions: readonly DeviceRegion[];
  readonly opTimeout: number;
  readonly #opCounts: Readonly<OpCounts>;
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  readonly #pollers = new Listeners();
  #removal: Promise<RemovalReport> | undefined;
  #workerEnded = false;
  /** The worker's report of the removal; undefined if it ends without one. */
  readonly #reported: Promise<RemovalReport | undefined>;
  #report!: (report: RemovalReport | undefined) => void;

  static {
    branded('Device', this.prototype, (value) => #worker in value);
  }

  /** @internal */
  private constructor(key: symbol, worker: Worker, ready: Ready, regions: DeviceRegion[]) {
    requireConstruct(key);
    super(key, ready.device, ready.name, ready.pci);
    this.#worker = worker;
    this.opTimeout = ready.opTimeout;
    this.#opCounts = viewOf(ready.counts);
    this.regions = regions;
    this.#reported = new Promise((resolve) => (this.#report = resolve));
    drainsElsewhere.set(this._id, (region) => this.#drain(region));
    this.dma._elsewhere = { closes: true, map: (range) => this.#giveRange(range), unmap: (range) => this.#takeRange(range) };
    worker.on('message', (message: unknown) => this.#hear(noticeIn(message)));
    worker.on('error', (error) => this.#failed(error));
    worker.on('exit', () => this.#workerGone());
    worker.unref();
  }

  /** Undefined when the device, or its worker, has gone since it said that it is ready. */
  static #of(worker: Worker, ready: Ready): SpawnedDevice | undefined {
    const regions = attachRegions(ready);
    return regions === undefined ? undefined : new SpawnedDevice(CONSTRUCT, worker, ready, regions);
  }

  /** @internal Device.spawn. */
  static async _start(model: URL | string, options?: SpawnOptions): Promise<SpawnedDevice> {
    const { data } = checkOptions<SpawnOptions>('options', options);
    if (typeof model !== 'string' && !(model instanceof URL))
      throw invalidType('model', 'of type string or an instance of URL', model);
    prepare();
    const workerData: SpawnData = { model: model instanceof URL ? model.href : pathToFileURL(model).href, data };
    const { Worker } = process.getBuiltinModule('node:worker_threads');
    const worker = cloning('options.data', data, () => new Worker(workerProgram(), { workerData }));
    return deviceIn(worker, workerData.model, (ready) => SpawnedDevice.#of(worker, ready));
  }

  open(): DeviceFile {
    this._throwIfGone('open');
    const id = native.token();
    if (callElsewhere(this._id, this.name, 'open', id) === undefined) throw goneError('open');
    return DeviceFile._of(this, id, this.#backend);
  }

  raise(vector = 0): void {
    integer('vector', vector, 0, 0xffff);
    this.#say({ type: 'raise', vector });
  }

  notify(): void {
    this.#say({ type: 'notify' });
  }

  get opCounts(): Readonly<OpCounts> {
    return this.#opCounts;
  }

  async unplug(reason?: unknown): Promise<RemovalReport> {
    const mine = native.deviceShut(this._id);
    return this.#removalFor(reason, mine).then((report) => ({ ...report, removedByThisCall: mine }));
  }

  async remove(options?: { timeout?: number }): Promise<RemovalReport> {
    const { timeout } = checkOptions('options', options);
    const limit = integer('options.timeout', timeout === undefined ? DEFAULT_REMOVE_TIMEOUT : timeout, 0, LONGEST_MS);
    if (this.state !== 'removed') {
      this._removeRequested();
      const unused = this.#ask('remove', { type: 'remove' }).catch(() => undefined); // the worker may end
      await within(limit, unused);
    }
    return this.unplug();
  }

  readonly #backend: FileBackend = {
    map: (file, region, offset, length, access) => {
      const allowed = callElsewhere(this._id, this.name, 'mmap', file, region, offset, length, access === 'rw' ? 1 : 0);
      if (allowed === undefined) throw goneError('mmap');
      return allowed[0] === 1 ? 'rw' : 'r';
    },
    unmap: (file) => this.#giveBack('unmap', file),
    read: (file, length, position, signal) =>
      this.#ask('read', { type: 'read', file, length, position }, signal) as Promise<Uint8Array>,
    write: (file, source, position, signal) =>
      this.#ask('write', { type: 'write', file, source, position }, signal) as Promise<number>,
    ioctl: (file, command, argument, signal) => this.#ask('ioctl', { type: 'ioctl', file, command, argument }, signal),
    poll: (file, signal) => this.#ask('poll', { type: 'poll', file }, signal) as Promise<number>,
    onNotify: (changed) => this.#pollers.add(changed),
    release: (file) => this.#giveBack('release', file),
  };

  #giveBack(op: 'release' | 'unmap', file: number): void {
    try {
      callElsewhere(this._id, this.name, op, file);
    } catch (error) {
      // The worker is busy: it does so when it has time, at the latest when the device is removed.
      if (!isA(error, DeviceOpError)) throw error;
    }
  }

  #say(request: Request): void {
    this.#worker.postMessage(request);
  }

  /** With `signal` it ends when that is aborted: the op may never settle, and nothing waits for it any longer. */
  async #ask(op: string, request: DistributiveOmit<Request & { id: number }, 'id'>, signal?: AbortSignal): Promise<unknown> {
    if (this.#workerEnded) throw goneError(op);
    const id = this.#next++;
    const answer = new Promise((resolve, reject) => this.#pending.set(id, { op, resolve, reject }));
    const cancel = (): void => {
      this.#say({ type: 'cancel', of: id });
      this.#pending.get(id)?.reject(signal!.reason);
    };
    this._waiting(1);
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      const said = { ...request, id } as Request;
      if (said.type === 'ioctl') cloning('argument', said.argument, () => this.#say(said));
      else this.#say(said);
      return await answer;
    } finally {
      signal?.removeEventListener('abort', cancel);
      this.#pending.delete(id);
      this._waiting(-1);
    }
  }

  #waiters = 0;

  /** @internal The process stays alive while a call of this thread waits. */
  override _waiting(change: 1 | -1): void {
    this.#waiters += change;
    if (this.#waiters > 0) this.#worker.ref();
    else this.#worker.unref();
  }

  /** The ranges of DMA memory that the worker knows, by number. */
  readonly #dmaRanges = new Map<number, DmaRange>();

  async #giveRange(range: DmaRange): Promise<void> {
    const key = this.#next++;
    const { address, length, access, offset, _gate: gate } = range;
    this.#dmaRanges.set(key, range);
    const notice = { key, address, length, access, object: range._object?._id ?? -1, offset, gate };
    try {
      await this.#ask('dma', { type: 'dma-map', range: notice });
    } catch (error) {
      this.#dmaRanges.delete(key);
      throw error;
    }
  }

  async #takeRange(range: DmaRange): Promise<void> {
    for (const [key, known] of this.#dmaRanges) {
      if (known !== range) continue;
      this.#dmaRanges.delete(key);
      // What the worker has mapped has been revoked in every thread; one that ends has forgotten the range.
      await this.#ask('dma', { type: 'dma-unmap', key }).catch(() => undefined);
    }
  }

  /** The model accesses a range by messages, or one that is no memory of this process. */
  async #accessRange(of: number, key: number, offset: number, bytes: Uint8Array, access: 'r' | 'w'): Promise<void> {
    try {
      const range = this.#dmaRanges.get(key);
      if (range === undefined) throw goneError('dma');
      await range._copy(offset, bytes, access, true);
      this.#say({ type: 'dma-answer', of, ...(access === 'r' ? { bytes } : {}) });
    } catch (error) {
      this.#say({ type: 'dma-answer', of, error: describeError(error) });
    }
  }

  async #drain(region: number): Promise<void> {
    await within(
      this.opTimeout + GRACE_MS,
      this.#ask('drain', { type: 'drain', region }).catch(() => undefined),
    );
  }

  #hear(notice: Notice | undefined): void {
    switch (notice?.type) {
      case 'answer':
        return this.#answered(notice.id, notice.value, notice.error);
      case 'interrupt':
        for (const file of this._files) file._raise(notice.vector);
        return;
      case 'notify':
        return this.#pollers.call();
      case 'dma-read':
        return void this.#accessRange(notice.of, notice.key, notice.offset, new Uint8Array(notice.length), 'r');
      case 'dma-write':
        return void this.#accessRange(notice.of, notice.key, notice.offset, notice.bytes, 'w');
      case 'remove-requested':
        return this._removeRequested();
      case 'fault':
        return this.#faulted(notice);
      case 'gone':
        return void this.#removalFor(undefined, false);
      case 'removed':
        return this.#report(notice.report);
      case 'ready':
    }
  }

  #answered(id: number, value: unknown, error: ErrorNotice | undefined): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    if (error === undefined) pending.resolve(value);
    else pending.reject(revivedError(error, this.name, pending.op));
  }

  #faulted(notice: Notice & { type: 'fault' }): void {
    const error = notice.error === undefined ? {} : { error: revivedError(notice.error, this.name, notice.info.op) };
    this._later(() => {
      if (this.listenerCount('fault') > 0) this.emit('fault', { ...notice.info, ...error });
      else if (error.error !== undefined) warnOfOp(this.name, notice.info.op, error.error);
    });
  }

  /** An uncaught exception in the worker: it ends, and the device with it. */
  #failed(error: unknown): void {
    const failure = asError(this.name, error);
    this._later(() => {
      if (this.listenerCount('fault') > 0) this.emit('fault', { op: 'worker', cause: 'failed', error: failure });
      else warnOfOp(this.name, 'worker', failure);
    });
  }

  /** The gate has been shut, by this thread (`mine`) or another. The removal is known before listeners hear of it: they may call for it. */
  async #removalFor(reason: unknown, mine: boolean): Promise<RemovalReport> {
    if (this.#removal === undefined) {
      let done!: (report: Promise<RemovalReport>) => void;
      this.#removal = new Promise((resolve) => (done = resolve));
      done(this.#remove(reason, mine));
    }
    return this.#removal;
  }

  async #remove(reason: unknown, mine: boolean): Promise<RemovalReport> {
    // Not left to the worker, which may be in an op that never ends; and first of all, for the threads that wait for a page.
    const mappings = native.deviceMappings(this._id);
    const revocations = this.regions.map((region) => region.object._beginRevoking());
    const files = this._files.size;
    const revoked = Promise.all(revocations.map((go) => go(reason ?? goneError('unplug'))));
    this._waiting(1);
    this._endHere();
    const regions = await revoked;
    this.#say({ type: 'unplug' });
    const theirs = await within(this.opTimeout + GRACE_MS, this.#reported);
    const abandonedOps = this.#workerEnded ? 0 : 1; // if it has not reported: it hangs
    await this.#worker.terminate();
    const here = { device: this.name, regions, mappings, files: theirs?.files ?? files };
    const ours = { ...here, abandonedOps: theirs?.abandonedOps ?? abandonedOps };
    const report = { ...(mine ? ours : (theirs ?? ours)), removedByThisCall: true };
    this._waiting(-1);
    this._removed(report);
    return report;
  }

  #workerGone(): void {
    this.#workerEnded = true;
    this.#report(undefined);
    for (const pending of this.#pending.values()) pending.reject(goneError(pending.op));
    drainsElsewhere.delete(this._id);
    void this.unplug();
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** Undefined when the device has gone. The objects go with their worker, at any moment. */
function attachRegions(ready: Ready): DeviceRegion[] | undefined {
  if (native.deviceState(ready.device) !== 0) return undefined;
  try {
    return ready.regions.map((region, index) => {
      return new DeviceRegion(CONSTRUCT, index, region, MemoryObject._attach(region.object));
    });
  } catch (error) {
    if (error instanceof MappingClosedError) return undefined;
    throw error;
  }
}

/**
 * The device that the worker makes. Rejects with what its module or the device's constructor throws. The model may post messages of its
 * own before. The worker has listeners at every moment: it may fail right after it has said that the device is there, and then what it
 * says and its end are heard in one turn.
 */
async function deviceIn(
  worker: Worker,
  model: string,
  deviceOf: (ready: Ready) => SpawnedDevice | undefined,
): Promise<SpawnedDevice> {
  return new Promise((resolve, reject) => {
    const hear = (message: unknown): void => {
      const notice = noticeIn(message);
      if (notice?.type !== 'ready') return;
      worker.off('message', hear);
      const device = deviceOf(notice);
      if (device === undefined) return void worker.terminate(); // `failed` or `ended` follows
      worker.off('error', failed).off('exit', ended);
      resolve(device);
    };
    const failed = (error: unknown): void => reject(asError(model, error));
    const ended = (): void => reject(new DeviceOpError(model, 'worker', 'ended before the device was there'));
    worker.on('message', hear).on('error', failed).on('exit', ended);
  });
}

/** An exception in a worker, where anything can have been thrown. */
function asError(device: string, error: unknown): Error {
  if (isError(error)) return error;
  return new DeviceOpError(device, 'worker', messageOf(error), 'ERR_DEVICE_OP_FAILED', error);
}

/** Beside this file, but for a bundler that has moved only this one. */
function workerProgram(): string {
  const path = join(__dirname, 'device-worker.js');
  if (existsSync(path)) return path;
  const remedy = 'Device.spawn() needs a file of the package, so leave revocable-mmap out of the bundle (docs/how-to/bundle.md)';
  throw new AddonLoadError('ERR_ADDON_MISSING', `${path} is not there: ${remedy}`);
}

/** Makes a call that clones the user's value. Where it cannot be cloned, Node's error has a number for its code, or is of a getter's. */
function cloning<T>(name: string, value: unknown, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (isError(error) && hasCode(error)) throw error;
    throw invalidValue(name, 'must be what can be cloned', value, error);
  }
}
