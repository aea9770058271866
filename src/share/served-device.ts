/** A device between processes: a PCI function, whose regions are BARs. */
import { readlinkSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { DeviceBase } from '../device/device-base.js';
import type { DeviceFile } from '../device/device-file.js';
import type { DeviceRegion } from '../device/device-region.js';
import type { CheckedPci } from '../device/pci-options.js';
import { invalidType, invalidValue, systemError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { native } from '../native/load.js';
import { barsOf, type Bar, type Part } from './bars.js';
import { PageServer } from './page-server.js';
import { CONFIG_BYTES, PciConfig } from './pci-config.js';
import { Server } from './server.js';
import type { ClientCalls } from './client-calls.js';
import type { Answer, ClientRights, Served, Session } from './served-client.js';
import { ServedDma } from './served-dma.js';
import { descriptorFor, mustSpare, spareHolders } from './served-memory.js';
import {
  checkShareOptions,
  checkVectors,
  DEFAULT_VECTORS,
  type CheckedShareOptions,
  type ServeOptions,
} from './share-options.js';
import {
  bitmapBytes,
  COMMANDS,
  decodeDeviceInfo,
  decodeDmaMap,
  decodeDmaUnmap,
  decodeFeature,
  decodeIrqInfo,
  decodeIrqSet,
  decodeLogReport,
  decodeLogStart,
  decodeRegionData,
  decodeRegionInfo,
  decodeRegionRead,
  decodeWrites,
  DEVICE_FLAGS,
  encodeAccess,
  encodeDeviceInfo,
  encodeDmaUnmap,
  encodeFeature,
  encodeIrqInfo,
  encodeLogReport,
  encodeLogStart,
  encodeRegionInfo,
  encodeWriteCount,
  FEATURE_FLAGS,
  FEATURES,
  IRQ_FLAGS,
  PCI,
  REGION_FLAGS,
  regionInfoBytes,
  viewOf,
  WireError,
  zeros,
  type IrqSet,
  type Message,
  type RegionAccess,
  type RegionInfo,
} from './wire.js';

const { errno } = osConstants;
const NO_BYTES = new Uint8Array(0);
/** As the kernel answers for a feature that a device has not. */
const { ENOTTY } = errno;
/** What this server can do with each that it has. */
const METHODS_OF_FEATURES: ReadonlyMap<number, number> = new Map([
  [FEATURES.logStart, FEATURE_FLAGS.set],
  [FEATURES.logStop, FEATURE_FLAGS.set],
  [FEATURES.logReport, FEATURE_FLAGS.get],
]);

/** What the clients of one server have in common. */
interface Shared {
  device: DeviceBase;
  options: CheckedShareOptions;
  config: PciConfig;
  bars: ReadonlyMap<number, Bar>;
  /** Of each interrupt that it has, by index. */
  vectors: ReadonlyMap<number, number>;
}

class DeviceSession implements Session {
  readonly #file: DeviceFile;
  readonly #dma: ServedDma;
  /** The server's own mappings, one a region: to the device they stand for the client's. */
  readonly #mappings = new Map<number, Mapping>();
  /** Of each region whose pages come at their first touch, by its index. */
  readonly #pages = new Map<number, PageServer>();
  /** What signals each vector, by index of the interrupt and vector. */
  readonly #eventfds = new Map<string, number>();
  /** Interrupts that wait until they are unmasked: by index of the interrupt and vector, whether one has been raised. */
  readonly #masked = new Map<string, boolean>();

  constructor(
    readonly shared: Shared,
    readonly rights: ClientRights,
    calls: ClientCalls,
  ) {
    this.#dma = new ServedDma(shared.device.dma, calls, shared.config.busMaster);
    this.#file = shared.device.open();
    this.#file._onRaise = (vector) => this.#raise(vector);
    this.#file.on('remove-requested', () => this.#signal(PCI.request, 0));
  }

  answer(message: Message): Answer | Promise<Answer> {
    const { command, body } = message;
    switch (command) {
      case COMMANDS.deviceInfo:
        decodeDeviceInfo(body);
        return { body: encodeDeviceInfo({ flags: DEVICE_FLAGS.pci | DEVICE_FLAGS.reset, regions: PCI.regions, irqs: PCI.irqs }) };
      case COMMANDS.regionInfo:
        return this.#regionInfo(decodeRegionInfo(body));
      case COMMANDS.irqInfo:
        return { body: encodeIrqInfo(this.#irqInfo(decodeIrqInfo(body).index)) };
      case COMMANDS.setIrqs:
        return this.#setIrqs(decodeIrqSet(body), message.descriptors);
      case COMMANDS.regionRead:
        return this.#read(decodeRegionRead(body));
      case COMMANDS.regionWrite:
        return this.#write(decodeRegionData(body));
      case COMMANDS.regionWriteMulti:
        return this.#writeAll(decodeWrites(body));
      case COMMANDS.reset:
        return this.#reset();
      case COMMANDS.dmaMap:
        return this.#dmaMap(body, message.descriptors);
      case COMMANDS.dmaUnmap:
        return this.#dmaUnmap(body);
      case COMMANDS.deviceFeature:
        return this.#feature(body);
      default:
        throw new WireError(`command ${command}`, errno.ENOTSUP);
    }
  }

  close(): void {
    this.#dma.end();
    this.#file._onRaise = undefined;
    for (const pages of this.#pages.values()) pages.close();
    for (const mapping of this.#mappings.values()) mapping.close();
    this.#file.close();
    for (const fd of this.#eventfds.values()) native.closeDescriptor(fd);
    this.#eventfds.clear();
  }

  // --- regions ---

  /** `argsz`: what the client has room for. */
  #regionInfo({ index, argsz }: RegionInfo): Answer {
    if (index >= PCI.regions) throw new WireError(`region ${index}`);
    const both = REGION_FLAGS.read | (this.rights.access === 'rw' ? REGION_FLAGS.write : 0);
    if (index === PCI.config) return { body: encodeRegionInfo({ index, flags: both, size: CONFIG_BYTES, offset: 0 }) };
    const bar = this.shared.bars.get(index);
    if (bar === undefined) return { body: encodeRegionInfo({ index, flags: 0, size: 0, offset: 0 }) };
    const { size, sparse } = bar;
    const memory = bar.areas.length === 0 ? undefined : bar.parts.find(({ region }) => region?.kind === 'memory')?.region;
    // Of pages that come at their first touch a mapping is for who can ask for them, and may write: userfaultfd(2) takes no other.
    const supplied = memory !== undefined && suppliedBy(memory) > 0;
    const unmapped = supplied && !(this.rights.asksForPages && this.rights.access === 'rw');
    if (memory === undefined || unmapped) return { body: encodeRegionInfo({ index, flags: both, size, offset: 0 }) };
    const areas = sparse ? bar.areas : [];
    const { access } = this.#mappingOf(memory.index); // the `mmap` op may refuse, or allow less
    const written = sparse ? this.rights.access === 'rw' : access === 'rw';
    const flags = REGION_FLAGS.read | REGION_FLAGS.mmap | (written ? REGION_FLAGS.write : 0);
    const body = encodeRegionInfo({ index, flags, size, offset: 0, areas }, argsz);
    // The client asks again, with room for the areas; the descriptor comes then.
    if (argsz < regionInfoBytes(areas)) return { body };
    const spare = mustSpare(this.shared.options.onRemoval, this.rights);
    const descriptors = [descriptorFor(memory.object, access, spare)];
    if (supplied) descriptors.push(this.#servePages(memory.index));
    return { body, descriptors };
  }

  /** The client's end of a connection for pages, instead of the one that it may have. */
  #servePages(index: number): number {
    this.#pages.get(index)?.close();
    const { path, timeout } = this.shared.options;
    const { server, descriptor } = PageServer.open(this.#mappingOf(index), path, timeout);
    this.#pages.set(index, server);
    return descriptor;
  }

  /** Where an access lands; undefined where the BAR has nothing. */
  #partAt({ region: index, offset, count }: RegionAccess): Part | undefined {
    const bar = this.shared.bars.get(index);
    if (bar === undefined || offset + count > bar.size) throw new WireError(`${count} bytes at ${offset} of region ${index}`);
    const part = bar.parts.find((each) => offset >= each.offset && offset < each.offset + each.size);
    const end = part === undefined ? bar.size : part.offset + part.size;
    const crosses = bar.parts.some((each) => each !== part && each.offset > offset && each.offset < offset + count);
    if (crosses || offset + count > end) throw new WireError(`${count} bytes at ${offset} of region ${index}, across its parts`);
    return part;
  }

  #mappingOf(index: number): Mapping {
    const known = this.#mappings.get(index);
    if (known !== undefined) return known;
    const mapping = this.#file.map({ region: index, access: this.rights.access });
    this.#mappings.set(index, mapping);
    return mapping;
  }

  #read(access: RegionAccess): Answer | Promise<Answer> {
    const { region, offset, count } = access;
    const answer = (data: Uint8Array): Answer => ({ body: encodeAccess({ region, offset, count, data }) });
    const data = this.#dataOf(access);
    return data instanceof Promise ? data.then(answer) : answer(data);
  }

  #dataOf(access: RegionAccess): Uint8Array | Promise<Uint8Array> {
    const { region: index, offset, count } = access;
    const { config } = this.shared;
    if (index === PCI.config) return config.read(...inConfig(offset, count));
    const part = this.#partAt(access);
    if (part === undefined) return new Uint8Array(count).fill(0xff);
    if (part.region === undefined) return this.#tableBytes(offset, count);
    const mapping = this.#mappingOf(part.region.index);
    if (part.region.kind === 'registers') return registerBytes(mapping, offset - part.offset, count);
    const data = new Uint8Array(count);
    if (suppliedBy(part.region) > 0) return mapping.readAsync(offset, data).then(() => data);
    mapping.read(offset, data);
    return data;
  }

  /** Pending are the vectors that this client has masked, and that have been raised since. */
  #tableBytes(offset: number, count: number): Uint8Array {
    const { table, pending } = this.shared.config;
    const bytes = table.slice(offset, offset + count);
    for (let vector = 0; vector < this.#irqInfo(PCI.msix).count; vector++) {
      const at = pending + (vector >> 3) - offset;
      const raised = this.#masked.get(`${PCI.msix}/${vector}`) === true;
      if (raised && at >= 0 && at < count) bytes[at] |= 1 << (vector & 7);
    }
    return bytes;
  }

  #write(access: RegionAccess): Answer | Promise<Answer> {
    const written = this.#put(access);
    const answer = (): Answer => ({ body: encodeAccess({ ...access, data: NO_BYTES }) });
    return written === undefined ? answer() : written.then(answer);
  }

  /** A promise where pages may have to come. */
  #put(access: RegionAccess): Promise<unknown> | undefined {
    const { region: index, offset, count, data } = access;
    const { config } = this.shared;
    if (this.rights.access === 'r') throw systemError({ errno: -errno.EACCES, syscall: 'write' });
    if (index === PCI.config) {
      inConfig(offset, count);
      config.write(offset, data);
      return undefined;
    }
    const part = this.#partAt(access);
    if (part === undefined) return undefined;
    if (part.region === undefined) {
      config.writeTable(offset, data);
      return undefined;
    }
    const mapping = this.#mappingOf(part.region.index);
    if (suppliedBy(part.region) > 0) return mapping.writeAsync(offset, data);
    if (part.region.kind === 'registers') putRegister(mapping, offset - part.offset, data);
    else mapping.write(offset, data);
    return undefined;
  }

  /** In order; the first that fails is the answer, and the rest is not done. */
  async #writeAll(writes: readonly RegionAccess[]): Promise<Answer> {
    for (const write of writes) await this.#put(write);
    return { body: encodeWriteCount(writes.length) };
  }

  async #reset(): Promise<Answer> {
    if (this.rights.access === 'r') throw systemError({ errno: -errno.EACCES, syscall: 'reset' });
    await this.shared.device.suspend();
    await this.shared.device.resume();
    this.shared.config.reset();
    this.#masked.clear();
    return {};
  }

  // --- the client's memory ---

  async #dmaMap(body: Uint8Array, descriptors: readonly number[]): Promise<Answer> {
    const map = decodeDmaMap(body);
    if (this.rights.access === 'r') throw systemError({ errno: -errno.EACCES, syscall: 'dma' });
    await this.#dma.map(map, descriptors);
    return {};
  }

  async #dmaUnmap(body: Uint8Array): Promise<Answer> {
    const unmap = decodeDmaUnmap(body);
    await this.#dma.unmap(unmap);
    return { body: encodeDmaUnmap(unmap) };
  }

  // --- features ---

  #feature(body: Uint8Array): Answer {
    const request = decodeFeature(body);
    const { feature, methods, argsz, data } = request;
    const { get, set, probe } = FEATURE_FLAGS;
    const has = METHODS_OF_FEATURES.get(feature);
    if (has === undefined) throw new WireError(`feature ${feature}`, ENOTTY);
    if ((methods & (get | set) & ~has) !== 0) throw new WireError(`feature ${feature} with methods ${methods}`);
    if ((methods & probe) !== 0) return { body };
    if (feature === FEATURES.logStart) {
      const { ranges } = decodeLogStart(data);
      this.#dma.startLog();
      return { body: encodeFeature({ ...request, data: encodeLogStart({ pageSize: native.pageSize, ranges }) }) };
    }
    if (feature === FEATURES.logStop) {
      this.#dma.stopLog();
      return { body };
    }
    const report = decodeLogReport(data);
    const room = body.byteLength + bitmapBytes(report);
    if (argsz < room) throw new WireError(`a log for ${argsz} bytes instead of ${room}`);
    return { body: encodeFeature({ ...request, argsz: room, data: encodeLogReport(report, this.#dma.takeLog(report)) }) };
  }

  // --- interrupts ---

  #irqInfo(index: number): { index: number; flags: number; count: number } {
    if (index >= PCI.irqs) throw new WireError(`interrupt ${index}`);
    const count = this.shared.vectors.get(index) ?? 0;
    if (count === 0) return { index, flags: 0, count };
    return { index, flags: IRQ_FLAGS.eventfd | (index === PCI.intx ? IRQ_FLAGS.maskable : IRQ_FLAGS.noresize), count };
  }

  #setIrqs(set: IrqSet, descriptors: number[]): Answer {
    const { index, start, count, data, action } = set;
    const { count: there } = this.#irqInfo(index);
    if (count === 0 && start === 0 && data === 'none' && action === 'trigger') {
      for (let vector = 0; vector < there; vector++) this.#assign(index, vector, undefined);
      return {};
    }
    if (count === 0 || start + count > there) throw new WireError(`interrupts ${start} to ${start + count} of ${there}`);
    if (data === 'eventfd') this.#assignAll(set, descriptors);
    else if (action === 'trigger') this.#chosen(set).forEach((vector) => this.#signal(index, vector));
    else this.#chosen(set).forEach((vector) => this.#mask(index, vector, action === 'mask'));
    return {};
  }

  #chosen({ start, count, data, chosen }: IrqSet): number[] {
    const vectors = Array.from({ length: count }, (_, i) => start + i);
    return data === 'bool' ? vectors.filter((_, i) => chosen[i] !== 0) : vectors;
  }

  /** Without descriptors they are taken away. */
  #assignAll({ index, start, count, action }: IrqSet, descriptors: number[]): void {
    if (action !== 'trigger') throw new WireError(`an eventfd for ${action}`, errno.ENOTSUP);
    if (descriptors.length !== 0 && descriptors.length !== count)
      throw new WireError(`${descriptors.length} descriptors for ${count} interrupts`);
    if (!descriptors.every(isEventfd)) throw new WireError('a descriptor that is no eventfd');
    for (let i = 0; i < count; i++) this.#assign(index, start + i, descriptors.shift());
  }

  #assign(index: number, vector: number, fd: number | undefined): void {
    const key = `${index}/${vector}`;
    const before = this.#eventfds.get(key);
    if (before !== undefined) native.closeDescriptor(before);
    if (fd === undefined) this.#eventfds.delete(key);
    else this.#eventfds.set(key, fd);
  }

  /** Of the kinds of interrupts a client has assigned descriptors to one at a time. */
  #raise(vector: number): void {
    this.#signalUnlessMasked(PCI.msix, vector);
    this.#signalUnlessMasked(PCI.msi, vector);
    if (vector === 0 && this.shared.config.intxEnabled) this.#signalUnlessMasked(PCI.intx, 0);
  }

  #signalUnlessMasked(index: number, vector: number): void {
    const key = `${index}/${vector}`;
    if (this.#masked.has(key)) this.#masked.set(key, true);
    else this.#signal(index, vector);
  }

  #mask(index: number, vector: number, masked: boolean): void {
    const key = `${index}/${vector}`;
    const pending = this.#masked.get(key) === true;
    if (masked) return void this.#masked.set(key, pending);
    this.#masked.delete(key);
    if (pending) this.#signal(index, vector);
  }

  #signal(index: number, vector: number): void {
    const fd = this.#eventfds.get(`${index}/${vector}`);
    if (fd !== undefined) native.eventfdSignalShared(fd);
  }
}

