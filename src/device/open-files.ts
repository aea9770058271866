/** The open files of a device, also those of other threads, and the mappings that they made. */
import { osConstants } from '../os-constants.js';
import { DeviceOpError, systemError } from '../errors.js';
import { native } from '../native/load.js';
import type { FileBackend } from './device-file.js';
import type { OpenFile } from './device-ops.js';
import { Listeners } from './listeners.js';
import type { OpCalls, OpOwner } from './op-calls.js';

/** All that poll(2) has room for. */
const MOST_READY = 0xffff;

/** An open file as the device sees it, and how many mappings it has. */
class Opened implements OpenFile {
  data: unknown = undefined;
  mappings = 0;
  closed = false;
  constructor(readonly id: number) {}
}

interface FileOwner extends OpOwner {
  readonly _id: number;
  /** True if its removal has begun. */
  readonly _removing: boolean;
}

export class OpenFiles {
  readonly #opened = new Map<number, Opened>();
  readonly #pollers = new Listeners();
  /** Waiters for the device to be unused. */
  readonly #idle = new Set<() => void>();

  constructor(
    readonly device: FileOwner,
    readonly calls: OpCalls,
  ) {}

  get count(): number {
    return this.#opened.size;
  }

  open(id: number): void {
    const file = new Opened(id);
    this.calls.sync('open', () => this.calls.ops.open?.(file));
    this.#opened.set(id, file);
  }

  readonly backend: FileBackend = {
    map: (file, region, offset, length, access) => this.map(file, region, offset, length, access),
    unmap: (file) => this.unmapped(file),
    read: async (file, length, position, signal) => {
      const target = new Uint8Array(length);
      const count = await this.calls.transfer('read', length, signal, (context) =>
        this.calls.need('read')(this.#file(file), target, position, context),
      );
      if (target.byteLength === length) return target.slice(0, count); // the op may still have the target
      throw new DeviceOpError(this.device.name, 'read', 'detached its target');
    },
    write: (file, source, position, signal) =>
      this.calls.transfer('write', source.byteLength, signal, (context) =>
        this.calls.need('write')(this.#file(file), source, position, context),
      ),
    ioctl: (file, command, argument, signal) =>
      this.calls.async('ioctl', signal, (context) => this.calls.need('ioctl')(this.#file(file), command, argument, context)),
    poll: (file) =>
      new Promise((resolve) => {
        this.device._throwIfGone('poll');
        const ready = this.calls.sync('poll', () => this.calls.need('poll')(this.#file(file)));
        resolve(this.calls.asInteger('poll', ready, MOST_READY));
      }),
    onNotify: (changed) => this.#pollers.add(changed),
    release: (file) => this.close(file),
  };

  /** Readiness has changed: polls look again. */
  notify(): void {
    this.#pollers.call();
  }

  #file(id: number): Opened {
    const file = this.#opened.get(id);
    if (file === undefined) throw systemError({ errno: -osConstants.errno.EBADF, syscall: 'device' });
    return file;
  }

  map(id: number, region: number, offset: number, length: number, access: 'r' | 'rw'): 'r' | 'rw' {
    const file = this.#file(id);
    this.device._throwIfGone('mmap');
    ++file.mappings; // before the op, which may close the file: `release` comes after the mapping's `close`
    try {
      const answer = this.calls.sync('mmap', () => this.calls.ops.mmap?.(file, { region, offset, length, access }));
      return access === 'rw' && answer?.access === 'r' ? 'r' : access;
    } catch (error) {
      this.unmapped(file.id);
      this.device._throwIfGone('mmap');
      throw error;
    }
  }

  unmapped(id: number): void {
    const file = this.#opened.get(id);
    if (file === undefined) return;
    --file.mappings;
    this.#releaseIfUnused(file);
    this.endWaitIfUnused();
  }

  close(id: number): void {
    const file = this.#opened.get(id);
    if (file === undefined) return;
    file.closed = true;
    this.#releaseIfUnused(file);
    this.endWaitIfUnused();
  }

  #releaseIfUnused(file: Opened): void {
    if (!file.closed || file.mappings > 0 || this.device._removing) return;
    this.#release(file);
  }

  #release(file: Opened): void {
    if (!this.#opened.delete(file.id)) return;
    this.calls.quietly('release', () => this.calls.ops.release?.(file));
  }

  releaseAll(): void {
    for (const file of [...this.#opened.values()]) this.#release(file);
  }

  /** True if every file has been released: of one that is closed, this thread may have to hear yet that its last mapping has gone. */
  get #unused(): boolean {
    return this.#opened.size === 0 && native.deviceMappings(this.device._id) === 0;
  }

  endWaitIfUnused(): void {
    if (this.#idle.size > 0 && this.#unused) this.endWait();
  }

  endWait(): void {
    for (const resolve of this.#idle) resolve();
    this.#idle.clear();
  }

  /** Resolves when no file is open and nothing mapped, or the device is being removed. */
  async untilUnused(): Promise<void> {
    if (this.#unused || this.device._removing) return;
    await new Promise<void>((resolve) => this.#idle.add(resolve));
  }
}
