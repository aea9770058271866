import { promises } from 'node:fs';
import { inspect } from 'node:util';
import { osConstants } from '../os-constants.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { invalidType, systemError } from '../errors.js';
import { lookWhenRung } from '../thread/wakeups.js';
import { TRACE_ACCESS, TRACE_FLAGS, TRACE_HEAD } from '../native/enums.js';
import { isFailure } from '../native/functions.js';
import { native } from '../native/load.js';
import type { DeviceBase } from './device-base.js';
import { valueOf } from './register-value.js';
import { LineWriter, type AccessWidth, type LineOptions } from './trace-text.js';

export interface TraceOptions {
  /** How many accesses may wait to be read; what comes when so many wait is lost, and counted. Default 2 ** 20. 48 bytes each, once used. */
  capacity?: number;
}

/** An access to a register, as its device's model answered it. */
export interface DeviceAccess {
  /** Milliseconds since the trace began, with fractions: when the model had answered. */
  time: number;
  /** The kernel's id of the thread that made it. */
  thread: number;
  /** Name of the region. */
  region: string;
  /** First byte, from the start of the region. */
  offset: number;
  /** Bytes. */
  width: AccessWidth;
  write: boolean;
  /** What was written, or what was read: a bigint for 8 bytes. 0 for a read that failed. */
  value: number | bigint;
  /** It did not go through a checked accessor. */
  raw: boolean;
  /** The model threw, and so the accessor got an error. */
  failed: boolean;
}

/** Accesses that follow each other, and how many were lost before the first; or, with none, after all before. */
interface Batch {
  lost: number;
  accesses: DeviceAccess[];
  ended: boolean;
}

const MOST_IN_BATCH = 128;

/** Traces that were forgotten while they recorded. */
const forgotten = new FinalizationRegistry((token: number) => native.traceClose(token));

/**
 * A record of every access to a device's registers, in the order in which its model answered them. `device.trace()` begins one. It ends
 * with {@link stop}, with the removal of the device, or when its user leaves the loop.
 *
 * Each access is yielded once: iterate a trace once, as accesses or as lines. An idle trace keeps no process alive; a pending `next()`
 * does what a pending `interrupts()` of the device does.
 *
 * @example
 * ```js
 * using trace = device.trace();
 * driver.start();
 * trace.stop();
 * for await (const { write, region, offset, value } of trace) console.log(write, region, offset, value);
 * ```
 */
export class Trace implements AsyncIterable<DeviceAccess>, Disposable {
  readonly #device: DeviceBase;
  readonly #token: number;
  readonly #numbers = new Float64Array(TRACE_HEAD.size + MOST_IN_BATCH * TRACE_ACCESS.size);
  /** Waiters for an access, or for the end. */
  readonly #waiters = new Set<() => void>();
  /** Once it is closed: how many were lost in all. */
  #lostInAll: number | undefined;

