/** The native functions of sockets between processes: see `functions.ts`. Sockets and eventfds are named by numbers of this thread's. */
import type { Failure } from './functions.js';

export interface SocketFunctions {
  /** Listens at a path, with exactly this mode. See `native/share/socket.h`. */
  socketListen(path: Uint8Array, mode: number): number | Failure;
  /** `EAGAIN` while the server has no room. */
  socketConnect(path: Uint8Array): number | Failure;
  /** `EAGAIN` when no peer waits. */
  socketAccept(id: number): number | Failure;
  /** Both ends of a connection: one of this thread's sockets, and one to send, for {@link closeDescriptor}. */
  socketPair(): { id: number; descriptor: number } | Failure;
  socketPeer(id: number): { pid: number; uid: number; gid: number } | Failure;
  /** It is ready, from then on, whenever one of {@link POLL_EVENTS} holds; for 0, once, when the peer has gone. */
  socketArm(id: number, events: number): Failure | null;
  /** Puts those that are ready into `ids`; how many. `soon`: looks for some microseconds, where that has found some before. */
  socketsReady(ids: Float64Array, soon: boolean): number;
  /**
   * Reads on in the message of which `message` has so many bytes, up to its end or that of `message`. How many bytes; 0 when the peer sends
   * no more; null when nothing has come in so many milliseconds. `descriptors` gets a {@link RECEIVED}, and then the descriptors, which are
   * to be given to {@link closeDescriptor}.
   */
  socketReceive(
    id: number,
    message: Uint8Array,
    have: number,
    descriptors: Int32Array,
    milliseconds: number,
  ): number | Failure | null;
  /** How many bytes. The descriptors go with the first. */
  socketSend(id: number, bytes: Uint8Array, descriptors: Int32Array): number | Failure;
  /** True if there is room to send. Blocks. */
  socketWaitForRoom(id: number, milliseconds: number): boolean;
  /** This side sends no more. */
  socketEnd(id: number): void;
  /** Of one that listens its name is removed too. */
  socketClose(id: number): void;
  /** So many more sockets keep the event loop alive. */
  socketHold(change: number): void;
  /** These objects are revoked at the moment when the peer sends no more, by a thread of the library. */
  socketRevokes(id: number, objects: Float64Array): Failure | null;
  /** Blocks until these objects are revoked, by that thread or here. */
  socketRevokeNow(id: number): void;
  /** An eventfd that can be armed, and closed, as a socket. */
  eventfdWatched(): number | Failure;
  /** How often it has been signalled since the last time. */
  eventfdTake(id: number): number;
  /** Signals one of another process, without ever waiting for room in it. */
  eventfdSignalShared(fd: number): void;
  /** The descriptor itself, for sending. */
  socketDescriptor(id: number): number;
  /** Closes what was received, or opened by {@link objectDescriptor}; nothing else. */
  closeDescriptor(fd: number): void;
  /** One more descriptor of the object; one that is not `writable` can only be read. For {@link closeDescriptor}. */
  objectDescriptor(id: number, writable: boolean): number | Failure;
  /** A revocation of the object empties its pages and does not truncate it. */
  objectSpareHolders(id: number): void;
  /** Puts into `numbers` a descriptor, for {@link closeDescriptor}, and the owner's number: see `native/share/owner_lock.h`. */
  ownerOpen(objectId: number, numbers: Int32Array): Failure | null;
  /** False once the thread that has this number has ended, or its process has died. */
  ownerLives(fd: number, self: number, owner: number): boolean;
}

/** epoll(7)'s, the kernel's user ABI. */
export const POLL_EVENTS = { read: 0x2001, write: 0x0004 } as const;
/** What stands before the descriptors of a read. */
export const RECEIVED = { count: 0, discarded: 1, size: 2 } as const;
/** The most descriptors of one read or write. */
export const MOST_DESCRIPTORS = 64;
