import { integer, notEmpty, options as checkOptions, requiredObject, requiredString } from '../arguments.js';
import { branded, CONSTRUCT } from '../brands.js';
import { invalidType } from '../errors.js';
import type { RegisterPort } from '../memory/backing-provider.js';
import { CALL_ANSWER, WORK_KINDS, WORK_NUMBERS } from '../native/enums.js';
import { native } from '../native/load.js';
import { onceInThread } from '../native/shared-state.js';
import { lookWhenRung, prepare } from '../thread/wakeups.js';
import { devicesHere } from './backing.js';
import { DeviceBase } from './device-base.js';
import { bareMessage, isError, isSystemError, warnOfOp } from './device-errors.js';
import { DeviceFile, type FileBackend } from './device-file.js';
import type { DeviceOps, DeviceOptions } from './device-ops.js';
import type { DeviceRegion } from './device-region.js';
import type { DeviceClient, DeviceFaultInfo, RemovalReport } from './device-types.js';
import { OpCalls } from './op-calls.js';
import { OP_NAMES, viewOf, type OpCounts } from './op-counts.js';
import { OpenFiles } from './open-files.js';
import { checkRegions, makeRegions } from './own-region.js';
import { PageRequests } from './page-requests.js';
import { startPager } from './pager.js';
import { checkPci } from './pci-options.js';
import { RegisterRequests } from './register-requests.js';
import { halvesOf, valueOf } from './register-value.js';
import { CALLS, type CallName } from './remote-calls.js';
import { Removal } from './removal.js';
import { SpawnedDevice, type SpawnOptions } from './spawned-device.js';
import { within } from './within.js';

const DEFAULT_OP_TIMEOUT = 5000;
const DEFAULT_REMOVE_TIMEOUT = 5000;
const LONGEST_MS = 0x7fff_ffff;

const callAnswer = new Float64Array(CALL_ANSWER.size);

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
export class Device extends DeviceBase {
  readonly regions: readonly DeviceRegion[];
  readonly opTimeout: number;

  readonly #calls: OpCalls;
  readonly #files: OpenFiles;
  readonly #pages: PageRequests;
  readonly #registers: RegisterRequests;
  readonly #removal: Removal;
  readonly #opCounts: Readonly<OpCounts>;
  #work: Float64Array | undefined;
  /** @internal Other threads that use it. */
  readonly _clients = new Set<DeviceClient>();

