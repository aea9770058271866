/** A served device as its client has it. */
import { basename } from 'node:path';
import { abortSignal, options as checkOptions } from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { Device } from '../device/device.js';
import { deviceError } from '../device/device-errors.js';
import type { DeviceOps, RegionOptions } from '../device/device-ops.js';
import type { CallOptions } from '../device/device-file.js';
import type { DeviceDma, DmaRange } from '../device/dma.js';
import { ShareError } from '../errors.js';
import { native } from '../native/load.js';
import { POLL_EVENTS } from '../native/socket-functions.js';
import { unwrap } from '../thread/wakeups.js';
import { closeAll } from './channel.js';
import { Connection, decoded, type CommandName } from './connection.js';
import { checkConnectOptions, toSocketPath, type ConnectOptions } from './share-options.js';
import { forget, whenReady } from './socket-loop.js';
import type { OwnCapability } from './version.js';
import {
  COMMANDS,
  decodeDeviceInfo,
  decodeDmaData,
  decodeDmaRead,
  decodeIrqInfo,
  decodeRegionData,
  decodeRegionInfo,
  encodeAccess,
  encodeDeviceInfo,
  encodeDmaMap,
  encodeDmaTransfer,
  encodeDmaUnmap,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionInfo,
  PCI,
  REGION_FLAGS,
  regionInfoBytes,
  viewOf,
  MOST_AREAS,
  WireError,
  type Area,
  type Message,
  type RegionInfo,
} from './wire.js';

/** More than this no device of the protocol has. */
const MOST_REGIONS = 64;
const MOST_VECTORS = 256;
const NO_BYTES = new Uint8Array(0);

/** A region as the server has described it. */
interface RemoteRegion {
  name: string;
  /** Number of the region in the protocol, and where in it this one begins. */
  bar: number;
  begin: number;
  size: number;
  flags: number;
  /** What can be mapped, where that is not all. */
  areas: readonly Area[];
  /** What can be mapped; undefined where each access is a message. */
  descriptor: number | undefined;
  /** How to ask for pages that come at their first touch. */
  pages?: { source: number; askBeforeWrite: boolean } | undefined;
}

/**
 * A device that another process serves, by {@link connect}: a {@link Device} of this process, whose registers are the server's. A register
 * access that is made in this thread blocks until the server has answered, at most the `timeout` of `connect()`; memory is mapped, and as
 * fast as memory of this process.
 *
 * It is removed when the server removes it, ends or dies: its memory at once, whatever this thread does then. `unplug()` and `remove()` end
 * the connection, and leave the served device as it is.
 */
export class ConnectedDevice extends Device {
  readonly #connection: Connection;
  readonly #vectors: readonly number[];

  static {
    branded('ConnectedDevice', this.prototype, (value) => #connection in value);
  }

  /** @internal */
  constructor(key: symbol, connection: Connection, name: string, regions: readonly RemoteRegion[], vectors: readonly number[]) {
    requireConstruct(key);
    const options = {
      name,
      regions: regions.map((region) => regionOptions(region, connection.isServedHere)),
      ops: opsOf(connection, regions),
      opTimeout: connection.timeout,
    };
    super(options);
    this.#connection = connection;
    this.#vectors = vectors;
    try {
      this.#begin();
    } catch (error) {
      void this.unplug(error).then(() => this.regions.forEach(({ object }) => object.close()));
      throw error;
    }
  }

  #begin(): void {
    const connection = this.#connection;
    connection.throwIfOver();
    connection.onEnd = (error) => void this.unplug(error);
    this.signal.addEventListener('abort', () => this.#end(), { once: true });
    this.dma._elsewhere = {
      closes: false,
      map: (range) => mapDma(connection, range),
      unmap: (range) => unmapDma(connection, range),
    };
    connection.onCommand = (message) => answerDma(this.dma, message);
    const memory = this.regions.filter(({ kind }) => kind === 'memory').map(({ object }) => object);
    if (memory.length > 0) connection.revokes(memory);
    this.#vectors.forEach((eventfd, vector) => this.#listen(eventfd, vector));
  }

  /**
   * Resets the served device, for all its clients: there it is suspended and resumed. Resolves when the server has done so.
   *
   * @throws (rejects) TypeError on bad options; the system error that the server answers (`EACCES` for a client that may only read);
   *   ShareError; the signal's reason.
   */
  async reset(options?: CallOptions): Promise<void> {
    const signal = abortSignal('options.signal', checkOptions<CallOptions>('options', options).signal);
    const { descriptors } = await this.#connection.call('reset', undefined, undefined, signal);
    closeAll(descriptors);
  }

  #listen(eventfd: number, vector: number): void {
    whenReady(eventfd, () => {
      const count = Math.min(native.eventfdTake(eventfd), MOST_RAISED);
      for (let i = 0; i < count; i++) this.raise(vector);
      return false;
    });
    native.socketArm(eventfd, POLL_EVENTS.read);
  }