function isEventfd(fd: number): boolean {
  return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
}

/** How many vectors each kind of interrupt has. `given`: of MSI-X, where the device says nothing of PCI. */
function vectorsOf(pci: CheckedPci | undefined, given: number | undefined): Map<number, number> {
  if (pci === undefined)
    return new Map([
      [PCI.intx, 1],
      [PCI.msix, given ?? DEFAULT_VECTORS],
    ]);
  if (given !== undefined) throw invalidValue('options.vectors', 'must be left out for a device with options.pci', given);
  return new Map([
    [PCI.intx, pci.intx ? 1 : 0],
    [PCI.msi, pci.msi],
    [PCI.msix, pci.msix],
    [PCI.request, 1],
  ]);
}

function inConfig(offset: number, count: number): [offset: number, count: number] {
  if (offset + count > CONFIG_BYTES) throw new WireError(`${count} bytes at ${offset} of the configuration space`);
  return [offset, count];
}

/** One access of exactly that width: a register may have effects. */
function registerBytes(mapping: Mapping, offset: number, width: number): Uint8Array {
  const data = zeros(width);
  const view = viewOf(data);
  switch (width) {
    case 1:
      view.setUint8(0, mapping.read8(offset));
      return data;
    case 2:
      view.setUint16(0, mapping.read16(offset), true);
      return data;
    case 4:
      view.setUint32(0, mapping.read32(offset), true);
      return data;
    case 8:
      view.setBigUint64(0, mapping.read64(offset), true);
      return data;
    default:
      throw new WireError(`${width} bytes of registers`);
  }
}

