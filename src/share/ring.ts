/** A queue of slots of one size in shared memory, with one producer and one consumer. */
import { inspect } from 'node:util';
import { asBytes, bytesView, integer, options as checkOptions, requiredObject } from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { invalidValue, outOfRange, SharedStateError } from '../errors.js';
import { validateWait, type WaitOptions } from '../memory/futex-waits.js';
import type { Mapping } from '../memory/mapping.js';
import { placeIn, requireSharable, SharedWords } from './shared-words.js';

export interface RingOptions {
  /** Bytes of a slot: at least 1. */
  slotSize: number;
  /** How many: a power of two, at most 2^30. */
  slots: number;
  /** Where the ring begins in the mapping, a multiple of 128. Default 0. */
  offset?: number;
}

export interface RingOpenOptions {
  /** Where the ring begins in the mapping, a multiple of 128. Default 0. */
  offset?: number;
}

export interface RingWaitOptions extends WaitOptions {
  /** How many slots to wait for, 1 to those of the ring. Default 1. */
  slots?: number;
}

/** Slots that lie one behind the other. */
export interface RingSpan {
  /** The first one's first byte, from the start of the mapping. */
  offset: number;
  /** How many; 0 for none. */
  slots: number;
}

// Words of the header. Each side's are on a cache line of their own, and not on the one beside, which processors fetch with it.
// include/revocable-mmap/sync.h has the same.
const MAGIC = 0;
const SLOT_SIZE = 1;
const SLOTS = 2;
const PRODUCED = 32;
const PRODUCER_WANTS = 33;
const CONSUMED = 64;
const CONSUMER_WANTS = 65;
const HEADER_BYTES = 384;
const HEADER_WORDS = HEADER_BYTES / 4;
const ALIGNMENT = 128;
const MOST_SLOTS = 2 ** 30;

/** "RMR1" */
const RING = 0x3152_4d52;

/** So often a side looks before it sleeps: about a microsecond. */
const LOOKS = 100;

interface ValidWait {
  slots: number;
  end: number;
  signal: AbortSignal | undefined;
}

/**
 * A ring of slots in a mapping: a queue from one thread to one other, of this process or another one, in JavaScript or in C
 * (`include/revocable-mmap/sync.h`). One thread may call `push`, `reserve`, `publish` and `waitForRoom`, and one thread `pull`, `peek`,
 * `release` and `waitForData`; that is not checked. All that is known of the ring is in the memory, so a thread can go on where another
 * one has stopped.
 *
 * Every method throws MappingRevokedError once the memory has been revoked, and waiters wake with it; also MappingSuspendedError,
 * MappingClosedError and BackingFaultError, as checked accesses do, and SharedStateError `ERR_SHARED_STATE` where something else
 * has been written over the ring's positions.
 *
 * @example
 * ```js
 * const mapping = MemoryObject.create({ size: 65536 }).map();
 * const ring = Ring.create(mapping, { slotSize: 64, slots: 512 });
 * ring.push(new Uint8Array(128).fill(7)); // two slots
 * // in another thread or process: const ring = Ring.open(mapping);
 * const slots = new Uint8Array(64 * 16);
 * while (await ring.waitForData({ timeout: 10 })) {
 *   const count = ring.pull(slots);
 *   console.log(count, slots[0]); // 2 7
 * }
 * ```
 */
export class Ring {
  /** The mapping that the ring is in. */
  readonly mapping: Mapping;
  /** Where it begins in the mapping. */
  readonly offset: number;
  /** Bytes of a slot. */
  readonly slotSize: number;
  /** How many slots there are. */
  readonly slots: number;
  readonly #words: SharedWords;
  readonly #first: number;
  /** How many slots each wait of this thread is for, by the word that says the least of them. */
  readonly #waits: Record<number, number[]> = {};

