/**
 * Pages of a served region that come at their first touch, brought for a client that has touched them in a mapping of its own: over a
 * connection that it gets with the memory (docs/reference/vfio-user.md). The other end is native: `native/device/page_source.h`.
 */
import { constants as osConstants } from 'node:os';
import { isRevokedError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { native } from '../native/load.js';
import { unwrap } from '../thread/wakeups.js';
import { Channel, errnoOf } from './channel.js';
import { decodePageFault, encodePageFault, type PageFault } from './page-fault.js';
import { COMMANDS, encode, WireError, type Message } from './wire.js';

/**
 * So many are brought at once for one region of a client, as each has a thread, of which there are not many, until its op has answered; what
 * it asks for beyond that is read when one has come.
 */
const MOST_AT_ONCE = 16;

export class PageServer {
  readonly #channel: Channel;
  #running = 0;

  /**
   * @param mapping the server's own of the region, from its beginning: a touch there asks the device, as one of the client's would.
   * @param path for errors.
   */
  static open(mapping: Mapping, path: string, timeout: number): { server: PageServer; descriptor: number } {
    const { id, descriptor } = unwrap(native.socketPair());
    return { server: new PageServer(id, mapping, path, timeout), descriptor };
  }

  private constructor(
    socket: number,
    readonly mapping: Mapping,
    path: string,
    timeout: number,
  ) {
    this.#channel = new Channel(socket, path, timeout, true, {
      message: (message) => this.#message(message),
      ended: () => this.close(),
    });
  }

  close(): void {
    this.#channel.close();
  }

  #message({ command, reply, body, descriptors }: Message): void | Promise<void> {
    try {
      if (command !== COMMANDS.pageFault || reply || descriptors.length > 0) throw new WireError(`command ${command}`);
      const brought = this.#bring(decodePageFault(body));
      if (this.#running >= MOST_AT_ONCE) return brought;
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.close(); // the client's pages are answered by the end of their time
    }
  }

  async #bring(fault: PageFault): Promise<void> {
    this.#running++;
    try {
      await touch(this.mapping, fault);
      this.#reply(fault, 0);
    } catch (error) {
      // Of memory that has gone the client learns by its revocation, and why.
      if (!isRevokedError(error)) this.#reply(fault, pageErrno(error));
    } finally {
      this.#running--;
    }
  }

  #reply(fault: PageFault, errno: number): void {
    this.#channel.send(encode({ id: 0, command: COMMANDS.pageFault, reply: true, errno }, encodePageFault(fault)));
  }
}

async function touch(mapping: Mapping, { offset, write, firstWrite }: PageFault): Promise<void> {
  const read = async (): Promise<unknown> => mapping.readAsync(offset, new Uint8Array(1));
  if (firstWrite) await mapping._touchAsync(offset);
  // One that may not be written to is there all the same: the client asks again before it writes.
  else if (write) await mapping._touchAsync(offset).catch(read);
  else await read();
}

/** `EFAULT` where the device refuses the page, `ETIMEDOUT` where it did not answer: the native side takes them for the same. */
function pageErrno(error: unknown): number {
  const { errno } = osConstants;
  switch ((error as { cause?: unknown }).cause) {
    case 'refused':
      return errno.EFAULT;
    case 'no-answer':
      return errno.ETIMEDOUT;
    default:
      return errnoOf(error);
  }
}
