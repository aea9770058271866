import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import { integer, options as checkOptions } from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { codedRangeError, MappingSuspendedError } from '../errors.js';
import type { MemoryObject } from '../memory/memory-object.js';
import { native } from '../native/load.js';
import { later } from '../thread/emit-later.js';
import { goneError } from './device-errors.js';
import type { DeviceFile } from './device-file.js';
import { DeviceDma } from './dma.js';
import type { OpCounts } from './op-counts.js';
import type { DeviceRegion } from './device-region.js';
import type { CheckedPci } from './pci-options.js';
import type { DeviceEvents, DeviceState, RemovalReport } from './device-types.js';
import { Trace, type TraceOptions } from './trace.js';

const DEFAULT_CAPACITY = 2 ** 20;
const MOST_CAPACITY = 2 ** 30;

/** A device as its users have it, in whichever thread its ops run. */
export abstract class DeviceBase extends EventEmitter<DeviceEvents> implements AsyncDisposable {
  readonly name: string;
  abstract readonly regions: readonly DeviceRegion[];
  /** Memory that has been given to the device. */
  readonly dma: DeviceDma;
  /** @internal Files opened in this thread and not closed. */
  readonly _files = new Set<DeviceFile>();
  /** @internal */
  readonly _id: number;
  #over = false;
  readonly #controller = new AbortController();

  static readonly #isOne = branded('Device', this.prototype, (value) => #controller in value);

  /** @internal True if it is a device of this copy of the library. */
  static _is(value: unknown): value is DeviceBase {
    return DeviceBase.#isOne(value);
  }

  /** @internal What it is on a PCI bus; undefined if it has not been said. */
  readonly _pci: CheckedPci | undefined;

  /** @internal */
  constructor(key: symbol, id: number, name: string, pci: CheckedPci | undefined) {
    super();
    requireConstruct(key);
    this._id = id;
    this.name = name;
    this._pci = pci;
    this.dma = new DeviceDma(CONSTRUCT, name);
  }

  /** Removed; suspended, as all its regions are that have not been revoked or closed by themselves; or live. The same in every thread. */
  get state(): DeviceState {
    if (native.deviceState(this._id) !== 0) return 'removed';
    const there = this._regionsThere();
    return there.length > 0 && there.every(({ object }) => object.state === 'suspended') ? 'suspended' : 'live';
  }

  /** Aborted by removal, with the `ENODEV` error as its reason. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** A region by its name or number. @throws RangeError (`ERR_OUT_OF_RANGE`) when there is none. */
  region(which: string | number): DeviceRegion {
    const found = this.regions.find((region) => region.index === which || region.name === which);
    if (found === undefined) throw codedRangeError(`${this.name} has no region ${inspect(which)}`);
    return found;
  }

  /**
   * Opens the device, as open(2) does: calls the `open` op, and blocks until it has answered where the ops run in another thread.
   *
   * @throws `ENODEV` once it is being removed; what the op throws; DeviceOpError.
   */
  abstract open(): DeviceFile;

  /**
   * Surprise removal: from the first instant nothing is opened, mapped or called any more; every region is revoked, waiters are
   * woken with an error, running ops are waited for (at most `opTimeout`), `close` is called once for each mapping and then `release`
   * once for each file. When the promise resolves none of the device's ops runs or will run. Only if one of them calls this, or awaits
   * what does, its promise does not wait for it, nor for other ops that have done so: see `docs/reference/devices.md`.
   *
   * Never rejects. Callers after the first wait for the same removal. Does not block.
   *
   * @param reason becomes the `cause` of this thread's MappingRevokedErrors. Default the `ENODEV` error.
   *
   * @example
   * ```js
   * const { mappings, abandonedOps } = await device.unplug();
   * ```
   */
  abstract unplug(reason?: unknown): Promise<RemovalReport>;

  /**
   * Orderly removal: `'remove-requested'` is emitted on the device and its files, and when all files and mappings have been closed, or
   * `timeout` milliseconds have passed (default 5000), it goes as by {@link unplug}. Does not block.
   *
   * @throws (rejects) TypeError, RangeError on bad options; nothing else.
   */
  abstract remove(options?: { timeout?: number }): Promise<RemovalReport>;

  /** An interrupt: all files' consumers get it. Does nothing once it is removed. */
  abstract raise(vector?: number): void;

  /**
   * Readiness has changed: every thread that polls has the `poll` op asked again. What wake_up on a driver's wait queue is. Does not
   * block, and does nothing once the device is removed.
   */
  abstract notify(): void;

  /**
   * How often each op has been called: a live view of numbers, whichever thread looks, also after the removal. It waits for no thread.
   */
  abstract get opCounts(): Readonly<OpCounts>;

