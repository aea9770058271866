/**
 * The vfio-user protocol on the wire: numbers and layouts of its specification (QEMU's interop documentation), which mirror
 * `linux/vfio.h`. All numbers are little-endian, as on every host this package runs on. Nothing here knows sockets.
 */
import { constants as osConstants } from 'node:os';

export const COMMANDS = {
  version: 1,
  dmaMap: 2,
  dmaUnmap: 3,
  deviceInfo: 4,
  regionInfo: 5,
  regionIoFds: 6,
  irqInfo: 7,
  setIrqs: 8,
  regionRead: 9,
  regionWrite: 10,
  dmaRead: 11,
  dmaWrite: 12,
  reset: 13,
  regionWriteMulti: 15,
  deviceFeature: 16,
  /** This library's own, on a connection of its own: see `page-fault.ts`. */
  pageFault: 0x5046,
} as const;

export const HEADER_BYTES = 16;
const FLAGS = { type: 0xf, reply: 0x1, noReply: 0x10, error: 0x20 } as const;

/** What a peer may ask for with one command if it has not said otherwise. */
export const MOST_DATA = 1 << 20;
/** The data of a version is some capabilities. */
export const MOST_VERSION_DATA = 4096;
/** What stands before the data of a region access. */
export const ACCESS_BYTES = 16;
export const REGION_INFO_BYTES = 32;
export const DEVICE_INFO_BYTES = 16;
export const IRQ_INFO_BYTES = 16;
export const IRQ_SET_BYTES = 20;
export const DMA_MAP_BYTES = 32;
export const DMA_UNMAP_BYTES = 24;
const WRITE_BYTES = 24;

export const DEVICE_FLAGS = { reset: 1, pci: 2 } as const;
export const REGION_FLAGS = { read: 1, write: 2, mmap: 4, caps: 8 } as const;
export const IRQ_FLAGS = { eventfd: 1, maskable: 2, automasked: 4, noresize: 8 } as const;
export const IRQ_SET = { none: 1, bool: 2, eventfd: 4, mask: 8, unmask: 16, trigger: 32 } as const;
/** `mmap` is an addition of other implementations: that the descriptor is to be mapped. */
export const DMA_FLAGS = { read: 1, write: 2, mmap: 4 } as const;
export const DMA_UNMAP_FLAGS = { dirtyBitmap: 1, all: 2 } as const;
export const DMA_ACCESS_BYTES = 16;
/** Of a device: the lowest 16 bits of the flags say which; then what is asked of it. */
export const FEATURES = { logStart: 6, logStop: 7, logReport: 8 } as const;
export const FEATURE_FLAGS = { get: 0x1_0000, set: 0x2_0000, probe: 0x4_0000 } as const;
const FEATURE_BYTES = 8;
const LOG_START_BYTES = 16;
const LOG_REPORT_BYTES = 24;
const LOG_RANGE_BYTES = 16;
/** Indexes of a PCI device's regions and interrupts. */
export const PCI = { bars: 6, config: 7, regions: 9, intx: 0, msi: 1, msix: 2, request: 4, irqs: 5 } as const;

export interface Header {
  id: number;
  command: number;
  /** Of the whole message. */
  size: number;
  reply: boolean;
  noReply: boolean;
  /** Of a reply: 0 is none, and -1 an error without a number. */
  errno: number;
}

export interface Message extends Header {
  /** Lent: good until the next message of the same peer is read. */
  body: Uint8Array;
  /** The receiver's to close. */
  descriptors: number[];
}

