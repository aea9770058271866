/** Memory that a client has given to a served device. */
import { readlinkSync, statfsSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { systemError } from '../errors.js';
import type { DeviceDma, DmaPlace, DmaRange, RemoteMemory } from '../device/dma.js';
import { MemoryObject } from '../memory/memory-object.js';
import { native } from '../native/load.js';
import type { ClientCalls } from './client-calls.js';
import { decoded } from './connection.js';
import {
  decodeDmaData,
  decodeDmaRead,
  encodeDmaTransfer,
  MOST_DATA,
  WireError,
  type DmaMap,
  type DmaTransfer,
  type DmaUnmap,
  type LogReport,
} from './wire.js';
import { WriteLog } from './write-log.js';

const { errno } = osConstants;
const NO_BYTES = new Uint8Array(0);
/** How many ranges one client may have: each costs a descriptor. */
export const MOST_DMA_RANGES = 512;

/** What a touch of their pages may wait for, for ever: a program of the client's, or another machine. By the numbers of statfs(2). */
const SLOW_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0x6573_5546, // FUSE
  0x6969, // NFS
  0xff53_4d42, // CIFS
  0xfe53_4d42, // SMB2
  0x0102_1997, // 9P
  0x00c3_6400, // Ceph
  0x5346_414f, // AFS
]);

export class ServedDma {
  readonly #ranges = new Set<DmaRange>();
  /** Undefined while the client does not want to know. */
  #log: WriteLog | undefined;
  /** One access at a time is on its way: neither side is sent more than it has taken. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    readonly dma: DeviceDma,
    readonly calls: ClientCalls,
    /** Its first byte is not 0 while the device may use the memory. */
    readonly gate: Uint8Array,
  ) {}

  /** `descriptors` stay the caller's. */
  async map(map: DmaMap, descriptors: readonly number[]): Promise<void> {
    if (descriptors.length > 1) throw new WireError(`${descriptors.length} descriptors of a DMA range`);
    if (map.mmap && descriptors.length === 0) throw new WireError('a DMA range to be mapped without a descriptor');
    if ([map.address, map.size, ...(descriptors.length > 0 ? [map.offset] : [])].some((n) => n % native.pageSize !== 0))
      throw new WireError('a DMA range that is not whole pages');
    if (this.#ranges.size >= MOST_DMA_RANGES) throw new WireError(`more than ${MOST_DMA_RANGES} DMA ranges`, errno.ENOSPC);
    const access = map.readable ? (map.writable ? 'rw' : 'r') : 'w';
    const remote = this.#remote();
    const memory = descriptors.length === 0 ? remote : { object: objectOf(descriptors[0], map), offset: map.offset, remote };
    const place: DmaPlace = { address: map.address, length: map.size, access, memory, gate: this.gate };
    const range = this.dma._add(place);
    range._onWrite = (offset, size) => this.#log?.add({ offset: range.address + offset, size });
    this.#ranges.add(range); // before it waits: the client may end meanwhile
    try {
      await this.dma._elsewhere?.map(range);
    } catch (error) {
      this.#drop(range);
      throw error;
    }
  }

  async unmap({ address, size, all }: DmaUnmap): Promise<void> {
    const mine = this.#mapped();
    const chosen = all ? mine : mine.filter((range) => range.address === address && range.length === size);
    if (chosen.length === 0 && !all) throw new WireError(`no DMA range of ${size} bytes at ${address}`, errno.ENOENT);
    const ends = chosen.map((range) => {
      this.#forget(range);
      return this.dma._unmap(range);
    });
    await Promise.all(ends);
  }

  /** The client has gone. */
  end(): void {
    for (const range of [...this.#ranges]) this.#drop(range);
  }

  #drop(range: DmaRange): void {
    this.#ranges.delete(range);
    void this.dma._unmap(range).catch(() => undefined); // where it is served elsewhere, that has ended too
  }

  #mapped(): DmaRange[] {
    for (const range of this.#ranges) if (!range.mapped) this.#forget(range);
    return [...this.#ranges];
  }

  // --- what the device has written ---

  /** @throws `EBUSY` where it has been started. */
  startLog(): void {
    if (this.#log !== undefined) throw new WireError('a log that has been started', errno.EBUSY);
    this.#log = new WriteLog(native.pageSize);
  }

  stopLog(): void {
    this.#log = undefined;
  }

  /** What has been written since the last report. What the client writes itself, at a message, is its own to note. */
  takeLog(report: LogReport): Uint8Array {
    if (this.#log === undefined) throw new WireError('a log that has not been started');
    for (const range of this.#mapped()) this.#logUnseen(range);
    return this.#log.take(report);
  }

  #forget(range: DmaRange): void {
    this.#ranges.delete(range);
    this.#logUnseen(range);
  }

  /** All of it, where writes are not seen: those by mappings that the model has made itself, or of a model in another thread. */
  #logUnseen(range: DmaRange): void {
    const unseen = range._isTaken || this.dma._elsewhere !== undefined;
    if (unseen && range._object !== undefined && range.access !== 'r')
      this.#log?.add({ offset: range.address, size: range.length });
  }

  /** Each access is as many messages as the client's limit makes of it. */
  #remote(): RemoteMemory {
    const most = Math.max(1, Math.min(this.calls.maxData, MOST_DATA));
    return {
      read: async (address, length) => this.#inTurn(() => this.#read(address, length, most)),
      write: async (address, bytes) => this.#inTurn(() => this.#write(address, bytes, most)),
    };
  }

  async #inTurn<T>(access: () => Promise<T>): Promise<T> {
    const done = this.#last.then(access);
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #read(address: number, length: number, most: number): Promise<Uint8Array> {
    const whole = new Uint8Array(length);
    for (let done = 0; done < length; done += most) {
      const asked = { address: address + done, count: Math.min(most, length - done), data: NO_BYTES };
      const reply = await this.calls.call('dmaRead', encodeDmaTransfer(asked));
      whole.set(decoded(this.calls.path, () => same(asked, decodeDmaData(reply))).data, done);
    }
    return whole;
  }

  async #write(address: number, bytes: Uint8Array, most: number): Promise<void> {
    for (let done = 0; done < bytes.byteLength; done += most) {
      const data = bytes.subarray(done, done + most);
      const asked = { address: address + done, count: data.byteLength, data };
      const reply = await this.calls.call('dmaWrite', encodeDmaTransfer(asked));
      decoded(this.calls.path, () => same(asked, decodeDmaRead(reply)));
    }
  }
}

/** The reply repeats what was asked for. */
function same(asked: DmaTransfer, answered: DmaTransfer): DmaTransfer {
  if (answered.address === asked.address && answered.count === asked.count) return answered;
  throw new WireError(`a DMA access of ${answered.count} bytes instead of ${asked.count}`);
}

function objectOf(descriptor: number, { writable }: DmaMap): MemoryObject {
  const path = `/proc/self/fd/${descriptor}`;
  if (SLOW_FILE_SYSTEMS.has(statfsSync(path).type))
    throw systemError({ errno: -errno.EOPNOTSUPP, syscall: 'mmap' }, { hint: 'a touch of its pages may wait for ever' });
  return MemoryObject.fromFd(descriptor, { writable, name: `dma ${readlinkSync(path)}`.slice(0, 249) });
}
