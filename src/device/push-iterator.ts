/** An async iterator that values are pushed into, by whoever has them. */

type Result<T> = IteratorResult<T, undefined>;

interface Taker<T> {
  resolve: (result: Result<T>) => void;
  reject: (error: unknown) => void;
}

const DONE = { done: true, value: undefined } as const;

export class PushIterator<T> implements AsyncIterableIterator<T> {
  readonly #waiting: T[] = [];
  readonly #takers: Taker<T>[] = [];
  readonly #onEnd: () => void;
  readonly #onWait: (change: 1 | -1) => void;
  readonly #most: number;
  #ended = false;
  /** Thrown once; after that the iteration is done. */
  #error: { reason: Error } | undefined;

  /** Beyond `most` values that nobody has taken, equal ones are merged. `onWait`: somebody waits for a value, or no longer does. */
  constructor(onEnd: () => void, most = Infinity, onWait: (change: 1 | -1) => void = () => undefined) {
    this.#onEnd = onEnd;
    this.#onWait = onWait;
    this.#most = most;
  }

  push(value: T): void {
    if (this.#ended) return;
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      this.#onWait(-1);
      taker.resolve({ done: false, value });
    } else if (this.#waiting.length < this.#most || !this.#waiting.includes(value)) {
      this.#waiting.push(value);
    }
  }

  /** What was pushed before is still taken; then the iteration throws `error.reason`, or is done. */
  end(error?: { reason: Error }): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#onEnd();
    for (const { resolve, reject } of this.#takers.splice(0)) {
      this.#onWait(-1);
      void this.#last().then(resolve, reject);
    }
  }

  next(): Promise<Result<T>> {
    if (this.#waiting.length > 0) return Promise.resolve({ done: false, value: this.#waiting.shift() as T });
    if (this.#ended) return this.#last();
    this.#onWait(1);
    return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
  }

  return(): Promise<Result<T>> {
    this.#waiting.length = 0;
    this.end();
    this.#error = undefined;
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #last(): Promise<Result<T>> {
    const error = this.#error;
    this.#error = undefined;
    return error === undefined ? Promise.resolve(DONE) : Promise.reject(error.reason);
  }
}
