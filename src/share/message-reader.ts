/** Messages out of a stream that may be cut anywhere, in bounded memory. */
import { MOST_DESCRIPTORS } from '../native/socket-functions.js';
import { decodeHeader, HEADER_BYTES, viewOf, WireError, type Header, type Message } from './wire.js';

/** So much is made ready for a message before any of it has come: a peer that announces a long one has not filled memory by that. */
const FIRST_BYTES = 4096;

/**
 * Takes one message at a time: its bytes are to be put into {@link buffer}, behind those that it has, and none of the next message. So
 * descriptors, which come with the last bytes of a read, are always of the message that is being read.
 */
export class MessageReader {
  /** Used for one message after the other: to make memory for each would cost more than to read it. */
  readonly #first = new Uint8Array(HEADER_BYTES + FIRST_BYTES);
  readonly #header = viewOf(this.#first.subarray(0, HEADER_BYTES));
  #head: Header | undefined;
  #buffer = this.#first;
  #have = 0;
  #descriptors: number[] = [];

  /** `most`: the longest body. `refuse` throws for a header that is not to be followed by a body. */
  constructor(
    readonly most: number,
    readonly refuse: (header: Header) => void = () => undefined,
  ) {}

  /** Where the message is put; never full. */
  get buffer(): Uint8Array {
    return this.#buffer;
  }

  /** How many bytes of it there are. */
  get have(): number {
    return this.#have;
  }

  /** True if a message has begun and is not complete. */
  get partial(): boolean {
    return this.#have > 0;
  }

  /**
   * So many bytes have been put into {@link buffer}, and these descriptors came with them, which are the reader's from then on. The message,
   * when it is complete: its body is lent until the next bytes come.
   *
   * @throws WireError for what no message begins with; the stream cannot be read any further.
   */
  filled(bytes: number, descriptors: readonly number[]): Message | undefined {
    this.#have += bytes;
    if (descriptors.length > 0) this.#descriptors.push(...descriptors);
    if (this.#descriptors.length > MOST_DESCRIPTORS) throw new WireError(`more than ${MOST_DESCRIPTORS} descriptors`);
    if (this.#have < HEADER_BYTES) return undefined;
    this.#head ??= this.#begin();
    if (this.#have === this.#head.size) return this.#complete(this.#head);
    if (this.#have === this.#buffer.byteLength) this.#grow(this.#head.size);
    return undefined;
  }

  /** Of a message that will not be completed: the caller's to close. */
  takeDescriptors(): number[] {
    return this.#descriptors.splice(0);
  }

  #begin(): Header {
    const head = decodeHeader(this.#first, this.#header);
    if (head.size - HEADER_BYTES > this.most) throw new WireError(`a message of ${head.size} bytes`);
    this.refuse(head);
    return head;
  }

  #grow(size: number): void {
    const longer = new Uint8Array(Math.min(size, this.#buffer.byteLength * 4));
    longer.set(this.#buffer);
    this.#buffer = longer;
  }

  #complete({ id, command, size, reply, noReply, errno }: Header): Message {
    const body = this.#buffer.subarray(HEADER_BYTES, size);
    const descriptors = this.#descriptors;
    if (descriptors.length > 0) this.#descriptors = [];
    this.#head = undefined;
    this.#buffer = this.#first;
    this.#have = 0;
    return { id, command, size, reply, noReply, errno, body, descriptors: descriptors.length > 0 ? descriptors : [] };
  }
}
