/** A lock in shared memory that says when its holder has died. */
import { constants as osConstants } from 'node:os';
import { inspect } from 'node:util';
import { options as checkOptions } from '../arguments.js';
import { branded, CONSTRUCT, requireConstruct } from '../brands.js';
import { isRevokedError, SharedStateError, systemError } from '../errors.js';
import { validateWait, type WaitOptions } from '../memory/futex-waits.js';
import type { Mapping } from '../memory/mapping.js';
import { ownerOf, type Owner } from './owner.js';
import { placeIn, requireSharable, SharedWords } from './shared-words.js';

export interface MutexOptions {
  /** Where the mutex is in the mapping: 64 bytes, at a multiple of 64. Default 0. */
  offset?: number;
}

// Words; include/revocable-mmap/sync.h has the same.
const STATE = 0;
const GENERATION = 1;
const MAGIC = 2;
const BYTES = 64;

/** Bits of the state: the holder's number, or 0, and whether others wait. */
const OWNER = 0x3fff_ffff;
const WAITERS = 0x8000_0000;
/** "RMM1" */
const MUTEX = 0x314d_4d52;

/** The kernel wakes no waiter when a holder dies: each looks that often, in milliseconds. */
const LOOK_MS = 50;

/**
 * A mutex in a mapping, for threads of this process and of others, in JavaScript or in C (`include/revocable-mmap/sync.h`). Where its
 * holder dies, or its thread ends, the next one gets it and is notified of that: what it protects may be half changed.
 *
 * Death is what the kernel says of a file lock that each thread holds, so it is seen across pid namespaces
 * (`docs/decisions/011-dead-owners.md`). A waiter sees it within 50 ms. A thread that is stopped lives. Not fair: who comes next gets it.
 *
 * Every method throws MappingRevokedError once the memory has been revoked, and waiters wake with it; also MappingSuspendedError,
 * MappingClosedError and BackingFaultError, as checked accesses do.
 *
 * @example
 * ```js
 * const mapping = MemoryObject.create({ size: 4096 }).map();
 * const mutex = Mutex.create(mapping);
 * // in another thread or process: const mutex = Mutex.open(mapping);
 * const hold = await mutex.lock();
 * try {
 *   if (hold.ownerDied) mapping.write32(64, 0); // the last holder did not finish: make it whole again
 *   mapping.write32(64, mapping.read32(64) + 1);
 * } finally {
 *   hold.release();
 * }
 * console.log(hold.ownerDied, mapping.read32(64)); // false 1
 * ```
 */
export class Mutex {
  /** The mapping that the mutex is in. */
  readonly mapping: Mapping;
  /** Where it is in the mapping. */
  readonly offset: number;
  readonly #words: SharedWords;
  readonly #self: Owner;

  /** Bytes of a mutex: a cache line. */
  static readonly size = BYTES;

