import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import { abortSignal, boolean, notEmpty, options as checkOptions, string } from '../arguments.js';
import { branded } from '../brands.js';
import { invalidType, invalidValue } from '../errors.js';
import { later } from '../thread/emit-later.js';
import { DeviceBase } from './device-base.js';
import type { RemovalReport } from './device-types.js';
import { PushIterator } from './push-iterator.js';

export type HotplugAction = 'add' | 'change' | 'remove';

/**
 * What the kernel's uevents say, in their order: ACTION, DEVPATH, SUBSYSTEM, DEVNAME, SEQNUM. `generation` and `device` are this
 * library's.
 */
export interface HotplugEvent {
  readonly ACTION: HotplugAction;
  readonly DEVPATH: string;
  readonly SUBSYSTEM: string;
  readonly DEVNAME: string;
  /** Grows by one with each event of any bus in this thread, as the kernel's does. */
  readonly SEQNUM: number;
  /** How many devices have had this name on this bus: a device that comes back is a new one. */
  readonly generation: number;
  readonly device: DeviceBase;
}

interface BusEvents {
  add: [event: HotplugEvent];
  change: [event: HotplugEvent];
  remove: [event: HotplugEvent];
  /** Each of the above. */
  event: [event: HotplugEvent];
  close: [];
}

let lastSeqnum = 0;

/** Keeps the process alive while it is referenced: `setInterval`'s longest. */
const IDLE_MS = 0x7fff_ffff;

/**
 * Where devices come and go.
 *
 * Events are emitted on a later turn, in the order of their SEQNUM, and can be iterated: `for await (const event of bus)`. A device that is
 * unplugged by whomever leaves the bus. A name is free again when its device has been removed; the next device of that name is another
 * one, with another generation, and old files and mappings stay dead.
 *
 * A bus keeps no process alive, unless `ref()` says so.
 */
export class Bus extends EventEmitter<BusEvents> implements AsyncIterable<HotplugEvent>, Disposable {
  /** SUBSYSTEM of its events. */
  readonly subsystem: string;
  readonly #devices = new Map<string, DeviceBase>();
  /** Each removes the bus's listener from the signal of the device. */
  readonly #unsubscribe = new Map<DeviceBase, () => void>();
  readonly #generations = new Map<string, number>();
  readonly #iterations = new Set<PushIterator<HotplugEvent>>();
  #keepAlive: NodeJS.Timeout | undefined;
  #closed = false;

