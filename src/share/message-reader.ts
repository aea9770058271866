/** Messages out of a stream that may be cut anywhere, in bounded memory. */
import { MOST_DESCRIPTORS } from '../native/socket-functions.js';
import { decodeHeader, HEADER_BYTES, WireError, type Header, type Message } from './wire.js';

/** So much is made ready for a message before any of it has come: a peer that announces a long one has not filled memory by that. */
const FIRST_BYTES = 4096;

/**
 * Takes one message at a time: bytes are to be put into {@link target}, which never reaches into the next message. So descriptors, which come
 * with the last bytes of a read, are always of the message that is being read.
 */
export class MessageReader {
  readonly #header = new Uint8Array(HEADER_BYTES);
  #head: Header | undefined;
  #body = new Uint8Array(0);
  #filled = 0;
  #descriptors: number[] = [];

  /** `most`: the longest body. `refuse` throws for a header that is not to be followed by a body. */
  constructor(
    readonly most: number,
    readonly refuse: (header: Header) => void = () => undefined,
  ) {}

  /** Where the next bytes belong; never empty. */
  get target(): Uint8Array {
    if (this.#head === undefined) return this.#header.subarray(this.#filled);
    return this.#body.subarray(this.#filled);
  }

  /** True if a message has begun and is not complete. */
  get partial(): boolean {
    return this.#head !== undefined || this.#filled > 0;
  }

  /**
   * So many bytes have been put into {@link target}, and these descriptors came with them, which are the reader's from then on. The message,
   * when it is complete.
   *
   * @throws WireError for what no message begins with; the stream cannot be read any further.
   */
  filled(bytes: number, descriptors: readonly number[]): Message | undefined {
    this.#filled += bytes;
    this.#descriptors.push(...descriptors);
    if (this.#descriptors.length > MOST_DESCRIPTORS) throw new WireError(`more than ${MOST_DESCRIPTORS} descriptors`);
    if (this.#head === undefined) return this.#filled < HEADER_BYTES ? undefined : this.#begin();
    if (this.#filled < this.#body.byteLength) return undefined;
    return this.#filled < this.#bodyBytes ? this.#grow() : this.#complete();
  }

  /** Of a message that will not be completed: the caller's to close. */
  takeDescriptors(): number[] {
    return this.#descriptors.splice(0);
  }

  get #bodyBytes(): number {
    return this.#head!.size - HEADER_BYTES;
  }

  #begin(): Message | undefined {
    const head = decodeHeader(this.#header);
    if (head.size - HEADER_BYTES > this.most) throw new WireError(`a message of ${head.size} bytes`);
    this.refuse(head);
    this.#head = head;
    this.#filled = 0;
    this.#body = new Uint8Array(Math.min(this.#bodyBytes, FIRST_BYTES));
    return this.#bodyBytes === 0 ? this.#complete() : undefined;
  }

  #grow(): undefined {
    const longer = new Uint8Array(Math.min(this.#bodyBytes, this.#body.byteLength * 4));
    longer.set(this.#body);
    this.#body = longer;
  }

  #complete(): Message {
    const message = { ...this.#head!, body: this.#body, descriptors: this.takeDescriptors() };
    this.#head = undefined;
    this.#filled = 0;
    return message;
  }
}
