/** The BARs of a served device: which of its regions are where in them. */
import type { DeviceRegion } from '../device/device-region.js';
import type { CheckedPci } from '../device/pci-options.js';
import { invalidValue } from '../errors.js';
import { native } from '../native/load.js';
import { PCI, type Area } from './wire.js';

/** A region, or the table of MSI-X. */
export interface Part {
  offset: number;
  size: number;
  /** Undefined for the table. */
  region: DeviceRegion | undefined;
}

export interface Bar {
  index: number;
  size: number;
  wide: boolean;
  prefetchable: boolean;
  /** Registers come first: what is over memory hides it. */
  parts: Part[];
  /** What can be mapped, by the descriptor of the memory that it has at its beginning. */
  areas: Area[];
  /** Not all of it is memory. */
  sparse: boolean;
}

/** The size of an entry of the table of MSI-X. */
const ENTRY_BYTES = 16;
/** The largest size that 32 bits can say. */
const MOST_OF_BAR = 2 ** 31;
const powerOfTwo = (size: number): number => 2 ** Math.ceil(Math.log2(size));

/** The offset of the pending bits in the BAR of MSI-X, behind the table; the BAR is twice that. */
export function pendingOffset(vectors: number): number {
  return Math.max(2048, powerOfTwo(vectors * ENTRY_BYTES));
}

/** By index. @throws TypeError where the regions have no room, or overlap. */
export function barsOf(regions: readonly DeviceRegion[], pci: CheckedPci | undefined): Map<number, Bar> {
  const bars = new Map<number, Bar>();
  for (const region of regions) {
    const { bar: index, barOffset: offset, wide, prefetchable } = region._place;
    const bar = bars.get(index) ?? { index, size: 0, wide: false, prefetchable: false, parts: [], areas: [], sparse: false };
    bars.set(index, bar);
    bar.wide ||= wide;
    bar.prefetchable ||= prefetchable;
    bar.parts.push({ offset, size: region.size, region });
  }
  for (const bar of bars.values()) layOut(bar, pci !== undefined);
  for (const bar of bars.values()) checkWide(bar, bars);
  if (pci !== undefined && pci.msix > 0) addTable(bars, pci.msix);
  return bars;
}

function checkWide({ index, wide }: Bar, bars: ReadonlyMap<number, Bar>): void {
  if (index >= PCI.bars) throw invalidValue('device', `must have at most ${PCI.bars} regions, or several in a BAR`, index + 1);
  if (wide && (index + 1 >= PCI.bars || bars.has(index + 1)))
    throw invalidValue('device', `must leave BAR ${index + 1} free: BAR ${index} has 64 bits`, index);
}

function layOut(bar: Bar, isPci: boolean): void {
  const end = Math.max(...bar.parts.map(({ offset, size }) => offset + size));
  bar.size = isPci ? Math.max(16, powerOfTwo(end)) : end;
  if (isPci && !bar.wide && bar.size > MOST_OF_BAR)
    throw invalidValue('device', `must have 64 bits (wide) for BAR ${bar.index} of that size`, bar.size);
  const registers = bar.parts.filter(({ region }) => region?.kind === 'registers').sort((a, b) => a.offset - b.offset);
  const memory = bar.parts.filter(({ region }) => region?.kind === 'memory');
  if (memory.length > 1 || memory.some(({ offset }) => offset !== 0))
    throw invalidValue('device', 'must have one region of memory at most in a BAR, at its beginning', bar.index);
  registers.forEach(({ offset, size }, i) => {
    if (i + 1 < registers.length && offset + size > registers[i + 1].offset)
      throw invalidValue('device', `must have registers in BAR ${bar.index} that do not overlap`, offset);
  });
  bar.parts = [...registers, ...memory];
  if (memory.length === 0) return;
  const { size } = memory[0];
  bar.areas = size === bar.size && registers.length === 0 ? [{ offset: 0, size }] : free(size, bar.size, registers);
  bar.sparse = bar.areas.length !== 1 || bar.areas[0].size !== bar.size;
}

/** The whole pages of the memory that no register is in. The last may be a part of one, where the BAR has room for it. */
function free(memory: number, room: number, registers: readonly Part[]): Area[] {
  const page = native.pageSize;
  const whole = Math.ceil(memory / page) * page;
  const size = whole <= room ? whole : Math.floor(memory / page) * page;
  const areas: Area[] = [];
  let begin = 0;
  for (const { offset, size: length } of [...registers, { offset: Infinity, size: 0 }]) {
    const end = Math.min(size, Math.floor(offset / page) * page);
    if (end > begin) areas.push({ offset: begin, size: end - begin });
    begin = Math.max(begin, Math.ceil((offset + length) / page) * page);
  }
  return areas;
}

function addTable(bars: Map<number, Bar>, vectors: number): void {
  const taken = new Set([...bars.values()].flatMap(({ index, wide }) => (wide ? [index, index + 1] : [index])));
  const index = [5, 4, 3, 2, 1, 0].find((free) => !taken.has(free));
  if (index === undefined) throw invalidValue('device', 'must leave a BAR free for the table of MSI-X', bars.size);
  const size = 2 * pendingOffset(vectors);
  const parts = [{ offset: 0, size, region: undefined }];
  bars.set(index, { index, size, wide: false, prefetchable: false, parts, areas: [], sparse: false });
}