  #end(): void {
    this.#connection.onEnd = undefined;
    closeEventfds(this.#vectors);
    this.#connection.close();
  }
}

/** Of a vector that was signalled more often since the last look. */
const MOST_RAISED = 1024;

function closeEventfds(eventfds: readonly number[]): void {
  for (const eventfd of eventfds) {
    forget(eventfd);
    native.socketClose(eventfd);
  }
}

function regionOptions({ name, size, flags, descriptor, pages }: RemoteRegion, ownerServes: boolean): RegionOptions {
  if (descriptor === undefined) return { name, size, kind: 'registers' };
  const writable = (flags & REGION_FLAGS.write) !== 0;
  return {
    name,
    size,
    _received: { descriptor, writable, ...(pages === undefined ? {} : { pages: { ...pages, ownerServes } }) },
  };
}

/** Accesses to registers, as messages. */
function opsOf(connection: Connection, regions: readonly RemoteRegion[]): DeviceOps {
  return {
    readRegister: (offset, count, region) => {
      const { bar, begin } = regions[region];
      const access = { region: bar, offset: begin + offset, count, data: NO_BYTES };
      const reply = connection.callNow('regionRead', encodeAccess(access));
      return decoded(connection.path, () => valueIn(decodeRegionData(reply).data, count));
    },
    writeRegister: (offset, count, value, region) => {
      const data = new Uint8Array(8);
      viewOf(data).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
      const { bar, begin } = regions[region];
      const access = { region: bar, offset: begin + offset, count, data: data.subarray(0, count) };
      connection.callNow('regionWrite', encodeAccess(access));
    },
    mmap: (_, { region, offset, length }) => {
      const { areas } = regions[region];
      if (areas.length === 0 || areas.some((area) => offset >= area.offset && offset + length <= area.offset + area.size)) return;
      throw deviceError('EINVAL', 'mmap');
    },
  };
}

async function mapDma(connection: Connection, range: DmaRange): Promise<void> {
  const { address, length, access, offset, _source: source, _byMessages: byMessages } = range;
  const [readable, writable] = [access.includes('r'), access.includes('w')];
  const body = encodeDmaMap({ offset, address, size: length, readable, writable, mmap: false });
  const sent = source === undefined || byMessages ? [] : [unwrap(native.objectDescriptor(source._id, writable))];
  try {
    const { descriptors } = await connection.call('dmaMap', body, Int32Array.from(sent));
    closeAll(descriptors);
  } finally {
    closeAll(sent);
  }
}

async function unmapDma(connection: Connection, { address, length }: DmaRange): Promise<void> {
  if (connection.over) return;
  const { descriptors } = await connection.call('dmaUnmap', encodeDmaUnmap({ address, size: length, all: false }));
  closeAll(descriptors);
}

/** The served device accesses memory that it has been given without a descriptor. */
function answerDma(dma: DeviceDma, { command, body }: Message): Uint8Array | Promise<Uint8Array> | undefined {
  if (command === COMMANDS.dmaRead) {
    const { address, count } = decodeDmaRead(body);
    const data = new Uint8Array(count);
    const done = (): Uint8Array => encodeDmaTransfer({ address, count, data });
    return dma._isHere(address, count) ? (dma.readSync(address, data), done()) : dma.read(address, data).then(done);
  }
  if (command === COMMANDS.dmaWrite) {
    const { address, count, data } = decodeDmaData(body);
    const done = (): Uint8Array => encodeDmaTransfer({ address, count, data: NO_BYTES });
    return dma._isHere(address, count) ? (dma.writeSync(address, data), done()) : dma.write(address, data.slice()).then(done);
  }
  return undefined;
}