  /**
   * {@link DeviceRegion.zap} of all regions of memory, but of those that have been revoked or closed by themselves. Does not wait for the
   * device's thread.
   *
   * @throws `ENODEV` once the device is being removed; MappingSuspendedError while one of them is suspended, before any page has gone; the
   *   system error of madvise(2).
   */
  zap(): void {
    this._throwIfGone('zap');
    const regions = this._regionsThere().filter(({ kind }) => kind === 'memory');
    const suspended = regions.find(({ object }) => object.state === 'suspended');
    if (suspended !== undefined) throw new MappingSuspendedError({ object: suspended.object.name });
    for (const region of regions) region.object.zap();
  }

  /**
   * Records every access to the device's registers, by whichever thread, from now on: see {@link Trace}. A device may have eight traces
   * at once. Does not block.
   *
   * @throws TypeError, RangeError on bad options; `ENODEV` once the device is being removed; `EMFILE` for a ninth trace; `ENOMEM`.
   *
   * @example
   * ```js
   * const trace = device.trace();
   * device.open().map({ region: 'control' }).write32(0x10, 0xff);
   * trace.stop();
   * for await (const line of trace.lines()) console.log(line); // W 4 control+0x0010 0x000000ff
   * ```
   */
  trace(options?: TraceOptions): Trace {
    const { capacity } = checkOptions('options', options);
    const records = integer('options.capacity', capacity === undefined ? DEFAULT_CAPACITY : capacity, 1, MOST_CAPACITY);
    this._throwIfGone('trace');
    return Trace._start(this, records);
  }

  /**
   * Takes all regions away until {@link resume}: checked accesses throw MappingSuspendedError. What is written to the regions meanwhile
   * is there afterwards. A region that has been revoked or closed by itself is left out. Does not block.
   *
   * @throws (rejects) `ENODEV` once the device is being removed. Whenever it rejects, no region is suspended that was not before.
   */
  async suspend(): Promise<void> {
    await this.#change('suspend');
    this._later(() => this.emit('suspended'));
  }

  /**
   * Gives them back: the same mappings go on. Pages are asked for again at their next touch. A region that has been revoked or closed by
   * itself is left out. Does not block.
   *
   * @throws (rejects) `ENODEV` once the device is being removed; the error of mmap(2), after which all regions are still suspended.
   */
  async resume(): Promise<void> {
    await this.#change('resume');
    this._later(() => this.emit('resumed'));
  }

  #changing: Promise<unknown> = Promise.resolve();

  /** Changes all regions or none, after what has been asked for before. */
  async #change(what: 'suspend' | 'resume'): Promise<void> {
    const change = this.#changing.then(() => this.#changeNow(what));
    this.#changing = change.catch(() => undefined);
    return change;
  }

  async #changeNow(what: 'suspend' | 'resume'): Promise<void> {
    this._throwIfGone(what);
    const objects = this._regionsThere().map(({ object }) => object);
    const before = objects.map(({ state }) => state);
    const results = await Promise.allSettled(objects.map((object) => object[what]()));
    this._throwIfGone(what);
    const failed = results.find((result, i) => result.status === 'rejected' && isThere(objects[i]));
    if (failed === undefined) return;
    const [from, back] = what === 'suspend' ? (['live', 'resume'] as const) : (['suspended', 'suspend'] as const);
    const changed = objects.filter((_, i) => results[i].status === 'fulfilled' && before[i] === from);
    await Promise.allSettled(changed.map((object) => object[back]()));
    throw (failed as PromiseRejectedResult).reason;
  }

  /** @internal The regions that have not been revoked or closed by themselves. */
  _regionsThere(): DeviceRegion[] {
    return this.regions.filter(({ object }) => isThere(object));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unplug();
  }

  [inspect.custom](): string {
    const regions = this.regions.map((region) => `${region.name} ${region.size} B`).join(', ');
    return `Device <${this.name} ${this.state}: ${regions}>`;
  }

  /** @internal */
  _throwIfGone(syscall: string): void {
    if (native.deviceState(this._id) !== 0) throw goneError(syscall);
  }

  /** @internal One more, or less, in this thread waits for the device: a call, or an interrupt. */
  _waiting(_change: 1 | -1): void {
    // Where the ops run in this thread, whatever they wait for keeps it alive.
  }

  /** @internal Emits on a later turn, unless `'removed'` has been emitted by then. */
  protected _later(emit: () => void): void {
    later(() => {
      if (!this.#over) emit();
    });
  }

  /** @internal Emits the last event; `then` is called also if a listener throws. */
  _removed(report: RemovalReport, then?: () => void): void {
    this._later(() => {
      this.#over = true;
      try {
        this.emit('removed', report);
      } finally {
        then?.();
      }
    });
  }

  /** @internal In this thread. */
  protected _removeRequested(): void {
    this._later(() => this.emit('remove-requested'));
    for (const file of this._files) file._removeRequested();
  }

  /** @internal In this thread: files and waits end, and memory that was given to it is out of its reach. */
  _endHere(): void {
    this.dma._end();
    this.#controller.abort(goneError('unplug'));
    for (const file of this._files) file._gone();
  }
}

function isThere({ state }: MemoryObject): boolean {
  return state === 'live' || state === 'suspended';
}
