/** Plain memory between processes: one region, which is mapped. */
import { constants as osConstants } from 'node:os';
import { invalidType, systemError } from '../errors.js';
import { MemoryObject } from '../memory/memory-object.js';
import { native } from '../native/load.js';
import { unwrap } from '../thread/wakeups.js';
import { Server } from './server.js';
import type { Answer, ClientRights, Served, Session } from './served-client.js';
import { checkShareOptions, type ShareOptions } from './share-options.js';
import {
  COMMANDS,
  decodeDeviceInfo,
  decodeRegionInfo,
  encodeDeviceInfo,
  encodeRegionInfo,
  REGION_FLAGS,
  WireError,
  type Message,
} from './wire.js';

/** A descriptor of the object for a client, and what its removal will have to spare then. */
export function descriptorFor(object: MemoryObject, access: 'r' | 'rw', spare: boolean): number {
  if (spare) spareHolders(object);
  return unwrap(native.objectDescriptor(object._id, access === 'rw' && object.writable));
}

/**
 * From then on a revocation empties the object.
 *
 * @throws `EPERM` where it cannot be emptied.
 */
export function spareHolders(object: MemoryObject): void {
  if (object.seals.some((seal) => seal === 'write' || seal === 'future-write'))
    throw systemError({ errno: -osConstants.errno.EPERM, syscall: 'fallocate' }, { hint: SEALED });
  native.objectSpareHolders(object._id);
}

const SEALED = "memory that is sealed against writing cannot be emptied for clients that do not survive onRemoval: 'truncate'";

/** True if a removal must leave the client alive that is about to get the memory. */
export function mustSpare(onRemoval: 'truncate' | 'orphan' | undefined, { survives }: ClientRights): boolean {
  return onRemoval === 'orphan' || (onRemoval === undefined && !survives);
}

class MemorySession implements Session {
  constructor(
    readonly object: MemoryObject,
    readonly rights: ClientRights,
    readonly spare: boolean,
  ) {}

  answer({ command, body }: Message): Answer {
    switch (command) {
      case COMMANDS.deviceInfo:
        decodeDeviceInfo(body);
        return { body: encodeDeviceInfo({ flags: 0, regions: 1, irqs: 0 }) };
      case COMMANDS.regionInfo:
        return this.#region(decodeRegionInfo(body).index);
      default:
        throw new WireError(`command ${command}`, osConstants.errno.ENOTSUP);
    }
  }

  #region(index: number): Answer {
    if (index !== 0) throw new WireError(`region ${index}`);
    const { object, rights } = this;
    if (object.state !== 'live') throw systemError({ errno: -osConstants.errno.ENODEV, syscall: 'mmap' });
    const { size } = object;
    const descriptors = [descriptorFor(object, rights.access, this.spare)];
    const flags = REGION_FLAGS.read | REGION_FLAGS.mmap | (rights.access === 'rw' ? REGION_FLAGS.write : 0);
    return { body: encodeRegionInfo({ index, flags, size, offset: 0 }), descriptors };
  }

  close(): void {
    // What the client had was a descriptor of its own.
  }
}

/**
 * Serves memory to other processes at a socket: see {@link connectMemory}. Revoking the object removes it from all of them, and ends the
 * server; so does closing it, which takes nothing away from clients without this library. Blocks for some system calls.
 *
 * @throws TypeError, RangeError on bad arguments; `ENODEV` where the object is not live; `EPERM` where it is sealed against writing and
 *   `onRemoval` is `'orphan'`; `EADDRINUSE` where another server listens at the
 *   path, or it is no socket; the system errors of bind(2), open(2) (`ENOENT`, `EACCES`, …), with `path`.
 *
 * @example
 * ```js
 * const memory = MemoryObject.create({ size: 65536, name: 'ring' });
 * const server = serveMemory(memory, { path: '/run/user/1000/ring.sock' });
 * ```
 */
export function serveMemory(object: MemoryObject, options: ShareOptions): Server {
  if (!MemoryObject._is(object)) throw invalidType('object', 'an instance of MemoryObject', object);
  const checked = checkShareOptions(options, object.writable);
  if (object.state !== 'live') throw systemError({ errno: -osConstants.errno.ENODEV, syscall: 'listen' });
  if (checked.onRemoval === 'orphan') spareHolders(object);
  const served: Served = {
    describe: () => ({ serves: 'memory', name: object.name.slice(0, 255) }),
    open: (rights) => new MemorySession(object, rights, mustSpare(checked.onRemoval, rights)),
    end: () => {
      object.off('revoked', end);
      object.off('close', end);
    },
  };
  const server = Server._start(checked, served);
  const end = (): void => server._end();
  object.on('revoked', end);
  object.on('close', end);
  return server;
}