  static {
    branded('Trace', this.prototype, (value) => #token in value, { iterables: ['lines', Symbol.asyncIterator] });
  }

  private constructor(key: symbol, device: DeviceBase, token: number) {
    requireConstruct(key);
    this.#device = device;
    this.#token = token;
    forgotten.register(this, token, this);
  }

  /** @internal {@link DeviceBase.trace}. */
  static _start(device: DeviceBase, capacity: number): Trace {
    const token = native.traceOpen(device._id, capacity);
    if (!isFailure(token)) return new Trace(CONSTRUCT, device, token);
    const tooMany = token.errno === -osConstants.errno.EMFILE;
    throw systemError(
      token,
      tooMany ? { hint: `${device.name} has eight traces already: stop one, and read it to its end` } : {},
    );
  }

  /** How many accesses came when `capacity` of them waited, and are in no iteration. */
  get lost(): number {
    return this.#lostInAll ?? native.traceLost(this.#token);
  }

  /** Records no more. What has been recorded is still yielded; then the iteration is done. Idempotent. */
  stop(): void {
    if (this.#lostInAll !== undefined) return;
    native.traceStop(this.#token);
    this.#wake();
  }

  /** {@link stop}, and forgets what has not been read. */
  [Symbol.dispose](): void {
    this.#close();
  }

  /** The accesses, each when it has been made. What the iteration was left without is forgotten. Never throws. */
  [Symbol.asyncIterator](): AsyncIterableIterator<DeviceAccess> {
    return this.#closing(this.#accesses());
  }

  /**
   * The accesses as lines of text, without their ends. Without options two runs in which the device saw the same are the same text. The
   * grammar is in docs/reference/devices.md; {@link parseAccess} reads a line. Where accesses were lost there is a comment: `# 12 accesses lost`.
   *
   * On bad options its first step throws the TypeError.
   */
  lines(options?: LineOptions): AsyncIterableIterator<string> {
    return this.#closing(this.#lines(new LineWriter(options)));
  }

  /**
   * Writes {@link lines} to a file, which is created or replaced, as they come. Resolves when the trace has ended and all is written.
   *
   * @throws (rejects) TypeError on bad arguments; the system errors of `fs.promises.writeFile`, and the trace has ended then.
   *
   * @example
   * ```js
   * const written = trace.writeTo('boot.trace');
   * driver.start();
   * trace.stop();
   * await written;
   * ```
   */
  async writeTo(path: string | URL, options?: LineOptions): Promise<void> {
    if (typeof path !== 'string' && !(path instanceof URL))
      throw invalidType('path', 'of type string or an instance of URL', path);
    const text = this.#text(new LineWriter(options));
    try {
      await promises.writeFile(path, text);
    } finally {
      this.#close();
    }
  }

  [inspect.custom](): string {
    return `Trace <${this.#device.name}: ${this.lost} lost>`;
  }

  async *#accesses(): AsyncGenerator<DeviceAccess, undefined> {
    for await (const { accesses } of this.#batches()) yield* accesses;
    return undefined;
  }

  async *#lines(writer: LineWriter): AsyncGenerator<string, undefined> {
    for await (const { lost, accesses } of this.#batches()) {
      if (lost > 0) yield writer.lostLine(lost);
      for (const access of accesses) yield writer.lineOf(access);
    }
    return undefined;
  }

  /** Whole batches of lines, for a file. */
  async *#text(writer: LineWriter): AsyncGenerator<string, undefined> {
    for await (const { lost, accesses } of this.#batches()) {
      const comment = lost > 0 ? `${writer.lostLine(lost)}\n` : '';
      yield comment + accesses.map((access) => `${writer.lineOf(access)}\n`).join('');
    }
    return undefined;
  }

  async *#batches(): AsyncGenerator<Batch, undefined> {
    for (;;) {
      const batch = this.#take();
      if (batch.lost > 0 || batch.accesses.length > 0) yield batch;
      else if (batch.ended) break;
      else await this.#something();
    }
    this.#close();
    return undefined;
  }

  /** Leaving the iteration ends the trace, also before its first step, and while a step waits. */
  #closing<T>(generator: AsyncGenerator<T, undefined>): AsyncIterableIterator<T> {
    const iterator: AsyncIterableIterator<T> = {
      next: () => generator.next(),
      return: () => {
        this.#close();
        return generator.return(undefined);
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  #take(): Batch {
    if (this.#lostInAll !== undefined) return { lost: 0, accesses: [], ended: true };
    const count = native.traceTake(this.#token, this.#numbers);
    const accesses: DeviceAccess[] = [];
    for (let i = 0; i < count; i++) accesses.push(this.#accessAt(TRACE_HEAD.size + i * TRACE_ACCESS.size));
    return { lost: this.#numbers[TRACE_HEAD.lost], accesses, ended: this.#numbers[TRACE_HEAD.ended] !== 0 };
  }

  #accessAt(at: number): DeviceAccess {
    const numbers = this.#numbers;
    const width = numbers[at + TRACE_ACCESS.width] as AccessWidth;
    const flags = numbers[at + TRACE_ACCESS.flags];
    return {
      time: numbers[at + TRACE_ACCESS.time],
      thread: numbers[at + TRACE_ACCESS.thread],
      region: this.#device.regions[numbers[at + TRACE_ACCESS.region]].name,
      offset: numbers[at + TRACE_ACCESS.offset],
      width,
      write: (flags & TRACE_FLAGS.write) !== 0,
      value: valueOf(width, numbers[at + TRACE_ACCESS.low], numbers[at + TRACE_ACCESS.high]),
      raw: (flags & TRACE_FLAGS.raw) !== 0,
      failed: (flags & TRACE_FLAGS.failed) !== 0,
    };
  }

  /** Until there may be something to take. */
  async #something(): Promise<void> {
    this.#device._waiting(1);
    await new Promise<void>((resolve) => {
      this.#waiters.add(resolve);
      lookWhenRung(-this.#token, () => this.#wake());
    });
    this.#device._waiting(-1);
  }

  #wake(): void {
    if (this.#waiters.size === 0) return;
    lookWhenRung(-this.#token, undefined);
    for (const resolve of this.#waiters) resolve();
    this.#waiters.clear();
  }

  #close(): void {
    if (this.#lostInAll !== undefined) return;
    this.#lostInAll = native.traceLost(this.#token);
    native.traceClose(this.#token);
    forgotten.unregister(this);
    this.#wake();
  }
}
