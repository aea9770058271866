/** One connection as the server has it: from the first byte to the end. */
import { ShareError } from '../errors.js';
import { native } from '../native/load.js';
import { MOST_DESCRIPTORS } from '../native/socket-functions.js';
import { Channel, errnoOf } from './channel.js';
import { ClientCalls } from './client-calls.js';
import { HERE } from './connection.js';
import type { CheckedShareOptions, Peer } from './share-options.js';
import { decodeVersion, encodeVersion, VERSION, type OwnCapability } from './version.js';
import { COMMANDS, encode, MOST_DATA, MOST_VERSION_DATA, HEADER_BYTES, WireError, type Header, type Message } from './wire.js';

/** What is served, to all clients. */
export interface Served {
  /** What the server says of it. */
  describe(): Omit<OwnCapability, 'thread' | 'survives' | 'asksForPages'>;
  /** A client begins to use it. Throws what it is answered with, by its `errno`. */
  open(client: ClientRights, calls: ClientCalls): Session;
  end(): void;
}

export interface ClientRights {
  access: 'r' | 'rw';
  /** It has said that it survives that memory is truncated. */
  survives: boolean;
  /** It asks for pages on a socket of its own. */
  asksForPages: boolean;
}

/** What one client has of it. */
export interface Session {
  /** Answers a command, or throws an error, by whose `errno` it is answered. */
  answer(message: Message): Answer | Promise<Answer>;
  /** The client has gone. */
  close(): void;
}

export interface Answer {
  body?: Uint8Array;
  /** For the client; closed when they have been sent. */
  descriptors?: number[];
}

interface ClientEvents {
  accepted(): void;
  gone(error: Error | undefined): void;
}

/** Commands that descriptors may come with. */
const WITH_DESCRIPTORS: ReadonlySet<number> = new Set([COMMANDS.setIrqs, COMMANDS.dmaMap]);

export class ServedClient {
  readonly #channel: Channel;
  #state: 'new' | 'authorizing' | 'ready' | 'finishing' | 'gone' = 'new';
  #rights: ClientRights | undefined;
  #session: Session | undefined;
  #calls: ClientCalls | undefined;
  /** It has been let in, and has sent its first command. */
  accepted = false;
  #introduction: NodeJS.Timeout | undefined;
  #acknowledged: ((acknowledged: boolean) => void) | undefined;

