import { EventEmitter } from 'node:events';
import { closeSync } from 'node:fs';
import { inspect } from 'node:util';
import { osConstants } from '../os-constants.js';
import { abortSignal, asBytes, bytesView, integer, oneOf, options as checkOptions } from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { invalidType, outOfRange, shortened, systemError } from '../errors.js';
import { unwrap } from '../thread/wakeups.js';
import type { Mapping } from '../memory/mapping.js';
import type { MapOptions } from '../memory/map-options.js';
import { native } from '../native/load.js';
import { later } from '../thread/emit-later.js';
import type { DeviceBase } from './device-base.js';
import { goneError } from './device-errors.js';
import { InterruptQueue, type Interrupts } from './interrupts.js';
import { POLL } from './device-ops.js';

export interface DeviceMapOptions extends Omit<MapOptions, 'private'> {
  /** Name or number. Default 0, the first. */
  region?: string | number;
}

export interface CallOptions {
  /** Ends the call, which then rejects with the signal's reason. The op's own signal is aborted. */
  signal?: AbortSignal;
}

export interface PollOptions extends CallOptions {
  /** What to wait for, of {@link POLL}: `ERR` and `HUP` are always waited for. Default everything. */
  events?: number;
  /** Milliseconds; then it resolves with 0. Default no limit. */
  timeout?: number;
}

/** The longest that Node's timers can wait. */
const LONGEST_MS = 0x7fff_ffff;

interface FileEvents {
  /** The device is to be removed: let go of this file, and of mappings. */
  'remove-requested': [];
  /** The device is gone. Once. */
  gone: [];
  close: [];
}

/** How the calls of a file reach the ops: directly, or in another thread. */
export interface FileBackend {
  map(file: number, region: number, offset: number, length: number, access: 'r' | 'rw'): 'r' | 'rw';
  /** What `map` allowed has come to nothing. */
  unmap(file: number): void;
  /** Answers what has been read, at most `length` bytes. */
  read(file: number, length: number, position: number, signal: AbortSignal): Promise<Uint8Array>;
  /** `source` is the op's from then on. */
  write(file: number, source: Uint8Array, position: number, signal: AbortSignal): Promise<number>;
  ioctl(file: number, command: number, argument: unknown, signal: AbortSignal): Promise<unknown>;
  poll(file: number, signal: AbortSignal): Promise<number>;
  /** Calls `changed` whenever readiness may have changed, until what it returns is called. */
  onNotify(changed: () => void): () => void;
  release(file: number): void;
}

/**
 * An open file of a simulated device: what a file descriptor of a device node is.
 *
 * Once the device is gone every operation fails with `ENODEV`, and those under way end with it. After `close()` they fail with `EBADF`.
 */
export class DeviceFile extends EventEmitter<FileEvents> implements Disposable {
  readonly device: DeviceBase;
  readonly #id: number;
  readonly #backend: FileBackend;
  readonly #queues = new Set<InterruptQueue>();
  readonly #descriptors = new Map<number, number>();
  /** What ends each call that is under way. */
  readonly #pending = new Set<(errno: number) => void>();
  /** @internal Called for each interrupt, at once. */
  _onRaise: ((vector: number) => void) | undefined;
  #state: 'open' | 'closed' | 'gone' = 'open';

  static {
    branded('DeviceFile', this.prototype, (value) => #backend in value, { iterables: ['interrupts'] });
  }

  /** Files are made by {@link DeviceBase.open}. */
  private constructor(key: symbol, device: DeviceBase, id: number, backend: FileBackend) {
    super();
    requireConstruct(key);
    this.device = device;
    this.#id = id;
    this.#backend = backend;
    device._files.add(this);
  }

  /** @internal {@link DeviceBase.open}, once the `open` op has answered. */
  static _of(device: DeviceBase, id: number, backend: FileBackend): DeviceFile {
    return new DeviceFile(CONSTRUCT, device, id, backend);
  }

  get state(): 'open' | 'closed' | 'gone' {
    return this.#state === 'open' && this.device.state === 'removed' ? 'gone' : this.#state;
  }

  /**
   * Maps a region. The `mmap` op may refuse it, or allow less. The mapping outlives the file.
   *
   * @throws `ENODEV`, `EBADF`; RangeError (`ERR_OUT_OF_RANGE`) where there is no such region; what the op throws; what
   *   {@link MemoryObject.map} throws.
   */
  map(options?: DeviceMapOptions): Mapping {
    this.#throwUnlessOpen('mmap');
    const { region: which, ...given } = checkOptions('options', options);
    if (which !== undefined && typeof which !== 'string' && typeof which !== 'number')
      throw invalidType('options.region', 'of type string or number', which);
    const region = this.device.region(which ?? 0);
    const access = oneOf('options.access', given.access, ['r', 'rw'], 'rw');
    const offset = integer('options.offset', given.offset === undefined ? 0 : given.offset, 0, region.size - 1);
    const length = integer(
      'options.length',
      given.length === undefined ? region.size - offset : given.length,
      1,
      region.size - offset,
    );
    const allowed = this.#backend.map(this.#id, region.index, offset, length, access);
    try {
      return region.object._map({ ...given, offset, length, access: allowed }, this.#id, false);
    } catch (error) {
      this.#backend.unmap(this.#id);
      throw error;
    }
  }

  /**
   * Reads by the device's `read` op into `target`. The op fills a buffer of its own, and the bytes that it has read are copied when it
   * has answered: a call that fails, also by its signal, leaves `target` as it was, whatever the op does later.
   *
   * @returns how many bytes; 0 at the end.
   * Waits for as long as the op does: reads of devices block.
   *
   * @throws (rejects) `ENODEV`, `EBADF`, `EINVAL` where the device has no such op; what the op throws; DeviceOpError; RangeError
   *   (`ERR_OUT_OF_RANGE`) where the target has been detached or shortened meanwhile. Whenever it rejects, the target is as it was, and
   *   stays so, whatever the op still does.
   */
  async read(target: NodeJS.ArrayBufferView, position = 0, options?: CallOptions): Promise<number> {
    return this.#call('read', options, async (signal) => {
      integer('position', position, 0, Number.MAX_SAFE_INTEGER);
      const bytes = toBytes('target', target);
      const { byteLength } = bytes;
      const read = await this.#backend.read(this.#id, byteLength, position, signal);
      signal.throwIfAborted();
      if (bytes.byteLength !== byteLength) throw shortened('target', byteLength, bytes.byteLength, 0);
      bytes.set(read);
      return read.byteLength;
    });
  }

