/** Messages over one socket: in order, in bounded memory, without blocking but where that is asked for. */
import { constants as osConstants } from 'node:os';
import { isRevokedError, ShareError, systemError } from '../errors.js';
import { isFailure } from '../native/functions.js';
import { native } from '../native/load.js';
import { MOST_DESCRIPTORS, POLL_EVENTS, RECEIVED } from '../native/socket-functions.js';
import { MessageReader } from './message-reader.js';
import { forget, whenReady } from './socket-loop.js';
import { ACCESS_BYTES, MOST_DATA, WireError, type Header, type Message } from './wire.js';

export interface ChannelEvents {
  /** A message. Its descriptors are closed when this has returned, or its promise is settled; the next message waits for that. */
  message(message: Message): void | Promise<void>;
  /** The peer sends no more, has gone (undefined), or has sent what is no message. Once. */
  ended(error: ShareError | undefined): void;
  /** Throws a WireError for a header that is not to be followed by a body. */
  header?(header: Header): void;
}

interface Outgoing {
  bytes: Uint8Array;
  descriptors: Int32Array;
  /** The descriptors may be closed. */
  sent: () => void;
}

const nothing = (): void => undefined;
const NO_DESCRIPTORS = new Int32Array(0);
/** A peer that does not take what it asked for is not asked for more; one that lets so much wait is not waited for any longer. */
const MOST_WAITING = 4 * MOST_DATA;

/** Not awaited: what there is already. */
const AT_ONCE = 0;

const received = new Int32Array(RECEIVED.size + MOST_DESCRIPTORS);

const NONE: readonly number[] = [];

function descriptorsIn(numbers: Int32Array): number[] {
  return Array.from(numbers.subarray(RECEIVED.size, RECEIVED.size + numbers[RECEIVED.count]));
}

export function closeAll(descriptors: number[]): void {
  for (const fd of descriptors.splice(0)) native.closeDescriptor(fd);
}

export class Channel {
  readonly #reader = new MessageReader(MOST_DATA + ACCESS_BYTES, (header) => this.events.header?.(header));
  readonly #out: Outgoing[] = [];
  #waiting = 0;
  #busy = false;
  #ended = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  /** What the socket is watched for. */
  #armed: number | undefined;
  /** A message is being handled in this turn. */
  #handling = false;

  /**
   * @param id the socket, which is the channel's from then on.
   * @param path for errors.
   * @param limit milliseconds for the rest of a message that has begun.
   * @param polite true where the peer is not read from while it does not take what is sent to it.
   */
  constructor(
    readonly id: number,
    readonly path: string,
    readonly limit: number,
    readonly polite: boolean,
    readonly events: ChannelEvents,
  ) {
    whenReady(id, () => this.#ready());
    this.#arm();
  }

  /** Sends, or keeps for later what the socket has no room for. The descriptors are needed until `sent` is called. */
  send(bytes: Uint8Array, descriptors: Int32Array = NO_DESCRIPTORS, sent: () => void = nothing): void {
    if (this.#closed) return sent();
    this.#out.push({ bytes, descriptors, sent });
    this.#waiting += bytes.byteLength;
    this.#write();
    this.#arm();
    if (this.#waiting > MOST_WAITING)
      this.#end(new ShareError('ERR_SHARE_PROTOCOL', this.path, 'the peer does not read what it is sent'));
  }

  /** Blocks until all has been sent, or so many milliseconds have passed. True if all has. */
  flush(milliseconds: number): boolean {
    const end = performance.now() + milliseconds;
    while (this.#out.length > 0 && !this.#closed) {
      const left = Math.ceil(end - performance.now());
      if (left <= 0 || !native.socketWaitForRoom(this.id, left)) return false;
      this.#write();
    }
    return !this.#closed;
  }

  /**
   * Blocks until a message has come. Undefined when the time is up or the connection has ended. Its descriptors are the caller's.
   */
  receiveNow(milliseconds: number): Message | undefined {
    const end = performance.now() + milliseconds;
    for (;;) {
      const left = Math.max(AT_ONCE, Math.ceil(end - performance.now()));
      const message = this.#receive(left);
      if (message !== undefined || this.#ended) return message;
      if (left === AT_ONCE) return undefined;
    }
  }

  /** This side sends no more; what the peer sends is passed over from now on, until it ends too. */
  finish(): void {
    this.flush(0);
    native.socketEnd(this.id);
  }

  get ended(): boolean {
    return this.#ended;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = this.#ended = true;
    clearTimeout(this.#timer);
    closeAll(this.#reader.takeDescriptors());
    this.#dropOutgoing();
    forget(this.id);
    native.socketClose(this.id);
  }

  /** True if the peer has its answer, and may ask again at once. */
  #ready(): boolean {
    if (this.#closed || this.#handling) return false;
    this.#write();
    return this.#read();
  }

  get #mayRead(): boolean {
    return !this.#busy && !this.#ended && !(this.polite && this.#out.length > 0);
  }

  #read(): boolean {
    const message = this.#mayRead ? this.#receive(AT_ONCE) : undefined;
    if (message !== undefined) this.#handle(message);
    this.#arm();
    return message !== undefined && this.polite && this.#mayRead;
  }

  /** Reads on in a message, up to its end. Waits for so many milliseconds. Ends the channel where there will be no more. */
  #receive(milliseconds: number): Message | undefined {
    const reader = this.#reader;
    const result = native.socketReceive(this.id, reader.buffer, reader.have, received, milliseconds);
    if (result === null) return undefined;
    if (isFailure(result)) return this.#end(undefined);
    const descriptors = received[RECEIVED.count] === 0 ? NONE : descriptorsIn(received);
    if (result === 0) {
      closeAll([...descriptors]);
      const cut = this.#reader.partial
        ? new ShareError('ERR_SHARE_PROTOCOL', this.path, 'the peer ended within a message')
        : undefined;
      return this.#end(cut);
    }
    const discarded = received[RECEIVED.discarded] !== 0;
    try {
      const message = reader.filled(result, descriptors);
      if (discarded) {
        if (message !== undefined) closeAll(message.descriptors);
        throw new WireError(`more than ${MOST_DESCRIPTORS} descriptors`);
      }
      this.#limitPartial();
      return message;
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return this.#end(new ShareError('ERR_SHARE_PROTOCOL', this.path, `the peer sent ${error.message}`));
    }
  }

  /** A message that has begun must go on. */
  #limitPartial(): void {
    if (!this.#reader.partial) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      return;
    }
    this.#timer ??= setTimeout(() => {
      this.#end(new ShareError('ERR_SHARE_TIMEOUT', this.path, `the rest of a message did not come within ${this.limit} ms`));
    }, this.limit).unref();
  }