  static {
    branded('Mutex', this.prototype, (value) => #words in value);
  }

  private constructor(key: symbol, words: SharedWords) {
    requireConstruct(key);
    this.#words = words;
    this.mapping = words.mapping;
    this.offset = words.offset;
    this.#self = ownerOf(this.mapping.object);
  }

  /**
   * Makes a mutex that no thread holds. Once, before the others open it.
   *
   * @throws TypeError, RangeError on bad arguments; ReadOnlyMappingError; what a checked access of the mapping throws; the system error
   *   of open(2), as the object's file is opened once more: `EACCES` where its mode forbids that, `EINVAL` for what is no regular file.
   */
  static create(mapping: Mapping, options?: MutexOptions): Mutex {
    const words = wordsOf(mapping, options);
    const mutex = new Mutex(CONSTRUCT, words);
    for (const word of [MAGIC, STATE, GENERATION]) words.store(word, 0);
    words.store(MAGIC, MUTEX);
    return mutex;
  }

  /**
   * The mutex that another thread or process has made there.
   *
   * @throws what {@link create} throws; SharedStateError `ERR_SHARED_STATE` where there is none.
   */
  static open(mapping: Mapping, options?: MutexOptions): Mutex {
    const words = wordsOf(mapping, options);
    if (words.load(MAGIC) !== MUTEX) throw new SharedStateError(mapping.object.name, words.offset, 'there is no mutex');
    return new Mutex(CONSTRUCT, words);
  }

  /** Locks it if no thread holds it, or if its holder has died. Does not block. @throws see {@link Mutex}. */
  tryLock(): MutexHold | undefined {
    for (;;) {
      const word = this.#words.load(STATE);
      const owner = word & OWNER;
      if (owner !== 0 && this.#self.lives(owner)) return undefined;
      const hold = this.#take(word, 0);
      if (hold !== undefined) return hold;
    }
  }

  /**
   * Waits until the mutex is locked; the thread's event loop stays alive meanwhile.
   *
   * @returns undefined when `timeout` ms have passed.
   * @throws (rejects) TypeError, RangeError on bad options; the signal's reason; see {@link Mutex}.
   */
  async lock(options?: WaitOptions): Promise<MutexHold | undefined> {
    const { end, signal } = this.#validWait(options);
    signal?.throwIfAborted();
    for (let waiters = 0; ; waiters = WAITERS) {
      const found = this.#attempt(waiters);
      if (typeof found === 'object') return found;
      const left = end - performance.now();
      if (left <= 0) return undefined;
      await this.mapping.wait(this.offset, found, { timeout: Math.min(LOOK_MS, left), signal });
    }
  }

  /**
   * {@link lock}, blocking this thread.
   *
   * @throws also `EDEADLK` where this thread holds it.
   */
  lockSync(options?: WaitOptions): MutexHold | undefined {
    const { end, signal } = this.#validWait(options);
    signal?.throwIfAborted();
    for (let waiters = 0; ; waiters = WAITERS) {
      const found = this.#attempt(waiters);
      if (typeof found === 'object') return found;
      if ((found & OWNER) === this.#self.number)
        throw systemError({ errno: -osConstants.errno.EDEADLK, syscall: 'futex' }, { hint: 'this thread holds the mutex' });
      const left = end - performance.now();
      if (left <= 0) return undefined;
      this.mapping.waitSync(this.offset, found, { timeout: Math.min(LOOK_MS, left), signal });
    }
  }

  [inspect.custom](): string {
    return `Mutex <${this.mapping.object.name} +${this.offset} ${this.mapping.state}>`;
  }

  get [Symbol.toStringTag](): string {
    return 'Mutex';
  }

  /** @internal Of what this thread holds: unlocks it. */
  _release(): void {
    for (;;) {
      const word = this.#words.load(STATE);
      if ((word & OWNER) !== this.#self.number)
        throw new SharedStateError(this.mapping.object.name, this.offset, 'the mutex is not held by this thread any more');
      if (!this.#words.replace(STATE, word, 0)) continue;
      // A store that fell into a suspension has reached the fill, and the word is this thread's still. Another thread may have it by now.
      if ((this.#words.load(STATE) & OWNER) === this.#self.number) continue;
      if ((word & WAITERS) !== 0) this.mapping.wake(this.offset, 1);
      return;
    }
  }

  #validWait(options: WaitOptions | undefined): { end: number; signal: AbortSignal | undefined } {
    const { timeout, signal } = validateWait(this.mapping, this.offset, 0, options);
    return { end: timeout < 0 ? Infinity : performance.now() + timeout, signal };
  }

  /** Locked; or the word to wait for a change of. `waiters`: others may wait, as this thread has. */
  #attempt(waiters: number): MutexHold | number {
    for (;;) {
      const word = this.#words.load(STATE);
      const owner = word & OWNER;
      if (owner === 0 || !this.#self.lives(owner)) {
        const hold = this.#take(word, waiters);
        if (hold !== undefined) return hold;
        continue;
      }
      const waiting = (word | WAITERS) >>> 0;
      if (waiting === word || this.#words.replace(STATE, word, waiting)) return waiting;
    }
  }

  #take(word: number, waiters: number): MutexHold | undefined {
    const mine = (this.#self.number | ((word | waiters) & WAITERS)) >>> 0;
    if (!this.#words.replace(STATE, word, mine)) return undefined;
    if ((this.#words.load(STATE) & OWNER) !== this.#self.number) return undefined; // it fell into a suspension
    const generation = (this.#words.load(GENERATION) + 1) >>> 0;
    this.#words.store(GENERATION, generation);
    return new MutexHold(CONSTRUCT, this, (word & OWNER) !== 0, generation);
  }
}

function wordsOf(mapping: Mapping, options: MutexOptions | undefined): SharedWords {
  requireSharable(mapping);
  const { offset } = checkOptions<MutexOptions>('options', options);
  return new SharedWords(mapping, placeIn(mapping, 'options.offset', offset, BYTES, BYTES), 3);
}

/** A mutex that this thread holds, until it releases it. */
export class MutexHold implements Disposable {
  /** True where the holder before has died, or its thread ended, while it held it: what the mutex protects may be half changed. */
  readonly ownerDied: boolean;
  /** Counts how often the mutex has been locked, by all threads, modulo 2^32: another thread has had it where it has grown by more than 1. */
  readonly generation: number;
  readonly #mutex: Mutex;
  #released = false;

  static {
    branded('MutexHold', this.prototype, (value) => #mutex in value);
  }

  /** @internal */
  constructor(key: symbol, mutex: Mutex, ownerDied: boolean, generation: number) {
    requireConstruct(key);
    this.#mutex = mutex;
    this.ownerDied = ownerDied;
    this.generation = generation;
  }

  /**
   * Unlocks the mutex and wakes a waiter. Idempotent. Where the memory has been revoked or closed there is nothing left to unlock.
   *
   * @throws MappingSuspendedError, and the mutex stays locked; SharedStateError `ERR_SHARED_STATE` where another one has written over it.
   */
  release(): void {
    if (this.#released) return;
    try {
      this.#mutex._release();
    } catch (error) {
      const gone = isRevokedError(error) || (error as { code?: unknown }).code === 'ERR_MAPPING_CLOSED';
      if (!gone) throw error;
    }
    this.#released = true;
  }

  [Symbol.dispose](): void {
    this.release();
  }

  [inspect.custom](): string {
    return `MutexHold <${inspect(this.#mutex)} ${this.#released ? 'released' : 'held'}>`;
  }
}
