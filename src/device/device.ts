import { constants as osConstants } from 'node:os';
import { asBytes, integer, isIntact, notEmpty, options as checkOptions, requiredObject, requiredString } from '../arguments.js';
import { branded, CONSTRUCT } from '../brands.js';
import { answerText, DeviceOpError, invalidType, systemError } from '../errors.js';
import { lookWhenRung, prepare } from '../thread/wakeups.js';
import { FAULT_ANSWERS, TRACE_FLAGS, WORK_KINDS, WORK_NUMBERS } from '../native/enums.js';
import { native } from '../native/load.js';
import { onceInThread, status } from '../native/shared-state.js';
import { AskedPage, placeOf } from './asked-page.js';
import { CALLS, type CallName } from './remote-calls.js';
import { DeviceBase } from './device-base.js';
import type { DeviceClient, DeviceFaultInfo, RemovalReport } from './device-types.js';
import { DeviceFile, type FileBackend } from './device-file.js';
import type { RegisterPort } from '../memory/backing-provider.js';
import { devicesHere, type RegionOwner } from './backing.js';
import type { DeviceOps, DeviceOptions, FaultAnswer, FaultedPage, OpenFile } from './device-ops.js';
import { Listeners } from './listeners.js';
import { newOpCounts, OP_INDEX, OP_NAMES, viewOf, type OpCounts } from './op-counts.js';
import { bareMessage, goneError, hasCode, isA, isError, isSystemError, syscallOf, unreadableAnswer, warnOfOp } from './device-errors.js';
import { startPager } from './pager.js';
import { within } from './within.js';
import { checkRegions, makeRegions, type DeviceRegion } from './device-region.js';
import type { RegisterFile } from './register-file.js';
import { halvesOf, partOf, truncated, valueOf } from './register-value.js';
import { isThenable, RunningOp, RunningOps, type Callers } from './running-ops.js';
import { SpawnedDevice, type SpawnOptions } from './spawned-device.js';

const DEFAULT_OP_TIMEOUT = 5000;
const DEFAULT_REMOVE_TIMEOUT = 5000;
const LONGEST_MS = 0x7fff_ffff;
/** All that poll(2) has room for. */
const MOST_READY = 0xffff;

const [CONTENT, AS_IT_IS, REFUSED, FAILED] = (['content', 'as-it-is', 'refused', 'failed'] as const).map((kind) =>
  FAULT_ANSWERS.indexOf(kind),
);

/** A removal under way, or done. */
interface Removal {
  /** Resolves when it is complete. */
  readonly whole: Promise<RemovalReport>;
  /** Resolves when nothing is left to do but to wait for the ops that have called for it. */
  readonly butCallers: Promise<RemovalReport>;
}

/** An open file as the device sees it, and how many mappings it has. */
class Opened implements OpenFile {
  data: unknown = undefined;
  mappings = 0;
  closed = false;
  constructor(readonly id: number) {}
}

/**
 * A simulated device: memory whose pages are real page faults, registers, files, interrupts, and real removal. Its ops run in the thread that
 * makes it; {@link Device.spawn} makes one in a worker.
 *
 * A device exists until it is removed: by `unplug()`, `remove()`, `await using`, or the end of its thread. It keeps no process alive.
 *
 * @example
 * ```js
 * const device = new Device({
 *   name: 'ram0',
 *   regions: [{ size: 65536 }],
 *   ops: { fault: (page) => new Uint8Array(4096).fill(page.index) },
 * });
 * const mapping = device.open().map();
 * const target = new Uint8Array(1);
 * await mapping.readAsync(3 * 4096, target); // this thread supplies the page: 3
 * await device.unplug();
 * ```
 */
export class Device extends DeviceBase implements RegionOwner {
  readonly regions: readonly DeviceRegion[];
  readonly opTimeout: number;

