/** A device between processes: a PCI function, whose regions are BARs. */
import { readlinkSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { DeviceBase } from '../device/device-base.js';
import type { DeviceFile } from '../device/device-file.js';
import type { DeviceRegion } from '../device/device-region.js';
import { invalidType, invalidValue, systemError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { native } from '../native/load.js';
import { CONFIG_BYTES, PciConfig } from './pci-config.js';
import { Server } from './server.js';
import type { ClientCalls } from './client-calls.js';
import type { Answer, ClientRights, Served, Session } from './served-client.js';
import { ServedDma } from './served-dma.js';
import { descriptorFor, mustSpare, spareHolders } from './served-memory.js';
import { checkShareOptions, checkVectors, type CheckedShareOptions, type ServeOptions } from './share-options.js';
import {
  COMMANDS,
  decodeDeviceInfo,
  decodeDmaMap,
  decodeDmaUnmap,
  decodeIrqInfo,
  decodeIrqSet,
  decodeRegionData,
  decodeRegionInfo,
  decodeRegionRead,
  decodeWrites,
  DEVICE_FLAGS,
  encodeAccess,
  encodeDeviceInfo,
  encodeDmaUnmap,
  encodeIrqInfo,
  encodeRegionInfo,
  encodeWriteCount,
  IRQ_FLAGS,
  PCI,
  REGION_FLAGS,
  viewOf,
  WireError,
  type IrqSet,
  type Message,
  type RegionAccess,
} from './wire.js';

const { errno } = osConstants;
const NO_BYTES = new Uint8Array(0);

/** What the clients of one server have in common. */
interface Shared {
  device: DeviceBase;
  options: CheckedShareOptions;
  config: PciConfig;
  vectors: number;
}

class DeviceSession implements Session {
  readonly #file: DeviceFile;
  readonly #dma: ServedDma;
  /** The server's own mappings, one a region: to the device they stand for the client's. */
  readonly #mappings = new Map<number, Mapping>();
  /** What signals each vector, by index of the interrupt and vector. */
  readonly #eventfds = new Map<string, number>();
  #intxMasked = false;
  #intxPending = false;

  constructor(
    readonly shared: Shared,
    readonly rights: ClientRights,
    calls: ClientCalls,
  ) {
    this.#dma = new ServedDma(shared.device.dma, calls, shared.config.busMaster);
    this.#file = shared.device.open();
    this.#file._onRaise = (vector) => this.#raise(vector);
  }

  answer(message: Message): Answer | Promise<Answer> {
    const { command, body } = message;
    switch (command) {
      case COMMANDS.deviceInfo:
        decodeDeviceInfo(body);
        return { body: encodeDeviceInfo({ flags: DEVICE_FLAGS.pci | DEVICE_FLAGS.reset, regions: PCI.regions, irqs: PCI.irqs }) };
      case COMMANDS.regionInfo:
        return this.#regionInfo(decodeRegionInfo(body).index);
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
      default:
        throw new WireError(`command ${command}`, errno.ENOTSUP);
    }
  }

  close(): void {
    this.#dma.end();
    this.#file._onRaise = undefined;
    for (const mapping of this.#mappings.values()) mapping.close();
    this.#file.close();
    for (const fd of this.#eventfds.values()) native.closeDescriptor(fd);
    this.#eventfds.clear();
  }

  // --- regions ---

  #regionInfo(index: number): Answer {
    if (index >= PCI.regions) throw new WireError(`region ${index}`);
    const both = REGION_FLAGS.read | (this.rights.access === 'rw' ? REGION_FLAGS.write : 0);
    if (index === PCI.config) return { body: encodeRegionInfo({ index, flags: both, size: CONFIG_BYTES, offset: 0 }) };
    const region = this.shared.device.regions[index] as DeviceRegion | undefined;
    if (region === undefined) return { body: encodeRegionInfo({ index, flags: 0, size: 0, offset: 0 }) };
    const { size } = region;
    if (region.kind === 'registers') return { body: encodeRegionInfo({ index, flags: both, size, offset: 0 }) };
    const { access } = this.#mappingOf(index); // the `mmap` op may refuse, or allow less
    const descriptors = [descriptorFor(region.object, access, mustSpare(this.shared.options.onRemoval, this.rights))];
    const flags = REGION_FLAGS.read | REGION_FLAGS.mmap | (access === 'rw' ? REGION_FLAGS.write : 0);
    return { body: encodeRegionInfo({ index, flags, size, offset: 0 }), descriptors };
  }

  #mappingOf(index: number): Mapping {
    const known = this.#mappings.get(index);
    if (known !== undefined) return known;
    if (index >= this.shared.device.regions.length) throw new WireError(`region ${index}`);
    const mapping = this.#file.map({ region: index, access: this.rights.access });
    this.#mappings.set(index, mapping);
    return mapping;
  }

  #read(access: RegionAccess): Answer {
    return { body: encodeAccess({ ...access, data: this.#dataOf(access) }) };
  }

  #dataOf({ region, offset, count }: RegionAccess): Uint8Array {
    if (region === PCI.config) return this.shared.config.read(...inConfig(offset, count));
    const mapping = this.#mappingOf(region);
    if (this.#isRegisters(region)) return registerBytes(mapping, offset, count);
    const data = new Uint8Array(count);
    mapping.read(offset, data);
    return data;
  }

  #write(access: RegionAccess): Answer {
    this.#put(access);
    return { body: encodeAccess({ ...access, data: NO_BYTES }) };
  }

  #put({ region, offset, count, data }: RegionAccess): void {
    if (this.rights.access === 'r') throw systemError({ errno: -errno.EACCES, syscall: 'write' });
    if (region === PCI.config) {
      inConfig(offset, count);
      return this.shared.config.write(offset, data);
    }
    const mapping = this.#mappingOf(region);
    if (this.#isRegisters(region)) putRegister(mapping, offset, data);
    else mapping.write(offset, data);
  }

  /** In order; the first that fails is the answer, and the rest is not done. */
  #writeAll(writes: readonly RegionAccess[]): Answer {
    for (const write of writes) this.#put(write);
    return { body: encodeWriteCount(writes.length) };
  }

  #isRegisters(index: number): boolean {
    return this.shared.device.regions[index].kind === 'registers';
  }

  async #reset(): Promise<Answer> {
    if (this.rights.access === 'r') throw systemError({ errno: -errno.EACCES, syscall: 'reset' });
    await this.shared.device.suspend();
    await this.shared.device.resume();
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

  // --- interrupts ---

  #irqInfo(index: number): { index: number; flags: number; count: number } {
    if (index >= PCI.irqs) throw new WireError(`interrupt ${index}`);
    if (index === PCI.intx) return { index, flags: IRQ_FLAGS.eventfd | IRQ_FLAGS.maskable, count: 1 };
    if (index === PCI.msix) return { index, flags: IRQ_FLAGS.eventfd | IRQ_FLAGS.noresize, count: this.shared.vectors };
    return { index, flags: 0, count: 0 };
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
    else if (index !== PCI.intx) throw new WireError(`${action} of interrupt ${index}`);
    else if (this.#chosen(set).length > 0) this.#mask(action === 'mask');
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

  #raise(vector: number): void {
    this.#signal(PCI.msix, vector);
    if (vector !== 0) return;
    if (this.#intxMasked) this.#intxPending = true;
    else this.#signal(PCI.intx, 0);
  }

  #mask(masked: boolean): void {
    this.#intxMasked = masked;
    if (masked || !this.#intxPending) return;
    this.#intxPending = false;
    this.#signal(PCI.intx, 0);
  }

  #signal(index: number, vector: number): void {
    const fd = this.#eventfds.get(`${index}/${vector}`);
    if (fd !== undefined) native.eventfdSignalShared(fd);
  }
}

function isEventfd(fd: number): boolean {
  return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
}

function inConfig(offset: number, count: number): [offset: number, count: number] {
  if (offset + count > CONFIG_BYTES) throw new WireError(`${count} bytes at ${offset} of the configuration space`);
  return [offset, count];
}

/** One access of exactly that width: a register may have effects. */
function registerBytes(mapping: Mapping, offset: number, width: number): Uint8Array {
  const data = new Uint8Array(width);
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
  if (device.regions.length > PCI.bars)
    throw invalidValue('device', `must have at most ${PCI.bars} regions`, device.regions.length);
  const supplied = device.regions.find(({ object }) => object._backing?.supplied === true);
  if (supplied === undefined) return;
  throw invalidValue(
    'device',
    'must have no region whose pages come at their first touch: that of another process does not reach it',
    supplied.name,
  );
}

/**
 * Serves a device to other processes at a socket: to {@link connect}, and to any program that speaks the vfio-user protocol. Each client is a
 * file of the device: `open` is called with its first command, `mmap` for each region that it maps, `close` and `release` when it has gone.
 * Regions of memory are mapped, registers are accessed by messages. Removing the device ends the server. Blocks for some system calls.
 *
 * @throws TypeError, RangeError on bad arguments, also for a device with more than six regions, or with pages that come at their first touch;
 *   `ENODEV` once the device is being removed; `EADDRINUSE` where another server listens at the path, or it is no socket; the system errors
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
  const vectors = checkVectors(options.vectors);
  device._throwIfGone('listen');
  const memory = device.regions.filter(({ kind }) => kind === 'memory');
  if (checked.onRemoval === 'orphan') for (const { object } of memory) spareHolders(object);
  const config = new PciConfig(device.regions.map(({ size }) => size));
  const shared: Shared = { device, options: checked, config, vectors };
  const served: Served = {
    describe: () => ({
      serves: 'device',
      name: device.name.slice(0, 255),
      regions: device.regions.map(({ name }) => name.slice(0, 255)),
    }),
    open: (rights, calls) => new DeviceSession(shared, rights, calls),
    end: () => device.signal.removeEventListener('abort', end),
  };
  const server = Server._start(checked, served);
  const end = (): void => server._end();
  device.signal.addEventListener('abort', end);
  return server;
}