  /** Writes by the device's `write` op, which gets a copy of what `source` holds now. See {@link read}. */
  async write(source: NodeJS.ArrayBufferView, position = 0, options?: CallOptions): Promise<number> {
    return this.#call('write', options, (signal) => {
      integer('position', position, 0, Number.MAX_SAFE_INTEGER);
      return this.#backend.write(this.#id, toBytes('source', source).slice(), position, signal);
    });
  }

  /**
   * A command of the device's own. Argument and answer are cloned where the ops run in another thread. See {@link read}.
   *
   * @throws (rejects) `ENOTTY` where the device has no such op; TypeError (`ERR_INVALID_ARG_VALUE`) for an argument that cannot be cloned,
   *   DeviceOpError for such an answer.
   */
  async ioctl(command: number, argument?: unknown, options?: CallOptions): Promise<unknown> {
    return this.#call('ioctl', options, (signal) => {
      integer('command', command, 0, 0xffff_ffff);
      return this.#backend.ioctl(this.#id, command, argument, signal);
    });
  }

  /**
   * Waits until the device is ready for one of `events`, or says `POLL.ERR` or `POLL.HUP`, which need not be asked for, as of poll(2).
   * Resolves with what it is ready for of these, or 0 when the time is up.
   */
  async poll(options?: PollOptions): Promise<number> {
    const { events, timeout, signal } = checkOptions<PollOptions>('options', options);
    return this.#call('poll', signal === undefined ? undefined : { signal }, async (ended) => {
      const wanted = integer('options.events', events === undefined ? 0xffff : events, 0, 0xffff);
      if (timeout !== undefined && typeof timeout !== 'number') throw invalidType('options.timeout', 'of type number', timeout);
      if (timeout !== undefined && !(timeout >= 0)) throw outOfRange('options.timeout', '>= 0', timeout);
      return this.#pollUntil(wanted, timeout ?? Infinity, ended);
    });
  }

  async #pollUntil(wanted: number, timeout: number, ended: AbortSignal): Promise<number> {
    const end = performance.now() + timeout;
    for (;;) {
      const change = this.#nextChange(end, ended);
      try {
        const ready = (await this.#backend.poll(this.#id, ended)) & (wanted | POLL.ERR | POLL.HUP);
        if (ready !== 0 || performance.now() >= end) return ready;
        await change.happened;
        ended.throwIfAborted();
      } finally {
        change.stop();
      }
    }
  }

  /** A promise of a change of readiness, from now on; or of news that there is no reason to wait for one any longer. */
  #nextChange(end: number, ended: AbortSignal): { happened: Promise<void>; stop: () => void } {
    let happen!: () => void;
    const happened = new Promise<void>((resolve) => (happen = resolve));
    const left = end - performance.now();
    const timer = left <= LONGEST_MS ? setTimeout(happen, Math.max(left, 0)) : undefined;
    const unsubscribe = this.#backend.onNotify(happen);
    ended.addEventListener('abort', happen, { once: true });
    const stop = (): void => {
      clearTimeout(timer);
      unsubscribe();
      ended.removeEventListener('abort', happen);
    };
    return { happened, stop };
  }

  /**
   * The interrupts raised from now on, in order: `for await (const vector of file.interrupts())`. The iteration ends by throwing
   * `ENODEV` when the device goes, `EBADF` when the file is closed, the signal's reason when that aborts; on bad arguments its first step
   * throws. Interrupts wait until they are taken, up to 65,536; what comes then may be merged, and is counted in `lost`.
   */
  interrupts(options?: CallOptions): Interrupts {
    const signal = abortSignal('options.signal', checkOptions<CallOptions>('options', options).signal);
    this.#throwUnlessOpen('interrupts');
    signal?.throwIfAborted();
    const stop = (): void => queue.end({ reason: signal!.reason as Error });
    const ended = (): void => {
      this.#queues.delete(queue);
      signal?.removeEventListener('abort', stop);
    };
    const queue = new InterruptQueue(ended, (change) => this.device._waiting(change));
    signal?.addEventListener('abort', stop, { once: true });
    this.#queues.add(queue);
    return queue.iterator;
  }

  /**
   * A descriptor that counts the interrupts of one vector, as UIO has: eventfd(2), non-blocking; a read takes the count (8 bytes, native
   * order). It is signalled a last time when the device goes, and closed with the file: leave that to the file, which could not tell from
   * it another descriptor that has its number by then. Keep the file for as long as you use the descriptor: of a device that is gone, a
   * file that nothing refers to any more is closed when it is collected.
   */
  interruptFd(vector = 0): number {
    integer('vector', vector, 0, 0xffff);
    this.#throwUnlessOpen('interruptFd');
    const known = this.#descriptors.get(vector);
    if (known !== undefined) return known;
    const fd = unwrap(native.eventfdOpen());
    if (this.#descriptors.size === 0) collected.register(this, this.#descriptors, this);
    this.#descriptors.set(vector, fd);
    return fd;
  }

  /** Closes it. The `release` op follows when every mapping made through it has gone too. Idempotent. */
  close(): void {
    if (this.#state === 'closed') return;
    const wasOpen = this.state === 'open';
    this.#state = 'closed';
    this.device._files.delete(this);
    this.#endCalls(osConstants.errno.EBADF);
    if (wasOpen) this.#backend.release(this.#id);
    later(() => this.emit('close'));
    collected.unregister(this);
    closeAll(this.#descriptors);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    return `DeviceFile <${this.device.name} ${this.state}>`;
  }

  /** @internal */
  _raise(vector: number): void {
    this._onRaise?.(vector);
    for (const queue of this.#queues) queue.push(vector);
    const fd = this.#descriptors.get(vector);
    if (fd !== undefined) native.eventfdSignal(fd);
  }

  /** @internal */
  _removeRequested(): void {
    later(() => this.emit('remove-requested'));
  }

  /** @internal The device is gone. */
  _gone(): void {
    if (this.#state !== 'open') return;
    this.#state = 'gone';
    this.#endCalls(osConstants.errno.ENODEV);
    for (const fd of this.#descriptors.values()) native.eventfdSignal(fd);
    later(() => this.emit('gone'));
  }

  #endCalls(errno: number): void {
    for (const queue of this.#queues) queue.end({ reason: systemError({ errno: -errno, syscall: 'interrupts' }) });
    for (const end of this.#pending) end(errno);
  }

  #throwUnlessOpen(syscall: string): void {
    const state = this.state;
    if (state === 'closed') throw systemError({ errno: -osConstants.errno.EBADF, syscall });
    if (state === 'gone') throw goneError(syscall);
  }

  /** Makes a call that ends with the device, the file, or the caller's signal. */
  async #call<T>(syscall: string, options: CallOptions | undefined, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const given = abortSignal('options.signal', checkOptions<CallOptions>('options', options).signal);
    this.#throwUnlessOpen(syscall);
    given?.throwIfAborted();
    // Not AbortSignal.any(): what it makes of a signal that lives as long as the file is not collected.
    const controller = new AbortController();
    let fail!: (error: unknown) => void;
    const ended = new Promise<never>((_, reject) => (fail = reject));
    const end = (error: unknown): void => {
      fail(error);
      controller.abort(error);
    };
    const endByErrno = (errno: number): void => end(systemError({ errno: -errno, syscall }));
    const endBySignal = (): void => end(given!.reason);
    given?.addEventListener('abort', endBySignal, { once: true });
    this.#pending.add(endByErrno);
    this.device._waiting(1);
    try {
      return await Promise.race([ended, call(controller.signal)]);
    } finally {
      this.device._waiting(-1);
      this.#pending.delete(endByErrno);
      given?.removeEventListener('abort', endBySignal);
    }
  }
}

/** Closes the descriptors of files that were collected open. */
const collected = new FinalizationRegistry(closeAll);

function closeAll(descriptors: Map<number, number>): void {
  const fds = [...descriptors.values()];
  descriptors.clear();
  fds.forEach(closeIfOpen);
}

/** Its user may have closed it already. */
function closeIfOpen(fd: number): void {
  try {
    closeSync(fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBADF') throw error;
  }
}

function toBytes(name: string, value: NodeJS.ArrayBufferView): Uint8Array {
  return asBytes(bytesView(name, value));
}