/** What a message does not say as the protocol has it. `errno` is for the reply; of a message that cannot be answered the connection ends. */
export class WireError extends Error {
  constructor(
    message: string,
    readonly errno = osConstants.errno.EINVAL,
  ) {
    super(message);
  }
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const SLAB_BYTES = 16_384;
let slab = new ArrayBuffer(SLAB_BYTES);
let slabUsed = 0;

/** New memory for a message, of zeros. Short ones share an ArrayBuffer, which costs V8 more to make than they are to fill. */
export function zeros(bytes: number): Uint8Array {
  if (bytes > SLAB_BYTES / 16) return new Uint8Array(bytes);
  if (slabUsed + bytes > SLAB_BYTES) {
    slab = new ArrayBuffer(SLAB_BYTES);
    slabUsed = 0;
  }
  const memory = new Uint8Array(slab, slabUsed, bytes);
  slabUsed += (bytes + 7) & ~7;
  return memory;
}

export function decodeHeader(bytes: Uint8Array, view = viewOf(bytes)): Header {
  const flags = view.getUint32(8, true);
  const type = flags & FLAGS.type;
  const size = view.getUint32(4, true);
  if (type > FLAGS.reply) throw new WireError(`a message of type ${type}`);
  if (size < HEADER_BYTES) throw new WireError(`a message of ${size} bytes`);
  const reply = type === FLAGS.reply;
  const failed = reply && (flags & FLAGS.error) !== 0;
  return {
    id: view.getUint16(0, true),
    command: view.getUint16(2, true),
    size,
    reply,
    noReply: !reply && (flags & FLAGS.noReply) !== 0,
    errno: failed ? view.getUint32(12, true) || -1 : 0,
  };
}

/** A whole message. */
export function encode(header: Partial<Header> & Pick<Header, 'id' | 'command'>, body: Uint8Array = EMPTY): Uint8Array {
  const bytes = zeros(HEADER_BYTES + body.byteLength);
  const view = viewOf(bytes);
  const { id, command, reply = false, noReply = false, errno = 0 } = header;
  view.setUint16(0, id, true);
  view.setUint16(2, command, true);
  view.setUint32(4, bytes.byteLength, true);
  view.setUint32(8, (reply ? FLAGS.reply : 0) | (noReply ? FLAGS.noReply : 0) | (errno !== 0 ? FLAGS.error : 0), true);
  view.setUint32(12, Math.max(errno, 0), true);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

const EMPTY = new Uint8Array(0);

function need(body: Uint8Array, bytes: number, what: string): DataView {
  if (body.byteLength < bytes) throw new WireError(`${what} of ${body.byteLength} bytes instead of ${bytes}`);
  return viewOf(body);
}

function needExactly(body: Uint8Array, bytes: number, what: string): DataView {
  if (body.byteLength !== bytes) throw new WireError(`${what} of ${body.byteLength} bytes instead of ${bytes}`);
  return viewOf(body);
}

const MOST_HIGH = Math.floor(Number.MAX_SAFE_INTEGER / 2 ** 32);

/** A size or an offset: what JavaScript cannot count exactly is in no region. */
function getSize(view: DataView, at: number, what: string): number {
  const high = view.getUint32(at + 4, true);
  if (high > MOST_HIGH) throw new WireError(`${what} ${view.getBigUint64(at, true)}`);
  return high * 2 ** 32 + view.getUint32(at, true);
}

const put = (bytes: number, fill: (view: DataView) => void): Uint8Array => {
  const body = zeros(bytes);
  fill(viewOf(body));
  return body;
};

export interface DeviceInfo {
  flags: number;
  regions: number;
  irqs: number;
}

/** Of the request, which is the same struct, only its size counts. */
export function decodeDeviceInfo(body: Uint8Array): DeviceInfo {
  const view = need(body, DEVICE_INFO_BYTES, 'device info');
  if (view.getUint32(0, true) < DEVICE_INFO_BYTES) throw new WireError(`device info with argsz ${view.getUint32(0, true)}`);
  return { flags: view.getUint32(4, true), regions: view.getUint32(8, true), irqs: view.getUint32(12, true) };
}

export function encodeDeviceInfo({ flags, regions, irqs }: DeviceInfo): Uint8Array {
  return put(DEVICE_INFO_BYTES, (view) =>
    [DEVICE_INFO_BYTES, flags, regions, irqs].forEach((n, i) => view.setUint32(i * 4, n, true)),
  );
}

export interface Area {
  offset: number;
  size: number;
}

export interface RegionInfo {
  index: number;
  flags: number;
  size: number;
  /** For mmap(2) of the descriptor. */
  offset: number;
  /** What of it can be mapped, where that is not all. */
  areas: Area[];
  /** Of a request: room for the reply. Of a reply: what it would need in whole. */
  argsz: number;
}

const CAP_SPARSE_MMAP = 1;
const CAP_BYTES = 16;
const AREA_BYTES = 16;
export const MOST_AREAS = 1024;

/** The whole reply. */
export function regionInfoBytes(areas: readonly Area[]): number {
  return REGION_INFO_BYTES + (areas.length === 0 ? 0 : CAP_BYTES + areas.length * AREA_BYTES);
}

export function decodeRegionInfo(body: Uint8Array): RegionInfo {
  const view = need(body, REGION_INFO_BYTES, 'region info');
  if (view.getUint32(0, true) < REGION_INFO_BYTES) throw new WireError(`region info with argsz ${view.getUint32(0, true)}`);
  const [size, offset] = [getSize(view, 16, 'a region of size'), getSize(view, 24, 'a region at offset')];
  const flags = view.getUint32(4, true);
  const areas = (flags & REGION_FLAGS.caps) === 0 ? [] : decodeAreas(body, view.getUint32(12, true), size);
  return { argsz: view.getUint32(0, true), flags, index: view.getUint32(8, true), size, offset, areas };
}

/** Capabilities that did not fit are not there: `argsz` says so. */
function decodeAreas(body: Uint8Array, first: number, size: number): Area[] {
  const view = viewOf(body);
  for (let at = first, least = REGION_INFO_BYTES; at !== 0 && at < body.byteLength; at = view.getUint32(at + 4, true)) {
    if (at < least || at + 8 > body.byteLength) throw new WireError(`a capability at ${at}`);
    if (view.getUint16(at, true) === CAP_SPARSE_MMAP) return sparseAreas(body, at, size);
    least = at + 8; // they do not go back
  }
  return [];
}

function sparseAreas(body: Uint8Array, at: number, size: number): Area[] {
  const view = viewOf(body);
  const count = at + CAP_BYTES > body.byteLength ? Infinity : view.getUint32(at + 8, true);
  if (count > MOST_AREAS || at + CAP_BYTES + count * AREA_BYTES > body.byteLength) throw new WireError('areas that are cut off');
  return Array.from({ length: count }, (_, i) => {
    const place = at + CAP_BYTES + i * AREA_BYTES;
    const area = { offset: getSize(view, place, 'an area at'), size: getSize(view, place + 8, 'an area of') };
    if (area.size === 0 || area.offset + area.size > size) throw new WireError(`an area of ${area.size} bytes at ${area.offset}`);
    return area;
  });
}

/** Areas that do not fit into `room` are left out: then only the number of bytes says that there are some. */
export function encodeRegionInfo(
  { index, flags, size, offset, areas = [], argsz }: Omit<RegionInfo, 'areas' | 'argsz'> & Partial<RegionInfo>,
  room = Infinity,
): Uint8Array {
  const whole = regionInfoBytes(areas);
  const caps = areas.length > 0;
  return put(whole <= room ? whole : REGION_INFO_BYTES, (view) => {
    const cap = caps ? REGION_INFO_BYTES : 0;
    [argsz ?? whole, flags | (caps ? REGION_FLAGS.caps : 0), index, cap].forEach((n, i) => view.setUint32(i * 4, n, true));
    view.setBigUint64(16, BigInt(size), true);
    view.setBigUint64(24, BigInt(offset), true);
    if (!caps || whole > room) return;
    view.setUint16(REGION_INFO_BYTES, CAP_SPARSE_MMAP, true);
    view.setUint16(REGION_INFO_BYTES + 2, 1, true);
    view.setUint32(REGION_INFO_BYTES + 8, areas.length, true);
    areas.forEach((area, i) => {
      const at = REGION_INFO_BYTES + CAP_BYTES + i * AREA_BYTES;
      view.setBigUint64(at, BigInt(area.offset), true);
      view.setBigUint64(at + 8, BigInt(area.size), true);
    });
  });
}

export interface IrqInfo {
  index: number;
  flags: number;
  count: number;
}

export function decodeIrqInfo(body: Uint8Array): IrqInfo {
  const view = need(body, IRQ_INFO_BYTES, 'interrupt info');
  if (view.getUint32(0, true) < IRQ_INFO_BYTES) throw new WireError(`interrupt info with argsz ${view.getUint32(0, true)}`);
  return { flags: view.getUint32(4, true), index: view.getUint32(8, true), count: view.getUint32(12, true) };
}

export function encodeIrqInfo({ index, flags, count }: IrqInfo): Uint8Array {
  return put(IRQ_INFO_BYTES, (view) => [IRQ_INFO_BYTES, flags, index, count].forEach((n, i) => view.setUint32(i * 4, n, true)));
}

export interface IrqSet {
  index: number;
  start: number;
  count: number;
  data: 'none' | 'bool' | 'eventfd';
  action: 'mask' | 'unmask' | 'trigger';
  /** Of `'bool'`: one byte for each. */
  chosen: Uint8Array;
}

const DATA_FLAGS = IRQ_SET.none | IRQ_SET.bool | IRQ_SET.eventfd;
const IRQ_DATA: Record<number, IrqSet['data']> = { [IRQ_SET.none]: 'none', [IRQ_SET.bool]: 'bool', [IRQ_SET.eventfd]: 'eventfd' };
const IRQ_ACTIONS: Record<number, IrqSet['action']> = {
  [IRQ_SET.mask]: 'mask',
  [IRQ_SET.unmask]: 'unmask',
  [IRQ_SET.trigger]: 'trigger',
};

export function decodeIrqSet(body: Uint8Array): IrqSet {
  const view = need(body, IRQ_SET_BYTES, 'an interrupt set');
  const [argsz, flags, index, start, count] = [0, 4, 8, 12, 16].map((at) => view.getUint32(at, true));
  const data = IRQ_DATA[flags & DATA_FLAGS];
  const action = IRQ_ACTIONS[flags & ~DATA_FLAGS];
  if (data === undefined || action === undefined) throw new WireError(`an interrupt set with flags ${flags}`);
  const bytes = IRQ_SET_BYTES + (data === 'bool' ? count : 0);
  if (argsz !== bytes || body.byteLength !== bytes) throw new WireError(`an interrupt set of ${body.byteLength} bytes`);
  return { index, start, count, data, action, chosen: body.subarray(IRQ_SET_BYTES) };
}

export function encodeIrqSet({ index, start, count, data, action, chosen }: IrqSet): Uint8Array {
  const bytes = IRQ_SET_BYTES + chosen.byteLength;
  const body = put(bytes, (view) => {
    [bytes, IRQ_SET[data] | IRQ_SET[action], index, start, count].forEach((n, i) => view.setUint32(i * 4, n, true));
  });
  body.set(chosen, IRQ_SET_BYTES);
  return body;
}

export interface RegionAccess {
  region: number;
  offset: number;
  count: number;
  /** What is written, or has been read. */
  data: Uint8Array;
}

/** A command to read, or a reply to a write: nothing follows. */
export function decodeRegionRead(body: Uint8Array): RegionAccess {
  needExactly(body, ACCESS_BYTES, 'a region access');
  return decodeAccess(body);
}

/** A command to write, or a reply to a read: the data follows. */
export function decodeRegionData(body: Uint8Array): RegionAccess {
  need(body, ACCESS_BYTES, 'a region access');
  const access = decodeAccess(body);
  if (access.data.byteLength !== access.count)
    throw new WireError(`${access.data.byteLength} bytes of data instead of ${access.count}`);
  return access;
}

function decodeAccess(body: Uint8Array): RegionAccess {
  const view = viewOf(body);
  const region = view.getUint32(8, true);
  const count = view.getUint32(12, true);
  if (count === 0 || count > MOST_DATA) throw new WireError(`a region access of ${count} bytes`);
  return { offset: getSize(view, 0, 'an access at offset'), region, count, data: body.subarray(ACCESS_BYTES) };
}

export function encodeAccess({ region, offset, count, data }: RegionAccess): Uint8Array {
  const body = put(ACCESS_BYTES + data.byteLength, (view) => {
    view.setUint32(0, offset % 2 ** 32, true);
    view.setUint32(4, Math.floor(offset / 2 ** 32), true);
    view.setUint32(8, region, true);
    view.setUint32(12, count, true);
  });
  body.set(data, ACCESS_BYTES);
  return body;
}

/** The writes of REGION_WRITE_MULTI: at most 8 bytes each. */
export function decodeWrites(body: Uint8Array): RegionAccess[] {
  const view = need(body, 8, 'writes');
  const writes = getSize(view, 0, 'a number of writes');
  if (writes === 0 || body.byteLength - 8 !== writes * WRITE_BYTES)
    throw new WireError(`${body.byteLength} bytes of ${writes} writes`);
  return Array.from({ length: writes }, (_, i) => {
    const write = decodeAccess(body.subarray(8 + i * WRITE_BYTES, 8 + (i + 1) * WRITE_BYTES));
    if (write.count > 8) throw new WireError(`a write of ${write.count} bytes among others`);
    return { ...write, data: write.data.subarray(0, write.count) };
  });
}

export function encodeWrites(writes: readonly RegionAccess[]): Uint8Array {
  const body = put(8 + writes.length * WRITE_BYTES, (view) => view.setBigUint64(0, BigInt(writes.length), true));
  writes.forEach((write, i) => body.set(encodeAccess(write), 8 + i * WRITE_BYTES));
  return body;
}

export function encodeWriteCount(writes: number): Uint8Array {
  return put(8, (view) => view.setBigUint64(0, BigInt(writes), true));
}

export interface DmaMap {
  /** Of the descriptor. */
  offset: number;
  address: number;
  size: number;
  readable: boolean;
  writable: boolean;
  /** There has to be a descriptor. */
  mmap: boolean;
}

export function decodeDmaMap(body: Uint8Array): DmaMap {
  const view = need(body, DMA_MAP_BYTES, 'a DMA range');
  if (view.getUint32(0, true) < DMA_MAP_BYTES) throw new WireError(`a DMA range with argsz ${view.getUint32(0, true)}`);
  const flags = view.getUint32(4, true);
  const known = DMA_FLAGS.read | DMA_FLAGS.write | DMA_FLAGS.mmap;
  if ((flags & ~known) !== 0) throw new WireError(`a DMA range with flags ${flags}`);
  if ((flags & (DMA_FLAGS.read | DMA_FLAGS.write)) === 0) throw new WireError('a DMA range of no use');
  const [offset, address, size] = [8, 16, 24].map((at) => getSize(view, at, 'a DMA range of'));
  if (size === 0 || !Number.isSafeInteger(address + size) || !Number.isSafeInteger(offset + size))
    throw new WireError(`a DMA range of ${size} bytes`);
  const has = (flag: number): boolean => (flags & flag) !== 0;
  return { offset, address, size, readable: has(DMA_FLAGS.read), writable: has(DMA_FLAGS.write), mmap: has(DMA_FLAGS.mmap) };
}

export function encodeDmaMap({ offset, address, size, readable, writable, mmap }: DmaMap): Uint8Array {
  const flags = (readable ? DMA_FLAGS.read : 0) | (writable ? DMA_FLAGS.write : 0) | (mmap ? DMA_FLAGS.mmap : 0);
  return put(DMA_MAP_BYTES, (view) => {
    view.setUint32(0, DMA_MAP_BYTES, true);
    view.setUint32(4, flags, true);
    [offset, address, size].forEach((n, i) => view.setBigUint64(8 + i * 8, BigInt(n), true));
  });
}

export interface DmaUnmap {
  address: number;
  size: number;
  /** Whatever there is: address and size are 0. */
  all: boolean;
}

export function decodeDmaUnmap(body: Uint8Array): DmaUnmap {
  const view = need(body, DMA_UNMAP_BYTES, 'a DMA range to unmap');
  if (view.getUint32(0, true) < DMA_UNMAP_BYTES) throw new WireError(`a DMA range with argsz ${view.getUint32(0, true)}`);
  const flags = view.getUint32(4, true);
  if (flags === DMA_UNMAP_FLAGS.dirtyBitmap) throw new WireError('a request for a dirty bitmap', osConstants.errno.ENOTSUP);
  if ((flags & ~DMA_UNMAP_FLAGS.all) !== 0) throw new WireError(`a DMA range to unmap with flags ${flags}`);
  const [address, size] = [getSize(view, 8, 'a DMA range at'), getSize(view, 16, 'a DMA range of')];
  const all = (flags & DMA_UNMAP_FLAGS.all) !== 0;
  if (all && (address !== 0 || size !== 0)) throw new WireError('a DMA range that is all and a part');
  return { address, size, all };
}

export function encodeDmaUnmap({ address, size, all }: DmaUnmap): Uint8Array {
  return put(DMA_UNMAP_BYTES, (view) => {
    view.setUint32(0, DMA_UNMAP_BYTES, true);
    view.setUint32(4, all ? DMA_UNMAP_FLAGS.all : 0, true);
    view.setBigUint64(8, BigInt(address), true);
    view.setBigUint64(16, BigInt(size), true);
  });
}

/** An access of the device to the client's memory. */
export interface DmaTransfer {
  address: number;
  count: number;
  data: Uint8Array;
}

/** A command to read, or a reply to a write: nothing follows. */
export function decodeDmaRead(body: Uint8Array): DmaTransfer {
  needExactly(body, DMA_ACCESS_BYTES, 'a DMA access');
  return decodeTransfer(body);
}

/** A command to write, or a reply to a read: the data follows. */
export function decodeDmaData(body: Uint8Array): DmaTransfer {
  need(body, DMA_ACCESS_BYTES, 'a DMA access');
  const transfer = decodeTransfer(body);
  if (transfer.data.byteLength !== transfer.count)
    throw new WireError(`${transfer.data.byteLength} bytes of data instead of ${transfer.count}`);
  return transfer;
}

function decodeTransfer(body: Uint8Array): DmaTransfer {
  const view = viewOf(body);
  const [address, count] = [getSize(view, 0, 'a DMA access at'), getSize(view, 8, 'a DMA access of')];
  if (count === 0 || count > MOST_DATA) throw new WireError(`a DMA access of ${count} bytes`);
  return { address, count, data: body.subarray(DMA_ACCESS_BYTES) };
}

export function encodeDmaTransfer({ address, count, data }: DmaTransfer): Uint8Array {
  const body = put(DMA_ACCESS_BYTES + data.byteLength, (view) => {
    view.setBigUint64(0, BigInt(address), true);
    view.setBigUint64(8, BigInt(count), true);
  });
  body.set(data, DMA_ACCESS_BYTES);
  return body;
}

/** A request about one feature of the device. */
export interface FeatureRequest {
  /** Room for the reply. */
  argsz: number;
  feature: number;
  /** Of {@link FEATURE_FLAGS}: get, set, or both with probe. */
  methods: number;
  data: Uint8Array;
}

export function decodeFeature(body: Uint8Array): FeatureRequest {
  const view = need(body, FEATURE_BYTES, 'a feature');
  const [argsz, flags] = [view.getUint32(0, true), view.getUint32(4, true)];
  const { get, set, probe } = FEATURE_FLAGS;
  const methods = flags & ~0xffff;
  const known = (methods & ~(get | set | probe)) === 0 && methods !== 0;
  if (!known || methods === (get | set)) throw new WireError(`a feature with flags ${flags}`);
  if (argsz < body.byteLength) throw new WireError(`a feature with argsz ${argsz}`);
  return { argsz, feature: flags & 0xffff, methods, data: body.subarray(FEATURE_BYTES) };
}

export function encodeFeature({ argsz, feature, methods, data }: FeatureRequest): Uint8Array {
  const body = put(FEATURE_BYTES + data.byteLength, (view) => {
    view.setUint32(0, argsz, true);
    view.setUint32(4, feature | methods, true);
  });
  body.set(data, FEATURE_BYTES);
  return body;
}

function isPowerOfTwo(n: number): boolean {
  return n > 0 && Number.isInteger(Math.log2(n));
}

/** What is to be logged. No ranges: all. */
export interface LogStart {
  pageSize: number;
  ranges: Area[];
}

export function decodeLogStart(data: Uint8Array): LogStart {
  const view = need(data, LOG_START_BYTES, 'a log');
  const [pageSize, count] = [getSize(view, 0, 'a log of pages of'), view.getUint32(8, true)];
  if (!isPowerOfTwo(pageSize)) throw new WireError(`a log of pages of ${pageSize} bytes`);
  needExactly(data, LOG_START_BYTES + count * LOG_RANGE_BYTES, 'a log');
  const ranges = Array.from({ length: count }, (_, i) => {
    const at = LOG_START_BYTES + i * LOG_RANGE_BYTES;
    return logged(getSize(view, at, 'a log at'), getSize(view, at + 8, 'a log of'));
  });
  return { pageSize, ranges };
}

export function encodeLogStart({ pageSize, ranges }: LogStart): Uint8Array {
  return put(LOG_START_BYTES + ranges.length * LOG_RANGE_BYTES, (view) => {
    view.setBigUint64(0, BigInt(pageSize), true);
    view.setUint32(8, ranges.length, true);
    ranges.forEach(({ offset, size }, i) => {
      view.setBigUint64(LOG_START_BYTES + i * LOG_RANGE_BYTES, BigInt(offset), true);
      view.setBigUint64(LOG_START_BYTES + i * LOG_RANGE_BYTES + 8, BigInt(size), true);
    });
  });
}

function logged(offset: number, size: number): Area {
  if (size === 0 || !Number.isSafeInteger(offset + size)) throw new WireError(`a log of ${size} bytes at ${offset}`);
  return { offset, size };
}

/** What of a range of addresses is asked for: one bit for each `pageSize` bytes of it. */
export interface LogReport extends Area {
  pageSize: number;
}

export function decodeLogReport(data: Uint8Array): LogReport {
  const view = need(data, LOG_REPORT_BYTES, 'a log');
  const [offset, size, pageSize] = [0, 8, 16].map((at) => getSize(view, at, 'a log of'));
  const report = { ...logged(offset, size), pageSize };
  if (!isPowerOfTwo(pageSize)) throw new WireError(`a log of pages of ${pageSize} bytes`);
  if (bitmapBytes(report) > MOST_DATA) throw new WireError(`a log of ${Math.ceil(size / pageSize)} pages`);
  return report;
}

/** Whole 64-bit words. */
export function bitmapBytes({ size, pageSize }: LogReport): number {
  return Math.ceil(size / pageSize / 64) * 8;
}

export function encodeLogReport({ offset, size, pageSize }: LogReport, bitmap: Uint8Array = EMPTY): Uint8Array {
  const data = put(LOG_REPORT_BYTES + bitmap.byteLength, (view) =>
    [offset, size, pageSize].forEach((n, i) => view.setBigUint64(i * 8, BigInt(n), true)),
  );
  data.set(bitmap, LOG_REPORT_BYTES);
  return data;
}