  constructor(
    socket: number,
    readonly peer: Peer,
    readonly options: CheckedShareOptions,
    readonly served: Served,
    readonly events: ClientEvents,
  ) {
    this.#introduction = setTimeout(() => {
      this.#drop(new ShareError('ERR_SHARE_TIMEOUT', options.path, `the peer was not let in within ${options.timeout} ms`));
    }, options.timeout).unref();
    this.#channel = new Channel(socket, options.path, options.timeout, true, {
      header: (header) => this.#checkHeader(header),
      message: (message) => this.#message(message),
      ended: (error) => this.#drop(error),
    });
  }

  /** Ends the connection in an orderly way. True when the client has acknowledged that; false when it has not in time. */
  async finish(): Promise<boolean> {
    if (this.#state === 'gone') return true;
    this.#state = 'finishing';
    const acknowledged = new Promise<boolean>((resolve) => (this.#acknowledged = resolve));
    const late = setTimeout(() => this.#acknowledged!(false), this.options.timeout);
    this.#channel.finish();
    const result = await acknowledged;
    clearTimeout(late);
    this.close();
    return result;
  }

  close(): void {
    this.#drop(undefined);
  }

  /** A peer that has not been let in says who it is, and nothing else. */
  #checkHeader(header: Header): void {
    const { reply, command, size } = header;
    if (reply && this.#calls === undefined) throw new WireError('a reply to no command');
    if (reply) return this.#calls!.check(header);
    if (this.#state !== 'new') return;
    if (command !== COMMANDS.version) throw new WireError(`command ${command} before its version`);
    if (size > HEADER_BYTES + 4 + MOST_VERSION_DATA) throw new WireError(`a version of ${size} bytes`);
  }

  #message(message: Message): void | Promise<void> {
    if (this.#state === 'finishing') return;
    if (message.descriptors.length > 0 && !WITH_DESCRIPTORS.has(message.command))
      return this.#violation(`${message.descriptors.length} descriptors with command ${message.command}`);
    if (this.#state === 'new') return this.#introduce(message);
    if (message.reply) return this.#calls!.answered(message);
    if (message.command === COMMANDS.version) return this.#violation('its version twice');
    return this.#answer(message);
  }

  async #introduce(message: Message): Promise<void> {
    this.#state = 'authorizing';
    try {
      const { major, own, maxData } = decodeVersion(message.body);
      if (major !== VERSION.major) return this.#violation(`version ${major} of the protocol`);
      const access = await this.#authorized();
      if (this.#state !== 'authorizing') return;
      this.#state = 'ready';
      clearTimeout(this.#introduction);
      this.#rights = { access, survives: own?.survives === true, asksForPages: own?.asksForPages === true };
      const { path, timeout } = this.options;
      this.#calls = new ClientCalls(path, timeout, maxData, (bytes) => this.#channel.send(bytes));
      // Only what the client has proposed may be answered.
      const described = own === undefined ? undefined : { thread: HERE, ...this.served.describe() };
      const version = { ...VERSION, maxDescriptors: MOST_DESCRIPTORS, maxData: MOST_DATA, writeMultiple: true, own: described };
      this.#reply(message, { body: encodeVersion(version) });
    } catch (error) {
      if (error instanceof WireError) this.#violation(error.message);
      else this.#drop(error as Error);
    }
  }

  async #authorized(): Promise<'r' | 'rw'> {
    const { authorize, access, path } = this.options;
    const answer: unknown = await authorize(this.peer);
    if (answer === true || answer === 'rw') return access;
    if (answer === 'r') return 'r';
    throw new ShareError('ERR_SHARE_REFUSED', path, 'authorize() has refused the peer');
  }

  #answer(message: Message): void | Promise<void> {
    try {
      const answer = this.#opened().answer(message);
      if (!(answer instanceof Promise)) return this.#reply(message, answer);
      return answer.then(
        (later) => this.#reply(message, later),
        (error: unknown) => this.#fail(message, error),
      );
    } catch (error) {
      this.#fail(message, error);
    }
  }

  /** Opened with the first command: a peer that only asks what is served here uses nothing. */
  #opened(): Session {
    if (this.#session !== undefined) return this.#session;
    this.#session = this.served.open(this.#rights!, this.#calls!);
    this.accepted = true;
    this.events.accepted();
    return this.#session;
  }

  #reply({ id, command, noReply }: Message, { body, descriptors = [] }: Answer): void {
    const sent = (): void => descriptors.splice(0).forEach((fd) => native.closeDescriptor(fd));
    if (noReply || this.#state !== 'ready') return sent();
    const bytes = encode({ id, command, reply: true }, body);
    if (descriptors.length === 0) this.#channel.send(bytes);
    else this.#channel.send(bytes, Int32Array.from(descriptors), sent);
  }

  #fail({ id, command, noReply }: Message, error: unknown): void {
    if (noReply || this.#state !== 'ready') return;
    this.#channel.send(encode({ id, command, reply: true, errno: errnoOf(error) }));
  }

  #violation(what: string): void {
    this.#drop(new ShareError('ERR_SHARE_PROTOCOL', this.options.path, `the peer sent ${what}`));
  }

  #drop(error: Error | undefined): void {
    if (this.#state === 'gone') return;
    this.#state = 'gone';
    clearTimeout(this.#introduction);
    this.#channel.close();
    this.#session?.close();
    this.#calls?.end();
    this.#acknowledged?.(true);
    this.events.gone(error);
  }
}
