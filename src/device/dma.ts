/** Memory that users of a device have given to it, at the addresses by which the device reaches it: what an IOMMU is to a card. */
import { inspect } from 'node:util';
import { asBytes, boolean, bytesView, integer, multipleOf, oneOf, options, requiredObject } from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { invalidType, invalidValue, isRevokedError, systemError } from '../errors.js';
import { MemoryObject } from '../memory/memory-object.js';
import type { Mapping } from '../memory/mapping.js';
import { native } from '../native/load.js';
import { osConstants } from '../os-constants.js';
import { goneError } from './device-errors.js';

/** What the device may do there: read, write. */
export type DmaAccess = 'r' | 'w' | 'rw';

export interface DmaOptions {
  /** Where the device finds it: a multiple of the page size. */
  address: number;
  /** First byte, from the start of the object; a multiple of the page size. Default 0. */
  offset?: number;
  /** Bytes; a multiple of the page size. Default: to the end of the object. */
  length?: number;
  /** Default `'rw'`, or `'r'` where the object is not writable. */
  access?: DmaAccess;
  /**
   * The process that serves the device gets no descriptor of the memory: each access of the device is a message. Means nothing for a device
   * of this process. Default false.
   */
  byMessages?: boolean;
}

/** How the device accesses memory. */
export interface DmaTransferOptions {
  /**
   * Asks the client for each access, also where it has given a descriptor: it sees what the device does. Means nothing for memory that was
   * given in the device's own process. Default false.
   */
  byMessages?: boolean;
}

/** Memory that is reached by asking for it. */
export interface RemoteMemory {
  read(address: number, length: number): Promise<Uint8Array>;
  write(address: number, bytes: Uint8Array): Promise<void>;
}

/** What is to be reached at an address. */
export interface DmaPlace {
  address: number;
  length: number;
  access: DmaAccess;
  /** The object is the range's from then on: it is revoked when the range ends. `remote`: where it can be asked for too. */
  memory: { object: MemoryObject; offset: number; remote?: RemoteMemory | undefined } | RemoteMemory;
  /** Of another thread too: the device may use it while the first is not 0. */
  gate?: Uint8Array | undefined;
  /** Of what is served elsewhere: no descriptor goes there. */
  byMessages?: boolean | undefined;
  /** The giver's own object of the memory. */
  source?: MemoryObject | undefined;
}

/** Where a device is served elsewhere: what it does when ranges come and go. */
export interface DmaElsewhere {
  /** There the objects of ranges are used, and closed. */
  readonly closes: boolean;
  map(range: DmaRange): Promise<void>;
  unmap(range: DmaRange): Promise<void>;
}

const failure = (number: number, hint: string): NodeJS.ErrnoException =>
  systemError({ errno: -number, syscall: 'dma' }, { hint });

/** No buffer of that size is longer than an old version of Node can have. */
const WINDOW_BYTES = 2 ** 30;

/** A range of addresses at which a device has been given memory, by {@link DeviceDma.map} or by a client in another process. */
export class DmaRange {
  readonly address: number;
  readonly length: number;
  readonly access: DmaAccess;
  /** Where the range begins in `object`. */
  readonly offset: number;
  /** @internal */
  readonly _byMessages: boolean;
  /** @internal What another process gets a descriptor of. */
  readonly _source: MemoryObject | undefined;
  /** @internal The device may use it while the first is not 0. */
  readonly _gate: Uint8Array | undefined;
  /** @internal Called after each write of the device that is made here, also one that has failed. */
  _onWrite: ((offset: number, length: number) => void) | undefined;
  /** @internal The model has been given {@link object}: what it writes through mappings of its own is not seen. */
  _isTaken = false;
  /** @internal {@link object}, for this library. */
  readonly _object: MemoryObject | undefined;
  readonly #dma: DeviceDma;
  readonly #remote: RemoteMemory | undefined;
  readonly #windows = new Map<number, Mapping>();
  #over = false;

