/** A region of a device, in every thread that has the device. */
import { integer, multipleOf, requiredObject } from '../arguments.js';
import { branded, requireConstruct } from '../brands.js';
import { invalidValue } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import type { MemoryObject } from '../memory/memory-object.js';
import { native } from '../native/load.js';
import { unwrap } from '../thread/wakeups.js';
import type { RegisterModel } from './device-ops.js';
import type { CheckedPlace } from './pci-options.js';
import type { RegisterFile } from './register-file.js';

/** A part of a device that can be mapped. All of it works in every thread that has the device. */
export class DeviceRegion {
  readonly name: string;
  readonly index: number;
  /** Bytes. */
  readonly size: number;
  readonly kind: 'memory' | 'registers';
  /** What is mapped. */
  readonly object: MemoryObject;
  #own: Mapping | undefined;
  /** @internal Where it is on a PCI bus. */
  readonly _place: CheckedPlace;
  /** @internal In the device's thread. Held as long as the device is there. */
  readonly _model: RegisterModel | undefined;
  /** @internal That of the model, if it is one. */
  readonly _file: RegisterFile | undefined;

  static {
    branded('DeviceRegion', this.prototype, (value) => #own in value);
  }

  /** @internal */
  constructor(key: symbol, index: number, options: DescribedRegion, object: MemoryObject) {
    requireConstruct(key);
    this._model = options.model;
    this._file = options.file;
    this._file?._begin();
    this.index = index;
    this.name = options.name;
    this.size = options.size;
    this.kind = options.kind;
    this._place = options.place;
    this.object = object;
  }

  /** @internal Its device is gone, and the model is called no more: it may go to another device. */
  _end(): void {
    this._file?._end();
  }

  /** @internal Its device has never been there. */
  _undo(): void {
    this.object.close();
    this._end();
  }

  /**
   * The device's own view of the memory: no op is asked for its pages, so a page that it touches first is there, with zeros, for all
   * (`present` when a mapping touches it). It is no mapping of a file: no `close` follows. It ends with the device.
   *
   * @throws TypeError (`ERR_INVALID_ARG_VALUE`) for registers; what {@link MemoryObject.map} throws.
   */
  get memory(): Mapping {
    if (this.kind === 'registers') throw invalidValue('region', 'must be memory: registers have none', this.name);
    return (this.#own ??= this.object._map({ access: 'rw' }, 0, true));
  }

  /** {@link memory}, raw. */
  get bytes(): Uint8Array {
    return this.memory.bytes;
  }

  /**
   * Lets pages go from all mappings: the next touch asks the `fault` op again, as after `unmap_mapping_range` in the kernel. The region
   * keeps their content. Pages that were refused are asked for again too. Does not wait for the device's thread.
   *
   * @throws TypeError, RangeError on a bad range, or one that is not whole pages; `ENODEV` once the region is revoked;
   *   MappingSuspendedError while it is suspended; the system error of madvise(2).
   */
  zap(range?: { offset: number; length: number }): void {
    this.object.zap(this.#pagesOf(range));
  }

  /**
   * {@link zap}, and forgets the content: the next touch brings new pages. Also while the region is suspended. Does not wait for the
   * device's thread.
   *
   * @throws TypeError, RangeError on a bad range, or one that is not whole pages; `ENODEV` once the region is revoked; the system error of
   *   fallocate(2) or madvise(2).
   */
  discard(range?: { offset: number; length: number }): void {
    const pages = this.#pagesOf(range);
    unwrap(native.objectDiscard(this.object._id, pages.offset, pages.length));
    // While it is suspended no mapping has pages to let go.
    if (this.object.state !== 'suspended') this.object.zap(pages);
  }

  /** A range within the region, whose last page may be a part of one. */
  #pagesOf(range: { offset: number; length: number } | undefined): { offset: number; length: number } {
    const { offset, length } = range === undefined ? { offset: 0, length: this.size } : requiredObject('range', range);
    const page = this.object._pageSize;
    multipleOf('range.offset', integer('range.offset', offset, 0, this.size - 1), page);
    integer('range.length', length, 1, this.size - offset);
    if (offset + length !== this.size) multipleOf('range.length', length, page);
    return { offset, length: Math.ceil(length / page) * page };
  }
}

/** What a region is in every thread, and what answers for it in the device's. */
export interface DescribedRegion {
  name: string;
  size: number;
  kind: 'memory' | 'registers';
  place: CheckedPlace;
  model?: RegisterModel | undefined;
  /** That of the model, if it is one. */
  file?: RegisterFile | undefined;
  /** The memory, where another process made it. */
  received?: ReceivedMemory | undefined;
}

/** Memory of another process, by its descriptor, which stays the caller's. */
export interface ReceivedMemory {
  descriptor: number;
  writable: boolean;
  /** Where its pages are asked for at their first touch. */
  pages?: { source: number; askBeforeWrite: boolean; ownerServes: boolean };
}