  static {
    branded('Device', this.prototype, (value) => #calls in value);
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
    const pci = checkPci(given.pci);
    const regions = checkRegions(name, given.regions, ops);
    prepare();
    if (regions.some((region) => region.supply >= 0))
      startPager(
        regions.some(({ askBeforeWrite }) => askBeforeWrite),
        ops.fault !== undefined,
      );
    super(CONSTRUCT, native.deviceCreate(name, opTimeout), name, pci);
    this.opTimeout = opTimeout;
    this.#calls = new OpCalls(this, ops);
    this.#files = new OpenFiles(this, this.#calls);
    this.#pages = new PageRequests(this, this.#calls);
    this.#registers = new RegisterRequests(this, this.#calls);
    this.#removal = new Removal(this, this.#files, this.#calls.running);
    this.#opCounts = viewOf(this.#calls.counts);
    shutAtExit();
    devicesHere.set(this._id, this);
    lookWhenRung(this._id, () => this.#look());
    try {
      this.regions = makeRegions(this._id, regions);
    } catch (error) {
      this._forget();
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
    return DeviceFile._of(this, id, this._backend);
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
    this.#files.notify();
    for (const client of this._clients) client.notify();
  }

  async unplug(reason?: unknown): Promise<RemovalReport> {
    return this.#removal.unplug(reason, this.#calls.running.callers());
  }

  async remove(options?: { timeout?: number }): Promise<RemovalReport> {
    const callers = this.#calls.running.callers();
    const { timeout } = checkOptions('options', options);
    const limit = integer('options.timeout', timeout === undefined ? DEFAULT_REMOVE_TIMEOUT : timeout, 0, LONGEST_MS);
    if (this.state !== 'removed') {
      this._removeRequested();
      for (const client of this._clients) client.removeRequested();
      await within(limit, this.#files.untilUnused());
    }
    return this.#removal.unplug(undefined, callers);
  }

  /** @internal Its only client removes it in an orderly way. Resolves when it may go on. */
  async _beforeRemoval(): Promise<void> {
    this._removeRequested();
    return this.#files.untilUnused();
  }

  /** @internal */
  registerPort(region: number, raw: boolean): RegisterPort {
    return this.#registers.port(region, raw);
  }

  /** @internal */
  drain(region: number): () => Promise<void> {
    const callers = this.#calls.running.callers();
    return async () => {
      await this.#calls.running.drainRegion(region, callers, performance.now() + this.opTimeout);
      this.#look(1024);
    };
  }

  /** @internal */
  _open(id: number): void {
    this.#files.open(id);
  }

  /** @internal */
  get _backend(): FileBackend {
    return this.#files.backend;
  }

  /** @internal How often each op has been called, by OP_INDEX. */
  get _counts(): Float64Array {
    return this.#calls.counts;
  }

  /** @internal True if its removal has begun. */
  get _removing(): boolean {
    return this.#removal.hasBegun;
  }

  #attach(): void {
    const calls = this.#calls;
    calls.count('attach');
    try {
      calls.atOnce('attach', calls.ops.attach?.(this));
    } catch (error) {
      void this.unplug(error).then(() => this.regions.forEach(({ object }) => object.close()));
      throw isError(error) ? error : calls.error('attach', error);
    }
  }

  /** @internal */
  _opFailed(info: DeviceFaultInfo): void {
    this._later(() => {
      for (const client of this._clients) client.fault(info);
      if (this.listenerCount('fault') > 0) this.emit('fault', info);
      else if ('error' in info && this._clients.size === 0) warnOfOp(this.name, info.op, info.error);
    });
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
    // An op that was called for the one before has removed the device. Threads that wait are woken by that.
    if (this._removing && kind !== 'mapping-ended' && kind !== 'expired') return;
    switch (kind) {
      case 'fault':
        return this.#pages.ask('fault', token, work, at + 2);
      case 'write-fault':
        return this.#pages.ask('pageMkwrite', token, work, at + 2);
      case 'expired':
        return this.#pages.expired(token);
      case 'call':
        return this.#answerCall(token, work.subarray(at + 2, at + WORK_NUMBERS));
      case 'access':
        return this.#registers.answerRaw(token, work.subarray(at + 2, at + WORK_NUMBERS));
      case 'mapping-ended':
        return this.#mappingEnded(work[at + 2], work[at + 3], work[at + 4], work[at + 5], work[at + 6]);
    }
  }

  #answerCall(token: number, [call, ...values]: Float64Array): void {
    const name = CALLS[call];
    try {
      const value = BigInt(this.#called(name, values) ?? 0);
      if (!this.#answered(token, 0, value, '')) this.#undoCall(name, values[0]);
    } catch (error) {
      const errno = isSystemError(error) ? -error.errno : 0;
      this.#answered(token, errno, 0n, errno === 0 ? bareMessage(error) : '');
    }
  }

  /** True if the caller still waited for it. */
  #answered(token: number, errno: number, value: bigint, message: string): boolean {
    const [low, high] = halvesOf(value);
    callAnswer[CALL_ANSWER.errno] = errno;
    callAnswer[CALL_ANSWER.low] = low;
    callAnswer[CALL_ANSWER.high] = high;
    return native.answerCall(this._id, token, callAnswer, message);
  }

  /** The caller has given up, or the device has gone: what the op has opened or allowed is never used. */
  #undoCall(name: CallName, file: number): void {
    if (name === 'open') this.#files.close(file);
    if (name === 'mmap') this.#files.unmapped(file);
  }

  #called(name: CallName, [a, b, c, d, e, thread]: number[]): number | bigint | undefined {
    switch (name) {
      case 'readRegister':
        return this.#registers.read(thread, a, b, c);
      case 'writeRegister':
        this.#registers.write(thread, a, b, c, valueOf(c, d, e));
        return undefined;
      case 'open':
        this.#files.open(a);
        return undefined;
      case 'release':
        this.#files.close(a);
        return undefined;
      case 'mmap':
        return this.#files.map(a, b, c, d, e === 1 ? 'rw' : 'r') === 'rw' ? 1 : 0;
      case 'unmap':
        this.#files.unmapped(a);
        return undefined;
    }
  }

  #mappingEnded(mapping: number, region: number, offset: number, length: number, file: number): void {
    this.#pages.abortOf(mapping);
    this.#removal.closeMapping(() => {
      this.#calls.quietly('close', () => this.#calls.ops.close?.({ mapping, region, offset, length }));
      this.#files.unmapped(file);
      this.#files.endWaitIfUnused(); // also of mappings that no file made
    });
  }

  /** @internal Does what other threads have asked for until now. */
  _workOff(): void {
    this.#look(Infinity);
  }

  /** @internal It is gone. */
  _forget(): void {
    devicesHere.delete(this._id);
    lookWhenRung(this._id, undefined);
    native.deviceForget(this._id);
  }
}

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