  readonly #ops: DeviceOps;
  readonly #thread = native.threadId();
  /** Index of the status word that is not 0 while a trace records. */
  readonly #traceWord: number;
  readonly #opCounts: Readonly<OpCounts>;
  /** @internal Of each op, by OP_INDEX. */
  readonly _counts = newOpCounts();
  readonly #opened = new Map<number, Opened>();
  readonly #running = new RunningOps();
  #work: Float64Array | undefined;
  readonly #pollers = new Listeners();
  #removal: Removal | undefined;
  /** Mappings that have ended while the removal waits for running ops: `close` comes after. */
  #endedMeanwhile: (() => void)[] | undefined;
  /** @internal */
  readonly _clients = new Set<DeviceClient>();

  static {
    branded('Device', this.prototype, (value) => #ops in value);
  }

  /**
   * Takes nothing when it throws: descriptors and models may be used again.
   *
   * @throws TypeError, RangeError on bad options; `ENOSYS`, `EPERM`, `EOPNOTSUPP` where the device has page-fault ops and the process may not
   *   have a userfaultfd: the message says what forbids it; the system errors of {@link MemoryObject.create}; what the `attach` op throws,
   *   as DeviceOpError where that is no Error.
   */
  constructor(options: DeviceOptions) {
    const given = requiredObject('options', options);
    const name = notEmpty('options.name', requiredString('options.name', given.name));
    const ops = given.ops === undefined ? {} : requiredObject('options.ops', given.ops);
    checkOps(ops);
    const opTimeout = integer(
      'options.opTimeout',
      given.opTimeout === undefined ? DEFAULT_OP_TIMEOUT : given.opTimeout,
      1,
      LONGEST_MS,
    );
    const regions = checkRegions(name, given.regions, ops);
    prepare();
    if (regions.some((region) => region.supply >= 0)) startPager(ops.pageMkwrite !== undefined, ops.fault !== undefined);
    super(CONSTRUCT, native.deviceCreate(name, opTimeout), name);
    this.#ops = ops;
    this.#traceWord = native.traceWord(this._id);
    this.opTimeout = opTimeout;
    this.#opCounts = viewOf(this._counts);
    shutAtExit();
    devicesHere.set(this._id, this);
    lookWhenRung(this._id, () => this.#look());
    try {
      this.regions = makeRegions(this._id, regions);
    } catch (error) {
      this.#forget();
      throw error;
    }
    this.#attach();
  }

  /**
   * A device whose ops run in a worker of its own: so that its user may wait for it, in a page fault or for a register, while the ops
   * answer. The module's default export is a {@link DeviceOptions}, or a function of `options.data` that returns one (or a promise).
   *
   * Does not block, and waits for as long as the module does.
   *
   * @throws (rejects) what the module or the device's constructor throws; DeviceOpError (`ERR_DEVICE_OP_FAILED`) where that is no Error,
   *   and where the worker ends, or removes the device, before this thread has heard that the device is there; TypeError
   *   (`ERR_INVALID_ARG_VALUE`) for data that cannot be cloned. What fails in the worker later is a `'fault'` event of the device.
   *
   * @example
   * ```js
   * const device = await Device.spawn(new URL('./model.js', import.meta.url));
   * ```
   */
  static async spawn(model: URL | string, options?: SpawnOptions): Promise<SpawnedDevice> {
    return SpawnedDevice._start(model, options);
  }

  open(): DeviceFile {
    this._throwIfGone('open');
    const id = native.token();
    try {
      this._open(id);
    } finally {
      this._throwIfGone('open'); // the op may have removed it: what it answers, or throws, is discarded
    }
    return new DeviceFile(CONSTRUCT, this, id, this._backend);
  }

  raise(vector = 0): void {
    integer('vector', vector, 0, 0xffff);
    if (this.state === 'removed') return;
    for (const file of this._files) file._raise(vector);
    for (const client of this._clients) client.raise(vector);
  }

  get opCounts(): Readonly<OpCounts> {
    return this.#opCounts;
  }

  notify(): void {
    this.#pollers.call();
    for (const client of this._clients) client.notify();
  }

  async unplug(reason?: unknown): Promise<RemovalReport> {
    return this.#unplug(reason, this.#running.callers());
  }

  async remove(options?: { timeout?: number }): Promise<RemovalReport> {
    const callers = this.#running.callers();
    const { timeout } = checkOptions('options', options);
    const limit = integer('options.timeout', timeout === undefined ? DEFAULT_REMOVE_TIMEOUT : timeout, 0, LONGEST_MS);
    if (this.state !== 'removed') {
      this._removeRequested();
      for (const client of this._clients) client.removeRequested();
      await within(limit, this.#untilUnused());
    }
    return this.#unplug(undefined, callers);
  }

  /** @internal Its only client removes it in an orderly way. Resolves when it may go on. */
  async _beforeRemoval(): Promise<void> {
    this._removeRequested();
    return this.#untilUnused();
  }

  /** @internal */
  registerPort(region: number, raw: boolean): RegisterPort {
    return {
      raw,
      gone: () => this.state === 'removed',
      // An op may remove the device: what it answers, or throws, is discarded then, as for callers in other threads.
      read: (offset, width) => {
        if (this.state === 'removed') return undefined;
        try {
          const value = this.#readRegister(this.#thread, region, offset, width);
          if (this.#removal === undefined) return value;
        } catch (error) {
          if (this.#removal === undefined) throw error;
        }
        return undefined;
      },
      write: (offset, width, value) => {
        if (this.state === 'removed') return false;
        try {
          this.#writeRegister(this.#thread, region, offset, width, value);
        } catch (error) {
          if (this.#removal === undefined) throw error;
        }
        return this.#removal === undefined;
      },
    };
  }

  /** @internal */
  drain(region: number): () => Promise<void> {
    const callers = this.#running.callers();
    return async () => {
      await this.#running.drainRegion(region, callers, performance.now() + this.opTimeout);
      this.#look(1024);
    };
  }

  // --- files, also of other threads ---

  /** @internal */
  _open(id: number): void {
    const file = new Opened(id);
    this.#sync('open', () => this.#ops.open?.(file));
    this.#opened.set(id, file);
  }

  /** @internal */
  readonly _backend: FileBackend = {
    map: (file, region, offset, length, access) => this.#mmap(this.#file(file), region, offset, length, access),
    unmap: (file) => this.#unmapped(file),
    read: async (file, length, position, signal) => {
      const target = new Uint8Array(length);
      const count = await this.#transfer('read', length, signal, (context) =>
        this.#need('read')(this.#file(file), target, position, context),
      );
      if (target.byteLength === length) return target.slice(0, count); // the op may still have the target
      throw new DeviceOpError(this.name, 'read', 'detached its target');
    },
    write: (file, source, position, signal) =>
      this.#transfer('write', source.byteLength, signal, (context) =>
        this.#need('write')(this.#file(file), source, position, context),
      ),
    ioctl: (file, command, argument, signal) =>
      this.#async('ioctl', signal, (context) => this.#need('ioctl')(this.#file(file), command, argument, context)),
    poll: (file) =>
      new Promise((resolve) => {
        this._throwIfGone('poll');
        const ready = this.#sync('poll', () => this.#need('poll')(this.#file(file)));
        resolve(this.#asInteger('poll', ready, MOST_READY));
      }),
    onNotify: (changed) => this.#pollers.add(changed),
    release: (file) => this.#closeFile(file),
  };

  #file(id: number): Opened {
    const file = this.#opened.get(id);
    if (file === undefined) throw systemError({ errno: -osConstants.errno.EBADF, syscall: 'device' });
    return file;
  }

  /** The op, which is called on the user's object. A device without it answers as a driver without that method does. */
  #need<K extends keyof DeviceOps>(name: K): NonNullable<DeviceOps[K]> {
    const op = this.#ops[name];
    if (op === undefined) throw systemError({ errno: -osConstants.errno[name === 'ioctl' ? 'ENOTTY' : 'EINVAL'], syscall: name });
    return op.bind(this.#ops) as NonNullable<DeviceOps[K]>;
  }

  #mmap(file: Opened, region: number, offset: number, length: number, access: 'r' | 'rw'): 'r' | 'rw' {
    this._throwIfGone('mmap');
    ++file.mappings; // before the op, which may close the file: `release` comes after the mapping's `close`
    try {
      const answer = this.#sync('mmap', () => this.#ops.mmap?.(file, { region, offset, length, access }));
      return access === 'rw' && answer?.access === 'r' ? 'r' : access;
    } catch (error) {
      this.#unmapped(file.id);
      this._throwIfGone('mmap');
      throw error;
    }
  }

  #unmapped(id: number): void {
    const file = this.#opened.get(id);
    if (file === undefined) return;
    --file.mappings;
    this.#releaseIfUnused(file);
    this.#tellIfUnused();
  }

  #closeFile(id: number): void {
    const file = this.#opened.get(id);
    if (file === undefined) return;
    file.closed = true;
    this.#releaseIfUnused(file);
    this.#tellIfUnused();
  }

  #releaseIfUnused(file: Opened): void {
    if (!file.closed || file.mappings > 0 || this.#removal !== undefined) return;
    this.#release(file);
  }

  #release(file: Opened): void {
    if (!this.#opened.delete(file.id)) return;
    this.#quietly('release', () => this.#ops.release?.(file));
  }

  // --- calling ops ---

  #attach(): void {
    this.#count('attach');
    try {
      this.#atOnce('attach', this.#ops.attach?.(this));
    } catch (error) {
      void this.unplug(error).then(() => this.regions.forEach(({ object }) => object.close()));
      throw isError(error) ? error : this.#opError('attach', error);
    }
  }