  static {
    branded('Ring', this.prototype, (value) => #words in value);
  }

  private constructor(key: symbol, words: SharedWords, slotSize: number, slots: number) {
    requireConstruct(key);
    this.#words = words;
    this.mapping = words.mapping;
    this.offset = words.offset;
    this.slotSize = slotSize;
    this.slots = slots;
    this.#first = words.offset + HEADER_BYTES;
  }

  /**
   * How many bytes such a ring takes: 384, and its slots.
   *
   * @throws TypeError, RangeError on bad options.
   */
  static sizeOf(options: Pick<RingOptions, 'slotSize' | 'slots'>): number {
    const { slotSize, slots } = checkShape(options);
    return HEADER_BYTES + slotSize * slots;
  }

  /**
   * Makes an empty ring. Once, before the others open it.
   *
   * @throws TypeError, RangeError on bad arguments, also where the mapping is too small; ReadOnlyMappingError; what a checked access
   *   of the mapping throws.
   */
  static create(mapping: Mapping, options: RingOptions): Ring {
    requireSharable(mapping);
    const { slotSize, slots } = checkShape(options);
    const offset = placeIn(mapping, 'options.offset', options.offset, ALIGNMENT, Ring.sizeOf({ slotSize, slots }));
    const words = new SharedWords(mapping, offset, HEADER_WORDS);
    words.store(MAGIC, 0);
    for (const word of [PRODUCED, PRODUCER_WANTS, CONSUMED, CONSUMER_WANTS]) words.store(word, 0);
    words.store(SLOT_SIZE, slotSize);
    words.store(SLOTS, slots);
    words.store(MAGIC, RING);
    return new Ring(CONSTRUCT, words, slotSize, slots);
  }

  /**
   * The ring that another thread or process has made there.
   *
   * @throws TypeError, RangeError on bad arguments; SharedStateError `ERR_SHARED_STATE` where there is none; ReadOnlyMappingError;
   *   what a checked access of the mapping throws.
   */
  static open(mapping: Mapping, options?: RingOpenOptions): Ring {
    requireSharable(mapping);
    const given = checkOptions<RingOpenOptions>('options', options);
    const offset = placeIn(mapping, 'options.offset', given.offset, ALIGNMENT, HEADER_BYTES);
    const words = new SharedWords(mapping, offset, HEADER_WORDS);
    const [magic, slotSize, slots] = [MAGIC, SLOT_SIZE, SLOTS].map((word) => words.load(word));
    const fits = slotSize > 0 && isCount(slots) && offset + HEADER_BYTES + slotSize * slots <= mapping.length;
    if (magic !== RING || !fits) throw new SharedStateError(mapping.object.name, offset, 'there is no ring');
    return new Ring(CONSTRUCT, words, slotSize, slots);
  }

  /** How many slots have been published and not been released. */
  get length(): number {
    const consumed = this.#words.load(CONSUMED);
    return this.#distance(this.#words.load(PRODUCED), consumed);
  }

  /**
   * Copies whole slots into the ring and publishes them together: as many as there is room for. Does not block.
   *
   * @param source its length is a multiple of `slotSize`.
   * @returns how many slots; 0 where the ring is full.
   * @throws TypeError, RangeError on bad arguments; see {@link Ring}. Nothing has been published then.
   */
  push(source: NodeJS.ArrayBufferView): number {
    const bytes = this.#wholeSlots('source', source);
    const produced = this.#words.load(PRODUCED);
    const room = this.slots - this.#distance(produced, this.#words.load(CONSUMED));
    const count = Math.min(bytes.byteLength / this.slotSize, room);
    if (count === 0) return 0;
    this.#halves(produced, count, bytes, (at, part) => this.mapping.write(at, part));
    this.#publish(produced + count, this.slots - room + count);
    return count;
  }

  /**
   * Copies slots out of the ring, as many as are there and fit, and releases them. Does not block.
   *
   * @param target its length is a multiple of `slotSize`.
   * @returns how many slots; 0 where the ring is empty.
   * @throws TypeError, RangeError on bad arguments; see {@link Ring}. Nothing has been released then.
   */
  pull(target: NodeJS.ArrayBufferView): number {
    const bytes = this.#wholeSlots('target', target);
    const consumed = this.#words.load(CONSUMED);
    const filled = this.#distance(this.#words.load(PRODUCED), consumed);
    const count = Math.min(bytes.byteLength / this.slotSize, filled);
    if (count === 0) return 0;
    this.#halves(consumed, count, bytes, (at, part) => this.mapping.read(at, part));
    this.#release(consumed + count, filled - count);
    return count;
  }

  /** Free slots that lie one behind the other, to be filled in place and then published. @throws see {@link Ring}. */
  reserve(): RingSpan {
    const produced = this.#words.load(PRODUCED);
    return this.#span(produced, this.slots - this.#distance(produced, this.#words.load(CONSUMED)));
  }

  /**
   * Publishes the next slots, which have been filled in place.
   *
   * @throws RangeError for more than are free; see {@link Ring}.
   */
  publish(count: number): void {
    const produced = this.#words.load(PRODUCED);
    const filled = this.#distance(produced, this.#words.load(CONSUMED));
    integer('count', count, 0, this.slots - filled);
    if (count > 0) this.#publish(produced + count, filled + count);
  }

  /** Published slots that lie one behind the other, to be read in place and then released. @throws see {@link Ring}. */
  peek(): RingSpan {
    const consumed = this.#words.load(CONSUMED);
    return this.#span(consumed, this.#distance(this.#words.load(PRODUCED), consumed));
  }

  /**
   * Releases the next slots, which have been read in place. Where it throws, what raw views have read there may have been the fill.
   *
   * @throws RangeError for more than are published; see {@link Ring}.
   */
  release(count: number): void {
    const consumed = this.#words.load(CONSUMED);
    const filled = this.#distance(this.#words.load(PRODUCED), consumed);
    integer('count', count, 0, filled);
    if (count > 0) this.#release(consumed + count, filled - count);
  }

  /**
   * Waits until the consumer has released so many slots that `options.slots` are free; the thread's event loop stays alive meanwhile.
   *
   * @returns true, or false when `timeout` ms have passed.
   * @throws (rejects) TypeError, RangeError on bad options; the signal's reason; see {@link Ring}.
   */
  async waitForRoom(options?: RingWaitOptions): Promise<boolean> {
    return this.#wait(CONSUMED, PRODUCER_WANTS, this.#validWait(options));
  }

  /** {@link waitForRoom}, blocking this thread. */
  waitForRoomSync(options?: RingWaitOptions): boolean {
    return this.#waitSync(CONSUMED, PRODUCER_WANTS, this.#validWait(options));
  }

  /**
   * Waits until the producer has published `options.slots` slots; the thread's event loop stays alive meanwhile.
   *
   * @returns true, or false when `timeout` ms have passed.
   * @throws (rejects) TypeError, RangeError on bad options; the signal's reason; see {@link Ring}.
   */
  async waitForData(options?: RingWaitOptions): Promise<boolean> {
    return this.#wait(PRODUCED, CONSUMER_WANTS, this.#validWait(options));
  }

  /** {@link waitForData}, blocking this thread. */
  waitForDataSync(options?: RingWaitOptions): boolean {
    return this.#waitSync(PRODUCED, CONSUMER_WANTS, this.#validWait(options));
  }

  [inspect.custom](): string {
    return `Ring <${this.mapping.object.name} +${this.offset} ${this.slots} x ${this.slotSize} B ${this.mapping.state}>`;
  }

  get [Symbol.toStringTag](): string {
    return 'Ring';
  }

  /** How many slots lie between the two positions, which count on beyond the ring's end. */
  #distance(produced: number, consumed: number): number {
    const distance = (produced - consumed) >>> 0;
    if (distance > this.slots) throw new SharedStateError(this.mapping.object.name, this.offset, 'the positions are of no ring');
    return distance;
  }

