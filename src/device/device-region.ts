/** The regions of a device. */
import { asBytes, bytesView, integer, memoryName, multipleOf, oneOf, requiredObject } from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { invalidType, invalidValue } from '../errors.js';
import { unwrap } from '../thread/wakeups.js';
import type { Mapping } from '../memory/mapping.js';
import { MemoryObject } from '../memory/memory-object.js';
import { SUPPLIES } from '../native/enums.js';
import { native } from '../native/load.js';
import type { DeviceOps, PageSupply, RegionOptions, RegisterModel } from './device-ops.js';
import { RegisterFile } from './register-file.js';

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
interface DescribedRegion {
  name: string;
  size: number;
  kind: 'memory' | 'registers';
  model?: RegisterModel | undefined;
  /** That of the model, if it is one. */
  file?: RegisterFile | undefined;
}

export interface CheckedRegion extends DescribedRegion {
  /** Index into SUPPLIES, or -1. */
  supply: number;
  content: Uint8Array | undefined;
  seed: number;
  around: number;
  askBeforeWrite: boolean;
}

export function checkRegions(device: string, regions: unknown, ops: DeviceOps): CheckedRegion[] {
  if (!Array.isArray(regions)) throw invalidType('options.regions', 'an instance of Array', regions);
  if (regions.length === 0) throw invalidValue('options.regions', 'must have at least one region', '[]');
  // Not map(): it would leave holes as they are.
  const checked = Array.from(regions, (region: RegionOptions, index) =>
    checkRegion(`${device}/${index}`, `options.regions[${index}]`, region, ops),
  );
  for (const [index, { file }] of checked.entries()) {
    const first = checked.findIndex((other) => other.file === file);
    if (file === undefined || first === index) continue;
    throw invalidValue(`options.regions[${index}].model`, `must not be that of options.regions[${first}]`, file);
  }
  return checked;
}

function checkRegion(fallback: string, at: string, region: RegionOptions, ops: DeviceOps): CheckedRegion {
  requiredObject(at, region);
  const name = region.name === undefined ? memoryName('options.name', fallback, '') : memoryName(`${at}.name`, region.name, '');
  const size = integer(`${at}.size`, region.size, 1, Number.MAX_SAFE_INTEGER);
  const kind = oneOf(`${at}.kind`, region.kind, ['memory', 'registers'], 'memory');
  const around = integer(`${at}.around`, region.around === undefined ? 1 : region.around, 1, 512);
  if (kind === 'registers') {
    if (region.pages !== undefined) throw invalidValue(`${at}.pages`, 'must be left out for registers', region.pages);
    const model = checkModel(at, region.model, size);
    return { name, size, kind, ...model, supply: -1, content: undefined, seed: 0, around, askBeforeWrite: false };
  }
  if (region.model !== undefined) throw invalidValue(`${at}.model`, "must be left out but for kind: 'registers'", region.model);
  const byOps = ops.fault !== undefined ? 'ask' : ops.pageMkwrite !== undefined ? 'zeros' : undefined;
  const pages = region.pages === undefined ? byOps : region.pages;
  if (pages === 'ask' && ops.fault === undefined) throw invalidValue(`${at}.pages`, "needs a fault op for 'ask'", pages);
  return {
    name,
    size,
    kind,
    model: undefined,
    file: undefined,
    around,
    askBeforeWrite: ops.pageMkwrite !== undefined,
    ...checkSupply(`${at}.pages`, pages, around),
  };
}

function checkModel(at: string, model: unknown, size: number): Pick<CheckedRegion, 'model' | 'file'> {
  if (RegisterFile._is(model)) {
    model._check(at, size);
    return { model: model._model, file: model };
  }
  if (model === undefined || native.isRegisterModel(model)) return { model: model as RegisterModel | undefined, file: undefined };
  throw invalidType(
    `${at}.model`,
    'an instance of RegisterFile, or a model that an addon has made (revocable-mmap/register-model.h)',
    model,
  );
}

function checkSupply(
  at: string,
  pages: PageSupply | undefined,
  around: number,
): Pick<CheckedRegion, 'supply' | 'content' | 'seed'> {
  const nothing = { content: undefined, seed: 0 };
  if (pages === undefined) return { supply: -1, ...nothing };
  if (typeof pages === 'string') return { supply: SUPPLIES.indexOf(oneOf(at, pages, ['ask', 'zeros'])), ...nothing };
  requiredObject(at, pages);
  if ('constant' in pages) {
    const byte = integer(`${at}.constant`, pages.constant, 0, 255);
    return { supply: SUPPLIES.indexOf('constant'), content: new Uint8Array(around * native.pageSize).fill(byte), seed: 0 };
  }
  if ('image' in pages) {
    if (!(pages.image instanceof Uint8Array) && !ArrayBuffer.isView(pages.image))
      throw invalidType(`${at}.image`, 'an instance of Uint8Array', pages.image);
    return { supply: SUPPLIES.indexOf('image'), content: asBytes(bytesView(`${at}.image`, pages.image)), seed: 0 };
  }
  const model = oneOf(`${at}.model`, pages.model, ['offsets', 'random']);
  const seed = integer(`${at}.seed`, pages.seed === undefined ? 0 : pages.seed, 0, Number.MAX_SAFE_INTEGER);
  return { supply: SUPPLIES.indexOf(model), content: undefined, seed };
}

/** Makes all of them or none. */
export function makeRegions(device: number, regions: CheckedRegion[]): DeviceRegion[] {
  const made: DeviceRegion[] = [];
  try {
    for (const [index, region] of regions.entries()) made.push(makeRegion(device, index, region));
    return made;
  } catch (error) {
    for (const region of made) region._undo();
    throw error;
  }
}

function makeRegion(device: number, index: number, region: CheckedRegion): DeviceRegion {
  const { name, size, kind, model, supply, content, seed, around, askBeforeWrite } = region;
  const id = unwrap(
    native.deviceRegion(device, index, size, name, kind === 'registers', supply, content, seed, around, askBeforeWrite, model),
  );
  return new DeviceRegion(CONSTRUCT, index, region, MemoryObject._ofDevice(id));
}
