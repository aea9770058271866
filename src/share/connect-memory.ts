import { ShareError } from '../errors.js';
import { MemoryObject } from '../memory/memory-object.js';
import { closeAll } from './channel.js';
import { Connection, decoded } from './connection.js';
import { checkConnectOptions, toSocketPath, type ConnectOptions } from './share-options.js';
import {
  DEVICE_INFO_BYTES,
  decodeRegionInfo,
  encodeDeviceInfo,
  encodeRegionInfo,
  REGION_FLAGS,
  type RegionInfo,
} from './wire.js';

/** Ends the connection of memory that is not used any more. */
const collected = new FinalizationRegistry((connection: Connection) => connection.close());

/**
 * The memory that another process serves with {@link serveMemory}: an object of this process like any other, writable where the server
 * allows it. It is revoked when the server revokes it, ends or dies, at once and whatever this thread does then: its errors have a
 * {@link ShareError} (`ERR_SHARE_DISCONNECTED`) as their cause. Closing it ends the connection. Neither keeps the process alive.
 *
 * @throws (rejects) TypeError, RangeError on bad arguments; the system error of connect(2) with `path` (`ENOENT`, `EACCES`, `ECONNREFUSED`
 *   where the server has gone, …); ShareError; the signal's reason; what {@link MemoryObject.fromFd} throws.
 *
 * @example
 * ```js
 * const memory = await connectMemory('/run/user/1000/ring.sock');
 * const mapping = memory.map();
 * ```
 */
export async function connectMemory(path: string | URL, options?: ConnectOptions): Promise<MemoryObject> {
  const limits = checkConnectOptions(options);
  const connection = await Connection.open(toSocketPath('path', path), limits);
  try {
    const object = await receive(connection, limits.signal);
    // The connection must not keep the object: a mapping, or its user, does.
    collected.register(object, connection);
    object.once('close', () => connection.close());
    return object;
  } catch (error) {
    connection.close();
    throw error;
  }
}

async function receive(connection: Connection, signal: AbortSignal | undefined): Promise<MemoryObject> {
  const { path } = connection;
  if (connection.version.own?.serves !== 'memory')
    throw new ShareError('ERR_SHARE_REFUSED', path, 'it serves no plain memory: use connect() for a device');
  const info = await connection.call('deviceInfo', encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 }), undefined, signal);
  closeAll(info.descriptors);
  if (info.body.byteLength < DEVICE_INFO_BYTES) throw new ShareError('ERR_SHARE_PROTOCOL', path, 'the peer sent no device info');
  const asked = encodeRegionInfo({ index: 0, flags: 0, size: 0, offset: 0 });
  const { body, descriptors } = await connection.call('regionInfo', asked, undefined, signal);
  try {
    return objectOf(
      connection,
      decoded(path, () => decodeRegionInfo(body)),
      descriptors,
    );
  } finally {
    closeAll(descriptors);
  }
}

function objectOf(connection: Connection, { flags, size }: RegionInfo, descriptors: number[]): MemoryObject {
  const { path } = connection;
  if (descriptors.length !== 1 || (flags & REGION_FLAGS.mmap) === 0)
    throw new ShareError('ERR_SHARE_PROTOCOL', path, 'the peer sent no memory');
  const name = connection.version.own?.name ?? path;
  const object = MemoryObject.fromFd(descriptors[0], { writable: (flags & REGION_FLAGS.write) !== 0, name });
  try {
    if (object.size < size) throw new ShareError('ERR_SHARE_DISCONNECTED', path, 'the memory has been removed');
    connection.revokes([object]);
    return object;
  } catch (error) {
    object.close();
    throw error;
  }
}