  #wholeSlots(name: string, view: NodeJS.ArrayBufferView): Uint8Array {
    const bytes = asBytes(bytesView(name, view));
    const { byteLength } = bytes;
    if (byteLength === 0 || byteLength % this.slotSize !== 0)
      throw outOfRange(`${name}.byteLength`, `a multiple of ${this.slotSize}, and not 0`, byteLength);
    return bytes;
  }

  /** Up to the ring's end, and from its beginning. */
  #halves(position: number, count: number, bytes: Uint8Array, copy: (at: number, part: Uint8Array) => void): void {
    const { slotSize } = this;
    const index = position & (this.slots - 1);
    const first = Math.min(count, this.slots - index) * slotSize;
    const all = count * slotSize;
    copy(this.#first + index * slotSize, bytes.byteLength === first ? bytes : bytes.subarray(0, first));
    if (all > first) copy(this.#first, bytes.subarray(first, all));
  }

  #span(position: number, count: number): RingSpan {
    const index = position & (this.slots - 1);
    return { offset: this.#first + index * this.slotSize, slots: Math.min(count, this.slots - index) };
  }

  // The other side's position was read before: there may be less filled, or more free, than these are given. A waiter that is woken
  // for too little sleeps again. Its word is its own alone to clear: if it were cleared here, it could be that of its next wait.

  #publish(position: number, filled: number): void {
    this.#words.store(PRODUCED, position >>> 0);
    const wanted = this.#words.load(CONSUMER_WANTS);
    if (wanted !== 0 && filled >= wanted) this.mapping.wake(this.offset + 4 * PRODUCED);
  }

  #release(position: number, filled: number): void {
    this.#words.store(CONSUMED, position >>> 0);
    const wanted = this.#words.load(PRODUCER_WANTS);
    if (wanted !== 0 && this.slots - filled >= wanted) this.mapping.wake(this.offset + 4 * CONSUMED);
  }

  #validWait(options: RingWaitOptions | undefined): ValidWait {
    const { slots, timeout, signal } = checkOptions<RingWaitOptions>('options', options);
    const wanted = integer('options.slots', slots === undefined ? 1 : slots, 1, this.slots);
    const valid = validateWait(this.mapping, this.offset, 0, { timeout, signal });
    return { slots: wanted, end: valid.timeout < 0 ? Infinity : performance.now() + valid.timeout, signal: valid.signal };
  }

  /** The position of the other side, and true if that is far enough. */
  #look(word: number, wanted: number): { seen: number; enough: boolean } {
    const produced = this.#words.load(PRODUCED);
    const consumed = this.#words.load(CONSUMED);
    const filled = this.#distance(produced, consumed);
    return word === PRODUCED
      ? { seen: produced, enough: filled >= wanted }
      : { seen: consumed, enough: this.slots - filled >= wanted };
  }

  #looksOften(word: number, wanted: number): boolean {
    for (let count = 0; count < LOOKS; count++) if (this.#look(word, wanted).enough) return true;
    return false;
  }

  async #wait(word: number, wants: number, { slots, end, signal }: ValidWait): Promise<boolean> {
    signal?.throwIfAborted();
    if (this.#look(word, slots).enough) return true;
    this.#begin(wants, slots);
    try {
      for (;;) {
        // Looked at after the other side could see what is wanted: it wakes for what it moves on from now on.
        const { seen, enough } = this.#look(word, slots);
        if (enough) return true;
        const result = await this.mapping.wait(this.offset + 4 * word, seen, { timeout: leftUntil(end), signal });
        if (result === 'timed-out') return this.#look(word, slots).enough;
      }
    } finally {
      this.#end(wants, slots);
    }
  }

  #waitSync(word: number, wants: number, { slots, end, signal }: ValidWait): boolean {
    signal?.throwIfAborted();
    if (this.#looksOften(word, slots)) return true;
    this.#begin(wants, slots);
    try {
      for (;;) {
        const { seen, enough } = this.#look(word, slots);
        if (enough) return true;
        const result = this.mapping.waitSync(this.offset + 4 * word, seen, { timeout: leftUntil(end), signal });
        if (result === 'timed-out') return this.#look(word, slots).enough;
      }
    } finally {
      this.#end(wants, slots);
    }
  }

  /** The other side is to wake this one when there is the least that any of its waits wants. */
  #begin(wants: number, slots: number): void {
    const all = (this.#waits[wants] ??= []);
    all.push(slots);
    this.#words.store(wants, Math.min(...all));
  }

  /** Not where the memory is gone: then that is what the wait throws. */
  #end(wants: number, slots: number): void {
    const all = this.#waits[wants];
    all.splice(all.indexOf(slots), 1);
    if (this.mapping.state === 'live') this.#words.store(wants, all.length === 0 ? 0 : Math.min(...all));
  }
}

function checkShape(options: Pick<RingOptions, 'slotSize' | 'slots'>): { slotSize: number; slots: number } {
  const given = requiredObject('options', options);
  const slotSize = integer('options.slotSize', given.slotSize, 1, 0xffff_ffff);
  const slots = integer('options.slots', given.slots, 1, MOST_SLOTS);
  if (!isCount(slots)) throw invalidValue('options.slots', 'must be a power of two', slots);
  return { slotSize, slots };
}

function isCount(slots: number): boolean {
  return slots > 0 && slots <= MOST_SLOTS && (slots & (slots - 1)) === 0;
}

function leftUntil(end: number): number | undefined {
  return end === Infinity ? undefined : Math.max(0, end - performance.now());
}