  #handle(message: Message): void {
    this.#handling = true;
    let done: void | Promise<void>;
    try {
      done = this.events.message(message);
    } finally {
      this.#handling = false;
    }
    if (done === undefined) return closeAll(message.descriptors);
    this.#busy = true;
    void done.finally(() => {
      closeAll(message.descriptors);
      this.#busy = false;
      if (!this.#closed) this.#read();
    });
  }

  #write(): void {
    while (this.#out.length > 0 && !this.#closed) {
      const { bytes, descriptors, sent: done } = this.#out[0];
      const sent = native.socketSend(this.id, bytes, descriptors);
      if (isFailure(sent)) {
        if (sent.errno === -osConstants.errno.EAGAIN) return;
        this.#dropOutgoing(); // the peer reads no more: its end comes by reading
        return;
      }
      this.#waiting -= sent;
      if (sent === bytes.byteLength) this.#out.shift();
      else this.#out[0] = { bytes: bytes.slice(sent), descriptors: NO_DESCRIPTORS, sent: nothing };
      done();
    }
  }

  #dropOutgoing(): void {
    this.#waiting = 0;
    for (const { sent } of this.#out.splice(0)) sent();
  }

  #arm(): void {
    if (this.#closed) return;
    const events = (this.#mayRead ? POLL_EVENTS.read : 0) | (this.#out.length > 0 ? POLL_EVENTS.write : 0);
    if (events === this.#armed) return;
    this.#armed = events;
    native.socketArm(this.id, events);
  }

  #end(error: ShareError | undefined): undefined {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    closeAll(this.#reader.takeDescriptors());
    this.events.ended(error);
  }
}

/** The error of a reply. */
export function replyError(errno: number, command: string): NodeJS.ErrnoException {
  return systemError({ errno: errno > 0 ? -errno : -osConstants.errno.EIO, syscall: `vfio-user ${command}` });
}

/** As what a failure is answered. */
export function errnoOf(error: unknown): number {
  const { errno } = osConstants;
  if (error instanceof WireError) return error.errno;
  if (isRevokedError(error)) return errno.ENODEV;
  if (error instanceof RangeError || error instanceof TypeError) return errno.EINVAL;
  const number = (error as { errno?: unknown } | null)?.errno;
  if (typeof number === 'number' && number < 0 && number > -4096) return -number;
  switch ((error as { code?: unknown } | null)?.code) {
    case 'ERR_MAPPING_SUSPENDED':
      return errno.EBUSY;
    case 'ERR_MAPPING_CLOSED':
      return errno.EBADF;
    case 'ERR_MAPPING_READ_ONLY':
      return errno.EACCES;
    case 'ERR_DEVICE_OP_TIMEOUT':
      return errno.ETIMEDOUT;
    default:
      return errno.EIO;
  }
}