  static {
    branded('DmaRange', this.prototype, (value) => #windows in value);
  }

  /** @internal */
  constructor(key: symbol, dma: DeviceDma, place: DmaPlace) {
    requireConstruct(key);
    const { address, length, access, memory, gate, byMessages, source } = place;
    this.#dma = dma;
    this.address = address;
    this.length = length;
    this.access = access;
    this._object = 'object' in memory ? memory.object : undefined;
    this.offset = 'object' in memory ? memory.offset : 0;
    this.#remote = 'object' in memory ? memory.remote : memory;
    this._source = source ?? this._object;
    this._gate = gate;
    this._byMessages = byMessages === true;
  }

  /**
   * The memory itself, to be mapped: the device's own object of it, which is revoked when the range ends. Undefined where each access is a
   * message. A client that logs what the device writes is answered all of a range whose object has been asked for, if it may be written.
   */
  get object(): MemoryObject | undefined {
    this._isTaken = true;
    return this._object;
  }

  /** True until it has been unmapped, by whichever side. */
  get mapped(): boolean {
    return !this.#over;
  }

  /**
   * Takes it away: what the device has mapped of it is revoked, what is under way fails, and at its addresses is nothing. Of a device that is
   * served elsewhere it resolves when that is so there. Idempotent.
   *
   * @throws (rejects) of a device that is served elsewhere: the system error that the server answers; ShareError. Here it is gone all the same.
   */
  async unmap(): Promise<void> {
    return this.#dma._unmap(this);
  }

  [inspect.custom](): string {
    const end = (this.address + this.length).toString(16);
    return `DmaRange <0x${this.address.toString(16)} to 0x${end} ${this.access}${this.#over ? ' unmapped' : ''}>`;
  }

  /** @internal Nothing reaches it any more. */
  _end(): void {
    if (this.#over) return;
    this.#over = true;
    this._object?.revokeSync();
    for (const window of this.#windows.values()) window.close();
    if (this.#dma._elsewhere?.closes !== true) this.#closeOnceUnused();
  }

  /** The model's own mappings go on saying that they are revoked; the last of them lets go of the descriptor. */
  #closeOnceUnused(): void {
    const mappings = this._object?.mappings;
    if (mappings?.size === 0) this._object!.close();
    mappings?.forEach((mapping) => mapping.once('close', () => this.#closeOnceUnused()));
  }

  /** @internal */
  _throwUnlessAllowed(access: 'r' | 'w'): void {
    if (!this.access.includes(access))
      throw failure(osConstants.errno.EACCES, `the range may not be ${access === 'r' ? 'read' : 'written'}`);
    if (this._gate?.[0] === 0) throw failure(osConstants.errno.EACCES, 'bus mastering is off in the command register');
  }

  /** @internal `#over` is looked at by the caller. */
  _copySync(offset: number, bytes: Uint8Array, access: 'r' | 'w'): void {
    if (this._object === undefined)
      throw failure(osConstants.errno.ENOTSUP, 'each access of this range is a message: use read() and write()');
    try {
      this.#copy(offset, bytes, access);
    } catch (error) {
      if (isRevokedError(error) && this.#over) throw this.#unmapped();
      throw error;
    } finally {
      if (access === 'w') this._onWrite?.(offset, bytes.byteLength);
    }
  }

  /** @internal `byMessages`: asks for it wherever it can. */
  async _copy(offset: number, bytes: Uint8Array, access: 'r' | 'w', byMessages: boolean): Promise<void> {
    if (this.#over) throw this.#unmapped();
    this._throwUnlessAllowed(access);
    if (this.#remote === undefined || (this._object !== undefined && !byMessages)) return this._copySync(offset, bytes, access);
    try {
      if (access === 'w') await this.#remote.write(this.address + offset, bytes);
      else bytes.set(await this.#remote.read(this.address + offset, bytes.byteLength));
    } catch (error) {
      if (this.#over) throw this.#unmapped();
      throw error;
    }
    if (this.#over) throw this.#unmapped();
  }

  #unmapped(): Error {
    return failure(osConstants.errno.EFAULT, 'the range has been unmapped');
  }

  #copy(offset: number, bytes: Uint8Array, access: 'r' | 'w'): void {
    for (let done = 0; done < bytes.byteLength;) {
      const index = Math.floor((offset + done) / WINDOW_BYTES);
      const at = offset + done - index * WINDOW_BYTES;
      const piece = bytes.subarray(done, done + Math.min(bytes.byteLength - done, WINDOW_BYTES - at));
      const window = this.#window(index);
      if (access === 'w') window.write(at, piece);
      else window.read(at, piece);
      done += piece.byteLength;
    }
  }

  #window(index: number): Mapping {
    const known = this.#windows.get(index);
    if (known !== undefined) return known;
    const begin = index * WINDOW_BYTES;
    const length = Math.min(WINDOW_BYTES, this.length - begin);
    const mapping = this._object!.map({ offset: this.offset + begin, length, access: this.access === 'r' ? 'r' : 'rw' });
    this.#windows.set(index, mapping);
    return mapping;
  }
}

/**
 * The memory that a device may access by itself: given to it by {@link map}, or by clients of a served device (`DMA_MAP`), each range at an
 * address of the giver's choice. Ranges do not overlap.
 *
 * @example
 * ```js
 * const memory = MemoryObject.create({ size: 65536 });
 * const range = await device.dma.map(memory, { address: 0x10000 });
 * await device.dma.write(0x10010, new Uint8Array([1, 2, 3])); // in the device's model
 * memory.map().read8(0x10); // 1
 * await range.unmap();
 * ```
 */
export class DeviceDma {
  /** By address, without overlap. */
  readonly #ranges: DmaRange[] = [];
  readonly #device: string;
  #ended = false;
  /** @internal */
  _elsewhere: DmaElsewhere | undefined;

  static {
    branded('DeviceDma', this.prototype, (value) => #ranges in value);
  }

  /** @internal */
  constructor(key: symbol, device: string) {
    requireConstruct(key);
    this.#device = device;
  }

  /** What is mapped now, by address: a snapshot. */
  get ranges(): readonly DmaRange[] {
    return [...this.#ranges];
  }

  /**
   * Gives memory to the device. It has an object of its own of the same memory: the giver's stays as it is. The range ends with `unmap()`,
   * when the giver's object is revoked or closed, and with the device. A device that another process serves gets a descriptor.
   *
   * @throws (rejects) TypeError, RangeError on bad arguments; `EEXIST` where a range is mapped already; `ENODEV` once the device is being
   *   removed, or where the object is not live; of a device that is served elsewhere the system error that the server answers, or ShareError;
   *   what {@link MemoryObject.fromFd} throws.
   */
  async map(object: MemoryObject, options: DmaOptions): Promise<DmaRange> {
    const place = checkPlace(object, options);
    if (object.state !== 'live') throw failure(osConstants.errno.ENODEV, 'the memory is not live');
    const writable = place.access !== 'r';
    const own = MemoryObject.fromFd(object.fd, { writable, name: `${this.#device} dma ${object.name}`.slice(0, 249) });
    const range = await this._give({ ...place, memory: { object: own, offset: place.offset }, source: object });
    const end = (): void => void this._unmap(range).catch(() => undefined); // the connection has ended, and the range with it
    object.once('revoked', end).once('close', end);
    own.once('close', () => object.off('revoked', end).off('close', end));
    if (object.state !== 'live') end();
    return range;
  }

  /**
   * The device reads memory that it has been given, across ranges that adjoin. Where it is mapped here that is done in this call; where each
   * access is a message it waits for the answer. When it rejects, a part of `target` may have been filled.
   *
   * @throws (rejects) TypeError, RangeError on bad arguments; `EFAULT` where there is no memory at one of the addresses, or it has been
   *   unmapped meanwhile; `EACCES` where the device may not read it, or its bus mastering is off; `ENODEV` once the device is being removed;
   *   BackingFaultError where its giver has truncated it; the system error that the giver answers; ShareError.
   */
  async read(address: number, target: NodeJS.ArrayBufferView, options?: DmaTransferOptions): Promise<void> {
    await this.#transfer(address, asBytes(bytesView('target', target)), 'r', options);
  }

  /** The device writes to memory that it has been given. See {@link read}. */
  async write(address: number, source: NodeJS.ArrayBufferView, options?: DmaTransferOptions): Promise<void> {
    await this.#transfer(address, asBytes(bytesView('source', source)), 'w', options);
  }

  /** {@link read}, in this call. @throws also `ENOTSUP` where an access is a message. */
  readSync(address: number, target: NodeJS.ArrayBufferView): void {
    this.#transferSync(address, asBytes(bytesView('target', target)), 'r');
  }

  /** {@link write}, in this call. @throws also `ENOTSUP` where an access is a message. */
  writeSync(address: number, source: NodeJS.ArrayBufferView): void {
    this.#transferSync(address, asBytes(bytesView('source', source)), 'w');
  }

  [inspect.custom](): string {
    return `DeviceDma <${this.#device} ${this.#ranges.length} ranges>`;
  }

  /** @internal Adds it here, and where the device is served. The memory's object is closed where that fails. */
  async _give(place: DmaPlace): Promise<DmaRange> {
    const range = this._add(place);
    try {
      await this._elsewhere?.map(range);
      if (!range.mapped) throw goneError('dma');
      return range;
    } catch (error) {
      this._remove(range);
      throw error;
    }
  }

  /** @internal @throws `EEXIST`, `ENODEV`; then the memory's object is closed. */
  _add(place: DmaPlace): DmaRange {
    const range = new DmaRange(CONSTRUCT, this, place);
    const index = this.#indexAfter(place.address);
    const [before, after] = [this.#ranges[index - 1], this.#ranges[index]] as (DmaRange | undefined)[];
    const overlaps =
      (before !== undefined && before.address + before.length > place.address) ||
      (after !== undefined && place.address + place.length > after.address);
    if (overlaps || this.#ended) {
      range._end();
      throw this.#ended ? goneError('dma') : failure(osConstants.errno.EEXIST, 'a part of the range is mapped already');
    }
    this.#ranges.splice(index, 0, range);
    return range;
  }

  /** @internal */
  _remove(range: DmaRange): void {
    const index = this.#ranges.indexOf(range);
    if (index >= 0) this.#ranges.splice(index, 1);
    range._end();
  }

  /** @internal */
  async _unmap(range: DmaRange): Promise<void> {
    if (!range.mapped) return;
    this._remove(range);
    await this._elsewhere?.unmap(range);
  }

  /** @internal True if none of it has to be asked for. */
  _isHere(address: number, length: number): boolean {
    const end = address + length;
    return this.#ranges.every(
      (range) => range._object !== undefined || range.address >= end || range.address + range.length <= address,
    );
  }

  /** @internal The device is being removed. */
  _end(): void {
    this.#ended = true;
    for (const range of this.#ranges.splice(0)) range._end();
  }

  async #transfer(address: number, bytes: Uint8Array, access: 'r' | 'w', how: DmaTransferOptions | undefined): Promise<void> {
    const byMessages = boolean('options.byMessages', options('options', how).byMessages, false);
    for (const { range, offset, piece } of this.#pieces(address, bytes, access))
      await range._copy(offset, piece, access, byMessages);
  }

  #transferSync(address: number, bytes: Uint8Array, access: 'r' | 'w'): void {
    for (const { range, offset, piece } of this.#pieces(address, bytes, access)) range._copySync(offset, piece, access);
  }

  /** All of them may be used, before any is. */
  #pieces(address: number, bytes: Uint8Array, access: 'r' | 'w'): { range: DmaRange; offset: number; piece: Uint8Array }[] {
    integer('address', address, 0, Number.MAX_SAFE_INTEGER);
    if (this.#ended) throw goneError('dma');
    const pieces = [];
    for (let done = 0; done < bytes.byteLength;) {
      const range = this.#at(address + done);
      range._throwUnlessAllowed(access);
      const offset = address + done - range.address;
      const piece = bytes.subarray(done, done + Math.min(bytes.byteLength - done, range.length - offset));
      pieces.push({ range, offset, piece });
      done += piece.byteLength;
    }
    return pieces;
  }

  #at(address: number): DmaRange {
    const range = this.#ranges[this.#indexAfter(address) - 1] as DmaRange | undefined;
    if (range !== undefined && address < range.address + range.length) return range;
    throw failure(osConstants.errno.EFAULT, `no memory at 0x${address.toString(16)}`);
  }

  /** How many ranges begin at or before the address. */
  #indexAfter(address: number): number {
    let [low, high] = [0, this.#ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ranges[middle].address <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

type CheckedPlace = Omit<DmaPlace, 'memory'> & { offset: number };

function checkPlace(object: unknown, options: DmaOptions): CheckedPlace {
  if (!MemoryObject._is(object)) throw invalidType('object', 'an instance of MemoryObject', object);
  if (object._backing?.registers !== undefined) throw invalidValue('object', 'must be memory, not registers', object.name);
  const given = requiredObject('options', options);
  const page = native.pageSize;
  const aligned = (name: 'address' | 'offset' | 'length', value: unknown, least: number, most: number): number =>
    multipleOf(`options.${name}`, integer(`options.${name}`, value, least, most), page);
  const offset = aligned('offset', given.offset === undefined ? 0 : given.offset, 0, Math.max(object.size - 1, 0));
  const most = Math.max(object.size - offset, 1);
  const length = aligned('length', given.length === undefined ? most : given.length, 1, most);
  const address = aligned('address', given.address, 0, Number.MAX_SAFE_INTEGER - length);
  const access = oneOf<DmaAccess>('options.access', given.access, ['r', 'w', 'rw'], object.writable ? 'rw' : 'r');
  return { address, offset, length, access, byMessages: boolean('options.byMessages', given.byMessages, false) };
}
