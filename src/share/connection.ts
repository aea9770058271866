/** A client's end of a connection: the handshake, calls, and what a lost connection takes away. */
import { constants as osConstants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';
import { ShareError, systemError } from '../errors.js';
import type { MemoryObject } from '../memory/memory-object.js';
import { isFailure } from '../native/functions.js';
import { native } from '../native/load.js';
import { MOST_DESCRIPTORS } from '../native/socket-functions.js';
import { prepare, unwrap } from '../thread/wakeups.js';
import { Channel, closeAll, errnoOf, replyError } from './channel.js';
import { decodeVersion, encodeVersion, VERSION, type Version } from './version.js';
import { COMMANDS, encode, MOST_DATA, WireError, type Message } from './wire.js';

export type CommandName = keyof typeof COMMANDS;

/** This thread, as no other thread of this machine is called. */
export const HERE = `${process.pid}:${threadId}`;

export interface Reply {
  body: Uint8Array;
  /** The caller's to close. */
  descriptors: number[];
}

interface Pending {
  /** The body is lent. */
  resolve(reply: Reply): void;
  reject(error: unknown): void;
  command: CommandName;
}

export interface ConnectLimits {
  /** Milliseconds for each answer. */
  timeout: number;
  signal: AbortSignal | undefined;
}

const OURS: Version = { ...VERSION, maxDescriptors: MOST_DESCRIPTORS, maxData: MOST_DATA, writeMultiple: true, own: undefined };

/** How long a server that has no room is asked again after. */
const RETRY_MS = 10;

export class Connection {
  /** What the server has said of itself. */
  version: Version = OURS;
  readonly #channel: Channel;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  #over: ShareError | undefined;
  /** Called once, when the connection has ended by itself. */
  onEnd: ((error: ShareError) => void) | undefined;
  /** Answers a command of the server with a body, or throws what it is answered with; undefined for a command that it does not know. */
  onCommand: ((message: Message) => Uint8Array | Promise<Uint8Array> | undefined) | undefined;

  private constructor(
    socket: number,
    readonly path: string,
    readonly timeout: number,
  ) {
    this.#channel = new Channel(socket, path, timeout, false, {
      message: (message) => this.#message(message),
      ended: (error) => this.#end(error ?? goneError(path)),
    });
  }

  /**
   * Connects and shakes hands.
   *
   * @throws (rejects) the system error of connect(2); ShareError; the signal's reason.
   */
  static async open(path: string, limits: ConnectLimits): Promise<Connection> {
    prepare();
    limits.signal?.throwIfAborted();
    const connection = new Connection(await connectSocket(path, limits), path, limits.timeout);
    try {
      await connection.#shakeHands(limits.signal);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  get id(): number {
    return this.#channel.id;
  }

  /** True if the server runs in this thread: a call that blocks would never be answered. */
  get isServedHere(): boolean {
    return this.version.own?.thread === HERE;
  }

  /**
   * Sends a command and waits for its reply.
   *
   * @throws (rejects) the system error that the reply says; ShareError; the signal's reason.
   */
  async call(command: CommandName, body?: Uint8Array, descriptors?: Int32Array, signal?: AbortSignal): Promise<Reply> {
    if (this.#over !== undefined) throw this.#over;
    signal?.throwIfAborted();
    const id = this.#freeId();
    let fail!: (reason: unknown) => void;
    const reply = new Promise<Reply>((resolve, reject) => {
      fail = reject;
      const copied = ({ body: lent, descriptors: fds }: Reply): void => resolve({ body: lent.slice(), descriptors: fds });
      this.#pending.set(id, { resolve: copied, reject, command });
    });
    const late = setTimeout(() => fail(timeoutError(this.path, command, this.timeout)), this.timeout);
    const aborted = (): void => fail(signal!.reason);
    signal?.addEventListener('abort', aborted, { once: true });
    this.#channel.send(encode({ id, command: COMMANDS[command] }, body), descriptors);
    try {
      return await reply;
    } finally {
      clearTimeout(late);
      signal?.removeEventListener('abort', aborted);
      this.#abandon(id);
    }
  }

  /** {@link call}, in this call: blocks until the reply has come. What it returns is good until the next message is read. */
  callNow(command: CommandName, body: Uint8Array): Uint8Array {
    if (this.#over !== undefined) throw this.#over;
    if (this.isServedHere)
      throw systemError(
        { errno: -osConstants.errno.EDEADLK, syscall: `vfio-user ${command}` },
        { hint: 'this thread serves it' },
      );
    const id = this.#freeId();
    let settled: { reply: Reply } | { error: unknown } | undefined;
    this.#pending.set(id, { resolve: (reply) => (settled = { reply }), reject: (error) => (settled = { error }), command });
    const end = performance.now() + this.timeout;
    try {
      this.#channel.send(encode({ id, command: COMMANDS[command] }, body));
      this.#channel.flush(this.timeout);
      while (settled === undefined) {
        const message = this.#channel.receiveNow(end - performance.now());
        if (message === undefined && settled === undefined) throw this.#over ?? timeoutError(this.path, command, this.timeout);
        if (message === undefined) continue;
        this.#message(message);
        closeAll(message.descriptors);
      }
    } finally {
      this.#abandon(id);
    }
    const outcome: { reply: Reply } | { error: unknown } = settled;
    if ('error' in outcome) throw outcome.error;
    closeAll(outcome.reply.descriptors);
    return outcome.reply.body;
  }

  /** True once it has ended. */
  get over(): boolean {
    return this.#over !== undefined;
  }

  /** @throws ShareError once it has ended. */
  throwIfOver(): void {
    if (this.#over !== undefined) throw this.#over;
  }

  /** These objects are revoked when the server ends the connection or dies, whatever this thread does then. */
  revokes(objects: readonly MemoryObject[]): void {
    this.throwIfOver();
    for (const object of objects) object._ownerGone ??= goneError(this.path);
    unwrap(
      native.socketRevokes(
        this.id,
        Float64Array.from(objects, (object) => object._id),
      ),
    );
  }

  close(): void {
    this.#over ??= new ShareError('ERR_SHARE_DISCONNECTED', this.path, 'the connection has been closed');
    this.#channel.close();
    this.#rejectAll(this.#over);
  }

  async #shakeHands(signal: AbortSignal | undefined): Promise<void> {
    const own = { thread: HERE, survives: true, asksForPages: true };
    let reply: Reply;
    try {
      reply = await this.call('version', encodeVersion({ ...OURS, own }), undefined, signal);
    } catch (error) {
      if (error instanceof ShareError && error.code === 'ERR_SHARE_DISCONNECTED')
        throw new ShareError('ERR_SHARE_REFUSED', this.path, 'the server has refused the connection');
      throw error;
    }
    closeAll(reply.descriptors);
    this.version = decoded(this.path, () => decodeVersion(reply.body));
    const { major, minor } = this.version;
    if (major !== VERSION.major || minor > VERSION.minor)
      throw new ShareError('ERR_SHARE_PROTOCOL', this.path, `the server speaks version ${major}.${minor} of the protocol`);
  }

  #freeId(): number {
    if (this.#pending.size > 0xfff0) throw systemError({ errno: -osConstants.errno.EAGAIN, syscall: 'sendmsg' });
    do this.#nextId = (this.#nextId + 1) & 0xffff;
    while (this.#pending.has(this.#nextId));
    return this.#nextId;
  }

  /** Its answer, which may still come, is passed over. */
  #abandon(id: number): void {
    this.#pending.delete(id);
  }

  #message(message: Message): void {
    if (!message.reply) return this.#answer(message);
    const pending = this.#pending.get(message.id);
    if (pending === undefined || COMMANDS[pending.command] !== message.command) return;
    if (message.errno !== 0) return pending.reject(replyError(message.errno, pending.command));
    pending.resolve({ body: message.body, descriptors: message.descriptors.splice(0) });
  }

  /** A command of the server. */
  #answer(message: Message): void {
    try {
      const answer = this.onCommand?.(message);
      if (answer === undefined) throw new WireError(`command ${message.command}`, osConstants.errno.ENOTSUP);
      if (!(answer instanceof Promise)) return this.#reply(message, answer, 0);
      answer.then(
        (body) => this.#reply(message, body, 0),
        (error: unknown) => this.#reply(message, undefined, errnoOf(error)),
      );
    } catch (error) {
      this.#reply(message, undefined, errnoOf(error));
    }
  }

  #reply({ id, command, noReply }: Message, body: Uint8Array | undefined, errno: number): void {
    if (!noReply && this.#over === undefined) this.#channel.send(encode({ id, command, reply: true, errno }, body));
  }

  #end(error: ShareError): void {
    if (this.#over !== undefined) return;
    this.#over = error;
    native.socketRevokeNow(this.id); // the server takes the end of this side as the acknowledgement
    this.#channel.close();
    this.#rejectAll(error);
    this.onEnd?.(error);
  }

  #rejectAll(error: ShareError): void {
    for (const pending of [...this.#pending.values()]) pending.reject(error);
    this.#pending.clear();
  }
}

async function connectSocket(path: string, { timeout, signal }: ConnectLimits): Promise<number> {
  const end = performance.now() + timeout;
  for (;;) {
    const socket = native.socketConnect(Buffer.from(path));
    if (!isFailure(socket)) return socket;
    if (socket.errno !== -osConstants.errno.EAGAIN || performance.now() > end) throw systemError(socket, { path });
    await sleep(RETRY_MS, undefined, signal === undefined ? {} : { signal }).catch(() => signal?.throwIfAborted());
  }
}

/** What a peer has sent, understood. */
export function decoded<T>(path: string, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (error instanceof WireError) throw new ShareError('ERR_SHARE_PROTOCOL', path, `the peer sent ${error.message}`);
    throw error;
  }
}

export function goneError(path: string): ShareError {
  return new ShareError(
    'ERR_SHARE_DISCONNECTED',
    path,
    'the server has ended the connection, or has died: what it shared is gone',
  );
}

function timeoutError(path: string, command: string, timeout: number): ShareError {
  return new ShareError('ERR_SHARE_TIMEOUT', path, `${command}: no answer within ${timeout} ms`);
}
