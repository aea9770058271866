/** Commands of a server to its client: the device accesses memory that the client has not given a descriptor of. */
import { constants as osConstants } from 'node:os';
import { ShareError, systemError } from '../errors.js';
import { goneError } from './connection.js';
import { COMMANDS, encode, WireError, type Header, type Message } from './wire.js';

/** How many are under way at once; a device that asks for more has to wait for one to be answered. */
const MOST_CALLS = 1024;

interface Pending {
  command: number;
  resolve(body: Uint8Array): void;
  reject(error: unknown): void;
}

export class ClientCalls {
  /** By id; those that have been given up stay until their answer comes. */
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #over = false;

  constructor(
    readonly path: string,
    readonly timeout: number,
    /** The longest data of a command, as the client has said. */
    readonly maxData: number,
    readonly send: (bytes: Uint8Array) => void,
  ) {}

  /** @throws (rejects) the system error that the client answers; `EAGAIN` where too many are under way; ShareError. */
  async call(command: 'dmaRead' | 'dmaWrite', body: Uint8Array): Promise<Uint8Array> {
    if (this.#over) throw goneError(this.path);
    if (this.#pending.size >= MOST_CALLS)
      throw systemError({ errno: -osConstants.errno.EAGAIN, syscall: `vfio-user ${command}` });
    do this.#next = (this.#next + 1) & 0xffff;
    while (this.#pending.has(this.#next));
    const id = this.#next;
    let late: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Uint8Array>((resolve, reject) => {
        this.#pending.set(id, { command: COMMANDS[command], resolve, reject });
        const message = `${command}: no answer within ${this.timeout} ms`;
        late = setTimeout(() => reject(new ShareError('ERR_SHARE_TIMEOUT', this.path, message)), this.timeout);
        this.send(encode({ id, command: COMMANDS[command] }, body));
      });
    } finally {
      clearTimeout(late);
    }
  }

  /** @throws WireError for a reply that answers no command. */
  check({ id, command }: Header): void {
    if (this.#pending.get(id)?.command !== command) throw new WireError('a reply to no command');
  }

  answered({ id, errno, body, command }: Message): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (errno === 0) return pending?.resolve(body.slice());
    const name = command === COMMANDS.dmaRead ? 'dmaRead' : 'dmaWrite';
    pending?.reject(systemError({ errno: errno > 0 ? -errno : -osConstants.errno.EIO, syscall: `vfio-user ${name}` }));
  }

  /** The client has gone. */
  end(): void {
    this.#over = true;
    for (const pending of this.#pending.values()) pending.reject(goneError(this.path));
    this.#pending.clear();
  }
}