function valueIn(data: Uint8Array, count: number): number | bigint {
  if (data.byteLength !== count) throw new WireError(`${data.byteLength} bytes of data instead of ${count}`);
  if (count === 8) return viewOf(data).getBigUint64(0, true);
  let value = 0;
  for (let i = count - 1; i >= 0; i--) value = value * 256 + data[i];
  return value;
}

/**
 * Opens a device that another process serves, with {@link serve} or another server of the vfio-user protocol. Its regions are the device's, in
 * order and with their names, and behind them `'config'`, the PCI configuration space. Of a server that is not this library the BARs are
 * called `bar0` to `bar5`; what it lets be mapped only in parts is there as registers, and as `bar0.memory` for these parts. It keeps no
 * process alive.
 *
 * @throws (rejects) TypeError, RangeError on bad arguments; the system error of connect(2) with `path` (`ENOENT`, `EACCES`, `ECONNREFUSED`
 *   where the server has gone, …); the system error that the server answers; ShareError; the signal's reason.
 *
 * @example
 * ```js
 * const device = await connect('/run/user/1000/card.sock');
 * const control = device.open().map({ region: 'control' });
 * control.write32(0, 1);
 * ```
 */
export async function connect(path: string | URL, options?: ConnectOptions): Promise<ConnectedDevice> {
  const limits = checkConnectOptions(options);
  const connection = await Connection.open(toSocketPath('path', path), limits);
  const descriptors: number[] = [];
  const eventfds: number[] = [];
  try {
    const ask = async (command: CommandName, body: Uint8Array): Promise<{ body: Uint8Array; fds: number[] }> => {
      const reply = await connection.call(command, body, undefined, limits.signal);
      descriptors.push(...reply.descriptors);
      return { body: reply.body, fds: reply.descriptors };
    };
    if (connection.version.own?.serves === 'memory')
      throw new ShareError('ERR_SHARE_REFUSED', connection.path, 'it serves plain memory: use connectMemory()');
    const regions = await askRegions(connection, ask);
    const vectors = await openVectors(connection, ask, eventfds, limits.signal);
    const name = connection.version.own?.name || basename(connection.path) || connection.path;
    return new ConnectedDevice(CONSTRUCT, connection, name, regions, vectors);
  } catch (error) {
    closeEventfds(eventfds);
    connection.close();
    throw error;
  } finally {
    closeAll(descriptors);
  }
}

type Ask = (command: CommandName, body: Uint8Array) => Promise<{ body: Uint8Array; fds: number[] }>;

async function askRegions(connection: Connection, ask: Ask): Promise<RemoteRegion[]> {
  const { path } = connection;
  const { body } = await ask('deviceInfo', encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 }));
  const { regions: count } = decoded(path, () => decodeDeviceInfo(body));
  if (count > MOST_REGIONS) throw new ShareError('ERR_SHARE_PROTOCOL', path, `the peer sent a device of ${count} regions`);
  const bars = new Map<number, RemoteBar>();
  for (let index = 0; index < count; index++) {
    const bar = await askRegion(path, ask, index);
    if (bar.size > 0) bars.set(index, bar);
  }
  const regions = placedRegions(connection.version.own, bars) ?? plainRegions([...bars.values()]);
  if (regions.length === 0) throw new ShareError('ERR_SHARE_PROTOCOL', path, 'the peer sent a device without regions');
  return regions;
}

/** A region of the protocol: a BAR, or the configuration space. */
interface RemoteBar extends RegionInfo {
  descriptor: number | undefined;
  /** Where to ask for its pages. */
  source: number | undefined;
}

/** Room for so many areas; where there are more the server is asked again. */
const FIRST_AREAS = 16;