  #count(name: keyof DeviceOps): void {
    if (this.#ops[name] !== undefined) ++this._counts[OP_INDEX[name]];
  }

  #sync<T>(name: keyof DeviceOps, call: () => T): T {
    this.#count(name);
    return this.#guarded(name, call);
  }

  /** What is thrown is the error of that op. */
  #guarded<T>(name: keyof DeviceOps, call: () => T): T {
    try {
      return this.#atOnce(name, call());
    } catch (error) {
      throw this.#opError(name, error);
    }
  }

  /** Nobody would wait for a promise, nor hear of its rejection, which would end the process. */
  #atOnce<T>(name: keyof DeviceOps, answer: T): T {
    if (!isThenable(answer)) return answer;
    Promise.resolve(answer).catch(() => undefined);
    throw new DeviceOpError(this.name, name, 'must not be asynchronous');
  }

  /** An op that nobody waits for. */
  #quietly(name: keyof DeviceOps, call: () => void): void {
    try {
      this.#sync(name, call);
    } catch (error) {
      this.#failed({ op: name, cause: 'failed', error });
    }
  }

  async #async<T>(
    name: 'read' | 'write' | 'ioctl',
    caller: AbortSignal,
    call: (context: { signal: AbortSignal }) => T | Promise<T>,
  ): Promise<T> {
    this._throwIfGone(name);
    const op = new RunningOp(name, -1, 0);
    const stop = (): void => op.abort(caller.reason);
    caller.addEventListener('abort', stop, { once: true });
    this.#count(name);
    try {
      return await this.#running.run(op, () => call({ signal: op.signal }));
    } catch (error) {
      throw this.#opError(name, error);
    } finally {
      caller.removeEventListener('abort', stop);
    }
  }

  /** A read or a write of so many bytes: the op answers how many it has done. */
  async #transfer(
    name: 'read' | 'write',
    bytes: number,
    caller: AbortSignal,
    call: (context: { signal: AbortSignal }) => number | Promise<number>,
  ): Promise<number> {
    return this.#asInteger(name, await this.#async(name, caller, call), bytes);
  }

  #asInteger(name: keyof DeviceOps, answer: unknown, most: number): number {
    if (typeof answer === 'number' && Number.isInteger(answer) && answer >= 0 && answer <= most) return answer;
    throw new DeviceOpError(this.name, name, `answered ${answerText(answer)}, not an integer from 0 to ${most}`);
  }

  /** System errors go to the caller as they are, but for one that is no more than a number. */
  #opError(name: string, error: unknown): Error {
    if (isA(error, DeviceOpError)) return error;
    if (isSystemError(error)) {
      return hasCode(error) ? error : systemError({ errno: error.errno, syscall: syscallOf(error, name) }, { cause: error });
    }
    return new DeviceOpError(this.name, name, bareMessage(error), 'ERR_DEVICE_OP_FAILED', error);
  }

  #failed(info: DeviceFaultInfo): void {
    this._later(() => {
      for (const client of this._clients) client.fault(info);
      if (this.listenerCount('fault') > 0) this.emit('fault', info);
      else if ('error' in info && this._clients.size === 0) warnOfOp(this.name, info.op, info.error);
    });
  }

  /** For `thread`, and for the traces: what the model answers, when it has. `way`: 0, or TRACE_FLAGS.raw. */
  #readRegister(thread: number, region: number, offset: number, width: number, way = 0): number | bigint {
    try {
      const value = this.#askRegister(region, offset, width);
      if (status[this.#traceWord] !== 0) this.#trace(thread, region, offset, width, way, value);
      return value;
    } catch (error) {
      if (status[this.#traceWord] !== 0) this.#trace(thread, region, offset, width, way | TRACE_FLAGS.failed, 0);
      throw error;
    }
  }

  #askRegister(region: number, offset: number, width: number): number | bigint {
    const { _file: file } = this.regions[region];
    if (file !== undefined) return this.#readFile(file, region, offset, width);
    return this.#registerValue(
      width,
      this.#sync('readRegister', () => this.#need('readRegister')(offset, width, region)),
    );
  }

  #registerValue(width: number, value: unknown): number | bigint {
    if (typeof value === 'bigint' || Number.isInteger(value)) return truncated(width, value as number | bigint);
    throw new DeviceOpError(this.name, 'readRegister', `answered ${answerText(value)}, not an integer or a bigint`);
  }

  /** Of an access that is of a register with a callback. */
  #readFile(file: RegisterFile, region: number, offset: number, width: number): number | bigint {
    for (const { onRead, ...register } of file._calling(offset, width)) {
      if (onRead === undefined) continue;
      const answer: unknown = this.#guarded('readRegister', () => onRead(file.get(register.offset)));
      if (answer !== undefined) file.set(register.offset, this.#registerValue(register.width, answer));
    }
    native.registerAccessAsked(file._model, this.regions[region].object._id, false, offset, width, words);
    return valueOf(width, words[0], words[1]);
  }

  #writeFile(file: RegisterFile, region: number, offset: number, width: number, value: number | bigint): void {
    words.set(halvesOf(value));
    native.registerAccessAsked(file._model, this.regions[region].object._id, true, offset, width, words);
    for (const { onWrite, ...register } of file._calling(offset, width)) {
      if (onWrite === undefined) continue;
      const written = partOf(offset, width, value, register.offset, register.width);
      this.#guarded('writeRegister', () => onWrite(file.get(register.offset), written));
    }
  }

  #writeRegister(thread: number, region: number, offset: number, width: number, value: number | bigint, way = 0): void {
    let flags = way | TRACE_FLAGS.write | TRACE_FLAGS.failed;
    try {
      const { _file: file } = this.regions[region];
      if (file !== undefined) this.#writeFile(file, region, offset, width, value);
      else this.#sync('writeRegister', () => this.#need('writeRegister')(offset, width, value, region));
      flags = way | TRACE_FLAGS.write;
    } finally {
      if (status[this.#traceWord] !== 0) this.#trace(thread, region, offset, width, flags, value);
    }
  }

  #trace(thread: number, region: number, offset: number, width: number, flags: number, value: number | bigint): void {
    const [low, high] = halvesOf(value);
    native.traceAccess(this._id, thread, region, offset, width, flags, low, high);
  }

  // --- work from other threads ---

  /**
   * Does what there is to do. Threads that poll a register have the next access ready as soon as one is answered: after so many rounds it
   * is the turn of whatever else this thread has to do.
   */
  #look(rounds = 64): void {
    for (let round = 0; ; round++) {
      if (round === rounds) {
        setImmediate(() => this.#look()).unref();
        return;
      }
      // An op may look again: that takes an array of its own.
      const work = this.#work ?? new Float64Array(64 * WORK_NUMBERS);
      this.#work = undefined;
      const count = native.takeDeviceWork(this._id, work);
      for (let i = 0; i < count; i++) if (i === 0 || this.#isStillToDo(work, i * WORK_NUMBERS)) this.#do(work, i * WORK_NUMBERS);
      this.#work = work;
      if (count === 0) return;
    }
  }

  /** An op that was called for the one before may have ended what this one is about. */
  #isStillToDo(work: Float64Array, at: number): boolean {
    switch (WORK_KINDS[work[at]]) {
      case 'fault':
      case 'write-fault':
        return native.faultIsAsked(work[at + 1]);
      case 'access':
        return native.accessIsAsked(work[at + 1]);
      case 'call':
        return native.deviceState(this._id) === 0;
      default:
        return true;
    }
  }

  #do(work: Float64Array, at: number): void {
    const token = work[at + 1];
    const kind = WORK_KINDS[work[at]];
    // An op that was called for the one before has removed the device. Who waits is woken by that.
    if (this.#removal !== undefined && kind !== 'mapping-ended' && kind !== 'expired') return;
    switch (kind) {
      case 'fault':
        return this.#fault('fault', token, work, at + 2);
      case 'write-fault':
        return this.#fault('pageMkwrite', token, work, at + 2);
      case 'expired':
        return this.#expired(token);
      case 'call':
        return this.#answerCall(token, work.subarray(at + 2, at + WORK_NUMBERS));
      case 'access':
        return this.#rawAccess(token, work.subarray(at + 2, at + WORK_NUMBERS));
      case 'mapping-ended':
        return this.#mappingEnded(work[at + 2], work[at + 3], work[at + 4], work[at + 5], work[at + 6]);
    }
  }

  /** Asked and not answered, by token. */
  readonly #pages = new Map<number, AskedPage>();

  #fault(name: 'fault' | 'pageMkwrite', token: number, work: Float64Array, at: number): void {
    const page = new AskedPage(CONSTRUCT, new RunningOp(name, work[at + 1], token), work, at);
    this.#count(name);
    let answer: FaultAnswer | PromiseLike<FaultAnswer>;
    try {
      answer = this.#running.start(page._op, name === 'fault' ? this.#callFault : this.#callPageMkwrite, page);
    } catch (error) {
      return this.#faultFailed(page, error);
    }
    if (isThenable(answer)) this.#faultPromised(page, answer);
    else this.#answerFault(page, answer);
  }

  readonly #callFault = (page: FaultedPage): FaultAnswer | Promise<FaultAnswer> => this.#ops.fault!(page);
  readonly #callPageMkwrite = (page: FaultedPage): FaultAnswer | Promise<FaultAnswer> => this.#ops.pageMkwrite!(page);

  #faultPromised(page: AskedPage, answer: PromiseLike<FaultAnswer>): void {
    const { token } = page._op;
    this.#pages.set(token, page);
    void this.#running
      .settle(page._op, answer)
      .then(
        (content) => this.#answerFault(page, content),
        (error: unknown) => this.#faultFailed(page, error),
      )
      .finally(() => this.#pages.delete(token));
  }

  #answerFault(page: AskedPage, content: FaultAnswer): void {
    if (content === 'sigbus') {
      this.#answerPage(page, REFUSED);
      if (!page.signal.aborted) this.#failed({ op: page._op.name, cause: 'refused', ...placeOf(page) });
    } else if (content === undefined || content === null) {
      this.#answerPage(page, AS_IT_IS);
    } else if (ArrayBuffer.isView(content) && isIntact(content)) {
      this.#answerPage(page, CONTENT, content instanceof Uint8Array ? content : asBytes(content));
    } else {
      const what = ArrayBuffer.isView(content)
        ? 'answered with bytes whose buffer has been detached or shortened'
        : `answered ${typeof content}, not a Uint8Array, 'sigbus' or undefined`;
      this.#faultFailed(page, new DeviceOpError(this.name, page._op.name, what));
    }
  }

  #faultFailed(page: AskedPage, error: unknown): void {
    this.#answerPage(page, FAILED);
    if (!page._op.hasObeyed(error)) this.#failed({ op: page._op.name, cause: 'failed', error, ...placeOf(page) });
  }

  #answerPage(page: AskedPage, kind: number, content?: Uint8Array): void {
    const { token } = page._op;
    const answered = native.answerFault(token, kind, content, content === undefined ? 0 : this.#bytesFrom(page));
    if (typeof answered === 'object') {
      return this.#faultFailed(page, unreadableAnswer(this.name, page._op.name, answered));
    }
    if (answered || this.#pages.has(token)) return;
    // Nobody waits any more. That its time is up is about to be told, and the page is to be named then.
    this.#pages.set(token, page);
    queueMicrotask(() => this.#pages.delete(token));
  }

  /** Of the region, to the end of its last page. */
  #bytesFrom(page: AskedPage): number {
    const { size } = this.regions[page.region];
    return Math.ceil(size / native.pageSize) * native.pageSize - page.offset;
  }

  #expired(token: number): void {
    // Unknown when it was not even called: the thread was busy all the time.
    const asked = this.#pages.get(token);
    const op = asked?._op.name ?? 'fault';
    this.#running.abandon(token, new DeviceOpError(this.name, op, 'did not answer in time', 'ERR_DEVICE_OP_TIMEOUT'));
    this.#failed({ op, cause: 'no-answer', ...(asked === undefined ? {} : placeOf(asked)) });
  }

  #answerCall(token: number, [call, ...values]: Float64Array): void {
    const name = CALLS[call];
    try {
      const value = BigInt(this.#called(name, values) ?? 0);
      if (!native.answerCall(this._id, token, 0, ...halvesOf(value), '')) this.#undoCall(name, values[0]);
    } catch (error) {
      const errno = isSystemError(error) ? -error.errno : 0;
      native.answerCall(this._id, token, errno, 0, 0, errno === 0 ? bareMessage(error) : '');
    }
  }

  /** The caller has given up, or the device has gone: what the op has opened or allowed is never used. */
  #undoCall(name: CallName, file: number): void {
    if (name === 'open') this.#closeFile(file);
    if (name === 'mmap') this.#unmapped(file);
  }

  #called(name: CallName, [a, b, c, d, e, thread]: number[]): number | bigint | undefined {
    switch (name) {
      case 'readRegister':
        return this.#readRegister(thread, a, b, c);
      case 'writeRegister':
        this.#writeRegister(thread, a, b, c, valueOf(c, d, e));
        return undefined;
      case 'open':
        this._open(a);
        return undefined;
      case 'release':
        this.#closeFile(a);
        return undefined;
      case 'mmap':
        return this.#mmap(this.#file(a), b, c, d, e === 1 ? 'rw' : 'r') === 'rw' ? 1 : 0;
      case 'unmap':
        this.#unmapped(a);
        return undefined;
    }
  }

  /**
   * A raw access that a thread waits for in the fault handler. One that reads and writes does both in this turn: nothing comes between.
   */
  #rawAccess(token: number, [region, offset, width, what, low, high, thread]: Float64Array): void {
    const reads = (what & READS) !== 0;
    try {
      const value = reads ? this.#readRegister(thread, region, offset, width, TRACE_FLAGS.raw) : 0;
      const read = halvesOf(value);
      const put = new Float64Array([low, high]);
      const combines = reads && (what & WRITES) !== 0;
      const puts = combines ? native.combineAccess(this._id, token, read[0], read[1], put) : !reads;
      if (puts) this.#writeRegister(thread, region, offset, width, valueOf(width, put[0], put[1]), TRACE_FLAGS.raw);
      native.answerAccess(this._id, token, false, read[0], read[1]);
    } catch (error) {
      native.answerAccess(this._id, token, true, 0, 0);
      this.#failed({ op: reads ? 'readRegister' : 'writeRegister', cause: 'failed', error, region });
    }
  }

  #mappingEnded(mapping: number, region: number, offset: number, length: number, file: number): void {
    for (const page of this.#pages.values()) if (page.mapping === mapping) page._op.abort(goneError('munmap'));
    const tell = (): void => {
      this.#quietly('close', () => this.#ops.close?.({ mapping, region, offset, length }));
      this.#unmapped(file);
      this.#tellIfUnused(); // also of mappings that no file made
    };
    if (this.#endedMeanwhile === undefined) tell();
    else this.#endedMeanwhile.push(tell);
  }

  // --- removal ---

  /** Those who wait until nobody uses it any more. */
  readonly #idle = new Set<() => void>();

  /** Whether every file has been released: of one that is closed, this thread may have to hear yet that its last mapping has gone. */
  get #unused(): boolean {
    return this.#opened.size === 0 && native.deviceMappings(this._id) === 0;
  }

  #tellIfUnused(): void {
    if (this.#idle.size > 0 && this.#unused) this.#endIdle();
  }

  #endIdle(): void {
    for (const resolve of this.#idle) resolve();
    this.#idle.clear();
  }

  /** Resolves when no file is open and nothing mapped, or the device is being removed. */
  async #untilUnused(): Promise<void> {
    if (this.#unused || this.#removal !== undefined) return;
    await new Promise<void>((resolve) => this.#idle.add(resolve));
  }

  /** `callers`: the ops that call for it, and that it therefore does not wait for. */
  async #unplug(reason: unknown, callers: Callers): Promise<RemovalReport> {
    const mine = native.deviceShut(this._id);
    this.#running.remove(callers);
    const { whole, butCallers } = this.#removal ?? this.#beginRemoval(reason);
    return (callers.size === 0 ? whole : butCallers).then((report) => ({ ...report, removedByThisCall: mine }));
  }

  /** Known before listeners hear of it: they may call for it too. */
  #beginRemoval(reason: unknown): Removal {
    let doneButCallers!: (report: RemovalReport) => void;
    let done!: (report: Promise<RemovalReport>) => void;
    this.#removal = {
      whole: new Promise((resolve) => (done = resolve)),
      butCallers: new Promise((resolve) => (doneButCallers = resolve)),
    };
    done(this.#remove(reason, doneButCallers));
    return this.#removal;
  }

  /** The gate has been shut. */
  async #remove(reason: unknown, doneButCallers: (report: RemovalReport) => void): Promise<RemovalReport> {
    const mappings = native.deviceMappings(this._id);
    const files = this.#opened.size;
    this.#endedMeanwhile = [];
    const gone = goneError('unplug');
    for (const client of this._clients) client.gone();
    for (const region of this.regions) region._end();
    this.#endIdle();
    this._endHere();
    this.#running.abortAll(gone);
    const regions = await Promise.all(this.regions.map((region) => region.object._revokeOnly(reason ?? gone)));
    const end = performance.now() + this.opTimeout;
    await this.#running.drainOthers(end);
    this.#look(Infinity);
    for (const tell of this.#endedMeanwhile) tell();
    this.#endedMeanwhile = undefined;
    for (const file of [...this.#opened.values()]) this.#release(file);
    this.#forget();
    const report = { device: this.name, removedByThisCall: true, regions, mappings, files };
    doneButCallers({ ...report, abandonedOps: this.#running.abandoned });
    await this.#running.drain(end);
    const whole = { ...report, abandonedOps: this.#running.abandoned };
    this._removed(whole, () => {
      for (const client of this._clients) client.removed(whole);
    });
    return whole;
  }

  #forget(): void {
    devicesHere.delete(this._id);
    lookWhenRung(this._id, undefined);
    native.deviceForget(this._id);
  }
}

/** The low and the high 32 bits of a value, to and from native code. */
const words = new Float64Array(2);

/** What a raw access does. */
const READS = 1;
const WRITES = 2;

/**
 * A process that exits waits for its workers, and a worker that is blocked in a page fault for the op, which will not run any more: at exit
 * this thread's devices are gone.
 */
function shutAtExit(): void {
  onceInThread('shut at exit', () => {
    process.once('exit', () => {
      for (const id of devicesHere.keys()) native.deviceAbandon(id);
    });
  });
}

function checkOps(ops: DeviceOps): void {
  for (const name of OP_NAMES) {
    const op = (ops as Record<string, unknown>)[name];
    if (op !== undefined && typeof op !== 'function') throw invalidType(`options.ops.${name}`, 'of type function', op);
  }
}