function putRegister(mapping: Mapping, offset: number, data: Uint8Array): void {
  const view = viewOf(data);
  switch (data.byteLength) {
    case 1:
      return mapping.write8(offset, view.getUint8(0));
    case 2:
      return mapping.write16(offset, view.getUint16(0, true));
    case 4:
      return mapping.write32(offset, view.getUint32(0, true));
    case 8:
      return mapping.write64(offset, view.getBigUint64(0, true));
    default:
      throw new WireError(`${data.byteLength} bytes of registers`);
  }
}

function checkDevice(device: unknown): asserts device is DeviceBase {
  if (!DeviceBase._is(device)) throw invalidType('device', 'an instance of Device', device);
}

/** How its pages come, as the server says it: see `OwnCapability.supplied`. */
function suppliedBy({ object }: DeviceRegion): number {
  if (object._backing?.supplied !== true) return 0;
  return native.objectDevice(object._id)!.asksBeforeWrite ? 2 : 1;
}

/**
 * Serves a device to other processes at a socket: to {@link connect}, and to any program that speaks the vfio-user protocol. Each client is a
 * file of the device: `open` is called with its first command, `mmap` for each region that it maps, `close` and `release` when it has gone.
 * Regions of memory are mapped, registers are accessed by messages. First touches of other processes reach the ops where the client is this
 * library and may write; others access such a region by messages, too. Removing the device ends the server. Blocks for some system calls.
 *
 * @throws TypeError, RangeError on bad arguments, also for a device that needs more than six BARs; `ENODEV` once the device is being removed; `EADDRINUSE` where another server listens at the path, or it is no socket; the system errors
 *   of bind(2), open(2) (`ENOENT`, `EACCES`, …), with `path`.
 *
 * @example
 * ```js
 * const server = serve(device, { path: '/run/user/1000/card.sock' });
 * ```
 */
