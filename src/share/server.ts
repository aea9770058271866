import { EventEmitter } from 'node:events';
import { constants as osConstants } from 'node:os';
import { inspect } from 'node:util';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { ShareError, systemError } from '../errors.js';
import { isFailure } from '../native/functions.js';
import { native } from '../native/load.js';
import { POLL_EVENTS } from '../native/socket-functions.js';
import { later } from '../thread/emit-later.js';
import { prepare, unwrap } from '../thread/wakeups.js';
import { ServedClient, type Served } from './served-client.js';
import type { CheckedShareOptions, Peer } from './share-options.js';
import { forget, whenReady } from './socket-loop.js';

/** What the end of a server did. */
export interface ShareReport {
  /** The socket's path. */
  path: string;
  /** Clients that were connected. */
  clients: number;
  /** Those that have acknowledged the end, or have died: they reach nothing any more. */
  acknowledged: number;
  /** Those that have not within `timeout`. Of memory that the library made they have nothing all the same. */
  late: Peer[];
}

export interface ServerEvents {
  /** A client has been accepted, and uses what is served. */
  connect: [client: Peer];
  /** A client has gone; `error` where it did not keep to the protocol. */
  disconnect: [client: Peer, error: ShareError | undefined];
  /** A connection was not accepted. `peer` where the kernel knew it. */
  refused: [error: Error, peer: Peer | undefined];
  /** It serves no more. Once, and nothing after. */
  close: [report: ShareReport];
}

/** How long after a failure to accept, as for want of descriptors, it is tried again. */
const RETRY_MS = 100;

/**
 * Serves memory or a device at a socket, until what it serves is removed, or `close()`. Made by `serve()` and `serveMemory()`. Keeps the
 * process alive unless `unref()` is called.
 */
export class Server extends EventEmitter<ServerEvents> implements AsyncDisposable {
  /** The socket's path. */
  readonly path: string;
  /** Resolves with the report when it serves no more. Never rejects. */
  readonly closed: Promise<ShareReport>;
  readonly #options: CheckedShareOptions;
  readonly #served: Served;
  readonly #clients = new Set<ServedClient>();
  readonly #socket: number;
  #resolveClosed!: (report: ShareReport) => void;
  #closing = false;
  #over = false;
  #holds = false;

  static {
    branded('Server', this.prototype, (value) => #clients in value);
  }

  /** @internal */
  constructor(key: symbol, options: CheckedShareOptions, served: Served) {
    super();
    requireConstruct(key);
    this.path = options.path;
    this.#options = options;
    this.#served = served;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    prepare();
    this.#socket = unwrap(native.socketListen(Buffer.from(options.path), options.mode), { path: options.path });
    whenReady(this.#socket, () => this.#accept());
    this.#listen();
    this.ref();
  }

  /** @internal */
  static _start(options: CheckedShareOptions, served: Served): Server {
    return new Server(CONSTRUCT, options, served);
  }

  /** The clients that use what is served: a snapshot. */
  get clients(): ReadonlySet<Peer> {
    return new Set([...this.#clients].filter(({ accepted }) => accepted).map(({ peer }) => peer));
  }

  /**
   * Ends it: no connection is accepted any more, the socket's name is removed, and clients lose what they have: those of this library revoke
   * it at once. What is served stays as it is. Resolves when all have acknowledged that, or `timeout` has passed. Never rejects; later
   * calls get the same report. Does not block.
   */
  async close(): Promise<ShareReport> {
    this._end();
    return this.closed;
  }

  /** Keeps the process alive until it is closed: the default. */
  ref(): this {
    return this.#hold(!this.#over);
  }

  /** Does not keep the process alive. */
  unref(): this {
    return this.#hold(false);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  [inspect.custom](): string {
    return `Server <${this.path} ${this.#over ? 'closed' : `${this.clients.size} clients`}>`;
  }

  /** @internal */
  _end(): void {
    if (this.#closing) return;
    this.#closing = true;
    forget(this.#socket);
    native.socketClose(this.#socket);
    const clients = [...this.#clients].filter(({ accepted }) => accepted);
    for (const client of this.#clients) if (!client.accepted) client.close();
    void Promise.all(clients.map(async (client) => client.finish())).then((acknowledged) => {
      const late = clients.filter((_, i) => !acknowledged[i]).map(({ peer }) => peer);
      this.#finished({ path: this.path, clients: clients.length, acknowledged: clients.length - late.length, late });
    });
  }

  #finished(report: ShareReport): void {
    this.#hold(false);
    this.#served.end();
    this.#emit(() => {
      this.#over = true;
      this.emit('close', report);
    });
    this.#resolveClosed(report);
  }

  #hold(holds: boolean): this {
    if (holds !== this.#holds) native.socketHold(holds ? 1 : -1);
    this.#holds = holds;
    return this;
  }

  #emit(emit: () => void): void {
    later(() => {
      if (!this.#over) emit();
    });
  }

  #accept(): boolean {
    const socket = native.socketAccept(this.#socket);
    if (!isFailure(socket)) {
      this.#begin(socket);
      return false;
    }
    const { EAGAIN, ECONNABORTED } = osConstants.errno;
    if (socket.errno === -EAGAIN || socket.errno === -ECONNABORTED) return false;
    this.#refused(systemError(socket, { path: this.path }), undefined);
    native.socketArm(this.#socket, 0);
    setTimeout(() => this.#listen(), RETRY_MS).unref();
    return false;
  }

  #listen(): void {
    if (!this.#closing) native.socketArm(this.#socket, POLL_EVENTS.read);
  }

  #begin(socket: number): void {
    const peer = native.socketPeer(socket);
    if (isFailure(peer) || this.#clients.size >= this.#options.maxClients) {
      native.socketClose(socket);
      const error = isFailure(peer)
        ? systemError(peer)
        : new ShareError('ERR_SHARE_REFUSED', this.path, `there are ${this.#options.maxClients} clients already`);
      this.#refused(error, isFailure(peer) ? undefined : peer);
      return;
    }
    const client = new ServedClient(socket, peer, this.#options, this.#served, {
      accepted: () => this.#emit(() => this.emit('connect', peer)),
      gone: (error) => {
        this.#clients.delete(client);
        if (client.accepted) this.#emit(() => this.emit('disconnect', peer, error as ShareError | undefined));
        else if (error !== undefined) this.#refused(error, peer);
      },
    });
    this.#clients.add(client);
  }

  #refused(error: Error, peer: Peer | undefined): void {
    this.#emit(() => this.emit('refused', error, peer));
  }
}