async function askRegion(path: string, ask: Ask, index: number): Promise<RemoteBar> {
  let argsz = regionInfoBytes(new Array<Area>(FIRST_AREAS));
  for (let attempt = 0; attempt < 2; attempt++) {
    const { body, fds } = await ask('regionInfo', encodeRegionInfo({ index, flags: 0, size: 0, offset: 0, argsz }));
    const info = decoded(path, () => decodeRegionInfo(body));
    if (info.index !== index) throw new ShareError('ERR_SHARE_PROTOCOL', path, `the peer sent region ${info.index} for ${index}`);
    if (info.argsz <= argsz) {
      // One that is mapped from elsewhere than the beginning of a descriptor is accessed by messages.
      const mappable = (info.flags & REGION_FLAGS.mmap) !== 0 && info.offset === 0 && (fds.length === 1 || fds.length === 2);
      return { ...info, descriptor: mappable ? fds[0] : undefined, source: mappable ? fds[1] : undefined };
    }
    argsz = Math.min(info.argsz, regionInfoBytes(new Array<Area>(MOST_AREAS)));
  }
  throw new ShareError('ERR_SHARE_PROTOCOL', path, `the peer sent region ${index} with ever more areas`);
}

/** Those of a server of this library, as its device has them; undefined where it does not say, or says what is not so. */
function placedRegions(own: OwnCapability | undefined, bars: ReadonlyMap<number, RemoteBar>): RemoteRegion[] | undefined {
  const { regions: names, places, supplied = [] } = own ?? {};
  if (names === undefined || places?.length !== names.length) return undefined;
  const found: RemoteRegion[] = [];
  for (const [i, [index, begin, size, isMemory]] of places.entries()) {
    const bar = bars.get(index);
    if (bar === undefined || size === 0 || begin + size > bar.size || index >= PCI.bars) return undefined;
    const pages = pagesOf(bar.source, supplied[i] ?? 0);
    const mappable = isMemory === 1 && begin === 0 && (pages === undefined) === ((supplied[i] ?? 0) === 0);
    const descriptor = mappable ? bar.descriptor : undefined;
    found.push({ name: names[i], bar: index, begin, size, flags: bar.flags, areas: [], descriptor, pages });
  }
  const config = bars.get(PCI.config);
  return config === undefined ? found : [...found, ...plainRegions([config])];
}

/** Undefined where no pages are asked for, also because this process has no userfaultfd(2) for that. */
function pagesOf(source: number | undefined, supplied: number): RemoteRegion['pages'] {
  if (source === undefined || supplied === 0) return undefined;
  const askBeforeWrite = supplied === 2;
  return native.pagerStart(askBeforeWrite, false) === null ? { source, askBeforeWrite } : undefined;
}

/** Those of other servers. What can be mapped only in parts is there twice: as registers, and what can be mapped as memory. */
function plainRegions(bars: readonly RemoteBar[]): RemoteRegion[] {
  return bars.flatMap(({ index, size, flags, areas, descriptor }) => {
    const name = index === PCI.config ? 'config' : index < PCI.bars ? `bar${index}` : `region${index}`;
    const region = { name, bar: index, begin: 0, size, flags, areas };
    if (areas.length === 0 || descriptor === undefined) return [{ ...region, descriptor }];
    return [
      { ...region, areas: [], descriptor: undefined },
      { ...region, name: `${name}.memory`, descriptor },
    ];
  });
}

/** An eventfd for each vector of the first kind of interrupt that the device has: MSI-X, MSI, INTx. */
async function openVectors(
  connection: Connection,
  ask: Ask,
  eventfds: number[],
  signal: AbortSignal | undefined,
): Promise<readonly number[]> {
  for (const index of [PCI.msix, PCI.msi, PCI.intx]) {
    const { body } = await ask('irqInfo', encodeIrqInfo({ index, flags: 0, count: 0 }));
    const { count } = decoded(connection.path, () => decodeIrqInfo(body));
    if (count === 0) continue;
    for (let vector = 0; vector < Math.min(count, MOST_VECTORS); vector++) eventfds.push(unwrap(native.eventfdWatched()));
    await assign(connection, index, eventfds, signal);
    return eventfds;
  }
  return eventfds;
}

/** As many with one message as the server takes. */
async function assign(
  connection: Connection,
  index: number,
  eventfds: readonly number[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const most = Math.max(1, Math.min(connection.version.maxDescriptors, 64));
  for (let start = 0; start < eventfds.length; start += most) {
    const some = eventfds.slice(start, start + most);
    const set = { index, start, count: some.length, data: 'eventfd', action: 'trigger', chosen: NO_BYTES } as const;
    const fds = Int32Array.from(some, (eventfd) => native.socketDescriptor(eventfd));
    const { descriptors } = await connection.call('setIrqs', encodeIrqSet(set), fds, signal);
    closeAll(descriptors);
  }
}