export function serve(device: DeviceBase, options: ServeOptions): Server {
  checkDevice(device);
  const checked = checkShareOptions(options, true);
  const vectors = vectorsOf(device._pci, checkVectors(options.vectors));
  const bars = barsOf(device.regions, device._pci);
  device._throwIfGone('listen');
  const memory = device.regions.filter(({ kind }) => kind === 'memory');
  if (checked.onRemoval === 'orphan') for (const { object } of memory) spareHolders(object);
  const config = new PciConfig(bars.values(), device._pci);
  const shared: Shared = { device, options: checked, config, bars, vectors };
  const served: Served = {
    describe: () => ({
      serves: 'device',
      name: device.name.slice(0, 255),
      regions: device.regions.map(({ name }) => name.slice(0, 255)),
      places: device.regions.map(({ _place: { bar, barOffset }, size, kind }) => [
        bar,
        barOffset,
        size,
        kind === 'memory' ? 1 : 0,
      ]),
      supplied: device.regions.map(suppliedBy),
    }),
    open: (rights, calls) => new DeviceSession(shared, rights, calls),
    end: () => device.signal.removeEventListener('abort', end),
  };
  const server = Server._start(checked, served);
  const end = (): void => server._end();
  device.signal.addEventListener('abort', end);
  return server;
}
