/** The regions that this thread's own device has: their options, and the memory that is made for them. */
import { asBytes, bytesView, integer, memoryName, oneOf, requiredObject } from '../arguments.js';
import { CONSTRUCT } from '../brands.js';
import { invalidType, invalidValue } from '../errors.js';
import { MemoryObject } from '../memory/memory-object.js';
import { SUPPLIES } from '../native/enums.js';
import { native } from '../native/load.js';
import { unwrap } from '../thread/wakeups.js';
import type { DeviceOps, PageSupply, RegionOptions, RegisterModel } from './device-ops.js';
import { DeviceRegion, type DescribedRegion } from './device-region.js';
import { checkPlace } from './pci-options.js';
import { RegisterFile } from './register-file.js';

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
  const checked = Array.from(regions, (region: RegionOptions, index) => checkRegion(`${device}/${index}`, index, region, ops));
  for (const [index, { file }] of checked.entries()) {
    const first = checked.findIndex((other) => other.file === file);
    if (file === undefined || first === index) continue;
    throw invalidValue(`options.regions[${index}].model`, `must not be that of options.regions[${first}]`, file);
  }
  return checked;
}

function checkRegion(fallback: string, index: number, region: RegionOptions, ops: DeviceOps): CheckedRegion {
  const at = `options.regions[${index}]`;
  requiredObject(at, region);
  const place = checkPlace(at, index, region);
  const name = region.name === undefined ? memoryName('options.name', fallback, '') : memoryName(`${at}.name`, region.name, '');
  const size = integer(`${at}.size`, region.size, 1, Number.MAX_SAFE_INTEGER);
  const kind = oneOf(`${at}.kind`, region.kind, ['memory', 'registers'], 'memory');
  const around = integer(`${at}.around`, region.around === undefined ? 1 : region.around, 1, 512);
  if (kind === 'registers') {
    if (region.pages !== undefined) throw invalidValue(`${at}.pages`, 'must be left out for registers', region.pages);
    const model = checkModel(at, region.model, size);
    return { name, size, kind, place, ...model, supply: -1, content: undefined, seed: 0, around, askBeforeWrite: false };
  }
  if (region.model !== undefined) throw invalidValue(`${at}.model`, "must be left out but for kind: 'registers'", region.model);
  const received = region._received;
  if (received?.pages !== undefined) {
    const { askBeforeWrite } = received.pages;
    const supply = SUPPLIES.indexOf('elsewhere');
    const none = { model: undefined, file: undefined, content: undefined, seed: 0 };
    return { name, size, kind, place, around, received, askBeforeWrite, supply, ...none };
  }
  const byOps = ops.fault !== undefined ? 'ask' : ops.pageMkwrite !== undefined ? 'zeros' : undefined;
  const pages = region.pages === undefined ? byOps : region.pages;
  if (pages === 'ask' && ops.fault === undefined) throw invalidValue(`${at}.pages`, "needs a fault op for 'ask'", pages);
  return {
    name,
    size,
    kind,
    place,
    model: undefined,
    file: undefined,
    around,
    received,
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
  const registers = kind === 'registers';
  const { descriptor, writable, pages } = region.received ?? { descriptor: -1, writable: true };
  const { source, ownerServes } = pages ?? { source: -1, ownerServes: false };
  const memory = { size, content, seed, around, askBeforeWrite, descriptor, writable, source, ownerServes };
  const order = { index, name, registers, supply, model, ...memory };
  const id = unwrap(native.deviceRegion(device, order));
  return new DeviceRegion(CONSTRUCT, index, region, MemoryObject._ofDevice(id));
}