  static {
    branded('Bus', this.prototype, (value) => #devices in value, { iterables: ['events', Symbol.asyncIterator] });
  }

  /** @throws TypeError (`ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`) for a `subsystem` that is no string, or empty. */
  constructor(options?: { subsystem?: string }) {
    super();
    const { subsystem } = checkOptions('options', options);
    this.subsystem = notEmpty('options.subsystem', string('options.subsystem', subsystem, 'simulated'));
  }

  /** The devices that are there, by name: a snapshot. */
  get devices(): ReadonlyMap<string, DeviceBase> {
    return new Map(this.#devices);
  }

  get(name: string): DeviceBase | undefined {
    return this.#devices.get(name);
  }

  /**
   * A device appears.
   *
   * @throws TypeError `ERR_INVALID_ARG_VALUE` when its name is taken, it has been removed, or the bus closed; for what is no device.
   */
  add(device: DeviceBase): HotplugEvent {
    if (!DeviceBase._is(device)) throw invalidType('device', 'an instance of Device', device);
    if (this.#closed) throw invalidValue('device', 'cannot be added to a bus that has been closed', device.name);
    if (device.state === 'removed') throw invalidValue('device', 'must not have been removed', device.name);
    // Its worker has removed it, and this thread has not heard of that yet.
    const before = this.#devices.get(device.name);
    if (before?.state === 'removed') this.#left(before);
    if (this.#devices.has(device.name)) throw invalidValue('device', 'must have a name that is free on the bus', device.name);
    this.#devices.set(device.name, device);
    this.#generations.set(device.name, (this.#generations.get(device.name) ?? 0) + 1);
    const left = (): void => this.#left(device);
    device.signal.addEventListener('abort', left, { once: true });
    this.#unsubscribe.set(device, () => device.signal.removeEventListener('abort', left));
    return this.#announce('add', device);
  }

  /** Tells that something about a device is different. */
  change(device: DeviceBase | string): HotplugEvent {
    return this.#announce('change', this.#find(device));
  }

  /**
   * Removes a device: orderly, or with `surprise` as if it were pulled out. The event comes when it is gone for its users, which with
   * `surprise` is at once.
   *
   * @throws (rejects) TypeError `ERR_INVALID_ARG_VALUE` when it is not on the bus.
   */
  async remove(device: DeviceBase | string, options?: { surprise?: boolean; timeout?: number }): Promise<RemovalReport> {
    const found = this.#find(device);
    const { surprise, timeout } = checkOptions('options', options);
    return boolean('options.surprise', surprise, false)
      ? found.unplug()
      : found.remove(timeout === undefined ? undefined : { timeout });
  }

  /**
   * The events from now on. The iteration ends when the bus is closed, or by throwing the signal's reason. On bad arguments its first step
   * throws.
   */
  events(options?: { signal?: AbortSignal }): AsyncIterableIterator<HotplugEvent> {
    const signal = abortSignal('options.signal', checkOptions('options', options).signal);
    signal?.throwIfAborted();
    const stop = (): void => iteration.end({ reason: signal!.reason as Error });
    const iteration = new PushIterator<HotplugEvent>(() => {
      this.#iterations.delete(iteration);
      signal?.removeEventListener('abort', stop);
    });
    signal?.addEventListener('abort', stop, { once: true });
    if (this.#closed) iteration.end();
    else this.#iterations.add(iteration);
    return iteration.iterator;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<HotplugEvent> {
    return this.events();
  }

  /** Keeps the process alive until {@link unref} or {@link close}. */
  ref(): this {
    if (!this.#closed) this.#keepAlive ??= setInterval(() => undefined, IDLE_MS);
    return this;
  }

  unref(): this {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
    return this;
  }

  hasRef(): boolean {
    return this.#keepAlive !== undefined;
  }

  /** Ends its iterations, and listens to its devices no longer. The devices go on. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.unref();
    for (const unsubscribe of this.#unsubscribe.values()) unsubscribe();
    this.#unsubscribe.clear();
    this.#devices.clear();
    for (const iteration of this.#iterations) iteration.end();
    later(() => this.emit('close'));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    return `Bus <${this.subsystem}: ${[...this.#devices.keys()].join(', ')}>`;
  }

  #find(device: DeviceBase | string): DeviceBase {
    const name = typeof device === 'string' ? device : DeviceBase._is(device) ? device.name : undefined;
    if (name === undefined) throw invalidType('device', 'of type string or an instance of Device', device);
    const found = this.#devices.get(name);
    if (found === undefined || (typeof device !== 'string' && found !== device)) {
      throw invalidValue('device', 'must be on the bus', name);
    }
    return found;
  }

  #left(device: DeviceBase): void {
    if (this.#devices.get(device.name) !== device) return;
    this.#devices.delete(device.name);
    this.#unsubscribe.get(device)!();
    this.#unsubscribe.delete(device);
    this.#announce('remove', device);
  }

  #announce(action: HotplugAction, device: DeviceBase): HotplugEvent {
    const event: HotplugEvent = {
      ACTION: action,
      DEVPATH: `/devices/${this.subsystem}/${device.name}`,
      SUBSYSTEM: this.subsystem,
      DEVNAME: device.name,
      SEQNUM: ++lastSeqnum,
      generation: this.#generations.get(device.name)!,
      device,
    };
    for (const iteration of this.#iterations) iteration.push(event);
    later(() => {
      if (this.#closed) return;
      this.emit(action, event);
      this.emit('event', event);
    });
    return event;
  }
}
