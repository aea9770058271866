/** An async iterator that values are pushed into by their producer. */
import { Queue } from './queue.js';

type Result<T> = IteratorResult<T, undefined>;

interface Taker<T> {
  resolve: (result: Result<T>) => void;
  reject: (error: unknown) => void;
}

const DONE = { done: true, value: undefined } as const;

export class PushIterator<T> {
  readonly #waiting: Queue<T>;
  readonly #takers = new Queue<Taker<T>>();
  readonly #onEnd: () => void;
  readonly #onWait: (change: 1 | -1) => void;
  /** What its user gets: closures, which work whatever they are called on. */
  readonly iterator: AsyncIterableIterator<T> = {
    next: () => this.#next(),
    return: () => this.#return(),
    [Symbol.asyncIterator]: () => this.iterator,
  };
  #ended = false;
  /** Thrown once; after that the iteration is done. */
  #error: { reason: Error } | undefined;

  /**
   * @param onEnd is called once.
   * @param onWait a `next()` begins to wait for a value, or no longer does.
   */
  constructor(onEnd: () => void, onWait: (change: 1 | -1) => void = () => undefined, waiting = new Queue<T>()) {
    this.#onEnd = onEnd;
    this.#onWait = onWait;
    this.#waiting = waiting;
  }

  push(value: T): void {
    if (this.#ended) return;
    const taker = this.#takers.shift();
    if (taker === undefined) return this.#waiting.push(value);
    this.#onWait(-1);
    taker.resolve({ done: false, value });
  }

  /** What was pushed before is still taken; then the iteration throws `error.reason`, or is done. */
  end(error?: { reason: Error }): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#onEnd();
    for (let taker = this.#takers.shift(); taker !== undefined; taker = this.#takers.shift()) {
      this.#onWait(-1);
      void this.#last().then(taker.resolve, taker.reject);
    }
  }

  async #next(): Promise<Result<T>> {
    if (this.#waiting.length > 0) return { done: false, value: this.#waiting.shift() as T };
    if (this.#ended) return this.#last();
    this.#onWait(1);
    return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- rejects rather than throws
  async #return(): Promise<Result<T>> {
    this.#waiting.clear();
    this.end();
    this.#error = undefined;
    return DONE;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- rejects rather than throws
  async #last(): Promise<Result<T>> {
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error.reason;
    return DONE;
  }
}
